"""Sorting and selection: sort, top-k, k-th element, median, mode, quantiles, binary search.

In: a node and an axis.  Out: positions, which a library routine finds (:mod:`spiraltorch.kernels.library.sorting`), and
the values gathered at them: so a gradient goes back to where each value came from, and the gather fuses with what
follows.  nan is the largest number; equal elements keep their order.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 9), dtypes.float32)
    >>> [(n.op, n.dtype) for n in OPS["topk"].apply([x, 2], {})]
    [('GATHER', spiraltorch.float32), ('CALL', spiraltorch.int64)]
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .reduce import first_where, widened
from .registry import op, raise_dtype, wrap_dim

T = s.T
PAIR = ("values", "indices")


def last(x: Node, axis: int) -> Node:
    """``x`` with ``axis`` moved to the end."""
    rest = [i for i in range(len(x.shape)) if i != axis]
    return graph.permute(x, (*rest, axis))


def back(x: Node, axis: int) -> Node:
    """The end axis moved to ``axis``: undoes :func:`last`."""
    rank = len(x.shape)
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return graph.permute(x, tuple(order))


def along(x: Node, axis: int, routine: str, size: int, *static: Any) -> Node:
    """A routine that gives ``size`` positions for every line along ``axis``."""
    y = last(x, axis)
    return back(graph.call(routine, (y,), (*y.shape[:-1], size), dtypes.int64, *static), axis)


def order(x: Node, axis: int, descending: bool = False) -> Node:
    """Positions that sort ``x`` along ``axis``, int64, stable.  Few long lines are sorted in chunks and merged."""
    from ..kernels.library.sorting import chunk_of

    n = x.shape[axis]
    rows = x.size // n if n else 0
    if not x.size or chunk_of(rows, n, x.dtype.bits) == n:
        return along(x, axis, "sorting.argsort", n, descending, False)
    y = last(x, axis)
    planes, width = 2 if x.dtype.bits == 64 else 1, chunk_of(rows, n, x.dtype.bits)
    words = graph.call("sorting.argsort", (y,), (planes, rows, n), dtypes.uint64, descending, True)
    while 2 * width < n:
        words = graph.call("sorting.merge", (words,), words.shape, dtypes.uint64, width, False)
        width *= 2
    places = graph.call("sorting.merge", (words,), (rows, n), dtypes.int64, width, True)
    return back(graph.reshape(places, y.shape), axis)


def _vector(x: Node) -> Node:
    """A 0-d value as a vector of one."""
    return graph.reshape(x, (1,)) if not x.shape else x


def _picked(x: Node, places: Node, axis: int, keepdim: bool) -> tuple[Node, Node]:
    """Values at one position a line (``places`` without the axis), and the positions."""
    shape = lang.kept_shape(x.shape, (axis,))
    wide = graph.reshape(places, shape)
    values = graph.gather_along(x, wide, axis)
    shape = shape if keepdim else places.shape
    return graph.reshape(values, shape), graph.reshape(places, shape)


# -- sort ---------------------------------------------------------------------------------------------

_SORT = s.calls(
    s.call(T(2, 5, fill="distinct")), s.call(T(4, 3, fill="distinct"), 0, True), s.call(T()), s.call(T(2, 0)),
    s.call(T(0, 3), 0), s.call(T(1, 2, 70, fill="distinct"), dim=-1, descending=True, stable=True),
    s.call(T(250, fill="distinct"), stable=True),
    s.value_only(T(2, 14, fill="special"), 1, descending=True, stable=True), s.value_only(T(90), stable=True),
)  # fmt: skip


@op("sort", lies="input", acc=False, saves="o", results=PAIR, out="exact", samples=_SORT)
def sort(input: Node, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> tuple[Node, Node]:
    """(values, indices) in order along ``dim``; always stable, nan is the largest.  (torch.sort)"""
    axis = wrap_dim(dim, len(input.shape))
    if not input.shape:
        return input, graph.full(0, (), dtypes.int64)
    places = order(input, axis, bool(descending))
    return graph.gather_along(input, places, axis), places


@op("argsort", lies="input", acc=False, differentiable=False, out="exact", samples=s.calls(
    s.call(T(2, 5, fill="distinct")), s.call(T(4, 3, fill="distinct"), 0, True), s.call(T()), s.call(T(2, 0)),
    s.call(T(3, 50), dim=1, stable=True)))  # fmt: skip
def argsort(input: Node, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Node:
    """Positions that sort along ``dim``; always stable, nan is the largest.  (torch.argsort)"""
    axis = wrap_dim(dim, len(input.shape))
    return graph.reshape(order(_vector(input), axis, bool(descending)), input.shape)


@op("msort", lies="input", acc=False, out="exact", samples=s.calls(s.call(T(5, 2, fill="distinct")),
    s.call(T(0, 2)), s.call(T(7, fill="distinct"))))  # fmt: skip
def msort(input: Node) -> Node:
    """Values in order along the first axis.  (torch.msort)"""
    x = _vector(input)
    return graph.reshape(graph.gather_along(x, order(x, 0), 0), input.shape)


# -- selection ----------------------------------------------------------------------------------------


@op("topk", acc=False, saves="o", results=PAIR, out="exact", samples=s.calls(
    s.call(T(2, 9, fill="distinct"), 2), s.call(T(4, 3, fill="distinct"), 3, 0, False), s.call(T(), 1),
    s.call(T(1, 250, fill="distinct"), 7), s.call(T(2, 120, fill="distinct"), 20, largest=False, sorted=True),
    s.call(T(2, 5), 0), s.call(T(0, 4), 2), s.value_only(T(2, 14, fill="special"), 5)))  # fmt: skip
def topk(input: Node, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Node, Node]:
    """(values, indices) of the ``k`` largest (or smallest) along ``dim``, in order; of equal ones the first come
    first; nan is the largest.  (torch.topk)"""
    if input.dtype is dtypes.bool_:
        raise SpiralError("topk does not support bool dtypes on CPU")
    axis = wrap_dim(dim, len(input.shape))
    if not input.shape and k == 1:
        return input, graph.full(0, (), dtypes.int64)
    x = _vector(input)
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise SpiralError(f"selected index k out of range: k is {k} and dimension {axis} has {n} elements")
    if 4 * k > n or k > 1 << 15:
        found = order(x, axis, bool(largest))
        places = graph.slice_(found, tuple([(0, k if i == axis else m, 1) for i, m in enumerate(x.shape)]))
    else:
        places = along(x, axis, "sorting.topk", k, bool(largest), int(k))
    return graph.gather_along(x, places, axis), places


def kth_place(x: Node, rank: Any, axis: int) -> Node:
    """Position along ``axis`` of the element of that rank (a number, or a node of the lines' shape), from 0."""
    y = last(x, axis)
    lines = y.shape[:-1]
    ranks = rank if isinstance(rank, Node) else graph.full(rank, lines, dtypes.int64)
    return graph.call("sorting.kth", (y, ranks), lines, dtypes.int64)


def _refuse_empty_axis(name: str, x: Node, axis: int) -> None:
    if x.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")


@op("kthvalue", acc=False, saves="o", results=PAIR, out="exact", samples=s.calls(
    s.call(T(2, 5, fill="distinct"), 2), s.call(T(4, 3, fill="distinct"), 3, 0, True), s.call(T(), 1),
    s.call(T(1, 40, fill="distinct"), 11, dim=1), s.call(T(2, 14, fill="distinct"), 13)))  # fmt: skip
def kthvalue(input: Node, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Node, Node]:
    """(value, index) of the ``k``-th smallest along ``dim``, counted from 1; of equal ones the first.  (torch.kthvalue)"""
    axis = wrap_dim(dim, len(input.shape))
    if input.dtype is dtypes.bool_ and input.shape:
        raise_dtype(kthvalue, input.dtype)
    x = _vector(input)
    if not 1 <= k <= x.shape[axis]:
        raise SpiralError(f"kthvalue(): selected number k out of range for dimension {axis}: k is {k}, size {x.shape[axis]}")
    values, places = _picked(x, kth_place(x, int(k) - 1, axis), axis, keepdim)
    return (values, places) if input.shape else (graph.reshape(values, ()), graph.reshape(places, ()))


def _median(name: str, input: Node, dim: int | None, keepdim: bool, skip: bool) -> Any:
    if input.dtype is dtypes.bool_:
        raise_dtype(median if name == "median" else nanmedian, input.dtype)
    if dim is None:
        if not input.size:
            return graph.full(float("nan") if input.dtype.kind == "f" else -(1 << 63), (), input.dtype)
        x, axis = graph.reshape(input, (input.size,)), 0
    else:
        axis = wrap_dim(dim, len(input.shape))
        x = _vector(input)
        _refuse_empty_axis(name, x, axis)
    n = x.shape[axis]
    rank: Any = (n - 1) // 2
    if input.dtype.kind == "f":
        numbers = fold("add", cast(lang.eq(x, x), dtypes.int64), axis)
        # The nans are the last in order: the first of them is the median, or they do not count.
        rank = lang.row("IDIV", numbers - 1, 2) if skip else lang.where(lang.lt(numbers, n), numbers, rank)
        rank = lang.maximum(rank, 0)
    values, places = _picked(x, kth_place(x, rank, axis), axis, keepdim and bool(input.shape))
    if dim is None:
        return graph.reshape(values, ())
    return (values, places) if input.shape else (graph.reshape(values, ()), graph.reshape(places, ()))


def _median_grad(g: Any, out: Any, input: Node, dim: int | None = None, keepdim: bool = False) -> list[Node | None]:
    """Along an axis to the element chosen; of everything, in equal shares to all that equal it."""
    if dim is None:
        value = widened(out, input.shape, range(len(input.shape)))
        hit = lang.eq(input, value) | (lang.isnan(input) & lang.isnan(value))
        share = cast(fold("add", cast(hit, dtypes.int64), None), g.dtype)
        return [lang.where(hit, g / share, 0)]
    if not input.shape:
        return [g[0]]
    axes = (wrap_dim(dim, len(input.shape)),)
    chosen = lang.eq(graph.iota(input.shape, axes[0]), widened(out[1], input.shape, axes))
    return [lang.where(chosen, widened(g[0], input.shape, axes), 0)]


_MEDIAN = s.calls(
    s.call(T(2, 5, fill="distinct")), s.call(T(4, 6, fill="distinct"), 1), s.call(T(5, 3, fill="distinct"), 0, True),
    s.call(T()), s.call(T(), 0), s.call(T(2, 37, fill="distinct"), dim=-1, keepdim=False),
    s.value_only(T(14, fill="special")),
)  # fmt: skip


@op("median", acc=False, grad=_median_grad, saves="io", results=PAIR, out="exact", samples=_MEDIAN)
def median(input: Node, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the middle elements of all, or (values, indices) along ``dim``; nan if there is one.  (torch.median)"""
    return _median("median", input, dim, keepdim, skip=False)


@op("nanmedian", acc=False, grad=_median_grad, saves="io", results=PAIR, out="exact", samples=_MEDIAN)
def nanmedian(input: Node, dim: int | None = None, keepdim: bool = False) -> Any:
    """As :func:`median`, of the elements that are not nan.  (torch.nanmedian)"""
    return _median("nanmedian", input, dim, keepdim, skip=True)


@op("mode", acc=False, saves="o", results=PAIR, out="exact", samples=s.calls(
    s.call(T(2, 5, fill="distinct")), s.value_only(T(4, 14)), s.call(T(5, 3, fill="distinct"), 0, True), s.call(T())))  # fmt: skip
def mode(input: Node, dim: int = -1, keepdim: bool = False) -> tuple[Node, Node]:
    """(value, index) of the most frequent element along ``dim``, the smallest of several; the index is that of its
    last occurrence.  (torch.mode)"""
    axis = wrap_dim(dim, len(input.shape))
    x = _vector(input)
    _refuse_empty_axis("mode", x, axis)
    places = order(x, axis)
    ordered = graph.gather_along(x, places, axis)
    position = graph.iota(x.shape, axis)
    n = x.shape[axis]
    whole = [(0, m, 1) for m in x.shape]
    before = graph.slice_(ordered, tuple([(0, n - 1, 1) if i == axis else r for i, r in enumerate(whole)]))
    before = graph.pad(before, tuple([(1, 0, 0) if i == axis else (0, 0, 0) for i in range(len(x.shape))]))
    begins = lang.ne(ordered, before) | lang.eq(position, 0)
    run = position - graph.scan(lang.where(begins, position, 0), "max", axis)
    longest = fold("max", run, axis, keepdim=True)
    at = first_where(lang.eq(run, graph.expand(longest, run.shape)), axis, keepdim=True)
    chosen = fold("add", graph.gather_along(places, at, axis), axis)
    values, found = _picked(x, chosen, axis, keepdim)
    return (values, found) if input.shape else (graph.reshape(values, ()), graph.reshape(found, ()))


# -- quantiles ----------------------------------------------------------------------------------------


def _lerp(a: Node, b: Node, weight: Node) -> Node:
    """From whichever end is nearer, so that both ends are met exactly."""
    return lang.where(lang.lt(weight, 0.5), a + weight * (b - a), b - (b - a) * (1 - weight))


def _quantile(name: str, input: Node, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip: bool) -> Node:
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise SpiralError(f"{name}() input tensor must be either float or double dtype")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise SpiralError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )
    if not input.size:
        raise SpiralError(f"{name}() input tensor must be non-empty")
    if isinstance(q, Node):
        if len(q.shape) > 1:
            raise SpiralError(f"{name}() q must be a scalar or 1D tensor")
        if q.dtype is not input.dtype:
            raise SpiralError(f"{name}() q tensor must be same dtype as the input tensor")
    elif not 0 <= q <= 1:
        raise SpiralError(f"{name}() q must be in the range [0, 1] but got {q}")
    rank = len(input.shape)
    axis = 0 if dim is None else wrap_dim(dim, rank)
    x = _vector(graph.reshape(input, (input.size,)) if dim is None else input)
    places = order(x, axis)
    ordered = last(graph.gather_along(x, places, axis), axis)
    lines, n = ordered.shape[:-1], ordered.shape[-1]
    chosen = graph.reshape(q, (q.size,)) if isinstance(q, Node) else graph.full(q, (1,), x.dtype)
    shape = (*lines, chosen.size)
    wanted = graph.expand(graph.reshape(chosen, (1,) * len(lines) + (chosen.size,)), shape)
    numbers = fold("add", cast(lang.eq(ordered, ordered), x.dtype), len(lines), keepdim=True)
    if skip:
        top = lang.maximum(numbers - 1, 0)
        ranks = wanted * graph.expand(top, shape)
    else:
        ranks = lang.where(lang.lt(graph.expand(numbers, shape), n), float(n - 1), wanted * float(n - 1))
    if interpolation in ("lower", "higher", "nearest"):
        ranks = {"lower": lang.floor, "higher": lang.ceil, "nearest": lang.round_}[interpolation](ranks)
    below = graph.gather_along(ordered, cast(ranks, dtypes.int64), len(lines))
    if interpolation in ("linear", "midpoint"):
        above = graph.gather_along(ordered, cast(lang.ceil(ranks), dtypes.int64), len(lines))
        weight = ranks - lang.trunc(ranks) if interpolation == "linear" else graph.full(0.5, shape, x.dtype)
        below = _lerp(below, above, lang.detach(weight) if not isinstance(q, Node) else weight)
    if keepdim:
        kept = (1,) * rank if dim is None else tuple([1 if i == axis else m for i, m in enumerate(input.shape)])
    else:
        kept = lines
    if not isinstance(q, Node) or not q.shape:
        return graph.reshape(below, kept)
    front = graph.permute(below, (len(lines), *range(len(lines))))
    return graph.reshape(front, (chosen.size, *kept))


def _quantiles(*extra: Any) -> Any:
    return s.calls(
        s.call(T(2, 5, fill="distinct"), 0.4), s.call(T(2, 5, fill="distinct"), T(3, fill="open"), 1),
        s.call(T(4, 3, fill="distinct"), T(fill="open"), 0, True), s.call(T(6, fill="distinct"), 0.5, interpolation="lower"),
        s.call(T(6, 2, fill="distinct"), 0.3, 0, interpolation="midpoint"),
        s.call(T(6, fill="distinct"), 0.3, keepdim=True, interpolation="nearest"), s.call(T(), 0.3),
        s.value_only(T(2, 14, fill="special"), 0.4, 1), *extra,
    )  # fmt: skip


@op("quantile", acc=False, out="exact", samples=_quantiles())
def quantile(input: Node, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Node:
    """The ``q``-th quantiles (a number, or a tensor whose axis comes first) along ``dim``, or of all; nan where there
    is a nan.  float32 and float64 alone.  (torch.quantile)"""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, skip=False)


@op("nanquantile", acc=False, out="exact", samples=_quantiles())
def nanquantile(input: Node, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Node:
    """As :func:`quantile`, of the elements that are not nan.  (torch.nanquantile)"""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, skip=True)


# -- binary search ------------------------------------------------------------------------------------


def searched(edges: Node, values: Node, right: bool, sorter: Node | None = None) -> Node:
    """How many elements of the sorted rows of ``edges`` are below each value, int64; both of one type."""
    if not edges.shape[-1]:
        return graph.full(0, values.shape, dtypes.int64)
    inputs = (cast(edges, edges.dtype.acc), cast(values, edges.dtype.acc)) + ((sorter,) if sorter is not None else ())
    return graph.call("sorting.search", inputs, values.shape, dtypes.int64, bool(right), sorter is not None)


@op("searchsorted", acc=False, differentiable=False, where=("",), out="exact", samples=s.calls(
    s.call(T(7, fill="ones"), T(2, 3)), s.call(T(2, 5, fill="ones"), T(2, 3), right=True),
    s.call(T(7, fill="ones"), 1.0, out_int32=True), s.call(T(7, fill="ones"), T(), side="right"),
    s.call(T(3, fill="ones"), T(4), sorter=T(3, fill="index", high=3)), s.call(T(0), T(3)), s.call(T(3), T(0))))  # fmt: skip
def searchsorted(sorted_sequence: Node, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Node | None = None) -> Node:  # fmt: skip
    """How many elements of each sorted row are less than (``right``: or equal to) the values of the same row; one row
    serves all.  (torch.searchsorted)"""
    edges = sorted_sequence
    if side not in (None, "left", "right"):
        raise SpiralError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise SpiralError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
    if not edges.shape:
        raise SpiralError("torch.searchsorted(): boundaries tensor should have positive dimension, but got 0 dimension")
    if not isinstance(input, Node):
        if len(edges.shape) != 1:
            raise SpiralError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1")
        d = dtypes.of_python(input)
        common = d if d.category > edges.dtype.category else edges.dtype
        edges, input = cast(edges, common), graph.full(input, (), common)
    elif input.dtype is not edges.dtype:
        common = dtypes.promote_types(edges.dtype, input.dtype)
        edges, input = cast(edges, common), cast(input, common)
    if len(edges.shape) > 1 and edges.shape[:-1] != input.shape[:-1]:
        raise ShapeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
            f"and input value tensor must match, but got {list(edges.shape)} and {list(input.shape)}"
        )
    if sorter is not None:
        if sorter.shape != edges.shape:
            raise ShapeError(
                f"torch.searchsorted(): boundary and sorter must have the same size, but got {list(edges.shape)} and {list(sorter.shape)}"
            )
        if sorter.dtype is not dtypes.int64:
            raise SpiralError(f"torch.searchsorted(): sorter must be a tensor of long dtype but got dtype {sorter.dtype.name}")
    if edges.dtype is dtypes.bool_ and input.size:
        raise_dtype(searchsorted, edges.dtype)
    found = searched(edges, input, right or side == "right", sorter)
    return cast(found, dtypes.int32) if out_int32 else found


@op("bucketize", acc=False, differentiable=False, where=("",), out="exact", samples=s.calls(
    s.call(T(2, 3), T(7, fill="ones")), s.call(1.5, T(7, fill="ones")), s.call(T(4), T(0)),
    s.call(T(5), T(7, fill="ones"), right=True, out_int32=True)))  # fmt: skip
def bucketize(input: Any, boundaries: Node, *, out_int32: bool = False, right: bool = False) -> Node:
    """How many of the sorted ``boundaries`` are less than (``right``: or equal to) each element.  (torch.bucketize)"""
    if len(boundaries.shape) != 1:
        raise SpiralError(f"boundaries tensor must be 1 dimension, but got dim({len(boundaries.shape)})")
    return searchsorted.body(boundaries, input, out_int32=out_int32, right=right)  # type: ignore[no-any-return]


@op("isin", out="exact", acc=False, differentiable=False, where=("",), samples=s.calls(
    s.call(T(2, 5), T(4)), s.call(T(3), T(0)), s.call(T(14, fill="special"), T(14, fill="special")),
    s.call(T(9, fill="index", high=5), T(2, 2, fill="index", high=5), invert=True)))  # fmt: skip
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Node:
    """Whether each element is one of ``test_elements``, by binary search.  (torch.isin)"""
    from .registry import result_type

    if not isinstance(elements, Node) and not isinstance(test_elements, Node):
        raise TypeError("isin(): elements or test_elements must be a tensor")
    common = result_type([elements, test_elements])
    if common is dtypes.bool_:
        raise SpiralError("Unsupported input type encountered for isin(): Bool")
    x, t = (cast(v, common) if isinstance(v, Node) else graph.full(v, (), common) for v in (elements, test_elements))
    if not t.size:
        return graph.full(invert, x.shape, dtypes.bool_)
    t = graph.reshape(t, (t.size,))
    known = graph.gather_along(t, order(t, 0), 0)
    edges = lang.where(lang.isnan(known), float("inf"), known) if known.dtype.kind == "f" else known  # nan is in no order
    at = lang.minimum(searched(edges, x, False), t.size - 1)
    hit = lang.eq(graph.gather(known, at, 0), x)
    return ~hit if invert else hit


__all__ = ["along", "kth_place", "order", "searched"]
