"""Stages: which values get a loop nest of their own, and what each of them reads, where.

In: the nodes of a simplified graph and its roots.  Out: one :class:`Stage` per value that is a root, a
reduction, a contraction, a library call, or worth keeping because several stages read it.  Everything
else is inlined into its readers.  A stage's expression is a tree of scalar rows over

    READ   arg Read(node, index, guards)   another stage's value, or a leaf, at a linear index
    AT     arg Affine                      an index as a number
    GUARD  arg guards                      whether all guards hold
    CONST, SCALAR

with indices in the stage's own *atoms*: its domain's axes, split where a reshape needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..ir.index import ZERO, Affine, NeedSplit, NotAffine, flatten
from ..ir.kernel import MOST_BOUNDS
from ..ir.node import Node, is_const, toposort
from ..ir.prims import MOVEMENT, ROWS

# A guard: (form, lo, hi) holds where lo <= form < hi; (form, "every", k) where form % k == 0.
Guard = tuple[Affine, Any, int]

MOST_INLINED = 64  # rows inlined into one stage before a value is kept instead
RECOMPUTE_WEIGHT = 4  # a value this cheap, that reads few arrays, is recomputed by each reader
RECOMPUTE_ARRAYS = 2
LONG = 64  # elements of a row over which what is computed once a row costs nothing
EXPAND_WEIGHT = 8  # a value dearer than this is not recomputed for every element it is broadcast to

_DEAR = {"DIV": 4, "SQRT": 4, "RSQRT": 4, "IDIV": 8, "REM": 16, "POW": 24}
OPAQUE = frozenset(("DOT", "SCATTER", "CALL"))


def weight(op: str) -> int:
    """Relative cost of a scalar row."""
    if op in _DEAR:
        return _DEAR[op]
    return 10 if ROWS[op].ulp else 1


@dataclass(frozen=True)
class Read:
    """``node`` at ``index`` (one form per axis of the node); not touched where a guard fails."""

    node: Node
    index: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()
    flat: bool = False  # index is one form: the flat position

    @cached_property
    def position(self) -> Affine:
        """Flat position in the node's memory."""
        return self.index[0] if self.flat else flatten(self.index, self.node.shape)


@dataclass(frozen=True)
class View:
    """A matrix operand: one read, in atoms of its own; ``parts`` are the atoms of each of its axes."""

    read: Read
    atoms: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]

    @property
    def strides(self) -> list[int] | None:
        """One stride for each axis of the operand, 0 where its size is 1; None where an axis has several."""
        flat, out = self.read.position, []
        for atoms in self.parts:
            for a, b in zip(atoms, atoms[1:]):
                if flat.coef(a) != flat.coef(b) * self.atoms[b]:
                    return None
            out.append(flat.coef(atoms[-1]) if atoms else 0)
        return out


