"""Products of few rows of bfloat16, by pairs of k (:mod:`.pairs`): B is read once, where it lies.

In: a machine with the instruction.  Out: LLVM IR of a module with one of two functions for few rows,

    gemm_thin_pairs_across(...), gemm_thin_pairs_along(...)     as in :mod:`.gemm_thin`, with A a panel of pairs
"""

from __future__ import annotations

from ...dtypes import bfloat16, float32
from .gemm_core import shape_of
from .gemm_pack import transpose
from .gemm_thin import Thin, heights
from .pairs import pair_add
from .rows import Unit
from .target import Target


class _Pairs(Thin):
    """A function for any of the heights, over pairs."""

    def __init__(self, unit: Unit, name: str) -> None:
        super().__init__(unit, bfloat16, float32, name)
        n = self.lanes
        self.ints, self.two = f"<{n} x i32>", f"<{2 * n} x i16>"
        self.pairs, self.odd = self.let("lshr i64 %depth, 1"), self.let("and i64 %depth, 1")

    def plus(self, a: str, b: str, c: str) -> str:
        """``c`` and two products of pairs."""
        return pair_add(self, self.lanes, a, b, c)

    def joined(self, first: str, second: str) -> str:
        """Two rows of k as pairs, in the type of sums."""
        n = self.lanes
        picks = ", ".join([f"i32 {i}, i32 {n + i}" for i in range(n)])
        both = self.let(f"shufflevector {self.loaded} {first}, {self.loaded} {second}, <{2 * n} x i32> <{picks}>")
        return self.let(f"bitcast {self.two} {both} to {self.vector}")


def _across(unit: Unit, name: str) -> str:
    f = _Pairs(unit, name)
    first = f.at(f.element, "%from", f.load("i64", "%offsets"))

    def some(pair: str, count: int, height: int, odd: bool = False) -> None:
        """Add ``count`` pairs of k to all sums."""
        left = [[f.left(f.add(pair, t), height, i) for i in range(height)] for t in range(count)]
        at = [f.add("%k0", f.add(f.mul(pair, 2), t)) for t in range(2 * count)]
        lines = [f.at(f.element, first, f.mul(k, "%inner")) for k in at]
        begins = f.test("eq", pair, 0)

        def right(t: int, column: str, lanes: str) -> str:
            low = f.masked(f.at(f.element, lines[2 * t], column), lanes)
            high = "zeroinitializer" if odd else f.masked(f.at(f.element, lines[2 * t + 1], column), lanes)
            return f.joined(low, high)

        f.add_products(left, begins, right)

    for height in heights(shape_of(unit.target, float32)):
        count = max(1, min(4, 16 // height))
        with f.when(f.test("eq", "%height", height)):
            whole = f.let(f"and i64 {f.pairs}, {-count}")
            with f.loop(0, whole, count) as pair:
                some(pair, count, height)
            with f.loop(whole, f.pairs) as pair:
                some(pair, 1, height)
            with f.when(f.test("ne", f.odd, 0)):
                some(f.pairs, 1, height, True)
    f.do("ret void")
    return f.text()


def _along(unit: Unit, name: str) -> str:
    f = _Pairs(unit, name)
    n = f.lanes
    total_pairs = f.add(f.pairs, f.odd)
    whole = f.let(f"and i64 {f.pairs}, {-n}")
    rest = f.sub(total_pairs, whole)
    bits = f"<{2 * n} x i1>"
    left = f.let(f"insertelement <{2 * n} x i64> poison, i64 {f.sub('%depth', f.mul(whole, 2))}, i64 0")
    left = f.let(f"shufflevector <{2 * n} x i64> {left}, <{2 * n} x i64> poison, <{2 * n} x i32> zeroinitializer")
    numbers = f"<{', '.join([f'i64 {i}' for i in range(2 * n)])}>"
    lanes_left = f.let(f"icmp slt <{2 * n} x i64> {numbers}, {left}")
    last_square = f.array(f.vector, n)

    def square(starts: list[str], pair: str, some: bool) -> list[str]:
        """Neighbouring columns for each of a vector of pairs."""
        values = []
        for p in starts:
            at = f.at(f.element, p, f.mul(pair, 2))
            if some:
                value = f.call(
                    f"@llvm.masked.load.v{2 * n}i16.p0", f.two, ("ptr", at), ("i32 immarg", "2"), (bits, lanes_left),
                    (f.two, "zeroinitializer"),
                )  # fmt: skip
            else:
                value = f.load(f.two, at, 2)
            values.append(f.let(f"bitcast {f.two} {value} to {f.vector}"))
        return transpose(f, f.vector, values, 32)

    with f.loop(0, "%valid", n) as column:
        offsets = [f.load("i64", f.at("i64", "%offsets", f.add(column, c))) for c in range(n)]
        starts = [f.at(f.element, f.at(f.element, "%from", "%k0"), o) for o in offsets]
        with f.when(f.test("ne", rest, 0)):
            for t, right in enumerate(square(starts, whole, True)):
                f.store(f.vector, right, f.at(f.vector, last_square, t))
        for height in heights(shape_of(unit.target, float32)):
            with f.when(f.test("eq", "%height", height)):
                total = [f.var(f.vector, "zeroinitializer") for _ in range(height)]

                def add(pair: str, right: str, total: list[str] = total, height: int = height) -> None:
                    for i, s in enumerate(total):
                        f.store(f.vector, f.plus(f.left(pair, height, i), right, f.load(f.vector, s)), s)

                with f.loop(0, whole, n) as pair:
                    for t, right in enumerate(square(starts, pair, False)):
                        add(f.add(pair, t), right)
                with f.loop(0, rest) as at:
                    add(f.add(whole, at), f.load(f.vector, f.at(f.vector, last_square, at)))
                for i, s in enumerate(total):
                    f.write(f.load(f.vector, s), f.sums(i, column))
    f.do("ret void")
    return f.text()


def thin_name(along: bool) -> str:
    return f"gemm_thin_pairs_{'along' if along else 'across'}"


def thin_text(target: Target, along: bool) -> str:
    """The module with ``thin_name(along)``."""
    unit = Unit(target)
    function = (_along if along else _across)(unit, thin_name(along))
    return "\n".join([*unit.globals.values(), "", function])

