"""The next row is fetched while this one is computed.

In: a kernel of lane 'inner' that walks its rows in several phases.  Out: what each later phase asks for: what the first
phase will read in the next row.

    softmax   max of x                              memory is read
              sum of exp(x - max)                   prefetch x of the next row
              exp(x - max) / sum

The first phase waits for memory, and the others find the row in the nearest cache: a row is longer than what a core has in
flight, so without this memory idles while they compute.  (Layer norm forward and backward, 4096 rows of 768, on one thread:
2.0 ms instead of 2.45.)  Where they compute little the hardware's own prefetching is faster: a variance took 3.7 ms instead of 3.3.
Rows of more than FAR values ask for what they read now, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ir.kernel import Kernel, Load, Phase
from ...ir.node import toposort
from ...ir.prims import ROWS
from .rows import memory

if TYPE_CHECKING:
    from .writer import Writer

FAR = 1 << 15  # values of a row: longer ones would not be in the cache any more when their turn comes
BUSY = 8  # rows of arithmetic for each array, from which on there is time to fetch it


def ahead(kernel: Kernel) -> dict[Phase, list[Load]]:
    """What each phase asks for: the arrays are dealt out to the phases after the first."""
    walks = [p for p in kernel.phases if p.axes] if kernel.lane == "inner" else []
    found: dict[Phase, list[Load]] = {}
    if len(walks) < 2 or any(p.axes != walks[0].axes for p in walks):
        return found
    row, lane = kernel.rows - 1, walks[0].axes[-1]
    loads = dict.fromkeys([n.arg for n in kernel.nodes() if n.op == "LOAD" and not n.arg.dyn and not n.arg.guarded])
    streams = [x for x in loads if x.access.stride(row) != 0 and x.access.stride(lane) == 1 and kernel.params[x.param].mode == "in"]
    work = sum([n.op in ROWS for p in walks[1:] for n in toposort(p.exprs())]) + sum([len(p.reduces) for p in walks[1:]])
    for k, load in enumerate(streams if work >= BUSY * len(streams) else ()):
        found.setdefault(walks[1 + k % (len(walks) - 1)], []).append(load)
    return found


def fetch(writer: Writer, loads: Sequence[Load]) -> None:
    """Ask for the vectors of loads in the next row."""
    code, row, axis = writer.here, writer.kernel.rows - 1, writer.lane_axis
    for load in loads:
        ty = memory(writer.params[load.param].dtype)
        base, step = writer.pointer(load.param, load.access), writer.slot(load.access.stride(row))
        near = writer.cached(0, ("near", axis), f"icmp sle i64 {writer.size(axis)}, {FAR}")
        step = writer.cached(0, ("ahead", axis, step), f"select i1 {near}, i64 {step}, i64 0")
        base = code.let(f"getelementptr {ty}, ptr {base}, i64 {step}")
        code.declare("@llvm.prefetch.p0", "void", "ptr", "i32", "i32", "i32")
        for u in range(writer.unroll):
            p = writer.vector_pointer(base, ty, 1, u, code)
            code.do(f"call void @llvm.prefetch.p0(ptr {p}, i32 0, i32 2, i32 1)")  # to read; to the second nearest cache; data


__all__ = ["ahead", "fetch"]
