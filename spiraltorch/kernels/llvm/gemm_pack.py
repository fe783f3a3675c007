"""Packing: the panels that micro-kernels read, cast to the compute type.

In: an element type and a compute type.  Out: LLVM IR of a module with two functions,

    across(to, from, offsets, width, valid, inner, table, k0, depth, bounds)     any layout
    along(...)                                                                   k has stride 1, mostly

which both do ``to[k][i] = cast(from[offsets[i] + inner(k0 + k)])`` for k < depth and i < width; ``inner(k)`` is
``k * inner``, or ``table[k]`` where there is a table.  ``offsets`` goes on for a vector past ``valid``, with
offsets that may be read; columns from ``valid`` on get any values.

``bounds`` are the words of a side's description from their count on (see ``SIDE``); their coordinates lie behind
``offsets``, a list each.  Where ``0 <= coordinate[i] + inner_j(k0 + k) < size`` fails for one of them, memory is not
touched and the value is 0: the zero padding of a convolution.

Windows over an image have offsets that are neighbours but for the ends of lines.  So a vector is loaded in one or two
*runs*, lanes whose offsets differ as the lanes do, each a masked load.  Windows that move by two have offsets that
differ by twice as much: they are every other lane of two such loads.  Only what has more runs is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ...dtypes import DType
from ...ir.kernel import MOST_BOUNDS
from . import rows
from .gemm_core import BOUND, LIST, shape_of
from .points import iota
from .routine import Routine
from .rows import Unit, memory, register, splat, vector
from .target import Target

_FREE, _BOUNDED = (0,), (2, 3)  # numbers of bounds that there is code for; one is taken as two
_FAR = 1 << 62


def pack_names(source: DType, compute: DType, bounded: bool) -> tuple[str, str]:
    """The packing functions of an element type: 'across' for any layout, 'along' where k has stride 1.  Those for operands with
    bounds are another module, which is compiled for convolutions alone."""
    last = f"{source.name}_{compute.name}{'_bounded' if bounded else ''}"
    return f"gemm_across_{last}", f"gemm_along_{last}"


_PACK_PARAMS = (
    "ptr noalias %to", "ptr noalias %from", "ptr noalias %offsets", "i64 %width", "i64 %valid",
    "i64 %inner", "ptr noalias %table", "i64 %k0", "i64 %depth", "ptr noalias %bounds",
)  # fmt: skip


class _Runs(NamedTuple):
    """Lanes of a vector as two runs: where lane 0 of each would be, and its lanes; whether there is a second, or more."""

    first: str
    lanes: str
    second: str
    others: str
    two: str
    more: str


class _Bound(NamedTuple):
    """What stays the same all over a panel: the walk of k, the columns' coordinates, the size in every lane."""

    inner: str
    table: str
    list: str
    size: str
    there: str


class Panel(Routine):
    """A function that reads vectors of elements and computes in another type."""

    def __init__(
        self, unit: Unit, source: DType, compute: DType, name: str, params: Sequence[str], linkage: str = ""
    ) -> None:
        super().__init__(unit, "void", name, params, linkage)
        self.source, self.compute = source, compute
        self.lanes = shape_of(unit.target, compute).lanes
        self.element, self.loaded = memory(source), memory(source, self.lanes)
        self.indices, self.small, self.bits = [vector(ty, self.lanes) for ty in ("i64", "i32", "i1")]
        self.numbers = f"<{iota('i64', self.lanes)[1:-1]}>"
        self.all = "splat (i1 true)"

    def value(self, loaded: str) -> str:
        """A loaded vector in the compute type."""
        value = rows.from_memory(self, loaded, self.source, self.lanes)
        return rows.cast(self, value, self.source, self.compute, self.lanes)

    def wide(self, value: str | int) -> str:
        """An i64 in every lane."""
        return splat(self, str(value), "i64", self.lanes)

    def masked(self, pointer: str, lanes: str, otherwise: str = "zeroinitializer") -> str:
        """``lanes`` of the vector at ``pointer``."""
        if lanes == self.all:
            return self.load(self.loaded, pointer, self.source.itemsize)
        return self.call(
            f"@llvm.masked.load.{rows.mangled(self.loaded)}.p0", self.loaded, ("ptr", pointer),
            ("i32 immarg", str(self.source.itemsize)), (self.bits, lanes), (self.loaded, otherwise),
        )  # fmt: skip


