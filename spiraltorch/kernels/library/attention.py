"""Attention and its gradient, kept whole: :mod:`spiraltorch.ops.attention` defines both and decides when they are used.

Operands are (batch, heads, position, feature), then perhaps a bias (batch or 1, heads or 1, key, query); backward also
gets the output's gradient and forward's flat result.  Queries' heads are a multiple of the keys'.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ...ops.attention import backward_body, forward_body
from ..llvm import attention as tiles
from .routine import composite


def _sizes(n: Any) -> list[int]:
    """The values of ``tiles.SIZES``; the scale as the bits of a float."""
    q, k, v = [m.shape for m in n.src[:3]]
    scale = q[3] ** -0.5 if n.arg[1][1] is None else n.arg[1][1]
    return [q[0], q[1], k[1], q[2], k[2], q[3], v[3], struct.unpack("<I", struct.pack("<f", scale))[0]]


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


forward = composite("attention.forward", strided=True, sizes=_sizes, emit=_emit_forward, tasks=_forward_tasks)(forward_body)
backward = composite("attention.backward", strided=True, sizes=_sizes, emit=_emit_backward, tasks=_backward_tasks)(backward_body)
