"""Groups of stages, and how their atoms map to the rows and inner axes of one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..ir.index import ZERO, Affine
from ..ir.node import Node
from .stages import Stage


@dataclass
class Place:
    """Where a stage's atoms go: ``rows`` and ``inner`` are atoms, outermost first."""

    rows: list[int]
    inner: list[int]


@dataclass(eq=False)
class Group:
    """Stages of one launch.  kind: 'map' (rows only), 'row' (with reductions), 'dot', 'update', 'call'."""

    index: int
    kind: str
    stages: list[Stage] = field(default_factory=list)
    places: dict[Stage, Place] = field(default_factory=dict)
    rows: int = 1
    lane: str = "row"
    needs: int = 0  # bit set of groups this one depends on, transitively
    leaves: dict[Node, None] = field(default_factory=dict)
    clones: set[Stage] = field(default_factory=set)  # small folds computed again here: they have no rows
    columns: list[Stage] = field(default_factory=list)  # sums over blocks of rows: a task walks the rows of a block

    def add(self, s: Stage, place: Place) -> None:
        self.stages.append(s)
        self.places[s] = place


def atoms_at(p: Stage, index: Sequence[Affine], sizes: Sequence[int]) -> list[Affine]:
    """The value of each atom of ``p`` at ``index`` into its result; ZERO for folded ones."""
    out = [ZERO] * len(p.atoms)
    for form, own in zip(index, p.out_index):
        terms = sorted(own.terms, key=lambda t: -t[1])
        rest = form
        for k, (atom, c) in enumerate(terms):
            if k + 1 == len(terms):
                out[atom] = rest
            else:
                out[atom], rest = rest.divmod(c, sizes)
    return out


def refine(lists: Sequence[Sequence[int]]) -> list[int] | None:
    """The coarsest axis sizes into which every list of sizes can be cut; None when they do not nest.

    All lists have one product, outermost size first.

        >>> refine([[6, 4], [24], [6, 2, 2]])
        [6, 2, 2]
    """
    out: list[int] = [s for s in lists[0] if s != 1]
    for sizes in lists[1:]:
        a, b = [s for s in out], [s for s in sizes if s != 1]
        if a == b:
            continue
        merged: list[int] = []
        while a and b:
            x, y = a.pop(), b.pop()
            small, large = min(x, y), max(x, y)
            if large % small:
                return None
            merged.append(small)
            if large != small:
                (a if x == large else b).append(large // small)
        if a or b:
            return None
        merged.reverse()
        out = merged
    return out


def spread(sizes: Sequence[int], fine: Sequence[int], first: int) -> list[Affine]:
    """Each of ``sizes`` as a form in the axes first, first + 1, ... that have the ``fine`` sizes."""
    out: list[Affine] = []
    k = 0
    for s in sizes:
        form, n = ZERO, 1
        while n < s:
            form = form * fine[k] + Affine.axis(first + k)
            n *= fine[k]
            k += 1
        out.append(form)
    return out


def collapse(
    forms: Sequence[Affine], axes: Sequence[int], sizes: dict[int, int], apart: Sequence[int] = ()
) -> list[list[int]]:
    """Runs of neighbouring ``axes`` that every form walks as one contiguous axis (outermost first).

    Axes in ``apart`` begin a run even where they need not.
    """
    runs: list[list[int]] = []
    for k in axes:
        if runs and k not in apart:
            last = runs[-1][-1]
            if all(f.coef(last) == f.coef(k) * sizes[k] for f in forms):
                runs[-1].append(k)
                continue
        runs.append([k])
    return runs
