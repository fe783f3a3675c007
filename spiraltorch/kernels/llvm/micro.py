"""Micro-kernels: tiles of sums of products that stay in registers.

In: a shape (rows x vectors of lanes) and where an operand lies.  Out: LLVM IR of an internal function,

    name(k, a, [lda], b, ldb, c, [ldc], add)      C[i][j] (+)= sum over k of A[i, k] * B[k * ldb + j]

whose A, one value at a time, is spread over a vector of neighbouring columns of B and C.  ``packed``: A is a panel,
k after k; ``along``: rows of k, ``lda`` apart; ``across``: neighbouring rows, each k ``lda`` after the last.
A sum starts from zero and runs in the order of k, so its bits do not depend on the tile that it is in.

:func:`product` is a product of any number of rows by such tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dtypes import DType
from .pairs import pair_add
from .routine import Routine
from .rows import Unit, register, splat, vector
from .target import Target


def has_fma(target: Target) -> bool:
    return not target.is_x86 or target.has("fma") or target.has("avx512f")


def multiply_add(f: Routine, compute: DType, lanes: int, a: str, b: str, c: str) -> str:
    """``a * b + c``, rounded once where the machine can."""
    ty = register(compute, lanes)
    if compute.kind == "f" and has_fma(f.unit.target):
        return f.intrinsic("fma", ty, a, b, c)
    kind = "f" if compute.kind == "f" else ""
    return f.let(f"{kind}add {ty} {c}, {f.let(f'{kind}mul {ty} {a}, {b}')}")


def micro_kernel(
    unit: Unit, compute: DType, lanes: int, name: str, height: int, vectors: int, layout: str = "packed", paired: bool = False
) -> str:
    """The function ``name`` for a tile of ``height`` x ``vectors`` vectors; a packed one's C is a panel as well.

    ``paired``: what A and B hold are pairs of k (:mod:`.pairs`).
    """
    packed = layout == "packed"
    lda, ldc = ("", "") if packed else ("i64 %lda", "i64 %ldc")
    params = ("i64 %k", "ptr noalias %a", lda, "ptr noalias %b", "i64 %ldb", "ptr noalias %c", ldc, "i1 %add")
    f = Routine(unit, "void", name, [p for p in params if p], "internal")
    one, size = register(compute), compute.itemsize
    ty = vector(one, lanes)
    zero = "zeroinitializer" if lanes > 1 else "0"
    tiles = [[f.var(ty, zero) for _ in range(vectors)] for _ in range(height)]
    pa, pb = f.var("ptr", "%a"), f.var("ptr", "%b")
    rows = [f.at(one, "%a", f.mul("%lda", i)) for i in range(height)] if layout == "along" else []
    with f.loop(0, "%k") as k:
        a, b = f.load("ptr", pa), f.load("ptr", pb)
        right = [f.load(ty, f.at(one, b, v * lanes), size) for v in range(vectors)]
        for i in range(height):
            left = splat(f, f.load(one, f.at(one, rows[i], k) if rows else f.at(one, a, i), size), one, lanes)
            for v in range(vectors):
                total = f.load(ty, tiles[i][v])
                if paired:
                    f.store(ty, pair_add(f, lanes, left, right[v], total), tiles[i][v])
                else:
                    f.store(ty, multiply_add(f, compute, lanes, left, right[v], total), tiles[i][v])
        if not rows:
            f.store("ptr", f.at(one, a, height if packed else "%lda"), pa)
        f.store("ptr", f.at(one, b, "%ldb"), pb)
    line = vectors * lanes if packed else "%ldc"
    out = [
        [f.at(one, f.at(one, "%c", f.mul(line, i)), v * lanes) for v in range(vectors)] for i in range(height)
    ]
    plus = "fadd" if compute.kind == "f" else "add"
    with f.when("%add"):
        for tile, to in _pairs(tiles, out):
            f.store(ty, f.let(f"{plus} {ty} {f.load(ty, to, size)}, {f.load(ty, tile)}"), tile)
    for tile, to in _pairs(tiles, out):
        f.store(ty, f.load(ty, tile), to, size)
    f.do("ret void")
    return f.text()


def _pairs(tiles: Sequence[Sequence[str]], out: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    return [pair for row, to in zip(tiles, out) for pair in zip(row, to)]


def _heights(target: Target) -> tuple[int, ...]:
    """Rows of the tiles, which are one or two vectors wide: half of the registers are sums."""
    return (8, 2, 1) if target.vector_bits == 512 or not target.is_x86 else (4, 1)


def product(unit: Unit, compute: DType, lanes: int, layout: str) -> list[str]:
    """The function ``product_{layout}``, and its tiles: ``C[m][n] (+)= A[m, k] B[k][n]`` for any m; n is a multiple of the
    lanes, and of two vectors "across"."""
    params = (
        "i64 %m", "i64 %n", "i64 %k", "ptr %a", "i64 %lda", "ptr %b", "i64 %ldb", "ptr %c", "i64 %ldc", "i1 %add",
    )  # fmt: skip
    f = Routine(unit, "void", f"product_{layout}", params, "internal")
    heights, one = _heights(unit.target), register(compute)
    widths = (1, 2) if layout == "along" else (2,)

    def rows_of(j: str, vectors: int) -> None:
        b, c = f.at(one, "%b", j), f.at(one, "%c", j)

        def tile(i: str, height: int) -> None:
            a = f.at(one, "%a", f.mul(i, "%lda") if layout == "along" else i)
            to = f.at(one, c, f.mul(i, "%ldc"))
            f.do(
                f"call void @{layout}_{height}x{vectors}(i64 %k, ptr {a}, i64 %lda, ptr {b}, i64 %ldb, ptr {to}, "
                f"i64 %ldc, i1 %add)"
            )

        with f.loop(0, f.let(f"and i64 %m, {-heights[0]}"), heights[0]) as i:
            tile(i, heights[0])
        for taller, h in zip(heights, heights[1:]):
            with f.loop(f.let(f"and i64 %m, {-taller}"), f.let(f"and i64 %m, {-h}"), h) as i:
                tile(i, h)

    pairs = f.let(f"and i64 %n, {-2 * lanes}")
    with f.loop(0, pairs, 2 * lanes) as j:
        rows_of(j, 2)
    if 1 in widths:
        with f.when(f.test("ne", pairs, "%n")):
            rows_of(pairs, 1)
    f.do("ret void")
    tiles = [micro_kernel(unit, compute, lanes, f"{layout}_{h}x{v}", h, v, layout) for h in heights for v in widths]
    return [*tiles, f.text()]
