"""A kernel as Triton source: in, a Kernel and a Tile; out, the text of one ``@triton.jit`` function.

Softmax with its row in one block comes out like this (values are numbered as in ``str(kernel)``):

    @triton.jit
    def softmax(x, out, rows, cols, x_row_stride, R: tl.constexpr, L: tl.constexpr):
        lanes = tl.arange(0, L)
        row = tl.program_id(0)
        col = lanes
        inside = col < cols
        # phase 1: r0 = max of v0 over col
        v0 = tl.load(x + row * x_row_stride + col, mask=inside)
        r0 = tl.reduce(tl.where(inside, v0, float("-inf")), 0, _max)
        ...

Which axis goes where:

* lane 'inner': tile lanes are the last inner axis, tile rows the flattened row axes;
* lane 'row', no inner axes: lanes are the last row axis, tile rows the other row axes, flattened;
* lane 'row' with inner axes (column sums): lanes are the last row axis, tile rows walk the last inner axis.

Full blocks run code without masks, so that contiguous loads and stores are 128 bits wide whatever the
length; the last block runs a masked copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...dtypes import DType, bool_, float32, float64
from ...ir.kernel import Kernel, Phase, Reduce
from ...ir.node import Node, toposort
from ..names import names
from ..reference import identity
from .expressions import NO_DIMS, Expressions
from .rows import rounded, tl_name

_NAN = ", propagate_nan=tl.PropagateNan.ALL"
_COMBINE = {"add": "a + b", "mul": "a * b", "max": f"tl.maximum(a, b{_NAN})", "min": f"tl.minimum(a, b{_NAN})"}


def module_text(name: str, arguments: Sequence[str], body: str) -> str:
    """A module with the imports and combining functions that ``body`` uses, and the kernel itself."""
    imports = "import triton\nimport triton.language as tl\n"
    if "libdevice." in body:
        imports += "from triton.language.extra import libdevice\n"
    parts = [imports]
    for op, expression in _COMBINE.items():
        if f"_{op}" in body:
            parts.append(f"@triton.jit\ndef _{op}(a, b):\n    return {expression}\n")
    parts.append(f"@triton.jit\ndef {name}({', '.join(arguments)}):\n{body}\n")
    return "\n\n".join(parts)


@dataclass(frozen=True)
class Tile:
    """How a kernel is cut up: ``rows`` x ``lanes`` values a program, powers of two.

    ``one_block``: the inner axis has at most ``lanes`` values, so rows stay in registers from phase
    to phase.  ``wide``: some offset needs 64 bits.
    """

    rows: int = 1
    lanes: int = 1024
    one_block: bool = False
    wide: bool = False
    warps: int = 4


def by_row(k: Kernel) -> bool:
    return k.lane == "row" and k.rows > 0


def folds_rows(k: Kernel) -> bool:
    """Whether tile rows walk an inner axis (column sums)."""
    return by_row(k) and any(p.axes for p in k.phases)


def grid(k: Kernel, tile: Tile, ints: Sequence[int]) -> int:
    """How many programs there are."""
    sizes = [ints[s.index] for s in k.axes[: k.rows - k.walked]]
    if not by_row(k):
        return -(-math.prod(sizes) // tile.rows)
    outer = math.prod(sizes[:-1])
    return (outer if folds_rows(k) else -(-outer // tile.rows)) * -(-sizes[-1] // tile.lanes)


_WORDS = {"add": "sum", "mul": "product", "max": "max", "min": "min"}


def _accumulator(dtype: DType) -> str:
    """The type that a fold is carried in."""
    if dtype.is_floating_point:
        return tl_name(dtype.acc)
    return f"tl.{'int' if dtype.is_signed or dtype is bool_ else 'uint'}{max(32, dtype.bits)}"


class _Writer(Expressions):
    def __init__(self, k: Kernel, tile: Tile) -> None:
        if folds_rows(k) and tile.rows < 2:
            raise ValueError(
                f"a kernel that folds inner axes under row lanes needs 2 or more tile rows, not {tile.rows}"
            )
        if (k.rows == 0 or k.walked) and tile.rows > 1:
            raise ValueError("a kernel without row axes, or that walks them one by one, has one tile row")
        last_inner = {p.axes[-1] for p in k.phases if p.axes}
        if last_inner & {axis for p in k.phases for axis in p.axes[:-1]}:
            raise ValueError("an axis is the last of one phase and not of another")
        self.kernel, self.tile = k, tile
        self.lane_first = not by_row(k)
        lane = frozenset((1,))
        row = frozenset((0,)) if tile.rows > 1 else NO_DIMS
        dims = dict.fromkeys(range(len(k.axes)), NO_DIMS)
        if by_row(k):
            dims |= dict.fromkeys(last_inner if folds_rows(k) else range(k.rows), row)
            dims[k.rows - 1] = lane
        else:
            dims |= dict.fromkeys(range(k.rows), row)
            dims |= dict.fromkeys(last_inner, lane)
        super().__init__(k, names(k), dims, ("R", "L") if tile.rows > 1 else ("L",), set(range(k.rows)))

    def size(self, axis: int) -> str:
        return self.names.slots[self.kernel.axes[axis].index]

    def block(self, dim: int) -> str:
        """``lanes`` or ``tile_rows`` as a tile."""
        if len(self.sizes) == 1:
            return "tl.arange(0, L)"
        return "tl.arange(0, R)[:, None]" if dim == 0 else "tl.arange(0, L)[None, :]"

    def program_id(self) -> str:
        return "tl.cast(tl.program_id(0), tl.int64)" if self.tile.wide else "tl.program_id(0)"

    def split(self, flat: str, axes: Sequence[int]) -> None:
        """Indices of ``axes`` from their flattened index."""
        for position, axis in reversed(list(enumerate(axes))):
            self.write(f"{self.names.axes[axis]} = {f'{flat} % {self.size(axis)}' if position else flat}")
            flat = f"{flat} // {self.size(axis)}"

    # -------------------------------------------------------------- reductions

    def fold_axis(self) -> int:
        """The tile dimension that a reduction folds."""
        return 1 if self.lane_first else 0

    def reduced(self, r: Reduce, tile: str) -> str:
        axis = self.fold_axis() if len(self.sizes) == 2 else 0
        keep = ", keep_dims=True" if len(self.sizes) == 2 else ""
        text = f"tl.reduce({tile}, {axis}, _{r.op}{keep})"
        dtype = r.expr.dtype
        if dtype is bool_:
            return f"{text} != 0"
        if dtype.is_floating_point:
            return rounded(text, dtype)
        return text if dtype.bits >= 32 else f"tl.cast({text}, {tl_name(dtype)})"

    def folded(self, r: Reduce) -> str:
        """The expression as the accumulator's type."""
        dtype = r.expr.dtype
        value = self.value(r.expr)
        plain = dtype.acc in (float32, float64) or dtype.kind in "iu" and dtype.bits >= 32
        return value if plain else f"tl.cast({value}, {_accumulator(dtype)})"

    def start(self, r: Reduce) -> str:
        value, dtype = identity(r.op, r.expr.dtype), r.expr.dtype
        if dtype.is_floating_point:
            return f'float("{value}")' if math.isinf(value) else repr(float(value))
        return str(int(value))

    def begin(self, r: Reduce) -> None:
        shape = self.shape(frozenset((0, 1)))
        self.write(f"{_WORDS[r.op]}{r.id} = tl.full({shape}, {self.start(r)}, {_accumulator(r.expr.dtype)})")

    def step(self, r: Reduce, inside: str | None) -> None:
        name, value = f"{_WORDS[r.op]}{r.id}", self.folded(r)
        if r.op in ("add", "mul"):
            total = f"{name} {'+' if r.op == 'add' else '*'} {value}"
        else:
            nan = _NAN if r.expr.dtype.is_floating_point else ""
            total = f"tl.{r.op}imum({name}, {value}{nan})"
        self.write(f"{name} = {f'tl.where({inside}, {total}, {name})' if inside else total}")

    # -------------------------------------------------------------- phases

    def body(self, p: Phase, known: frozenset[int], done: set[Node], inside: str | None) -> None:
        """One tile of the phase: its expressions, folds and stores."""
        self.statements(toposort(p.exprs()), known, done)
        for r in p.reduces:
            self.step(r, inside)
        self.effects(p)

    def blocks(self, p: Phase, known: frozenset[int], done: set[Node]) -> None:
        """All tiles along the phase's last axis: full ones unmasked, then the rest."""
        axis, dim = p.axes[-1], self.fold_axis()
        name, size = self.names.axes[axis], self.size(axis)
        known = known | {axis}
        if dim == 0:  # lanes are contiguous, so a mask over rows costs no vector width
            self.write(f"for start in range(0, {size}, R):")
            self.depth += 1
            self.tail(p, f"start + {self.block(0)}", known, done)
            self.depth -= 1
            return
        if self.tile.one_block:
            self.tail(p, "lanes", known, done)
            return
        self.write(f"whole = {size} // L * L")
        self.write("for start in range(0, whole, L):")
        self.depth += 1
        self.write(f"{name} = start + lanes")
        self.body(p, known, set(done), None)
        self.depth -= 1
        self.write(f"if whole < {size}:")
        self.depth += 1
        self.tail(p, "whole + lanes", known, done)
        self.depth -= 1

    def tail(self, p: Phase, index: str, known: frozenset[int], done: set[Node]) -> None:
        name, dim = self.names.axes[p.axes[-1]], self.fold_axis()
        mask = "inside" if dim else "rows_inside"
        self.write(f"{name} = {index}")
        self.write(f"{mask} = {name} < {self.size(p.axes[-1])}")
        self.masks[dim] = mask
        self.body(p, known, set(done), mask)
        del self.masks[dim]

    def short(self, n: Node) -> str:
        return str(n.arg) if n.op == "CONST" else self.value(n)

    def title(self, i: int, p: Phase) -> None:
        folds = [f"r{r.id} = {_WORDS[r.op]} of {self.short(r.expr)}" for r in p.reduces]
        stores = sorted({f"write {self.names.params[s.param]}" for s in p.stores})
        over = f" over {', '.join([self.names.axes[a] for a in p.axes])}" if p.axes else ""
        which = f"phase {i + 1}: " if len(self.kernel.phases) > 1 else ""
        self.write(f"# {which}{', '.join(folds + stores + ['check indices'] * bool(p.checks))}{over}")

    def phase(self, p: Phase, known: frozenset[int], done: set[Node]) -> None:
        if not p.axes:
            self.body(p, known, done, None)
            return
        self.statements(toposort(p.exprs()), known, done)
        for r in p.reduces:
            self.begin(r)
        for axis in p.axes[:-1]:
            self.write(f"for {self.names.axes[axis]} in range(0, {self.size(axis)}):")
            self.depth += 1
        self.blocks(p, known | set(p.axes[:-1]), done)
        self.depth -= len(p.axes) - 1
        for r in p.reduces:
            self.write(f"r{r.id} = {self.reduced(r, f'{_WORDS[r.op]}{r.id}')}")

    def phases(self, known: frozenset[int], done: set[Node]) -> None:
        if self.tile.one_block and self.lane_first:
            self.resident_phases(known, done)
            return
        for i, p in enumerate(self.kernel.phases):
            self.title(i, p)
            self.phase(p, known, done if self.reuse else set())

    def resident_phases(self, known: frozenset[int], done: set[Node]) -> None:
        """All phases over one tile that stays in registers."""
        current: int | None = None
        local: set[Node] = set()
        for i, p in enumerate(self.kernel.phases):
            self.title(i, p)
            nodes = toposort(p.exprs())
            if not self.reuse:
                done, local = set(), set()
            if len(p.axes) != 1:
                self.phase(p, known, done)
                current = None if p.axes else current
                continue
            if p.axes[0] != current:
                current, local = p.axes[0], set()
                self.write(f"{self.names.axes[current]} = lanes")
                self.write(f"inside = {self.names.axes[current]} < {self.size(current)}")
            self.statements(nodes, known, done)
            local |= done
            self.masks[1] = "inside"
            self.statements(nodes, known | {current}, local)
            self.effects(p)
            del self.masks[1]
            for r in p.reduces:
                tile = f"tl.where(inside, {self.folded(r)}, {self.start(r)})"
                self.write(f"r{r.id} = {self.reduced(r, tile)}")


