"""Sums over blocks of rows, made by the kernel that walks the rows for something else.

In: a sum ``[blocks.., rows of a block.., columns..] -> [blocks.., columns..]`` (``rules.sum_of_rows_by_blocks`` makes them)
and a group of rows.  Out: its place in the group, or the sentence why it has none.

    layer norm backward     rows   dx = rstd * (w - mean(w) - h * mean(w * h))
                            column sum over 64 rows of g * h      the same walk: one task is a block of rows
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.index import Affine
from ..ir.kernel import MOST_COLUMNS
from ..ir.node import Node
from .places import Group, Place, refine, spread
from .stages import Stage

MOST_SUMS = 6  # of one kernel: each has its part of the columns on the stack
NARROW, WIDE = 32, 768  # columns that a kernel of their own walks row by row


def is_column(s: Stage) -> bool:
    """Whether ``s`` is a sum over a block of rows, with blocks before and columns after it."""
    if s.kind != "reduce" or not s.folded or s.node.arg[0] != "add" or s.node.dtype.acc is not s.node.dtype:
        return False
    first, last = s.folded[0], s.folded[-1]
    return s.folded == list(range(first, last + 1)) and first > 0 and last + 1 < len(s.atoms)


def columns_last(stages: Sequence[Stage]) -> list[Stage]:
    """The stages in an order in which such sums, and what reads them, come after everything that does not."""
    late: dict[object, None] = {}
    for s in stages:
        if is_column(s) or any(r.node in late for r in s.reads) or any(n in late for n in s.inputs):
            late[s.node] = None
    return [s for s in stages if s.node not in late] + [s for s in stages if s.node in late]


def check_column(s: Stage, g: Group, place: Place) -> Place | str:
    """Whether the walk of a group of rows, at ``place``, is the sum's."""
    if place.rows != list(range(s.folded[-1] + 1)) or place.inner != list(range(s.folded[-1] + 1, len(s.atoms))):
        return "it sums over other rows than the kernel's"
    if _size(s, place.rows) != g.rows:
        return f"it has {_size(s, place.rows)} rows, the kernel {g.rows}"
    inner = _size(s, place.inner)
    if inner > MOST_COLUMNS:
        return f"its {inner} columns are more than fit beside the rows"
    if len(g.columns) >= MOST_SUMS:
        return f"the kernel makes {MOST_SUMS} such sums already"
    if any(_size(t, t.folded) != _size(s, s.folded) for t in g.columns):
        return "its blocks of rows are not the kernel's"
    own = [t for t in g.stages if t not in g.clones]
    if refine([*[_sizes(t, g.places[t].rows) for t in own], _sizes(s, place.rows)]) is None:
        return "its rows are cut into axes that do not nest with the kernel's"
    for t in own:
        if t.kind == "reduce" and t not in g.columns and _size(t, g.places[t].inner) == inner:
            if not s.walks_as_one(place.inner, t.breaks()):
                return "it walks the kernel's inner axes in pieces"
    return place


def alone(s: Stage) -> Place | None:
    """The place of a sum in a group of its own, where the columns' part stays in the nearest cache: rows are walked one after
    the other, as memory has them.  Else lanes go down blocks of columns; the bits are the same."""
    first = s.folded[-1] + 1
    inner = list(range(first, len(s.atoms)))
    return Place(list(range(first)), inner) if NARROW <= _size(s, inner) <= WIDE else None


def beside(s: Stage, g: Group) -> Place | None:
    """The place of a sum that reads nothing the group makes, but an element that it reads at the same point."""
    rows = list(range(s.folded[-1] + 1))
    place = Place(rows, list(range(len(rows), len(s.atoms))))
    for t in g.stages if g.kind == "row" and g.lane == "inner" else ():
        at = g.places[t]
        if t in g.clones or any(_size(t, a) != _size(s, b) for a, b in ((at.rows, place.rows), (at.inner, place.inner))):
            continue
        outer = refine([_sizes(t, at.rows), _sizes(s, place.rows)])
        inner = refine([_sizes(t, at.inner), _sizes(s, place.inner)])
        if outer is not None and inner is not None and _reads(t, at, (outer, inner)) & _reads(s, place, (outer, inner)):
            return place
    return None


def _reads(s: Stage, place: Place, fine: Sequence[Sequence[int]]) -> set[tuple[Node, Affine]]:
    """What a stage reads, at which positions, in the axes of ``fine``: those of the rows, then those inside."""
    forms = [Affine()] * len(s.atoms)
    for atoms, sizes, first in ((place.rows, fine[0], 0), (place.inner, fine[1], len(fine[0]))):
        for a, form in zip(atoms, spread(_sizes(s, atoms), sizes, first)):
            forms[a] = form
    return {(r.node, r.position.substitute(forms)) for r in s.reads if r.node.size > 1 and not r.position.dyn and not r.guards}


def _sizes(s: Stage, atoms: Sequence[int]) -> list[int]:
    return [s.atoms[a] for a in atoms]


def _size(s: Stage, atoms: Sequence[int]) -> int:
    return math.prod(_sizes(s, atoms))


__all__ = ["MOST_SUMS", "alone", "beside", "check_column", "columns_last", "is_column"]
