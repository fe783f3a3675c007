"""Normalisation, and dropout.

In: data, and weight and bias to scale the result with.  Out: ``(x - mean) / sqrt(var + eps) * weight +
bias`` over the axes that each operator says.  The gradients are written out, so that backward is as few
passes over each row as forward:  with ``w`` the gradient at the normalised value ``h``,
``dx = rstd * (w - mean(w) - h * mean(w * h))``.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 8), dtypes.float16)
    >>> OPS["layer_norm"].apply([x, (8,)], {}).dtype
    spiraltorch.float16
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import dtypes_limits, floating, number
from .reduce import norm as sized
from .reduce import size_of
from .registry import op, raise_dtype, wrap_dim
from .variance import centred, moments
from .windows import sums

T = s.T


def _mean(x: Node, axes: Sequence[int]) -> Node:
    return fold("add", x, tuple(axes), keepdim=True) / size_of(x, axes)


def _normal(x: Node, axes: Sequence[int], eps: float) -> tuple[Node, Node]:
    """(normalised value, 1 / standard deviation)."""
    mean, squares = moments(x, axes)
    rstd = lang.rsqrt(squares / size_of(x, axes) + number(eps, x))
    return (x - mean) * rstd, rstd


def _normal_grad(w: Node, h: Node, rstd: Node, axes: Sequence[int]) -> Node:
    return rstd * (w - _mean(w, axes) - h * _mean(w * h, axes))


def _given(*pairs: tuple[Node | None, Node | None]) -> list[Node | None]:
    """The gradients of the tensors that were passed."""
    return [g for t, g in pairs if isinstance(t, Node)]


def _scaled(h: Node, weight: Node | None, bias: Node | None) -> Node:
    h = h if weight is None else h * weight
    return h if bias is None else h + bias


def _fitting(input: Node, *parameters: Node | None) -> None:
    """Raise RuntimeError unless parameters have the input's type, or all are float32 beside a 16-bit input."""
    given = {t.dtype for t in parameters if t is not None}
    if given - {input.dtype} and not (input.dtype.itemsize == 2 and given == {dtypes.float32}):
        names = ", ".join(sorted(d.name for d in given))
        raise SpiralError(f"mixed dtype: parameters of {names} beside an input of {input.dtype.name}; all must share one type")


def _last_axes(name: str, input: Node, normalized_shape: Any, *scales: Node | None) -> tuple[int, ...]:
    if isinstance(normalized_shape, int):
        raise TypeError(f"{name}(): argument 'normalized_shape' (position 2) must be tuple of ints, not int")
    wanted = tuple(normalized_shape)
    if not wanted:
        raise SpiralError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element"
        )
    for t in scales:
        if t is not None and t.shape != wanted:
            raise ShapeError(
                f"Expected weight to be of same shape as normalized_shape, but got weight of shape {list(t.shape)} and "
                f"normalized_shape = {list(wanted)}"
            )
    rank = len(input.shape)
    if input.shape[max(0, rank - len(wanted)) :] != wanted:
        raise ShapeError(
            f"Given normalized_shape={list(wanted)}, expected input with shape [*, {', '.join(map(str, wanted))}], but "
            f"got input of size{list(input.shape)}"
        )
    if input.dtype.kind not in ("fc" if name == "rms_norm" else "f"):
        raise_dtype(layer_norm if name == "layer_norm" else rms_norm, input.dtype)
    return tuple(range(rank - len(wanted), rank))


def _layer_norm_grad(g: Node, out: Node, input: Node, normalized_shape: Any, weight: Node | None = None,
                     bias: Node | None = None, eps: float = 1e-5) -> list[Node | None]:  # fmt: skip
    axes = _last_axes("layer_norm", input, normalized_shape)
    h, rstd = _normal(input, axes, eps)
    dx = _normal_grad(g if weight is None else g * weight, h, rstd, axes)
    lead = range(axes[0])
    return _given((input, dx), (weight, fold("add", g * h, tuple(lead))), (bias, fold("add", g, tuple(lead))))


def _scales_fit(input: Node, form: Any, weight: Node | None = None, bias: Node | None = None) -> None:
    _fitting(input, weight, bias)


