"""Reductions and softmax.

In: a node and the axes to fold.  Out: a node without them (or with size 1, ``keepdim``); ``max``/``min``
along an axis give (values, indices).  16-bit floats fold in float32 and are rounded once.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 3), dtypes.int32)
    >>> OPS["sum"].apply([x, 1], {}).dtype, OPS["sum"].apply([x, -1, True], {}).shape
    (spiraltorch.int64, (2, 1))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import FLOAT, INT, DType
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .compare import truth
from .elementwise import number, together
from .registry import op, raise_dtype, wrap_dim, wrap_dims

Dims = int | Sequence[int] | None
T = s.T


def _cases(fill: str = "normal", **kwargs: Any) -> Any:
    """Samples for reductions over one, several and all axes."""
    return s.calls(
        s.call(T(2, 3, fill=fill), **kwargs), s.call(T(fill=fill), **kwargs),
        s.call(T(2, 3, 4, fill=fill), 1, **kwargs), s.call(T(2, 3, 4, fill=fill), -1, True, **kwargs),
        s.call(T(2, 3, 4, fill=fill), (0, -1), **kwargs), s.call(T(5, fill=fill), dim=0, keepdim=True, **kwargs),
        s.call(T(2, 0), 0, **kwargs), s.value_only(T(14, fill="special"), **kwargs),
    )  # fmt: skip


_EMPTY = s.calls(s.call(T(0)), s.call(T(2, 0), 1))


def size_of(a: Node, axes: Sequence[int]) -> Node:
    """How many elements a fold over ``axes`` takes in, as data of ``a``'s type."""
    return number(float(lang.count(a.shape, axes)), a)


def widened(g: Node, shape: Sequence[int], axes: Sequence[int]) -> Node:
    """A reduced value repeated over the axes that were folded."""
    return graph.expand(graph.reshape(g, lang.kept_shape(tuple(shape), axes)), tuple(shape))


def total_dtype(input: Node, dtype: DType | None) -> DType:
    """The type that sums and products of ``input`` have: integers and bools add up in int64."""
    if dtype is not None:
        return dtype
    return dtypes.int64 if input.dtype.category <= INT else input.dtype


@op("sum", kinds="buifc", acc=False, saves="", samples=s.more(_cases(), _EMPTY, s.calls(
    s.call(T(2, 3), dtype=dtypes.float64), s.call(T(2, 3), 0, dtype=dtypes.float32),
    s.call(T(2, 3), ()))))  # fmt: skip
