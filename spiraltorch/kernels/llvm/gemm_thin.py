"""Products of a few rows: B is read once, where it lies, in its own type, and never packed.

In: an element type and a compute type.  Out: LLVM IR of a module with one of two functions,

    thin_across(to, ld, a, height, from, offsets, valid, inner, k0, depth)      B has stride 1 along n
    thin_along(...)                                                             B has stride 1 along k

which both do ``to[i * ld + j] = sum over k < depth of a[k * height + i] * cast(from[offsets[j] + inner * (k0 + k)])``
for i < height, j < valid; a is a panel.  What is behind ``valid`` in the last vector of a row gets any values.

A sum starts from zero and runs in the order of k, as in a micro-kernel: the same bits, whoever computes it.  Across, some
rows of B are added to a line of sums that stays in the nearest cache, so memory is read in long runs.  Along, squares of B
are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...dtypes import DType
from .gemm_core import Shape, shape_of
from .gemm_pack import Panel, transpose
from .micro import multiply_add
from .rows import Unit, register, splat
from .target import Target

MOST_ROWS = 8

_PARAMS = (
    "ptr noalias %to", "i64 %ld", "ptr noalias %a", "i64 %height", "ptr noalias %from", "ptr noalias %offsets",
    "i64 %valid", "i64 %inner", "i64 %k0", "i64 %depth",
)  # fmt: skip


def thin_names(source: DType, compute: DType) -> tuple[str, str]:
    """The functions for an element type: 'across' and 'along'."""
    last = f"{source.name}_{compute.name}"
    return f"gemm_thin_across_{last}", f"gemm_thin_along_{last}"


def heights(shape: Shape) -> tuple[int, ...]:
    """The panels there is code for."""
    return tuple([h for h in shape.heights if h <= MOST_ROWS])


class Thin(Panel):
    """A function for any of the heights."""

    def __init__(self, unit: Unit, source: DType, compute: DType, name: str) -> None:
        super().__init__(unit, source, compute, name, _PARAMS)
        self.one, self.vector = register(compute), register(compute, self.lanes)
        self.whole = self.let(f"and i64 %valid, {-self.lanes}")

    def ahead(self, left: str) -> str:
        """The lanes below ``left``."""
        return self.let(f"icmp slt {self.indices} {self.numbers}, {self.wide(left)}")

    def sums(self, i: int, column: str) -> str:
        """Where the sums of row ``i`` are, from ``column`` on."""
        return self.at(self.one, "%to", self.add(self.mul("%ld", i), column))

    def left(self, k: str, height: int, i: int) -> str:
        """Value ``k`` of row ``i`` in every lane."""
        at = self.at(self.one, "%a", self.add(self.mul(k, height), i))
        return splat(self, self.load(self.one, at, self.compute.itemsize), self.one, self.lanes)

    def plus(self, a: str, b: str, c: str) -> str:
        return multiply_add(self, self.compute, self.lanes, a, b, c)

    def add_products(self, left: Sequence[Sequence[str]], begins: str, right: Callable[[int, str, str], str]) -> None:
        """Add ``left[t][i]`` times ``right(t, column, lanes)`` for all t to the sums of every row i, strip by strip of columns;
        the sums start from zero where ``begins``."""

        def strip(column: str, lanes: str) -> None:
            to = [self.sums(i, column) for i in range(len(left[0]))]
            total = [self.let(f"select i1 {begins}, {self.vector} zeroinitializer, {self.vector} {self.read(p)}") for p in to]
            for t, values in enumerate(left):
                b = right(t, column, lanes)
                total = [self.plus(a, b, s) for a, s in zip(values, total)]
            for s, p in zip(total, to):
                self.write(s, p)

        with self.loop(0, self.whole, self.lanes) as column:
            strip(column, self.all)
        with self.when(self.test("ne", self.whole, "%valid")):
            strip(self.whole, self.ahead(self.sub("%valid", self.whole)))

    def read(self, pointer: str) -> str:
        return self.load(self.vector, pointer, self.compute.itemsize)

    def write(self, value: str, pointer: str) -> None:
        self.store(self.vector, value, pointer, self.compute.itemsize)


def _across(unit: Unit, source: DType, compute: DType, name: str) -> str:
    f = Thin(unit, source, compute, name)
    registers = 16 if f.lanes * compute.bits == 512 or not unit.target.is_x86 else 8  # for values of A
    first = f.at(f.element, "%from", f.load("i64", "%offsets"))

    def some(k: str, count: int, height: int) -> None:
        """Add ``count`` values of k to all sums."""
        left = [[f.left(f.add(k, t), height, i) for i in range(height)] for t in range(count)]
        lines = [f.at(f.element, first, f.mul(f.add(f.add("%k0", k), t), "%inner")) for t in range(count)]
        begins = f.test("eq", k, 0)
        f.add_products(left, begins, lambda t, column, lanes: f.value(f.masked(f.at(f.element, lines[t], column), lanes)))

    for height in heights(shape_of(unit.target, compute)):
        count = max(1, min(8, registers // height))
        with f.when(f.test("eq", "%height", height)):
            whole = f.let(f"and i64 %depth, {-count}")
            with f.loop(0, whole, count) as k:
                some(k, count, height)
            with f.loop(whole, "%depth") as k:
                some(k, 1, height)
    f.do("ret void")
    return f.text()


def _along(unit: Unit, source: DType, compute: DType, name: str) -> str:
    f = Thin(unit, source, compute, name)
    whole = f.let(f"and i64 %depth, {-f.lanes}")
    rest = f.sub("%depth", whole)
    lanes_left = f.ahead(rest)
    last_square = f.array(f.vector, f.lanes)

    def square(starts: Sequence[str], k: str, lanes: str) -> list[str]:
        """Neighbouring columns for each of a vector of k."""
        values = [f.value(f.masked(f.at(f.element, p, k), lanes)) for p in starts]
        return transpose(f, f.vector, values, compute.bits)

    def columns(starts: Sequence[str], column: str, height: int) -> None:
        total = [f.var(f.vector, "zeroinitializer") for _ in range(height)]

        def add(k: str, right: str) -> None:
            for i, s in enumerate(total):
                f.store(f.vector, f.plus(f.left(k, height, i), right, f.load(f.vector, s)), s)

        with f.loop(0, whole, f.lanes) as k:
            for t, right in enumerate(square(starts, k, f.all)):
                add(f.add(k, t), right)
        with f.loop(0, rest) as at:
            add(f.add(whole, at), f.load(f.vector, f.at(f.vector, last_square, at)))
        for i, s in enumerate(total):
            f.write(f.load(f.vector, s), f.sums(i, column))

    with f.loop(0, "%valid", f.lanes) as column:
        offsets = [f.load("i64", f.at("i64", "%offsets", f.add(column, c))) for c in range(f.lanes)]
        starts = [f.at(f.element, f.at(f.element, "%from", "%k0"), o) for o in offsets]
        with f.when(f.test("ne", rest, 0)):
            for t, right in enumerate(square(starts, whole, lanes_left)):
                f.store(f.vector, right, f.at(f.vector, last_square, t))
        for height in heights(shape_of(unit.target, compute)):
            with f.when(f.test("eq", "%height", height)):
                columns(starts, column, height)
    f.do("ret void")
    return f.text()


def thin_text(target: Target, source: DType, compute: DType, along: bool) -> str:
    """The module with one of ``thin_names(source, compute)``."""
    unit = Unit(target)
    function = (_along if along else _across)(unit, source, compute, thin_names(source, compute)[along])
    return "\n".join([*unit.globals.values(), "", function])
