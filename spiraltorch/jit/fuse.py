"""Fuse: stages that walk the same rows become one kernel.

In: stages in dependency order.  Out: groups in dependency order.  A group has rows (its parallel
axes); each of its stages either is one value a row, or walks inner axes at each row.  ``can_join``
answers with a placement or with the sentence why not; ``ST_LOG=fuse`` prints the sentences.

Placement is found from how a stage reads what is already in the group: if the flat row position of
the producer is exactly the row-major position of some of the reader's axes, those axes are its rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config import config, log
from ..ir.index import ZERO, Affine, NeedSplit, NotAffine, radix
from ..ir.node import Node
from .columns import alone, beside, check_column, columns_last, is_column
from .lower_matrix import matrix_axes
from .places import Group, Place, atoms_at, refine
from .remat import is_again
from .stages import Read, Stage

MOST_READS = 24  # parameters of one kernel
MOST_STAGES = 48
MOST_POINTWISE = 192  # of values that are made one element after the other: pieces of one long formula, mostly
SMALL_FOLD = 1 << 14  # elements that a kernel folds again for itself rather than wait for another's result
FEW_ROWS = 8  # a group of fewer rows is not given long rows to walk: the cores would be idle
LONG_ROW = 1 << 15


class Fusion:
    """State of the pass: which group each stage is in."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.by_node = {s.node: s for s in stages}
        self.groups: list[Group] = []
        self.home: dict[Stage, Group] = {}
        self.readers: dict[Node, list[Group]] = {}
        # Whether a value depends on a reduction of its own group, so that it exists only at its row.
        self.bound: dict[Stage, bool] = {}

    def producers(self, s: Stage) -> list[Stage]:
        found = {r.node: None for r in s.reads} | dict.fromkeys(s.inputs)
        return [self.by_node[n] for n in found if n in self.by_node]

    def run(self) -> list[Group]:
        for s in columns_last(self.stages):
            g = self._choose(s)
            if g is None:
                g = self._new(s)
            self.home[s] = g
            self.bound[s] = g.kind == "row" and self._is_bound(s, g)
            self._connect(s, g)
        return self._sorted()

    # -- joining -------------------------------------------------------------------------------------

    def _choose(self, s: Stage) -> Group | None:
        if s.kind in ("dot", "call", "update") or s.node.size == 0:
            return None
        seen: set[int] = set()
        candidates: list[Group] = []
        for p in reversed(self.producers(s)):
            g = self.home[p]
            if g.index not in seen:
                seen.add(g.index)
                candidates.append(g)
        for r in s.reads:
            for g in self.readers.get(r.node, ())[-4:]:
                if g.index not in seen and g.kind in ("map", "row"):
                    seen.add(g.index)
                    candidates.append(g)
        self._unite(s, candidates)
        for g in [g for g in candidates if g.stages]:
            verdict = self.can_join(s, g)
            if isinstance(verdict, Place):
                for p in self._clonable(s, g):
                    g.stages.append(p)
                    g.places[p] = Place([], list(p.folded))
                    g.clones.add(p)
                    self._connect(p, g)
                g.add(s, verdict)
                if is_column(s) and g.lane == "inner":
                    g.columns.append(s)
                return g
            s.refusals.append((g, verdict))
            if "fuse" in config.log:
                log("fuse", f"{s.node.op} {list(s.node.shape)} stays out of kernel {g.index} ({g.kind}): {verdict}")
        return None

    def _unite(self, s: Stage, candidates: Sequence[Group]) -> None:
        """Kernels that fold the same rows and of which ``s`` reads both become one: an emptied one has no stages."""
        own = [g for g in candidates if g.kind == "row" and any(self.home[p] is g for p in self.producers(s))]
        for g, h in [(g, h) for k, g in enumerate(own) for h in own[k + 1 :]]:
            if g.stages and h.stages and self._same_walk(s, g, h):
                g.leaves.update(h.leaves)
                g.places.update(h.places)
                g.stages = sorted([*g.stages, *h.stages], key=_order)
                self.home.update(dict.fromkeys(h.stages, g))
                h.stages = []
                for n in h.leaves:
                    self.readers[n] = [r for r in self.readers[n] if r is not h and r is not g] + [g]
                g.needs |= h.needs
                pair = 1 << g.index | 1 << h.index
                for other in self.groups:
                    if other.needs & pair:
                        other.needs |= pair | g.needs

    def _same_walk(self, s: Stage, g: Group, h: Group) -> bool:
        """Whether the kernels' rows are the same to ``s``, their folds walk them alike, and neither waits for the other."""
        if (g.rows, g.lane) != (h.rows, h.lane) or g.clones or h.clones:
            return False
        if len(g.stages) + len(h.stages) >= MOST_STAGES or self._reads([*g.leaves, *h.leaves], g, h) > MOST_READS:
            return False
        if g.needs >> h.index & 1 or h.needs >> g.index & 1:
            return False
        try:
            at = [self._align(s, k, [r for r in s.reads if self.home.get(self.by_node.get(r.node)) is k]) for k in (g, h)]  # type: ignore[arg-type]
        except (NeedSplit, NotAffine):
            return False
        if not all(isinstance(p, Place) for p in at) or at[0].rows != at[1].rows:  # type: ignore[union-attr]
            return False
        mine = [(t, k.places[t]) for k in (g, h) for t in k.stages]
        if refine([_sizes(t, p.rows) for t, p in mine]) is None:
            return False
        folds = [t for t, _ in mine if t.kind == "reduce"]
        inner = {_inner(t, p) for t, p in mine if p.inner}
        return len(inner) == 1 and all(t.walks_as_one(p.inner, f.breaks()) for t, p in mine if p.inner for f in folds)

    def can_join(self, s: Stage, g: Group) -> Place | str:
        """Where ``s`` goes in ``g``, or why it cannot."""
        if g.kind in ("call", "update"):
            return f"a {g.kind} is a launch of its own"
        if is_again(s.node):
            return "it is computed again, to save memory, when it is read"
        most = MOST_STAGES if g.kind != "map" else MOST_POINTWISE
        if len(g.stages) >= most:
            return f"the kernel has {most} values already"
        if self._reads([*g.leaves, *[r.node for r in s.reads]], g) > MOST_READS:
            return f"the kernel would read more than {MOST_READS} arrays"
        bit = 1 << g.index
        again = self._clonable(s, g)
        for p in self.producers(s):
            home = self.home[p]
            if home is not g and home.needs & bit and p not in again and p not in g.clones:
                return f"it also reads {p.node.op} {list(p.node.shape)}, which itself needs this kernel's result"
        inside = [r for r in s.reads if self.home.get(self.by_node.get(r.node)) is g and self.by_node[r.node] not in g.clones]  # type: ignore[arg-type]
        try:
            place = self._align(s, g, inside) if inside else self._sibling(s, g)
            if isinstance(place, str) and not inside and is_column(s):
                place = beside(s, g) or place
        except (NeedSplit, NotAffine):
            return "its index is not linear in the kernel's rows"
        if isinstance(place, str):
            return place
        return self._check(s, g, place)

    def _reads(self, nodes: Sequence[Node], *groups: Group) -> int:
        """How many of ``nodes`` one kernel of these groups would read: those that it does not compute."""
        return sum([not any(self.home.get(self.by_node.get(n)) is g for g in groups) for n in dict.fromkeys(nodes)])  # type: ignore[arg-type]

    def _clonable(self, s: Stage, g: Group) -> list[Stage]:
        """Small folds to one value that ``s`` reads: the kernel can compute them itself."""
        if g.kind != "row" or g.rows == 1:
            return []
        found = []
        for p in self.producers(s):
            if p.kind != "reduce" or p.kept or p in g.clones or self.home[p] is g:
                continue
            if p.node in g.leaves:  # the kernel waits for it already
                continue
            if math.prod(p.atoms[a] for a in p.folded) > SMALL_FOLD or p.checks or p.lane != g.lane:
                continue
            if any(self.home[q].needs & (1 << g.index) or self.home[q] is g for q in self.producers(p)):
                continue
            found.append(p)
        return found

    def _align(self, s: Stage, g: Group, inside: Sequence[Read]) -> Place | str:
        """Placement from how ``s`` reads values of the group."""
        place: Place | None = None
        for r in inside:
            p = self.by_node[r.node]
            if p in g.columns:
                return f"it reads {p.node.op} {list(p.node.shape)}, which a task finishes after its last row"
            at = g.places[p]
            if r.flat or r.guards or any(f.dyn for f in r.index):
                if self.bound[p] or (r.flat and len(p.out_index) > 1):  # a flat position does not say which row that is
                    return f"it reads {p.node.op} at a run-time index"
                continue
            atoms = atoms_at(p, r.index, s.atoms)
            rows = radix(_flat(atoms, at.rows, p.atoms), s.atoms)
            if rows is None:
                if self.bound[p] or g.kind == "dot":
                    return f"it reads {p.node.op} {list(p.node.shape)} at other rows than its own"
                continue
            if p.kind == "reduce" or not at.inner:
                mine = Place(rows, [a for a in range(len(s.atoms)) if a not in rows])
            else:
                inner = radix(_flat(atoms, at.inner, p.atoms), s.atoms)
                if inner is None or set(inner) & set(rows) or len(inner) + len(rows) != len(s.atoms):
                    if self.bound[p]:
                        return f"it walks {p.node.op} {list(p.node.shape)} in another order"
                    continue
                mine = Place(rows, inner)
            if place is not None and place.rows != mine.rows:
                return "it reads values of the kernel at different rows"
            if place is None or (len(mine.inner) and p.kind != "reduce"):
                place = mine
        if place is None:
            return "it reads the kernel's values at other places than they are made"
        return place

    def _sibling(self, s: Stage, g: Group) -> Place | str:
        """Placement of a stage that shares inputs with the group but reads none of its values."""
        if g.kind == "dot":
            return "a matrix product takes in only what reads its result"
        mine = {(r.node, r.index) for r in s.reads if r.node.size > 1 or not s.atoms}
        for t in g.stages:
            if t.kind != s.kind or t.atoms != s.atoms or t.kept != s.kept:
                continue
            if t not in g.clones and any((r.node, r.index) in mine for r in t.reads):
                at = g.places[t]
                return Place(list(at.rows), list(at.inner))
        return "it shares no walk with the kernel"

    def _check(self, s: Stage, g: Group, place: Place) -> Place | str:
        rows = math.prod(s.atoms[a] for a in place.rows)
        inner = math.prod(s.atoms[a] for a in place.inner)
        cuts = [_sizes(t, g.places[t].rows) for t in g.stages if t not in g.clones]
        if not place.inner and rows == g.rows and refine([*cuts, _sizes(s, place.rows)]) is None:
            return "its rows are cut into axes that do not nest with the kernel's"
        if g.kind == "dot":
            return self._check_epilogue(s, g, place)
        if is_column(s) and g.kind == "row" and g.lane == "inner":
            return check_column(s, g, place)
        if place.inner:
            folds = [s] if s.kind == "reduce" else [t for t in g.stages if t.kind == "reduce" and _inner(t, g.places[t]) == inner]
            others = {t: g.places[t].inner for t in g.stages if _inner(t, g.places[t]) == inner and t not in g.clones}
            for t, atoms in {**others, s: place.inner}.items():
                if not all(t.walks_as_one(atoms, f.breaks()) for f in folds):
                    return "it walks the kernel's inner axes in pieces"
        if s.kind == "reduce":
            if place.rows == s.kept and place.inner == s.folded:
                if rows != g.rows:
                    return f"it has {rows} rows, the kernel {g.rows}"
            elif not place.inner and g.kind == "map":
                return self._reframe(s, g, place)
            else:
                return "it folds other axes than the kernel's inner ones"
            if g.kind == "row" and s.lane and g.lane != s.lane:
                return "one runs lanes along the fold, the other across it"
            if g.kind == "map":  # one value a row is known already; the fold walks the rows
                g.kind, g.lane = "row", s.lane or "row"
            return place
        if rows != g.rows:
            return f"it has {rows} rows, the kernel {g.rows}"
        if place.inner and g.kind == "map":
            return "it is larger than the kernel's values; reading them back is cheaper than walking rows"
        if place.inner and rows < FEW_ROWS and inner > LONG_ROW:
            return f"{rows} rows of {inner} would leave cores idle"
        return place

    def _check_epilogue(self, s: Stage, g: Group, place: Place) -> Place | str:
        if s.kind == "reduce" or place.inner:
            return "a matrix product takes in only pointwise work of its own size"
        if s.checks or any(r.guards or any(f.dyn for f in r.index) for r in s.reads):
            return "a matrix product's epilogue has no guarded or run-time indices"
        trial = Group(g.index, "dot", [*g.stages, s], {**g.places, s: place}, g.rows)
        if matrix_axes(trial) is None:
            return "its layout would cut the matrix product into thin strips"
        return place

    def _reframe(self, s: Stage, g: Group, place: Place) -> Place | str:
        """Turn a pointwise kernel into the rows of a reduction that folds some of its axes."""
        if s.node.size < FEW_ROWS and math.prod(s.atoms) > LONG_ROW:
            return f"{s.node.size} rows would leave cores idle"
        kept = [a in s.kept for a in place.rows]
        sizes = [s.atoms[a] for a in place.rows]
        moved: dict[Stage, Place] = {}
        for t in g.stages:
            rows = g.places[t].rows
            if [t.atoms[a] for a in rows] != sizes:
                return "the kernel's axes are cut elsewhere"
            moved[t] = Place([a for a, k in zip(rows, kept) if k], [a for a, k in zip(rows, kept) if not k])
            if not t.walks_as_one(moved[t].inner, s.breaks()):
                return "the kernel walks the folded axes in pieces"
        mine = Place([a for a, k in zip(place.rows, kept) if k], [a for a, k in zip(place.rows, kept) if not k])
        if mine.rows != s.kept or mine.inner != s.folded:
            return "it folds the kernel's axes in another order"
        g.places.update(moved)
        g.kind, g.rows, g.lane = "row", math.prod(s.atoms[a] for a in mine.rows), s.lane or "row"
        return mine

    # -- bookkeeping -----------------------------------------------------------------------------------

    def _new(self, s: Stage) -> Group:
        kind = {"map": "map", "reduce": "row"}.get(s.kind, s.kind)
        g = Group(len(self.groups), kind)
        walk = alone(s) if is_column(s) else None
        if walk is not None:
            g.add(s, walk)
            g.columns.append(s)
            g.rows, g.lane = math.prod(s.atoms[a] for a in walk.rows), "inner"
        elif s.kind == "reduce":
            g.add(s, Place(list(s.kept), list(s.folded)))
            g.rows = math.prod(s.atoms[a] for a in s.kept)
            g.lane = s.lane or "row"
        else:
            g.add(s, Place(list(range(len(s.atoms))), []))
            g.rows = math.prod(s.atoms)
        self.groups.append(g)
        return g

    def _is_bound(self, s: Stage, g: Group) -> bool:
        if s.kind == "reduce":
            return True
        return any(self.home[p] is g and self.bound[p] for p in self.producers(s))

    def _connect(self, s: Stage, g: Group) -> None:
        for r in s.reads:
            g.leaves[r.node] = None
            seen = self.readers.setdefault(r.node, [])
            if g not in seen:
                seen.append(g)
        new = g.needs
        for p in self.producers(s):
            home = self.home[p]
            if home is not g and p not in g.clones:
                new |= home.needs | (1 << home.index)
        if new != g.needs:
            g.needs = new
            bit = 1 << g.index
            for other in self.groups:
                if other.needs & bit:
                    other.needs |= new

    def _sorted(self) -> list[Group]:
        """Groups, producers first."""
        done: set[int] = set()
        out: list[Group] = []
        direct = {
            g.index: sorted(
                {self.home[p].index for s in g.stages for p in self.producers(s) if self.home[p] is not g and p not in g.clones}
            )
            for g in self.groups
        }
        stack = [(g.index, False) for g in reversed(self.groups)]
        while stack:
            k, ready = stack.pop()
            if k in done:
                continue
            if ready:
                done.add(k)
                if self.groups[k].stages:
                    out.append(self.groups[k])
                continue
            stack.append((k, True))
            stack.extend([(d, False) for d in reversed(direct[k]) if d not in done])
        return out


def _flat(atoms: Sequence[Affine], order: Sequence[int], sizes: Sequence[int]) -> Affine:
    total = ZERO
    for a in order:
        total = total * sizes[a] + atoms[a]
    return total


def _order(s: Stage) -> int:
    return s.order


def _inner(s: Stage, place: Place) -> int:
    return math.prod(s.atoms[a] for a in place.inner)


def _sizes(s: Stage, atoms: Sequence[int]) -> list[int]:
    return [s.atoms[a] for a in atoms]


def fuse(stages: Sequence[Stage]) -> list[Group]:
    """The pass."""
    return Fusion(stages).run()
