"""Recomputation under a byte budget: values are computed again where they are read late, rather than kept until then.

In: a lowered program, a budget, and the passes that lower a graph again.  Out: a lowered program that allocates
less, with the same bits (what is computed again is computed the same way).

A value is a candidate when it lives through the moment at which most memory is in use and what it is computed from
lives on anyway, or is smaller.  Values of pointwise operations go first, then the dear ones (Chen et al., 2016,
"Training deep nets with sublinear memory cost", is the idea; here the plan's own lifetimes choose).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.node import Node, make, toposort
from ..ir.prims import ROWS
from .stages import _is_leaf, peel

MOST_ROUNDS = 12


def allocated(lowered: Any) -> int:
    """Bytes that a run allocates: temporaries, and results that take over no input's memory."""
    schedule = lowered.schedule
    fresh = [peel(r).nbytes for r, taken in zip(lowered.simplified, schedule.taken) if taken is None]
    return int(schedule.arena + sum(fresh))


def fit(lowered: Any, budget: int, again: Callable[[Sequence[Node]], Any]) -> Any:
    """``lowered``, changed until it allocates at most ``budget`` bytes, or as little as is found."""
    share = 1  # a round tries to save all that is too much, or this part of it
    for _ in range(MOST_ROUNDS):
        used = allocated(lowered)
        if used <= budget:
            break
        lives = _Lives(lowered)
        chosen = lives.choose((used - max(budget, 0)) // share)
        if not chosen:
            break
        tried = again(lives.recomputed(lowered.simplified, chosen))
        if allocated(tried) < used:
            lowered = tried
        else:
            share *= 2
    return lowered


class _Lives:
    """When each value is made and read, by step, and the step at which most temporaries are alive."""

    def __init__(self, lowered: Any) -> None:
        self.made: dict[Node, int] = {}
        self.read: dict[Node, int] = {}
        self.memory = lowered.schedule.memory
        for k, step in enumerate(lowered.steps):
            for x in step.launches:
                for n in [*x.outs, *([s.node for s in x.group.stages] if x.group is not None else [])]:
                    self.made.setdefault(n, k)
                for n in x.reads:
                    self.read[n] = k
        self.temporaries = [n for n in self.made if self.memory.get(n, ("",))[0] == "temp" and n in self.read]
        use = [0] * (len(lowered.steps) + 1)
        for n in self.temporaries:
            for k in range(self.made[n], self.read[n] + 1):
                use[k] += n.nbytes
        self.peak = use.index(max(use))

    def choose(self, excess: int) -> set[Node]:
        """Values whose recomputation frees about ``excess`` bytes at the peak."""
        alive = [n for n in self.temporaries if self.made[n] < self.peak < self.read[n]]
        alive = [n for n in alive if n.op in ROWS or n.op == "DOT"]
        alive.sort(key=lambda n: (n.op == "DOT", -n.nbytes))
        chosen: set[Node] = set()
        freed = 0
        for n in alive:
            # What it is computed from would have to live longer, unless it does so anyway or is computed again too.
            prolonged = [s for s in self._sources(n) if s in self.read and self.read[s] <= self.peak and s not in chosen]
            gain = n.nbytes - sum([s.nbytes for s in prolonged if self.memory[s][0] == "temp"])
            if gain > 0 and freed < excess:
                chosen.add(n)
                freed += gain
        return chosen

    def _sources(self, n: Node) -> list[Node]:
        """The values in memory that ``n`` is computed from."""
        found: dict[Node, None] = {}
        stack = list(n.src)
        while stack:
            s = stack.pop()
            if s in self.made or _is_leaf(s):
                found[s] = None
            else:
                stack.extend(s.src)
        return list(found)

    def recomputed(self, roots: Sequence[Node], chosen: set[Node]) -> list[Node]:
        """The graph in which what is made after the peak reads copies of ``chosen`` that are computed there."""
        late: dict[Node, Node] = {}
        for n in toposort(roots):
            early = n in self.made and self.made[n] <= self.peak
            if not n.src or (early and n not in chosen):
                late[n] = n
                continue
            src = tuple([late[s] for s in n.src])
            if early:
                src = (make("RESHAPE", (src[0],), src[0].shape, src[0].shape, src[0].dtype), *src[1:])
            late[n] = n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype)
        return [late[r] if self.made.get(peel(r), -1) > self.peak else r for r in roots]


def is_again(n: Node) -> bool:
    """Whether ``n`` is such a copy: its first operand is reshaped to its own shape, which no other pass leaves."""
    return bool(n.src) and n.src[0].op == "RESHAPE" and n.src[0].shape == n.src[0].src[0].shape


__all__ = ["allocated", "fit", "is_again"]