@op("layer_norm", grad=_layer_norm_grad, saves=("input", "weight"), operands=4, numbers="none", pointwise=False, refuses=_scales_fit,
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 8), (8,), T(8), T(8)), s.call(T(2, 3, 8), (3, 8), T(3, 8), None), s.call(T(4, 8), [8]),
    s.call(T(2, 8), (8,), None, T(8), 0.1),
    s.call(T(5), (5,)), s.call(T(0, 8), (8,), T(8), T(8))))  # fmt: skip
def layer_norm(input: Node, normalized_shape: Any, weight: Node | None = None, bias: Node | None = None,
               eps: float = 1e-5) -> Node:  # fmt: skip
    """Normalised over the last axes, which are ``normalized_shape`` (as are weight and bias).
    (torch.nn.functional.layer_norm)"""
    axes = _last_axes("layer_norm", input, normalized_shape, weight, bias)
    return _scaled(_normal(input, axes, eps)[0], weight, bias)


def _rms_form(input: Node, eps: float | None, axes: Sequence[int]) -> tuple[Node, Node, Node]:
    """(x in its computing type, normalised value, 1 / root mean square)."""
    if eps is None:
        eps = float(dtypes_limits(lang.real(input)).eps)
    x = cast(input, input.dtype.acc)
    rstd = lang.rsqrt(_mean(x * x, axes) + number(eps, x))
    return x, x * rstd, rstd


def _rms_norm_grad(g: Node, out: Node, input: Node, normalized_shape: Any, weight: Node | None = None,
                   eps: float | None = None) -> list[Node | None]:  # fmt: skip
    axes = _last_axes("rms_norm", input, normalized_shape)
    x, h, rstd = _rms_form(input, eps, axes)
    up = cast(g, x.dtype)
    w = up if weight is None else up * cast(weight, x.dtype)
    dx = rstd * (w - h * _mean(w * h, axes))
    return _given((input, dx), (weight, fold("add", up * h, tuple(range(axes[0])))))


@op("rms_norm", kinds="buifc", acc=False, grad=_rms_norm_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 8), (8,), T(8)), s.call(T(2, 3, 8), (3, 8)), s.call(T(4, 8), [8], None, 0.1),
    s.call(T(0, 8), (8,), T(8))))  # fmt: skip
def rms_norm(input: Node, normalized_shape: Any, weight: Node | None = None, eps: float | None = None) -> Node:
    """``input / sqrt(mean(input ** 2) + eps) * weight`` over the last axes; ``eps`` None is the type's own.
    (torch.nn.functional.rms_norm)"""
    axes = _last_axes("rms_norm", input, normalized_shape, weight)
    x, h, _ = _rms_form(input, eps, axes)
    return cast(_scaled(h, None if weight is None else cast(weight, x.dtype), None), input.dtype)


def _group_form(input: Node, num_groups: int) -> tuple[Node, tuple[int, ...]]:
    """Input as [N, groups, elements...] and the axes of a group."""
    if len(input.shape) < 2:
        raise SpiralError(f"Expected at least 2 dimensions for input tensor but received {len(input.shape)}")
    if input.dtype.kind != "f":
        raise_dtype(group_norm, input.dtype)
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise SpiralError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    shape = (input.shape[0], num_groups, channels // num_groups, *input.shape[2:])
    return graph.reshape(input, shape), tuple(range(2, len(shape)))


def _per_channel(t: Node, rank: int) -> Node:
    return graph.reshape(t, (t.size,) + (1,) * (rank - 2))


def _group_norm_grad(g: Node, out: Node, input: Node, num_groups: int, weight: Node | None = None,
                     bias: Node | None = None, eps: float = 1e-5) -> list[Node | None]:  # fmt: skip
    x, axes = _group_form(input, num_groups)
    h, rstd = _normal(x, axes, eps)
    w = g if weight is None else g * _per_channel(weight, len(input.shape))
    dx = graph.reshape(_normal_grad(graph.reshape(w, x.shape), h, rstd, axes), input.shape)
    rest = (0, *range(2, len(input.shape)))
    dw = fold("add", g * graph.reshape(h, input.shape), rest)
    return _given((input, dx), (weight, dw), (bias, fold("add", g, rest)))


@op("group_norm", lies="images", grad=_group_norm_grad, saves=("input", "weight"), operands=4, numbers="none", pointwise=False,
    refuses=_scales_fit,
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 6, 5), 3, T(6), T(6)), s.call(T(2, 4, 3, 3), 2), s.call(T(3, 4), 1, T(4), None, 0.1),
    s.call(T(2, 4, 3), 4, None, T(4))))  # fmt: skip
