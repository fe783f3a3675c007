"""Losses that ask for a margin: between two scores, between classes, between near and far.

In: scores or vectors, and targets that say which should be larger, closer or positive.  Out: a node, reduced as
``reduction`` says.  At a margin's edge the gradient is torch's: whole for clamped ones, none for those summed over
classes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, t = graph.param(0, (8, 10), dtypes.float32), graph.param(1, (8,), dtypes.int64)
    >>> OPS["multi_margin_loss"].apply([x, t], {"reduction": "none"}).shape
    (8,)
"""

from __future__ import annotations

import math
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .activation import log1p_exp
from .distance import between, cosine_of
from .elementwise import floating, number
from .loss import check_reduction, reduced, spread
from .registry import no_bools, op, raise_dtype

T = s.T
WHERE = ("nn.functional",)


def _not_below_zero(x: Node) -> Node:
    """``max(x, 0)``, whose gradient is whole at 0 and 0 for nan, as torch's clamp_min_ has it."""
    return lang.where(lang.le(0, x), x, lang.where(lang.lt(x, 0), number(0, x), math.nan) if x.dtype.kind == "f" else 0)


def _three(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(2, 3), T(2, 3), T(2, 3, fill="sign"), **kwargs), s.call(T(5), T(5), T(5, fill="sign"), reduction="none", **kwargs),
        s.call(T(2, 3), T(2, 3), T(2, 1, fill="sign"), reduction="sum", **kwargs), s.call(T(), T(), T(fill="sign"), **kwargs),
        s.call(T(0, 3), T(0, 3), T(0, 3), reduction="sum", **kwargs),
    )  # fmt: skip


@op("margin_ranking_loss", operands=3, promote="arith", refuses=no_bools, kinds="uif", where=WHERE,
    samples=s.more(_three(), _three(margin=0.5)))  # fmt: skip
def margin_ranking_loss(input1: Node, input2: Node, target: Node, margin: float = 0, *,
                        reduction: str = "mean") -> Node:  # fmt: skip
    """``max(0, margin - target * (input1 - input2))``, reduced: a target of 1 wants ``input1`` larger, -1 smaller.
    (torch.nn.functional.margin_ranking_loss)"""
    if not len(input1.shape) == len(input2.shape) == len(target.shape):
        raise ShapeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
            f"{list(input1.shape)}, input2: {list(input2.shape)}, target: {list(target.shape)} "
        )
    apart = floating(-target * (input1 - input2))
    return reduced(_not_below_zero(apart + number(margin, apart)), reduction)


def _labels(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(2, 3), T(2, 3, fill="sign"), **kwargs), s.call(T(5), T(5, fill="sign"), reduction="none", **kwargs),
        s.call(T(2, 3), T(3, fill="sign"), reduction="sum", **kwargs), s.call(T(), T(fill="sign"), **kwargs),
        s.call(T(0, 3), T(0, 3), reduction="sum", **kwargs),
    )  # fmt: skip


def _of_scores(named: dict[str, Any]) -> dtypes.DType:
    """The type of the scores; sums of integers are int64."""
    d: dtypes.DType = named["input"].dtype
    return d if d.category >= dtypes.FLOAT or named.get("reduction") == "none" else dtypes.int64


@op("hinge_embedding_loss", operands=2, promote="arith", typed=_of_scores, kinds="uif", where=WHERE,
    samples=s.more(_labels(), _labels(margin=0.3)))  # fmt: skip
def hinge_embedding_loss(input: Node, target: Node, margin: float = 1.0, *, reduction: str = "mean") -> Node:
    """``input`` where the target is 1, ``max(0, margin - input)`` where it is -1 (both elsewhere), reduced.
    (torch.nn.functional.hinge_embedding_loss)"""
    short = _not_below_zero(number(margin, input) - input)
    return reduced(lang.where(lang.ne(target, 1), short, 0) + lang.where(lang.ne(target, -1), input, 0), reduction)


def _soft_margin_grad(g: Node, out: Node, input: Node, target: Node, *, reduction: str = "mean") -> list[Node | None]:
    shape = lang.shapes_broadcast([input.shape, target.shape])
    return [spread(g, shape, reduction) * (-target * lang.smooth_logistic(-target * input)), None]


def _settles(input: Node, target: Node) -> None:
    shape = lang.shapes_broadcast([input.shape, target.shape])
    if shape != input.shape:
        raise ShapeError(f"output with shape {list(input.shape)} doesn't match the broadcast shape {list(shape)}")
    if input.dtype is dtypes.bool_:
        raise SpiralError("Negation, the `-` operator, on a bool tensor is not supported; use ~ or logical_not()")


