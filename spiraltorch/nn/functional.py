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
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..autograd import no_grad
from ..dispatch import call, call_out, function
from ..dispatch import inplace as in_place
from ..dtypes import DType
from ..errors import ShapeError, SpiralError
from ..ops.registry import OPS, Op
from ..overrides import functions as _asked_about
from ..random import default_generator
from ..tensor import Tensor, from_node
from .attention import *  # noqa: F403
from .losses import *  # noqa: F403
from .pooling import *  # noqa: F403
from .tables import *  # noqa: F403

if TYPE_CHECKING:
    from .operators import *  # noqa: F403


def _with_inplace(op: Op) -> Callable[..., Tensor]:
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
    _asked_about[op.name] = apply  # what __torch_function__ is asked about
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
celu = _with_inplace(OPS["celu"])
selu = _with_inplace(OPS["selu"])
threshold = _with_inplace(OPS["threshold"])


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """``exp(input) / sum(exp(input))`` along ``dim`` (torch.nn.functional.softmax)."""
    return call(OPS["softmax"], (input, dim, dtype))  # type: ignore[no-any-return]


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """``log(softmax(input))`` along ``dim`` (torch.nn.functional.log_softmax)."""
    return call(OPS["log_softmax"], (input, dim, dtype))  # type: ignore[no-any-return]


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """``softmax(-input)`` (torch.nn.functional.softmin)."""
    return call(OPS["softmax"], (-input, dim, dtype))  # type: ignore[operator, no-any-return]


# -- random ----------------------------------------------------------------------------------------------


def _drawn(op: Op, input: Tensor, count: int, *args: Any, inplace: bool = False) -> Tensor:
    """``op`` of ``input`` under the next ``count`` random numbers."""
    key, counter = from_node(default_generator.key_node()), from_node(default_generator.take(count))
    return (in_place(op) if inplace else function(op))(input, key, counter, *args)  # type: ignore[no-any-return]


def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with chance ``p``, else divided by ``1 - p``; without ``training`` the input itself
    (torch.nn.functional.dropout)."""
    _check_p(p)
    if not training or p == 0.0:
        return input
    return _drawn(OPS["dropout"], input, input.numel(), p, inplace=inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout to SELU's negative limit, then scaled so that mean 0 and variance 1 stay
    (torch.nn.functional.alpha_dropout)."""
    _check_p(p)
    if not training or p == 0.0:
        return input
    return _drawn(OPS["alpha_dropout"], input, input.numel(), p, inplace=inplace)


_attention = function(OPS["scaled_dot_product_attention"])


