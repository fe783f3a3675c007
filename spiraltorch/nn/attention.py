"""Multi-head attention as one function (torch.nn.functional.multi_head_attention_forward).

In: sequences [length, batch, features] (or without the batch), the weights of the projections, masks.  Out: the sequence that
attention gives, and how much each place looked at each other.

    >>> import spiraltorch as st
    >>> x, w = st.ones(3, 1, 4), st.ones(12, 4)
    >>> mha = st.nn.functional.multi_head_attention_forward
    >>> mha(x, x, x, 4, 2, w, None, None, None, False, 0.0, st.eye(4), None)[1].shape
    Size([1, 3, 3])
"""

from __future__ import annotations

import math
from typing import Any

from .. import dtypes
from ..creation import zeros
from ..dispatch import call
from ..dtypes import DType
from ..errors import ShapeError, SpiralError
from ..ops.registry import OPS
from ..tensor import Tensor


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return call(OPS["linear"], (x, weight, bias))  # type: ignore[no-any-return]


def _added(mask: Tensor | None, name: str, kind: DType) -> Tensor | None:
    """A mask as what is added to scores: of a bool one, -inf where it is True."""
    if mask is None:
        return None
    if mask.dtype is dtypes.bool_:
        return zeros(tuple(mask.shape), dtype=kind, device=mask.device).masked_fill_(mask, float("-inf"))  # type: ignore[attr-defined, no-any-return]
    if not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


def _checked(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None, heads: int) -> bool:
    """Whether there is a batch.  Raises AssertionError for ranks and shapes that do not fit."""
    rank = query.ndim
    if rank not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor")
    if key.ndim != rank or value.ndim != rank:
        raise AssertionError(f"For {rank}-D query, expected key and value to be {rank}-D but found {key.ndim}-D and {value.ndim}-D")
    if padding is not None and padding.ndim != rank - 1:
        raise AssertionError(f"For {rank}-D query, expected key_padding_mask to be {rank - 1}-D but found {padding.ndim}-D")
    if mask is not None and mask.ndim not in (2, 3):
        raise AssertionError(f"expected attn_mask to be None, 2-D or 3-D but found {mask.ndim}-D")
    if rank == 2 and mask is not None and mask.ndim == 3 and tuple(mask.shape) != (heads, query.shape[0], key.shape[0]):
        raise AssertionError(f"Expected attn_mask shape {(heads, query.shape[0], key.shape[0])} but got {tuple(mask.shape)}")
    return rank == 3


def _projected(query: Tensor, key: Tensor, value: Tensor, weights: list[Tensor], bias: Tensor | None) -> list[Tensor]:
    parts = [None] * 3 if bias is None else list(bias.chunk(3))  # type: ignore[attr-defined]
    if len(weights) == 1 and key is value and query is key:
        return list(_linear(query, weights[0], bias).chunk(3, -1))  # type: ignore[attr-defined]
    each = list(weights[0].chunk(3)) if len(weights) == 1 else weights  # type: ignore[attr-defined]
    return [_linear(x, w, b) for x, w, b in zip((query, key, value), each, parts)]


def _one_more(mask: Tensor | None) -> Tensor | None:
    """A mask for one key more, which may be looked at."""
    return None if mask is None else call(OPS["pad"], (mask, (0, 1)))


