"""Discrete Fourier transforms (torch.fft).

In: real or complex nodes.  Out: nodes; float32 gives complex64.  Three CALLs do it all (complex to complex, real to
half a spectrum, half a spectrum to real: :mod:`spiraltorch.kernels.library.fft`), after padding or cutting to ``n``.
Transforms are linear, so that the derivative of each is the transposed transform.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["fft_rfft"].apply([graph.param(0, (8,), dtypes.float32)], {}).shape
    (5,)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..dtypes import FLOAT, DType
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .gradients import routine_gradient
from .rearrange import joined
from .registry import op, wrap_dim
from .view import apply_steps

T = s.T
Axes = tuple[int, ...]
NORMS = ("backward", "forward", "ortho")
_TRANSPOSED = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


# -- the three transforms -------------------------------------------------------------------------------


def c2c(x: Node, axes: Axes, norm: str, forward: bool) -> Node:
    return graph.call("fft.c2c", (x,), x.shape, x.dtype, axes, norm, forward) if axes else x


def r2c(x: Node, axes: Axes, norm: str) -> Node:
    shape = list(x.shape)
    shape[axes[-1]] = shape[axes[-1]] // 2 + 1
    return graph.call("fft.r2c", (x,), tuple(shape), x.dtype.to_complex(), axes, norm)


def c2r(x: Node, axes: Axes, norm: str, last: int) -> Node:
    shape = list(x.shape)
    shape[axes[-1]] = last
    return graph.call("fft.c2r", (x,), tuple(shape), x.dtype.to_real(), axes, norm, last)


@routine_gradient("fft.c2c")
def _c2c(n: Node, g: Node, out: Node) -> list[Node | None]:
    axes, norm, forward = n.arg[1]
    return [c2c(g, axes, _TRANSPOSED[norm], not forward)]


@routine_gradient("fft.r2c")
def _r2c(n: Node, g: Node, out: Node) -> list[Node | None]:
    """The half that is not given counts nothing: zeros, and the real part."""
    axes, norm = n.arg[1]
    wide = sized(g, axes[-1:], n.src[0].shape[axes[-1] : axes[-1] + 1])
    return [lang.real(c2c(wide, axes, _TRANSPOSED[norm], False))]


@routine_gradient("fft.c2r")
def _c2r(n: Node, g: Node, out: Node) -> list[Node | None]:
    """What has a mirror image beyond the middle counts twice."""
    axes, norm, last = n.arg[1]
    half = r2c(g, axes, _TRANSPOSED[norm])
    at = graph.iota(half.shape, axes[-1])
    twice = lang.lt(0, at) & lang.lt(at, last - half.shape[axes[-1]] + 1)
    return [half * lang.where(twice, lang.lift(2.0, half), lang.lift(1.0, half))]


# -- arguments ------------------------------------------------------------------------------------------


def sized(x: Node, axes: Sequence[int], lengths: Sequence[int]) -> Node:
    """``x`` cut or filled up with zeros to ``lengths`` along ``axes``."""
    ranges = [(0, n, 1) for n in x.shape]
    widths = [(0, 0, 0)] * len(x.shape)
    for a, n in zip(axes, lengths):
        ranges[a] = (0, min(n, x.shape[a]), 1)
        widths[a] = (0, max(0, n - x.shape[a]), 0)
    return graph.pad(graph.slice_(x, tuple(ranges)), tuple(widths))


def _norm(norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in NORMS:
        raise SpiralError(f'Invalid normalization mode: "{norm}"')
    return norm


def _ready(name: str, x: Node, want: str) -> Node:
    """``x`` in the type that the transform takes: integers become the default float."""
    if want == "r" and x.dtype.kind == "c":
        raise SpiralError(f"{name} expects a real input tensor, but got {x.dtype.name}")
    if x.dtype.category < FLOAT:
        x = cast(x, dtypes.get_default_dtype())
    if x.dtype.itemsize == 2:
        raise SpiralError(f"Unsupported dtype {x.dtype.name} in {name}: convert first, e.g. x.float()")
    return cast(x, x.dtype.to_complex()) if want == "c" else x


def _many_axes(x: Node, size: Sequence[int] | None, dim: Any) -> tuple[Axes, tuple[int | None, ...]]:
    rank = len(x.shape)
    if isinstance(size, int):
        size = (size,)
    if isinstance(dim, int):
        dim = (dim,)
    if dim is None:
        if size is not None and len(size) > rank:
            raise ShapeError(f"Got shape with {len(size)} values but input tensor only has {rank} dimensions.")
        axes = tuple(range(rank)) if size is None else tuple(range(rank - len(size), rank))
    else:
        axes = tuple([wrap_dim(d, rank) for d in dim])
    if len(set(axes)) != len(axes):
        raise SpiralError("FFT dims must be unique")
    if size is not None and len(size) != len(axes):
        raise ShapeError("When given, dim and shape arguments must have the same length")
    lengths = tuple([None if k == -1 else k for k in size]) if size is not None else (None,) * len(axes)
    return axes, lengths


def _full(x: Node, axes: Axes, lengths: Sequence[int | None]) -> tuple[int, ...]:
    found = tuple([x.shape[a] if n is None else n for a, n in zip(axes, lengths)])
    for n in found:
        if n < 1:
            raise SpiralError(f"Invalid number of data points ({n}) specified")
    return found


# -- bodies -----------------------------------------------------------------------------------------------


def _complex(name: str, x: Node, axes: Axes, lengths: Sequence[int | None], norm: str | None, forward: bool) -> Node:
    x = _ready(name, x, "c")
    return c2c(sized(x, axes, _full(x, axes, lengths)), axes, _norm(norm), forward)


def _halved(name: str, x: Node, axes: Axes, lengths: Sequence[int | None], norm: str | None, inverse: bool = False) -> Node:
    """rfft, and ihfft as its conjugate with the other norm."""
    x = _ready(name, x, "r")
    if not axes:
        raise SpiralError(f"{name} must transform at least one axis")
    how = _TRANSPOSED[_norm(norm)] if inverse else _norm(norm)
    out = r2c(sized(x, axes, _full(x, axes, lengths)), axes, how)
    return lang.conj(out) if inverse else out


def _doubled(name: str, x: Node, axes: Axes, lengths: Sequence[int | None], norm: str | None, inverse: bool = True) -> Node:
    """irfft, and hfft as it of the conjugate with the other norm."""
    x = _ready(name, x, "c")
    if not axes:
        raise SpiralError(f"{name} must transform at least one axis")
    last = 2 * (x.shape[axes[-1]] - 1) if lengths[-1] is None else lengths[-1]
    if last < 1:
        raise SpiralError(f"Invalid number of data points ({last}) specified")
    given = (*_full(x, axes[:-1], lengths[:-1]), last // 2 + 1)
    how = _norm(norm) if inverse else _TRANSPOSED[_norm(norm)]
    x = sized(x, axes, given)
    return c2r(x if inverse else lang.conj(x), axes, how, last)


_KINDS: dict[str, tuple[Callable[..., Node], bool, str]] = {
    "fft": (_complex, True, "The discrete Fourier transform"),
    "ifft": (_complex, False, "The inverse of fft"),
    "rfft": (_halved, False, "The first half of the transform of real numbers, n // 2 + 1 along the last axis"),
    "irfft": (_doubled, True, "The inverse of rfft; the result has n (or twice the size, less 2) real numbers"),
    "hfft": (_doubled, False, "The real transform of half a signal that is its own mirrored conjugate"),
    "ihfft": (_halved, True, "The inverse of hfft"),
}

_ONE = s.calls(s.call(T(6)), s.call(T(2, 5)), s.call(T(4, 3), None, 0), s.call(T(2, 5), 7), s.call(T(2, 6), 4, norm="ortho"),
               s.call(T(5), norm="forward"))  # fmt: skip
_TWO = s.calls(s.call(T(3, 4)), s.call(T(2, 3, 4), (4, 3)), s.call(T(3, 4), norm="ortho"))
_MANY = s.calls(s.call(T(3, 4)), s.call(T(2, 3, 4), dim=(0, 2)), s.call(T(2, 3, 4), (4, 5)), s.call(T(3, 4), norm="forward"))


def _register(name: str) -> None:
    spell, flag, meaning = _KINDS[name]

    def one(input: Node, n: int | None = None, dim: int = -1, norm: str | None = None) -> Node:
        axis = wrap_dim(dim, len(input.shape))
        if not input.shape:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        return spell(name, input, (axis,), (n,), norm, flag)

    def two(input: Node, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Node:
        return spell(name + "2", input, *_many_axes(input, s, dim), norm, flag)

    def many(input: Node, s: Any = None, dim: Any = None, norm: str | None = None) -> Node:
        return spell(name + "n", input, *_many_axes(input, s, dim), norm, flag)

    forms = ("", one, _ONE, "along ``dim``"), ("2", two, _TWO, "along two axes"), ("n", many, _MANY, "along several axes")
    for suffix, body, samples, where in forms:
        full = name + suffix
        body.__name__ = full
        body.__doc__ = f"{meaning}, {where}, cut or padded to the sizes given.  (torch.fft.{full})"
        op(f"fft_{full}", kinds="buifc", acc=False, saves="", where=(), aliases=(f"fft.{full}",), torch_name=f"fft.{full}",
           samples=samples)(body)  # fmt: skip


for _name in _KINDS:
    _register(_name)


# -- shifts -------------------------------------------------------------------------------------------------


def _rolled(x: Node, dim: Any, sign: int) -> Node:
    axes = range(len(x.shape)) if dim is None else [wrap_dim(d, len(x.shape)) for d in ([dim] if isinstance(dim, int) else dim)]
    for a in axes:
        n = x.shape[a]
        by = (n // 2 if sign > 0 else (n + 1) // 2) % n if n else 0
        if by:
            everything = [(0, k, 1) for k in x.shape]
            tail, head = list(everything), list(everything)
            tail[a], head[a] = (n - by, n, 1), (0, n - by, 1)
            x = joined([apply_steps(x, [("SLICE", tuple(tail))]), apply_steps(x, [("SLICE", tuple(head))])], a)
    return x


_SHIFTS = s.calls(s.call(T(5)), s.call(T(3, 4)), s.call(T(3, 4), 1), s.call(T(3, 4), (0, 1)))


@op("fft_fftshift", kinds="buifc", acc=False, saves="", where=(), aliases=("fft.fftshift",), torch_name="fft.fftshift", samples=_SHIFTS)
def fftshift(input: Node, dim: Any = None) -> Node:
    """Frequency 0 moved to the middle.  (torch.fft.fftshift)"""
    return _rolled(input, dim, 1)


@op("fft_ifftshift", kinds="buifc", acc=False, saves="", where=(), aliases=("fft.ifftshift",), torch_name="fft.ifftshift", samples=_SHIFTS)
def ifftshift(input: Node, dim: Any = None) -> Node:
    """Frequency 0 moved from the middle to the front.  (torch.fft.ifftshift)"""
    return _rolled(input, dim, -1)


def frequencies(n: int, d: float, half: bool, dtype: DType) -> Node:
    """k / (n d) for the frequencies of a transform of ``n`` numbers."""
    count = n // 2 + 1 if half else n
    k = graph.iota((count,), 0)
    if not half:
        k = lang.where(lang.lt(k, (n + 1) // 2), k, k - n)
    wide = cast(k, dtypes.float64) * (1.0 / (n * d) if n * d else float("inf"))
    return cast(wide, dtype)


__all__ = ["c2c", "c2r", "frequencies", "r2c", "sized"]