class _Pack(Panel):
    """Writes a packing function: ``to[k][width] = cast(from[offsets[i] + inner(k0 + k)])``.

    A vector is stored whole, past the panel's width: rows of k go upwards, and within the width the
    last vector goes first, so what is too much is overwritten.
    """

    def __init__(
        self, unit: Unit, source: DType, compute: DType, name: str, linkage: str = "", counts: Sequence[int] = _FREE
    ) -> None:
        """``counts``: the numbers of bounds that there is code for."""
        super().__init__(unit, source, compute, name, _PACK_PARAMS, linkage)
        self.panel = shape_of(unit.target, compute).columns
        self.counts, self.words = counts, ["0"]
        if any(counts):
            self.words = [self.load("i64", self.at("i64", "%bounds", w)) for w in range(1 + MOST_BOUNDS * len(BOUND))]

    # ------------------------------------------------------------ vectors

    def put(self, vector_: str, k: str, column: str) -> None:
        to = self.at(register(self.compute), "%to", self.add(self.mul(k, "%width"), column))
        self.store(register(self.compute, self.lanes), vector_, to, self.compute.itemsize)

    def both(self, a: str, b: str) -> str:
        return b if a == self.all else self.let(f"and {self.bits} {a}, {b}")

    def some(self, lanes: str) -> str:
        """i1: whether any lane is set."""
        return self.call(f"@llvm.vector.reduce.or.{rows.mangled(self.bits)}", "i1", (self.bits, lanes))

    def invert(self, cond: str) -> str:
        return self.let(f"xor i1 {cond}, true")

    def gather(self, k: str, column: str, bounds: Sequence[_Bound]) -> None:
        """Row ``k`` of one vector's columns, element by element."""
        offsets = self.load(self.indices, self.at("i64", "%offsets", column), 8)
        places = [self.place(c, self.step(k, b.inner, b.table)) for c, b in zip(self.coordinates(column, bounds), bounds)]
        base = self.at(self.element, "%from", self.step(k))
        pointers = self.let(f"getelementptr {self.element}, ptr {base}, {self.indices} {offsets}")
        loaded = self.call(
            f"@llvm.masked.gather.{rows.mangled(self.loaded)}.v{self.lanes}p0", self.loaded,
            (vector("ptr", self.lanes), pointers), ("i32 immarg", str(self.source.itemsize)),
            (self.bits, self.held(self.all, places, bounds)), (self.loaded, "zeroinitializer"),
        )  # fmt: skip
        self.put(self.value(loaded), k, column)

    def last_column(self) -> str:
        """Where the last vector of the panel starts."""
        before = self.sub("%width", 1)
        return self.sub(before, self.rem(before, self.lanes))

    # ------------------------------------------------------------ positions

    def step(self, k: str, inner: str = "%inner", table: str = "%table") -> str:
        """The offset of depth ``k``: from the table, or by the stride."""
        at = self.add("%k0", k)
        offset = self.var("i64", self.mul(at, inner))
        with self.when(self.let(f"icmp ne ptr {table}, null")):
            self.store("i64", self.load("i64", self.at("i64", table, at)), offset)
        return self.load("i64", offset)

    def steps(self, k: str, inner: str = "%inner", table: str = "%table") -> str:
        """The offsets of a vector of depths from ``k`` on."""
        at = self.add("%k0", k)
        each = self.let(f"add {self.indices} {self.wide(at)}, {self.numbers}")
        offsets = self.var(self.indices, self.let(f"mul {self.indices} {each}, {self.wide(inner)}"))
        with self.when(self.let(f"icmp ne ptr {table}, null")):
            self.store(self.indices, self.load(self.indices, self.at("i64", table, at), 8), offsets)
        return self.load(self.indices, offsets)

    def runs(self, offsets: str, valid: str, numbers: str = "") -> _Runs:
        """The runs that the ``valid`` lanes of a vector of offsets are made of; lane 0 is valid, and ``numbers`` say how the
        offsets of a run differ: as the lanes do."""
        apart = self.let(f"sub {self.indices} {offsets}, {numbers or self.numbers}")
        first = self.let(f"extractelement {self.indices} {apart}, i64 0")
        lanes = self.both(valid, self.let(f"icmp eq {self.indices} {apart}, {self.wide(first)}"))
        rest = self.both(valid, self.let(f"xor {self.bits} {lanes}, {self.all}"))
        two = self.some(rest)
        left = self.let(f"select {self.bits} {rest}, {self.indices} {apart}, {self.indices} {self.wide(_FAR)}")
        least = self.call(f"@llvm.vector.reduce.smin.{rows.mangled(self.indices)}", "i64", (self.indices, left))
        second = self.choose(two, least, first)
        others = self.both(rest, self.let(f"icmp eq {self.indices} {apart}, {self.wide(second)}"))
        return _Runs(first, lanes, second, others, two, self.some(self.let(f"xor {self.bits} {rest}, {others}")))

    # ------------------------------------------------------------ bounds

    def cases(self) -> Iterator[list[_Bound]]:
        """The code that is written for each of what this gives runs where the operand has such bounds."""
        for below, count in zip((-1, *self.counts), self.counts):
            n = self.words[0]
            with self.when(self.let(f"and i1 {self.test('sgt', n, below)}, {self.test('sle', n, count)}")):
                yield self.bounds(count)

    def bounds(self, count: int) -> list[_Bound]:
        """``count`` bounds; one that the operand does not have always holds."""
        found = []
        for j in range(count):
            word = dict(zip(BOUND, self.words[1 + j * len(BOUND) :]))
            there = self.test("sgt", self.words[0], j)
            size = self.let(f"trunc i64 {self.choose(there, word['size'], 1)} to i32")
            table = self.let(f"inttoptr i64 {word['inner_table']} to ptr")
            where = self.at("i64", "%offsets", LIST * (1 + j))
            found.append(_Bound(word["inner"], table, where, splat(self, size, "i32", self.lanes), there))
        return found

    def narrow(self, indices: str) -> str:
        """A vector of i64 as one of i32: coordinates are small."""
        return self.let(f"trunc {self.indices} {indices} to {self.small}")

    def coordinates(self, column: str, bounds: Sequence[_Bound]) -> list[str]:
        """The bounded coordinates of a vector of columns, before k."""
        found = []
        for b in bounds:
            at = self.narrow(self.load(self.indices, self.at("i64", b.list, column), 8))
            found.append(self.let(f"select i1 {b.there}, {self.small} {at}, {self.small} zeroinitializer"))
        return found

    def place(self, coordinates: str, step: str) -> str:
        """Coordinates moved by an i64."""
        small = splat(self, self.let(f"trunc i64 {step} to i32"), "i32", self.lanes)
        return self.let(f"add {self.small} {coordinates}, {small}")

    def held(self, lanes: str, places: Sequence[str], bounds: Sequence[_Bound]) -> str:
        """Those of ``lanes`` whose places are in their bounds."""
        for place, b in zip(places, bounds):
            lanes = self.both(lanes, self.let(f"icmp ult {self.small} {place}, {b.size}"))
        return lanes


