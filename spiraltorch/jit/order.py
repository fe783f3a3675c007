"""Which launches become one step, and in which order steps run.

In: launches in an order that computes everything, and whose memory each value has.  Out: steps, lists of launches of one
kernel that do not depend on each other, in an order that needs little memory at a time.

Steps whose operands are there are taken by what they add to the memory in use: first those that free more than they
allocate, so that a weight's gradient is computed before the next layer's.  No order changes a result.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from ..ir.kernel import Kernel
from ..ir.node import Node
from .lower import Launch
from .stages import _is_leaf

MOST_MERGED = 1 << 16  # bytes of a temporary whose launch may wait for others of its kernel


def ordered_steps(launches: Sequence[Launch], memory_of: Callable[[Node], Node], outputs: Sequence[Node]) -> list[list[Launch]]:
    """The pass."""
    before = _dependencies(launches, memory_of)
    lasting = {memory_of(o) for o in outputs}

    def temporaries(nodes: Sequence[Node]) -> set[Node]:
        return {m for m in map(memory_of, nodes) if m not in lasting and not _is_leaf(m)}

    sets = _merged(launches, before, lambda x: all([m.nbytes <= MOST_MERGED for m in temporaries(x.outs)]))
    home = {k: key for key, members in sets.items() for k in members}
    need = {key: {home[d] for k in members for d in before[k]} - {key} for key, members in sets.items()}
    users: dict[Any, list[Any]] = {key: [] for key in sets}
    for key, needed in need.items():
        for d in needed:
            users[d].append(key)
    reads = {key: temporaries([n for k in members for n in launches[k].reads]) for key, members in sets.items()}
    score = {key: sum([m.nbytes for m in temporaries([n for k in members for n in launches[k].outs])]) for key, members in sets.items()}
    waiting: dict[Node, set[Any]] = {}
    for key, operands in reads.items():
        for m in operands:
            waiting.setdefault(m, set()).add(key)
    for m, keys in waiting.items():
        if len(keys) == 1:
            score[next(iter(keys))] -= m.nbytes
    ready = [(score[key], sets[key][0], key) for key, needed in need.items() if not needed]
    heapq.heapify(ready)
    done: set[Any] = set()
    steps: list[list[Launch]] = []
    while ready:
        value, _, key = heapq.heappop(ready)
        if key in done or value != score[key]:
            continue
        done.add(key)
        steps.append([launches[k] for k in sets[key]])
        for m in reads[key]:
            waiting[m].discard(key)
            if len(waiting[m]) == 1:  # its last reader frees it
                (last,) = waiting[m]
                score[last] -= m.nbytes
                if not need[last]:
                    heapq.heappush(ready, (score[last], sets[last][0], last))
        for u in users[key]:
            need[u].discard(key)
            if not need[u]:
                heapq.heappush(ready, (score[u], sets[u][0], u))
    return steps


def _dependencies(launches: Sequence[Launch], memory_of: Callable[[Node], Node]) -> list[set[int]]:
    """For each launch, the earlier ones that it must follow."""
    writers: dict[Node, list[int]] = {}
    reads: dict[Node, list[int]] = {}
    checks: list[int] = []
    before: list[set[int]] = []
    for k, x in enumerate(launches):
        deps: set[int] = set()
        for n in x.reads:
            deps.update(writers.get(memory_of(n), ()))
        for n in x.outs:
            m = memory_of(n)
            deps.update(reads.get(m, ()))
            deps.update([w for w in writers.get(m, ()) if not _apart(x, launches[w])])
            if _is_leaf(m):  # a failed check leaves the program's inputs as they were
                deps.update(checks)
        for n in x.reads:
            reads.setdefault(memory_of(n), []).append(k)
        for n in x.outs:
            writers.setdefault(memory_of(n), []).append(k)
        if x.checks:
            checks.append(k)
        deps.discard(k)
        before.append(deps)
    return before


def _merged(launches: Sequence[Launch], before: Sequence[set[int]], may_wait: Callable[[Launch], bool]) -> dict[Any, list[int]]:
    """Independent launches of one kernel by set: optimizers, bias gradients."""
    # As late as possible: what only the end needs meets at the end.
    late = [0] * len(launches)
    for k in range(len(launches) - 1, -1, -1):
        for d in before[k]:
            late[d] = min(late[d], late[k] - 1)
    sets: dict[Any, list[int]] = {}
    for k, x in enumerate(launches):
        mergeable = isinstance(x.kernel, Kernel) and not x.checks and may_wait(x)
        sets.setdefault((x.kernel.key, late[k], tuple(x.scalars)) if mergeable else k, []).append(k)
    return sets


def _apart(a: Launch, b: Launch) -> bool:
    """Whether two launches write regions of one array that do not meet (parts of a concatenation)."""
    if a.group is None or b.group is None or a.group.kind != "update" or b.group.kind != "update":
        return False
    if not isinstance(a.origins[-1].arg, tuple) or len(a.origins) != 1 or len(b.origins) != 1:
        return False
    regions = zip(a.origins[0].arg, b.origins[0].arg)
    return any(p[1] <= q[0] or q[1] <= p[0] for p, q in regions)


__all__ = ["ordered_steps"]
