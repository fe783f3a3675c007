"""The order in which results lie in memory, by torch's rules: those of pointwise operators as their operands do, others as
their record says (``Op.lies``).

In: operands of a call, some of which are views whose axes are permuted.  Out: the axes from the slowest to the fastest, or
None for row-major; and the operands seen in that order, in which the call is recorded as any other.  Its result is row-major
in its cell and is shown to the user as a view of it, so nothing below knows of orders:

    y = x.t() + 1     # recorded: z = x + 1;  y is z with its axes permuted, and y.stride() == x.t().stride()
    y = x.t().flip(0) # recorded: z = x.t().flip(0).t();  y is z.t()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .again import MOST, moved
from .ir import graph
from .ir.node import Shape
from .ops.registry import Op, _flat
from .storage import Step, Storage, queue
from .tensor import Tensor, tensor_over

Order = tuple[int, ...]
#: steps after which strides may be other than falling; the C module knows them too
TURNING = frozenset(("PERMUTE", "STRIDED", "DIAGONAL", "WINDOW"))
_orders: dict[Any, Order | None] = {}


def is_turned(x: Tensor) -> bool:
    """Whether the strides of ``x`` may be other than falling."""
    return any([kind in TURNING for kind, _ in x._steps])


def shared_order(tensors: Sequence[Tensor]) -> tuple[Step, ...] | None:
    """The one permutation of axes that all of ``tensors`` are seen through; None where there is none."""
    steps = tensors[0]._steps
    if len(steps) != 1 or steps[0][0] != "PERMUTE" or any([t._steps != steps for t in tensors[1:]]):
        return None
    return steps


def order_of(args: Sequence[Any], kwargs: dict[str, Any]) -> Order | None:
    """Axes of the result from the slowest to the fastest; None when they lie as they are numbered, or no operand is turned."""
    for a in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(a, Tensor) and a._steps and is_turned(a):
            break
    else:
        return None
    operands = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    key = tuple([(a._storage.node.shape, a._steps) for a in operands])
    if key not in _orders:
        if len(_orders) >= MOST:
            _orders.clear()
        _orders[key] = _order([(tuple(a.shape), a._layout()[0]) for a in operands])
    return _orders[key]


def _order(operands: Sequence[tuple[Shape, Sequence[int]]]) -> Order | None:
    rank = max([len(shape) for shape, _ in operands])
    shape = [1] * rank
    for own, _ in operands:
        for axis, n in enumerate(own, rank - len(own)):
            shape[axis] = n if shape[axis] == 1 else shape[axis]
    if 0 in shape:
        return None
    rows = []
    for own, strides in operands:
        first = rank - len(own)
        rows.append([0] * first + [0 if n == 1 != m else s for n, m, s in zip(own, shape[first:], strides)])
    order = by_strides(shape, rows)
    return None if order == tuple(range(rank)) else order


def by_strides(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> Order:
    """Axes from the slowest to the fastest, by falling strides; the first operand in which two axes differ decides.  Axes
    of stride 0 say nothing; of equal strides the longer axis is the slower."""
    axes = list(reversed(range(len(shape))))  # the fastest first
    for first in range(1, len(axes)):
        at = first
        for before in range(first - 1, -1, -1):
            found = _compared(axes[before], axes[at], shape, operands)
            if found < 0:
                break
            if found > 0:
                axes[before], axes[at], at = axes[at], axes[before], before
    return tuple(reversed(axes))


def _compared(a: int, b: int, shape: Sequence[int], operands: Sequence[Sequence[int]]) -> int:
    for strides in operands:
        if strides[a] and strides[b]:
            if strides[a] != strides[b]:
                return 1 if strides[a] > strides[b] else -1
            if shape[a] > shape[b]:
                return 1
    return 0


def inverse(order: Sequence[int]) -> Order:
    """The permutation that undoes ``order``."""
    return tuple([order.index(a) for a in range(len(order))])


def in_order(x: Tensor, order: Order) -> Tensor:
    """``x``, which may broadcast, with its axes in ``order``, off the tape."""
    shape = tuple(x.shape)
    if not shape:
        t = tensor_over(x._storage, x._steps)
    else:
        t = tensor_over(x._storage, _permuted(x._steps, (1,) * (len(order) - len(shape)) + shape, len(shape), order))
    t._detached = True
    return t


def _permuted(steps: tuple[Step, ...], shape: Shape, rank: int, order: Order) -> tuple[Step, ...]:
    moved = [a for a in order if shape[a] != 1]
    if moved == sorted(moved):  # only axes of size 1 change places
        return (*steps, ("RESHAPE", tuple([shape[a] for a in order])))
    if rank < len(shape):
        steps = (*steps, ("RESHAPE", shape))
    elif steps and steps[-1][0] == "PERMUTE":  # most often what an earlier call made of its result
        before = steps[-1][1]
        steps, order = steps[:-1], tuple([before[a] for a in order])
        if order == tuple(range(len(order))):
            return steps
    return (*steps, ("PERMUTE", order))


def laid(x: Tensor, order: Order) -> Tensor:
    """``x``, which nobody holds yet, as a view of its cell whose axes lie in ``order`` (and were turned in the cell)."""
    x._steps, x._cached_from = (("PERMUTE", inverse(order)),), None
    return x


# -- results that are not pointwise ------------------------------------------------------------------


def lay_out(op: Op, args: Sequence[Any], named: dict[str, Any], outs: Sequence[Tensor]) -> None:
    """Put the axes of results that nobody holds yet in the order that the record of ``op`` says."""
    if op.lies == "columns" or isinstance(op.lies, tuple):
        if named.get("left") is False:  # solved for the transposed
            return
        for k, t in enumerate(outs):
            if t.ndim > 1 and 0 not in t.shape and (op.lies == "columns" or op.results[k] in op.lies):
                turn(outs, k, (*range(t.ndim - 2), t.ndim - 1, t.ndim - 2))
        return
    operands = [a for a in _flat([*args, *named.values()]) if isinstance(a, Tensor)]
    if not any([t._steps and is_turned(t) for t in operands]):
        return
    listed = bool(args) and not isinstance(args[0], Tensor)
    for k, t in enumerate(outs):
        if op.lies == "input":
            order = by_strides(operands[0].shape, [operands[0].stride()])
        else:
            first, last, axes = _DECIDING[op.lies]
            order = _images(operands if listed else operands[first:last], t.ndim, axes, listed)
        if len(order) == t.ndim and order != tuple(range(t.ndim)) and 0 not in t.shape:
            turn(outs, k, order)


#: which operands decide about channels last, and how many axes they have at least
_DECIDING = {"images": (0, 2, 4), "sequences": (0, 1, 3), "filter": (1, 2, 3)}


def _images(operands: Sequence[Tensor], rank: int, least: int, together: bool) -> Order:
    """Channels last where one of the operands (``together``: all), images or a filter of at least ``least`` axes, lies so."""
    lying = [t.ndim >= least and is_channels_last(t.shape, t.stride()) for t in operands]
    if not (all(lying) if together else any(lying)):
        return ()
    batch = 1 - (max([t.ndim for t in operands]) - rank)  # none, where a filter has more axes than the result
    if not batch and rank == 4:  # one volume
        return ()
    return (*range(batch), *range(batch + 1, rank), batch)


def is_channels_last(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether torch takes images of this shape with these strides for ones with channels last."""
    if len(shape) < 3 or not strides[1]:
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1)):
        if not shape[axis] or strides[axis] < least:
            return False
        least = strides[axis] * shape[axis]
    return shape[0] > 0 and strides[0] >= least and least != strides[1]


def turn(outs: Sequence[Tensor], k: int, order: Order) -> None:
    """Let ``outs[k]``, a result that nobody holds yet, lie with its axes in ``order``."""
    t = outs[k]
    steps: tuple[Step, ...] = (("PERMUTE", order),)
    n = graph.permute(t._read(), order) if queue.trace is not None else moved(t._read(), steps)
    t._storage = Storage(n, t._storage.device)
    laid(t, order)
    fn = next((o._fn for o in outs if o._fn is not None), None)
    if fn is not None:
        kept, _, *rest = fn.outs[k]
        fn.outs[k] = (kept and t._storage, t._steps, *rest)