@op("soft_margin_loss", operands=2, promote="arith", typed="input", undefined=("target",), refuses=_settles, kinds="fc",
    grad=_soft_margin_grad, where=WHERE, samples=s.calls(
    s.call(T(2, 3), T(2, 3, fill="sign", dtype=dtypes.int64)), s.call(T(5), T(5, fill="sign", dtype=dtypes.int64), reduction="none"),
    s.call(T(2, 3), T(2, 3, fill="sign", dtype=dtypes.int64), reduction="sum")))  # fmt: skip
def soft_margin_loss(input: Node, target: Node, *, reduction: str = "mean") -> Node:
    """``log(1 + exp(-target * input))``, reduced.  (torch.nn.functional.soft_margin_loss)"""
    return reduced(lang.log1p(lang.exp(-target * input)), reduction)


# -- classes --------------------------------------------------------------------------------------


def _rows(name: str, input: Node) -> Node:
    """Scores [N, C]; one sample may come as [C] or, for one class, ()."""
    if len(input.shape) > 2 or (input.shape and not input.shape[-1]) or input.dtype.kind != "f":
        if input.dtype.kind != "f":
            raise_dtype(multi_margin_loss, input.dtype)
        raise ShapeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    return input if len(input.shape) == 2 else graph.reshape(input, (1, input.size))


@op("multi_margin_loss", undefined=("weight",), where=WHERE, samples=s.calls(
    s.call(T(4, 5), T(4, fill="index", high=5)), s.call(T(5), T(fill="index", high=5)),
    s.call(T(4, 5), T(4, fill="index", high=5), p=2, reduction="sum"),
    s.call(T(4, 5), T(4, fill="index", high=5), 1, 0.5, T(5, fill="positive"), reduction="none")))  # fmt: skip
def multi_margin_loss(input: Node, target: Node, p: int = 1, margin: float = 1.0, weight: Node | None = None, *,
                      reduction: str = "mean") -> Node:  # fmt: skip
    """``sum(max(0, margin - input[target] + input[i]) ** p) / C`` over the classes i other than the target, times its
    ``weight``; input [N, C] or [C], target [N] or ().  (torch.nn.functional.multi_margin_loss)"""
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and len(weight.shape) != 1:
        raise ValueError("weight must be one-dimensional")
    check_reduction(reduction)
    x = _rows("multi_margin_loss", input)
    n, classes = x.shape
    if len(target.shape) > 1 or target.size != n:
        raise ShapeError(f"inconsistent target size, expected {n} but got {list(target.shape)}")
    if target.dtype is not dtypes.int64:
        raise SpiralError(f"expected scalar type Long but found {target.dtype.name}")
    if weight is not None and weight.size != classes:
        raise ShapeError(f"inconsistent weight size, expected {classes} but got {list(weight.shape)}")
    at = graph.reshape(target, (n, 1))
    z = number(margin, x) - graph.gather_along(x, at, 1) + x
    short = lang.where(lang.lt(0, z), z if p == 1 else z * z, 0)
    if weight is not None:
        short = short * graph.gather(cast(weight, x.dtype), at, 0)
    others = lang.where(lang.eq(graph.iota(x.shape, 1), at), 0, short)
    loss = fold("add", others, 1) / number(float(classes), x)
    return reduced(loss if target.shape else graph.reshape(loss, ()), reduction)


@op("multilabel_margin_loss", where=WHERE, samples=s.calls(
    s.call(T(4, 5), T(4, 5, fill="wrapped", high=1)), s.call(T(5), T(5, fill="wrapped", high=1)),
    s.call(T(3, 4), T(3, 4, fill="index", high=4), reduction="sum"),
    s.call(T(4, 6), T(4, 6, fill="wrapped", high=1), reduction="none")))  # fmt: skip
def multilabel_margin_loss(input: Node, target: Node, *, reduction: str = "mean") -> Node:
    """``sum(max(0, 1 - input[t] + input[i])) / C`` over the target classes t of a row, which end at the first negative
    number, and the classes i that are none of them.  (torch.nn.functional.multilabel_margin_loss)"""
    check_reduction(reduction)
    x = _rows("multilabel_margin_loss", input)
    if target.shape != input.shape and target.size != input.size:
        raise ShapeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    if target.dtype is not dtypes.int64:
        raise SpiralError(f"expected scalar type Long but found {target.dtype.name}")
    n, classes = x.shape
    t = graph.reshape(target, (n, classes))
    column = graph.iota((n, classes), 1)
    end = fold("min", lang.where(lang.lt(t, 0), column, classes), 1, keepdim=True)
    given = lang.lt(column, end)
    t = lang.where(given, t, 0)
    wide = (n, classes, classes)  # row, place in the target, class
    given = graph.reshape(given, (n, classes, 1))
    is_class = lang.eq(graph.expand(graph.reshape(t, (n, classes, 1)), wide), graph.iota(wide, 2)) & given
    chosen = graph.reshape(fold("max", is_class, 1), (n, 1, classes))
    z = 1 - graph.reshape(graph.gather_along(x, t, 1), (n, classes, 1)) + graph.reshape(x, (n, 1, classes))
    short = lang.where(lang.lt(0, z) & given & ~chosen, z, 0)
    loss = fold("add", short, (1, 2)) / number(float(classes), x)
    return reduced(loss if len(input.shape) == 2 else graph.reshape(loss, ()), reduction)