@dataclass(eq=False)
class Stage:
    """One loop nest.  kind: 'map', 'reduce', 'update', 'dot' or 'call'.

    atoms: sizes of the domain's axes after splitting.  domain: the node-level axes of the walk as forms in
    atoms.  kept: atoms of the result's axes (a reduction's others are folded).  expr: the value at a point.
    checks: (condition, GATHER node) pairs to verify.  reads: every Read in expr.
    """

    node: Node
    kind: str
    order: int
    atoms: list[int] = field(default_factory=list)
    domain: tuple[Affine, ...] = ()
    out_index: tuple[Affine, ...] = ()
    kept: list[int] = field(default_factory=list)
    folded: list[int] = field(default_factory=list)
    expr: Node | None = None
    checks: list[tuple[Node, Node]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    inputs: list[Node] = field(default_factory=list)
    views: tuple[View, ...] = ()
    refusals: list[tuple[Any, str]] = field(default_factory=list)  # (group, why fusion kept this stage out of it)

    @property
    def may_fail(self) -> bool:
        """Whether running it can end the program with an error."""
        if self.node.op == "CALL":
            from ..kernels.library.routine import find

            return find(self.node.arg[0]).fails
        return bool(self.checks) or self.node.op == "SCATTER"

    @cached_property
    def forms(self) -> list[Affine]:
        """Every index form of the finished stage: where it reads, stores, and asks for its position."""
        out = [r.position for r in self.reads] + [f for r in self.reads for f, _, _ in r.guards]
        if self.expr is not None:
            out += [n.arg for n in toposort([self.expr]) if n.op == "AT"]
            out += [f for n in toposort([self.expr]) if n.op == "GUARD" for f, _, _ in n.arg]
        if self.kind != "reduce":
            out.append(flatten(self.out_index, self.node.shape))
        return out

    def walks_as_one(self, atoms: Sequence[int], breaks: frozenset[int]) -> bool:
        """Whether every form walks ``atoms`` (outermost first) as one axis, but for the given breaks.

        A break is the number of elements inside it. The order of a fold must not depend on what it is
        fused with, so a fold's neighbouring axes are always one axis, and what cannot walk them so is not
        computed inside its loop.
        """
        inside = 1
        forms = self.forms
        for a, b in zip(reversed(atoms[:-1]), reversed(atoms[1:])):
            inside *= self.atoms[b]
            if inside not in breaks and any(f.coef(a) != f.coef(b) * self.atoms[b] for f in forms):
                return False
        return True

    def breaks(self) -> frozenset[int]:
        """Where this fold's axes are not neighbours, as numbers of elements inside."""
        found, inside = set(), 1
        for a, b in zip(reversed(self.folded[:-1]), reversed(self.folded[1:])):
            inside *= self.atoms[b]
            if b != a + 1:
                found.add(inside)
        return frozenset(found)

    @property
    def lane(self) -> str:
        """'inner' when a reduction folds the innermost axis of what it reads, else 'row'."""
        if not self.folded:
            return ""
        return "inner" if self.folded[-1] > (self.kept[-1] if self.kept else -1) else "row"


def peel(n: Node) -> Node:
    """Below reshapes and copies: what must be in memory for ``n`` to be."""
    while n.op == "RESHAPE" or (n.op == "COPY" and n.arg is None and not _is_leaf(n.src[0])):
        n = n.src[0]
    return n


def build_stages(roots: Sequence[Node]) -> list[Stage]:
    """The pass.  Raises VerifyError for a graph that is not well formed."""
    order = toposort(roots)
    kept = _boundaries(order, roots)
    while True:
        stages: list[Stage] = []
        try:
            for n in order:
                if n in kept and n.size:
                    stages.append(_build(n, len(stages), kept))
            return _reachable(stages, roots)
        except NotAffine as e:
            assert e.node is not None and e.node not in kept, "a value that is in memory has a linear index"
            kept.add(e.node)


def _reachable(stages: list[Stage], roots: Sequence[Node]) -> list[Stage]:
    """Drop stages that nobody reads in the end (a candidate may have been inlined away)."""
    by_node = {s.node: s for s in stages}
    live: set[Node] = set()
    stack = [peel(r) for r in roots]
    while stack:
        n = stack.pop()
        if n in live or n not in by_node:
            continue
        live.add(n)
        s = by_node[n]
        stack.extend([r.node for r in s.reads])
        stack.extend(s.inputs)
    kept = [s for s in stages if s.node in live]
    for i, s in enumerate(kept):
        s.order = i
    return kept


def _is_leaf(n: Node) -> bool:
    return n.op in ("PARAM", "BUFFER")


def _boundaries(order: Sequence[Node], roots: Sequence[Node]) -> set[Node]:
    kept: set[Node] = set()
    for r in roots:
        kept.add(peel(r))
    for n in order:
        if n.op == "REDUCE" or n.op in OPAQUE or n.op == "UPDATE":
            kept.add(n)
        if n.op in OPAQUE:
            viewed = n.op == "DOT" or reads_views(n)
            for s in _operands(n):
                base = operand_base(s, kept, n.op == "DOT") if viewed else peel(s)
                if not _is_leaf(base):
                    kept.add(base)
        if n.op == "UPDATE" and not _is_leaf(n.src[0]):
            base = peel(n.src[0])
            if not _fill(base):
                kept.add(base)
    owner = _owners(order, kept)
    # Cost of each value if it were inlined: (weight of its rows, arrays as large as itself that it reads).
    cost: dict[Node, tuple[int, int]] = {}
    for n in order:
        if n.op in ("CONST", "IOTA"):
            cost[n] = (0, 0)
        elif n in kept or _is_leaf(n):
            cost[n] = (0, 1)
        elif n.op in MOVEMENT or n.op == "COPY":
            x = n.src[0]
            w, arrays = cost[x]
            dear = w > EXPAND_WEIGHT or (w > RECOMPUTE_WEIGHT and owner.get(x) is MANY)
            if n.op in ("EXPAND", "WINDOW") and dear and (n.size >= 8 * x.size or x.size == 1 < n.size):
                base = peel(x)
                if base.op in ROWS or base.op == "GATHER":
                    kept.add(base)
                    w, arrays = 0, 1
            if n.op == "EXPAND" and x.size > 1 and _a_row_each(x.shape, n.shape):
                w = w * x.size // n.size  # loops over the last axes find it computed
            cost[n] = (w if x.size > 1 else 0, 0 if n.op == "EXPAND" and n.size > x.size else arrays)
        else:
            operands = dict.fromkeys(n.src)
            for s in operands:  # a dear number is computed once, not by every row that it is broadcast to
                if s.size == 1 < n.size and cost[s][0] > EXPAND_WEIGHT and peel(s).op in ROWS:
                    kept.add(peel(s))
                    cost[s] = (0, 0)
            w = sum(cost[s][0] for s in operands if s.size > 1 or n.size == 1)
            arrays = sum(cost[s][1] for s in operands)
            w += 40 if n.op == "RANDOM" else weight(n.op) if n.op in ROWS else 2
            cost[n] = (w, arrays if n.size > 1 else 0)
            shared = owner.get(n) is MANY and (w > RECOMPUTE_WEIGHT or arrays > RECOMPUTE_ARRAYS)
            if n.size > 1 and (shared or w > MOST_INLINED) and (n.op in ROWS or n.op in ("GATHER", "RANDOM")):
                kept.add(n)
                cost[n] = (0, 1)
    return {n for n in kept if not _is_leaf(n)}


def _a_row_each(shape: Sequence[int], wide: Sequence[int]) -> bool:
    """Whether an expansion repeats each value along the last axes alone, LONG times at least."""
    repeated = [a != b for a, b in zip(shape, wide)]
    first = repeated.index(True) if any(repeated) else len(shape)
    return all(a == 1 for a in shape[first:]) and math.prod(wide[first:]) >= LONG


MANY = object()


def _owners(order: Sequence[Node], kept: set[Node]) -> dict[Node, Any]:
    """The one loop nest that each value would be inlined into, or MANY."""
    owner: dict[Node, Any] = {}
    for n in reversed(order):
        mine = n if n in kept else owner.get(n)
        for s in n.src:
            if owner.setdefault(s, mine) is not mine:
                owner[s] = MANY
    return owner


def _fill(n: Node) -> bool:
    while n.op in ("EXPAND", "RESHAPE"):
        n = n.src[0]
    return n.op == "CONST"


def is_zero(n: Node) -> bool:
    """Whether every element is 0, as everybody knows."""
    while n.op in ("EXPAND", "RESHAPE"):
        n = n.src[0]
    return is_const(n, 0) and str(n.arg.value) != "-0.0"


def _operands(n: Node) -> Sequence[Node]:
    """What an opaque value reads: a scatter into zeros writes them itself."""
    return n.src[1:] if n.op == "SCATTER" and is_zero(n.src[0]) else n.src


def reads_views(n: Node) -> bool:
    """Whether a library call reads its operands where they lie."""
    if n.op != "CALL":
        return False
    from ..kernels.library.routine import find

    return find(n.arg[0]).strided


def below_windows(n: Node) -> Node:
    while n.op == "WINDOW":
        n = n.src[0]
    return n


def operand_base(n: Node, kept: set[Node], packed: bool = True) -> Node:
    """What a matrix operand is read from: below movement, and below what only a packing loop can do (``packed``):
    casts and padding.  Windows themselves are never read, even where they are in memory for others."""
    n = below_windows(n)
    while n not in kept:
        if n.op in MOVEMENT and (n.op != "PAD" or packed and not any(interior for _, _, interior in n.arg)):
            n = n.src[0]
        elif n.op == "COPY" and not _is_leaf(n.src[0]):
            n = n.src[0]
        elif packed and n.op == "CAST" and n.dtype.kind == "f" == n.src[0].dtype.kind and n.dtype.itemsize > n.src[0].dtype.itemsize:
            n = n.src[0]
        else:
            break
    return n


# -- one stage ---------------------------------------------------------------------------------------


def _build(n: Node, order: int, kept: set[Node]) -> Stage:
    if n.op == "DOT":
        return _build_dot(n, order, kept)
    if reads_views(n):
        views = tuple([_strided_view(x, kept) for x in n.src])
        return Stage(n, "call", order, inputs=[v.read.node for v in views], views=views)
    if n.op in OPAQUE:
        return Stage(n, "call", order, inputs=[peel(x) for x in _operands(n)])
    if n.op == "REDUCE":
        shape, kind, target = n.src[0].shape, "reduce", n.src[0]
    elif n.op == "UPDATE":
        shape, kind, target = n.src[1].shape, "update", n.src[1]
    else:
        shape, kind, target = n.shape, "map", n
    from .walk import Walk

    split: list[list[int]] = [[s] if s != 1 else [] for s in shape]
    while True:
        s = Stage(n, kind, order)
        _domain(s, shape, split)
        try:
            walk = Walk(s, kept)
            s.expr = walk.value(target, s.domain, ())
            s.checks = walk.checks
            s.reads = list(walk.reads)
            break
        except NeedSplit as e:
            _split(split, e)
    if kind == "reduce":
        axes = n.arg[1]
        at = 0
        for i, parts in enumerate(split):
            (s.folded if i in axes else s.kept).extend(range(at, at + len(parts)))
            at += len(parts)
        s.out_index = tuple([f for i, f in enumerate(s.domain) if i not in axes])
        source = peel(target)
        if not s.walks_as_one(s.folded, s.breaks()) and source not in kept and not _is_leaf(source):
            problem = NotAffine("the fold's axes are not walked as one")
            problem.node = source
            raise problem
    else:
        s.kept = list(range(len(s.atoms)))
        s.out_index = s.domain
        if kind == "update":
            s.inputs = [peel(n.src[0])] if not _fill(peel(n.src[0])) else []
            s.out_index = tuple([f * r[2] + r[0] for f, r in zip(s.domain, n.arg)])
    return s


def _build_dot(n: Node, order: int, kept: set[Node]) -> Stage:
    a, b = n.src
    va, vb = operand_view(a, kept), operand_view(b, kept)
    ba, bb, ca, cb = n.arg
    cut = [[va.atoms[k] for k in va.parts[i]] for i in range(len(a.shape))]
    cut_b = [[vb.atoms[k] for k in vb.parts[i]] for i in range(len(b.shape))]
    split: list[list[int]] = []
    for i, j in zip(ba, bb):
        split.append(nested([cut[i], cut_b[j]], n))
    split += [cut[i] for i in range(len(a.shape)) if i not in ba and i not in ca]
    split += [cut_b[i] for i in range(len(b.shape)) if i not in bb and i not in cb]
    s = Stage(n, "dot", order, inputs=[va.read.node, vb.read.node], views=(va, vb))
    _domain(s, n.shape, split)
    s.kept = list(range(len(s.atoms)))
    s.out_index = s.domain
    return s


def nested(lists: Sequence[Sequence[int]], n: Node) -> list[int]:
    """Common cut of a batch axis.  Raises NotAffine (to copy the second operand) when there is none."""
    from .places import refine

    found = refine(lists)
    if found is None:
        problem = NotAffine("the operands' batch axes do not nest")
        problem.node = below_windows(n.src[1])
        raise problem
    return found


def _strided_view(x: Node, kept: set[Node]) -> View:
    """How a library call reads ``x``.  Raises NotAffine (to copy it) unless each axis has a stride, the last 1."""
    view = operand_view(x, kept, packed=False)
    strides = view.strides
    if strides is None or (x.shape and strides[-1] != 1 < x.shape[-1]):
        problem = NotAffine("a library call's operand has one stride an axis")
        problem.node = x
        raise problem
    return view


def operand_view(x: Node, kept: set[Node], packed: bool = True) -> View:
    """How matrix operand ``x`` is read.  Raises NotAffine (naming x) when that is not one linear view."""
    from .walk import Walk

    base = operand_base(x, kept, packed)
    split: list[list[int]] = [[s] if s != 1 else [] for s in x.shape]
    while True:
        stage = Stage(x, "operand", 0)
        _domain(stage, x.shape, split)
        try:
            e = Walk(stage, {base}).value(x, stage.domain, ())
        except NeedSplit as need:
            _split(split, need)
            continue
        except NotAffine as problem:
            problem.node = below_windows(x)
            raise
        while e.op in ("CAST", "WHERE"):  # a guarded read is 0 elsewhere
            e = e.src[e.op == "WHERE"]
        if e.op != "READ":  # a constant
            refusal = NotAffine("a matrix operand is read from memory")
            refusal.node = below_windows(x)
            raise refusal
        if len(e.arg.guards) > MOST_BOUNDS:
            unbounded = NotAffine("an operand is padded along too many axes")
            unbounded.node = _outermost_pad(x)
            raise unbounded
        parts, at = [], 0
        for p in split:
            parts.append(tuple(range(at, at + len(p))))
            at += len(p)
        return View(e.arg, tuple(stage.atoms), tuple(parts))


def _outermost_pad(n: Node) -> Node:
    while n.op != "PAD":
        n = n.src[0]
    return n


def _domain(s: Stage, shape: Sequence[int], split: Sequence[Sequence[int]] | None = None) -> None:
    split = split if split is not None else [[n] if n != 1 else [] for n in shape]
    atoms: list[int] = []
    domain = []
    for parts in split:
        form = ZERO
        for size in parts:
            form = form * size + Affine.axis(len(atoms))
            atoms.append(size)
        domain.append(form)
    s.atoms, s.domain = atoms, tuple(domain)


def _split(split: list[list[int]], e: NeedSplit) -> None:
    at = 0
    for parts in split:
        if e.axis < at + len(parts):
            k = e.axis - at
            size = parts[k]
            parts[k : k + 1] = [size // e.inner, e.inner]
            return
        at += len(parts)
    raise AssertionError("split of an axis that is not there")


__all__ = ["Guard", "Read", "Stage", "View", "build_stages", "is_zero", "operand_base", "peel", "weight"]
