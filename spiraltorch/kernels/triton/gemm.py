"""A Gemm as Triton source: tiles of ``tl.dot``, then the epilogue on the accumulator in registers.

    for start in range(0, whole, K):
        k = start + tl.arange(0, K)
        a = tl.load(x_rows + k[None, :], mask=row_inside)
        b = tl.load(y_cols + k[:, None] * y_k_stride, mask=col_inside)
        acc = tl.dot(a, b, acc, input_precision="ieee")

Partial sums are added in the order of k.  Operands of one 16- or 32-bit float type go to the tensor
cores as they are; other mixtures are cast to the accumulator's type, and integers are multiplied
without ``tl.dot``, one step of k at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...dtypes import DType, float64
from ...ir.kernel import Bound, Gemm, Operand
from ...ir.node import Node
from ..names import names
from .emit import module_text
from .expressions import NO_DIMS, Expressions
from .rows import carrier, cast, from_memory, rounded


@dataclass(frozen=True)
class GemmTile:
    """``rows`` x ``lanes`` outputs a program, ``depth`` values of k a step, all powers of two from 16.

    ``group``: how many row tiles go down before the next column tile, so that programs that run
    together share operands in cache.  ``precision``: 'ieee', or 'tf32' to let float32 use tensor cores.
    """

    rows: int = 128
    lanes: int = 128
    depth: int = 64
    wide: bool = False
    warps: int = 8
    stages: int = 3
    group: int = 8
    precision: str = "ieee"


def grid(g: Gemm, tile: GemmTile, ints: Sequence[int]) -> int:
    """How many programs there are."""
    sizes = [ints[s.index] for s in g.axes]
    return math.prod(sizes[:-2]) * -(-sizes[-2] // tile.rows) * -(-sizes[-1] // tile.lanes)


def _dot_type(g: Gemm) -> DType | None:
    """The element type that ``tl.dot`` gets: the operands' own, or None when it can't be used."""
    a, b = (g.params[o.param].dtype for o in (g.a, g.b))
    if not g.acc.is_floating_point:
        return None
    return a if a is b and a.acc is g.acc else g.acc


class _Writer(Expressions):
    def __init__(self, g: Gemm, tile: GemmTile) -> None:
        rank = len(g.axes)
        dims = dict.fromkeys(range(rank), NO_DIMS) | {rank - 2: frozenset((0,)), rank - 1: frozenset((1,))}
        super().__init__(g, names(g), dims, ("R", "L"), set(range(rank)))
        self.gemm, self.tile = g, tile

    def size(self, axis: int) -> str:
        return self.names.slots[self.gemm.axes[axis].index]

    def along(self, step: object, index: str, mask: str) -> str:
        """The offset of ``index``: times a stride, or through a table."""
        if isinstance(step, str):
            entry = f"tl.load({self.names.params[int(step[1:])]} + {index}{mask})"
            return entry if self.tile.wide else f"tl.cast({entry}, tl.int32)"
        return index if step == 1 else f"{index} * {self.coef(step)}"  # type: ignore[arg-type]

    def base(self, o: Operand | Bound, axis: int) -> str:
        """An operand's offset (or a bound's coordinate) at its tile's rows (or columns), before k."""
        name = self.names.axes[axis]
        parts = [] if o.offset == 0 else [self.coef(o.offset)]
        parts += [f"{self.names.axes[i]} * {self.coef(c)}" for i, c in enumerate(o.batch) if c != 0]
        return " + ".join([*parts, self.along(o.outer, name, f", mask={name}_inside")])

    def start(self, o: Operand, name: str, axis: int) -> None:
        """``name`` = the pointer of an operand before k, ``name_at0`` ... its bounded coordinates."""
        self.write(f"{name} = {self.names.params[o.param]} + {self.base(o, axis)}")
        for j, b in enumerate(o.bounds):
            self.write(f"{name}_at{j} = {self.base(b, axis)}")

    def element(self, o: Operand, name: str, side: str, index: str, guard: str, target: DType | None) -> str:
        """A tile of an operand, as the type that it is multiplied in."""
        mask = f", mask={guard}" if guard else ""
        inside = f"{side}_inside{f' & {guard}' if guard else ''}"
        for j, b in enumerate(o.bounds):
            place = f"{name}_at{j} + {self.along(b.inner, index, mask)}"
            inside += f" & ({place} >= 0) & ({place} < {self.names.slots[b.size.index]})"
        other = ", other=0" if guard or o.bounds else ""
        loaded = f"tl.load({name} + {self.along(o.inner, index, mask)}, mask={inside}{other})"
        dtype = self.gemm.params[o.param].dtype
        if dtype is target:
            return loaded
        return cast(from_memory(loaded, dtype), dtype, self.gemm.acc)

    def program(self) -> None:
        """Which tile this program computes."""
        rank = len(self.gemm.axes)
        pid = "tl.cast(tl.program_id(0), tl.int64)" if self.tile.wide else "tl.program_id(0)"
        self.write(f"row_tiles = ({self.size(rank - 2)} + R - 1) // R")
        self.write(f"col_tiles = ({self.size(rank - 1)} + L - 1) // L")
        self.write(f"tile = {pid} % (row_tiles * col_tiles)")
        flat = f"{pid} // (row_tiles * col_tiles)"
        for axis in reversed(range(rank - 2)):
            self.write(f"{self.names.axes[axis]} = {f'{flat} % {self.size(axis)}' if axis else flat}")
            flat = f"{flat} // {self.size(axis)}"
        self.write("# tiles go down a group of row tiles, then on to the next column")
        self.write("first = tile // (GROUP * col_tiles) * GROUP")
        self.write("height = tl.minimum(row_tiles - first, GROUP)")
        self.write("row = (first + tile % (GROUP * col_tiles) % height) * R + tl.arange(0, R)[:, None]")
        self.write("col = tile % (GROUP * col_tiles) // height * L + tl.arange(0, L)[None, :]")
        self.write(f"row_inside = row < {self.size(rank - 2)}")
        self.write(f"col_inside = col < {self.size(rank - 1)}")
        self.start(self.gemm.a, "x_rows", rank - 2)
        self.start(self.gemm.b, "y_cols", rank - 1)

    def dot_step(self, target: DType, guards: tuple[str, str]) -> None:
        precision = f', input_precision="{self.tile.precision}"' if target is not float64 else ""
        self.write(f"a = {self.element(self.gemm.a, 'x_rows', 'row', 'k[None, :]', guards[0], target)}")
        self.write(f"b = {self.element(self.gemm.b, 'y_cols', 'col', 'k[:, None]', guards[1], target)}")
        self.write(f"acc = tl.dot(a, b, acc{precision})")

    def product(self) -> None:
        depth = self.names.slots[self.gemm.depth.index]
        target = _dot_type(self.gemm)
        zero = "0.0" if self.gemm.acc.is_floating_point else "0"
        self.write(f"acc = tl.full([R, L], {zero}, {carrier(self.gemm.acc)})")
        if target is None:
            self.write(f"for k in range(0, {depth}):")
            self.write(f"    a = {self.element(self.gemm.a, 'x_rows', 'row', 'k', '', None)}")
            self.write(f"    b = {self.element(self.gemm.b, 'y_cols', 'col', 'k', '', None)}")
            self.write("    acc = acc + a * b")
            return
        self.write(f"whole = {depth} // K * K")
        self.write("for start in range(0, whole, K):")
        self.depth += 1
        self.write("k = start + tl.arange(0, K)")
        self.dot_step(target, ("", ""))
        self.depth -= 1
        self.write(f"if whole < {depth}:")
        self.depth += 1
        self.write("k = whole + tl.arange(0, K)")
        self.dot_step(target, (f"(k[None, :] < {depth})", f"(k[:, None] < {depth})"))
        self.depth -= 1

    def epilogue(self) -> None:
        self.write("# epilogue")
        self.write(f"r0 = {rounded('acc', self.gemm.acc)}")
        self.masks = {0: "row_inside", 1: "col_inside"}
        done: set[Node] = set()
        self.statements(self.order, frozenset(range(len(self.gemm.axes))), done)
        self.effects(self.gemm.epilogue)


def source(g: Gemm, tile: GemmTile, name: str = "gemm") -> str:
    """The Triton text of ``g``; arguments are params, slots, scalars, then R, L, K and GROUP."""
    w = _Writer(g, tile)
    w.program()
    w.product()
    w.epilogue()
    blocks = [f"{block}: tl.constexpr" for block in ("R", "L", "K", "GROUP")]
    return module_text(name, [*w.names.arguments, *blocks], "\n".join(w.lines))
