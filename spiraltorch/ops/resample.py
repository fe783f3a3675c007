"""Resampling: tensors at other sizes.

In: data [N, C, spatial...] and the sizes wanted.  Out: each element a weighted sum of a few input elements an axis:
one axis after the other is gathered at [out, taps] positions, multiplied by weights of that shape and folded.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (1, 3, 4, 4), dtypes.float32)
    >>> OPS["interpolate"].apply([x], {"scale_factor": 2.5, "mode": "bilinear"}).shape
    (1, 3, 10, 10)
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..errors import ShapeError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import number
from .registry import OPS, op, raise_dtype
from .windows import cells

T = s.T
_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
_MODES = ("nearest", "nearest-exact", "area", *_RANKS)


def _sizes(input: Node, size: Any, scale_factor: Any, mode: str, recompute: bool | None) -> tuple[list[int], list[float | None]]:
    """The spatial sizes of the result, and for each axis the factor to sample with (None: the sizes' own)."""
    spatial = input.shape[2:]
    rank = len(spatial)
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    wanted = scale_factor if size is None else size
    values = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted] * rank
    if len(values) != rank:
        what = "scale_factor of shape" if size is None else "output size of"
        raise ValueError(
            f"Input and {'scale_factor' if size is None else 'output'} must have the same number of spatial dimensions, but "
            f"got input with spatial dimensions of {list(spatial)} and {what} {wanted}."
        )
    if size is not None:
        if not all([isinstance(v, int) for v in values]):
            raise TypeError(f"expected size to be one of int or a tuple of int, but got size {size}")
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        return values, [None] * rank
    out = [int(n * v) for n, v in zip(spatial, values)]
    return out, [None] * rank if recompute or mode == "area" else [float(v) for v in values]


def _step(n: int, out: int, factor: float | None, align: bool) -> float:
    """How far neighbours of the result are apart in the input."""
    if align:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / factor if factor is not None and factor > 0 else n / out


def _folded(x: Node, axis: int, index: Node, weight: Node) -> Node:
    """``sum(x[index[o, k]] * weight[o, k])`` along ``axis``.  Of bytes it is a byte, by fixed-point weights."""
    if x.dtype is dtypes.uint8:
        scale = _fixed_point(fold("max", weight, None))
        exact = weight * scale
        whole = lang.trunc(lang.where(lang.lt(weight, 0), exact - 0.5, exact + 0.5))
        total = _folded(cast(x, weight.dtype), axis, index, whole)
        return cast(lang.minimum(lang.maximum(lang.floor(total / scale + 0.5), 0), 255), x.dtype)
    weight = cast(weight, x.dtype)
    taken = graph.gather(x, index, axis)
    rest = len(x.shape) - axis - 1
    return fold("add", taken * graph.reshape(weight, weight.shape + (1,) * rest), axis + 1)


def _fixed_point(largest: Node) -> Node:
    """The power of two that weights up to ``largest`` are rounded at: the highest with which they fit 16 bits."""
    scale: Node = const(float(1 << 22), largest.dtype)
    for p in reversed(range(22)):
        scale = lang.where(lang.le(2.0**15 - 0.5, largest * float(2 << p)), float(1 << p), scale)
    return scale


def _merged(taps: list[Node], weights: list[Node]) -> Node:
    """The weights as columns, those of taps at one place (the edge) added up at the first of them."""
    out = []
    for k, at in enumerate(taps):
        total, first = weights[k], None
        for j, other in enumerate(taps):
            same = lang.eq(at, other)
            if j < k:
                first = same if first is None else first | same
            elif j > k:
                total = total + lang.where(same, weights[j], 0)
        out.append(total if first is None else lang.where(first, 0, total))
    return _joined(out)


def _combined(x: Node, axis: int, taps: list[Node], weights: list[Node]) -> Node:
    if x.dtype is dtypes.uint8:
        return _folded(x, axis, _joined(taps), _merged(taps, weights))
    taken = graph.gather(x, _joined(taps), axis)  # once, for one scatter on the way back
    taken = graph.permute(taken, (*range(axis + 1), *range(axis + 2, len(taken.shape)), axis + 1))
    rest = (1,) * (len(x.shape) - axis - 1)
    parts = [cell * graph.reshape(cast(w, x.dtype), (w.size, *rest)) for cell, w in zip(cells(taken, 1), weights)]
    return functools.reduce(operator.add, parts)


