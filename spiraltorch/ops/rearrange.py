"""Operators that put elements elsewhere and give memory of their own: joining, turning, repeating, padding.

>>> from spiraltorch import dtypes
>>> from spiraltorch.ir import graph
>>> from spiraltorch.ops.registry import OPS
>>> x = graph.param(0, (2, 3), dtypes.float32)
>>> OPS["cat"].apply([[x, x], 1], {}).shape, OPS["pad"].apply([x, (1, 2)], {}).shape
((2, 6), (2, 6))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import filling
from .parts import cut
from .registry import OPS, op, raise_dtype, result_type, wrap_dim
from .view import apply_steps, sizes_of

T = s.T


def joined(parts: Sequence[Node], axis: int) -> Node:
    """``parts`` one after the other along ``axis``; shapes and types fit."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum([p.shape[axis] for p in parts])
    out = graph.full(0, tuple(shape), parts[0].dtype)
    at = 0
    for p in parts:
        ranges = [(0, n, 1) for n in shape]
        ranges[axis] = (at, at + p.shape[axis], 1)
        if p.shape[axis]:
            out = graph.update(out, tuple(ranges), p)
        at += p.shape[axis]
    return out


def _cat_grad(g: Node, out: Node, tensors: Sequence[Node], dim: int = 0) -> list[Node | None]:
    axis = wrap_dim(dim, len(g.shape))
    grads: list[Node | None] = []
    at = 0
    for t in tensors:
        if t.shape == (0,):
            grads.append(graph.full(0, (0,), g.dtype))
            continue
        grads.append(apply_steps(g, cut(g.shape, axis, at, at + t.shape[axis])))
        at += t.shape[axis]
    return grads


def _all_tensors(tensors: Sequence[Any]) -> None:
    for i, t in enumerate(tensors):
        if not isinstance(t, Node):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(t).__name__}")


@op("cat", lies="images", kinds="buifc", acc=False, grad=_cat_grad, saves="", where=("",), aliases=("concat", "concatenate"),
    samples=s.calls(s.call([T(2, 3), T(4, 3)]), s.call([T(2, 3), T(2, 1), T(2, 2)], -1), s.call([T(3)]), s.call([T(0), T(2, 3)]),
    s.call([T(2, 3), T(0, 3)], dim=0), s.call([T(2), T(3, dtype=s.dtypes.float64)])))  # fmt: skip
def cat(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Tensors one after the other along ``dim``, in their common type; 1-d empty ones are skipped.  (torch.cat)"""
    if not len(tensors):
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    _all_tensors(tensors)
    for i, t in enumerate(tensors):
        if not t.shape:
            raise ShapeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    common = result_type(tensors)
    parts = [t for t in tensors if t.shape != (0,)]
    if not parts:
        return cast(tensors[0], common)
    axis = wrap_dim(dim, len(parts[0].shape))
    first = parts[0].shape
    for i, t in enumerate(tensors):
        if t.shape == (0,):
            continue
        if len(t.shape) != len(first):
            raise ShapeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(t.shape)}")
        for a, (have, want) in enumerate(zip(t.shape, first)):
            if a != axis and have != want:
                raise ShapeError(
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {want} but got size {have} "
                    f"for tensor number {i} in the list."
                )
    return joined([cast(t, common) for t in parts], axis)


def _stack_grad(g: Node, out: Node, tensors: Sequence[Node], dim: int = 0) -> list[Node | None]:
    axis = wrap_dim(dim, len(g.shape))
    return [graph.reshape(apply_steps(g, cut(g.shape, axis, i, i + 1)), t.shape) for i, t in enumerate(tensors)]


@op("stack", kinds="buifc", acc=False, grad=_stack_grad, saves="", where=("",), samples=s.calls(
    s.call([T(2, 3), T(2, 3)]), s.call([T(2, 3), T(2, 3), T(2, 3)], -1), s.call([T(), T()]), s.call([T(3)], 1),
    s.call([T(0, 3), T(0, 3)], 1)))  # fmt: skip
def stack(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Tensors of one shape along a new axis ``dim``, in their common type.  (torch.stack)"""
    if not len(tensors):
        raise ShapeError("stack expects a non-empty TensorList")
    _all_tensors(tensors)
    shape = tensors[0].shape
    for i, t in enumerate(tensors):
        if t.shape != shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(t.shape)} at "
                f"entry {i}"
            )
    axis = wrap_dim(dim, len(shape) + 1)
    common = result_type(tensors)
    return joined([graph.reshape(cast(t, common), shape[:axis] + (1,) + shape[axis:]) for t in tensors], axis)


