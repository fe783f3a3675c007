"""Sampling at coordinates: grid_sample, and the grids of affine maps.

In: data [N, C, spatial...] and a grid [N, out..., axes] of coordinates in -1 to 1 (x first).  Out: [N, C, out...],
each element a weighted sum of the input's neighbours of its coordinate; differentiable in both.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["affine_grid"].apply([graph.param(0, (2, 2, 3), dtypes.float32), (2, 3, 4, 5)], {}).shape
    (2, 4, 5, 2)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import number
from .registry import op, raise_dtype
from .resample import cubic_weights

T = s.T


def _clipped(c: Node, size: int) -> Node:
    """0 to size - 1, with no gradient at and beyond the ends."""
    top = number(float(size - 1), c)
    return lang.where(lang.le(c, 0), 0, lang.where(lang.le(top, c), top, c))


def _reflected(c: Node, low: float, high: float) -> Node:
    """``c`` thrown back at ``low`` and ``high`` until it lies between."""
    span = high - low
    if span == 0:
        return lang.mul(c, 0)
    away = c - low
    away = lang.where(lang.lt(away, 0), -away, away)
    rest = lang.row("REM", away, span)
    odd = lang.ne(lang.row("REM", lang.floor(away / span), 2), 0)
    return lang.where(odd, (span + low) - rest, rest + low)


def _bounded(c: Node, size: int, padding: str, align: bool) -> Node:
    if padding == "border":
        return _clipped(c, size)
    if padding == "reflection":
        return _clipped(_reflected(c, 0.0, size - 1.0) if align else _reflected(c, -0.5, size - 0.5), size)
    return c


def _taken(x: Node, places: Sequence[Node], sizes: Sequence[int]) -> Node:
    """[N, C, P] elements at whole-number coordinates [N, P] an axis; 0 outside."""
    n, c = x.shape[:2]
    inside: Node | None = None
    flat: Node | None = None
    for place, size in zip(places, sizes):
        here = lang.le(0, place) & lang.le(place, float(size - 1))
        inside = here if inside is None else inside & here
    assert inside is not None
    for place, size in zip(places, sizes):
        at = cast(lang.where(inside, lang.detach(place), 0), dtypes.int64)
        flat = at if flat is None else flat * size + at
    assert flat is not None
    count = flat.shape[1]
    index = graph.expand(graph.reshape(flat, (n, 1, count)), (n, c, count))
    values = graph.gather_along(graph.reshape(x, (n, c, math.prod(sizes))), index, 2)
    return lang.where(graph.reshape(inside, (n, 1, count)), values, 0)


def _weighted(values: Node, weight: Node) -> Node:
    return values * graph.reshape(weight, (weight.shape[0], 1, weight.shape[1]))


def _neighbours(x: Node, coordinates: Sequence[Node], sizes: Sequence[int]) -> Node:
    """The corners around each coordinate, by their nearness on every axis."""
    total: Node | None = None
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        places, share = [], None
        for c, up in zip(coordinates, corner):
            low = lang.floor(c)
            part = c - low if up else (low + 1) - c
            share = part if share is None else share * part
            places.append(low + 1 if up else low)
        assert share is not None
        piece = _weighted(_taken(x, places, sizes), share)
        total = piece if total is None else total + piece
    assert total is not None
    return total


def _bicubic(x: Node, coordinates: Sequence[Node], sizes: Sequence[int], padding: str, align: bool) -> Node:
    total: Node | None = None
    lows = [lang.floor(c) for c in coordinates]
    shares = [cubic_weights(c - low) for c, low in zip(coordinates, lows)]
    for i in range(4):
        row: Node | None = None
        for j in range(4):
            places = [lang.detach(low) + float(k - 1) for low, k in zip(lows, (i, j))]
            bounded = [_bounded(p, size, padding, align) for p, size in zip(places, sizes)]
            piece = _weighted(_taken(x, bounded, sizes), shares[1][j])
            row = piece if row is None else row + piece
        assert row is not None
        line = _weighted(row, shares[0][i])
        total = line if total is None else total + line
    assert total is not None
    return total


def _checked(input: Node, grid: Node, mode: str, padding_mode: str) -> None:
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    shapes = f"input has sizes {list(input.shape)} and grid has sizes {list(grid.shape)}"
    if input.dtype is not grid.dtype:
        raise SpiralError(f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype.name} and "
                          f"grid has {grid.dtype.name}")  # fmt: skip
    if input.dtype.kind != "f":
        raise_dtype(grid_sample, input.dtype)
    rank = len(input.shape) - 2
    if rank not in (2, 3) or len(grid.shape) != rank + 2:
        raise ShapeError(f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but {shapes}")
    if grid.shape[0] != input.shape[0]:
        raise ShapeError(f"grid_sampler(): expected grid and input to have same batch size, but {shapes}")
    if grid.shape[-1] != rank:
        raise ShapeError(f"grid_sampler(): expected grid to have size {rank} in last dimension, but {shapes}")
    if not all(input.shape[2:]):
        raise ShapeError(f"grid_sampler(): expected input to have non-empty spatial dimensions, but {shapes}")
    if mode == "bicubic" and rank != 2:
        raise SpiralError("grid_sampler(): bicubic interpolation only supports 4D input")


def _grid_samples(dtype: dtypes.DType) -> list[s.Sample]:
    """Every mode with every padding, both alignments; coordinates also lie outside.  In 16 bits the slope of a cubic
    is mostly rounding, and is not compared."""
    out = []
    for mode in ("bilinear", "nearest", "bicubic"):
        call = s.value_only if mode == "bicubic" and dtype.itemsize == 2 else s.call
        for k, padding in enumerate(("zeros", "border", "reflection")):
            for align in (k != 1, k == 1):
                out.append(call(T(2, 3, 4, 5), T(2, 3, 2, 2), mode, padding, align))
    out.append(s.call(T(1, 2, 3, 4, 2), T(1, 2, 3, 2, 3), align_corners=False))
    out.append(s.call(T(1, 2, 3, 4, 2), T(1, 2, 3, 2, 3), "nearest", "border", align_corners=True))
    return s.calls(*out)(dtype)


@op("grid_sample", acc=False, where=("nn.functional",), tolerance=1e-4, samples=_grid_samples)
def grid_sample(input: Node, grid: Node, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Node:  # fmt: skip
    """``input`` [N, C, H, W] (or with D) at the coordinates of ``grid`` [N, H', W', 2] (or 3): -1 and 1 are the outer
    edges, or with ``align_corners`` the centres, of the first and last elements.  Modes 'bilinear', 'nearest',
    'bicubic'; padding 'zeros', 'border', 'reflection'.  (torch.nn.functional.grid_sample)"""
    _checked(input, grid, mode, padding_mode)
    align = bool(align_corners)
    sizes = input.shape[2:]
    rank, out = len(sizes), grid.shape[1:-1]
    coordinates = []
    for k, size in enumerate(sizes):
        word = rank - 1 - k  # x, the last axis, comes first
        part = graph.slice_(grid, (*[(0, n, 1) for n in grid.shape[:-1]], (word, word + 1, 1)))
        c = graph.reshape(part, (grid.shape[0], math.prod(out)))
        c = ((c + 1) / 2) * float(size - 1) if align else ((c + 1) * float(size) - 1) / 2
        coordinates.append(c if mode == "bicubic" else _bounded(c, size, padding_mode, align))
    if mode == "bicubic":
        found = _bicubic(input, coordinates, sizes, padding_mode, align)
    elif mode == "nearest":
        found = _taken(input, [lang.round_(c) for c in coordinates], sizes)
    else:
        found = _neighbours(input, coordinates, sizes)
    return graph.reshape(found, (*input.shape[:2], *out))


@op("affine_grid", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 2, 3), (2, 3, 4, 5), True), s.call(T(2, 2, 3), (2, 3, 4, 5), False), s.call(T(1, 2, 3), [1, 2, 1, 3], False),
    s.call(T(2, 3, 4), (2, 1, 2, 3, 4), True), s.call(T(2, 3, 4), (2, 1, 2, 3, 1), align_corners=False)))  # fmt: skip
def affine_grid(theta: Node, size: Any, align_corners: bool | None = None) -> Node:
    """The grid that :func:`grid_sample` needs to turn [N, C, H, W] by matrices [N, 2, 3] (or [N, C, D, H, W] by
    [N, 3, 4]).  (torch.nn.functional.affine_grid)"""
    if theta.dtype.kind != "f":
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype.name}")
    size = tuple(size)
    rank = len(size) - 2
    if rank not in (2, 3):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size {size}."
        )
    if len(theta.shape) != 3 or theta.shape[1:] != (rank, rank + 1):
        raise ValueError(
            f"Expected a batch of {rank}D affine matrices of shape Nx{rank}x{rank + 1} for size {size}. Got {list(theta.shape)}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    if theta.shape[0] != size[0]:
        raise ShapeError(f"Expected {size[0]} affine matrices for size {size}, but got {theta.shape[0]}")
    shape = (size[0], *size[2:], rank)
    total: Node | None = None
    for k in range(rank + 1):
        column = graph.reshape(graph.slice_(theta, ((0, size[0], 1), (0, rank, 1), (k, k + 1, 1))), (size[0], *[1] * rank, rank))
        if k < rank:
            axis = rank - k  # x, the last axis, is the first column
            n = shape[axis]
            place = cast(graph.iota(shape, axis), theta.dtype)
            if align_corners:
                place = place * (2.0 / (n - 1)) - 1 if n > 1 else lang.mul(place, 0)
            else:
                place = (2 * place + 1) / float(n) - 1
            column = column * place
        total = column if total is None else total + column
    assert total is not None
    return graph.expand(total, shape)


__all__ = ["affine_grid", "grid_sample"]
