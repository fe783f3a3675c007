"""Activation functions: one node in, one node of the same type out, and but for ``glu`` of the same shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["relu"].apply([graph.param(0, (4,), dtypes.bfloat16)], {}).dtype
    spiraltorch.bfloat16

The gradients are written out: differentiating a body that selects between branches would multiply the
zero of the branch not taken by its infinity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import bool_
from ..errors import DtypeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold, logistic, smooth_logistic
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import dtypes_limits, number
from .random import fraction
from .rearrange import joined
from .reduce import first_where, softmax_along
from .registry import op, raise_dtype, wrap_dim

T = s.T

FUNCTIONAL = ("nn.functional",)
EVERYWHERE = ("", "Tensor", "nn.functional")


def log1p_exp(a: Node) -> Node:
    """``log(1 + exp(a))`` without overflow on the way; at 0 both branches have all derivatives of the whole."""
    below = lang.lt(a, 0)
    return lang.where(below, 0, a) + lang.log1p(lang.exp(lang.where(below, a, -a)))


_FAR = -37.5  # below, sigmoid is the exponential, to the last digit of float64


def _sigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * (out * (1 - out))]


@op("sigmoid", operands=1, aliases=("special.expit",), promote="float", kinds="fc", grad=_sigmoid_grad, saves="o",
    inplace=True,
    where=EVERYWHERE, samples=s.unary())  # fmt: skip
def sigmoid(input: Node) -> Node:
    """``1 / (1 + exp(-input))``; integers give floats.  (torch.sigmoid)"""
    if input.dtype.kind == "c":
        return logistic(input)
    far = lang.lt(input, _FAR)
    power = lang.exp(lang.where(far, input, -input))
    return lang.where(far, power, 1 / (1 + power))


def _logsigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * smooth_logistic(-input)]


@op("logsigmoid", out="exact", operands=1, promote="arith", kinds="f", grad=_logsigmoid_grad, where=FUNCTIONAL, pointwise=False,
    samples=s.unary())  # fmt: skip
def logsigmoid(input: Node) -> Node:
    """``log(sigmoid(input))`` without overflow on the way.  (torch.nn.functional.logsigmoid)"""
    return lang.minimum(input, 0) - lang.log1p(lang.exp(-lang.absolute(input)))


def _relu_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [lang.where(lang.le(out, 0), 0, g)]


@op("relu", operands=1, promote="arith", kinds="uif", acc=False, grad=_relu_grad, saves="o", inplace=True,
    where=EVERYWHERE, samples=s.unary())  # fmt: skip
def relu(input: Node) -> Node:
    """``max(input, 0)``; the gradient at 0 is 0.  (torch.relu)"""
    return lang.maximum(input, 0)


def _inside(g: Node, input: Node, low: Any, high: Any) -> Node:
    return lang.where(lang.le(input, low) | lang.le(high, input), 0, g)


def _relu6_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [_inside(g, input, 0, 6)]


@op("relu6", operands=1, promote="arith", kinds="uif", acc=False, grad=_relu6_grad, where=FUNCTIONAL,
    samples=s.unary())  # fmt: skip
def relu6(input: Node) -> Node:
    """``min(max(input, 0), 6)``.  (torch.nn.functional.relu6)"""
    return lang.minimum(lang.maximum(input, 0), 6)


def _hardtanh_grad(g: Node, out: Node, input: Node, min_val: Any = -1.0, max_val: Any = 1.0) -> list[Node | None]:
    return [_inside(g, input, number(min_val, input), number(max_val, input))]


@op("hardtanh", operands=1, promote="arith", kinds="uif", grad=_hardtanh_grad, inplace=True, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(min_val=-0.5, max_val=2)))  # fmt: skip
def hardtanh(input: Node, min_val: Any = -1.0, max_val: Any = 1.0) -> Node:
    """``min(max(input, min_val), max_val)``; no gradient at the limits.  (torch.nn.functional.hardtanh)"""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return lang.minimum(lang.maximum(input, number(min_val, input)), number(max_val, input))


def _leaky_relu_grad(g: Node, out: Node, input: Node, negative_slope: float = 0.01) -> list[Node | None]:
    return [lang.where(lang.lt(0, input), g, g * number(negative_slope, g))]


@op("leaky_relu", operands=1, promote="arith", kinds="f", grad=_leaky_relu_grad, inplace=True, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(negative_slope=0.3)))  # fmt: skip
def leaky_relu(input: Node, negative_slope: float = 0.01) -> Node:
    """``input`` where positive, else ``negative_slope * input``.  (torch.nn.functional.leaky_relu)"""
    return lang.where(lang.lt(0, input), input, input * number(negative_slope, input))


def _elu_grad(g: Node, out: Node, input: Node, alpha: float = 1.0) -> list[Node | None]:
    return [lang.where(lang.le(input, 0), g * (number(alpha, g) * lang.exp(input)), g)]  # whole for nan, as torch


@op("elu", operands=1, promote="arith", kinds="f", grad=_elu_grad, inplace=True, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(alpha=0.7)))  # fmt: skip
def elu(input: Node, alpha: float = 1.0) -> Node:
    """``input`` where positive, else ``alpha * (exp(input) - 1)``.  (torch.nn.functional.elu)"""
    return lang.where(lang.lt(0, input), input, number(alpha, input) * lang.expm1(input))


_TANH_IN = math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715


def _gelu_grad(g: Node, out: Node, input: Node, approximate: str = "none") -> list[Node | None]:
    if approximate == "tanh":
        t = lang.tanh(_gelu_inner(input))
        slope = _TANH_IN * (1 + 3 * _TANH_CUBE * (input * input))
        return [g * (0.5 * (1 + t) + 0.5 * input * ((1 - t * t) * slope))]
    below = 0.5 * (1 + lang.erf(input * math.sqrt(0.5)))
    density = lang.exp(-0.5 * (input * input)) * (1 / math.sqrt(2 * math.pi))
    return [g * (below + input * density)]


def _gelu_inner(a: Node) -> Node:
    return _TANH_IN * (a + _TANH_CUBE * (a * a * a))


@op("gelu", out="exact", operands=1, promote="arith", kinds="f", grad=_gelu_grad, where=FUNCTIONAL,
    samples=s.more(s.ordinary(), s.ordinary(approximate="tanh")))  # fmt: skip
def gelu(input: Node, approximate: str = "none") -> Node:
    """``input`` times the normal distribution's share below it, by erf or, with ``approximate='tanh'``,
    ``0.5 * input * (1 + tanh(sqrt(2 / pi) * (input + 0.044715 * input**3)))``.  (torch.nn.functional.gelu)"""
    if approximate == "tanh":
        return 0.5 * input * (1 + lang.tanh(_gelu_inner(input)))
    if approximate != "none":
        raise SpiralError("approximate argument must be either none or tanh.")
    return 0.5 * input * (1 + lang.erf(input * math.sqrt(0.5)))


def _silu_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    y = smooth_logistic(input)
    return [g * (y * (1 + input * (1 - y)))]


@op("silu", operands=1, promote="arith", kinds="fc", grad=_silu_grad, where=FUNCTIONAL, samples=s.unary())
def silu(input: Node) -> Node:
    """``input * sigmoid(input)``.  (torch.nn.functional.silu)"""
    if input.dtype.kind == "c":
        return input / (1 + lang.exp(-input))
    far = lang.lt(input, _FAR)  # the exponential may be too small for a float where the product is not
    power = lang.exp(lang.where(far, input + 37, -input))  # exp(-37) is by chance nearly a float32
    return lang.where(far, input * power * 8.533047625744066e-17, input / (1 + power))


def _softplus_grad(g: Node, out: Node, input: Node, beta: float = 1.0, threshold: float = 20.0) -> list[Node | None]:
    scaled = input * number(beta, input)
    return [lang.where(lang.lt(number(threshold, input), scaled), g, g * smooth_logistic(scaled))]


@op("softplus", out="exact", operands=1, promote="arith", kinds="f", grad=_softplus_grad, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(beta=2.0, threshold=1.0)))  # fmt: skip
def softplus(input: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """``log(1 + exp(beta * input)) / beta``; ``input`` itself above the threshold.  (torch.nn.functional.softplus)"""
    b = number(beta, input)
    scaled = input * b
    return lang.where(lang.lt(number(threshold, input), scaled), input, lang.log1p(lang.exp(scaled)) / b)


def _tanh_log1p_exp(a: Node) -> Node:
    """``tanh(log(1 + exp(a)))``: with ``n = exp(-|a|)`` a quotient of ``n * (n + 2)`` or ``1 + 2 n``, and ``2 n ** 2`` or 2 more."""
    below = lang.lt(a, 0)
    n = lang.exp(lang.where(below, a, -a))
    part = lang.where(below, lang.fma(n, n, n + n), 1 + (n + n))
    return part / (part + lang.where(below, 2, 2 * n * n))


def _mish_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    t = _tanh_log1p_exp(input)
    return [g * (t + input * smooth_logistic(input) * (1 - t * t))]


@op("mish", operands=1, promote="arith", kinds="f", acc="double", grad=_mish_grad, where=FUNCTIONAL, samples=s.unary())
def mish(input: Node) -> Node:
    """``input * tanh(log(1 + exp(input)))``.  (torch.nn.functional.mish)"""
    return input * _tanh_log1p_exp(input)


def _refuse_bool(input: Node) -> None:
    if input.dtype is bool_:
        raise DtypeError("not implemented for 'bool'; convert first, e.g. x.float()")


@op("softsign", operands=1, promote="float", kinds="fc", refuses=_refuse_bool, where=FUNCTIONAL, samples=s.unary())
def softsign(input: Node) -> Node:
    """``input / (1 + |input|)``.  (torch.nn.functional.softsign)"""
    return lang.scaled(input, 1 / (1 + lang.absolute(input))) if input.dtype.kind == "c" else input / (1 + lang.absolute(input))


def _hardsigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [lang.where(lang.lt(-3, input) & lang.lt(input, 3), g / 6, 0)]  # none for nan


@op("hardsigmoid", operands=1, promote="arith", kinds="f", grad=_hardsigmoid_grad, where=FUNCTIONAL, samples=s.unary())
def hardsigmoid(input: Node) -> Node:
    """``min(max(input + 3, 0), 6) / 6``.  (torch.nn.functional.hardsigmoid)"""
    return lang.minimum(lang.maximum(input + 3, 0), 6) / 6


def _hardswish_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    middle = g * (input / 3 + 0.5)
    return [lang.where(lang.le(input, -3), 0, lang.where(lang.le(3, input), g, middle))]  # nan where the input is


@op("hardswish", operands=1, promote="arith", kinds="f", grad=_hardswish_grad, where=FUNCTIONAL, samples=s.unary())
def hardswish(input: Node) -> Node:
    """``input * min(max(input + 3, 0), 6) / 6``.  (torch.nn.functional.hardswish)"""
    return input * lang.minimum(lang.maximum(input + 3, 0), 6) / 6


def _celu_grad(g: Node, out: Node, input: Node, alpha: float = 1.0) -> list[Node | None]:
    return [lang.where(lang.lt(0, input), g, g * lang.exp(input / number(alpha, g)))]  # nan where the input is


@op("celu", operands=1, promote="arith", kinds="f", grad=_celu_grad, inplace=True, where=("", "nn.functional"),
    samples=s.more(s.unary(), s.unary(alpha=0.7)))  # fmt: skip
def celu(input: Node, alpha: float = 1.0) -> Node:
    """``input`` where positive, else ``alpha * (exp(input / alpha) - 1)``.  (torch.nn.functional.celu)"""
    if alpha == 0:
        raise SpiralError("ZeroDivisionError: alpha cannot be 0 for CELU")
    a = number(alpha, input)
    return lang.where(lang.le(input, 0), a * lang.expm1(input / a), input)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _selu_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [lang.where(lang.le(input, 0), g * (_SELU_ALPHA * _SELU_SCALE) * lang.exp(input), g * _SELU_SCALE)]


@op("selu", operands=1, promote="arith", kinds="f", grad=_selu_grad, inplace=True, where=("", "nn.functional"),
    samples=s.unary())  # fmt: skip
def selu(input: Node) -> Node:
    """``1.0507 * input`` where positive, else ``1.0507 * 1.6733 * (exp(input) - 1)``, constants that keep mean 0 and
    variance 1.  (torch.nn.functional.selu)"""
    return lang.where(lang.le(input, 0), (_SELU_ALPHA * _SELU_SCALE) * lang.expm1(input), input * _SELU_SCALE)


def _halves(input: Node, dim: int) -> tuple[Node, Node, int]:
    if not input.shape:
        raise SpiralError("glu does not support 0-dimensional tensors")
    if input.dtype.kind != "f":
        raise_dtype(glu, input.dtype)
    axis = wrap_dim(dim, len(input.shape))
    n = input.shape[axis]
    if n % 2:
        raise SpiralError(f"Halving dimension must be even, but dimension {axis} is size {n}")
    ranges = [(0, k, 1) for k in input.shape]
    first, second = ranges.copy(), ranges.copy()
    first[axis], second[axis] = (0, n // 2, 1), (n // 2, n, 1)
    return graph.slice_(input, tuple(first)), graph.slice_(input, tuple(second)), axis


def _glu_grad(g: Node, out: Node, input: Node, dim: int = -1) -> list[Node | None]:
    a, b, axis = _halves(input, dim)
    y = smooth_logistic(b)
    return [joined([g * y, g * a * (y * (1 - y))], axis)]  # not through exp(-b), which overflows


@op("glu", lies="input", where=FUNCTIONAL, grad=_glu_grad, samples=s.calls(
    s.call(T(2, 4)), s.call(T(4, 3, 2), 0), s.call(T(6), dim=-1), s.call(T(0, 4), 1),
    s.value_only(T(2, 14, fill="special"), 0)))  # fmt: skip
def glu(input: Node, dim: int = -1) -> Node:
    """The first half of ``dim`` times the sigmoid of the second.  (torch.nn.functional.glu)"""
    a, b, _ = _halves(input, dim)
    return a * logistic(b)


def _hardshrink_grad(g: Node, out: Node, input: Node, lambd: float = 0.5) -> list[Node | None]:
    return [_inner_gone(input, lambd, g)]


def _inner_gone(input: Node, lambd: float, value: Node) -> Node:
    k = number(lambd, input)
    return lang.where(lang.le(-k, input) & lang.le(input, k), 0, value)


@op("hardshrink", out="exact", operands=1, promote="arith", kinds="f", acc=False, grad=_hardshrink_grad, where=EVERYWHERE,
    samples=s.more(s.unary(), s.unary(lambd=1.0)))  # fmt: skip
def hardshrink(input: Node, lambd: float = 0.5) -> Node:
    """``input`` outside -``lambd`` to ``lambd``, else 0.  (torch.nn.functional.hardshrink)"""
    return _inner_gone(input, lambd, input)


def _softshrink_grad(g: Node, out: Node, input: Node, lambd: float = 0.5) -> list[Node | None]:
    return [_inner_gone(input, lambd, g)]


@op("softshrink", out="exact", operands=1, promote="arith", kinds="f", grad=_softshrink_grad, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(lambd=1.0)))  # fmt: skip
def softshrink(input: Node, lambd: float = 0.5) -> Node:
    """``input`` moved towards 0 by ``lambd``, and 0 where it would pass it.  (torch.nn.functional.softshrink)"""
    if lambd < 0:
        raise SpiralError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    k = number(lambd, input)
    moved = lang.where(lang.lt(input, 0), input + k, input - k)
    return lang.where(lang.le(-k, input) & lang.le(input, k), 0, moved)


@op("tanhshrink", operands=1, promote="float", kinds="fc", refuses=_refuse_bool, where=FUNCTIONAL, samples=s.unary())
def tanhshrink(input: Node) -> Node:
    """``input - tanh(input)``.  (torch.nn.functional.tanhshrink)"""
    return input - lang.tanh(input)


def _threshold_grad(g: Node, out: Node, input: Node, threshold: Any, value: Any) -> list[Node | None]:
    return [lang.where(lang.le(input, number(threshold, input)), 0, g)]


@op("threshold", operands=1, promote="arith", kinds="uif", acc=False, grad=_threshold_grad, inplace=True,
    where=("", "nn.functional"), samples=s.more(s.unary(threshold=0.5, value=20), s.unary(threshold=-1, value=-2)))  # fmt: skip
def threshold(input: Node, threshold: Any, value: Any) -> Node:
    """``input`` where it is greater than ``threshold``, else ``value``.  (torch.nn.functional.threshold)"""
    return lang.where(lang.le(input, number(threshold, input)), number(value, input), input)


def _prelu_slope(input: Node, weight: Node) -> Node:
    """``weight`` along axis 1 of ``input``, checked."""
    rank = len(input.shape)
    if input.dtype is not weight.dtype:
        raise SpiralError(f"prelu: Type promoting not supported. Got {input.dtype.name} and {weight.dtype.name}")
    if input.dtype.kind != "f":
        raise_dtype(prelu, input.dtype)
    if len(weight.shape) > 1:
        raise SpiralError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {len(weight.shape)}"
        )
    if weight.size != 1:
        if not rank:
            raise SpiralError("Not allow zero-dim input tensor.")
        channels = input.shape[1] if rank > 1 else 1
        if channels != weight.size:
            raise SpiralError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.size} and "
                f"channel size = {channels}."
            )
    return graph.reshape(weight, (1,) * min(rank, 1) + (weight.size,) * (rank > 1) + (1,) * (rank - 2))


@op("prelu", lies="input", where=EVERYWHERE, samples=s.calls(
    s.call(T(2, 3, 4), T(3)), s.call(T(2, 3), T(1)), s.call(T(5), T(1)), s.call(T(), T(1)), s.call(T(2, 3), T()),
    s.call(T(0, 3), T(3)), s.call(T(2, 3, 2, 2), T(3)), s.value_only(T(14, fill="special"), T(1))))  # fmt: skip
def prelu(input: Node, weight: Node) -> Node:
    """``input`` where positive, else ``weight * input``; one weight, or one for each channel (axis 1).
    (torch.nn.functional.prelu)"""
    return input * lang.where(lang.lt(0, input), 1, _prelu_slope(input, weight))


def _seeded(*args: Any, **kwargs: Any) -> s.Call:
    return s.call(args[0], np.array(7, np.uint64), np.array(3, np.uint64), *args[1:], **kwargs)


@op("rrelu", where=(), saves=("input", "key", "counter"), samples=s.calls(
    _seeded(T(50, 40)), _seeded(T(5), 0.1, 0.1), _seeded(T(0, 3))))  # fmt: skip
def rrelu(input: Node, key: Node, counter: Node, lower: float = 1 / 8, upper: float = 1 / 3) -> Node:
    """``input`` where positive, else times a factor drawn from [lower, upper) for each element.
    (torch.nn.functional.rrelu)"""
    if input.dtype.kind != "f":
        raise_dtype(rrelu, input.dtype)
    if lower > upper:
        raise SpiralError("Lower bound should be less than or equal to the upper bound")
    u = fraction(key, counter, input.shape, input.dtype)
    slope = u * number(upper - lower, u) + number(lower, u)
    return lang.where(lang.le(input, 0), input * slope, input)


@op("gumbel_softmax", where=(), saves=("logits", "key", "counter"), samples=s.calls(
    _seeded(T(50, 40)), _seeded(T(5), 0.5, True), _seeded(T(0, 3)), _seeded(T(4, 5), dim=0)))  # fmt: skip
def gumbel_softmax(
    logits: Node, key: Node, counter: Node, tau: float = 1, hard: bool = False, dim: int = -1
) -> Node:
    """``softmax((logits + noise) / tau)`` along ``dim`` with Gumbel noise; ``hard`` gives the largest as one-hot, with
    the soft one's gradient.  (torch.nn.functional.gumbel_softmax)"""
    if logits.dtype.kind != "f":
        raise_dtype(gumbel_softmax, logits.dtype)
    axis = wrap_dim(dim, len(logits.shape))
    exponential = -lang.log(1 - fraction(key, counter, logits.shape, logits.dtype))
    tiny = float(dtypes_limits(logits).tiny)
    noisy = (logits - lang.log(lang.maximum(exponential, tiny))) / number(tau, logits)
    soft = softmax_along(noisy, axis)
    if not hard:
        return soft
    top = lang.eq(soft, fold("max", soft, axis, keepdim=True)) if logits.shape else lang.eq(soft, soft)
    first = lang.eq(graph.iota(soft.shape, axis), first_where(top, axis, keepdim=True)) if logits.shape else top
    return cast(first, soft.dtype) - lang.detach(soft) + soft