def group_norm(input: Node, num_groups: int, weight: Node | None = None, bias: Node | None = None,
               eps: float = 1e-5) -> Node:  # fmt: skip
    """Normalised over each sample's groups of channels (axis 1) and all later axes; weight and bias are per channel.
    (torch.nn.functional.group_norm)"""
    x, axes = _group_form(input, num_groups)
    for t in (weight, bias):
        if t is not None and t.shape != (input.shape[1],):
            raise ShapeError(
                f"Expected weight to be a vector of size equal to the number of channels in input, but got weight of "
                f"shape {list(t.shape)} and input of shape {list(input.shape)}"
            )
    h = graph.reshape(_normal(x, axes, eps)[0], input.shape)
    scale, shift = (None if t is None else _per_channel(t, len(input.shape)) for t in (weight, bias))
    return _scaled(h, scale, shift)


# -- batch norm -----------------------------------------------------------------------------------


def _batch_form(input: Node, *figures: Node | None) -> tuple[Node, tuple[int, ...]]:
    """Input in its computing type, and all axes but the channels'."""
    if len(input.shape) < 2:
        raise SpiralError(f"expected at least 2D input, got {len(input.shape)}D input")
    if input.dtype.kind != "f":
        raise_dtype(batch_norm, input.dtype)
    channels = input.shape[1]
    for name, t in zip(("running_mean", "running_var", "weight", "bias"), figures):
        if t is not None and t.shape != (channels,):
            raise ShapeError(f"{name} should contain {channels} elements not {t.size}")
    return cast(input, input.dtype.acc), (0, *range(2, len(input.shape)))


def _channelwise(t: Node | None, x: Node) -> Node | None:
    return None if t is None else _per_channel(cast(t, x.dtype), len(x.shape))


def _batch_norm_grad(g: Any, out: Any, input: Node, running_mean: Node | None = None, running_var: Node | None = None,
                     weight: Node | None = None, bias: Node | None = None, momentum: float = 0.1,
                     eps: float = 1e-5) -> list[Node | None]:  # fmt: skip
    x, axes = _batch_form(input)
    h, rstd = _normal(x, axes, eps)
    up, scale = cast(g[0] if isinstance(g, (list, tuple)) else g, x.dtype), _channelwise(weight, x)
    dx = _normal_grad(up if scale is None else up * scale, h, rstd, axes)
    dw, db = fold("add", up * h, axes), fold("add", up, axes)
    return _given((input, dx), (running_mean, None), (running_var, None), (weight, dw), (bias, db))


_RUNNING = (T(3), T(3, fill="positive"))


@op("batch_norm", lies="images", acc=False, grad=_batch_norm_grad, saves=("input", "weight"), where=(), tolerance=1e-4,
    samples=s.calls(
    s.call(T(4, 3, 5), None, None, T(3), T(3)), s.call(T(4, 3, 2, 2), *_RUNNING, T(3), T(3), 0.3, 0.01),
    s.call(T(4, 3)),
    s.call(T(4, 3, 5), *_RUNNING, None, T(3))))  # fmt: skip
