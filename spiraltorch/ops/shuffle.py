"""Elements that change between channels and space: pixel shuffles, channel shuffles.

In: a node [..., C, H, W] or [N, C, spatial...].  Out: one with the same elements.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["pixel_shuffle"].apply([graph.param(0, (1, 8, 3, 5), dtypes.float32), 2], {}).shape
    (1, 2, 6, 10)
"""

from __future__ import annotations

from ..errors import ShapeError, SpiralError
from ..ir import graph
from ..ir.node import Node
from . import samples as s
from .registry import op

T = s.T
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


@op("pixel_shuffle", kinds="buifc", acc=False, saves="", where=BOTH, samples=s.calls(
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


@op("pixel_unshuffle", kinds="buifc", acc=False, saves="", where=BOTH, samples=s.calls(
    s.call(T(1, 2, 4, 6), 2), s.call(T(1, 3, 3), 3), s.call(T(2, 3, 4, 1, 2), 1), s.call(T(0, 4, 2, 2), 2)))  # fmt: skip
def pixel_unshuffle(input: Node, downscale_factor: int) -> Node:
    """[..., C, H r, W r] as [..., C r r, H, W]: undoes :func:`pixel_shuffle`.  (torch.nn.functional.pixel_unshuffle)"""
    r = int(downscale_factor)
    _image("pixel_unshuffle", input, r, "downscale_factor")
    c, h, w = input.shape[-3:]
    for name, n in (("height", h), ("width", w)):
        if n % r:
            raise ShapeError(f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but {n} is not divisible by {r}")
    return _swapped(input, (c, h // r, r, w // r, r), (0, 2, 4, 1, 3), (c * r * r, h // r, w // r))


@op("channel_shuffle", kinds="buifc", acc=False, saves="", where=BOTH, aliases=("native_channel_shuffle",), samples=s.calls(
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


__all__ = ["channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]
