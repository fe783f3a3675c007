"""Writes into a tensor: the cell's new value, and the step on the tape that made it.

In: a tensor (a view of a cell), a node for its elements, and the tensor that carries the node's history.
Out: the cell holds its old value with that region replaced, every alias sees it, and the tape knows.

    x[1:] = y      # cell of x: UPDATE(old, y); tape: CopySlices(old x, y)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .errors import SpiralError
from .ir.node import Node
from .ops.parts import as_strided_steps
from .ops.registry import OPS, _flat
from .ordering import inverse
from .storage import Apart, Step, computed_at_once, hide, queue, write_through
from .tape import GradFn, Hole, OpCall, ViewCall, WriteCall, mode
from .tensor import Tensor, from_node, tensor_over


def write(self: Tensor, value: Node, source: Tensor | None = None, over: bool = False) -> Tensor:
    """Replace this tensor's elements by ``value`` (same shape and type); ``source`` carries its history.  ``over``: and
    was not computed from them."""
    cell, steps = self._storage, _steps_to(self)
    tracked = source is not None and mode.enabled and (source._history() is not None or source._requires_grad)
    if mode.enabled:
        refuse_leaf_write(self)
    step = None
    if self._steps and mode.enabled and self._history() is not None:
        tracked = True
    if tracked and self._steps:
        base = _base(self)
        step = GradFn(WriteCall(steps), [base, source if source is not None else from_node(value, cell.device)], [base])
    elif (over or not tracked) and not self._steps and mode.enabled and self._history() is not None:
        tracked, step = True, GradFn(WriteCall(()), [self, from_node(value) if source is None else source], [self])
    if tracked and self._base is not None and "_one_of_many" in self.__dict__:
        raise _together(self)
    made = self._fn
    keeps = made is not None and made.retained and self.retains_grad
    cell.set(write_through(cell.node, steps, value))
    if type(self._detached) is Apart and queue.trace is None:
        self._detached.version += 1
        hide(cell)
    if tracked and self._detached:
        _write_apart(self, from_node(value, cell.device) if source is None else source)
    elif tracked:
        if step is not None:
            step.out_versions = [cell.version]
            cell.history = step, 0
        else:
            assert source is not None
            cell.history = _moved_here(self, source)
        cell.history_version = cell.version
    if keeps:  # the gradient of the new value is kept in place of the old one's
        del made.retained[self._index]
        self.retain_grad()
    if source is not None and source._storage.exposed:
        computed_at_once((source,), (self,))
    return self


def _write_apart(view: Tensor, source: Tensor) -> None:
    """The history of a write through a detached tensor: others over the memory learn nothing of it."""
    root = view if view._base is None or not view._base._detached else view._base
    steps = view._steps[len(root._steps) :]
    step = GradFn(WriteCall(steps), [root, source], [root])
    root._fn, root._index = step, 0
    if view is not root:
        view._fn, view._index = GradFn(ViewCall(steps), [root], [view]), 0


def _steps_to(view: Tensor) -> Sequence[Step]:
    """The movement steps from the cell to ``view``; without repetition where only a part of what repeats is seen."""
    if not any([kind == "EXPAND" for kind, _ in view._steps]) or any([kind in ("BITCAST", "CONJ", "NEG") for kind, _ in view._steps]):
        return view._steps
    strides, offset = view._layout()
    shape = tuple(view.shape)
    if any([n > 1 and s == 0 for n, s in zip(shape, strides)]):
        return view._steps
    return as_strided_steps(view._storage.node.size, shape, strides, offset)


def _base(view: Tensor) -> Tensor:
    """The whole cell under ``view`` as a tensor on the tape, as it was before the write."""
    cell = view._storage
    base = tensor_over(cell, ())
    if cell.history is not None:
        base._fn, base._index = cell.history
    elif view._fn is not None and (root := view if view._base is None else view._base)._steps:  # a result in another order
        undone = [(kind, inverse(order)) for kind, order in root._steps]
        base._fn = GradFn(ViewCall(undone), [root], [base])
    elif view._fn is not None and view._base is not None:
        base._fn, base._index, base._requires_grad = view._base._history(), view._base._index, view._base._requires_grad
    base._seen = cell.history_version
    return base


def _moved_here(target: Tensor, source: Tensor) -> tuple[Any, int]:
    """The step that made ``source``, whose value now lives in the target's cell."""
    cell = target._storage
    fn, number = source._history(), source._index
    if fn is None:  # a leaf
        fn, number = GradFn(OpCall(OPS["clone"], [Hole(0)], {}), [source], [target]), 0
    fn.outs = [(cell, (), *o[2:]) if o[0] is source._storage else o for o in fn.outs]
    fn.out_versions = [cell.version] * len(fn.outs)
    return fn, number


_SHARED = (
    "unsupported operation: {} the written-to tensor refer to a single memory location. Please clone() the tensor before "
    "performing the operation."
)


def refuse_overlap(target: Tensor, read: Sequence[Any], apart: bool = False) -> None:
    """Raise RuntimeError where a tensor in ``read`` has a part of the memory of ``target`` (``apart``: or just that memory)."""
    for t in _flat(read):
        if isinstance(t, Tensor) and t._storage is target._storage and (apart or (t is not target and (t._steps or target._steps))):
            same = t._layout() == target._layout() and t.shape == target.shape
            if apart if same else _overlap(t, target):
                raise SpiralError(_SHARED.format("some elements of the input tensor and"))


def refuse_own_overlap(target: Tensor) -> None:
    """Raise RuntimeError where several elements of ``target`` are one place in memory."""
    if target._steps and target.numel() and any([n > 1 and s == 0 for n, s in zip(target.shape, target.stride())]):
        raise SpiralError(_SHARED.format("more than one element of").replace("refer to", "refers to"))


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two dense stretches of memory have elements in common."""
    (_, i), (_, j) = a._layout(), b._layout()
    return a.dtype is b.dtype and is_dense(a) and is_dense(b) and i < j + b.numel() and j < i + a.numel()


def is_dense(x: Tensor) -> bool:
    held = sorted([(s, n) for n, s in zip(x.shape, x.stride()) if n != 1])
    return x.numel() > 0 and all([s == math.prod([n for _, n in held[:k]]) for k, (s, _) in enumerate(held)])


def _together(view: Tensor) -> SpiralError:
    return SpiralError(
        f"Output 0 of {view._one_of_many} is a view and is being modified inplace. This view is the output of a "
        "function that returns multiple views. Such functions do not allow the output views to be modified "
        "inplace. You should replace the inplace operation by an out-of-place one."
    )


def refuse_leaf_write(self: Tensor) -> None:
    """Raise RuntimeError where torch does not allow an in-place operation that is recorded."""
    if self._base is not None and "_one_of_many" in self.__dict__ and self.requires_grad:
        raise _together(self)
    if self._requires_grad and self._fn is None:
        raise SpiralError("a leaf Variable that requires grad is being used in an in-place operation.")
    base = self._base
    if base is not None and base._requires_grad and base._fn is None and not self._detached:
        raise SpiralError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


Tensor._write = write  # type: ignore[attr-defined]
