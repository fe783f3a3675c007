"""Loss functions in torch's order of arguments, with its older flags ``size_average`` and ``reduce``.

In: the losses' records.  Out: functions of nn.functional; those written out take a function of tensors, or are a line
of other functions.

    >>> import spiraltorch as st
    >>> st.nn.functional.mse_loss(st.ones(3), st.zeros(3), None, None, "sum")
    tensor(3.)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..creation import as_tensor
from ..dispatch import call, function
from ..errors import ShapeError, SpiralError
from ..ops.registry import OPS, Op
from ..storage import queue
from ..tensor import Tensor

_ORDER = {
    "l1_loss": "input target size_average reduce reduction weight",
    "mse_loss": "input target size_average reduce reduction weight",
    "smooth_l1_loss": "input target size_average reduce reduction beta",
    "kl_div": "input target size_average reduce reduction log_target",
    "binary_cross_entropy": "input target weight size_average reduce reduction",
    "binary_cross_entropy_with_logits": "input target weight size_average reduce reduction pos_weight",
    "nll_loss": "input target weight size_average ignore_index reduce reduction",
    "cross_entropy": "input target weight size_average ignore_index reduce reduction label_smoothing",
    "poisson_nll_loss": "input target log_input full size_average eps reduce reduction",
    "hinge_embedding_loss": "input target margin size_average reduce reduction",
    "margin_ranking_loss": "input1 input2 target margin size_average reduce reduction",
    "cosine_embedding_loss": "input1 input2 target margin size_average reduce reduction",
    "multi_margin_loss": "input target p margin weight size_average reduce reduction",
    "multilabel_margin_loss": "input target size_average reduce reduction",
    "multilabel_soft_margin_loss": "input target weight size_average reduce reduction",
    "soft_margin_loss": "input target size_average reduce reduction",
    "triplet_margin_loss": "anchor positive negative margin p eps swap size_average reduce reduction",
}


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """torch's older pair of flags as a reduction."""
    if size_average is None and reduce is None:
        return reduction
    wanted = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{wanted}' instead.", stacklevel=3
    )
    return wanted


def _loss(name: str) -> Callable[..., Tensor]:
    op = OPS[name]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    flag = inspect.Parameter("reduce", kind, default=None)
    names = _ORDER[name].split()
    parameters = [
        op.signature.parameters[n].replace(kind=kind) if n in op.parameters else flag.replace(name=n) for n in names
    ]
    signature = op.signature.replace(parameters=parameters)
    leading = next(i for i, n in enumerate(names) if n == "size_average")

    def apply(*args: Any, **kwargs: Any) -> Tensor:
        if len(args) > leading or "size_average" in kwargs or "reduce" in kwargs:
            kwargs = signature.bind(*args, **kwargs).arguments
            average, each = kwargs.pop("size_average", None), kwargs.pop("reduce", None)
            kwargs["reduction"] = reduction_of(average, each, kwargs.get("reduction", "mean"))
            args = ()
        return call(op, args, kwargs)  # type: ignore[no-any-return]

    return _presented(op, apply, signature)


def _presented(op: Op, apply: Callable[..., Tensor], signature: inspect.Signature) -> Callable[..., Tensor]:
    apply.__name__ = apply.__qualname__ = op.name
    apply.__doc__ = op.doc
    apply.__signature__ = signature  # type: ignore[attr-defined]
    return apply


def _of_pairs(name: str, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of pairs that broadcast: it warns where sizes differ, as torch does."""

    def apply(*args: Any, **kwargs: Any) -> Tensor:
        input, target = args[:2] if len(args) > 1 else (args[0] if args else kwargs.get("input"), kwargs.get("target"))
        if isinstance(target, Tensor) and isinstance(input, Tensor) and target.shape != input.shape:
            warnings.warn(
                f"Using a target size ({target.shape}) that is different from the input size ({input.shape}): both are broadcast, "
                "which is seldom what is meant",
                stacklevel=2,
            )
        return compute(*args, **kwargs)

    return _presented(OPS[name], apply, inspect.signature(compute))


def _divergence(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """kl_div, which warns of the mean over all elements, as torch does."""

    def apply(*args: Any, **kwargs: Any) -> Tensor:
        if len(args) < 3 and kwargs.get("reduction", "mean") == "mean" and not ("size_average" in kwargs or "reduce" in kwargs):
            warnings.warn(
                "reduction='mean' divides by the number of elements; it is reduction='batchmean' that gives the divergence",
                stacklevel=2,
            )
        return compute(*args, **kwargs)

    return _presented(OPS["kl_div"], apply, inspect.signature(compute))


l1_loss = _of_pairs("l1_loss", _loss("l1_loss"))
mse_loss = _of_pairs("mse_loss", _loss("mse_loss"))
smooth_l1_loss = _of_pairs("smooth_l1_loss", _loss("smooth_l1_loss"))
huber_loss = _of_pairs("huber_loss", function(OPS["huber_loss"]))
kl_div = _divergence(_loss("kl_div"))
binary_cross_entropy = _loss("binary_cross_entropy")
binary_cross_entropy_with_logits = _loss("binary_cross_entropy_with_logits")
nll_loss = _loss("nll_loss")
cross_entropy = _loss("cross_entropy")
poisson_nll_loss = _loss("poisson_nll_loss")
hinge_embedding_loss = _loss("hinge_embedding_loss")
margin_ranking_loss = _loss("margin_ranking_loss")
cosine_embedding_loss = _loss("cosine_embedding_loss")
multi_margin_loss = _loss("multi_margin_loss")
multilabel_margin_loss = _loss("multilabel_margin_loss")
multilabel_soft_margin_loss = _loss("multilabel_soft_margin_loss")
soft_margin_loss = _loss("soft_margin_loss")
triplet_margin_loss = _loss("triplet_margin_loss")


def triplet_margin_with_distance_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0, swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """:func:`triplet_margin_loss` with any distance (torch.nn.functional.triplet_margin_with_distance_loss)."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    ranks = [t.ndim for t in (anchor, positive, negative)]
    if len(set(ranks)) != 1:
        raise ShapeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {ranks[0]}D, positive {ranks[1]}D, and negative {ranks[2]}D inputs"
        )
    apart: Any = distance_function or (lambda a, b: call(OPS["pairwise_distance"], (a, b)))
    near, far = apart(anchor, positive), apart(anchor, negative)
    if swap:
        far = call(OPS["minimum"], (far, apart(positive, negative)))
    loss = (near - far + margin).clamp_min(0)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()  # type: ignore[no-any-return]


