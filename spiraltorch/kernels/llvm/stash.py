"""Values that two phases of a row need are kept in between, where computing them again is dearer than memory.

In: a kernel of lane 'inner'.  Out: the kernel with one more param for each such value, which its first phase stores and
the later ones load, and where the params' memory is.

    softmax   r1 = add EXP(x - r0)                r1 = add EXP(x - r0);  store p2 = EXP(x - r0)
              store p1 = EXP(x - r0) / r1    ->   store p1 = LOAD p2 / r1

The memory is on the stack for rows of up to ROOM bytes.  For longer ones it is the row of the result itself that the last
of these phases stores, element by element, after it has read what was kept there: only such values are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...dtypes import float32, float64
from ...ir.kernel import Access, Kernel, Load, Param, Store
from ...ir.node import Node, make, toposort
from ...ir.prims import ROWS
from .rows import memory

if TYPE_CHECKING:
    from .writer import Writer

ROOM = 1 << 16  # bytes of a row that are kept on the stack: the nearest caches hold them


@dataclass(frozen=True)
class Kept:
    """A value that is kept: as param ``param``, in the row of param ``out`` when the stack has no room for it."""

    param: int
    out: int
    access: Access
    axis: int


def stash(kernel: Kernel) -> tuple[Kernel, list[Kept]]:
    """The kernel with its dear values kept, and where."""
    found: list[Kept] = []
    if kernel.lane != "inner":
        return kernel, found
    for first, phase in enumerate(kernel.phases):
        if len(phase.axes) != 1 or not phase.reduces:
            continue
        for n in reversed(toposort(phase.exprs())):
            if _dear(n, phase.axes[0], kernel.rows):
                at = _place(kernel, first, n, {k.out for k in found})
                if at is not None:
                    param = len(kernel.params)
                    found.append(Kept(param, at.param, at.access, phase.axes[0]))
                    kernel = _kept(kernel, first, n, Store(param, at.access, n))
                    break
    return kernel, found


def _dear(n: Node, axis: int, rows: int) -> bool:
    """A transcendental function of what moves along ``axis`` and with the rows."""
    if n.op not in ROWS or not ROWS[n.op].ulp or n.dtype not in (float32, float64):
        return False
    accesses = [m.arg.access for m in toposort([n]) if m.op == "LOAD"]
    return any(a.stride(axis) != 0 for a in accesses) and any(k < rows for a in accesses for k, _ in a.terms)


def _place(kernel: Kernel, first: int, n: Node, taken: set[int]) -> Store | None:
    """The store whose row ``n`` may lie in: contiguous, of its type, in the last phase that needs ``n``."""
    axes = kernel.phases[first].axes
    later = [p for p in kernel.phases[first + 1 :] if n in toposort(p.exprs())]
    if not later or any(p.axes != axes for p in later):
        return None
    loaded = {m.arg.param for m in kernel.nodes() if m.op == "LOAD"}
    stores = [s.param for p in kernel.phases for s in p.stores]
    for s in later[-1].stores:
        free = s.param not in loaded | taken and stores.count(s.param) == 1 and kernel.params[s.param].mode == "out"
        if free and kernel.params[s.param].dtype is n.dtype and s.guard is None and not s.fold and s.access.stride(axes[0]) == 1:
            return s
    return None


def _kept(kernel: Kernel, first: int, n: Node, store: Store) -> Kernel:
    """``n`` stored in phase ``first``, and loaded in later ones."""
    loaded = make("LOAD", (), Load(store.param, store.access), (), n.dtype)
    phases = list(kernel.phases)
    for k, phase in enumerate(phases[first + 1 :], first + 1):
        new: dict[Node, Node] = {}
        for m in toposort(phase.exprs()):
            new[m] = loaded if m is n else make(m.op, tuple([new[s] for s in m.src]), m.arg, m.shape, m.dtype) if m.src else m
        phases[k] = phase.replaced(new)
    phases[first] = replace(phases[first], stores=(*phases[first].stores, store))
    return replace(kernel, phases=tuple(phases), params=(*kernel.params, Param(n.dtype, "inout")))


def place(writer: Writer, k: Kept) -> str:
    """The address of a kept value at this point."""
    dtype, function = writer.params[k.param].dtype, writer.scopes[0]
    row = Access(k.access.offset, tuple([t for t in k.access.terms if t[0] != k.axis]))
    start, level = writer.place(k.out, row)
    env, key = writer.scopes[level].env, ("kept", k.param)
    if key not in env:
        if ("stack", k.param) not in function.env:
            function.env["stack", k.param] = writer.alloca(f"[{ROOM} x i8], align 64")
        long = writer.cached(0, ("long", k.param), f"icmp sgt i64 {writer.size(k.axis)}, {ROOM // dtype.itemsize}")
        env[key] = writer.scopes[level].code.select(long, start, function.env["stack", k.param], "ptr", 1)
    return writer.walk(Access(0, ((k.axis, 1),)), key, env[key], f"getelementptr {memory(dtype)}, ptr")[0]


__all__ = ["Kept", "place", "stash"]
