"""Packing: the panels that micro-kernels read, cast to the compute type.

In: an element type and a compute type.  Out: LLVM IR of a module with two functions,

    across(to, from, offsets, width, valid, inner, table, k0, depth)     any layout
    along(...)                                                           k has stride 1

which both do ``to[k][i] = cast(from[offsets[i] + inner(k0 + k)])`` for k < depth and i < width; ``inner(k)`` is
``k * inner``, or ``table[k]`` where there is a table.  ``offsets`` goes on for a vector past ``valid``, with
offsets that may be read; columns from ``valid`` on get any values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...dtypes import DType
from . import rows
from .gemm_core import shape_of
from .points import iota
from .routine import Routine
from .rows import Unit, memory, register, splat, vector
from .target import Target


def pack_names(source: DType, compute: DType) -> tuple[str, str]:
    """The packing functions of an element type: 'across' for any layout, 'along' where k has stride 1."""
    return f"gemm_across_{source.name}_{compute.name}", f"gemm_along_{source.name}_{compute.name}"


_PACK_PARAMS = (
    "ptr noalias %to", "ptr noalias %from", "ptr noalias %offsets", "i64 %width", "i64 %valid",
    "i64 %inner", "ptr noalias %table", "i64 %k0", "i64 %depth",
)  # fmt: skip


class _Pack(Routine):
    """Writes a packing function: ``to[k][width] = cast(from[offsets[i] + inner(k0 + k)])``.

    A vector is stored whole, past the panel's width: rows of k go upwards, and within the width the
    last vector goes first, so what is too much is overwritten.
    """

    def __init__(self, unit: Unit, source: DType, compute: DType, name: str, linkage: str = "") -> None:
        super().__init__(unit, "void", name, _PACK_PARAMS, linkage)
        self.source, self.compute = source, compute
        self.lanes = shape_of(unit.target, compute).lanes
        self.element = memory(source)
        self.indices = vector("i64", self.lanes)

    def value(self, loaded: str) -> str:
        """A loaded vector in the compute type."""
        value = rows.from_memory(self, loaded, self.source, self.lanes)
        return rows.cast(self, value, self.source, self.compute, self.lanes)

    def put(self, vector_: str, k: str, column: str) -> None:
        to = self.at(register(self.compute), "%to", self.add(self.mul(k, "%width"), column))
        self.store(register(self.compute, self.lanes), vector_, to, self.compute.itemsize)

    def step(self, k: str) -> str:
        """The offset of depth ``k``: from the table, or by the stride."""
        at = self.add("%k0", k)
        offset = self.var("i64", self.mul(at, "%inner"))
        with self.when(self.let("icmp ne ptr %table, null")):
            self.store("i64", self.load("i64", self.at("i64", "%table", at)), offset)
        return self.load("i64", offset)

    def gather(self, offsets: str, k: str, inner: str, column: str) -> None:
        """Row ``k`` of one vector's columns, element by element."""
        base = self.at(self.element, "%from", inner)
        pointers = self.let(f"getelementptr {self.element}, ptr {base}, {self.indices} {offsets}")
        ty = memory(self.source, self.lanes)
        loaded = self.call(
            f"@llvm.masked.gather.{rows.mangled(ty)}.v{self.lanes}p0", ty,
            (vector("ptr", self.lanes), pointers), ("i32 immarg", str(self.source.itemsize)),
            (vector("i1", self.lanes), "splat (i1 true)"), (ty, "poison"),
        )  # fmt: skip
        self.put(self.value(loaded), k, column)

    def last_column(self) -> str:
        """Where the last vector of the panel starts."""
        before = self.sub("%width", 1)
        return self.sub(before, self.rem(before, self.lanes))


