"""Plan: launches in order, each value in memory, writes in place where nobody needs the old value.

In: groups, the program's outputs, and which inputs' memory an output may take over.  Out: a
:class:`Schedule`: launches with memory assigned.  Memory is named by a key: ``("in", i)`` an input,
``("out", j)`` an output's own buffer, ``("temp", offset)`` a part of the arena, or a
:class:`~spiraltorch.jit.lower_matrix.Table` of constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ir.index import flatten
from ..ir.kernel import Gemm
from ..ir.node import Node
from .lower import Launch, Library, lower_group
from .lower_library import lower_call
from .lower_matrix import lower_dot
from .order import ordered_steps
from .places import Group
from .rules import is_one
from .stages import Stage, _fill, _is_leaf, peel

ALIGN = 64


@dataclass
class Step:
    """One instruction of the plan: a kernel over one or more rows of arguments."""

    launches: list[Launch]

    @property
    def kernel(self) -> Any:
        return self.launches[0].kernel


@dataclass
class Schedule:
    """steps in order; memory: node -> key; arena: bytes of temporaries; outs: memory key of each output;
    taken: input whose memory output j took over, or None."""

    steps: list[Step]
    memory: dict[Node, Any]
    arena: int
    outs: list[Any]
    taken: list[int | None]
    nodes: list[Node] = field(default_factory=list)


class Planner:
    def __init__(self, groups: Sequence[Group], outputs: Sequence[Node], donated: Sequence[int | None]) -> None:
        self.groups = list(groups)
        self.outputs = [peel(o) for o in outputs]
        self.donated = list(donated)
        self.home: dict[Node, Group] = {s.node: g for g in groups for s in g.stages if s not in g.clones}
        self.readers: dict[Node, dict[Group, None]] = {}
        for g in groups:
            again = {s.node for s in g.clones}
            for s in g.stages:
                for n in [*[r.node for r in s.reads], *s.inputs]:
                    if n not in again:
                        self.readers.setdefault(n, {})[g] = None
        self.alias: dict[Node, Node] = {}
        self.taken: set[Node] = set()  # whose memory another value took over
        self.times = Counter(self.outputs)
        self.edges: dict[Group, set[Group]] = {g: set() for g in groups}
        for g in groups:
            for s in g.stages:
                for n in [*[r.node for r in s.reads], *s.inputs]:
                    p = self.home.get(n)
                    if p is not None and p is not g and g in self.readers.get(n, ()):
                        self.edges[g].add(p)

    def memory_of(self, n: Node) -> Node:
        while n in self.alias:
            n = self.alias[n]
        return n

    # -- the pass --------------------------------------------------------------------------------------

    def run(self) -> Schedule:
        stored = set(self.outputs)
        for n, groups in self.readers.items():
            home = self.home.get(n)
            if home is not None and (any(g is not home for g in groups) or home.kind == "update"):
                stored.add(n)
        self._drop_unread(stored)
        self._find_needs()
        self.checked = [g for g in self.groups if any(s.may_fail for s in g.stages)]
        launches: dict[Group, list[Launch]] = {}
        results: dict[Group, list[tuple[Node, int]]] = {}  # outputs that may take over an input's memory
        for root, leaf in zip(self.outputs, self.donated):
            if leaf is not None and root in self.home:
                results.setdefault(self.home[root], []).append((root, leaf))
        self.leaves = {n.arg: n for n in self.readers if n.op == "PARAM"}
        for g in self.groups:
            if g.kind == "update":
                self._place_update(g)
        for g in self.groups:
            for root, leaf in results.get(g, ()):
                self._try_in_place(g, root, leaf)
            launches[g] = self._lower(g, stored)
        order = self._order()
        steps = [Step(x) for x in ordered_steps([x for g in order for x in launches[g]], self.memory_of, self.outputs)]
        return self._assign(steps)

    def _drop_unread(self, stored: set[Node]) -> None:
        """Groups whose values every reader computes for itself are not run."""
        for g in reversed(list(self.groups)):
            own = [s for s in g.stages if s not in g.clones]
            if g.kind == "row" and not any(s.node in stored or s.checks for s in own):
                self.groups.remove(g)
                for other in self.edges.values():
                    other.discard(g)
                for s in g.stages:
                    for n in [*[r.node for r in s.reads], *s.inputs]:
                        self.readers.get(n, {}).pop(g, None)

    def _lower(self, g: Group, stored: set[Node]) -> list[Launch]:
        if g.kind == "call":
            return lower_call(g.stages[0], self.memory_of)
        if g.kind == "dot":
            return [lower_dot(g, stored, self.memory_of)]
        if g.kind == "update":
            return [*self._update_base(g), lower_group(g, stored, self.memory_of)]
        return [lower_group(g, stored, self.memory_of)]

    # -- in place ----------------------------------------------------------------------------------------

    def _find_needs(self) -> None:
        """Of each group, everything it waits for, as bits: many questions are asked, and few edges added."""
        self.bit = {g: 1 << k for k, g in enumerate(self.groups)}
        self.needs: dict[Group, int] = {}
        self.users: dict[Group, list[Group]] = {g: [] for g in self.groups}
        for g in self._order():
            needs = 0
            for p in self.edges[g]:
                needs |= self.needs[p] | self.bit[p]
                self.users[p].append(g)
            self.needs[g] = needs

    def _depends(self, g: Group, on: Group) -> bool:
        return g is on or bool(self.needs[g] & self.bit[on])

    def _wait(self, g: Group, others: Sequence[Group]) -> None:
        """Run ``others`` before ``g``."""
        gained = 0
        for h in others:
            if h not in self.edges[g]:
                self.edges[g].add(h)
                self.users[h].append(g)
                gained |= self.needs[h] | self.bit[h]
        stack = [g]
        while stack:
            k = stack.pop()
            if gained & ~self.needs[k]:
                self.needs[k] |= gained
                stack.extend(self.users[k])

    def _overwrite(self, g: Group, old: Node) -> bool:
        """Order every other reader of ``old`` before ``g``; False where one needs what g makes."""
        others = [h for h in self.readers.get(old, ()) if h is not g]
        if _is_leaf(old):  # a failed check must leave the program's inputs as they were
            others += [h for h in self.checked if h is not g]
        if any(self._depends(h, g) for h in others):
            return False
        self._wait(g, others)
        return True

    def _try_in_place(self, g: Group, root: Node, leaf: int) -> None:
        """Let output ``root`` take over the memory of the input ``leaf``."""
        old = self.leaves.get(leaf)
        if root in self.alias or g.kind in ("call", "update") or self.times[root] > 1:
            return
        if old is None or old.dtype is not root.dtype or old.size != root.size or old in self.taken:
            return
        if any(s.checks for s in g.stages):
            return
        if g in self.readers[old] and not _same_place(g, root, old):
            return
        if self._overwrite(g, old):
            self.alias[root] = old
            self.taken.add(old)

    def _place_update(self, g: Group) -> None:
        """Let an UPDATE write into its base's memory when it is the last to look at it."""
        s = g.stages[0]
        base = peel(s.node.src[0])
        if base in self.outputs or _fill(base):
            return
        if _is_leaf(base):
            leaf = next((d for o, d in zip(self.outputs, self.donated) if o is s.node), None)
            if leaf is None or leaf != base.arg:
                return
        reads_itself = any(self.memory_of(r.node) is self.memory_of(base) for r in s.reads)
        if not reads_itself and not s.checks and self._overwrite(g, base):
            self.alias[s.node] = base
            self.taken.add(base)

    def _update_base(self, g: Group) -> list[Launch]:
        """What must be in an UPDATE's memory before its region is written."""
        s = g.stages[0]
        if s.node in self.alias:
            return []
        base = peel(s.node.src[0])
        if _fill(base) and self._covered(s.node):
            return []
        from ..ir.node import make
        from .fuse import fuse
        from .stages import build_stages

        copy = make("COPY", (s.node.src[0],), ("base", id(s.node)), s.node.shape, s.node.dtype)
        (stage,) = [t for t in build_stages([copy]) if t.node is copy] if _fill(base) or _is_leaf(base) else [_copy_stage(copy, base)]
        (group,) = fuse([stage])
        launch = lower_group(group, {copy}, lambda n: self.memory_of(s.node) if n is copy else self.memory_of(n))
        launch.outs = [s.node]
        return [launch]

    def _covered(self, n: Node) -> bool:
        """Whether the chain of UPDATEs that starts at ``n`` writes every element (a concatenation)."""
        spans: list[tuple[int, int]] = []
        axis: int | None = None
        chain = self._chain(n)
        for u in chain:
            partial = [k for k, (r, size) in enumerate(zip(u.arg, u.shape)) if r != (0, size, 1)]
            if len(partial) > 1 or any(r[2] != 1 for r in u.arg):
                return False
            if partial:
                if axis is not None and axis != partial[0]:
                    return False
                axis = partial[0]
                spans.append((u.arg[axis][0], u.arg[axis][1]))
        if axis is None:
            return bool(chain)
        at = 0
        for lo, hi in sorted(spans):
            if lo > at:
                return False
            at = max(at, hi)
        return at >= n.shape[axis]

    def _chain(self, n: Node) -> list[Node]:
        """``n`` and the UPDATEs that write on in its memory before anybody reads it."""
        out = [n]
        while True:
            users = list(self.readers.get(out[-1], ()))
            if len(users) != 1 or users[0].kind != "update" or self.alias.get(users[0].stages[0].node) is not out[-1]:
                return out
            out.append(users[0].stages[0].node)

    # -- order and merging -----------------------------------------------------------------------------

    def _order(self) -> list[Group]:
        done: set[Group] = set()
        out: list[Group] = []
        position = {g: k for k, g in enumerate(self.groups)}
        stack: list[tuple[Group, bool]] = [(g, False) for g in reversed(self.groups)]
        while stack:
            g, ready = stack.pop()
            if g in done:
                continue
            if ready:
                done.add(g)
                out.append(g)
                continue
            stack.append((g, True))
            stack.extend([(d, False) for d in sorted(self.edges[g] - done, key=lambda d: -position[d])])
        return out

    # -- memory ------------------------------------------------------------------------------------------

    def _assign(self, steps: list[Step]) -> Schedule:
        memory: dict[Node, Any] = {}
        outs: list[Any] = []
        taken: list[int | None] = []
        for j, root in enumerate(self.outputs):
            base = self.memory_of(root)
            if _is_leaf(base):
                memory[base] = ("in", base.arg)
                outs.append(("in", base.arg))
                taken.append(base.arg)
            else:
                memory.setdefault(base, ("out", j))
                outs.append(memory[base])
                taken.append(None)
        first: dict[Node, int] = {}
        last: dict[Node, int] = {}
        for k, step in enumerate(steps):
            for x in step.launches:
                for n in [*x.reads, *x.outs]:
                    m = self.memory_of(n)
                    first.setdefault(m, k)
                    last[m] = k
        arena = Arena()
        starting: dict[int, list[Node]] = {}
        expiring: dict[int, list[Node]] = {}
        for m, k in first.items():
            if m not in memory and not _is_leaf(m):
                starting.setdefault(k, []).append(m)
        for k in range(len(steps)):
            for m in starting.get(k, ()):
                memory[m] = ("temp", arena.take(m.nbytes))
                expiring.setdefault(last[m], []).append(m)
            for m in expiring.get(k, ()):
                arena.give(memory[m][1], m.nbytes)
        for m in first:
            if _is_leaf(m):
                memory[m] = ("in", m.arg)
        for n in self.home:
            m = self.memory_of(n)
            if m in memory:
                memory[n] = memory[m]
        return Schedule(steps, memory, arena.size, outs, taken, list(self.outputs))