def batch_norm(input: Node, running_mean: Node | None = None, running_var: Node | None = None,
               weight: Node | None = None, bias: Node | None = None, momentum: float = 0.1,
               eps: float = 1e-5) -> Any:  # fmt: skip
    """Normalised per channel (axis 1) over all other axes with the batch's own figures, as in training.  With
    running figures the result is (out, new mean, new variance), where ``new = (1 - momentum) * running + momentum *
    batch`` (the unbiased variance).  (torch.nn.functional.batch_norm)"""
    x, axes = _batch_form(input, running_mean, running_var, weight, bias)
    _fitting(input, running_mean, running_var, weight, bias)
    count = lang.count(input.shape, axes)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(input.shape)}")
    h, _ = _normal(x, axes, eps)
    out = cast(_scaled(h, _channelwise(weight, x), _channelwise(bias, x)), input.dtype)
    if running_mean is None or running_var is None:
        return out
    mean, squares = [graph.reshape(m, (x.shape[1],)) for m in moments(x, axes)]
    var = squares / number(float(max(count - 1, 0)), x)
    return out, _moved(running_mean, mean, momentum), _moved(running_var, var, momentum)


def _moved(running: Node, batch: Node, momentum: float) -> Node:
    old = cast(running, batch.dtype)
    return cast(old * number(1 - momentum, old) + batch * number(momentum, old), running.dtype)


def _fixed_normal(x: Node, mean: Node, var: Node, eps: float) -> tuple[Node, Node]:
    rstd = lang.rsqrt(cast(var, x.dtype) + number(eps, x))
    rstd, centre = _per_channel(rstd, len(x.shape)), _per_channel(cast(mean, x.dtype), len(x.shape))
    return (x - centre) * rstd, rstd


def _batch_norm_fixed_grad(g: Node, out: Node, input: Node, running_mean: Node, running_var: Node,
                           weight: Node | None = None, bias: Node | None = None,
                           eps: float = 1e-5) -> list[Node | None]:  # fmt: skip
    x, axes = _batch_form(input)
    h, rstd = _fixed_normal(x, running_mean, running_var, eps)
    up, scale = cast(g, x.dtype), _channelwise(weight, x)
    dx = (up if scale is None else up * scale) * rstd
    dw, db = fold("add", up * h, axes), fold("add", up, axes)
    return _given((input, dx), (running_mean, None), (running_var, None), (weight, dw), (bias, db))


@op("batch_norm_fixed", lies="images", acc=False, grad=_batch_norm_fixed_grad, where=(), tolerance=1e-4, samples=s.calls(
    s.call(T(4, 3), *_RUNNING, T(3), T(3)), s.call(T(4, 3, 2, 2), *_RUNNING),
    s.call(T(1, 3, 5), *_RUNNING, T(3), None, 0.1),
    s.call(T(0, 3), *_RUNNING, None, T(3))))  # fmt: skip
def batch_norm_fixed(input: Node, running_mean: Node, running_var: Node, weight: Node | None = None,
                     bias: Node | None = None, eps: float = 1e-5) -> Node:  # fmt: skip
    """Normalised per channel (axis 1) with the running figures, as in evaluation.
    (torch.nn.functional.batch_norm)"""
    x, _ = _batch_form(input, running_mean, running_var, weight, bias)
    _fitting(input, running_mean, running_var, weight, bias)
    h, _ = _fixed_normal(x, running_mean, running_var, eps)
    return cast(_scaled(h, _channelwise(weight, x), _channelwise(bias, x)), input.dtype)


# -- instance norm --------------------------------------------------------------------------------


def _instance_grad(g: Any, out: Any, input: Node, running_mean: Node | None = None, running_var: Node | None = None,
                   weight: Node | None = None, bias: Node | None = None, momentum: float = 0.1,
                   eps: float = 1e-5) -> list[Node | None]:  # fmt: skip
    x, axes = _batch_form(input)
    h, rstd = _normal(x, axes[1:], eps)
    up, scale = cast(g[0] if isinstance(g, (list, tuple)) else g, x.dtype), _channelwise(weight, x)
    dx = _normal_grad(up if scale is None else up * scale, h, rstd, axes[1:])
    dw, db = fold("add", up * h, axes), fold("add", up, axes)
    return _given((input, dx), (running_mean, None), (running_var, None), (weight, dw), (bias, db))


