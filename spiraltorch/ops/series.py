"""What special functions are built from: expansions from a table, and steps that keep every digit.

In: float64 nodes (records say ``acc="double"``: narrower floats are widened before).  Out: float64 nodes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.series import expand
    >>> expand("i0_near", graph.param(0, (4,), dtypes.float64)).op
    'FMA'

``expansions.json`` holds Chebyshev coefficients by name and piece; tests/ops/expansions.py makes it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import dtypes
from ..ir import graph, lang
from ..ir.node import Node, cast, const

INF, NAN = float("inf"), float("nan")


@functools.cache
def table() -> dict[str, Any]:
    """The expansions: for each name, pieces ``[low, high, coefficients]`` from left to right."""
    text = Path(__file__).with_name("expansions.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def expand(name: str, v: Node) -> Node:
    """Expansion ``name`` at ``v``; outside of its pieces the value means nothing.

    Each element's piece gives its coefficients, and Clenshaw's recurrence sums them.
    """
    pieces = table()[name]
    scale = [2 / (high - low) for low, high, _ in pieces]
    shift = [-(low + high) / (high - low) for low, high, _ in pieces]
    ends = [high for _, high, _ in pieces[:-1]]
    t = lang.fma(v, piecewise(v, ends, scale), piecewise(v, ends, shift))
    twice = t + t
    terms = max(len(c) for _, _, c in pieces)
    columns = [[c[k] if k < len(c) else 0.0 for _, _, c in pieces] for k in range(terms)]
    last: Node | float = 0.0
    total = piecewise(v, ends, columns[-1])
    for column in reversed(columns[1:-1]):
        c = piecewise(v, ends, column)
        total, last = lang.fma(twice, total, c - last if isinstance(last, Node) else c), total
    first = piecewise(v, ends, columns[0])
    return first + (lang.fma(t, total, -last) if isinstance(last, Node) else t * total)  # the largest term is rounded once


def piecewise(v: Node, ends: Sequence[float], values: Sequence[float]) -> Node:
    """The value of the piece that each element of ``v`` lies in."""
    out = const(values[-1], v.dtype)
    for end, value in zip(reversed(ends), reversed(values[:-1])):
        out = lang.where(lang.lt(v, end), const(value, v.dtype), out)
    return out


def polynomial(v: Node, *coefficients: float) -> Node:
    """``c0 + v * (c1 + v * ...)``."""
    total: Node = const(coefficients[-1], v.dtype)
    for c in reversed(coefficients[:-1]):
        total = lang.fma(total, v, const(c, v.dtype))
    return total


# -- steps without loss -----------------------------------------------------------------------------------


def copysign(size: Node, like: Node) -> Node:
    """``|size|`` with the sign bit of ``like``, of one float type."""
    bits = _INTEGER[size.dtype]
    top = const(1 << (bits.bits - 1), bits)
    rest = const((1 << (bits.bits - 1)) - 1, bits)
    joined = (lang.bitcast(size, bits) & rest) | (lang.bitcast(like, bits) & top)
    return lang.bitcast(joined, size.dtype)


_INTEGER = {
    dtypes.float64: dtypes.uint64, dtypes.float32: dtypes.uint32, dtypes.float16: dtypes.uint16,
    dtypes.bfloat16: dtypes.uint16,
}  # fmt: skip


def bits_of(a: Node) -> Node:
    """The bits of a float as an unsigned integer."""
    return lang.bitcast(a, _INTEGER[a.dtype])


def square_parts(x: Node) -> tuple[Node, Node]:
    """``x * x`` as a rounded value and what the rounding left."""
    high = x * x
    return high, lang.fma(x, x, -high)


def exp_parts(high: Node, low: Node) -> Node:
    """``exp(high + low)`` for a ``low`` of the size of a rounding error."""
    size = lang.exp(high)
    both = lang.lt(lang.absolute(high), 800) & lang.lt(size, INF)  # beyond, low may be nan, or take inf from inf
    return lang.where(both, lang.fma(size, low, size), size)


def sin_pi(x: Node) -> Node:
    """``sin(pi * x)``, exact at the integers."""
    whole = lang.round_(x)
    size = lang.sin((x - whole) * math.pi)
    odd = lang.ne(whole - 2 * lang.floor(whole * 0.5), 0)
    return lang.where(odd, -size, size)


def is_integer(x: Node) -> Node:
    return lang.eq(x, lang.floor(x))


def numbered(x: Node, count: int) -> tuple[Node, Node]:
    """``x`` repeated along a new last axis, and 0, 1 .. count - 1 along it: what a sum of terms folds."""
    shape = (*x.shape, count)
    wide = graph.expand(graph.reshape(x, (*x.shape, 1)), shape)
    return wide, cast(graph.iota(shape, len(shape) - 1), x.dtype)


def fold_last(terms: Node) -> Node:
    """The sum along the last axis."""
    return lang.fold("add", terms, len(terms.shape) - 1)


__all__ = [
    "INF", "NAN", "bits_of", "copysign", "exp_parts", "expand", "fold_last", "is_integer", "numbered", "piecewise",
    "polynomial",
    "sin_pi", "square_parts", "table",
]  # fmt: skip