def _inner_kernel(w: _Writer, k: Kernel) -> None:
    """Lane 'inner': a program has ``R`` rows and walks the inner axes of each phase."""
    w.write(f"lanes = {w.block(1)}")
    row_axes = range(k.rows - k.walked)
    if w.tile.rows > 1:
        w.write(f"flat = {w.program_id()} * R + {w.block(0)}")
        w.write(f"rows_inside = flat < {' * '.join([w.size(a) for a in row_axes])}")
        w.masks[0] = "rows_inside"
        w.split("flat", row_axes)
    elif len(row_axes) == 1:
        w.write(f"{w.names.axes[0]} = {w.program_id()}")
    elif row_axes:
        w.write(f"flat = {w.program_id()}")
        w.split("flat", row_axes)
    for axis in range(len(row_axes), k.rows):
        w.write(f"for {w.names.axes[axis]} in range(0, {w.size(axis)}):")
        w.depth += 1
    w.phases(frozenset(range(k.rows)), set())
    if k.walked:  # what one row added, all threads see before the next row adds to it
        w.write("tl.debug_barrier()")


def _row_kernel(w: _Writer, k: Kernel) -> None:
    """Lane 'row': a program has ``L`` values of the last row axis."""
    last = k.rows - 1
    outer = range(last)
    name, size = w.names.axes[last], w.size(last)
    if last:
        w.write(f"blocks = ({size} + L - 1) // L")
        w.write(f"flat = {w.program_id()} // blocks")
        w.write(f"first = {w.program_id()} % blocks * L")
        if w.tile.rows > 1 and not folds_rows(k):
            w.write(f"flat = flat * R + {w.block(0)}")
            w.write(f"rows_inside = flat < {' * '.join([w.size(a) for a in outer])}")
            w.masks[0] = "rows_inside"
        w.split("flat", outer)
    else:
        w.write(f"first = {w.program_id()} * L")
    w.write(f"{name} = first + {w.block(1)}")
    done: set[Node] = set()
    w.statements(w.order, frozenset(outer), done)
    w.write(f"if first + L <= {size}:")
    w.depth += 1
    w.phases(frozenset(range(k.rows)), set(done))
    w.depth -= 1
    w.write("else:")
    w.depth += 1
    w.write(f"inside = {name} < {size}")
    w.masks[1] = "inside"
    w.phases(frozenset(range(k.rows)), set(done))
    w.depth -= 1


def source(k: Kernel, tile: Tile, name: str = "kernel") -> str:
    """The Triton text of ``k`` cut up as ``tile``; arguments are params, slots, scalars, then R and L."""
    w = _Writer(k, tile)
    if by_row(k):
        _row_kernel(w, k)
    else:
        _inner_kernel(w, k)
    return module_text(name, [*w.names.arguments, "R: tl.constexpr", "L: tl.constexpr"], "\n".join(w.lines))
