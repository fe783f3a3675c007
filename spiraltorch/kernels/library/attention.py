"""Attention and its gradient, kept whole: :mod:`spiraltorch.ops.attention` defines both and decides when they are used.

Operands are (batch, heads, position, feature), then perhaps a bias (batch or 1, heads or 1, key, query); backward also
gets the output's gradient and forward's flat result.  Queries' heads are a multiple of the keys'.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ..llvm import attention as tiles
from .routine import composite


def _sizes(n: Any) -> list[int]:
    """The values of ``tiles.SIZES``; the scale as the bits of a float."""
    q, k, v = [m.shape for m in n.src[:3]]
    scale = q[3] ** -0.5 if n.arg[1][1] is None else n.arg[1][1]
    return [q[0], q[1], k[1], q[2], k[2], q[3], v[3], struct.unpack("<I", struct.pack("<f", scale))[0]]


def _shapes(k: Any, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Of the operands, from their number and the sizes; a bias may be the same for a batch or all heads."""
    b, h, own, length, keys, e, d = sizes[:7]
    shapes: list[tuple[int, ...]] = [(b, h, length, e), (b, own, keys, e), (b, own, keys, d)]
    if len(k.params) in (5, 7):
        shapes.append((b, h, keys, length))
    if len(k.params) >= 6:
        shapes += [(b, h, length, d), (b * h * length * (d + 1),)]
    return shapes


def _pairs(k: Any, sizes: Sequence[int]) -> int:
    """Pairs of a query and a key that it looks at."""
    b, h, _, length, keys = sizes[:5]
    seen = min(length, keys)
    return b * h * (seen * (seen + 1) // 2 + (length - seen) * keys if k.static[0] else length * keys)


def _forward_flops(k: Any, sizes: Sequence[int]) -> int:
    return 2 * (sizes[5] + sizes[6]) * _pairs(k, sizes)


def _backward_flops(k: Any, sizes: Sequence[int]) -> int:
    return (6 * sizes[5] + 4 * sizes[6]) * _pairs(k, sizes)


def _forward_tasks(k: Any, sizes: Sequence[int]) -> tuple[int, int]:
    """A task: a block of queries of a head."""
    return sizes[0] * sizes[1] * -(-sizes[3] // tiles.QUERIES), 1


def _backward_tasks(k: Any, sizes: Sequence[int]) -> tuple[int, int]:
    """A task: a head of keys."""
    return sizes[0] * sizes[2], 1


def _emit_forward(k: Any, target: Any, name: str) -> str:
    return tiles.emit(target, name, True, k.static[0], len(k.params) == 5)


def _emit_backward(k: Any, target: Any, name: str) -> str:
    return tiles.emit(target, name, False, k.static[0], len(k.params) == 7)


@composite(
    "attention.forward", strided=True, sizes=_sizes, emit=_emit_forward, tasks=_forward_tasks, shapes=_shapes,
    flops=_forward_flops,
)  # fmt: skip
def forward(options: Any, *operands: Any) -> Any:
    """Outputs as (batch, query, head, feature), then logarithms of the sums of the exponentials."""
    from ...ops.attention import forward_body  # operators are above kernels

    return forward_body(options, *operands)


@composite(
    "attention.backward", strided=True, sizes=_sizes, emit=_emit_backward, tasks=_backward_tasks, shapes=_shapes,
    flops=_backward_flops,
)  # fmt: skip
def backward(options: Any, *operands: Any) -> Any:
    """The gradients of queries, keys and values as (batch, position, head, feature), one after the other."""
    from ...ops.attention import backward_body

    return backward_body(options, *operands)
