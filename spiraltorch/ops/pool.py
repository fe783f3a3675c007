"""Pooling: the largest element or the mean of each window, for 1 to 3 spatial axes, and the way back.

In: data [N, C, spatial...] or [C, spatial...] and the windows' form.  Out: one element a window; the ``max``
pools also give the flat position of what they chose.  Regular windows are views (WINDOW); those of adaptive and
fractional pools are one GATHER at positions that arithmetic gives.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (1, 3, 9), dtypes.float32)
    >>> [n.shape for n in OPS["max_pool1d"].apply([x, 3, 2], {"return_indices": True})]
    [(1, 3, 4), (1, 3, 4)]
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import number
from .gradients import vjp
from .pool_form import Parts, Pool, lowest, output_sizes, pool_form, pool_windows, spatial
from .registry import OPS, op, raise_dtype
from .windows import MOST_CELLS, Ints, cells, each

T = s.T


# -- the largest ----------------------------------------------------------------------------------


def _positions(spatial: Sequence[int], p: Pool) -> Node:
    """[out..., window...]: flat positions in the input; beyond it the largest number, which is never the first."""
    rank = len(p.size)
    shape = (*p.out, *p.size)
    total: Node | None = None
    inside: Node | None = None
    for k, n in enumerate(spatial):
        at = graph.iota(shape, k) * p.stride[k] + graph.iota(shape, rank + k) * p.dilation[k] - p.padding[k]
        total = at if total is None else total * n + at
        if p.padding[k] or p.after[k]:
            here = lang.le(0, at) & lang.lt(at, n)
            inside = here if inside is None else inside & here
    assert total is not None
    narrow = dtypes.int32 if math.prod(spatial) < _far(dtypes.int32) else dtypes.int64
    total = cast(total, narrow)
    return total if inside is None else lang.where(inside, total, const(_far(narrow), narrow))


def _far(dtype: dtypes.DType) -> int:
    """Beyond every position."""
    return (1 << (dtype.bits - 1)) - 1


def _widened(n: Node, wins: Node) -> Node:
    """One element a window, repeated over it."""
    return graph.expand(graph.reshape(n, n.shape + (1,) * (len(wins.shape) - len(n.shape))), wins.shape)


@dataclass(frozen=True)
class Windows:
    """How a max pool sees its input: ``of`` gives [..., out..., window...], ``positions`` broadcasts to that.

    Small ``regular`` windows are looked at cell by cell, which fuses as pointwise work with what surrounds them.
    ``repeated`` is where a window shows an element again, only to be as long as the others.
    """

    rank: int
    of: Callable[[Node], Node]
    positions: Node
    regular: bool = False
    repeated: Node | None = None

    def largest(self, input: Node, indices: bool) -> Any:
        wins = self.of(input)
        if self._by_cell(wins):
            best = functools.reduce(functools.partial(lang.row, "MAX"), cells(wins, self.rank))
        else:
            best = fold("max", wins, self._axes(wins))
        return (best, cast(self._chosen(wins, best), dtypes.int64)) if indices else best

    def back(self, input: Node, g: Any, out: Any) -> Node | None:
        """The gradient at the input: each window's goes to the element it chose."""
        wins = self.of(input)
        best, at = out if isinstance(out, (list, tuple)) else (out, None)
        up = g[0] if isinstance(g, (list, tuple)) else g
        at = self._chosen(wins, best) if at is None else cast(at, self.positions.dtype)
        positions = self.positions if self.repeated is None else lang.where(self.repeated, _far(at.dtype), self.positions)
        mine = lang.eq(graph.broadcast(positions, wins.shape), _widened(at, wins))
        hole = graph.param(("windows of", 0), input.shape, input.dtype)  # so that no constructor looks through input
        return vjp([self.of(hole)], [hole], [lang.where(mine, _widened(up, wins), 0)])[0]

    def _axes(self, wins: Node) -> tuple[int, ...]:
        return tuple(range(len(wins.shape) - self.rank, len(wins.shape)))

    def _by_cell(self, wins: Node) -> bool:
        return self.regular and math.prod(wins.shape[len(wins.shape) - self.rank :]) <= MOST_CELLS

    def _chosen(self, wins: Node, best: Node) -> Node:
        """The position of the last nan of each window, or of the first element that equals the largest."""
        if not self._by_cell(wins):
            found = fold("min", self._rank_of(wins, _widened(best, wins), self.positions), self._axes(wins))
        else:
            places = cells(graph.broadcast(self.positions, wins.shape), self.rank)
            ranks = [self._rank_of(x, best, at) for x, at in zip(cells(wins, self.rank), places)]
            found = functools.reduce(functools.partial(lang.row, "MIN"), ranks)
        return lang.where(lang.lt(found, 0), -1 - found, found) if wins.dtype.kind == "f" else found

    def _rank_of(self, x: Node, best: Node, at: Node) -> Node:
        """The least is chosen: nans, below 0, from the last on; then what is largest, from the first on; then all others."""
        found = lang.where(lang.eq(x, best), at, const(_far(at.dtype), at.dtype))
        return lang.where(lang.isnan(x), -1 - at, found) if x.dtype.kind == "f" else found


