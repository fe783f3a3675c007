"""Losses: a number, or one an element, that says how far predictions are from targets.

In: predictions and targets as nodes.  Out: a node, reduced as ``reduction`` says ('mean', 'sum', 'none').
Cross entropy on class numbers reads one element a row; its gradient is ``softmax - onehot`` by comparing
positions, so that neither direction scatters.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, t = graph.param(0, (8, 10), dtypes.float32), graph.param(1, (8,), dtypes.int64)
    >>> OPS["cross_entropy"].apply([x, t], {"reduction": "none"}).shape
    (8,)
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold, smooth_logistic
from ..ir.node import Node, cast
from . import samples as s
from .activation import log1p_exp
from .elementwise import floating, number
from .reduce import log_sum_exp, size_of
from .registry import no_bools, of_one_type, op, raise_dtype, result_type

T = s.T
WHERE = ("nn.functional",)
_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")


def reduced(loss: Node, reduction: str) -> Node:
    """All elements, their sum or their mean."""
    check_reduction(reduction)
    if reduction == "none":
        return loss
    total = fold("add", loss if loss.dtype.kind in "fc" else cast(loss, dtypes.int64), None)
    if reduction == "sum":
        return total
    if loss.dtype.kind not in "fc":
        raise SpiralError(
            f"mean(): input dtype must be either a floating point or complex dtype. Got: {loss.dtype.name}"
        )
    return total / size_of(loss, range(len(loss.shape)))


def required(loss: Node, holds: Node, error: str, message: str) -> Node:
    """``loss``, which whoever looks at it gets only where ``holds`` is true everywhere, else the error."""
    if not holds.size:
        return loss
    return graph.call("checks.require", (loss, fold("min", holds, None)), loss.shape, loss.dtype, error, message)


def _inside(x: Node) -> Node:
    return lang.le(0, x) & lang.le(x, 1)


def spread(g: Node, shape: tuple[int, ...], reduction: str) -> Node:
    """The gradient of :func:`reduced` at each element."""
    if reduction == "none":
        return g
    wide = graph.expand(g, shape)
    return wide if reduction == "sum" else wide / size_of_shape(shape, g)


def size_of_shape(shape: tuple[int, ...], like: Node) -> Node:
    n = 1
    for k in shape:
        n *= k
    return number(float(n), like)


def _pairs(**kwargs: Any) -> Any:
    return s.calls(
        s.call(T(2, 3), T(2, 3), **kwargs), s.call(T(2, 3), T(2, 3), reduction="sum", **kwargs),
        s.call(T(5), T(5), reduction="none", **kwargs), s.call(T(), T(), **kwargs),
        s.call(T(0, 3), T(0, 3), reduction="sum", **kwargs),
    )  # fmt: skip


_WEIGHTED = s.calls(
    s.call(T(2, 3), T(2, 3), weight=T(2, 3, fill="positive")),
    s.call(T(2, 3), T(3), weight=T(2, 3, fill="positive"), reduction="none"),
)  # fmt: skip


def _weighted_mean(loss: Node, weight: Node | None, input: Node, reduction: str) -> Node:
    """``loss`` reduced; with weights, each times its own, and the mean is over the weights' sum."""
    if weight is None:
        return reduced(loss, reduction)
    if weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")
    total = reduced(loss * weight, "sum" if reduction == "mean" else reduction)
    if reduction != "mean":
        return total
    count = fold("add", weight, None)
    return floating(total) / floating(count)


@op("mse_loss", operands=2, promote="arith", kinds="uif", where=WHERE,
    samples=s.more(_pairs(), _WEIGHTED))  # fmt: skip
def mse_loss(input: Node, target: Node, *, reduction: str = "mean", weight: Node | None = None) -> Node:
    """``(input - target) ** 2``, times ``weight`` of the input's shape, reduced.  (torch.nn.functional.mse_loss)"""
    if input.dtype.kind != "f" and weight is None:
        raise_dtype(mse_loss, input.dtype)
    d = input - target
    return _weighted_mean(d * d, weight, input, reduction)


@op("l1_loss", operands=2, promote="arith", refuses=no_bools, kinds="uifc", where=WHERE,
    samples=s.more(_pairs(), _WEIGHTED))  # fmt: skip