def sum_(input: Node, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """Sum over ``dim`` (None: all); integers and bools sum in int64 unless ``dtype`` says.  (torch.sum)"""
    target = total_dtype(input, dtype)
    return cast(fold("add", cast(input, target.acc), wrap_dims(dim, len(input.shape)), keepdim), target)


@op("mean", kinds="buifc", acc=False, saves="", samples=s.more(_cases(), _EMPTY, s.calls(s.call(T(2, 3), dtype=dtypes.float64))))
def mean(input: Node, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """Mean over ``dim`` (None: all), for floats; of nothing it is nan.  (torch.mean)"""
    target = dtype or input.dtype
    if target.category < FLOAT:
        raise SpiralError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {target.name}"
        )
    axes = wrap_dims(dim, len(input.shape))
    total = fold("add", cast(input, target.acc), axes, keepdim)
    return cast(total / size_of(cast(input, target.acc), axes), target)


@op("prod", kinds="buifc", acc=False, samples=s.more(s.calls(
    s.call(T(2, 3, fill="positive")), s.call(T()), s.call(T(2, 3, 4, fill="positive"), 1), s.call(T(2, 3), -1, True),
    s.call(T(0)), s.call(T(2, 3), 0, dtype=dtypes.float64))))  # fmt: skip
def prod(input: Node, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """Product over ``dim`` (None: all); integers and bools multiply in int64.  (torch.prod)"""
    target = total_dtype(input, dtype)
    return cast(fold("mul", cast(input, target.acc), wrap_dims(dim, len(input.shape)), keepdim), target)


# -- extremes -------------------------------------------------------------------------------------


def _refuse_empty(name: str, input: Node, dim: Any, axes: Sequence[int], error: type[Exception] = SpiralError) -> None:
    if dim is None or dim == ():
        if input.size == 0:
            raise error(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
                "Specify the reduction dim with the 'dim' argument."
            )
        return
    for a in axes:
        if input.shape[a] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {a} to have non-zero size.")


@op("amax", out="exact", acc=False, saves="io", samples=s.more(_cases(), s.calls(s.call(T(0, 2), 1))))
def amax(input: Node, dim: Dims = (), keepdim: bool = False) -> Node:
    """Largest element over ``dim`` (): all); nan wins; equal ones share the gradient.  (torch.amax)"""
    axes = wrap_dims(dim, len(input.shape))
    _refuse_empty("amax", input, dim, axes)
    return fold("max", input, axes, keepdim)


@op("amin", out="exact", acc=False, saves="io", samples=_cases())
def amin(input: Node, dim: Dims = (), keepdim: bool = False) -> Node:
    """Smallest element over ``dim`` (): all); nan wins; equal ones share the gradient.  (torch.amin)"""
    axes = wrap_dims(dim, len(input.shape))
    _refuse_empty("amin", input, dim, axes)
    return fold("min", input, axes, keepdim)


def first_where(hit: Node, axis: int, keepdim: bool = False) -> Node:
    """Position of the first true element along ``axis``, int64."""
    n = hit.shape[axis]
    return fold("min", lang.where(hit, graph.iota(hit.shape, axis), n), axis, keepdim)


def is_extreme(input: Node, extreme: Node) -> Node:
    """Where ``input`` equals the fold's result, a nan counting as equal to nan."""
    hit = lang.eq(input, extreme)
    return hit | lang.isnan(input) if input.dtype.kind == "f" else hit


def _arg_extreme(name: str, how: str, input: Node, dim: int | None, keepdim: bool) -> Node:
    if input.dtype is dtypes.bool_:
        raise SpiralError(f"{name}(): does not support bool input")
    rank = len(input.shape)
    axis = 0 if dim is None else wrap_dim(dim, rank)
    _refuse_empty(name, input, dim, [axis] if rank else [], IndexError)
    flat = graph.reshape(input, (input.size,)) if dim is None or not rank else input
    extreme = fold(how, flat, axis, keepdim=True)
    at = first_where(is_extreme(flat, graph.expand(extreme, flat.shape)), axis, keepdim)
    return graph.reshape(at, (1,) * rank if keepdim else ()) if flat is not input else at


_ARG = s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), -1, True),
    s.call(T(5), dim=0, keepdim=True),
    s.call(T(2, 3), None, True), s.call(T(2, 0), 0), s.call(T(14, fill="special")),
    s.call(T(2, 14, fill="special"), 1),
)  # fmt: skip


@op("argmax", out="exact", acc=False, differentiable=False, samples=_ARG)
def argmax(input: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """Position (int64) of the first largest element along ``dim``, or in the flat tensor.  (torch.argmax)"""
    return _arg_extreme("argmax", "max", input, dim, keepdim)


@op("argmin", out="exact", acc=False, differentiable=False, samples=_ARG)
def argmin(input: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """Position (int64) of the first smallest element along ``dim``, or in the flat tensor.  (torch.argmin)"""
    return _arg_extreme("argmin", "min", input, dim, keepdim)


def _extreme(name: str, how: str, input: Node, dim: Any, keepdim: bool, other: Node | None) -> Any:
    if other is not None or isinstance(dim, Node):
        return lang.row(how.upper(), *together(input, dim if other is None else other))
    if dim is not None and not isinstance(dim, int):
        raise TypeError(f"{name}(): argument 'dim' must be int or Tensor, not {type(dim).__name__}; a{name} takes several axes")
    rank = len(input.shape)
    axes = wrap_dims(dim, rank)
    _refuse_empty(name, input, dim, axes)
    values = fold(how, input, axes, keepdim)
    if dim is None:
        return values
    if not rank:
        return input, graph.full(0, (), dtypes.int64)
    hit = is_extreme(input, widened(values, input.shape, axes))
    return values, first_where(hit, axes[0], keepdim)


def _extreme_grad(g: Any, out: Any, input: Node, dim: Any = None, keepdim: bool = False, *,
                  other: Node | None = None) -> list[Node | None]:  # fmt: skip
    if isinstance(dim, Node) or other is not None:
        input, second = together(input, dim if other is None else other)
        half = lang.where(lang.eq(input, second), g * 0.5, g)
        return [lang.where(lang.eq(v, out) | lang.isnan(out), half, 0) for v in (input, second)]  # a nan passes to both
    if dim is None:
        hit = is_extreme(input, widened(out, input.shape, tuple(range(len(input.shape)))))
        share = cast(fold("add", cast(hit, dtypes.int64), None), g.dtype)
        return [lang.where(hit, g / share, 0)]
    if not input.shape:
        return [g[0]]
    axes = wrap_dims(dim, len(input.shape))
    chosen = lang.eq(graph.iota(input.shape, axes[0]), widened(out[1], input.shape, axes))
    return [lang.where(chosen, widened(g[0], input.shape, axes), 0)]


_EXTREME = s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), -1, True), s.call(T(), 0),
    s.call(T(2, 3), T(3)), s.call(T(5), dim=0, keepdim=True), s.call(T(2, 0), 0), s.value_only(T(14, fill="special")),
    s.value_only(T(2, 14, fill="special"), 1),
)  # fmt: skip