def _across(unit: Unit, source: DType, compute: DType, name: str) -> str:
    """Vectors run across the panel: whole loads where its columns are neighbours, else gathers."""
    f = _Pack(unit, source, compute, name)
    lanes, size = f.lanes, source.itemsize
    ty, bits, count = memory(source, lanes), vector("i1", lanes), f"<{iota('i64', lanes)[1:-1]}>"
    last = f.last_column()
    base = f.load("i64", "%offsets")
    apart = f.var("i1", "false")
    with f.loop(0, "%width", lanes) as column:
        offsets = f.load(f.indices, f.at("i64", "%offsets", column), 8)
        left = splat(f, f.sub("%valid", column), "i64", lanes)
        run = f.let(f"add {f.indices} {splat(f, f.add(base, column), 'i64', lanes)}, {count}")
        stray = f.let(f"icmp ne {f.indices} {run}, {offsets}")
        stray = f.let(f"and {bits} {stray}, {f.let(f'icmp slt {f.indices} {count}, {left}')}")
        some = f.call(f"@llvm.vector.reduce.or.{rows.mangled(bits)}", "i1", (bits, stray))
        f.store("i1", f.let(f"or i1 {f.load('i1', apart)}, {some}"), apart)
    scattered = f.load("i1", apart)
    together = f.let(f"xor i1 {scattered}, true")
    panel = shape_of(unit.target, compute).columns
    full = f.test("eq", "%valid", panel)
    start = f.at(f.element, "%from", base)
    with f.when(f.let(f"and i1 {together}, {full}")):  # a whole panel of B: its vectors side by side
        with f.loop(0, "%depth") as k:
            p = f.at(f.element, start, f.step(k))
            for c in range(0, panel, lanes):
                f.put(f.value(f.load(ty, f.at(f.element, p, c), size)), k, str(c))
    with f.when(f.let(f"and i1 {together}, {f.let(f'xor i1 {full}, true')}")):
        with f.loop(0, "%width", lanes) as back:
            column = f.sub(last, back)
            left = splat(f, f.sub("%valid", column), "i64", lanes)
            mask = f.let(f"icmp slt {f.indices} {count}, {left}")
            p = f.at(f.element, start, column)
            with f.loop(0, "%depth") as k:
                loaded = f.call(
                    f"@llvm.masked.load.{rows.mangled(ty)}.p0", ty, ("ptr", f.at(f.element, p, f.step(k))),
                    ("i32 immarg", str(size)), (bits, mask), (ty, "zeroinitializer"),
                )  # fmt: skip
                f.put(f.value(loaded), k, column)
    with f.when(scattered):
        with f.loop(0, "%width", lanes) as back:
            column = f.sub(last, back)
            offsets = f.load(f.indices, f.at("i64", "%offsets", column), 8)
            with f.loop(0, "%depth") as k:
                f.gather(offsets, k, f.step(k), column)
    f.do("ret void")
    return f.text()


def _transpose(f: Routine, ty: str, vectors: Sequence[str], bits: int) -> list[str]:
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


def along(unit: Unit, source: DType, compute: DType, name: str, linkage: str = "") -> str:
    """Vectors run along k, which has stride 1, and squares of them are transposed in registers."""
    f = _Pack(unit, source, compute, name, linkage)
    lanes, ty, size = f.lanes, memory(source, f.lanes), source.itemsize
    whole = f.let(f"and i64 %depth, {-lanes}")
    last = f.last_column()
    with f.loop(0, "%width", lanes) as back:
        column = f.sub(last, back)
        each = [f.load("i64", f.at("i64", "%offsets", f.add(column, i))) for i in range(lanes)]
        starts = [f.at(f.element, "%from", f.add(e, "%k0")) for e in each]
        with f.loop(0, whole, lanes) as k:
            square = [f.value(f.load(ty, f.at(f.element, s, k), size)) for s in starts]
            for t, v in enumerate(_transpose(f, register(compute, lanes), square, compute.bits)):
                f.put(v, f.add(k, t), column)
        offsets = f.load(f.indices, f.at("i64", "%offsets", column), 8)
        with f.loop(whole, "%depth") as k:
            f.gather(offsets, k, f.add("%k0", k), column)
    f.do("ret void")
    return f.text()


def pack_text(target: Target, source: DType, compute: DType) -> str:
    """The module with ``pack_names(source, compute)``."""
    unit = Unit(target)
    across_name, along_name = pack_names(source, compute)
    functions = [_across(unit, source, compute, across_name), along(unit, source, compute, along_name)]
    return "\n".join([*unit.globals.values(), "", *functions])
