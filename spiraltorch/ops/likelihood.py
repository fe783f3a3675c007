"""Negative log likelihoods of distributions: Poisson and normal.

In: the distribution's parameters that a model gave, and what was observed.  Out: a node, reduced as ``reduction``
says.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, y, v = (graph.param(k, (8, 2), dtypes.float32) for k in range(3))
    >>> OPS["gaussian_nll_loss"].apply([x, y, v], {"reduction": "none"}).shape
    (8, 2)
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import FLOAT
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node
from . import samples as s
from .elementwise import floating, number
from .loss import check_reduction, reduced, required
from .registry import op

T = s.T
WHERE = ("nn.functional",)


def _counts(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(2, 3, fill="positive"), T(2, 3, fill="positive"), **kwargs),
        s.call(T(5, fill="positive"), T(5, fill="open"), reduction="none", **kwargs),
        s.call(T(2, 3, fill="positive"), T(3, fill="positive"), reduction="sum", **kwargs),
        s.call(T(fill="positive"), T(fill="positive"), **kwargs), s.call(T(0, 3), T(0, 3), reduction="sum", **kwargs),
    )  # fmt: skip


@op("poisson_nll_loss", operands=2, promote="arith", kinds="uifc", where=WHERE, tolerance=1e-4,
    samples=s.more(_counts(), _counts(log_input=False), _counts(full=True)))  # fmt: skip
def poisson_nll_loss(input: Node, target: Node, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
                     reduction: str = "mean") -> Node:  # fmt: skip
    """``exp(input) - target * input`` for the rate's logarithm, or ``input - target * log(input + eps)`` for the rate,
    reduced; ``full`` adds Stirling's term for targets above 1.  (torch.nn.functional.poisson_nll_loss)"""
    check_reduction(reduction)
    input, target = floating(input), floating(target)
    loss = lang.exp(input) - target * input if log_input else input - target * lang.log(input + number(eps, input))
    if full:
        many = lang.lt(1, target)
        t = lang.where(many, target, 2)
        stirling = t * lang.log(t) - t + 0.5 * lang.log(2 * math.pi * t)
        loss = loss + lang.where(many, stirling, 0)
    return reduced(loss, reduction)


def _normals(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(4, 3), T(4, 3), T(4, 3, fill="positive"), **kwargs), s.call(T(4, 3), T(4, 3), T(4, fill="positive"), **kwargs),
        s.call(T(4, 3), T(3), T(4, 1, fill="positive"), reduction="sum", **kwargs),
        s.call(T(5), T(5), T(5, fill="open"), reduction="none", **kwargs), s.call(T(2, 3), T(2, 3), 0.5, **kwargs),
    )  # fmt: skip


def _refuse_integers(input: Any, target: Any, var: Any) -> None:
    if isinstance(var, Node) and var.dtype.category < FLOAT:
        raise SpiralError(f"result type float32 can't be cast to the desired output type {var.dtype.name}")


@op("gaussian_nll_loss", pointwise=False, operands=3, promote="float", kinds="f", refuses=_refuse_integers, where=WHERE, tolerance=1e-4,
    samples=s.more(_normals(), _normals(full=True), _normals(eps=0.9)))  # fmt: skip
def gaussian_nll_loss(input: Node, target: Node, var: Node, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Node:  # fmt: skip
    """``(log(var) + (input - target) ** 2 / var) / 2``, reduced; ``var`` (the input's shape, or without or with size 1
    for one axis, or a number) counts as at least ``eps``; ``full`` adds ``log(2 * pi) / 2``.  Raises ValueError, for whoever
    looks, where ``var`` is negative.
    (torch.nn.functional.gaussian_nll_loss)"""
    if var.op == "CONST":  # a number
        if var.arg.value < 0:
            raise ValueError("var has negative entry/entries")
        var = graph.expand(var, input.shape)
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape and input.shape:
            var = graph.reshape(var, (*var.shape, 1))
        elif len(var.shape) != len(input.shape) or sum([b for a, b in zip(input.shape, var.shape) if a != b]) != 1:
            raise ValueError("var is of incorrect size")
    check_reduction(reduction)
    holds = lang.not_(lang.lt(var, 0))  # nan is no refusal
    least = number(eps, var)
    var = lang.where(lang.lt(var, least), var - lang.detach(var) + least, var)  # the gradient passes the limit
    apart = input - target
    loss = 0.5 * (lang.log(var) + apart * apart / var)
    loss = reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
    return required(loss, holds, "ValueError", "var has negative entry/entries")
