"""Lower matrix products: a DOT and the pointwise stages that read its result become one Gemm tree.

The walk's axes are the atoms of batch, m and n.  Neighbouring m (or n) atoms that the epilogue walks
as one are one axis; what is left over becomes batch axes, along which an operand may stand still.
Operands are read through their views: a stride where the view is linear, else a table of offsets,
which is how a convolution becomes a matrix product without its windows ever being in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import float32
from ..ir.index import Affine, NotAffine, flatten, row_major
from ..ir.kernel import Bound, Coef, Gemm, Operand, Phase, Store
from ..ir.node import Node, make
from .places import Group, collapse, refine, spread
from .stages import Stage, View

LEAST_CHANNELS, MOST_CHANNELS = 8, 1024  # of what Winograd's products compute; rows of filters are as many at least
LEAST_SIDE, LEAST_TILES = 7, 64  # of an image, of all
THIN = 64  # an epilogue may not cut n below this, unless it was thinner before


class Table(tuple):  # type: ignore[type-arg]
    """Offsets, in elements, that a packing loop looks up: a tuple of (size, stride) from outermost in."""

    __slots__ = ()

    def offsets(self) -> np.ndarray:
        total = np.zeros(1, np.int64)
        for size, stride in self:
            total = (total[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)
        return total


@dataclass
class Axes:
    """The kernel's axes as runs of atoms: ``batch`` (several), then m, then n; atoms are ``sizes``."""

    sizes: list[int]
    batch: list[list[int]]
    m: list[int]
    n: list[int]
    forms: dict[Stage, list[Affine]]
    swapped: bool


def matrix_axes(g: Group) -> Axes | None:
    """How the group's atoms become axes; None when an epilogue would leave strips thinner than ``THIN``."""
    dot = g.stages[0]
    fine = refine([[t.atoms[a] for a in g.places[t].rows] for t in g.stages])
    if fine is None:
        return None
    nb = len(dot.node.arg[0])
    free_a = len(dot.node.src[0].shape) - nb - len(dot.node.arg[2])
    shape = dot.node.shape
    size_b, size_m = math.prod(shape[:nb]), math.prod(shape[nb : nb + free_a])
    fine = _cut(fine, [size_b, size_m, math.prod(shape[nb + free_a :])])
    if fine is None:
        return None
    parts = _partition(fine, [size_b, size_m])
    forms: dict[Stage, list[Affine]] = {}
    for t in g.stages:
        out = [Affine()] * len(t.atoms)
        rows = g.places[t].rows
        for a, form in zip(rows, spread([t.atoms[a] for a in rows], fine, 0)):
            out[a] = form
        forms[t] = out
    everything = [_flat_store(t, forms[t]) for t in g.stages[1:] or g.stages]
    for t in g.stages[1:]:
        everything += [f.substitute(forms[t]) for f in t.forms]
    named = dict(enumerate(fine))
    batch = collapse([*everything, *_batch_forms(dot, parts[0], fine)], parts[0], named)
    m, n = (collapse(everything, part, named) for part in parts[1:])
    store = everything[0]
    # The epilogue's vectors run along n: a matrix times a vector is the vector times the transpose.
    swapped = bool(m) and (not n or store.coef(n[-1][-1]) != 1 and store.coef(m[-1][-1]) == 1)
    if swapped:
        m, n = n, m
    width = math.prod(fine[k] for k in n[-1]) if n else 1
    whole = math.prod(fine[k] for run in n for k in run)
    image = math.prod(window_of(dot.node) or (0,))
    if len(g.stages) > 1 and (swapped or width % image if image else width < min(whole, THIN)):
        return None
    runs_batch = batch + m[:-1] + n[:-1]
    return Axes(fine, runs_batch, m[-1] if m else [], n[-1] if n else [], forms, swapped)


def slides(dot: Node) -> bool:
    """Whether the second operand is windows of 3 x 3, a step apart, over two axes."""
    b = dot.src[1]
    for _ in range(2):
        if b.op != "WINDOW" or b.arg[1:] != (3, 1, 1):
            return False
        b = b.src[0]
    rank = len(b.shape)
    own = dot.src[1].src[0].arg[0], dot.src[1].arg[0]  # the axes that slide
    return own == (rank - 2, rank - 1) and dot.arg[3][-2:] == (rank, rank + 1) and dot.dtype.acc is float32