class Arena:
    """Offsets for values by lifetime: first fit among what is free, else at the end."""

    def __init__(self) -> None:
        self.size = 0
        self.free: list[tuple[int, int]] = []

    def take(self, nbytes: int) -> int:
        n = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        best = min([(size, at) for at, size in self.free if size >= n], default=None)
        if best is not None:
            size, at = best
            self.free.remove((at, size))
            if size > n:
                self.free.append((at + n, size - n))
            return at
        at = self.size
        tail = next(((a, s) for a, s in self.free if a + s == self.size), None)
        if tail is not None:  # grow what is free at the end
            self.free.remove(tail)
            at = tail[0]
        self.size = at + n
        return at

    def give(self, at: int, nbytes: int) -> None:
        n = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        for other in list(self.free):
            a, s = other
            if a + s == at:
                self.free.remove(other)
                at, n = a, n + s
            elif at + n == a:
                self.free.remove(other)
                n += s
        self.free.append((at, n))


def _same_place(g: Group, root: Node, old: Node) -> bool:
    """Whether the group reads ``old`` only at the element of ``root`` that it writes there."""
    stage = next(s for s in g.stages if s.node is root)
    place = g.places[stage]
    if stage.kind == "reduce" or (g.kind == "dot" and old in g.stages[0].inputs):
        return False
    mine = flatten(stage.out_index, root.shape)
    for s in g.stages:
        for r in s.reads:
            if r.node is not old:
                continue
            same_walk = s.atoms == stage.atoms and g.places[s].rows == place.rows and g.places[s].inner == place.inner
            if not same_walk or r.guards or r.position != mine:
                return False
            if g.kind == "row" and place.inner and s is not stage:
                return False  # another phase may read the row again after it was written
    if g.kind != "row" or g.stages[-1] is stage:
        return True
    again = {old}  # what a phase that looks at it computes from the old values, which may have been written by then
    for s in g.stages:
        if any(r.node in again for r in s.reads):
            if s is not stage:
                return False
            again.add(s.node)
    return True


def _copy_stage(copy: Node, base: Node) -> Stage:
    from .stages import _build

    return _build(copy, 0, {copy, base})


def plan(groups: Sequence[Group], outputs: Sequence[Node], donated: Sequence[int | None]) -> Schedule:
    """The pass."""
    return Planner(groups, outputs, donated).run()


__all__ = ["Gemm", "Launch", "Library", "Schedule", "Step", "is_one", "plan"]
