"""Kernel expressions over tiles: the part that kernels and GEMMs share.

A tile has up to two dimensions, 0 (``R`` rows) and 1 (``L`` lanes).  Each axis of a kernel is either
one tile dimension or a scalar; an expression has the dimensions of the axes it depends on and
Triton broadcasts it to the tile.  So a bias is loaded once per lane, and an address that no tile
dimension moves is a scalar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...ir.kernel import Access, Coef, Gemm, Kernel, Phase, Slot
from ...ir.node import Node
from ..names import Names
from .rows import LITERAL_ROWS, constant, from_memory, literal, spell

Dims = frozenset[int]
NO_DIMS: Dims = frozenset()


class Expressions:
    """Writes statements; ``axis_dims`` says which tile dimensions an axis is spread over.

    ``masks`` maps a tile dimension to the variable that is true inside the bounds (absent: all of
    it is inside).  ``value_dims`` are the dimensions of a reduction's result.
    """

    def __init__(
        self, k: Kernel | Gemm, n: Names, axis_dims: dict[int, Dims], sizes: tuple[str, ...], row_axes: set[int]
    ) -> None:
        self.params = k.params
        self.walked = range(k.rows - k.walked, k.rows) if isinstance(k, Kernel) else range(0)
        self.names = n
        self.axis_dims = axis_dims
        self.sizes = sizes
        self.masks: dict[int, str] = {}
        self.lines: list[str] = []
        self.depth = 1
        self.order = k.nodes()
        self.values = {node: f"v{i}" for i, node in enumerate(self.order)}
        self.reuse = all(p.mode != "inout" for p in k.params)
        self.axes: dict[Node, set[int]] = {}
        for node in self.order:
            axes: set[int] = set().union(*[self.axes[s] for s in node.src])
            if node.op in ("LOAD", "INDEX"):
                axes |= {axis for axis, _ in (node.arg.access if node.op == "LOAD" else node.arg).terms}
            elif node.op == "VALUE":
                axes |= row_axes
            self.axes[node] = axes

    def write(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    # -------------------------------------------------------------- shapes

    def shape(self, dims: Dims) -> str:
        """The block shape of an expression with these dimensions: ``[R, 1]``; ``[]`` for a scalar."""
        if not dims:
            return "[]"
        if len(self.sizes) == 1:
            return f"[{self.sizes[0]}]"
        return f"[{', '.join([s if i in dims else '1' for i, s in enumerate(self.sizes)])}]"

    def dims_of(self, axes: Iterable[int]) -> Dims:
        return NO_DIMS.union(*[self.axis_dims[a] for a in axes])

    def dims(self, n: Node) -> Dims:
        return self.dims_of([a for a in self.axes[n] if a in self.axis_dims])

    def mask(self, dims: Dims, *conditions: str) -> str:
        """``, mask=...`` of all that must hold, or nothing."""
        parts = [self.masks[d] for d in sorted(dims) if d in self.masks] + list(conditions)
        return f", mask={' & '.join(parts)}" if parts else ""

    # -------------------------------------------------------------- addresses

    def coef(self, c: Coef) -> str:
        return self.names.slots[c.index] if isinstance(c, Slot) else str(c)

    def terms(self, a: Access, dynamic: Sequence[tuple[int, str]] = ()) -> list[str]:
        """The summands, scalars first so that a pointer advances by them before it becomes a tile.

        ``dynamic`` are further summands, each with its number of dimensions.
        """
        parts = [] if a.offset == 0 else [(0, self.coef(a.offset))]
        for axis, stride in a.terms:
            name = self.names.axes[axis]
            parts.append((len(self.axis_dims[axis]), name if stride == 1 else f"{name} * {self.coef(stride)}"))
        return [text for _, text in sorted([*dynamic, *parts], key=_rank)]

    def address(self, param: int, terms: Sequence[str], have: Dims, want: Dims) -> str:
        """A pointer with at least the dimensions ``want``, where the terms alone have ``have``."""
        zeros = [] if want <= have else [f"tl.full({self.shape(want)}, 0, tl.int32)"]
        return " + ".join([self.names.params[param], *terms, *zeros])

    # -------------------------------------------------------------- statements

    def value(self, n: Node) -> str:
        if n.op == "CONST":
            return constant(n.arg.value, n.dtype)
        if n.op == "VALUE":
            return f"r{n.arg}"
        if n.op == "SCALAR":
            return self.scalar(n)
        return self.values[n]

    def scalar(self, n: Node) -> str:
        name = self.names.scalars[n.arg]
        if n.dtype.kind == "b":
            return f"({name} != 0)"
        return f"tl.cast({name}, tl.{n.dtype.name})" if n.dtype.kind in "iu" and n.dtype.bits < 32 else name

    def operands(self, n: Node) -> list[str]:
        """Operands as text; one constant beside a variable may be a bare number."""
        texts = [self.value(s) for s in n.src]
        pair = range(len(n.src) - 2, len(n.src))
        if n.op in LITERAL_ROWS and sum(n.src[i].op == "CONST" for i in pair) == 1:
            for i in pair:
                if n.src[i].op == "CONST":
                    texts[i] = literal(n.src[i].arg.value, n.src[i].dtype) or texts[i]
        return texts

    def load(self, n: Node) -> str:
        arg = n.arg
        dtype = self.params[arg.param].dtype
        dynamic = []
        have = self.dims_of([axis for axis, _ in arg.access.terms])
        for index, stride in zip(n.src, arg.dyn):
            step = "" if stride == 1 else f" * {self.coef(stride)}"
            dynamic.append((len(self.dims(index)), self.value(index) + step))
            have |= self.dims(index)
        want = self.dims(n)
        guard = [self.value(n.src[-1])] if arg.guarded else []
        other = ", other=0" if guard else ""
        pointer = self.address(arg.param, self.terms(arg.access, dynamic), have, want)
        return from_memory(f"tl.load({pointer}{self.mask(want, *guard)}{other})", dtype)

    def statement(self, n: Node) -> None:
        if n.op in ("CONST", "VALUE", "SCALAR"):
            return
        if n.op == "LOAD":
            text = self.load(n)
        elif n.op == "INDEX":
            text = f"tl.cast({' + '.join(self.terms(n.arg)) or '0'}, tl.int64)"
        else:
            text = spell(n.op, self.operands(n), n.src[-1].dtype, n.dtype)
        self.write(f"{self.values[n]} = {text}")

    def statements(self, nodes: Iterable[Node], known: frozenset[int], done: set[Node]) -> None:
        """Every node whose axes are all known and that is not yet written."""
        for n in nodes:
            if n not in done and self.axes[n] <= known:
                done.add(n)
                self.statement(n)

    def effects(self, p: Phase) -> None:
        """The phase's stores and checks."""
        for s in p.stores:
            have = self.dims_of([axis for axis, _ in s.access.terms])
            guards = [] if s.guard is None else [self.value(s.guard)]
            want = have | self.dims(s.value) | (NO_DIMS if s.guard is None else self.dims(s.guard))
            pointer = self.address(s.param, self.terms(s.access), have, want)
            value = self.value(s.value)
            if s.fold:
                first = " & ".join([f"({self.names.axes[axis]} == 0)" for axis in self.walked])
                before = f"tl.where({first}, 0, tl.load({pointer}{self.mask(want, *guards)}))"
                value = spell(s.fold.upper(), (before, value), s.value.dtype, s.value.dtype)
            self.write(f"tl.store({pointer}, {value}{self.mask(want, *guards)})")
        for c in p.checks:
            dims = self.dims(c.cond)
            status = self.names.params[[q.mode for q in self.params].index("status")]
            zeros = f" + tl.full({self.shape(dims)}, 0, tl.int32)" if dims else ""
            self.write(f"tl.store({status}{zeros}, {c.code}{self.mask(dims, f'~{self.value(c.cond)}')})")


def _rank(part: tuple[int, str]) -> int:
    return part[0]