# -- turning --------------------------------------------------------------------------------------


def flipped(input: Node, axes: Sequence[int]) -> Node:
    """Backwards along ``axes``."""
    ranges = [(n - 1, -1, -1) if i in axes and n > 1 else (0, n, 1) for i, n in enumerate(input.shape)]
    return graph.slice_(input, tuple(ranges))


@op("flip", lies="input", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(2, 3), (0,)), s.call(T(2, 3), (0, -1)), s.call(T(2, 3), ()), s.call(T(0, 3), (0,)),
    s.call(T(), ())))  # fmt: skip
def flip(input: Node, *dims: Any) -> Node:
    """Backwards along each of ``dims``.  (torch.flip)"""
    axes = [wrap_dim(d, len(input.shape)) for d in sizes_of(dims)]
    for a in axes:
        if axes.count(a) > 1:
            raise ShapeError(f"dim {a} appears multiple times in the list of dims")
    return flipped(input, axes)


def _pairs(shifts: Any, dims: Any, rank: int) -> list[tuple[int, int]]:
    turns = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
    if len(turns) != len(axes):
        raise ShapeError(f"shifts and dimensions must align. shifts: {len(turns)}, dims:{len(axes)}")
    return [(n, wrap_dim(d, rank)) for n, d in zip(turns, axes)]


def _rolled(input: Node, shifts: Any, dims: Any, way: int) -> Node:
    if not isinstance(shifts, int) and not len(shifts):
        raise ShapeError("`shifts` required")
    if not input.shape and dims not in (None, ()):
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    if dims in (None, ()) and (isinstance(shifts, int) or len(shifts) == 1):
        flat = graph.reshape(input, (input.size,))
        return graph.reshape(_rolled(flat, shifts, (0,), way), input.shape)
    for turn, axis in _pairs(shifts, dims, len(input.shape)):
        n = input.shape[axis] if input.shape else 1
        at = way * turn % n if n else 0
        if at:
            head, tail = cut(input.shape, axis, n - at, n), cut(input.shape, axis, 0, n - at)
            input = joined([apply_steps(input, head), apply_steps(input, tail)], axis)
    return input


def _roll_grad(g: Node, out: Node, input: Node, shifts: Any, dims: Any = None) -> list[Node | None]:
    return [_rolled(g, shifts, dims, -1)]


@op("roll", kinds="buifc", acc=False, grad=_roll_grad, saves="", samples=s.calls(
    s.call(T(2, 3), 1), s.call(T(5), 7, 0), s.call(T(4, 3), (1, -1), (0, 1)), s.call(T(4, 3), -1, -1),
    s.call(T(0, 3), 1, 0),
    s.call(T(), 1)))  # fmt: skip
def roll(input: Node, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Node:
    """Moved ``shifts`` places along ``dims``, the end coming in at the front; without ``dims`` the flat tensor
    is moved.  (torch.roll)"""
    return _rolled(input, shifts, dims, 1)


# -- repeating ------------------------------------------------------------------------------------


def _tiled(input: Node, counts: tuple[int, ...]) -> Node:
    shape = (1,) * (len(counts) - len(input.shape)) + input.shape
    wanted = tuple([c * n for c, n in zip(counts, shape)])
    if any(c < 0 for c in counts):
        raise ShapeError(f"Trying to create tensor with negative dimension {min(wanted)}: {list(wanted)}")
    apart = graph.reshape(input, tuple([k for n in shape for k in (1, n)]))
    wide = graph.expand(apart, tuple([k for c, n in zip(counts, shape) for k in (c, n)]))
    return graph.reshape(wide, wanted)


@op("repeat", kinds="buifc", acc=False, saves="", where=("Tensor",), samples=s.calls(
    s.call(T(2, 3), 2, 1), s.call(T(2, 3), (2, 1, 2)), s.call(T(), 3), s.call(T(3), 0), s.call(T(0, 3), 2, 2),
    s.call(T(), ())))  # fmt: skip
def repeat(input: Node, *repeats: Any) -> Node:
    """The tensor laid ``repeats`` times along each axis; more counts than axes add axes in front.
    (torch.Tensor.repeat)"""
    counts = sizes_of(repeats)
    if len(counts) < len(input.shape):
        raise ShapeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return _tiled(input, counts)


@op("tile", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(2, 3), (2,)), s.call(T(2, 3), (2, 1, 2)), s.call(T(), (3,)), s.call(T(3), (2, 2))))  # fmt: skip
def tile(input: Node, *dims: Any) -> Node:
    """The tensor laid ``dims`` times along its last axes; missing counts are 1.  (torch.tile)"""
    counts = sizes_of(dims)
    return _tiled(input, (1,) * (len(input.shape) - len(counts)) + counts)