@op("instance_norm", acc=False, grad=_instance_grad, saves=("input", "weight"), where=(), tolerance=1e-4, samples=s.calls(
    s.call(T(4, 3, 5), None, None, T(3), T(3)), s.call(T(4, 3, 2, 2), *_RUNNING, T(3), T(3), 0.3, 0.01),
    s.call(T(2, 3, 2, 1, 3)), s.call(T(1, 3, 5), *_RUNNING, None, T(3))))  # fmt: skip
def instance_norm(input: Node, running_mean: Node | None = None, running_var: Node | None = None,
                  weight: Node | None = None, bias: Node | None = None, momentum: float = 0.1,
                  eps: float = 1e-5) -> Any:  # fmt: skip
    """Normalised per sample and channel over all later axes.  With running figures the result is (out, new mean, new
    variance), moved towards the samples' mean figures.  (torch.nn.functional.instance_norm)"""
    x, axes = _batch_form(input, running_mean, running_var, weight, bias)
    _fitting(input, weight, bias)
    count = lang.count(input.shape, axes[1:])
    if count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {list(input.shape)}")
    h, _ = _normal(x, axes[1:], eps)
    out = cast(_scaled(h, _channelwise(weight, x), _channelwise(bias, x)), input.dtype)
    if running_mean is None or running_var is None:
        return out
    d = centred(x, axes[1:])
    mean = fold("add", x, axes) / size_of(x, axes)
    var = fold("add", d * d, axes) / number(float(max(count - 1, 0)) * x.shape[0], x)
    return out, _moved(running_mean, mean, momentum), _moved(running_var, var, momentum)


# -- neighbouring channels --------------------------------------------------------------------------------


def _neighbours(x: Node, before: int, after: int) -> Node:
    """The sum over the channels (axis 1) from ``before`` ahead to ``after`` behind each, nothing beyond the ends."""
    widths = tuple([(before, after, 0) if a == 1 else (0, 0, 0) for a in range(len(x.shape))])
    return sums(graph.window(graph.pad(x, widths), 1, before + after + 1, 1), 1)


def _response(total: Node, x: Node, size: int, alpha: float, k: float) -> Node:
    return total / number(float(size), x) * number(alpha, x) + number(k, x)


def _lrn_grad(g: Node, out: Node, input: Node, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> list[Node | None]:
    """``g / r ** beta`` of the response ``r``, and through every response that the element is in."""
    before, after = size // 2, (size - 1) // 2
    r = _response(_neighbours(input * input, before, after), input, size, alpha, k)
    through = _neighbours(g * out / r, after, before)
    factor = number(-2.0 * beta * alpha / size, input)
    return [g / lang.pow_(r, number(beta, input)) + through * input * factor]


@op("local_response_norm", lies="input", kinds="uif", grad=_lrn_grad, saves="io", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 5, 3), 3), s.call(T(1, 6, 2, 3), 4, 0.01, 0.5, 2.0), s.call(T(2, 3, 2, 2, 2), size=2), s.call(T(2, 1, 3), 1),
    s.call(T(0, 3, 2), 2)))  # fmt: skip