def window_of(dot: Node) -> tuple[int, int] | None:
    """The sizes of an image of results, if Winograd's products are to compute it: it is large enough for that to pay.

    The choice decides about bits, so it looks at nothing but the DOT: neither at what it is fused with nor at memory.
    """
    if not slides(dot) or not dot.size:
        return None
    height, width = dot.src[1].shape[-4:-2]
    filters = dot.src[0].shape
    channels = math.prod(filters[i] for i in dot.arg[2]) // 9
    rows = math.prod(filters[i] for i in range(len(filters)) if i not in dot.arg[0] and i not in dot.arg[2])
    images = math.prod(dot.shape) // (math.prod(filters[i] for i in dot.arg[0]) * rows * height * width)
    tiles = images * -(-height // 2) * -(-width // 2)
    fits = LEAST_CHANNELS <= channels <= MOST_CHANNELS and rows >= LEAST_CHANNELS
    return (height, width) if fits and min(height, width) >= LEAST_SIDE and tiles >= LEAST_TILES else None


def _batch_forms(dot: Stage, atoms: Sequence[int], fine: Sequence[int]) -> list[Affine]:
    """Where the operands are along the batch atoms: one that stands still along some keeps them apart."""
    out = []
    for view, dims in zip(dot.views, dot.node.arg[:2]):
        for form in (view.read.position, *[f for f, _, _ in view.read.guards]):
            own = [(view.atoms[k], form.coef(k)) for d in dims for k in view.parts[d]]
            strides = _fine_strides(own, [fine[k] for k in atoms])
            out.append(Affine(0, tuple([(k, c) for k, c in zip(atoms, strides) if c])))
    return out


def _cut(fine: Sequence[int], products: Sequence[int]) -> list[int] | None:
    """``fine`` cut so that it falls into groups of the given products."""
    return refine([list(fine), [p for p in products if p != 1]]) if any(p != 1 for p in products) else list(fine)


def _partition(fine: Sequence[int], products: Sequence[int]) -> list[list[int]]:
    parts: list[list[int]] = []
    k = 0
    for p in products:
        part, n = [], 1
        while n < p:
            part.append(k)
            n *= fine[k]
            k += 1
        parts.append(part)
    parts.append(list(range(k, len(fine))))
    return parts


def _flat_store(t: Stage, atoms: Sequence[Affine]) -> Affine:
    return flatten([f.substitute(atoms) for f in t.out_index], t.node.shape)


def lower_dot(g: Group, stored: set[Node], memory: Callable[[Node], Any]) -> Any:
    """A 'dot' group as one Gemm launch."""
    from .lower import Arguments, Emitter, Launch, Translator

    axes = matrix_axes(g)
    assert axes is not None, "fusion accepts only epilogues whose axes can be found"
    dot = g.stages[0]
    args = Arguments()
    runs = [*axes.batch, axes.m, axes.n]
    slots = [args.slot(math.prod(axes.sizes[k] for k in run)) for run in runs]
    a, b = dot.node.src
    ba, bb, ca, cb = dot.node.arg
    window = [args.slot(s) for s in window_of(dot.node) or (0, 0)] if slides(dot.node) else None
    depth = args.slot(math.prod(a.shape[i] for i in ca))
    free_a = [i for i in range(len(a.shape)) if i not in ba and i not in ca]
    free_b = [i for i in range(len(b.shape)) if i not in bb and i not in cb]
    bounds = _partition(axes.sizes, [math.prod(a.shape[i] for i in ba), math.prod(a.shape[i] for i in free_a)])
    view_a, view_b = dot.views
    left = _operand(view_a, ba, free_a, ca, bounds[0], bounds[1], axes, axes.n if axes.swapped else axes.m, args, memory)
    right = _operand(view_b, bb, free_b, cb, bounds[0], bounds[2], axes, axes.m if axes.swapped else axes.n, args, memory)
    if axes.swapped:
        left, right = right, left
    merge = {k: (new, k == run[-1]) for new, run in enumerate(runs) for k in run}
    em = Emitter(args, memory, merge)
    tr = Translator(g, axes.sizes)
    stores = []
    outs = []
    for t in g.stages:
        if t.node not in stored:
            continue
        value = make("VALUE", (), 0, (), t.node.dtype) if t is dot else tr.stage(t, axes.forms[t])
        key = memory(t.node)
        form = _flat_store(t, axes.forms[t])
        param = args.param(key, t.node.dtype, "out")
        stores.append(Store(param, em.access(key, form), em.expr(value)))
        outs.append(t.node)
    kernel = Gemm(
        tuple(slots), depth, left, right, dot.node.dtype, tuple(args.modes), tuple(args.scalar_types), len(args.ints),
        Phase((), (), tuple(stores)), (window[0], window[1]) if window else None,
    )  # fmt: skip
    return Launch(kernel, args.params, args.ints, args.scalars, outs, {}, g, [t.node for t in g.stages])


def _operand(
    view: View,
    batch: Sequence[int],
    free: Sequence[int],
    contract: Sequence[int],
    batch_atoms: Sequence[int],
    free_atoms: Sequence[int],
    axes: Axes,
    outer: Sequence[int],
    args: Any,
    memory: Callable[[Node], Any],
) -> Operand:
    """How a kernel reads ``view``: where the element is, and the bounds that padding puts on its coordinates."""
    read = view.read
    param = args.param(memory(read.node), read.node.dtype, "in")

    def walks(form: Affine) -> tuple[Coef | str, Coef | str, tuple[Coef, ...]]:
        """Along the axis, along k, and per batch axis."""

        def strides(dims: Sequence[int]) -> list[tuple[int, int]]:
            return [(view.atoms[k], form.coef(k)) for d in dims for k in view.parts[d]]

        # The result's atoms may be finer than the operand's; each gets its own stride.
        fine: dict[int, int] = {}
        for dims, atoms in ((batch, batch_atoms), (free, free_atoms)):
            fine.update(zip(atoms, _fine_strides(strides(dims), [axes.sizes[k] for k in atoms])))
        per_batch: list[Coef] = []
        for run in axes.batch:
            table = _merge([(axes.sizes[k], fine.get(k, 0)) for k in run])
            if len(table) > 1:
                raise NotAffine("batch axes are not evenly spaced")
            per_batch.append(args.coef(table[0][1]) if table else 0)
        along = _walk([(axes.sizes[k], fine.get(k, 0)) for k in outer], args)
        return along, _walk(strides(contract), args), tuple(per_batch)

    own, const = walks(read.position), read.position.const
    bounds = []
    for form, _, size in read.guards:
        along, deep, per_batch = walks(form)
        bounds.append(Bound(along, deep, args.slot(size), per_batch, args.slot(form.const)))
    return Operand(param, *own, args.coef(const) if const else 0, tuple(bounds))


def _fine_strides(own: Sequence[tuple[int, int]], sizes: Sequence[int]) -> list[int]:
    """Strides along finer axes ``sizes`` of a walk over axes ``own`` = (size, stride)."""
    cut = refine([[s for s, _ in own], list(sizes)]) if sizes else []
    if cut != [s for s in sizes if s != 1]:
        raise NotAffine("the operand's axes do not nest with the result's")
    out: list[int] = []
    k = 0
    for size, stride in own:
        group, n = [], 1
        while n < size:
            group.append(sizes[k])
            n *= sizes[k]
            k += 1
        out.extend([c * stride for c in row_major(group)])
    return out


def _merge(walk: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring axes joined where their strides allow."""
    out: list[tuple[int, int]] = []
    for size, stride in walk:
        if size == 1:
            continue
        if out and out[-1][1] == stride * size:
            out[-1] = (out[-1][0] * size, stride)
        else:
            out.append((size, stride))
    return out


def _walk(walk: Sequence[tuple[int, int]], args: Any) -> Coef | str:
    """A stride, or the name of a table parameter, for a walk along several axes."""
    merged = _merge(walk)
    if len(merged) <= 1:
        return args.coef(merged[0][1]) if merged else 0  # type: ignore[no-any-return]
    from ..dtypes import int64

    return f"p{args.param(Table(merged), int64, 'in')}"


__all__ = ["Axes", "Table", "lower_dot", "matrix_axes"]