@op("max", acc=False, grad=_extreme_grad, saves="io", results=("values", "indices"), samples=_EXTREME)
def max_(input: Node, dim: Any = None, keepdim: bool = False, *, other: Node | None = None) -> Any:
    """Largest element of all; with ``dim`` the pair (values, first indices); with a tensor in place of ``dim``
    the elementwise maximum.  (torch.max)"""
    return _extreme("max", "max", input, dim, keepdim, other)


@op("min", acc=False, grad=_extreme_grad, saves="io", results=("values", "indices"), samples=_EXTREME)
def min_(input: Node, dim: Any = None, keepdim: bool = False, *, other: Node | None = None) -> Any:
    """Smallest element of all; with ``dim`` the pair (values, first indices); with a tensor in place of ``dim``
    the elementwise minimum.  (torch.min)"""
    return _extreme("min", "min", input, dim, keepdim, other)


# -- truth and counts -----------------------------------------------------------------------------


def _quantifier(how: str, input: Node, dim: Dims, keepdim: bool) -> Node:
    result = fold(how, truth(input), wrap_dims(dim, len(input.shape)), keepdim)
    return cast(result, dtypes.uint8) if input.dtype is dtypes.uint8 else result


@op("all", out="exact", kinds="buifc", acc=False, differentiable=False, samples=s.more(_cases(), _EMPTY))
def all_(input: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Whether every element over ``dim`` (None: all) is not 0, as bool (uint8 stays uint8).  (torch.all)"""
    return _quantifier("min", input, dim, keepdim)


@op("any", out="exact", kinds="buifc", acc=False, differentiable=False, samples=s.more(_cases(), _EMPTY))
def any_(input: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Whether an element over ``dim`` (None: all) is not 0, as bool (uint8 stays uint8).  (torch.any)"""
    return _quantifier("max", input, dim, keepdim)


@op("count_nonzero", kinds="buifc", acc=False, differentiable=False, samples=s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), dim=(0, 2)), s.call(T(0))))  # fmt: skip
def count_nonzero(input: Node, dim: Dims = None) -> Node:
    """How many elements over ``dim`` (None: all) are not 0, int64.  (torch.count_nonzero)"""
    return fold("add", cast(truth(input), dtypes.int64), wrap_dims(dim, len(input.shape)))


# -- norms ----------------------------------------------------------------------------------------


def norm_type(name: str, input: Node, dtype: DType | None) -> DType:
    """The type that a norm is of: of the input's kind and not narrower.  Raises RuntimeError for others."""
    if input.dtype.category < FLOAT:
        raise SpiralError(f"{name}: Expected a floating point or complex tensor as input. Got {input.dtype.name}")
    if dtype is None:
        return input.dtype
    if dtype.kind != input.dtype.kind:
        kind = "complex" if input.dtype.is_complex else "real"
        raise SpiralError(f"{name}: dtype should be {kind} for {kind} inputs, but got {dtype.name}")
    if dtypes.promote_types(input.dtype, dtype) is not dtype:
        raise SpiralError(
            f"{name}: the dtype of the input ({input.dtype.name}) should be convertible without narrowing to the specified dtype "
            f"({dtype.name})"
        )
    return dtype


def _norm_form(input: Node, p: Any, dim: Dims, dtype: DType | None) -> tuple[Node, float, tuple[int, ...]]:
    x = cast(input, norm_type("linalg.vector_norm", input, dtype))
    return cast(x, x.dtype.acc), 2.0 if p in (None, "fro") else float(p), wrap_dims(dim, len(input.shape))