def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
    weight: Tensor | None = None, reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:  # fmt: skip
    """:func:`cross_entropy` of ``input @ linear_weight.T + linear_bias``; ``options``, which choose how torch cuts the
    work in pieces, change no value and are not looked at (torch.nn.functional.linear_cross_entropy)."""
    if input.ndim not in (1, 2):
        raise SpiralError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if linear_weight.ndim < 2:
        raise SpiralError(f"expected linear_weight with dimensionality at least 2, got {linear_weight.ndim}")
    classes, *features, width = linear_weight.shape
    if input.shape[-1] != width:
        raise ShapeError(
            "expected equal input and linear_weight last dimensions (in_features), got "
            f"{input.shape[-1]} and {width}, respectively"
        )
    if linear_bias is not None and tuple(linear_bias.shape) != (classes, *features):
        raise ShapeError(f"expected linear_bias shape {(classes, *features)}, got {tuple(linear_bias.shape)}")
    if features and input.ndim == 1:
        raise ShapeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, "
            f"(N, {width}), got unbatched input with shape {tuple(input.shape)}"
        )
    shape = (*input.shape[:-1], classes, *features)
    if tuple(target.shape) == shape and ignore_index is not None:
        raise SpiralError("ignore_index cannot be specified when target contains probabilities")
    flat = [None if t is None else t.reshape(-1, *last) for t, last in ((linear_weight, (width,)), (linear_bias, ()))]
    logits = call(OPS["linear"], (input, *flat)).reshape(shape)
    return cross_entropy(
        logits, target, weight=weight, reduction=reduction, label_smoothing=label_smoothing,
        ignore_index=-100 if ignore_index is None else ignore_index,
    )  # fmt: skip


def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """-log of the probability of ``targets`` under all their alignments with ``log_probs`` (torch.nn.functional.ctc_loss).

    log_probs: [T, N, C] (or [T, C]) float32 or float64, from ``log_softmax``; targets: [N, S], or one sample's after the
    other; lengths: tuples of ints, or integer tensors, [N].  'mean' divides each loss by its target's length first.  With
    ``zero_infinity`` targets that do not fit their input count 0, with gradient 0.  Raises RuntimeError for lengths beyond
    the sizes (outside of a compiled function they are looked at), and when looked at for labels that are no classes.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = log_probs.unsqueeze(1), targets.reshape(-1)  # type: ignore[attr-defined]
    if log_probs.ndim != 3:
        raise ShapeError(f"ctc_loss: log_probs has to be 2-D or 3-D, but got {log_probs.ndim}-D")
    if not log_probs.numel():
        raise SpiralError("log_probs tensor must not be empty")
    steps, samples = (int(n) for n in log_probs.shape[:2])
    lengths, known = [], []
    for name, given in (("input", input_lengths), ("target", target_lengths)):
        if isinstance(given, Tensor) and given.dtype.kind not in "iu":
            raise SpiralError(f"{name}_lengths must be integral")
        t = as_tensor(given, dtype=dtypes.int64, device=log_probs.device).reshape(-1)
        if t.numel() != samples:
            raise ShapeError(f"{name}_lengths must be of size batch_size")
        lengths.append(t)
        known.append(None if isinstance(given, Tensor) and queue.trace is not None else t.tolist())
    if known[0] is not None and max(known[0]) > steps:
        raise SpiralError(f"Expected input_lengths to have value at most {steps}, but got value {max(known[0])}")
    most = int(targets.shape[-1]) if known[1] is None else max(known[1])
    if known[1] is not None and min(*known[1], *(known[0] or [0]), 0) < 0:
        raise SpiralError("ctc_loss: lengths can not be negative")
    room = int(targets.shape[-1]) if targets.ndim == 2 else most if known[1] is None else int(targets.numel())
    if most > room or (targets.ndim == 1 and known[1] is not None and sum(known[1]) > room):
        raise ShapeError(f"ctc_loss: target_lengths of {most} do not fit targets of shape {list(targets.shape)}")
    if targets.ndim == 2 and targets.shape[0] != samples:
        raise ShapeError(f"ctc_loss: {targets.shape[0]} targets for {samples} inputs")
    loss: Tensor = call(OPS["ctc_loss"], (log_probs, targets, *lengths, blank, most))
    if zero_infinity:
        loss = call(OPS["where"], (call(OPS["isinf"], (loss,)), 0.0, loss))
    if reduction == "mean":
        loss = (loss / lengths[1].clamp_min(1).to(loss.dtype)).mean()  # type: ignore[operator, attr-defined]
    elif reduction == "sum":
        loss = loss.sum()  # type: ignore[attr-defined]
    return loss.reshape(()) if single else loss  # type: ignore[no-any-return]


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy", "ctc_loss",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "linear_cross_entropy", "margin_ranking_loss", "mse_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip
