"""What is the same at every row of a kernel, and is computed once a call.

In: a kernel.  Out: its phases that fold the same values at every row, such as the sum of a vector that scales all rows.
"""

from __future__ import annotations

from ...ir.kernel import Kernel, Phase
from ...ir.node import toposort


def row_invariant(kernel: Kernel) -> list[Phase]:
    """Phases that only fold, and whose expressions do not move with any row axis."""
    values: set[int] = set()
    found = []
    for p in kernel.phases:
        if p.stores or p.checks or not p.reduces:
            continue
        for n in toposort([r.expr for r in p.reduces]):
            if n.op == "VALUE" and n.arg not in values:
                break
            access = n.arg.access if n.op == "LOAD" else n.arg if n.op == "INDEX" else None
            if access is not None and any(axis < kernel.rows for axis, _ in access.terms):
                break
        else:
            found.append(p)
            values |= {r.id for r in p.reduces}
    return found