@op("repeat_interleave", kinds="buifc", acc=False, saves=("repeats",), samples=s.calls(
    s.call(T(2, 3), 2), s.call(T(2, 3), 3, 0), s.call(T(2, 3), 2, dim=-1), s.call(T(), 2),
    s.call(T(3), 0)))  # fmt: skip
def repeat_interleave(
    input: Node, repeats: int | Node, dim: int | None = None, *, output_size: int | None = None
) -> Node:
    """Each element ``repeats`` times (one number, or one an element) in a row along ``dim``, or of the flat tensor.
    (torch.repeat_interleave)"""
    if dim is None:
        input, dim = graph.reshape(input, (input.size,)), 0
    axis = wrap_dim(dim, len(input.shape))
    if isinstance(repeats, Node):
        return _repeated_each(input, repeats, axis, output_size)
    if repeats < 0:
        raise ShapeError("Repeats must be non-negative")
    shape = input.shape or (1,)
    head, n, tail = shape[:axis], shape[axis], shape[axis + 1 :]
    wide = graph.expand(graph.reshape(input, (*head, n, 1, *tail)), (*head, n, repeats, *tail))
    return graph.reshape(wide, (*head, n * repeats, *tail))


def _repeated_each(input: Node, repeats: Node, axis: int, total: int | None) -> Node:
    n = input.shape[axis] if input.shape else 1
    if len(repeats.shape) > 1:
        raise ShapeError("repeat_interleave only accept 1D vector as repeat")
    if repeats.dtype not in (dtypes.int64, dtypes.int32):
        raise ShapeError("repeats has to be Long or Int tensor")
    if repeats.size not in (1, n):
        raise ShapeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {repeats.size} and "
            f"input.size({axis}) = {n}"
        )
    if total is None:
        raise ShapeError("a body cannot find the sum of the repeats: output_size says it")
    counts = graph.expand(graph.reshape(repeats, (repeats.size,)), (n,))
    return graph.gather(graph.reshape(input, input.shape or (1,)), runs(counts, total), axis)


def runs(repeats: Node, total: int) -> Node:
    """For each of ``total`` places, which element stands there when element k stands ``repeats[k]`` times."""
    ends = graph.scan(cast(repeats, dtypes.int64), "add", 0)
    ones = graph.full(1, ends.shape, dtypes.int64)
    marks = graph.scatter_add(graph.full(0, (total + 1,), dtypes.int64), ends, ones, 0)
    return graph.slice_(graph.scan(marks, "add", 0), ((0, total, 1),))


# -- padding and triangles ------------------------------------------------------------------------


def pad_any(input: Node, widths: Sequence[tuple[int, int, int]]) -> Node:
    """``graph.pad`` whose before and after may be negative, which cuts (after ``interior`` is put between)."""
    input = graph.pad(input, tuple([(max(b, 0), max(a, 0), i) for b, a, i in widths]))
    ranges = [(max(-b, 0), n - max(-a, 0), 1) for n, (b, a, _) in zip(input.shape, widths)]
    return graph.slice_(input, tuple(ranges))


def filled_pad(input: Node, widths: Sequence[tuple[int, int]], value: Any) -> Node:
    """``value`` before and after each axis; negative widths cut."""
    input = graph.slice_(input, tuple([(max(-b, 0), n - max(-a, 0), 1) for n, (b, a) in zip(input.shape, widths)]))
    grown = [(max(b, 0), max(a, 0)) for b, a in widths]
    if value is None or value == 0:
        return graph.pad(input, tuple([(b, a, 0) for b, a in grown]))
    shape = tuple([b + n + a for n, (b, a) in zip(input.shape, grown)])
    ranges = tuple([(b, b + n, 1) for n, (b, _) in zip(input.shape, grown)])
    return graph.update(graph.expand(filling(value, input), shape), ranges, input)