def _norm_grad(g: Node, out: Node, input: Node, p: Any = "fro", dim: Dims = None, keepdim: bool = False, *,
               dtype: DType | None = None) -> list[Node | None]:  # fmt: skip
    if p == "nuc":
        from .gradients import vjp

        a = lang.conj(input)
        return vjp([norm.body(a, p, dim, keepdim, dtype=dtype)], [a], [g])
    x, p, axes = _norm_form(lang.conj(input), p, dim, dtype)
    sizes = lang.absolute(x)
    size, up = (widened(cast(v, sizes.dtype), x.shape, axes) for v in (out, g))
    if p == 2:
        return [lang.scaled(x, lang.where(lang.eq(size, 0), 0, up / size))]
    if p == 0:
        return [graph.full(0, x.shape, x.dtype)]
    if p == 1:
        return [lang.scaled(lang.sign(x), up)]
    if abs(p) == float("inf"):
        hit = lang.eq(sizes, size)
        share = widened(fold("add", cast(hit, size.dtype), axes), x.shape, axes)
        return [lang.scaled(lang.sign(x), lang.where(hit, up / share, 0))]
    slope = lang.pow_(sizes, p - 2) * (up * lang.pow_(size, 1 - p))
    return [lang.where(lang.eq(size, 0) | lang.eq(sizes, 0), 0, lang.scaled(x, slope))]


@op("norm", out="exact", kinds="buifc", acc=False, grad=_norm_grad, saves="io", samples=s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(2, 3, 4), 2, 1), s.call(T(2, 3, 4), 1, -1, True),
    s.call(T(2, 3), float("inf")),
    s.call(T(2, 3), -float("inf"), 0), s.call(T(2, 3), 3, 1), s.call(T(2, 3), 0), s.call(T(2, 3), "fro", (0, 1)),
    s.call(T(2, 3), "nuc"), s.call(T(2, 3, 4), "nuc", (0, -1), True),
    s.call(T(0)), s.call(T(2, 3), dtype=dtypes.float64)))  # fmt: skip
