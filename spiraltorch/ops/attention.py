"""Attention.

In: queries, keys and values whose last two axes are (position, feature).  Out: for every query the mean of the
values, weighted by the softmax of its products with the keys.

:func:`attend` is the definition, in primitives: it fuses, differentiates, and serves every type.  Where
:func:`is_tiled` says so, two library kernels compute the same without ever holding the matrix of weights
(:mod:`spiraltorch.kernels.library.attention`); the results differ in rounding alone.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> q, k = (graph.param(i, (2, 4, n, 8), dtypes.float32) for i, n in enumerate((5, 7)))
    >>> OPS["scaled_dot_product_attention"].apply([q, k, k], {"is_causal": True}).shape
    (2, 4, 5, 8)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..dtypes import DType, bool_, float32, uint32
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold, shapes_broadcast, where
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import number
from .gradients import vjp
from .matmul import contract
from .registry import op

T = s.T
INF = float("inf")

TILED_FEATURES = 256  # of a query, and of a value: what the kernels' scratch memory has room for
TILED_LANES = 16  # features come in whole vectors of every machine
TILED_QUERIES, TILED_KEYS = 48, 16  # at least: a block has 64 queries, and empty lanes cost as much as full ones


def is_tiled(q: Node, k: Node, v: Node, dropout: bool) -> bool:
    """Whether the kernels of :mod:`spiraltorch.kernels.library.attention` compute this: types and sizes decide."""
    return (
        q.dtype is float32
        and not dropout
        and all([0 < n.shape[3] <= TILED_FEATURES and n.shape[3] % TILED_LANES == 0 for n in (q, v)])
        and q.shape[2] >= TILED_QUERIES
        and k.shape[2] >= TILED_KEYS
        and q.shape[0] * q.shape[1] > 0
    )


# -- the definition, on (batch, heads, position, feature) -----------------------------------------------

Options = tuple[bool, float | None]  # causal; the scale, None for one over the root of the features


def _exponentials(q: Node, k: Node, bias: Node | None, options: Options) -> tuple[Node, Node, Node]:
    """exp(scores - top), its sums (1 for a query without keys), and the top scores (0 for such a query)."""
    causal, scale = options
    grouped = contract(_by_group(q, k.shape[1]), "bhgqe", k, "bhke", "bhgqk")
    scores = graph.reshape(grouped, (*q.shape[:3], k.shape[2]))
    scores = scores * number(q.shape[3] ** -0.5 if scale is None else scale, scores)
    if bias is not None:
        scores = scores + bias
    if causal:
        pair = scores.shape[2:]
        seen = lang.le(graph.iota(pair, 1), graph.iota(pair, 0))
        scores = where(graph.broadcast(seen, scores.shape), scores, -INF)
    top = lang.detach(fold("max", scores, 3, keepdim=True))
    top = where(lang.eq(top, -INF), 0.0, top)
    e = lang.exp(scores - top)
    total = fold("add", e, 3, keepdim=True)
    return e, where(lang.eq(total, 0), 1.0, total), top


def attend(q: Node, k: Node, v: Node, bias: Node | None, options: Options, kept: Node | None = None) -> Node:
    """``softmax(q k^T scale + bias) v``; causal keeps keys up to the query's own position, a query without keys gets
    zeros, neighbouring query heads share a head of k and v.  ``kept`` are factors of the weights (dropout)."""
    if not k.shape[2]:
        return graph.full(0, (*q.shape[:3], v.shape[3]), q.dtype)
    e, total, _ = _exponentials(q, k, bias, options)
    weights = e / total
    if kept is not None:
        weights = weights * cast(kept, weights.dtype)
    out = contract(_by_group(weights, v.shape[1]), "bhgqk", v, "bhke", "bhgqe")
    return graph.reshape(out, (*q.shape[:3], v.shape[3]))


def _by_group(n: Node, own: int) -> Node:
    """(batch, heads, ..) as (batch, heads of the keys, query heads that share one, ..)."""
    return graph.reshape(n, (n.shape[0], own, n.shape[1] // own if own else 1, *n.shape[2:]))


def _kept(p: float, seed: Node, counter: Node, shape: tuple[int, ...]) -> Node:
    """1 / (1 - p), or 0 with chance ``p``; weight i is decided by random word ``counter + i``, as in dropout."""
    if p == 1:
        return graph.full(0, shape, float32)
    bits = graph.random(seed, counter, shape)
    keep = lang.le(const(round(p * (1 << 32)), uint32), bits)
    return where(keep, const(1 / (1 - p), float32, static=False), const(0.0, float32))


def gradient_of(function: Callable[..., Node], inputs: Sequence[Node], g: Node) -> list[Node | None]:
    """The vector-Jacobian product of a function of nodes at ``inputs``."""
    holes = [graph.param(("hole", i), n.shape, n.dtype) for i, n in enumerate(inputs)]
    return vjp([function(*holes)], holes, [g], dict(zip(holes, inputs)))


# -- the kernels' calls: flat results, in which the heads of a position are neighbours -------------------


def _forward(q: Node, k: Node, v: Node, bias: Node | None, options: Options) -> tuple[Node, ...]:
    """The CALL's operands, and the CALL: outputs as (batch, query, head, feature), then for each (batch, head, query)
    the logarithm of the sum of the exponentials.  The bias goes in as (.., key, query): a vector holds queries."""
    operands: tuple[Node, ...] = (q, k, v)
    if bias is not None:
        wide = graph.expand(bias, (*bias.shape[:2], q.shape[2], k.shape[2]))
        operands = (*operands, graph.permute(wide, (0, 1, 3, 2)))
    size = math.prod(q.shape[:3]) * (v.shape[3] + 1)
    return *operands, graph.call("attention.forward", operands, (size,), float32, *options)


def _part(flat: Node, start: int, like: Node, features: int) -> Node:
    """(batch, head, position, feature) out of a flat result."""
    b, heads, length, _ = like.shape
    found = graph.slice_(flat, ((start, start + b * heads * length * features, 1),))
    return graph.permute(graph.reshape(found, (b, length, heads, features)), (0, 2, 1, 3))


def _tiled_grad(up: Node, q: Node, k: Node, v: Node, bias: Node | None, options: Options) -> list[Node | None]:
    *operands, forward = _forward(q, k, v, bias, options)
    size = q.size + k.size + v.size
    flat = graph.call("attention.backward", (*operands, up, forward), (size,), float32, *options)
    starts = 0, q.size, q.size + k.size
    return [_part(flat, start, n, n.shape[3]) for start, n in zip(starts, (q, k, v))]


def forward_body(options: Options, q: Node, k: Node, v: Node, *bias: Node) -> Node:
    """What CALL attention.forward means, in primitives."""
    added = graph.permute(bias[0], (0, 1, 3, 2)) if bias else None
    _, total, top = _exponentials(q, k, added, options)
    return _joined(graph.permute(attend(q, k, v, added, options), (0, 2, 1, 3)), top + lang.log(total))


def backward_body(options: Options, q: Node, k: Node, v: Node, *more: Node) -> Node:
    """What CALL attention.backward means, in primitives: dq, dk, dv."""
    *bias, up, _ = more
    added = graph.permute(bias[0], (0, 1, 3, 2)) if bias else None
    found = gradient_of(lambda *qkv: attend(*qkv, added, options), (q, k, v), up)
    return _joined(*[graph.permute(n, (0, 2, 1, 3)) for n in found if n is not None])


def _joined(*parts: Node) -> Node:
    """The parts one after the other in flat memory."""
    total, start = sum([n.size for n in parts]), 0
    out = graph.full(0, (total,), parts[0].dtype)
    for n in parts:
        out = graph.update(out, ((start, start + n.size, 1),), graph.reshape(n, (n.size,)))
        start += n.size
    return out


# -- the operator -----------------------------------------------------------------------------------------


class _Call:
    """The operator's arguments as the definition and the kernels want them: four axes, a wide type.

    lead: the result's leading axes.  batch: those of operands with an axis of heads.  bias: None, or what is added to
    the scores, with axes of size 1 where the mask is the same for all.
    """

    def __init__(self, query: Node, key: Node, value: Node, mask: Node | None, gqa: bool, options: Options) -> None:
        operands = [cast(n, n.dtype.acc) for n in (query, key, value)]
        self.batch = shapes_broadcast([n.shape[:-3] for n in operands])
        given = [n.shape[-3] if len(n.shape) > 2 else 1 for n in operands]
        if gqa:
            self.heads = (given[0], given[1], given[1])
        else:
            (all_heads,) = shapes_broadcast([(h,) for h in given])
            own = max(given[1:]) if min(given[1:]) else 0
            self.heads = (all_heads, own, own)
        self.q, self.k, self.v = [
            self._four(graph.broadcast(n, (*self.batch, h, *n.shape[-2:]))) for n, h in zip(operands, self.heads)
        ]
        rank = max(map(len, (query.shape, key.shape, value.shape)))
        self.lead = (*self.batch, self.heads[0])[len(self.batch) + 3 - rank :]
        self.options = options
        self.bias: Node | None = None
        self.bias_shape: tuple[int, ...] = ()
        if mask is not None:
            self._mask(mask)

    @staticmethod
    def _four(n: Node) -> Node:
        return graph.reshape(n, (math.prod(n.shape[:-3]), *n.shape[-3:]))

    def _mask(self, mask: Node) -> None:
        full = (*self.lead, self.q.shape[2], self.k.shape[2])
        if shapes_broadcast([full, mask.shape]) != full:
            raise ShapeError(f"attn_mask {list(mask.shape)} does not broadcast to the scores' shape {list(full)}")
        wide = self.q.dtype
        bias = where(mask, const(0.0, wide), const(-INF, wide)) if mask.dtype is bool_ else cast(mask, wide)
        bias = graph.reshape(bias, (1,) * (len(self.batch) + 3 - len(bias.shape)) + bias.shape)
        if any([n != 1 for n in bias.shape[:-3]]):
            bias = graph.expand(bias, (*self.batch, *bias.shape[-3:]))
        self.bias, self.bias_shape = self._four(bias), bias.shape

    def output(self, out: Node, dtype: DType) -> Node:
        """A result with four axes as the caller sees it."""
        return cast(graph.reshape(out, (*self.lead, *out.shape[2:])), dtype)


def _check(query: Node, key: Node, value: Node, attn_mask: Node | None, dropout_p: float, is_causal: bool,
           gqa: bool) -> None:  # fmt: skip
    three = (query, key, value)
    shapes = f"query {list(query.shape)}, key {list(key.shape)} and value {list(value.shape)}"
    least = min([len(n.shape) for n in three])
    if least < 2:
        raise ShapeError(f"query, key and value need at least 2 axes (.., positions, features), but got {shapes}")
    if not query.dtype is key.dtype is value.dtype:
        types = f"{query.dtype.name}, {key.dtype.name} and {value.dtype.name}"
        raise SpiralError(f"Expected query, key, and value to have the same dtype, but got {types}")
    if query.dtype.kind != "f":
        raise SpiralError(f"attention is defined for floating point types, but got {query.dtype.name}; use x.float()")
    if attn_mask is not None and attn_mask.dtype not in (bool_, float32, query.dtype):
        raise SpiralError(
            f"Expected attn_mask dtype to be bool or float or to match query dtype, but got {attn_mask.dtype.name} beside "
            f"a query of {query.dtype.name}"
        )
    if attn_mask is not None and is_causal:
        raise SpiralError("Explicit attn_mask should not be set when is_causal=True")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"query and key must agree in features, key and value in positions, but got {shapes}")
    if not 0 <= dropout_p <= 1:
        raise SpiralError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    if gqa and least < 3:
        raise IndexError(f"enable_gqa needs an axis of heads, third from the end, but got {shapes}")
    if gqa and (key.shape[-3] != value.shape[-3] or not key.shape[-3] or query.shape[-3] % key.shape[-3]):
        raise SpiralError(f"Number of heads in key and value must divide the number of heads in query, but got {shapes}")


def _sdpa_grad(
    g: Node, out: Node, query: Node, key: Node, value: Node, attn_mask: Node | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, seed: Node | None = None,
    counter: Node | None = None,
) -> list[Node | None]:  # fmt: skip
    c = _Call(query, key, value, attn_mask, enable_gqa, (is_causal, scale))
    up = graph.reshape(cast(g, c.q.dtype), (*c.q.shape[:3], c.v.shape[3]))
    kept = None if seed is None or counter is None else _kept(dropout_p, seed, counter, _pairs(c))
    inputs = [c.q, c.k, c.v] if c.bias is None else [c.q, c.k, c.v, c.bias]

    def output(q: Node, k: Node, v: Node, bias: Node | None = None) -> Node:
        return attend(q, k, v, bias, c.options, kept)

    tiled = is_tiled(c.q, c.k, c.v, kept is not None)
    bias_wanted = attn_mask is not None and attn_mask.dtype is not bool_
    found = gradient_of(output, inputs, up) if bias_wanted or not tiled else [None] * len(inputs)
    if tiled:
        found[:3] = _tiled_grad(up, c.q, c.k, c.v, c.bias, c.options)
    shapes = [(*c.batch, h, *n.shape[2:]) for h, n in zip(c.heads, inputs)] + [c.bias_shape]
    grads = [None if n is None else graph.reshape(n, shape) for n, shape in zip(found, shapes)]
    if attn_mask is not None and not bias_wanted:
        grads[3] = None
    return grads + [None] * (2 if seed is not None else 0)


def _pairs(c: _Call) -> tuple[int, ...]:
    return (*c.q.shape[:3], c.k.shape[2])


_HEADS = (T(2, 3, 5, 8), T(2, 3, 7, 8), T(2, 3, 7, 4))


@op("scaled_dot_product_attention", acc=False, grad=_sdpa_grad, where=("nn.functional",),
    saves=("query", "key", "value", "attn_mask", "seed", "counter"), kinds="f", tolerance=1e-4, samples=s.calls(
    s.call(*_HEADS), s.call(*_HEADS, is_causal=True), s.call(*_HEADS, scale=0.3),
    s.call(*_HEADS, T(5, 7, fill="mask")), s.call(*_HEADS, T(2, 1, 1, 7)), s.call(*_HEADS, T(3, 5, 1)),
    s.call(T(1, 2, 65, 16), T(1, 2, 50, 16), T(1, 2, 50, 32), is_causal=True),
    s.call(T(1, 4, 50, 16), T(1, 2, 70, 16), T(1, 2, 70, 16), T(50, 70), enable_gqa=True),
    s.call(T(3, 4), T(5, 4), T(5, 6)), s.call(T(2, 3, 4), T(1, 5, 4), T(1, 5, 4)),
    s.call(T(1, 3, 4), T(1, 0, 4), T(1, 0, 4)), s.call(T(1, 0, 4), T(1, 2, 4), T(1, 2, 4))))  # fmt: skip
def scaled_dot_product_attention(
    query: Node, key: Node, value: Node, attn_mask: Node | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False, seed: Node | None = None, counter: Node | None = None,
) -> Node:  # fmt: skip
    """``softmax(query key^T scale + mask) value`` over [..., L, E], [..., S, E] and [..., S, Ev] floats.  ``attn_mask``
    broadcasts to [..., L, S]: a bool one keeps where it is True, a float one is added.  Raises RuntimeError for shapes
    or types that do not fit, a probability outside 0 to 1, or heads that do not divide.
    (torch.nn.functional.scaled_dot_product_attention)"""
    _check(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    c = _Call(query, key, value, attn_mask, enable_gqa, (is_causal, None if scale is None else float(scale)))
    kept = None if seed is None or counter is None else _kept(dropout_p, seed, counter, _pairs(c))
    if is_tiled(c.q, c.k, c.v, kept is not None):
        flat = _forward(c.q, c.k, c.v, c.bias, c.options)[-1]
        out = _part(flat, 0, c.q, c.v.shape[3])
    else:
        out = attend(c.q, c.k, c.v, c.bias, c.options, kept)
    return c.output(out, query.dtype)