def _mirror(input: Node, axis: int, before: int, after: int, mode: str) -> Node:
    """Pad one axis with its own elements; what negative widths cut does not come round again."""
    n = input.shape[axis]
    if mode == "circular" and min(before, after) < 0:
        ranges = [(0, k, 1) for k in input.shape]
        ranges[axis] = (max(-before, 0), n - max(-after, 0), 1)
        input, before, after = graph.slice_(input, tuple(ranges)), max(before, 0), max(after, 0)
        n = input.shape[axis]
    if mode == "reflect" and max(before, after) >= n:
        raise ShapeError(
            f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
            f"({before}, {after}) at dimension {axis} of input {list(input.shape)}"
        )
    if mode == "circular" and max(before, after) > n:
        raise ShapeError("Padding value causes wrapping around more than once.")
    at = graph.iota((before + n + after,), 0) - before
    if mode == "reflect":
        at = (n - 1) - lang.absolute((n - 1) - lang.absolute(at))
    elif mode == "replicate":
        at = lang.minimum(lang.maximum(at, 0), n - 1)
    else:
        at = lang.where(lang.lt(at, 0), at + n, lang.where(lang.lt(at, n), at, at - n))
    return graph.gather(input, at, axis)


@op("pad", lies="images", kinds="buifc", acc=False, where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3), (1, 2)), s.call(T(2, 3), (0, 1, 2, 0), "constant", 1.5), s.call(T(2, 3), (-1, 1)),
    s.call(T(5), (2, -2), value=-1.0),
    s.call(T(0, 3), (1, 1)), s.call(T(2, 3), ()), s.call(T(1, 2, 5), (2, 1), "reflect"),
    s.call(T(1, 2, 5), (2, 1), "replicate"),
    s.call(T(1, 2, 5), (2, 1), "circular"), s.call(T(1, 2, 4, 5), (2, 1, 1, 1), "reflect")))  # fmt: skip
