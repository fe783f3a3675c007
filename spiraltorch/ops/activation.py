"""Activation functions: one node in, one node of the same shape and type out.

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

from ..errors import SpiralError
from ..ir import lang
from ..ir.node import Node
from . import samples as s
from .elementwise import number
from .registry import op

FUNCTIONAL = ("nn.functional",)
EVERYWHERE = ("", "Tensor", "nn.functional")


def logistic(a: Node) -> Node:
    return 1 / (1 + lang.exp(-a))


def log1p_exp(a: Node) -> Node:
    """``log(1 + exp(a))`` without overflow on the way."""
    return lang.maximum(a, 0) + lang.log1p(lang.exp(-lang.absolute(a)))


def _sigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * (out * (1 - out))]


@op("sigmoid", operands=1, aliases=("special.expit",), promote="float", kinds="fc", grad=_sigmoid_grad, saves="o",
    inplace=True,
    where=EVERYWHERE, samples=s.unary())  # fmt: skip
def sigmoid(input: Node) -> Node:
    """``1 / (1 + exp(-input))``; integers give floats.  (torch.sigmoid)"""
    return logistic(input)


def _logsigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g / (1 + lang.exp(input))]


@op("logsigmoid", operands=1, promote="arith", kinds="f", grad=_logsigmoid_grad, where=FUNCTIONAL, samples=s.unary())
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


@op("hardtanh", operands=1, promote="arith", kinds="uif", grad=_hardtanh_grad, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(min_val=-0.5, max_val=2)))  # fmt: skip
def hardtanh(input: Node, min_val: Any = -1.0, max_val: Any = 1.0) -> Node:
    """``min(max(input, min_val), max_val)``; no gradient at the limits.  (torch.nn.functional.hardtanh)"""
    return lang.minimum(lang.maximum(input, number(min_val, input)), number(max_val, input))


def _leaky_relu_grad(g: Node, out: Node, input: Node, negative_slope: float = 0.01) -> list[Node | None]:
    return [lang.where(lang.lt(0, input), g, g * number(negative_slope, g))]


@op("leaky_relu", operands=1, promote="arith", kinds="f", grad=_leaky_relu_grad, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(negative_slope=0.3)))  # fmt: skip
def leaky_relu(input: Node, negative_slope: float = 0.01) -> Node:
    """``input`` where positive, else ``negative_slope * input``.  (torch.nn.functional.leaky_relu)"""
    return lang.where(lang.lt(0, input), input, input * number(negative_slope, input))


def _elu_grad(g: Node, out: Node, input: Node, alpha: float = 1.0) -> list[Node | None]:
    return [lang.where(lang.lt(0, input), g, g * (number(alpha, g) * lang.exp(input)))]


@op("elu", operands=1, promote="arith", kinds="f", grad=_elu_grad, where=FUNCTIONAL,
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


@op("gelu", operands=1, promote="arith", kinds="f", grad=_gelu_grad, where=FUNCTIONAL,
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
    y = logistic(input)
    return [g * (y * (1 + input * (1 - y)))]


@op("silu", operands=1, promote="arith", kinds="fc", grad=_silu_grad, where=FUNCTIONAL, samples=s.unary())
def silu(input: Node) -> Node:
    """``input * sigmoid(input)``.  (torch.nn.functional.silu)"""
    return input / (1 + lang.exp(-input))


def _softplus_grad(g: Node, out: Node, input: Node, beta: float = 1.0, threshold: float = 20.0) -> list[Node | None]:
    scaled = input * number(beta, input)
    return [lang.where(lang.lt(number(threshold, input), scaled), g, g * logistic(scaled))]


@op("softplus", operands=1, promote="arith", kinds="f", grad=_softplus_grad, where=FUNCTIONAL,
    samples=s.more(s.unary(), s.unary(beta=2.0, threshold=1.0)))  # fmt: skip
def softplus(input: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """``log(1 + exp(beta * input)) / beta``; ``input`` itself above the threshold.  (torch.nn.functional.softplus)"""
    b = number(beta, input)
    scaled = input * b
    return lang.where(lang.lt(number(threshold, input), scaled), input, lang.log1p(lang.exp(scaled)) / b)


def _mish_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    t = lang.tanh(log1p_exp(input))
    return [g * (t + input * logistic(input) * (1 - t * t))]


@op("mish", operands=1, promote="arith", kinds="f", grad=_mish_grad, where=FUNCTIONAL, samples=s.unary())
def mish(input: Node) -> Node:
    """``input * tanh(log(1 + exp(input)))``.  (torch.nn.functional.mish)"""
    return input * lang.tanh(log1p_exp(input))


@op("softsign", operands=1, promote="float", kinds="f", where=FUNCTIONAL, samples=s.unary())
def softsign(input: Node) -> Node:
    """``input / (1 + |input|)``.  (torch.nn.functional.softsign)"""
    return input / (1 + lang.absolute(input))


def _hardsigmoid_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [_inside(g / 6, input, -3, 3)]


@op("hardsigmoid", operands=1, promote="arith", kinds="f", grad=_hardsigmoid_grad, where=FUNCTIONAL, samples=s.unary())
def hardsigmoid(input: Node) -> Node:
    """``min(max(input + 3, 0), 6) / 6``.  (torch.nn.functional.hardsigmoid)"""
    return lang.minimum(lang.maximum(input + 3, 0), 6) / 6


def _hardswish_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    middle = g * (input / 3 + 0.5)
    return [lang.where(lang.le(input, -3), 0, lang.where(lang.lt(input, 3), middle, g))]


@op("hardswish", operands=1, promote="arith", kinds="f", grad=_hardswish_grad, where=FUNCTIONAL, samples=s.unary())
def hardswish(input: Node) -> Node:
    """``input * min(max(input + 3, 0), 6) / 6``.  (torch.nn.functional.hardswish)"""
    return input * lang.minimum(lang.maximum(input + 3, 0), 6) / 6