def l1_loss(input: Node, target: Node, *, reduction: str = "mean", weight: Node | None = None) -> Node:
    """``|input - target|``, times ``weight`` of the input's shape, reduced.  (torch.nn.functional.l1_loss)"""
    return _weighted_mean(lang.absolute(input - target), weight, input, reduction)


@op(
    "smooth_l1_loss",
    operands=2,
    promote="arith",
    kinds="uifc",
    where=WHERE,
    samples=s.more(_pairs(), _pairs(beta=0.3), _pairs(beta=0)),
)
def smooth_l1_loss(input: Node, target: Node, *, reduction: str = "mean", beta: float = 1.0) -> Node:
    """``d * d / (2 * beta)`` where ``d = |input - target|`` is below ``beta``, else ``d - beta / 2``; reduced.
    (torch.nn.functional.smooth_l1_loss)"""
    if beta < 0:
        raise SpiralError("smooth_l1_loss does not support negative values for beta.")
    d = lang.absolute(input - target)
    if beta == 0:
        return reduced(d, reduction)
    if input.dtype.kind != "f":
        raise_dtype(smooth_l1_loss, input.dtype)
    b = number(beta, d)
    near = lang.where(lang.le(b, d), 0, d)  # the square of an infinite distance would have no gradient
    return reduced(lang.where(lang.lt(d, b), 0.5 * near * near / b, d - 0.5 * b), reduction)


@op("huber_loss", operands=2, promote="arith", typed="input", kinds="f", where=WHERE,
    samples=s.more(_pairs(), _pairs(delta=0.3), _WEIGHTED))  # fmt: skip
def huber_loss(input: Node, target: Node, reduction: str = "mean", delta: float = 1.0,
               weight: Node | None = None) -> Node:  # fmt: skip
    """``d * d / 2`` where ``d = |input - target|`` is at most ``delta``, else ``delta * (d - delta / 2)``, times
    ``weight`` of the input's shape, reduced.  (torch.nn.functional.huber_loss)"""
    if delta <= 0:
        raise SpiralError("huber_loss does not support non-positive values for delta.")
    d = lang.absolute(input - target)
    k = number(delta, d)
    near = lang.where(lang.lt(k, d), 0, d)
    loss = lang.where(lang.le(d, k), 0.5 * near * near, k * (d - 0.5 * k))
    if weight is not None and weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")
    return reduced(loss if weight is None else loss * cast(weight, loss.dtype), reduction)


# -- binary cross entropy -------------------------------------------------------------------------


def _weighted(loss: Node, weight: Node | None) -> Node:
    """``loss`` times ``weight``, which broadcasts to it.  Raises RuntimeError for a weight that is larger."""
    if weight is None:
        return loss
    shape = lang.shapes_broadcast([loss.shape, weight.shape])
    if shape != loss.shape:
        raise ShapeError(f"output with shape {list(loss.shape)} doesn't match the broadcast shape {list(shape)}")
    return loss * cast(weight, loss.dtype)


def _same_size(name: str, input: Node, target: Node) -> None:
    if input.shape != target.shape:
        raise ValueError(f"Target size ({list(target.shape)}) must be the same as input size ({list(input.shape)})")


def _bce_grad(g: Node, out: Node, input: Node, target: Node, weight: Node | None = None, *,
              reduction: str = "mean") -> list[Node | None]:  # fmt: skip
    up = _weighted(spread(g, input.shape, reduction), weight)
    slope = (input - target) / lang.maximum(input * (1 - input), 1e-12)
    grads: list[Node | None] = [up * slope, up * (lang.log(1 - input) - lang.log(input))]
    return grads if weight is None else [*grads, None]


_BCE = s.calls(
    s.call(T(2, 3, fill="open"), T(2, 3, fill="open")),
    s.call(T(5, fill="open"), T(5, fill="open"), reduction="none"),
    s.call(T(2, 3, fill="open"), T(2, 3, fill="open"), T(3, fill="positive"), reduction="sum"),
)  # fmt: skip


@op("binary_cross_entropy", operands=2, numbers="none", refuses=of_one_type, typed="input", undefined=("weight",), pointwise=False,
    grad=_bce_grad,
    where=WHERE, samples=_BCE)  # fmt: skip