def _across(unit: Unit, source: DType, compute: DType, name: str, turned: str, counts: Sequence[int]) -> str:
    """Vectors run across the panel: whole loads where its columns are neighbours, else gathers."""
    f = _Pack(unit, source, compute, name, "", counts)
    lanes, last = f.lanes, f.last_column()
    several, scattered = f.var("i1", "false"), f.var("i1", "false")

    def runs(column: str, numbers: str = "") -> _Runs:
        left = f.let(f"icmp slt {f.indices} {f.numbers}, {f.wide(f.sub('%valid', column))}")
        return f.runs(f.load(f.indices, f.at("i64", "%offsets", column), 8), left, numbers)

    with f.loop(0, "%width", lanes) as column:
        r = runs(column)
        f.store("i1", f.any([f.load("i1", several), r.two]), several)
        f.store("i1", f.any([f.load("i1", scattered), r.more]), scattered)
    spread = f.load("i1", scattered)
    whole = f.let(f"and i1 {f.test('eq', '%valid', f.panel)}, {f.invert(f.load('i1', several))}")
    pieces = f.invert(f.any([whole, spread]))
    for bounds in f.cases():
        with f.when(whole):  # a whole panel of B: its vectors side by side
            _whole_panel(f, bounds)
        with f.when(pieces), f.loop(0, "%width", lanes) as back:
            column = f.sub(last, back)
            _in_runs(f, runs(column), column, bounds)
    with f.when(spread):
        _scattered(f, turned, runs)
    f.do("ret void")
    return f.text()


def _whole_panel(f: _Pack, bounds: Sequence[_Bound]) -> None:
    """Every vector is one run."""
    columns = [str(c) for c in range(0, f.panel, f.lanes)]
    starts = [f.at(f.element, "%from", f.load("i64", f.at("i64", "%offsets", c))) for c in columns]
    coordinates = [f.coordinates(c, bounds) for c in columns]
    with f.loop(0, "%depth") as k:
        step, moves = f.step(k), [f.step(k, b.inner, b.table) for b in bounds]
        for column, start, at in zip(columns, starts, coordinates):
            lanes = f.held(f.all, [f.place(c, move) for c, move in zip(at, moves)], bounds)
            f.put(f.value(f.masked(f.at(f.element, start, step), lanes)), k, column)


def _in_runs(f: _Pack, r: _Runs, column: str, bounds: Sequence[_Bound]) -> None:
    """One vector of columns, in two runs."""
    starts = [f.at(f.element, "%from", at) for at in (r.first, r.second)]
    coordinates = f.coordinates(column, bounds)
    with f.loop(0, "%depth") as k:
        step = f.step(k)
        inside = f.held(f.all, [f.place(c, f.step(k, b.inner, b.table)) for c, b in zip(coordinates, bounds)], bounds)
        loaded = "zeroinitializer"
        for start, lanes in zip(starts, (r.lanes, r.others)):
            loaded = f.masked(f.at(f.element, start, step), f.both(inside, lanes), loaded)
        f.put(f.value(loaded), k, column)


def _every_other(f: _Pack, r: _Runs, column: str, bounds: Sequence[_Bound]) -> None:
    """One vector of columns whose offsets differ by twice the lanes, in two runs: the even lanes of two vectors."""
    half, ends = f.lanes // 2, range(2)
    even = f"<{', '.join(['i1 true, i1 false'] * half)}>"

    def doubled(ty: str, value: str, end: int) -> str:
        picks = ", ".join([f"i32 {end * half + lane // 2}" for lane in range(f.lanes)])
        return f.let(f"shufflevector {ty} {value}, {ty} poison, <{f.lanes} x i32> <{picks}>")

    lanes = [[f.both(even, doubled(f.bits, some, end)) for end in ends] for some in (r.lanes, r.others)]
    coordinates = [[doubled(f.small, c, end) for c in f.coordinates(column, bounds)] for end in ends]
    starts = [[f.at(f.element, f.at(f.element, "%from", at), end * f.lanes) for end in ends] for at in (r.first, r.second)]
    parts = [f.var(f.loaded, "zeroinitializer") for _ in ends]
    with f.loop(0, "%depth") as k:
        step, moves = f.step(k), [f.step(k, b.inner, b.table) for b in bounds]
        inside = [f.held(f.all, [f.place(c, move) for c, move in zip(at, moves)], bounds) for at in coordinates]
        for end, part in enumerate(parts):
            f.store(f.loaded, f.masked(f.at(f.element, starts[0][end], step), f.both(inside[end], lanes[0][end])), part)
        with f.when(r.two):
            for end, part in enumerate(parts):
                at, those = f.at(f.element, starts[1][end], step), f.both(inside[end], lanes[1][end])
                f.store(f.loaded, f.masked(at, those, f.load(f.loaded, part)), part)
        low, high = [f.load(f.loaded, part) for part in parts]
        picks = ", ".join([f"i32 {2 * lane}" for lane in range(f.lanes)])
        f.put(f.value(f.let(f"shufflevector {f.loaded} {low}, {f.loaded} {high}, <{f.lanes} x i32> <{picks}>")), k, column)


def _scattered(f: _Pack, turned_name: str, runs: Callable[[str, str], _Runs]) -> None:
    """Columns far apart: vectors along k if a table goes by ones, every other element if they are two apart, else gathers."""
    ones = f.var("i1", "false")
    with f.when(f.let(f"and i1 {f.let('icmp ne ptr %table, null')}, {f.test('sge', '%depth', f.lanes)}")):
        f.store("i1", f.invert(f.runs(f.steps("0"), f.all).more), ones)
    turned = f.load("i1", ones)
    with f.when(turned):
        f.do(f"call void @{turned_name}({', '.join([p.replace(' noalias', '') for p in _PACK_PARAMS])})")
    with f.when(f.invert(turned)):
        last = f.last_column()
        twice = f"<{', '.join([f'i64 {2 * lane}' for lane in range(f.lanes)])}>"
        for bounds in f.cases():
            with f.loop(0, "%width", f.lanes) as back:
                column = f.sub(last, back)
                r = runs(column, twice)
                with f.when(f.invert(r.more)):
                    _every_other(f, r, column, bounds)
                with f.when(r.more), f.loop(0, "%depth") as k:
                    f.gather(k, column, bounds)