def _max_windows(rank: int, input: Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                 ceil_mode: bool) -> Windows:  # fmt: skip
    if input.dtype is dtypes.bool_:
        raise_dtype(OPS[f"max_pool{rank}d"], input.dtype)
    p = pool_form(f"max_pool{rank}d", rank, input, kernel_size, stride, padding, dilation, ceil_mode)

    def of(x: Node) -> Node:
        return pool_windows(x, p, lowest(x))

    return Windows(rank, of, _positions(input.shape[-rank:], p), True)


def _max_pool_grad(rank: int) -> Callable[..., list[Node | None]]:
    def grad(g: Any, out: Any, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> list[Node | None]:  # fmt: skip
        return [_max_windows(rank, input, kernel_size, stride, padding, dilation, ceil_mode).back(input, g, out)]

    return grad


@op("max_pool1d", acc=False, grad=_max_pool_grad(1), saves="io", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 3, 6, fill="distinct"), 2), s.call(T(3, 7, fill="distinct"), 3, 2, 1), s.call(T(2, 3, 9), 3, 2, 1, 2),
    s.call(T(1, 2, 7), 3, 2, 1, 1, True), s.call(T(1, 2, 7), 2, 2, 0, 1, True, True), s.call(T(0, 2, 4), 2),
    s.call(T(2, 14, fill="special"), 3, 1, 1, return_indices=True)))  # fmt: skip
def max_pool1d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """The largest element of each window of input [N, C, L] or [C, L]; padding never wins; the gradient goes to the
    first of equal ones, of nans to the last.  With ``return_indices`` also their position.  (torch.nn.functional.max_pool1d)"""
    if input.dtype.kind != "f" and not return_indices:
        raise_dtype(max_pool1d, input.dtype)
    found = _max_windows(1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return found.largest(input, return_indices)


@op("max_pool2d", lies="images", acc=False, grad=_max_pool_grad(2), saves="io", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 3, 6, 6, fill="distinct"), 2), s.call(T(2, 3, 7, 6, fill="distinct"), 3, 2, 1),
    s.call(T(3, 6, 6), (2, 3), (1, 2)), s.call(T(2, 6, 7, fill="special"), 3, 2, 1, return_indices=True),
    s.call(T(1, 2, 7, 7, fill="distinct"), 2, 2, 0, 2), s.call(T(1, 2, 7, 7), 3, 2, 1, 1, True),
    s.call(T(1, 2, 4, 4), 2, return_indices=True),
    s.call(T(2, 3, 7, 6, fill="distinct"), 3, 2, 1, return_indices=True), s.call(T(1, 1, 4, 4, fill="ones"), 2),
    s.call(T(0, 2, 4, 4), 2)))  # fmt: skip
def max_pool2d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """The largest element of each window of input [N, C, H, W] or [C, H, W], as :func:`max_pool1d`; positions are
    flat in H * W.  (torch.nn.functional.max_pool2d)"""
    found = _max_windows(2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return found.largest(input, return_indices)


@op("max_pool3d", lies="images", acc=False, grad=_max_pool_grad(3), saves="io", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 2, 4, 4, 6, fill="distinct"), 2), s.call(T(2, 5, 4, 7, fill="distinct"), (3, 2, 3), 2, (1, 1, 0)),
    s.call(T(1, 2, 5, 5, 5), 2, 2, 0, 2), s.call(T(1, 2, 5, 4, 5), 2, 2, 1, 1, True, True),
    s.call(T(0, 2, 4, 4, 4), 2)))  # fmt: skip
