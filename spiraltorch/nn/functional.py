"""Functions of layers (torch.nn.functional).

Most are operators' records and are put here when the package loads; written out are those that draw
random numbers, keep running figures, take torch's ``inplace`` flag, or are a line of other functions.

    >>> import spiraltorch as st
    >>> F = st.nn.functional
    >>> F.normalize(st.tensor([3.0, 4.0]), dim=0)
    tensor([0.6000, 0.8000])
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..autograd import no_grad
from ..dispatch import call, function
from ..dispatch import inplace as in_place
from ..errors import SpiralError
from ..ops.registry import OPS, Op
from ..random import default_generator
from ..tensor import Tensor, from_node


def _with_inplace(op: Op) -> Callable[..., Any]:
    """The record's function with torch's last argument, ``inplace``."""
    compute, write = function(op), in_place(op)
    last = inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)
    signature = op.signature.replace(parameters=[*op.signature.parameters.values(), last])
    count = len(op.parameters)

    def apply(*args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if len(args) > count:
            *args, inplace = args  # type: ignore[assignment]
        if inplace and not args:
            args = (kwargs.pop("input"),)
        return write(*args, **kwargs) if inplace else compute(*args, **kwargs)  # type: ignore[no-any-return]

    apply.__name__ = apply.__qualname__ = op.name
    apply.__doc__ = op.doc
    apply.__signature__ = signature  # type: ignore[attr-defined]
    return apply


relu = _with_inplace(OPS["relu"])
relu6 = _with_inplace(OPS["relu6"])
leaky_relu = _with_inplace(OPS["leaky_relu"])
elu = _with_inplace(OPS["elu"])
silu = _with_inplace(OPS["silu"])
mish = _with_inplace(OPS["mish"])
hardtanh = _with_inplace(OPS["hardtanh"])
hardsigmoid = _with_inplace(OPS["hardsigmoid"])
hardswish = _with_inplace(OPS["hardswish"])


def softmin(input: Tensor, dim: int | None = None, dtype: dtypes.DType | None = None) -> Tensor:
    """``softmax(-input)`` (torch.nn.functional.softmin)."""
    return (-input).softmax(dim, dtype=dtype)  # type: ignore[operator, attr-defined, no-any-return]


def tanhshrink(input: Tensor) -> Tensor:
    """``input - tanh(input)`` (torch.nn.functional.tanhshrink)."""
    return input - input.tanh()  # type: ignore[operator, attr-defined, no-any-return]


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """One half of ``dim`` times the sigmoid of the other (torch.nn.functional.glu)."""
    if input.shape[dim] % 2:
        raise SpiralError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)  # type: ignore[attr-defined]
    return a * b.sigmoid()  # type: ignore[no-any-return]


# -- random ----------------------------------------------------------------------------------------------


def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


_dropout, _dropout_ = function(OPS["dropout"]), in_place(OPS["dropout"])


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with chance ``p``, else divided by ``1 - p``; without ``training`` the input itself
    (torch.nn.functional.dropout)."""
    _check_p(p)
    if not training or p == 0.0:
        return input
    g = default_generator
    key, counter = from_node(g.key_node()), from_node(g.take(input.numel()))
    return (_dropout_ if inplace else _dropout)(input, key, counter, p)  # type: ignore[no-any-return]


_attention = function(OPS["scaled_dot_product_attention"])


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``softmax(query key^T scale + mask) value`` over [..., L, E], [..., S, E] and [..., S, Ev] floats
    (torch.nn.functional.scaled_dot_product_attention).

    A bool ``attn_mask`` keeps where it is True, a float one is added; with ``is_causal`` query i looks at keys 0 to i.
    ``scale`` is one over the root of E unless given.  With ``enable_gqa`` neighbouring query heads share a head of the
    keys and values.  Float32 with features in multiples of 16 runs in tiles, forward and backward, and the matrix of
    weights never exists; results do not depend on the number of threads.  Raises RuntimeError for shapes or types
    that do not fit.
    """
    call = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if not dropout_p > 0.0:
        return _attention(*call)  # type: ignore[no-any-return]
    heads = query.shape[:-2] if query.ndim >= key.ndim else key.shape[:-2]
    pairs = max(1, math.prod(heads)) * query.shape[-2] * key.shape[-2]
    g = default_generator
    return _attention(*call, from_node(g.key_node()), from_node(g.take(pairs)))  # type: ignore[no-any-return]


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [C, L] or [N, C, L] dropped (torch.nn.functional.dropout1d)."""
    return _channel_dropout(input, p, training, inplace, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [C, H, W] or [N, C, H, W] dropped (torch.nn.functional.dropout2d)."""
    return _channel_dropout(input, p, training, inplace, 2)


def _channel_dropout(input: Tensor, p: float, training: bool, inplace: bool, rank: int) -> Tensor:
    _check_p(p)
    if not training or p == 0.0:
        return input
    kept = dropout(input.new_ones(*input.shape[: input.ndim - rank], *[1] * rank), p)  # type: ignore[attr-defined]
    if not inplace:
        return input * kept  # type: ignore[operator, no-any-return]
    return input.mul_(kept)  # type: ignore[attr-defined, no-any-return]


# -- normalisation ----------------------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """Normalised per channel; in training the running figures are moved towards the batch's, in place
    (torch.nn.functional.batch_norm)."""
    if not training:
        if running_mean is None or running_var is None:
            raise SpiralError("Expected running_mean and running_var to be defined when training=False")
        return call(OPS["batch_norm_fixed"], (input, running_mean, running_var, weight, bias, eps))  # type: ignore[no-any-return]
    result = call(OPS["batch_norm"], (input, running_mean, running_var, weight, bias, momentum, eps))
    if isinstance(result, Tensor):
        return result
    out, mean, var = result
    assert running_mean is not None and running_var is not None
    with no_grad():
        running_mean._write(mean._read())
        running_var._write(var._read())
    return out  # type: ignore[no-any-return]


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``input`` divided by its norm along ``dim`` (torch.nn.functional.normalize)."""
    return input / input.norm(p, dim, keepdim=True).clamp_min(eps)  # type: ignore[operator, attr-defined, no-any-return]


# -- distances and losses ------------------------------------------------------------------------------------


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between ``x1`` and ``x2`` along ``dim`` (torch.nn.functional.cosine_similarity)."""
    size = (x1 * x1).sum(dim).sqrt().clamp_min(eps) * (x2 * x2).sum(dim).sqrt().clamp_min(eps)  # type: ignore[operator]
    return (x1 * x2).sum(dim) / size  # type: ignore[operator, no-any-return]


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` over the last axis (torch.nn.functional.pairwise_distance)."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)  # type: ignore[operator, no-any-return]