def transpose(f: Routine, ty: str, vectors: Sequence[str], bits: int) -> list[str]:
    """The transpose of ``lanes`` vectors: interleave within 128-bit parts, then exchange the parts."""
    n = len(vectors)
    part = min(n, 128 // bits)
    now = list(vectors)

    def shuffle(a: str, b: str, picks: Sequence[int]) -> str:
        mask = ", ".join([f"i32 {p}" for p in picks])
        return f.let(f"shufflevector {ty} {a}, {ty} {b}, <{n} x i32> <{mask}>")

    step = part // 2
    while step >= 1:
        # Vectors i and i + step exchange blocks of `step` lanes, as in a 2 x 2 transpose.
        now = _exchange(now, n, step, shuffle)
        step //= 2
    step = part
    while step < n:
        now = _exchange(now, n, step, shuffle)
        step *= 2
    return now


def _exchange(now: list[str], n: int, step: int, shuffle: Callable[[str, str, list[int]], str]) -> list[str]:
    out = list(now)
    for i in range(n):
        if not i & step:
            a, b = now[i], now[i + step]
            low = [j if not j & step else j - step + n for j in range(n)]
            high = [j + step if not j & step else j + n for j in range(n)]
            out[i], out[i + step] = shuffle(a, b, low), shuffle(a, b, high)
    return out


def along(
    unit: Unit, source: DType, compute: DType, name: str, linkage: str = "", counts: Sequence[int] = _FREE
) -> str:
    """Vectors run along k, and squares of them are transposed in registers."""
    f = _Pack(unit, source, compute, name, linkage, counts)
    lanes, last = f.lanes, f.last_column()
    whole = f.let(f"and i64 %depth, {-lanes}")
    tabled = f.let("icmp ne ptr %table, null")
    for bounds in f.cases():
        with f.loop(0, "%width", lanes) as back:
            column = f.sub(last, back)
            offsets = [f.load("i64", f.at("i64", "%offsets", f.add(column, i))) for i in range(lanes)]
            starts = [f.at(f.element, "%from", o) for o in offsets]
            done = f.var("i64", "0")
            if not bounds:  # squares where k simply has stride 1
                strided = f.choose(tabled, 0, whole)
                with f.loop(0, strided, lanes) as k:
                    at = f.add("%k0", k)
                    _square(f, [f.masked(f.at(f.element, s, at), f.all) for s in starts], k, column)
                f.store("i64", strided, done)
            with f.loop(f.load("i64", done), whole, lanes) as k:
                _square_in_runs(f, starts, k, column, bounds)
            with f.loop(whole, "%depth") as k:
                f.gather(k, column, bounds)
    f.do("ret void")
    return f.text()


def _square(f: _Pack, loaded: Sequence[str], k: str, column: str) -> None:
    """Vectors along k, one a column, stored across."""
    values = [f.value(v) for v in loaded]
    for t, v in enumerate(transpose(f, register(f.compute, f.lanes), values, f.compute.bits)):
        f.put(v, f.add(k, t), column)


def _square_in_runs(f: _Pack, starts: Sequence[str], k: str, column: str, bounds: Sequence[_Bound]) -> None:
    r = f.runs(f.steps(k), f.all)
    with f.when(r.more), f.loop(0, f.lanes) as t:
        f.gather(f.add(k, t), column, bounds)
    with f.when(f.invert(r.more)):
        moves = [f.narrow(f.steps(k, b.inner, b.table)) for b in bounds]
        loaded = []
        for i, start in enumerate(starts):
            places = []
            for b, move in zip(bounds, moves):
                own = f.choose(b.there, f.load("i64", f.at("i64", b.list, f.add(column, i))), 0)
                places.append(f.place(move, own))
            inside = f.held(f.all, places, bounds)
            v = f.masked(f.at(f.element, start, r.first), f.both(inside, r.lanes))
            loaded.append(f.masked(f.at(f.element, start, r.second), f.both(inside, r.others), v))
        _square(f, loaded, k, column)


def pack_text(target: Target, source: DType, compute: DType, bounded: bool) -> str:
    """The module with ``pack_names(source, compute, bounded)``."""
    unit = Unit(target)
    across_name, along_name = pack_names(source, compute, bounded)
    counts = _BOUNDED if bounded else _FREE
    functions = [
        _across(unit, source, compute, across_name, along_name, counts),
        along(unit, source, compute, along_name, counts=counts),
    ]
    return "\n".join([*unit.globals.values(), "", *functions])