def local_response_norm(input: Node, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Node:
    """``input / (k + alpha * mean(input ** 2)) ** beta``, the mean over ``size`` neighbouring channels (axis 1), 0 beyond
    the ends.  (torch.nn.functional.local_response_norm)"""
    if len(input.shape) < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {len(input.shape)} dimensions)")
    if size < 1:
        raise SpiralError(f"local_response_norm: size must be positive, but got {size}")
    if not input.size:
        return input
    if input.dtype is dtypes.bool_:
        raise_dtype(local_response_norm, input.dtype)
    total = _neighbours(input * input, size // 2, (size - 1) // 2)
    if input.dtype.kind != "f":  # a mean of integers is one, as in torch
        total, input = cast(lang.row("IDIV", total, size) * size, dtypes.get_default_dtype()), floating(input)
    return input / lang.pow_(_response(total, input, size, alpha, k), number(beta, input))


# -- slices -----------------------------------------------------------------------------------------------


@op("renorm", kinds="fc", acc=False, inplace=True, out="exact", samples=s.calls(
    s.call(T(3, 4), 2, 0, 1.0), s.call(T(2, 3, 4), 1, -1, 2.0), s.call(T(3, 2), 0.5, 1, 100.0), s.call(T(3, 2), 3.0, 1, 0.5),
    s.call(T(0, 2), 2, 0, 1.0), s.call(T(2, 5), float("inf"), 0, 0.5)))  # fmt: skip
def renorm(input: Node, p: float, dim: int, maxnorm: float) -> Node:
    """``input`` with each slice along ``dim`` whose ``p``-norm is above ``maxnorm`` shortened to it.  (torch.renorm)"""
    if input.dtype.kind not in "fc":
        raise_dtype(renorm, input.dtype)
    if isinstance(p, complex) or not p > 0:
        raise SpiralError("renorm: non-positive-norm not supported")
    if len(input.shape) < 2:
        raise ShapeError(f"renorm: input must have at least 2 dimensions, got {len(input.shape)}")
    if not maxnorm >= 0:
        raise SpiralError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    axis = wrap_dim(dim, len(input.shape))
    x = cast(input, input.dtype.acc)
    rest = tuple([a for a in range(len(input.shape)) if a != axis])
    size: Node = sized.body(x, float(p), rest, True)
    limit = number(float(maxnorm), size)
    factor = lang.where(lang.lt(limit, size), limit / (size + number(1e-7, size)), 1.0)
    return cast(lang.scaled(x, graph.expand(factor, x.shape)), input.dtype)


# -- dropout --------------------------------------------------------------------------------------


def _key_samples(*shape: int, p: float) -> s.Call:
    import numpy as np

    return s.call(T(*shape), np.array(7, np.uint64), np.array(3, np.uint64), p)


def _kept(input: Node, key: Node, counter: Node, p: float, rank: int | None) -> Node:
    """Which elements stay: one decision for each, or for all that share the first ``rank`` positions."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if input.dtype.category < dtypes.FLOAT and p != 1:
        raise SpiralError(f"result type float32 can't be cast to the desired output type {input.dtype.name}")
    shape = input.shape if rank is None else input.shape[:rank]
    keep = lang.le(const(min(round(p * (1 << 32)), (1 << 32) - 1), dtypes.uint32), graph.random(key, counter, shape))
    return graph.reshape(keep, shape + (1,) * (len(input.shape) - len(shape)))


@op(
    "dropout",
    kinds="buifc",
    where=(),
    saves=("key", "counter"),
    samples=s.calls(
        _key_samples(50, 40, p=0.3), _key_samples(5, p=0.0), _key_samples(5, p=1.0), _key_samples(0, 3, p=0.5)
    ),
)
def dropout(input: Node, key: Node, counter: Node, p: float = 0.5, rank: int | None = None) -> Node:
    """Each element 0 with chance ``p``, else divided by ``1 - p``; decision i is made by random word ``counter + i``
    under ``key``; with ``rank``, one for all elements that share the first axes.  (torch.nn.functional.dropout)"""
    keep = _kept(input, key, counter, p, rank)
    if p == 1:
        return lang.mul(input, 0)
    return lang.where(keep, input * number(1 / (1 - p), input), 0)


_SELU_LIMIT = -1.7580993408473766  # what SELU goes to at minus infinity


@op("alpha_dropout", where=(), saves=("key", "counter"), samples=s.calls(
    _key_samples(50, 40, p=0.3), _key_samples(5, p=0.0), _key_samples(5, p=1.0), _key_samples(0, 3, p=0.5)))  # fmt: skip
def alpha_dropout(input: Node, key: Node, counter: Node, p: float = 0.5, rank: int | None = None) -> Node:
    """Each element SELU's negative limit with chance ``p``, then all scaled and shifted so that mean 0 and variance 1
    stay; decisions are made as for ``dropout``.  (torch.nn.functional.alpha_dropout)"""
    keep = _kept(input, key, counter, p, rank)
    if p == 1:
        return lang.mul(input, 0)
    scale = 1 / math.sqrt((1 - p) * (1 + p * _SELU_LIMIT**2))
    shift = -scale * _SELU_LIMIT * p
    gone = number(scale * _SELU_LIMIT + shift, input)
    return lang.where(keep, input * number(scale, input) + number(shift, input), gone)