def _no_bool_target(input: Node, target: Node, weight: Node | None = None) -> None:
    no_bools(target)


@op("multilabel_soft_margin_loss", operands=3, promote="arith", numbers="none", refuses=_no_bool_target, pointwise=False,
    where=WHERE, samples=s.calls(
    s.call(T(4, 5), T(4, 5, fill="open")), s.call(T(5), T(5, fill="open"), reduction="sum"),
    s.call(T(4, 5), T(4, 5, fill="open"), T(5, fill="positive"), reduction="none"),
    s.call(T(0, 5), T(0, 5), reduction="sum")))  # fmt: skip
def multilabel_soft_margin_loss(input: Node, target: Node, weight: Node | None = None, *,
                                reduction: str = "mean") -> Node:  # fmt: skip
    """Binary cross entropy of ``sigmoid(input)`` for each class, times its ``weight``, averaged over the last axis and
    reduced.  (torch.nn.functional.multilabel_soft_margin_loss)"""
    if not input.shape:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    if input.dtype.kind != "f":
        raise_dtype(multilabel_soft_margin_loss, input.dtype)
    check_reduction(reduction)
    t = floating(target)
    loss = t * log1p_exp(-input) + (1 - t) * log1p_exp(input)
    loss = loss if weight is None else loss * weight
    axis = len(input.shape) - 1
    return reduced(fold("add", loss, axis) / number(float(input.shape[-1]), loss), reduction)


# -- vectors --------------------------------------------------------------------------------------


@op("cosine_embedding_loss", pointwise=False, operands=2, promote="arith", where=WHERE, tolerance=1e-4, samples=s.calls(
    s.call(T(4, 5), T(4, 5), T(4, fill="sign")), s.call(T(5), T(5), T(fill="sign"), 0.2),
    s.call(T(4, 5), T(4, 5), T(4, fill="sign"), margin=-0.5, reduction="none"),
    s.call(T(0, 5), T(0, 5), T(0), reduction="sum")))  # fmt: skip
def cosine_embedding_loss(input1: Node, input2: Node, target: Node, margin: float = 0, *,
                          reduction: str = "mean") -> Node:  # fmt: skip
    """``1 - cos`` where the target is 1, ``max(0, cos - margin)`` where it is -1, reduced; ``cos`` is that of the angle
    between rows.  (torch.nn.functional.cosine_embedding_loss)"""
    rank = len(target.shape)
    if rank > 1:
        raise SpiralError("0D or 1D target tensor expected, multi-target not supported")
    if len(input1.shape) != rank + 1 or len(input2.shape) != rank + 1:
        raise ShapeError(
            f"{rank}D target tensor expects {rank + 1}D input tensors, but found inputs with sizes "
            f"{list(input1.shape)} and {list(input2.shape)}."
        )
    input1, input2, target = floating(input1), floating(input2), floating(target)
    cosine = cosine_of(input1, input2)
    far = _not_below_zero(cosine - number(margin, cosine))
    return reduced(lang.where(lang.eq(target, 1), 1 - cosine, 0) + lang.where(lang.eq(target, -1), far, 0), reduction)


def _triplets(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(4, 5), T(4, 5), T(4, 5), **kwargs), s.call(T(5), T(5), T(5), reduction="none", **kwargs),
        s.call(T(2, 4, 5), T(1, 4, 5), T(2, 1, 5), reduction="sum", **kwargs),
    )  # fmt: skip


@op("triplet_margin_loss", pointwise=False, operands=3, promote="arith", kinds="uifc", where=WHERE, tolerance=1e-4,
    samples=s.more(_triplets(), _triplets(swap=True, margin=0.5), _triplets(p=1, eps=0.1)))  # fmt: skip
def triplet_margin_loss(anchor: Node, positive: Node, negative: Node, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean") -> Node:  # fmt: skip
    """``max(0, margin + d(anchor, positive) - d(anchor, negative))`` with the p-norm as distance, reduced; ``swap``
    takes the nearer of anchor and positive to the negative (Balntas et al., 2016).
    (torch.nn.functional.triplet_margin_loss)"""
    ranks = [len(n.shape) for n in (anchor, positive, negative)]
    if len(set(ranks)) != 1:
        raise ShapeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {ranks[0]}D, positive {ranks[1]}D, and negative {ranks[2]}D inputs"
        )
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    near, far = between(anchor, positive, p, eps), between(anchor, negative, p, eps)
    if swap:
        far = lang.minimum(far, between(positive, negative, p, eps))
    return reduced(_not_below_zero(number(margin, near) + near - far), reduction)