def max_pool3d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """The largest element of each window of input [N, C, D, H, W] or [C, D, H, W], as :func:`max_pool1d`.
    (torch.nn.functional.max_pool3d)"""
    found = _max_windows(3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return found.largest(input, return_indices)


# -- adaptive and fractional ----------------------------------------------------------------------


def _gathered(input: Node, positions: Node, rank: int) -> Node:
    """``input`` at flat spatial ``positions``, in the place of its last ``rank`` axes."""
    lead = input.shape[: len(input.shape) - rank]
    return graph.gather(graph.reshape(input, (*lead, math.prod(input.shape[len(lead) :]))), positions, len(lead))


def _adaptive_windows(name: str, rank: int, input: Node, output_size: Any) -> Windows:
    """Windows from floor(i * n / out) to ceil((i + 1) * n / out); shorter ones repeat their last element."""
    sizes = output_sizes(name, rank, input, output_size)
    spatial = input.shape[-rank:]
    if all(k and n % k == 0 for n, k in zip(spatial, sizes)):
        step = tuple([n // k for n, k in zip(spatial, sizes)])
        return _max_windows(rank, input, step, step, 0, 1, False)
    longest = tuple([-(-n // k) + 1 if k else 1 for n, k in zip(spatial, sizes)])
    shape = (*sizes, *longest)
    total: Node | None = None
    repeated: Node | None = None
    for k, n in enumerate(spatial):
        part = graph.iota(shape, k)
        start = lang.row("IDIV", part * n, max(1, sizes[k]))
        stop = lang.row("IDIV", part * n + (n + sizes[k] - 1), max(1, sizes[k]))
        at = start + graph.iota(shape, rank + k)
        beyond = lang.le(stop, at)
        repeated = beyond if repeated is None else repeated | beyond
        at = lang.minimum(at, stop - 1)
        total = at if total is None else total * n + at
    assert total is not None and repeated is not None
    places = total

    def of(x: Node) -> Node:
        return _gathered(x, places, rank)

    return Windows(rank, of, places, repeated=repeated)


def _adaptive_max_grad(rank: int) -> Callable[..., list[Node | None]]:
    def grad(g: Any, out: Any, input: Node, output_size: Any, return_indices: bool = False) -> list[Node | None]:
        return [_adaptive_windows(f"adaptive_max_pool{rank}d", rank, input, output_size).back(input, g, out)]

    return grad


def _adaptive_max(rank: int, input: Node, output_size: Any, return_indices: bool) -> Any:
    if input.dtype.kind != "f":
        raise_dtype(adaptive_max_pool2d, input.dtype)
    found = _adaptive_windows(f"adaptive_max_pool{rank}d", rank, input, output_size)
    return found.largest(input, return_indices)


def _adaptive_samples(*sizes: int, **kwargs: Any) -> Any:
    """An even split, an uneven one, one part, no batch, more parts than elements."""
    rank = len(sizes)
    return s.calls(
        s.call(T(2, 3, *sizes, fill="distinct"), tuple([n // 2 if n % 2 == 0 else n for n in sizes]), **kwargs),
        s.call(T(2, 3, *sizes, fill="distinct"), 3, **kwargs), s.call(T(3, *sizes), (1,) * rank, **kwargs),
        s.call(T(1, 2, *sizes), [n + 2 for n in sizes], **kwargs), s.call(T(0, 2, *sizes), 2, **kwargs),
    )  # fmt: skip


@op("adaptive_max_pool1d", lies="sequences", acc=False, grad=_adaptive_max_grad(1), saves="io", where=("nn.functional",),
    samples=s.more(_adaptive_samples(8), _adaptive_samples(7, return_indices=True)))  # fmt: skip
def adaptive_max_pool1d(input: Node, output_size: Parts, return_indices: bool = False) -> Any:
    """The largest elements of even parts of the last axis, as many as ``output_size`` says.
    (torch.nn.functional.adaptive_max_pool1d)"""
    return _adaptive_max(1, input, output_size, return_indices)


@op("adaptive_max_pool2d", lies="images", acc=False, grad=_adaptive_max_grad(2), saves="io", where=("nn.functional",),
    samples=s.more(_adaptive_samples(4, 6), _adaptive_samples(5, 7, return_indices=True)))  # fmt: skip
def adaptive_max_pool2d(input: Node, output_size: Parts, return_indices: bool = False) -> Any:
    """The largest elements of even parts of H and W, as many as ``output_size`` says (None: as many as there are).
    (torch.nn.functional.adaptive_max_pool2d)"""
    return _adaptive_max(2, input, output_size, return_indices)


@op("adaptive_max_pool3d", acc=False, grad=_adaptive_max_grad(3), saves="io", where=("nn.functional",),
    samples=s.more(_adaptive_samples(4, 2, 4), _adaptive_samples(3, 5, 4, return_indices=True)))  # fmt: skip
def adaptive_max_pool3d(input: Node, output_size: Parts, return_indices: bool = False) -> Any:
    """The largest elements of even parts of D, H and W, as many as ``output_size`` says (None: as many as there are).
    (torch.nn.functional.adaptive_max_pool3d)"""
    return _adaptive_max(3, input, output_size, return_indices)


def _fractional_windows(rank: int, input: Node, samples: Node, kernel_size: Any, output_size: Any) -> Windows:
    """Windows whose starts are drawn: ``floor((i + u) * a) - floor(u * a)`` with ``a`` the mean step (Graham, 2014)."""
    name = f"fractional_max_pool{rank}d"
    spatial(name, rank, input)
    size, sizes = each(kernel_size, rank, "kernel_size"), each(output_size, rank, "output_size")
    if samples.dtype is not input.dtype:
        raise SpiralError("Expect _random_samples to have the same dtype as input")
    lead = input.shape[: len(input.shape) - rank]
    batch = lead if len(lead) == 2 else (1, *lead)
    if samples.shape != (*batch, rank):
        raise ShapeError(f"Expect _random_samples of shape {[*batch, rank]}, but got {list(samples.shape)}")
    drawn = graph.reshape(cast(samples, samples.dtype.acc), (*lead, rank))
    shape = (*lead, *sizes, *size)
    total: Node | None = None
    for k, (n, window, count) in enumerate(zip(input.shape[-rank:], size, sizes)):
        if count + window - 1 > n:
            raise ShapeError(f"{name}(): pool size ({window}) too large relative to input size ({n})")
        word = k if rank == 3 else rank - 1 - k  # torch's order
        u = graph.slice_(drawn, (*[(0, m, 1) for m in lead], (word, word + 1, 1)))
        step = number((n - window) / (count - 1) if count > 1 else 0.0, u)
        i = graph.iota((*lead, count), len(lead))
        start = cast((cast(i, u.dtype) + u) * step, dtypes.int64) - cast(u * step, dtypes.int64)
        start = lang.where(lang.eq(i, count - 1), n - window, start)
        place = [*lead, *[1] * (2 * rank)]
        place[len(lead) + k] = count
        at = graph.reshape(start, tuple(place)) + graph.iota(shape, len(lead) + rank + k)
        total = at if total is None else total * n + at
    assert total is not None
    positions = total

    def of(x: Node) -> Node:
        flat = graph.reshape(x, (*lead, math.prod(x.shape[len(lead) :])))
        index = graph.reshape(positions, (*lead, math.prod(shape[len(lead) :])))
        return graph.reshape(graph.gather_along(flat, index, len(lead)), shape)

    return Windows(rank, of, positions)


def _fractional_grad(rank: int) -> Callable[..., list[Node | None]]:
    def grad(g: Any, out: Any, input: Node, samples: Node, kernel_size: Any, output_size: Any,
             return_indices: bool = False) -> list[Node | None]:  # fmt: skip
        return [_fractional_windows(rank, input, samples, kernel_size, output_size).back(input, g, out), None]

    return grad


def _fractional(rank: int, input: Node, samples: Node, kernel_size: Any, output_size: Any, return_indices: bool) -> Any:
    if input.dtype.kind != "f":
        raise_dtype(fractional_max_pool2d, input.dtype)
    return _fractional_windows(rank, input, samples, kernel_size, output_size).largest(input, return_indices)


@op("fractional_max_pool2d", acc=False, grad=_fractional_grad(2), saves="io", where=(), samples=s.calls(
    s.call(T(2, 3, 7, 8, fill="distinct"), T(2, 3, 2, fill="open"), 2, (3, 4)),
    s.call(T(3, 7, 8, fill="distinct"), T(1, 3, 2, fill="open"), (2, 3), 5, True),
    s.call(T(1, 2, 5, 5), T(1, 2, 2, fill="open"), 2, 1)))  # fmt: skip
def fractional_max_pool2d(input: Node, samples: Node, kernel_size: Ints, output_size: Ints,
                          return_indices: bool = False) -> Any:  # fmt: skip
    """The largest elements of ``output_size`` windows, which begin where ``samples`` [N, C, 2], uniform in [0, 1),
    say.  (torch.nn.functional.fractional_max_pool2d)"""
    return _fractional(2, input, samples, kernel_size, output_size, return_indices)


@op("fractional_max_pool3d", acc=False, grad=_fractional_grad(3), saves="io", where=(), samples=s.calls(
    s.call(T(2, 2, 5, 6, 7, fill="distinct"), T(2, 2, 3, fill="open"), 2, (3, 4, 2)),
    s.call(T(2, 5, 6, 7, fill="distinct"), T(1, 2, 3, fill="open"), (2, 3, 2), 3, True)))  # fmt: skip
def fractional_max_pool3d(input: Node, samples: Node, kernel_size: Ints, output_size: Ints,
                          return_indices: bool = False) -> Any:  # fmt: skip
    """As :func:`fractional_max_pool2d` over three axes, ``samples`` [N, C, 3].
    (torch.nn.functional.fractional_max_pool3d)"""
    return _fractional(3, input, samples, kernel_size, output_size, return_indices)