def _wide(x: Node) -> dtypes.DType:
    """The type in which places and weights are computed."""
    return dtypes.float32 if x.dtype.kind == "f" and x.dtype is not dtypes.float64 else dtypes.float64


def _joined(parts: list[Node]) -> Node:
    """[out] nodes as the columns of [out, taps]."""
    shape = (parts[0].size, len(parts))
    out = graph.expand(graph.reshape(parts[-1], (shape[0], 1)), shape)
    for k in reversed(range(len(parts) - 1)):
        out = lang.where(lang.eq(graph.iota(shape, 1), k), graph.reshape(parts[k], (shape[0], 1)), out)
    return out


def _nearest(x: Node, axis: int, out: int, factor: float | None, offset: float) -> Node:
    n = x.shape[axis]
    place = cast(graph.iota((out,), 0), dtypes.float32)
    at = cast(lang.floor((place + offset) * number(_step(n, out, factor, False), place)), dtypes.int64)
    return graph.gather(x, lang.minimum(at, n - 1), axis)


def _source(x: Node, axis: int, out: int, factor: float | None, align: bool) -> Node:
    """Where each element of the result lies in the input, fractional."""
    place = cast(graph.iota((out,), 0), _wide(x))
    step = number(_step(x.shape[axis], out, factor, align), place)
    return place * step if align else (place + 0.5) * step - 0.5


def _linear(x: Node, axis: int, out: int, factor: float | None, align: bool) -> Node:
    n = x.shape[axis]
    at = lang.maximum(_source(x, axis, out, factor, align), 0)
    low = lang.minimum(cast(at, dtypes.int64), n - 1)
    share = lang.minimum(lang.maximum(at - cast(low, at.dtype), 0), 1)
    taps, weights = [low, lang.minimum(low + 1, n - 1)], [1 - share, share]
    return _combined(x, axis, taps, weights)


def cubic_weights(t: Node, a: float = -0.75) -> list[Node]:
    """The shares of four neighbours at distance ``t`` behind the second (Keys, 1981)."""

    def near(d: Node) -> Node:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Node) -> Node:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _cubic(x: Node, axis: int, out: int, factor: float | None, align: bool) -> Node:
    n = x.shape[axis]
    at = _source(x, axis, out, factor, align)
    low = lang.floor(at)
    first = cast(low, dtypes.int64)
    taps = [lang.minimum(lang.maximum(first + k, 0), n - 1) for k in (-1, 0, 1, 2)]
    return _combined(x, axis, taps, cubic_weights(at - low))


def _tent(d: Node) -> Node:
    return lang.maximum(1 - d, 0)


def _keys(d: Node) -> Node:
    """The cubic filter with a = -0.5, 0 beyond 2."""
    inner, outer = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return lang.where(lang.lt(d, 1), inner, lang.where(lang.lt(d, 2), outer, 0))


def _smooth(x: Node, axis: int, out: int, factor: float | None, align: bool, reach: float, weigh: Callable[[Node], Node]) -> Node:
    """A filter as wide as the step, so that nothing of the input is skipped (antialias)."""
    n = x.shape[axis]
    wide = _wide(x)
    step = _step(n, out, factor, align)
    support = reach * max(step, 1.0)
    shape = (out, math.ceil(support) * 2 + 1)
    centre = (cast(graph.iota(shape, 0), wide) + 0.5) * step
    first = lang.maximum(cast(centre - support + 0.5, dtypes.int64), 0)
    at = first + graph.iota(shape, 1)
    inside = lang.lt(at, lang.minimum(cast(centre + support + 0.5, dtypes.int64), n))
    weight = lang.where(inside, weigh(lang.absolute((cast(at, wide) - centre + 0.5) * (1 / max(step, 1.0)))), 0)
    weight = weight / fold("add", weight, 1, keepdim=True)
    return _folded(x, axis, lang.minimum(at, n - 1), weight)