def pad(input: Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Node:
    """Elements before and after the last axes: ``pad`` is (before, after) of the last axis, then of the one before
    it, and so on.  Modes 'constant' (negative widths cut), 'reflect', 'replicate', 'circular'.
    (torch.nn.functional.pad)"""
    rank = len(input.shape)
    if len(pad) % 2:
        raise ShapeError("Padding length must be divisible by 2")
    if len(pad) > 2 * rank:
        raise ShapeError(
            "Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(pad)} and input of dimension {rank}"
        )
    widths = [(0, 0)] * rank
    for k in range(len(pad) // 2):
        widths[rank - 1 - k] = (int(pad[2 * k]), int(pad[2 * k + 1]))
    if mode == "constant":
        for n, (b, a) in zip(input.shape, widths):
            if n + min(b, 0) + min(a, 0) < 0 or n + b + a < 0:
                raise ShapeError("narrow(): length must be non-negative.")
        return filled_pad(input, widths, value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if len(pad) not in (2 * rank - 2, 2 * rank - 4) or not 2 <= len(pad) <= 6:
        raise NotImplementedError(
            f"Padding size {len(pad)} is not supported for {rank}D input tensor in mode {mode}: it pads the last 1 to 3 axes, "
            "all but one or two"
        )
    if input.dtype is dtypes.bool_ and mode != "circular":
        raise_dtype(OPS["pad"], input.dtype)
    for axis, (before, after) in enumerate(widths):
        least = 1 if mode != "circular" and len(pad) == 2 else 0
        if len(pad) and axis >= rank - len(pad) // 2 and input.shape[axis] + before + after < least:
            raise ShapeError(
                f"Negative padding value is resulting in an empty dimension: ({before}, {after}) of size {input.shape[axis]}"
            )
        if before or after:
            input = _mirror(input, axis, before, after, mode)
    return input


def _triangle(input: Node, diagonal: int, name: str) -> Node:
    rank = len(input.shape)
    if rank < 2:
        raise ShapeError(f"{name}: input tensor must have at least 2 dimensions")
    row, col = graph.iota(input.shape, rank - 2), graph.iota(input.shape, rank - 1)
    keep = lang.le(col, row + diagonal) if name == "tril" else lang.le(row + diagonal, col)
    return lang.where(keep, input, 0)


_TRIANGLE = s.calls(
    s.call(T(3, 4)), s.call(T(3, 4), 1), s.call(T(2, 3, 3), -1), s.call(T(0, 3)),
    s.value_only(T(2, 7, fill="special")),
)  # fmt: skip


@op("tril", out="exact", kinds="buifc", acc=False, saves="", inplace=True, samples=_TRIANGLE)
def tril(input: Node, diagonal: int = 0) -> Node:
    """The elements on and below a diagonal of the last two axes, 0 elsewhere.  (torch.tril)"""
    return _triangle(input, diagonal, "tril")


@op("triu", out="exact", kinds="buifc", acc=False, saves="", inplace=True, samples=_TRIANGLE)
def triu(input: Node, diagonal: int = 0) -> Node:
    """The elements on and above a diagonal of the last two axes, 0 elsewhere.  (torch.triu)"""
    return _triangle(input, diagonal, "triu")


# -- between channels and space --------------------------------------------------------------------

BOTH = ("", "nn.functional")


def _image(name: str, x: Node, factor: int, what: str) -> None:
    if len(x.shape) < 3:
        raise ShapeError(f"{name} expects input to have at least 3 dimensions, but got input with {len(x.shape)} dimension(s)")
    if factor <= 0:
        raise SpiralError(f"{name} expects a positive {what}, but got {factor}")


def _swapped(x: Node, apart: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Node:
    """The last axes of ``x`` split as ``apart``, put in ``order`` and joined to ``shape``."""
    lead = x.shape[: len(x.shape) - 3]
    places = (*range(len(lead)), *[len(lead) + k for k in order])
    return graph.reshape(graph.permute(graph.reshape(x, (*lead, *apart)), places), (*lead, *shape))


@op("pixel_shuffle", lies="images", kinds="buifc", acc=False, saves="", where=BOTH, samples=s.calls(
    s.call(T(1, 8, 2, 3), 2), s.call(T(9, 2, 2), 3), s.call(T(2, 3, 4, 1, 2), 1), s.call(T(0, 4, 2, 2), 2)))  # fmt: skip
def pixel_shuffle(input: Node, upscale_factor: int) -> Node:
    """[..., C r r, H, W] as [..., C, H r, W r]: channels become blocks of r x r pixels.  (torch.nn.functional.pixel_shuffle)"""
    r = int(upscale_factor)
    _image("pixel_shuffle", input, r, "upscale_factor")
    c, h, w = input.shape[-3:]
    if c % (r * r):
        raise ShapeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
            f"input.size(-3)={c} is not divisible by {r * r}"
        )
    c //= r * r
    return _swapped(input, (c, r, r, h, w), (0, 3, 1, 4, 2), (c, h * r, w * r))


@op("pixel_unshuffle", lies="images", kinds="buifc", acc=False, saves="", where=BOTH, samples=s.calls(
    s.call(T(1, 2, 4, 6), 2), s.call(T(1, 3, 3), 3), s.call(T(2, 3, 4, 1, 2), 1), s.call(T(0, 4, 2, 2), 2)))  # fmt: skip
def pixel_unshuffle(input: Node, downscale_factor: int) -> Node:
    """[..., C, H r, W r] as [..., C r r, H, W]: undoes :func:`pixel_shuffle`.  (torch.nn.functional.pixel_unshuffle)"""
    r = int(downscale_factor)
    _image("pixel_unshuffle", input, r, "downscale_factor")
    c, h, w = input.shape[-3:]
    for name, n in (("height", h), ("width", w)):
        if n % r:
            raise ShapeError(f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but {n} is not divisible by {r}")
    if not input.size:  # torch returns it as it is
        return input
    return _swapped(input, (c, h // r, r, w // r, r), (0, 2, 4, 1, 3), (c * r * r, h // r, w // r))


@op("channel_shuffle", lies="images", kinds="buifc", acc=False, saves="", where=BOTH, aliases=("native_channel_shuffle",), samples=s.calls(
    s.call(T(2, 6, 3), 2), s.call(T(1, 4, 2, 2), 4), s.call(T(2, 4, 1, 2, 2), 1), s.call(T(0, 4, 2), 2)))  # fmt: skip
def channel_shuffle(input: Node, groups: int) -> Node:
    """The channels (axis 1) of ``groups`` groups taken in turns.  (torch.nn.functional.channel_shuffle)"""
    if len(input.shape) <= 2:
        raise ShapeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0:
        raise SpiralError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    n, c, *rest = input.shape
    if c % groups:
        raise ShapeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    parts = graph.reshape(input, (n, groups, c // groups, *rest))
    return graph.reshape(graph.permute(parts, (0, 2, 1, *range(3, len(parts.shape)))), input.shape)
