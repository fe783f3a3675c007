"""What a launch must do: bytes it has to move and scalar operations it has to run.

In: a :class:`~spiraltorch.jit.lower.Launch`.  Out: a :class:`Cost`, counted from the kernel tree.  A value
that a row's phases read several times counts once: the row is in the cache by then.

    softmax of float32[4096, 1024]  ->  Cost(read=16 MiB, written=16 MiB, flops=...)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..ir.kernel import Access, Gemm, Kernel, Load, Phase
from ..ir.node import Node, toposort
from ..ir.prims import ROWS

if TYPE_CHECKING:
    from ..jit.lower import Launch
    from ..jit.program import Lowered

_FREE = frozenset(("CAST", "BITCAST", "WHERE"))


@dataclass(frozen=True)
class Cost:
    """Bytes read and written, and scalar operations (a multiply-add is two)."""

    read: int = 0
    written: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.read + other.read, self.written + other.written, self.flops + other.flops)


def launch_cost(x: Launch) -> Cost:
    """Of one instance of a kernel."""
    if isinstance(x.kernel, Kernel):
        return _kernel(x, x.kernel)
    if isinstance(x.kernel, Gemm):
        return _gemm(x, x.kernel)
    flops = 0
    if "." in x.kernel.name:
        from ..kernels.library.routine import find

        count_flops = find(x.kernel.name).flops
        flops = 0 if count_flops is None else count_flops(x.kernel, x.ints)
    return Cost(sum(n.nbytes for n in x.reads), sum(n.nbytes for n in x.outs), flops)


def total(lowered: Lowered) -> Cost:
    return sum((launch_cost(x) for step in lowered.steps for x in step.launches), Cost())


def readable(nbytes: int) -> str:
    """Bytes for people: ``16.0 MiB``."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def count(n: int) -> str:
    """A number for people: ``34.1 M``."""
    size = float(n)
    for unit in ("", " k", " M"):
        if size < 1000:
            return f"{size:.0f}" if not unit else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f} G"


def _kernel(x: Launch, k: Kernel) -> Cost:
    sizes = [x.ints[slot.index] for slot in k.axes]
    rows = math.prod(sizes[: k.rows])
    flops = 0
    for p in k.phases:
        inner = math.prod(sizes[a] for a in p.axes)
        walks = _walks(p)
        for n in toposort(list(p.exprs())):
            if n.op in ROWS and n.op not in _FREE:
                flops += rows * (inner if walks[n] else 1) * (2 if n.op == "FMA" else 1)
        flops += len(p.reduces) * rows * inner
    read, written = _memory(x, k.phases, sizes, list(range(k.rows)))
    return Cost(read, written, flops)


def _gemm(x: Launch, g: Gemm) -> Cost:
    sizes = [x.ints[slot.index] for slot in g.axes]
    points = math.prod(sizes)
    epilogue = sum(1 for n in g.nodes() if n.op in ROWS and n.op not in _FREE)
    _, written = _memory(x, (g.epilogue,), sizes, list(range(len(sizes))))
    read = sum(n.nbytes for n in x.reads)
    return Cost(read, written, points * (2 * x.ints[g.depth.index] + epilogue))


def _walks(p: Phase) -> dict[Node, bool]:
    """Whether each node of a phase has a value per inner element, or one per row."""
    inner = set(p.axes)
    out: dict[Node, bool] = {}
    for n in toposort(list(p.exprs())):
        own = any(axis in inner for access in _accesses(n) for axis, _ in access.terms)
        out[n] = own or any(out[s] for s in n.src)
    return out


def _accesses(n: Node) -> Iterator[Access]:
    if n.op == "INDEX":
        yield n.arg
    elif n.op == "LOAD":
        yield n.arg.access


def _memory(x: Launch, phases: Iterable[Phase], sizes: Sequence[int], rows: Sequence[int]) -> tuple[int, int]:
    """Bytes read and written: of each array as much as its accesses can reach, once."""
    reached: dict[tuple[int, str], int] = {}
    for p in phases:
        walk = math.prod(sizes[a] for a in (*rows, *p.axes))
        for n in toposort(list(p.exprs())):
            if n.op == "LOAD":
                load: Load = n.arg
                key = (load.param, "r")
                reached[key] = max(reached.get(key, 0), walk if load.dyn else _reach(load.access, sizes))
        for s in p.stores:
            reached[s.param, "w"] = max(reached.get((s.param, "w"), 0), _reach(s.access, sizes))
    out = {"r": 0, "w": 0}
    for (param, way), elements in reached.items():
        memory: Any = x.params[param]
        if isinstance(memory, Node):
            out[way] += min(elements * memory.dtype.itemsize, memory.nbytes)
    return out["r"], out["w"]


def _reach(access: Access, sizes: Sequence[int]) -> int:
    return math.prod(sizes[axis] for axis, _ in access.terms)


__all__ = ["Cost", "count", "launch_cost", "readable", "total"]