def _checked(input: Node, mode: str, align_corners: bool | None, antialias: bool) -> None:
    rank = len(input.shape) - 2
    if align_corners is not None and mode in ("nearest", "area", "nearest-exact"):
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if antialias and (mode not in ("bilinear", "bicubic") or rank != 2):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")
    if mode not in _MODES or not 1 <= rank <= 3 or _RANKS.get(mode, rank) != rank:
        raise NotImplementedError(
            f"Only 3D, 4D and 5D input Tensors are supported (got {rank + 2}D), for the modes: nearest | nearest-exact | area | "
            f"linear (3D) | bilinear (4D) | bicubic (4D) | trilinear (5D) (got {mode})"
        )


_NEAREST = (
    s.call(T(2, 3, 5), 8), s.call(T(2, 3, 4, 5), (7, 3)), s.call(T(1, 2, 3, 2, 4), scale_factor=1.7),
    s.call(T(2, 3, 5), 8, mode="nearest-exact"), s.call(T(2, 3, 4, 5), scale_factor=(2.3, 0.6), mode="nearest-exact"),
    s.call(T(0, 3, 5), 8),
)  # fmt: skip
_WEIGHTED = (
    s.call(T(2, 3, 5), 8, mode="linear"), s.call(T(2, 3, 5), scale_factor=0.6, mode="linear", align_corners=True),
    s.call(T(2, 3, 4, 5), (7, 3), mode="bilinear"), s.call(T(2, 3, 4, 5), scale_factor=2.3, mode="bilinear"),
    s.call(T(2, 3, 4, 5), scale_factor=1.5, mode="bilinear", recompute_scale_factor=True),
    s.call(T(2, 3, 4, 5), (1, 9), mode="bilinear", align_corners=True), s.call(T(1, 2, 3, 2, 4), (2, 5, 3), mode="trilinear"),
    s.call(T(2, 3, 4, 5), (7, 3), mode="bicubic"), s.call(T(2, 3, 4, 5), scale_factor=1.6, mode="bicubic", align_corners=True),
    s.call(T(2, 3, 4, 5), (3, 7), mode="area"), s.call(T(2, 3, 9, 8), (4, 11), mode="bilinear", antialias=True),
    s.call(T(2, 3, 9, 8), scale_factor=0.4, mode="bicubic", antialias=True),
)  # fmt: skip


@op("interpolate", lies="images", where=("nn.functional",), tolerance=1e-4, samples=s.calls(*_NEAREST, *_WEIGHTED))
def interpolate(input: Node, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Node:  # fmt: skip
    """[N, C, spatial...] at other spatial sizes, given or by a factor.  Modes 'nearest', 'nearest-exact', 'area',
    'linear' (3-D input), 'bilinear' and 'bicubic' (4-D; ``antialias`` widens the filter when shrinking), 'trilinear'
    (5-D); ``align_corners`` puts the corners' centres on each other.  (torch.nn.functional.interpolate)"""
    _checked(input, mode, align_corners, antialias)
    sizes, factors = _sizes(input, size, scale_factor, mode, recompute_scale_factor)
    if mode == "area":
        found: Node = OPS[f"adaptive_avg_pool{len(sizes)}d"].body(input, sizes)
        return found
    if input.dtype.kind != "f" and (input.dtype is not dtypes.uint8 or mode in ("linear", "trilinear")):
        raise_dtype(interpolate, input.dtype)
    if not all(input.shape[1:]) or any(n < 1 for n in sizes):
        raise ShapeError(
            f"Input and output sizes should be greater than 0, but got input {list(input.shape)} and output {sizes}"
        )
    x = input
    align = bool(align_corners)
    for axis, out, factor in reversed([*zip(range(2, 5), sizes, factors)]):
        if mode.startswith("nearest"):
            x = _nearest(x, axis, out, factor, 0.5 if mode == "nearest-exact" else 0.0)
        elif antialias:
            x = _smooth(x, axis, out, factor, align, *((1.0, _tent) if mode == "bilinear" else (2.0, _keys)))
        else:
            x = (_cubic if mode == "bicubic" else _linear)(x, axis, out, factor, align)
    return x


__all__ = ["cubic_weights"]
