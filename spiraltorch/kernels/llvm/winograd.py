"""Winograd's convolution F(2x2, 3x3): a core for Gemms that slide 3 x 3 windows, with 4 products where windows take 9.

In: what :mod:`.gemm_core` gets, of a Gemm with a ``window``.  Out: LLVM IR of a module,

    core_text(target, float32, source)     void winograd_source_float32(desc, lo, hi, scratch)

Tiles of 2 x 2 results come from patches of 4 x 4 elements of B (Lavin and Gray, 2016; Winograd, 1980):

    U = G g Gt      a filter's 3 x 3 cells                 G  = 1 0 0 | .5 .5 .5 | .5 -.5 .5 | 0 0 1
    V = Bt d B      a patch                                Bt = 1 0 -1 0 | 0 1 1 0 | 0 -1 1 0 | 0 1 0 -1
    M = sum_c U * V    at each of 16 places: a product of matrices (m x channels) . (channels x tiles)
    Y = At M A      2 x 2 results                          At = 1 1 1 0 | 0 1 -1 -1

A task is some rows of A and some lines of tiles of one image.  Its filters become U, panel by panel, and stay for the
thread's next task; its patches become V; then for each panel of rows the products, Y and the Gemm's epilogue, so M and Y
never leave the nearest caches.  A vector holds neighbouring tiles of a line.  Channels are added in order, in steps that depend
on nothing, so the bits of a result do not depend on tasks.

Words of the plan (see :func:`cut`): a task has ``mc`` rows, ``nc`` lines of tiles with ``kc`` tiles each; an image of
``height`` x ``width`` results is cut into ``n_blocks`` x ``k_steps`` of these; ``m_tasks`` tasks share their rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dtypes import DType
from ...ir.kernel import MOST_BOUNDS
from . import rows
from .gemm_core import OFFSETS_A, PANELS_A, PANELS_B, SUMS, Core, micro_name, room, shape_of, tables
from .micro import micro_kernel
from .points import iota
from .rows import Unit, memory, register, splat, vector
from .target import Target

CELLS, PLACES, SIDE = 9, 16, 4  # of a filter, of a transformed filter or patch, and along an edge of one
_Y, _FILTERS = SUMS + (128 << 10), SUMS + (512 << 10)  # areas: results of a panel of rows, its filters as they were
_MOST_TILES = 256  # of a task
_STEP = 64  # channels summed from zero: sums of sums round less
_PATCHES, _U = 512 << 10, 5 << 20  # bytes of V and U that a task aims at
_EACH = 1 + MOST_BOUNDS


def core_name(source: DType, compute: DType) -> str:
    return f"winograd_{source.name}_{compute.name}"


class _Winograd(Core):
    """Writes ``winograd_*``."""

    def __init__(self, unit: Unit, source: DType, compute: DType) -> None:
        super().__init__(unit, compute, core_name(source, compute))
        self.source = source
        self.lanes = lanes = self.shape.lanes
        self.ty, self.element, self.loaded = register(compute, lanes), memory(source), memory(source, lanes)
        self.bits, self.small = vector("i1", lanes), vector("i32", lanes)
        # What one step down and one to the right add to a position of B, and to each bounded coordinate.
        names = ["", *[f"_{j}" for j in range(MOST_BOUNDS)]]
        first, right, down = ([self._inner(n, k) for n in names] for k in ("0", "1", "3"))
        self.right = [self.sub(a, b) for a, b in zip(right, first)]
        self.down = [self.sub(a, b) for a, b in zip(down, first)]
        self.names = names
        self.masks = self.array("i32", SIDE * SIDE)
        self.channels = self.div(self.words["k"], CELLS)
        w = self.words
        tiles = self.add(self.mul(w["nc"], w["kc"]), self.shape.columns - 1)
        self.pitch = self.add(self.sub(tiles, self.rem(tiles, self.shape.columns)), lanes)
        self.place_v = self.add(self.mul(self.channels, self.pitch), lanes)
        self.high = -(-self.shape.rows // lanes) * lanes  # vectors of a panel's rows are stored whole
        self.place_u = self.add(self.mul(self.channels, self.shape.rows), self.high)

    # ------------------------------------------------------------ where elements of B are

    def _walk(self, name: str, after: str, index: str) -> str:
        """``index`` steps of a walk: by a stride or a table."""
        found = self.var("i64", self.mul(index, self.words[f"b_{name}{after}"]))
        table = self.words[f"b_{name}_table{after}"]
        with self.when(self.test("ne", table, 0)):
            self.store("i64", self.load("i64", self.at("i64", self.let(f"inttoptr i64 {table} to ptr"), index)), found)
        return self.load("i64", found)

    def _inner(self, after: str, k: str) -> str:
        return self._walk("inner", after, k)

    # ------------------------------------------------------------ a task

    def _task(self, task: str) -> None:
        w = self.words
        image = self.mul(w["height"], w["width"])
        blocks = self.mul(w["n_blocks"], w["k_steps"])
        images = self.div(w["n"], image)
        m_block, rest = self.div(task, w["m_tasks"]), self.rem(task, w["m_tasks"])
        at, rest = self.rem(rest, blocks), self.div(rest, blocks)
        starts = self._batch(self.div(rest, images))
        self.first = self.mul(self.rem(rest, images), image)
        self.m0 = self.mul(m_block, w["mc"])
        self.rows = self.min(w["mc"], self.sub(w["m"], self.m0))
        line = self.mul(self.div(at, w["k_steps"]), w["nc"])
        self.i0, self.j0 = self.mul(line, 2), self.mul(self.mul(self.rem(at, w["k_steps"]), w["kc"]), 2)
        half = [self.div(self.add(w[s], 1), 2) for s in ("height", "width")]
        self.tile_lines = self.min(w["nc"], self.sub(half[0], line))
        self.line_tiles = self.min(w["kc"], self.sub(half[1], self.div(self.j0, 2)))
        new = self._offsets("a", self.last_a, self.m0, self.rows, starts[:_EACH], OFFSETS_A, self.shape.rows)
        with self.when(new), self.loop(0, self.rows, self.shape.rows) as i:
            self._filters(i)
        with self.loop(0, self.tile_lines) as q, self.loop(0, self.line_tiles, self.lanes) as t:
            self._patches(starts[_EACH:], q, t)
        with self.loop(0, self.rows, self.shape.rows) as i:
            self._rows(i)

    def _u(self, i: str) -> str:
        """Where the panel of rows from ``i`` on begins."""
        return self.at(self.one, self.area(PANELS_A), self.mul(self.mul(self.div(i, self.shape.rows), PLACES), self.place_u))

    def _filters(self, i: str) -> None:
        """U of a panel of rows."""
        height = self._height(i)
        cells = self.area(_FILTERS)
        self._pack("a", cells, OFFSETS_A, i, height, self.min(height, self.sub(self.rows, i)), "0", self.words["k"])
        to = self._u(i)
        with self.loop(0, self.channels) as c:
            for first in reversed(range(0, self.high, self.lanes)):
                with self.when(self.test("sgt", height, first)):
                    at = [self.add(self.mul(self.add(self.mul(c, CELLS), k), height), first) for k in range(CELLS)]
                    g = [self._get(cells, a) for a in at]
                    columns = [self._filter_line(g[j::3]) for j in range(3)]
                    for a in range(SIDE):
                        for b, u in enumerate(self._filter_line([column[a] for column in columns])):
                            place = self.add(self.mul(self.place_u, SIDE * a + b), self.add(self.mul(c, height), first))
                            self.store(self.ty, u, self.at(self.one, to, place), self.size)

    def _filter_line(self, g: Sequence[str]) -> list[str]:
        half = rows.number(0.5, self.compute, self.lanes)
        outer = self._op("fadd", g[0], g[2])
        return [g[0], *[self._op("fmul", half, self._op(how, outer, g[1])) for how in ("fadd", "fsub")], g[2]]

    # ------------------------------------------------------------ patches

    def _patches(self, starts: Sequence[str], q: str, t: str) -> None:
        """V of a vector of tiles, of all channels; lanes past the line's last tile are overwritten, or not looked at."""
        w = self.words
        i, j = self.add(self.i0, self.mul(q, 2)), self.add(self.j0, self.mul(t, 2))
        n = self.add(self.first, self.add(self.mul(i, w["width"]), j))
        base = self.add(starts[0], self._walk("outer", "", n))
        coordinates = []
        for k, after in enumerate(self.names[1:]):
            start = self.add(self.add(starts[1 + k], w[f"b_start{after}"]), self._walk("outer", after, n))
            there = self.test("sgt", w["b_bounds"], k)
            coordinates.append((there, start, self.choose(there, w[f"b_size{after}"], 1)))
        to = self.at(self.one, self.area(PANELS_B), self.add(self.mul(q, self.line_tiles), t))
        before = [self.var("i64", "-1") for _ in coordinates]
        fresh = self.var("i1", "true")
        unit = self.test("eq", self.right[0], 1)
        with self.loop(0, self.channels) as c:
            k0 = self.mul(c, CELLS)
            moves = [self._inner(after, k0) for after in self.names]
            moved = [self.test("ne", self.load("i64", v), m) for v, m in zip(before, moves[1:])]
            with self.when(self.any([self.load("i1", fresh), *moved])):
                self._mask(i, j, coordinates, moves[1:])
                for v, m in zip(before, moves[1:]):
                    self.store("i64", m, v)
                self.store("i1", "false", fresh)
            lines = []
            for r in range(SIDE):
                at = self.add(self.add(base, moves[0]), self.mul(self.down[0], r))
                lines.append(self._patch_line(self._line(self.at(self.element, self.pointer("b_pointer"), at), r, unit)))
            for b in range(SIDE):
                for a, v in enumerate(self._patch_line([line[b] for line in lines])):
                    place = self.add(self.mul(self.place_v, SIDE * a + b), self.mul(c, self.pitch))
                    self.store(self.ty, v, self.at(self.one, to, place), self.size)

    def _mask(self, i: str, j: str, coordinates: Sequence[tuple[str, str, str]], moves: Sequence[str]) -> None:
        """Which lanes of each vector of a patch are elements: inside of what the windows cover, and within the bounds."""
        w = self.words
        for r in range(SIDE):
            covered = self.test("slt", self.add(i, r), self.add(w["height"], 2))
            for v in range(SIDE):
                lanes = self._small(self._column(v), 1)
                held = self._below(lanes, self.sub(self.add(w["width"], 2), j))
                held = self.let(f"select i1 {covered}, {self.bits} {held}, {self.bits} zeroinitializer")
                for k, ((there, start, size), move) in enumerate(zip(coordinates, moves)):
                    first = self.add(self.add(start, move), self.mul(self.down[1 + k], r))
                    first, step = self.choose(there, first, 0), self.choose(there, self.right[1 + k], 0)
                    place = self.let(f"add {self.small} {self._wide(first)}, {self._small(self._column(v), step)}")
                    held = self.let(f"and {self.bits} {held}, {self._below(place, size)}")
                packed = self.let(f"bitcast {self.bits} {held} to i{self.lanes}")
                self.store("i32", self.let(f"zext i{self.lanes} {packed} to i32"), self.at("i32", self.masks, SIDE * r + v))

    def _column(self, v: int) -> int:
        """The column of a patch at which the lanes of vector ``v`` begin: the second half of two begins 2 further on."""
        return v % 2 * self.lanes + v // 2 * 2

    def _wide(self, value: str) -> str:
        return splat(self, self.let(f"trunc i64 {value} to i32"), "i32", self.lanes)

    def _small(self, first: int, step: str | int) -> str:
        """``(first + lane) * step``, i32."""
        lanes = iota("i32", self.lanes, first)
        return lanes if step == 1 else self.let(f"mul {self.small} {lanes}, {self._wide(str(step))}")

    def _below(self, places: str, size: str) -> str:
        return self.let(f"icmp ult {self.small} {places}, {self._wide(size)}")

    def _line(self, at: str, r: int, unit: str) -> list[str]:
        """Line ``r`` of the patches, from ``at`` on: its four elements, a vector each."""
        found = [self.var(self.loaded, "zeroinitializer") for _ in range(SIDE)]
        masks = []
        for v in range(SIDE):
            mask = self.load("i32", self.at("i32", self.masks, SIDE * r + v))
            masks.append(self.let(f"bitcast i{self.lanes} {self.let(f'trunc i32 {mask} to i{self.lanes}')} to {self.bits}"))
        mangled, align = rows.mangled(self.loaded), ("i32 immarg", str(self.source.itemsize))
        with self.when(unit):
            for v, (to, mask) in enumerate(zip(found, masks)):
                p = self.at(self.element, at, self._column(v))
                where = (("ptr", p), align, (self.bits, mask), (self.loaded, "zeroinitializer"))
                self.store(self.loaded, self.call(f"@llvm.masked.load.{mangled}.p0", self.loaded, *where), to)
        with self.when(self.let(f"xor i1 {unit}, true")):
            wide, pointers = vector("i64", self.lanes), vector("ptr", self.lanes)
            for v, (to, mask) in enumerate(zip(found, masks)):
                steps = splat(self, self.right[0], "i64", self.lanes)
                offsets = self.let(f"mul {wide} {iota('i64', self.lanes, self._column(v))}, {steps}")
                p = self.let(f"getelementptr {self.element}, ptr {at}, {wide} {offsets}")
                where = ((pointers, p), align, (self.bits, mask), (self.loaded, "zeroinitializer"))
                name = f"@llvm.masked.gather.{mangled}.v{self.lanes}p0"
                self.store(self.loaded, self.call(name, self.loaded, *where), to)
        values = []
        for to in found:
            value = rows.from_memory(self, self.load(self.loaded, to), self.source, self.lanes)
            values.append(rows.cast(self, value, self.source, self.compute, self.lanes))
        pairs = (values[:2], values[2:])
        return [self._shuffled(a, b, range(odd, 2 * self.lanes, 2)) for a, b in pairs for odd in (0, 1)]

    def _patch_line(self, d: Sequence[str]) -> list[str]:
        pairs = (("fsub", 0, 2), ("fadd", 1, 2), ("fsub", 2, 1), ("fsub", 1, 3))
        return [self._op(how, d[a], d[b]) for how, a, b in pairs]

    # ------------------------------------------------------------ products and results

    def _rows(self, i: str) -> None:
        """The results of a panel of rows."""
        w, shape = self.words, self.shape
        height = self._height(i)
        u, v, m, y = self._u(i), self.area(PANELS_B), self.area(SUMS), self.area(_Y)
        count, line = self.mul(self.tile_lines, self.line_tiles), self.mul(self.pitch, 2)
        plane = self.mul(line, shape.rows)
        with self.loop(0, count, shape.columns) as t:
            left = self.sub(count, t)
            vectors = self.min(self.div(self.add(left, shape.lanes - 1), shape.lanes), shape.vectors)
            width = self.mul(vectors, shape.lanes)
            index = self.add(self.mul(height, shape.vectors), self.sub(vectors, 1))
            micro = self.load("ptr", self.at("ptr", "@micros", index))
            with self.loop(0, PLACES) as place, self.loop(0, self.channels, _STEP) as c0:
                a = self.at(self.one, u, self.add(self.mul(place, self.place_u), self.mul(c0, height)))
                b = self.at(self.one, v, self.add(self.mul(place, self.place_v), self.add(t, self.mul(c0, self.pitch))))
                c = self.at(self.one, m, self.mul(place, shape.rows * shape.columns))
                depth = self.min(self.sub(self.channels, c0), _STEP)
                operands = f"ptr {a}, ptr {b}, i64 {self.pitch}, ptr {c}, i1 {self.test('ne', c0, 0)}"
                self.do(f"call void {micro}(i64 {depth}, {operands})")
            with self.loop(0, height) as r, self.loop(0, width, self.lanes) as x:
                at = self.add(self.mul(r, width), x)
                to = self.add(self.mul(r, line), self.mul(self.add(t, x), 2))
                self._results(m, at, [self.at(self.one, y, to), self.at(self.one, y, self.add(to, plane))])
        with self.loop(0, self.tile_lines) as q:
            for k in range(2):
                line_at = self.add(self.add(self.i0, self.mul(q, 2)), k)
                with self.when(self.test("slt", line_at, w["height"])):
                    n0 = self.add(self.first, self.add(self.mul(line_at, w["width"]), self.j0))
                    columns = self.min(self.mul(self.line_tiles, 2), self.sub(w["width"], self.j0))
                    sums = self.at(self.one, y, self.add(self.mul(plane, k), self.mul(self.mul(q, self.line_tiles), 2)))
                    operands = f"ptr {self.pointer('args')}, ptr {sums}, i64 {line}, ptr {self.indices}"
                    some = self.min(height, self.sub(self.rows, i))
                    block = f"i64 {self.add(self.m0, i)}, i64 {some}, i64 {n0}, i64 {columns}"
                    self.do(f"call void {self.pointer('epilogue')}({operands}, {block})")

    def _results(self, m: str, at: str, to: Sequence[str]) -> None:
        """Two lines of results of a vector of tiles."""
        size = self.shape.rows * self.shape.columns
        found = [self._get(m, self.add(at, size * place)) for place in range(PLACES)]
        columns = [self._result_line(found[b::SIDE]) for b in range(SIDE)]
        lanes = self.lanes
        for a, p in enumerate(to):
            even, odd = self._result_line([column[a] for column in columns])
            for half in range(2):
                picks = [k // 2 + half * lanes // 2 + k % 2 * lanes for k in range(lanes)]
                value = self._shuffled(even, odd, picks)
                self.store(self.ty, value, self.at(self.one, p, half * lanes), self.size)

    def _result_line(self, m: Sequence[str]) -> list[str]:
        first = self._op("fadd", self._op("fadd", m[0], m[1]), m[2])
        return [first, self._op("fsub", self._op("fsub", m[1], m[2]), m[3])]

    # ------------------------------------------------------------ vectors

    def _get(self, base: str, index: str) -> str:
        return self.load(self.ty, self.at(self.one, base, index), self.size)

    def _op(self, name: str, a: str, b: str) -> str:
        return self.let(f"{name} {self.ty} {a}, {b}")

    def _shuffled(self, a: str, b: str, picks: Sequence[int]) -> str:
        mask = ", ".join([f"i32 {p}" for p in picks])
        return self.let(f"shufflevector {self.ty} {a}, {self.ty} {b}, <{len(picks)} x i32> <{mask}>")


def core_text(target: Target, source: DType, compute: DType) -> str:
    """The module with ``core_name(source, compute)``: ``void (ptr desc, i64 lo, i64 hi, ptr scratch)``."""
    unit, shape = Unit(target), shape_of(target, compute)
    functions = [
        micro_kernel(unit, compute, shape.lanes, micro_name(h, v), h, v)
        for h in shape.heights
        for v in range(1, shape.vectors + 1)
    ]
    functions.append(_Winograd(unit, source, compute).write())
    return "\n".join([*tables(shape), *unit.globals.values(), "", *functions])


# ---------------------------------------------------------------- plan


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def cut(m: int, channels: int, height: int, width: int, images: int, target: Target, compute: DType, threads: int) -> dict[str, int]:
    """The plan's words: tasks whose V and U fit the caches, enough of them for every thread."""
    shape, bytes_ = shape_of(target, compute), PLACES * compute.itemsize * channels
    lines, tiles = _ceil(height, 2), _ceil(width, 2)
    most = max(shape.columns, min(_MOST_TILES, _PATCHES // bytes_) // shape.lanes * shape.lanes)
    k_steps = _ceil(tiles, most)
    kc = tiles if k_steps == 1 else _ceil(_ceil(tiles, k_steps), shape.lanes) * shape.lanes
    k_steps = _ceil(tiles, kc)
    n_blocks = _ceil(lines, max(1, most // kc))
    m_tiles = _ceil(m, shape.rows)
    m_blocks = _ceil(m_tiles, max(1, min(_U, room(PANELS_A)) // (bytes_ * shape.rows) or 1))
    want = 1 if threads == 1 else 2 * threads
    while images * n_blocks * k_steps * m_blocks < want and (n_blocks < lines or m_blocks < m_tiles):
        if n_blocks < lines:
            n_blocks = min(lines, 2 * n_blocks)
        else:
            m_blocks = min(m_tiles, 2 * m_blocks)
    nc, mc = _ceil(lines, n_blocks), _ceil(m_tiles, m_blocks) * shape.rows
    n_blocks, m_blocks = _ceil(lines, nc), _ceil(m, mc)
    return {
        "mc": mc, "nc": nc, "kc": kc, "m_blocks": m_blocks, "n_blocks": n_blocks, "k_steps": k_steps,
        "height": height, "width": width, "m_tasks": images * n_blocks * k_steps,
    }  # fmt: skip


__all__ = ["core_name", "core_text", "cut"]
