"""Reductions beside the basic ones: those that leave nan out, pairs of results, differences and integrals along an axis.

In: a node and the axes to fold.  Out: nodes without them (or with size 1, ``keepdim``).

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["diff"].apply([graph.param(0, (2, 5), dtypes.int32)], {}).shape
    (2, 4)
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import number, refuse_bool, together
from .reduce import Dims, norm, sum_, widened
from .registry import OPS, op, wrap_dim, wrap_dims
from .variance import moments, std, var

T = s.T
_NAN = s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), (0, -1), True), s.call(T(0)), s.call(T(2, 0), 1),
    s.value_only(T(12, fill="finite")), s.value_only(T(3, 14, fill="special"), 0),
)  # fmt: skip


def _without_nan(x: Node) -> Node:
    return lang.where(lang.isnan(x), 0, x) if x.dtype.kind == "f" else x


def _present(x: Node) -> Node:
    return lang.not_(lang.isnan(x))


def _nansum_grad(g: Node, out: Node, input: Node, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
                 ) -> list[Node | None]:  # fmt: skip
    up = widened(g, input.shape, wrap_dims(dim, len(input.shape)))
    return [lang.where(lang.isnan(input), 0, cast(up, input.dtype))]


@op("nansum", acc=False, grad=_nansum_grad, samples=_NAN)
def nansum(input: Node, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """Sum over ``dim`` (None: all) with nan counting as 0.  (torch.nansum)"""
    return sum_.body(_without_nan(input), dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


@op("nanmean", acc=False, samples=_NAN)
def nanmean(input: Node, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """Mean over ``dim`` (None: all) of the elements that are not nan, for floats.  (torch.nanmean)"""
    if input.dtype.kind != "f":
        raise SpiralError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype.name}")
    target = dtype or input.dtype
    axes = wrap_dims(dim, len(input.shape))
    wide = cast(input, target.acc)
    count = fold("add", cast(_present(input), wide.dtype), axes, keepdim)
    return cast(fold("add", _without_nan(wide), axes, keepdim) / count, target)


# -- pairs ------------------------------------------------------------------------------------------------

_PAIRS = s.calls(
    s.call(T(2, 3)), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), (0, 2), False), s.call(T(2, 3), False),
    s.call(T(2, 3), dim=1, correction=0), s.call(T(4, 3), 0, correction=2, keepdim=True),
)  # fmt: skip


def _mean_beside(input: Node, dim: Any, keepdim: bool) -> Node:
    axes = wrap_dims(None if isinstance(dim, bool) else dim, len(input.shape))
    centre = moments(input, axes)[0]
    return centre if keepdim else graph.reshape(centre, tuple([n for a, n in enumerate(input.shape) if a not in axes]))


def _beside_mean(spread: Node, g: Node, input: Node, dim: Any) -> list[Node | None]:
    axes = wrap_dims(None if isinstance(dim, bool) else dim, len(input.shape))
    return [spread + widened(g, input.shape, axes) * number(1.0 / max(1, lang.count(input.shape, axes)), input)]


def _var_mean_grad(g: Any, out: Any, input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
                   *, correction: Any = None) -> list[Node | None]:  # fmt: skip
    (spread,) = var.grad(g[0], out[0], input, dim, unbiased, keepdim, correction=correction)
    return _beside_mean(spread, g[1], input, dim)


@op("var_mean", kinds="buifc", where=("",), grad=_var_mean_grad, samples=_PAIRS)
def var_mean(input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
             ) -> tuple[Node, Node]:  # fmt: skip
    """The pair of :func:`var` and :func:`mean`.  (torch.var_mean)"""
    return var.body(input, dim, unbiased, keepdim, correction=correction), _mean_beside(input, dim, keepdim)


def _std_mean_grad(g: Any, out: Any, input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
                   *, correction: Any = None) -> list[Node | None]:  # fmt: skip
    (spread,) = std.grad(g[0], out[0], input, dim, unbiased, keepdim, correction=correction)
    return _beside_mean(spread, g[1], input, dim)


@op("std_mean", kinds="buifc", where=("",), grad=_std_mean_grad, saves="io", samples=_PAIRS)
def std_mean(input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
             ) -> tuple[Node, Node]:  # fmt: skip
    """The pair of :func:`std` and :func:`mean`.  (torch.std_mean)"""
    return std.body(input, dim, unbiased, keepdim, correction=correction), _mean_beside(input, dim, keepdim)


@op("aminmax", acc=False, saves="io", results=("min", "max"), samples=s.calls(
    s.call(T(2, 3)), s.value_only(T()), s.call(T(2, 3, 4), dim=1), s.call(T(2, 3, 4), dim=-1, keepdim=True),
    s.call(T(2, 3), keepdim=True), s.value_only(T(14, fill="special"))))  # fmt: skip
def aminmax(input: Node, *, dim: int | None = None, keepdim: bool = False) -> tuple[Node, Node]:
    """The pair (smallest, largest) element along ``dim`` (None: of all).  (torch.aminmax)"""
    rank = len(input.shape)
    axes = tuple(range(rank)) if dim is None else (wrap_dim(dim, rank),) if rank or wrap_dim(dim, 0) else ()
    if any([input.shape[a] == 0 for a in axes]):
        if dim is None:
            raise SpiralError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity.")
        raise IndexError(f"aminmax(): Expected reduction dim {axes[0]} to have non-zero size.")
    return fold("min", input, axes, keepdim), fold("max", input, axes, keepdim)


@op("dist", pointwise=False, operands=2, acc=False, kinds="buifc", numbers="none", refuses=refuse_bool, samples=s.calls(
    s.call(T(2, 3), T(2, 3)), s.call(T(2, 3), T(3), 1), s.call(T(4), T(4), 3.0), s.call(T(4), T(4), float("inf")),
    s.call(T(), T()), s.call(T(4), T(4), 0.0)))  # fmt: skip
def dist(input: Node, other: Node, p: float = 2.0) -> Node:
    """The ``p``-norm of ``input - other``.  (torch.dist)"""
    a, b = together(input, other)
    if a.dtype.kind not in "fc":
        raise SpiralError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {a.dtype.name}")
    return norm.body(a - b, p)  # type: ignore[no-any-return]


# -- along an axis ----------------------------------------------------------------------------------------


def _part(x: Node, axis: int, start: int, stop: int) -> Node:
    ranges = [(0, n, 1) for n in x.shape]
    ranges[axis] = (start, max(stop, start), 1)
    return graph.slice_(x, tuple(ranges))


def _joined(parts: list[Node], axis: int) -> Node:
    return OPS["cat"].body(parts, axis)  # type: ignore[no-any-return]


@op("diff", kinds="buifc", acc=False, samples=s.calls(
    s.call(T(5)), s.call(T(2, 5), 2), s.call(T(4, 3), 1, 0), s.call(T(2, 3), prepend=T(2, 1), append=T(2, 2)),
    s.call(T(1)), s.call(T(0, 3)), s.call(T(3), 5), s.call(T(3), 0)))  # fmt: skip
def diff(input: Node, n: int = 1, dim: int = -1, prepend: Node | None = None, append: Node | None = None) -> Node:
    """The ``n``-th differences of neighbours along ``dim``; for bool, whether they differ.  (torch.diff)"""
    if not input.shape:
        raise SpiralError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise SpiralError(f"order must be non-negative but got {n}")
    axis = wrap_dim(dim, len(input.shape))
    ends = [p for p in (prepend, input, append) if p is not None]
    for p in ends:
        if len(p.shape) != len(input.shape):
            raise SpiralError("diff expects prepend or append to be the same dimension as input")
        if any([a != b for i, (a, b) in enumerate(zip(p.shape, input.shape)) if i != axis]):
            raise SpiralError(
                f"diff expects the shape of tensor to prepend or append to match that of input except along the differencing "
                f"dimension; {list(p.shape)} beside {list(input.shape)}"
            )
    x = _joined(ends, axis) if n and len(ends) > 1 else input
    for _ in range(min(n, x.shape[axis])):
        length = x.shape[axis]
        later, earlier = _part(x, axis, min(1, length), length), _part(x, axis, 0, max(0, length - 1))
        x = lang.row("XOR", later, earlier) if x.dtype is dtypes.bool_ else lang.row("SUB", later, earlier)
    return x


def _panels(name: str, y: Node, x: Node | None, dx: Any, dim: int) -> tuple[Node, int]:
    """Twice the area of each panel between neighbours along the axis, and the axis."""
    if not y.shape:
        raise IndexError(f"{name}: Dimension specified as {dim} but tensor has no dimensions")
    if dtypes.bool_ in (y.dtype, x.dtype if x is not None else None):
        raise SpiralError(f"{name}: received a bool input for `x` or `y`, but bool is not supported")
    axis = wrap_dim(dim, len(y.shape))
    size = y.shape[axis]
    heights = _part(y, axis, min(1, size), size) + _part(y, axis, 0, max(0, size - 1))
    if x is None:
        if dx is None:
            return heights, axis
        return lang.row("MUL", *together(heights, dx)), axis
    if len(x.shape) == 1:
        if x.shape[0] != size:
            raise SpiralError(f"{name}: There must be one `x` value for each sample point")
        x = graph.reshape(x, tuple([size if i == axis else 1 for i in range(len(y.shape))]))
    elif len(x.shape) < len(y.shape):
        x = graph.reshape(x, (1,) * (len(y.shape) - len(x.shape)) + x.shape)
    at = axis + len(x.shape) - len(y.shape)
    widths = _part(x, at, min(1, x.shape[at]), x.shape[at]) - _part(x, at, 0, max(0, x.shape[at] - 1))
    return lang.row("MUL", *together(heights, widths)), axis + max(0, len(x.shape) - len(y.shape))


def _half(total: Node) -> Node:
    return total * number(0.5, total) if total.dtype.kind in "fc" else cast(total, dtypes.get_default_dtype()) * 0.5


_AREAS = s.calls(
    s.call(T(5)), s.call(T(2, 5), dx=0.5), s.call(T(2, 5), T(5)), s.call(T(4, 3), T(4, 3), dim=0), s.call(T(4, 3), T(4), dim=0),
    s.call(T(2, 1)), s.call(T(2, 3), T(2, 3)), s.call(T(0, 3)),
)  # fmt: skip


@op("trapezoid", kinds="buifc", where=("",), aliases=("trapz",), samples=_AREAS)
def trapezoid(y: Node, x: Node | None = None, *, dx: Any = None, dim: int = -1) -> Node:
    """The integral of ``y`` along ``dim`` by the trapezoidal rule, at places ``x`` or ``dx`` apart.  (torch.trapezoid)"""
    axis = wrap_dim(dim, len(y.shape)) if y.shape else 0
    if y.shape and not y.shape[axis]:  # of no place, torch gives zeros of y's type, whatever x is
        return graph.full(0, (*y.shape[:axis], *y.shape[axis + 1 :]), y.dtype)
    panels, axis = _panels("trapezoid", y, x, dx, dim)
    return _half(sum_.body(panels, axis))


@op("cumulative_trapezoid", kinds="buifc", where=("",), samples=_AREAS)
def cumulative_trapezoid(y: Node, x: Node | None = None, *, dx: Any = None, dim: int = -1) -> Node:
    """The integral of ``y`` up to each place along ``dim`` by the trapezoidal rule.  (torch.cumulative_trapezoid)"""
    panels, axis = _panels("cumulative_trapezoid", y, x, dx, dim)
    total = panels if panels.dtype.kind in "fc" else cast(panels, dtypes.int64)
    return _half(graph.scan(total, "add", axis))