def binary_cross_entropy(input: Node, target: Node, weight: Node | None = None, *, reduction: str = "mean") -> Node:
    """``-(target * log(input) + (1 - target) * log(1 - input))`` times ``weight``, reduced; logarithms are at least
    -100.  Raises RuntimeError, for whoever looks, where an input or a target is not in 0 to 1.
    (torch.nn.functional.binary_cross_entropy)"""
    _same_size("binary_cross_entropy", input, target)
    if input.dtype.kind != "f":
        raise_dtype(binary_cross_entropy, input.dtype)
    yes, no = lang.maximum(lang.log(input), -100.0), lang.maximum(lang.log(1 - input), -100.0)
    loss = reduced(_weighted((target - 1) * no - target * yes, weight), reduction)
    loss = required(loss, _inside(input), "RuntimeError", "all elements of input should be between 0 and 1")
    return required(loss, _inside(target), "RuntimeError", "all elements of target should be between 0 and 1")


def _logit_weight(target: Node, pos_weight: Node | None) -> Node | None:
    """What multiplies log(1 + exp(-x)): 1, or more for positives."""
    return None if pos_weight is None else _weighted(target, pos_weight - 1) + 1


def _bce_logits_grad(g: Node, out: Node, input: Node, target: Node, weight: Node | None = None,
                     pos_weight: Node | None = None, *, reduction: str = "mean") -> list[Node | None]:  # fmt: skip
    up = _weighted(spread(g, input.shape, reduction), weight)
    y = smooth_logistic(input)
    more = _logit_weight(target, pos_weight)
    slope = y - target if more is None else (1 - target) + more * (y - 1)
    soft = log1p_exp(-input)  # -log(sigmoid)
    d_target = -input if pos_weight is None else (pos_weight - 1) * soft - input
    grads: list[Node | None] = [up * slope, up * d_target]
    return [*grads, *[None for t in (weight, pos_weight) if t is not None]]


@op("binary_cross_entropy_with_logits", operands=4, promote="arith", numbers="none", typed="target",
    undefined=("weight", "pos_weight"), pointwise=False,
    grad=_bce_logits_grad, where=WHERE, samples=s.calls(
    s.call(T(2, 3), T(2, 3, fill="open")), s.call(T(5), T(5, fill="open"), reduction="none"),
    s.call(T(2, 3), T(2, 3, fill="open"), T(3, fill="positive"), reduction="sum"),
    s.call(T(2, 3), T(2, 3, fill="open"), pos_weight=T(3, fill="positive")),
    s.value_only(T(14, fill="special"), T(14, fill="open"), reduction="none")))  # fmt: skip
def binary_cross_entropy_with_logits(input: Node, target: Node, weight: Node | None = None, pos_weight: Node | None = None, *,
                                     reduction: str = "mean") -> Node:  # fmt: skip
    """:func:`binary_cross_entropy` of ``sigmoid(input)`` without overflow on the way; ``pos_weight`` multiplies the
    positives' part.  (torch.nn.functional.binary_cross_entropy_with_logits)"""
    _same_size("binary_cross_entropy_with_logits", input, target)
    if input.dtype.kind != "f":
        raise_dtype(binary_cross_entropy_with_logits, input.dtype)
    soft = lang.log1p(lang.exp(-lang.absolute(input))) + lang.maximum(-input, 0)
    more = _logit_weight(target, pos_weight)
    return reduced(_weighted((1 - target) * input + (soft if more is None else more * soft), weight), reduction)


def _no_integers(*operands: Node) -> None:
    if any([t.dtype.kind in "bui" for t in operands]):
        raise SpiralError("kl_div: Integral inputs not supported.")


@op("kl_div", pointwise=False, operands=2, refuses=_no_integers, promote="arith", kinds="f", where=WHERE, samples=s.calls(
    s.call(T(2, 3), T(2, 3, fill="open"), reduction="batchmean"), s.call(T(2, 3), T(2, 3, fill="open")),
    s.call(T(2, 3), T(2, 3), reduction="sum", log_target=True),
    s.call(T(5), T(5, fill="open"), reduction="none")))  # fmt: skip
def kl_div(input: Node, target: Node, *, reduction: str = "mean", log_target: bool = False) -> Node:
    """``target * (log(target) - input)``, 0 where ``target`` is; ``input`` (and with ``log_target`` also ``target``)
    are logarithms.  Reduction 'batchmean' divides the sum by the first size.  (torch.nn.functional.kl_div)"""
    if log_target:
        loss = lang.exp(target) * (target - input)
    else:
        none = lang.eq(target, 0)
        size = lang.where(none, 1, target)  # its logarithm, and that one's gradient, are finite where there is none
        entropy = lang.where(none, 0, size * lang.log(size))
        loss = entropy - target * input
    if reduction == "batchmean":
        return fold("add", loss, None) / number(float(input.shape[0] if input.shape else 1), loss)
    return reduced(loss, reduction)