def norm(input: Node, p: Any = "fro", dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """``sum(|input| ** p) ** (1 / p)`` over ``dim`` (None: all); inf is the largest size, -inf the smallest, 0 the
    count of non-zeros, 'nuc' the sum of a matrix' singular values.  (torch.norm)"""
    if p == "nuc":
        from .linalg_norms import matrix_norm

        return matrix_norm.body(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    x, p, axes = _norm_form(input, p, dim, dtype)
    target = (dtype or input.dtype).to_real()
    if p == 2:
        return cast(lang.root(fold("add", lang.size_squared(x), axes, keepdim)), target)
    size = lang.absolute(x)
    if p == 0:
        return cast(fold("add", cast(lang.ne(x, 0), size.dtype), axes, keepdim), target)
    if p == 1:
        return cast(fold("add", size, axes, keepdim), target)
    if abs(p) == float("inf"):
        _refuse_empty("linalg.vector_norm", input, dim, axes)
        return cast(fold("max" if p > 0 else "min", size, axes, keepdim), target)
    nothing, power = lang.eq(size, 0), 0.0 if p > 0 else float("inf")  # where a power has no derivative
    total = fold("add", lang.where(nothing, power, lang.pow_(lang.where(nothing, 1, size), p)), axes, keepdim)
    none = lang.eq(total, power)
    return cast(lang.where(none, 0, lang.pow_(lang.where(none, 1, total), 1 / p)), target)


# -- softmax --------------------------------------------------------------------------------------


def log_sum_exp(x: Node, axes: Sequence[int], keepdim: bool = False) -> Node:
    """``log(sum(exp(x)))`` over ``axes``, shifted by the largest element."""
    axes = tuple(axes)
    top = fold("max", lang.real(x), axes, keepdim=True)
    top = cast(lang.where(lang.eq(lang.absolute(top), float("inf")), 0, top), x.dtype)
    total = lang.log(fold("add", lang.exp(x - top), axes, keepdim=True)) + top
    return total if keepdim else graph.reshape(total, tuple([n for i, n in enumerate(x.shape) if i not in axes]))


def _logsumexp_grad(g: Node, out: Node, input: Node, dim: Dims, keepdim: bool = False) -> list[Node | None]:
    axes = wrap_dims(dim, len(input.shape))
    return [widened(g, input.shape, axes) * lang.exp(input - widened(out, input.shape, axes))]


@op("logsumexp", operands=1, aliases=("special.logsumexp",), promote="float", kinds="fc", grad=_logsumexp_grad, saves="io", pointwise=False,
    samples=s.calls(
    s.call(T(2, 3), 1), s.call(T(2, 3, 4), (0, 2), True), s.call(T(), 0), s.call(T(0), 0), s.call(T(2, 0), 0),
    s.value_only(T(2, 3, fill="special"), 0), s.value_only(T(5, 14, fill="special"), 0)))  # fmt: skip
def logsumexp(input: Node, dim: Dims, keepdim: bool = False) -> Node:
    """``log(sum(exp(input)))`` over ``dim`` without overflow on the way.  (torch.logsumexp)"""
    return log_sum_exp(input, wrap_dims(dim, len(input.shape)), keepdim)


def _softmax_form(name: str, input: Node, dim: int | None, dtype: DType | None) -> tuple[Node, int]:
    target = dtype or input.dtype
    if target.kind != "f":
        raise_dtype(softmax if name == "softmax" else log_softmax, target)
    rank = len(input.shape)
    if dim is None:  # torch's rule for calls that name no axis
        dim = 0 if rank in (0, 1, 3) else 1
    return cast(cast(input, target), target.acc), wrap_dim(dim, rank)


def _row_sum(x: Node, axis: int) -> Node:
    return fold("add", x, axis, keepdim=True) if x.shape else x


def _softmax_grad(
    g: Node, out: Node, input: Node, dim: int | None = None, dtype: DType | None = None
) -> list[Node | None]:
    axis = _softmax_form("softmax", input, dim, dtype)[1]
    up, y = cast(g, g.dtype.acc), cast(out, out.dtype.acc)
    return [cast(y * (up - _row_sum(up * y, axis)), out.dtype)]


_SOFTMAX = s.calls(
    s.call(T(2, 3), 1), s.call(T(2, 3, 4), dim=0), s.call(T(2, 3, 4), -2), s.call(T(), 0), s.call(T(0, 3), 1),
    s.call(T(3, 0), 0), s.call(T(2, 37), -1), s.call(T(2, 3), 0, dtype=dtypes.float64),
    s.call(T(2, 3), 0, dtype=dtypes.float32), s.value_only(T(3, 14, fill="special"), 0),
)  # fmt: skip


def softmax_along(x: Node, axis: int) -> Node:
    """``exp(x) / sum(exp(x))`` along ``axis``, shifted by the largest element."""
    if not x.shape:
        return lang.exp(x - x)
    e = lang.exp(x - fold("max", x, axis, keepdim=True))
    return e / fold("add", e, axis, keepdim=True)


@op("softmax", out="exact", kinds="buifc", acc=False, aliases=("special.softmax",), grad=_softmax_grad, saves="o",
    where=("", "Tensor", "nn.functional"), samples=_SOFTMAX)  # fmt: skip
def softmax(input: Node, dim: int | None = None, dtype: DType | None = None) -> Node:
    """``exp(input) / sum(exp(input))`` along ``dim``, shifted by the largest element.  (torch.softmax)"""
    x, axis = _softmax_form("softmax", input, dim, dtype)
    return cast(softmax_along(x, axis), dtype or input.dtype)


def _log_softmax_grad(
    g: Node, out: Node, input: Node, dim: int | None = None, dtype: DType | None = None
) -> list[Node | None]:
    axis = _softmax_form("log_softmax", input, dim, dtype)[1]
    up, y = cast(g, g.dtype.acc), cast(out, out.dtype.acc)
    return [cast(up - lang.exp(y) * _row_sum(up, axis), out.dtype)]


@op("log_softmax", out="exact", kinds="buifc", acc=False, aliases=("special.log_softmax",), grad=_log_softmax_grad, saves="o",
    where=("", "Tensor", "nn.functional"), samples=_SOFTMAX)  # fmt: skip
def log_softmax(input: Node, dim: int | None = None, dtype: DType | None = None) -> Node:
    """``input - log(sum(exp(input)))`` along ``dim``, shifted by the largest element.  (torch.log_softmax)"""
    x, axis = _softmax_form("log_softmax", input, dim, dtype)
    if not x.shape:
        return cast(x - x, dtype or input.dtype)
    d = x - fold("max", x, axis, keepdim=True)
    return cast(d - lang.log(fold("add", lang.exp(d), axis, keepdim=True)), dtype or input.dtype)


__all__ = ["first_where", "is_extreme", "log_sum_exp", "size_of", "softmax_along", "total_dtype", "widened"]