def _heads_of(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values with each head as often as queries share it."""
    heads, own = query.shape[-3], x.shape[-3]
    return x if not own or heads % own else x.repeat_interleave(heads // own, -3)


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
    if enable_gqa and key.ndim > 2 < value.ndim and key.shape[-3] != value.shape[-3]:
        key, value = [_heads_of(query, x) for x in (key, value)]
    call = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if not dropout_p > 0.0:
        return _attention(*call)  # type: ignore[no-any-return]
    heads = query.shape[:-2] if query.ndim >= key.ndim else key.shape[:-2]
    pairs = max(1, math.prod(heads)) * query.shape[-2] * key.shape[-2]
    g = default_generator
    return _attention(*call, from_node(g.key_node()), from_node(g.take(pairs)))  # type: ignore[no-any-return]


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [C, L] or [N, C, L] dropped (torch.nn.functional.dropout1d)."""
    if input.ndim not in (2, 3):
        raise SpiralError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d exists to provide "
            "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch dimension."
        )
    return _channels("dropout", input, p, training, inplace, input.ndim - 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [N, C, H, W] dropped; of other ranks, what the first two axes number
    (torch.nn.functional.dropout2d)."""
    return _channels("dropout", input, p, training, inplace, 2)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [C, D, H, W] or [N, C, D, H, W] dropped (torch.nn.functional.dropout3d)."""
    return _channels("dropout", input, p, training, inplace, 1 if input.ndim == 4 else 2)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """:func:`alpha_dropout` of whole channels, which the first two axes number
    (torch.nn.functional.feature_alpha_dropout)."""
    return _channels("alpha_dropout", input, p, training, inplace, 2)


def _channels(name: str, input: Tensor, p: float, training: bool, inplace: bool, rank: int) -> Tensor:
    """Dropout with one decision for all elements that share the first ``rank`` positions."""
    _check_p(p)
    if not training or p == 0.0:
        return input
    if input.ndim < rank:
        raise SpiralError("Feature dropout requires at least 2 dimensions in the input")
    count = math.prod(input.shape[:rank])
    return _drawn(OPS[name], input, count, p, rank, inplace=inplace)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """``input`` where positive, else times a factor drawn from [lower, upper); without ``training`` their mean
    (torch.nn.functional.rrelu)."""
    if lower > upper:
        raise SpiralError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)  # type: ignore[no-any-return]
    return _drawn(OPS["rrelu"], input, input.numel(), lower, upper, inplace=inplace)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """:func:`rrelu` written into ``input`` (torch.nn.functional.rrelu_)."""
    return rrelu(input, lower, upper, training, True)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A draw from the Gumbel-Softmax distribution; ``hard`` gives one-hot rows with the soft ones' gradient; ``eps``
    is ignored, as in torch (torch.nn.functional.gumbel_softmax)."""
    return _drawn(OPS["gumbel_softmax"], logits, logits.numel(), tau, hard, dim)


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
    if training and (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
    if not input.numel():  # no figures are taken of nothing
        out = input.clone()
        out = out if weight is None else out * weight[0]
        return out if bias is None else out + bias[0]
    if not training:
        if running_mean is None or running_var is None:
            raise SpiralError("Expected running_mean and running_var to be defined when training=False")
        return call(OPS["batch_norm_fixed"], (input, running_mean, running_var, weight, bias, eps))  # type: ignore[no-any-return]
    result = call(OPS["batch_norm"], (input, running_mean, running_var, weight, bias, momentum, eps))
    return result if isinstance(result, Tensor) else _moved(result, running_mean, running_var)


def _moved(result: Any, running_mean: Any, running_var: Any) -> Tensor:
    """The first of a normalisation's results; the others are written into the running figures."""
    out, mean, var = result
    with no_grad():
        running_mean._write(mean._read())
        running_var._write(var._read())
    return out  # type: ignore[no-any-return]


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """Normalised per sample and channel, or by running figures without ``use_input_stats``; with it they are moved towards
    the samples' mean figures, in place (torch.nn.functional.instance_norm)."""
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise SpiralError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return call(OPS["batch_norm_fixed"], (input, running_mean, running_var, weight, bias, eps))  # type: ignore[no-any-return]
    result = call(OPS["instance_norm"], (input, running_mean, running_var, weight, bias, momentum, eps))
    return result if isinstance(result, Tensor) else _moved(result, running_mean, running_var)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-05
) -> Tensor:
    """Normalised over each sample's groups of channels; raises ValueError where a group is one number
    (torch.nn.functional.group_norm)."""
    if input.ndim > 1 and input.numel() and input.numel() == num_groups:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(input.shape)}")
    return call(OPS["group_norm"], (input, num_groups, weight, bias, eps))  # type: ignore[no-any-return]


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """``input`` divided by its norm along ``dim`` (torch.nn.functional.normalize)."""
    size = input.norm(p, dim, keepdim=True).clamp_min(eps)  # type: ignore[attr-defined]
    return function(OPS["div"], call_out)(input, size, out=out) if out is not None else input / size  # type: ignore[operator, no-any-return]


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution of sequences [T, B, C] with filters [window, C, O], bias [O] (torch.nn.functional.conv_tbc)."""
    if input.ndim != 3 or weight.ndim != 3 or bias.ndim != 1:
        raise ShapeError(
            f"conv_tbc: Input must have 3 dims: time, batch, in_channel; weight 3: kernel_width, in_channels, out_channels; bias 1; "
            f"got {input.ndim}, {weight.ndim} and {bias.ndim}"
        )
    sequences, filters = input.permute(1, 2, 0), weight.permute(2, 1, 0)
    return call(OPS["conv1d"], (sequences, filters, bias, 1, pad)).permute(2, 0, 1)  # type: ignore[no-any-return]


# -- grids ------------------------------------------------------------------------------------------------


def _notice_corners(align_corners: bool | None) -> None:
    if align_corners is None:
        warnings.warn("align_corners is False where grid_sample and affine_grid are not told; say which is meant", stacklevel=3)


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """``input`` at the coordinates of ``grid``, -1 to 1 (torch.nn.functional.grid_sample); see the record's page."""
    _notice_corners(align_corners)
    return call(OPS["grid_sample"], (input, grid, mode, padding_mode, align_corners))  # type: ignore[no-any-return]


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The grid of an affine map, for :func:`grid_sample` (torch.nn.functional.affine_grid)."""
    _notice_corners(align_corners)
    if align_corners and 1 in tuple(size)[2:]:
        warnings.warn("affine_grid of one element along an axis has no corners to align; it takes the centre", stacklevel=2)
    return call(OPS["affine_grid"], (theta, size, align_corners))  # type: ignore[no-any-return]


# -- older names of interpolate ---------------------------------------------------------------------------


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """``interpolate`` (torch.nn.functional.upsample)."""
    return _older("upsample", input, size, scale_factor, mode, align_corners)


def _older(name: str, *args: Any) -> Tensor:
    warnings.warn(f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=3)
    return call(OPS["interpolate"], args)  # type: ignore[no-any-return]


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``interpolate`` by nearest neighbours (torch.nn.functional.upsample_nearest)."""
    return _older("upsample_nearest", input, size, scale_factor)


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``interpolate`` by bilinear weights, corners aligned (torch.nn.functional.upsample_bilinear)."""
    return _older("upsample_bilinear", input, size, scale_factor, "bilinear", True)
