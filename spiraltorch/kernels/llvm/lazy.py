"""Operands of a WHERE that no lane may need: what only one of them is made of, to be computed behind a branch.

In: the nodes of a point, operands first, and those that are needed in any case.  Out: a :class:`Plan`, which says for each node
whether it is computed always or for one operand of one WHERE alone.

    WHERE(x < 8, near, far)     near is 80 rows that nothing else reads, far is 120:
                                vectors that lie below 8 skip far, those above skip near

A branch costs a test of a mask, and a wrong guess about it some 15 cycles, so it must save WORTH rows or more.  No value depends
on whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ...ir.node import Node

WORTH = 48
_SLOW = {"DIV": 6, "SQRT": 6, "SLOW": 8}  # of a plain row, about

Side = tuple[Node, int]  # a WHERE, and which of its operands


@dataclass
class Plan:
    """``owner[n]``: the innermost side that ``n`` is computed for; ``sides[s]``: the nodes that side is made of."""

    owner: dict[Node, Side] = field(default_factory=dict)
    sides: dict[Side, list[Node]] = field(default_factory=dict)


def plan(order: Sequence[Node], needed: Iterable[Node], movable: Callable[[Node], bool]) -> Plan:
    """Which nodes of ``order`` are computed behind a branch."""
    found = Plan()
    if len(order) < WORTH // 6:
        return found
    readers = dict.fromkeys(order, 0)
    for n in order:
        for s in n.src:
            readers[s] = readers.get(s, 0) + 1
    for n in needed:
        readers[n] = readers.get(n, 0) + 1
    place = {n: k for k, n in enumerate(order)}
    for where in reversed(order):  # inner ones come later and take their nodes from the outer ones
        if where.op != "WHERE" or not movable(where):
            continue
        for k in (1, 2):
            nodes = _exclusive(where.src[k], readers, movable)
            if sum([_SLOW.get(n.op, 1) for n in nodes]) >= WORTH:
                found.sides[where, k] = sorted(nodes, key=place.__getitem__)
                found.owner.update(dict.fromkeys(nodes, (where, k)))
    return found


def _exclusive(top: Node, readers: dict[Node, int], movable: Callable[[Node], bool]) -> list[Node]:
    """``top`` and all below it that nothing else reads."""
    found: list[Node] = []
    left: dict[Node, int] = {}
    todo = [top]
    while todo:
        n = todo.pop()
        left[n] = left.get(n, readers.get(n, 0)) - 1
        if left[n] == 0 and n.src and movable(n):
            found.append(n)
            todo += n.src
    return found


__all__ = ["Plan", "Side", "plan"]