def multi_head_attention_forward(
    query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int, in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float,
    out_proj_weight: Tensor, out_proj_bias: Tensor | None, training: bool = True, key_padding_mask: Tensor | None = None,
    need_weights: bool = True, attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None, k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None, static_v: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """(output [L, N, E], weights): ``query`` [L, N, E] looks at ``key`` and ``value`` [S, N, ..] in ``num_heads`` heads
    (torch.nn.functional.multi_head_attention_forward).

    The weights are [N, L, S], the heads' mean, or [N, heads, L, S]; None without ``need_weights``, which is faster.
    ``key_padding_mask`` [N, S] and ``attn_mask`` [L, S] or [N * heads, L, S] hide where they are True, or are added.
    ``is_causal`` says that ``attn_mask`` is the causal one.  Raises AssertionError for shapes that do not fit, RuntimeError
    for masks that do not.
    """
    batched = _checked(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same = query is key, key is value
        q = query.unsqueeze(1)  # type: ignore[attr-defined]
        k = q if same[0] else key.unsqueeze(1)  # type: ignore[attr-defined]
        value = k if same[1] else value.unsqueeze(1)  # type: ignore[attr-defined]
        query, key = q, k
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)  # type: ignore[attr-defined]
    length, batch, features = (int(n) for n in query.shape)
    padding = _added(key_padding_mask, "key_padding_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise SpiralError("Need attn_mask if specifying the is_causal hint.")
    causal = is_causal and padding is None and not need_weights
    mask = None if causal else _added(attn_mask, "attn_mask", query.dtype)
    if features != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {features}")
    size = features // num_heads
    if size * num_heads != features:
        raise AssertionError(f"embed_dim {features} not divisible by num_heads {num_heads}")
    if not use_separate_proj_weight and tuple(key.shape) != tuple(value.shape):
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
    if use_separate_proj_weight and tuple(key.shape[:2]) != tuple(value.shape[:2]):
        raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")
    weights = [q_proj_weight, k_proj_weight, v_proj_weight] if use_separate_proj_weight else [in_proj_weight]
    if any(w is None for w in weights):
        raise AssertionError("the weight of a projection is None")
    q, k, v = _projected(query, key, value, weights, in_proj_bias)  # type: ignore[arg-type]
    if mask is not None:
        fits = (length, key.shape[0]) if mask.ndim == 2 else (batch * num_heads, length, key.shape[0])
        if tuple(mask.shape) != tuple(fits):
            raise ShapeError(f"The shape of the {mask.ndim}D attn_mask is {tuple(mask.shape)}, but should be {tuple(fits)}.")
        mask = mask.unsqueeze(0) if mask.ndim == 2 else mask  # type: ignore[attr-defined]
    if (bias_k is None) != (bias_v is None):
        raise AssertionError("bias_k and bias_v have to be given together")
    if bias_k is not None and bias_v is not None:
        if static_k is not None or static_v is not None:
            raise AssertionError("bias cannot be added to static key or value")
        k, v = (call(OPS["cat"], ([x, b.expand(1, batch, features)],)) for x, b in ((k, bias_k), (v, bias_v)))  # type: ignore[attr-defined]
        mask, padding = _one_more(mask), _one_more(padding)
    heads = [
        x.reshape(x.shape[0], batch * num_heads, size).transpose(0, 1) if given is None else given  # type: ignore[attr-defined]
        for x, given in ((q, None), (k, static_k), (v, static_v))
    ]
    for name, x in zip(("static_k", "static_v"), heads[1:]):
        if x.shape[0] != batch * num_heads or x.shape[2] != size:
            raise AssertionError(f"expecting {name} of shape ({batch * num_heads}, length, {size}), but got {list(x.shape)}")
    if add_zero_attn:
        nothing = zeros((batch * num_heads, 1, size), dtype=heads[1].dtype, device=heads[1].device)
        heads[1:] = [call(OPS["cat"], ([x, nothing], 1)) for x in heads[1:]]
        mask, padding = _one_more(mask), _one_more(padding)
    source = int(heads[1].shape[1])
    if padding is not None:
        if tuple(padding.shape) != (batch, source):
            raise AssertionError(f"expecting key_padding_mask shape of {(batch, source)}, but got {tuple(padding.shape)}")
        wide = padding.reshape(batch, 1, 1, source).expand(batch, num_heads, 1, source).reshape(batch * num_heads, 1, source)
        mask = wide if mask is None else mask + wide  # type: ignore[operator]
    out, seen = _attended(heads, mask, (batch, num_heads), dropout_p if training else 0.0, need_weights, causal)
    result = _linear(out.transpose(0, 1).reshape(length, batch, features), out_proj_weight, out_proj_bias)  # type: ignore[attr-defined]
    if seen is not None:
        seen = seen.reshape(batch, num_heads, length, source)
        seen = seen.mean(1) if average_attn_weights else seen  # type: ignore[attr-defined]
        seen = seen if batched else seen.squeeze(0)  # type: ignore[attr-defined]
    return result if batched else result.squeeze(1), seen  # type: ignore[attr-defined]


def _attended(heads: list[Tensor], mask: Tensor | None, outer: tuple[int, int], p: float, keep: bool, causal: bool) -> Any:
    """(values [N * heads, L, size], weights or None)."""
    from . import functional as F

    q, k, v = heads
    if not keep:
        q, k, v = (x.reshape(*outer, x.shape[1], x.shape[2]) for x in heads)
        if mask is not None:
            mask = mask.unsqueeze(0) if mask.shape[0] == 1 else mask.reshape(*outer, *mask.shape[1:])  # type: ignore[attr-defined]
        out = F.scaled_dot_product_attention(q, k, v, mask, p, causal)
        return out.reshape(-1, *out.shape[2:]), None
    scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)  # type: ignore[attr-defined, operator]
    weights = F.softmax(scores if mask is None else scores + mask, -1)
    weights = F.dropout(weights, p)
    return weights @ v, weights  # type: ignore[operator]


__all__ = ["multi_head_attention_forward"]