# -- classes --------------------------------------------------------------------------------------


class _Classes:
    """Predictions [C], [N, C] or [N, C, d...] and class numbers of the shape without C."""

    def __init__(self, input: Node, target: Node, weight: Node | None, ignore_index: int) -> None:
        rank = len(input.shape)
        if not rank:
            raise ValueError("Expected a prediction for each class, got a 0-d input")
        self.axis = axis = 0 if rank == 1 else 1
        self.count = input.shape[axis]
        self.shape = input.shape[:axis] + input.shape[axis + 1 :]
        if rank == 1 and target.shape == (1,):
            target = graph.reshape(target, ())
        if target.shape != self.shape:
            if target.shape[:1] != input.shape[:1] and rank > 1:
                got = target.shape[0] if target.shape else 0
                raise ValueError(f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({got}).")
            raise ShapeError(f"Expected target size {list(self.shape)}, got {list(target.shape)}")
        if target.dtype is not dtypes.int64 and (target.dtype is not dtypes.uint8 or rank > 2):
            raise SpiralError(f"expected target dtype to be int64 or uint8 (for one prediction a row), but got {target.dtype.name}")
        if weight is not None and weight.shape != (self.count,):
            raise ShapeError(f"weight tensor should be defined either for all {self.count} classes or no classes")
        wide = cast(target, dtypes.int64)
        self.valid = lang.ne(wide, ignore_index)
        self.target = lang.where(self.valid, wide, 0)
        self.dtype = input.dtype
        picked = None if weight is None else graph.gather(cast(weight, self.dtype), self.target, 0)
        #: what each position's loss is multiplied by
        self.share = cast(self.valid, self.dtype) if picked is None else lang.where(self.valid, picked, 0)

    def of_target(self, input: Node) -> Node:
        """``input`` at the target's class."""
        at = graph.reshape(self.target, self.wide_shape())
        return graph.reshape(graph.gather_along(input, at, self.axis), self.shape)

    def wide_shape(self) -> tuple[int, ...]:
        return self.shape[: self.axis] + (1,) + self.shape[self.axis :]

    def wide(self, n: Node, shape: tuple[int, ...]) -> Node:
        return graph.expand(graph.reshape(n, self.wide_shape()), shape)

    def is_target(self, shape: tuple[int, ...]) -> Node:
        return lang.eq(graph.iota(shape, self.axis), self.wide(self.target, shape))

    def reduced(self, loss: Node, reduction: str) -> Node:
        check_reduction(reduction)
        loss = lang.where(self.valid, loss, 0)
        if reduction == "none":
            return loss
        total = fold("add", loss, None)
        return total if reduction == "sum" else total / fold("add", self.share, None)

    def spread(self, g: Node, reduction: str) -> Node:
        """The gradient of :meth:`reduced` at each position, 0 at ignored ones."""
        if reduction == "mean":
            g = g / fold("add", self.share, None)
        g = g if reduction == "none" else graph.expand(g, self.shape)
        return lang.where(self.valid, g, 0)


def _nll_grad(g: Node, out: Node, input: Node, target: Node, weight: Node | None = None, *, ignore_index: int = -100,
              reduction: str = "mean") -> list[Node | None]:  # fmt: skip
    c = _Classes(input, target, weight, ignore_index)
    up = c.wide(-c.spread(g, reduction) * c.share, input.shape)
    grads: list[Node | None] = [lang.where(c.is_target(input.shape), up, 0), None]
    return grads if weight is None else [*grads, None]


def _classes(*shapes: tuple[int, ...], **kwargs: Any) -> list[s.Call]:
    out = []
    for shape in shapes:
        axis = 0 if len(shape) == 1 else 1
        target = T(*shape[:axis], *shape[axis + 1 :], fill="index", high=shape[axis])
        out.append(s.call(T(*shape), target, **kwargs))
    return out


_NLL = s.calls(
    *_classes((4, 5), (5,), (2, 5, 3), (0, 5)), *_classes((4, 5), (2, 5, 3), reduction="none"),
    *_classes((6, 5), (0, 5), reduction="sum"),
    *_classes((9, 5), ignore_index=2), s.call(T(6, 5), T(6, fill="index", high=5), T(5, fill="positive")),
    s.call(T(6, 5), T(6, fill="index", high=5), T(5, fill="positive"), reduction="none", ignore_index=1),
    s.call(T(6, 5), T(6, fill="index", high=5), T(5, fill="positive"), reduction="sum"),
)  # fmt: skip


def _of_weights_type(input: Node, target: Node, weight: Node | None = None) -> None:
    """Class numbers need weights of the predictions' type; probabilities are promoted with both."""
    if target.dtype.kind != "f":
        of_one_type(input, weight)


@op("nll_loss", operands=3, numbers="none", refuses=_of_weights_type, undefined=("weight",), pointwise=False, grad=_nll_grad,
    where=WHERE, samples=_NLL)  # fmt: skip
def nll_loss(
    input: Node, target: Node, weight: Node | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Node:
    """``-input`` (log probabilities over axis 1) at the target class, times the class's ``weight``; 'mean' divides by
    the weights' sum; ``ignore_index`` counts nothing.  (torch.nn.functional.nll_loss)"""
    if input.dtype.kind != "f":
        raise_dtype(nll_loss, input.dtype)
    c = _Classes(input, target, weight, ignore_index)
    return c.reduced(-c.of_target(input) * c.share, reduction)


def _smooth_check(label_smoothing: float) -> None:
    if label_smoothing > 1:
        raise SpiralError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")


def _class_weights(input: Node, weight: Node | None, axis: int) -> Node | None:
    """``weight`` along the class axis of ``input``."""
    if weight is None:
        return None
    return graph.reshape(cast(weight, input.dtype), (weight.size,) + (1,) * (len(input.shape) - axis - 1))


def _soft_target(input: Node, target: Node, weight: Node | None, label_smoothing: float, axis: int) -> Node:
    """What each log probability is multiplied by, negated, when targets are probabilities."""
    t = target
    if label_smoothing > 0:
        t = t * number(1 - label_smoothing, t) + number(label_smoothing / max(1, input.shape[axis]), t)
    w = _class_weights(input, weight, axis)
    return t if w is None else t * w


def _soft_type(named: dict[str, Any]) -> dtypes.DType:
    """The type of the loss: of probabilities, the common one of all that is multiplied."""
    tensors = [named["input"], named["target"], named.get("weight")]
    if tensors[1].dtype.kind != "f":
        return named["input"].dtype  # type: ignore[no-any-return]
    return result_type([t for t in tensors if t is not None])


def _soft_share(input: Node, axis: int, reduction: str) -> Node | None:
    """What 'mean' divides by: the number of predictions."""
    return number(float(input.size // max(1, input.shape[axis])), input) if reduction == "mean" else None


def _cross_entropy_grad(g: Node, out: Node, input: Node, target: Node, weight: Node | None = None, *,
                        ignore_index: int = -100, reduction: str = "mean",
                        label_smoothing: float = 0.0) -> list[Node | None]:  # fmt: skip
    axis = 0 if len(input.shape) == 1 else 1
    label_smoothing = max(label_smoothing, 0.0)
    if target.dtype.kind == "f":
        input, target, weight = _of_common_type(input, target, weight)
    log_total = log_sum_exp(input, (axis,), keepdim=True)
    if target.dtype.kind == "f":
        share = _soft_share(input, axis, reduction)
        up = g if share is None else g / share
        kept = lang.kept_shape(input.shape, (axis,))
        up = graph.expand(graph.reshape(up, kept) if reduction == "none" else graph.expand(up, kept), input.shape)
        p = _soft_target(input, target, weight, label_smoothing, axis)
        probability = lang.exp(input - log_total)
        dx = up * (probability * fold("add", p, axis, keepdim=True) - p)
        w = _class_weights(input, weight, axis)
        per = up * (log_total - input)
        dt = per * number(1 - label_smoothing, input)
        if w is None or weight is None:
            return [dx, dt]
        smoothed = _soft_target(input, target, None, label_smoothing, axis)
        return [dx, dt * w, fold("add", per * smoothed, [a for a in range(len(input.shape)) if a != axis])]
    c = _Classes(input, target, weight, ignore_index)
    up = c.spread(g, reduction)
    probability = lang.exp(input - log_total)
    onehot = c.is_target(input.shape)
    hard = c.wide(up * c.share * number(1 - label_smoothing, up), input.shape)
    dx = lang.where(onehot, (probability - 1) * hard, probability * hard)
    if label_smoothing:
        soft = c.wide(up * number(label_smoothing / max(1, c.count), up), input.shape)
        w = _class_weights(input, weight, axis)
        every = number(float(c.count), input) if weight is None else fold("add", cast(weight, input.dtype), 0)
        dx = dx + soft * (probability * every - (1 if w is None else w))
    if weight is None:
        return [dx, None]
    if not label_smoothing:
        return [dx, None, None]
    per = soft * (c.wide(graph.reshape(log_total, c.shape), input.shape) - input)
    return [dx, None, fold("add", per, [a for a in range(len(input.shape)) if a != axis])]


_CROSS = s.more(
    _NLL,
    s.calls(
        *_classes((4, 5), (5,), (2, 5, 3), label_smoothing=0.1),
        *_classes((9, 5), ignore_index=2, label_smoothing=0.2),
        *_classes((6, 5), reduction="none", label_smoothing=0.1),
        s.call(T(6, 5), T(6, fill="index", high=5), T(5, fill="positive"), label_smoothing=0.3),
        s.call(T(6, 5), T(6, fill="index", high=5), T(5, fill="positive"), label_smoothing=0.3, ignore_index=1,
               reduction="sum"),
        s.call(T(4, 5), T(4, 5, fill="simplex")), s.call(T(2, 5, 3), T(2, 5, 3, fill="simplex"), reduction="none"),
        s.call(T(4, 5), T(4, 5, fill="simplex"), T(5, fill="positive"), label_smoothing=0.1, reduction="sum"),
        s.call(T(4, 5), T(4, 5, fill="simplex"), T(5, fill="positive")),
        s.call(T(2, 400), T(2, fill="index", high=400)),
    ),
)  # fmt: skip


def _of_common_type(input: Node, target: Node, weight: Node | None) -> tuple[Node, Node, Node | None]:
    common = result_type([t for t in (input, target, weight) if t is not None])
    return cast(input, common), cast(target, common), None if weight is None else cast(weight, common)


@op("cross_entropy", operands=3, numbers="none", refuses=_of_weights_type, typed=_soft_type, pointwise=False,
    grad=_cross_entropy_grad, where=WHERE, samples=_CROSS)  # fmt: skip
def cross_entropy(input: Node, target: Node, weight: Node | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Node:  # fmt: skip
    """``log(sum(exp(input))) - input[target]`` over the classes (axis 1 of [N, C, ...], or axis 0 of [C]) for class
    numbers of shape [N, ...]; for probabilities of the shape of ``input``, the sum of those losses weighted by them.
    'mean' divides by the targets' weights; ``ignore_index`` counts nothing.  (torch.nn.functional.cross_entropy)"""
    _smooth_check(label_smoothing)
    label_smoothing = max(label_smoothing, 0.0)
    check_reduction(reduction)
    if input.dtype.kind != "f":
        raise_dtype(cross_entropy, input.dtype)
    axis = 0 if len(input.shape) == 1 else 1
    if target.dtype.kind == "f":
        if target.shape != input.shape:
            raise SpiralError(
                f"class probabilities should have the shape of the input, {list(input.shape)}, but got "
                f"{list(target.shape)}"
            )
        if ignore_index >= 0:
            raise SpiralError("ignore_index is not supported for floating point target")
        if weight is not None and weight.shape != (input.shape[axis],):
            raise ShapeError(f"weight tensor should be defined either for all {input.shape[axis]} classes or no classes")
        input, target, weight = _of_common_type(input, target, weight)
        p = _soft_target(input, target, weight, label_smoothing, axis)
        loss = fold("add", p * (log_sum_exp(input, (axis,), keepdim=True) - input), axis)
        share = _soft_share(input, axis, reduction)
        total = loss if reduction == "none" else fold("add", loss, None)
        return total if share is None else total / share
    c = _Classes(input, target, weight, ignore_index)
    log_total = log_sum_exp(input, (axis,))
    loss = (log_total - c.of_target(input)) * c.share
    if label_smoothing:
        w = _class_weights(input, weight, axis)
        every = c.wide(log_total, input.shape) - input
        smooth = fold("add", every if w is None else every * w, axis)
        share = number(label_smoothing / max(1, c.count), loss)
        loss = loss * number(1 - label_smoothing, loss) + smooth * share
    return c.reduced(loss, reduction)
