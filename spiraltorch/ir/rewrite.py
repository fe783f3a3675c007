"""The rewrite driver: one bottom-up walk that applies named rules until none fits.

A rule is a function ``Node -> Node | None`` with ``@rule("OP", ...)``; its name is what traces print.

    >>> @rule("NEG")
    ... def double_negation(n):
    ...     return n.src[0].src[0] if n.src[0].op == "NEG" else None
    >>> rewrite([some_root], rules_of(double_negation))       # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .node import Node, make, toposort

Rule = Callable[[Node], "Node | None"]


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Mark a function as a rewrite rule for nodes of ``ops``."""

    def mark(f: Rule) -> Rule:
        f.ops = ops  # type: ignore[attr-defined]
        return f

    return mark


def rules_of(*rules: Any) -> dict[str, list[Rule]]:
    """Index rules by the operation they look at."""
    table: dict[str, list[Rule]] = {}
    for r in rules:
        for name in r.ops:
            table.setdefault(name, []).append(r)
    return table


def rewrite(roots: Sequence[Node], rules: dict[str, list[Rule]], log: Callable[[str, Node, Node], None] | None = None) -> list[Node]:
    """``roots`` with every rule applied to a fixed point, operands first."""
    memo: dict[Node, Node] = {}

    def settle(n: Node) -> Node:
        for _ in range(64):
            for r in rules.get(n.op, ()):
                new = r(n)
                if new is not None and new is not n:
                    if log is not None:
                        log(r.__name__, n, new)
                    break
            else:
                return n
            # What the rule built may itself have operands that were not visited yet.
            for m in toposort([new]):
                if m not in memo and m is not new:
                    src = tuple([memo.get(s, s) for s in m.src])
                    memo[m] = settle(m if src == m.src else make(m.op, src, m.arg, m.shape, m.dtype))
            src = tuple([memo.get(s, s) for s in new.src])
            n = new if src == new.src else make(new.op, src, new.arg, new.shape, new.dtype)
            if n in memo:
                return memo[n]
        return n

    for n in toposort(roots):
        if n in memo:
            continue
        src = tuple([memo[s] for s in n.src])
        same = n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype)
        same.origin = n.origin or same.origin
        new = settle(same)
        new.origin = n.origin or new.origin
        memo[n] = new
        memo.setdefault(new, new)
    return [memo[r] for r in roots]
