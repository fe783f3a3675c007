"""Readable names for the arguments and axes of a kernel, shared by the spellings that people read.

    >>> from spiraltorch.ir import text
    >>> k = text.parse_kernel('''kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32)
    ... scalars=() slots=3
    ...   phase (a1)
    ...     %0 = LOAD p0[a0*s2+a1] : float32
    ...     store p1[a0*s2+a1] = %0'''.replace(chr(10) + "scalars", " scalars"))
    >>> names(k)
    Names(params=('x', 'out'), slots=('rows', 'cols', 'x_row_stride'), scalars=(), axes=('row', 'col'))

The order of the arguments is always params, slots, scalars; the names say what each slot means, taken
from its first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..ir.kernel import Access, Coef, Gemm, Kernel, Param, Phase, Slot


@dataclass(frozen=True)
class Names:
    """One name per param, slot, scalar and axis (of a Gemm: its axes, then the depth)."""

    params: tuple[str, ...]
    slots: tuple[str, ...]
    scalars: tuple[str, ...]
    axes: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.params + self.slots + self.scalars


def _numbered(stem: str, count: int) -> list[str]:
    return [stem] if count == 1 else [f"{stem}{i}" for i in range(count)]


def _param_names(params: Sequence[Param]) -> tuple[str, ...]:
    pools: dict[str, Iterator[str]] = {}
    for mode, stem in (("in", "x"), ("out", "out"), ("inout", "state"), ("status", "status")):
        count = sum(p.mode == mode for p in params)
        pools[mode] = iter(list("xyzw")[:count] if mode == "in" and count <= 4 else _numbered(stem, count))
    return tuple([next(pools[p.mode]) for p in params])


_ROW_NAMES = {2: ("i", "j"), 3: ("h", "i", "j"), 4: ("g", "h", "i", "j")}


def _axis_names(k: Kernel) -> tuple[str, ...]:
    inner = len(k.axes) - k.rows
    if k.rows == 1:
        rows: Sequence[str] = ("i",) if not inner else ("col",) if k.lane == "row" else ("row",)
    else:
        rows = _ROW_NAMES.get(k.rows) or [f"i{n}" for n in range(k.rows)]
    if inner == 1:
        return (*rows, "col" if k.rows == 1 and k.lane == "inner" else "k")
    return (*rows, *[f"k{n}" for n in range(inner)])


_SIZE_NAMES = {"row": "rows", "col": "cols", "k": "depth"}


class _Slots:
    """Names of slots; the first meaning found wins, and no name is given twice."""

    def __init__(self, count: int, taken: Sequence[str]) -> None:
        self.found: list[str | None] = [None] * count
        self.taken = set(taken)

    def name(self, c: Coef | str, meaning: str) -> None:
        if isinstance(c, Slot) and self.found[c.index] is None and meaning not in self.taken:
            self.found[c.index] = meaning
            self.taken.add(meaning)

    def access(self, a: Access, what: str, axes: Sequence[str]) -> None:
        self.name(a.offset, f"{what}_offset")
        for axis, stride in a.terms:
            self.name(stride, f"{what}_{axes[axis]}_stride")

    def stores(self, p: Phase, params: Sequence[str], axes: Sequence[str]) -> None:
        for s in p.stores:
            self.access(s.access, params[s.param], axes)

    def leaves(self, k: Kernel | Gemm, params: Sequence[str], axes: Sequence[str]) -> None:
        for n in k.nodes():
            if n.op == "LOAD":
                self.access(n.arg.access, params[n.arg.param], axes)
                for i, stride in enumerate(n.arg.dyn):
                    self.name(stride, f"{params[n.arg.param]}_index{i}_stride")
            elif n.op == "INDEX":
                self.access(n.arg, "index", axes)

    def finish(self) -> tuple[str, ...]:
        return tuple([name or f"s{i}" for i, name in enumerate(self.found)])


def _gemm_axes(g: Gemm) -> tuple[str, ...]:
    return (*_numbered("batch", len(g.axes) - 2), "row", "col", "k")


def names(k: Kernel | Gemm) -> Names:
    """Names for all of a kernel's arguments and axes."""
    params = _param_names(k.params)
    scalars = tuple(_numbered("scale", len(k.scalars)))
    axes = _gemm_axes(k) if isinstance(k, Gemm) else _axis_names(k)
    slots = _Slots(k.slots, (*params, *scalars, *axes))
    sizes = (*k.axes, k.depth) if isinstance(k, Gemm) else k.axes
    for axis, size in zip(axes, sizes):
        slots.name(size, _SIZE_NAMES.get(axis, f"n_{axis}"))
    if isinstance(k, Gemm):
        for operand, outer in ((k.a, "row"), (k.b, "col")):
            what = params[operand.param]
            for axis, stride in zip(axes, operand.batch):
                slots.name(stride, f"{what}_{axis}_stride")
            slots.name(operand.outer, f"{what}_{outer}_stride")
            slots.name(operand.inner, f"{what}_k_stride")
            slots.name(operand.offset, f"{what}_offset")
            for j, bound in enumerate(operand.bounds):
                slots.name(bound.size, f"{what}_size{j}")
    slots.leaves(k, params, axes)
    for phase in (k.epilogue,) if isinstance(k, Gemm) else k.phases:
        slots.stores(phase, params, axes)
    return Names(params, slots.finish(), scalars, axes)


def position(a: Access, n: Names) -> str:
    """The access as an expression over axis and slot names: ``row * x_row_stride + col``."""

    def coef(c: Coef) -> str:
        return n.slots[c.index] if isinstance(c, Slot) else str(c)

    parts = [] if a.offset == 0 else [coef(a.offset)]
    parts += [n.axes[axis] if c == 1 else f"{n.axes[axis]} * {coef(c)}" for axis, c in a.terms]
    return " + ".join(parts) or "0"
