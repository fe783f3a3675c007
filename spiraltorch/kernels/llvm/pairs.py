"""Pairs of k: one instruction adds two products of bfloat16 numbers to each float32 sum.

In: panels of float32 values that are bfloat16 numbers, as packing makes them.  Out: LLVM IR of

    fold(to, width, depth)      the panel becomes pairs where it lies: to[p][i] = (to[2 p][i], to[2 p + 1][i])

a pair being 32 bits, an odd depth ending with a zero; and of the instruction (:func:`pair_add`).

The instruction rounds after each product, flushes denormal numbers to zero, and takes the second of a pair first; a sum runs
in the order of pairs whichever function makes it, so its bits do not depend on the rows that are computed with it.  It is used
for contractions whose own type is bfloat16, never for float32 ones over bfloat16 memory: what is fused decides no bits.
"""

from __future__ import annotations

from ...dtypes import DType, bfloat16
from .routine import Routine
from .rows import Code, Unit
from .target import Target


def has_pairs(target: Target) -> bool:
    """Whether the machine has the instruction."""
    return target.is_x86 and target.vector_bits == 512 and target.has("avx512bf16")


def in_pairs(target: Target, acc: DType) -> bool:
    """Whether contractions of type ``acc`` run by pairs on a machine."""
    return acc is bfloat16 and has_pairs(target)


def fold(unit: Unit, lanes: int) -> str:
    """The function ``fold``.  A row of pairs lies before the two rows that it is made of, so it overwrites none to come."""
    f = Routine(unit, "void", "fold", ("ptr %to", "i64 %width", "i64 %depth"), "internal")
    n = lanes
    ints, bits = f"<{n} x i32>", f"<{n} x i1>"
    numbers = f"<{', '.join([f'i64 {i}' for i in range(n)])}>"

    def row(pair: str, last: bool) -> None:
        with f.loop(0, "%width", n) as column:
            first = f.at("i32", "%to", f.add(f.mul(f.mul(pair, 2), "%width"), column))
            low = f.let(f"lshr {ints} {f.load(ints, first, 4)}, splat (i32 16)")
            if not last:
                high = f.let(f"and {ints} {f.load(ints, f.at('i32', first, '%width'), 4)}, splat (i32 -65536)")
                low = f.let(f"or {ints} {low}, {high}")
            left = f.sub("%width", column)
            spread = f.let(f"insertelement <{n} x i64> poison, i64 {left}, i64 0")
            spread = f.let(f"shufflevector <{n} x i64> {spread}, <{n} x i64> poison, <{n} x i32> zeroinitializer")
            those = f.let(f"icmp slt <{n} x i64> {numbers}, {spread}")
            to = f.at("i32", "%to", f.add(f.mul(pair, "%width"), column))
            f.declare(f"@llvm.masked.store.v{n}i32.p0", "void", ints, "ptr", "i32 immarg", bits)
            f.do(f"call void @llvm.masked.store.v{n}i32.p0({ints} {low}, ptr {to}, i32 4, {bits} {those})")

    whole = f.let("lshr i64 %depth, 1")
    with f.loop(0, whole) as pair:
        row(pair, False)
    with f.when(f.test("ne", f.mul(whole, 2), "%depth")):
        row(whole, True)
    f.do("ret void")
    return f.text()


def pair_add(c: Code, lanes: int, a: str, b: str, total: str) -> str:
    """``total`` plus the products of two vectors of pairs, all three given as float32 vectors."""
    ty, pairs = f"<{lanes} x float>", f"<{2 * lanes} x bfloat>"
    a, b = [c.let(f"bitcast {ty} {x} to {pairs}") for x in (a, b)]
    return c.call(f"@llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}", ty, (ty, total), (pairs, b), (pairs, a))
