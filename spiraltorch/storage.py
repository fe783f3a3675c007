"""A Storage is one cell of memory that tensors alias: a graph node now, a buffer once computed.

A write replaces the cell's node and bumps its version, so every alias sees it; nothing already
recorded changes, because nodes are values.  ``steps`` lists the movement operations from the cell
to a view of it; :func:`~spiraltorch.ops.view.write_through` is their inverse.

Cells whose node is not a BUFFER are *pending*; the queue holds them weakly until somebody looks.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from . import fast
from .config import config
from .device import CPU, device
from .errors import OutOfMemoryError, SpiralError
from .ir import graph
from .ir.node import Node, Shape, toposort
from .ops.view import Step, apply_steps, step_shape, write_through
from .runtime import cache  # noqa: F401  (registers its lock at forks before ours)
from .runtime.buffers import physical_memory

MEMORY = physical_memory()
PATIENCE = 16  # a loop's turn may record this many times ``config.queue_nodes`` operations
__all__ = [
    "Apart", "Queue", "Step", "Storage", "apply_steps", "hide", "layout", "queue", "realize", "reshape_strides", "seen_writes",
    "step_shape", "write_through",
]  # fmt: skip


class Storage:
    """node: the current value.  buffer: memory that held the last computed value and may be reused for
    the next, unless ``shared`` with the outside.  history: (grad function, output number) of the last
    differentiable write, valid from version ``history_version`` on.  error: why it has no value.
    exposed: somebody outside may look at the buffer or write to it at any time, so that operations that
    read the cell are computed at once."""

    __slots__ = ("node", "version", "buffer", "device", "history", "history_version", "error", "exposed", "__weakref__")

    def __init__(self, node: Node, where: device = CPU) -> None:
        if node.op == "BUFFER" and node.arg.cell is not None and node.arg.cell() is not None:
            node = graph.copy(node)  # a buffer belongs to one cell
        self.node = node
        self.version = 0
        self.buffer: Any = node.arg if node.op == "BUFFER" else None
        self.device = where
        self.history: Any = None
        self.history_version = 0
        self.error: Exception | None = None
        self.exposed = False
        if node.op != "BUFFER":
            queue.add(self)
        else:
            self.exposed = node.arg.shared
            node.arg.cell = weakref.ref(self)
            if queue.trace is not None:
                queue.trace.literals.add(self)

    @property
    def pending(self) -> bool:
        return self.node.op != "BUFFER"

    @property
    def shared(self) -> bool:
        return self.buffer is not None and self.buffer.shared

    def set(self, node: Node) -> None:
        """Write: the new value of the cell."""
        trace = queue.trace
        if trace is not None:
            trace.write(self)
        self.node = graph.copy(node) if node.op == "BUFFER" else node  # a buffer belongs to one cell
        self.version += 1
        self.error = None
        queue.add(self)
        if self.shared and trace is None:
            realize([self])  # the outside looks at this memory at any time

    def settle(self, buffer: Any) -> None:
        """The value is now in ``buffer``."""
        old = self.node
        self.buffer = buffer
        buffer.cell = weakref.ref(self)
        self.node = n = Node()
        n.op, n.src, n.arg, n.shape, n.dtype = "BUFFER", (), buffer, old.shape, old.dtype
        n.origin = n._digest = None


class Apart:
    """In place of True in a tensor's ``_detached``: made by ``.data``, so that its writes have a count of their own."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class _Unseen:
    """Writes of a cell that backward does not count: how many, and the versions they led to, the last REMEMBERED runs."""

    __slots__ = ("runs", "total")
    REMEMBERED = 256  # a loop may write both ways for ever

    def __init__(self) -> None:
        self.total = 0
        self.runs: deque[list[int]] = deque(maxlen=self.REMEMBERED)


_unseen: weakref.WeakKeyDictionary[Storage, _Unseen] = weakref.WeakKeyDictionary()


def hide(cell: Storage) -> None:
    """The last write of ``cell`` went through ``.data``: backward does not count it."""
    found = _unseen.setdefault(cell, _Unseen())
    found.total += 1
    if found.runs and found.runs[-1][1] == cell.version - 1:
        found.runs[-1][1] = cell.version
    else:
        found.runs.append([cell.version, cell.version])


def seen_writes(cell: Storage, since: int = 0) -> int:
    """How many writes after version ``since`` backward counts."""
    found = _unseen.get(cell)
    if found is None:
        return cell.version - since
    if not since:
        return cell.version - found.total
    hidden = 0
    for first, last in reversed(found.runs):
        if last <= since:
            break
        hidden += last - max(first, since + 1) + 1
    return cell.version - since - hidden


def computed_at_once(sources: Sequence[Any], results: Sequence[Any]) -> None:
    """Realize tensors made from tensors whose memory the outside can change under a pending operation."""
    if queue.trace is not None:
        return
    live = False
    for t in sources:
        cell = t._storage
        if cell.exposed:
            cell.exposed = cell.shared
            live = live or cell.exposed
    if live:
        realize([t._storage for t in results])


def check_room(n: Node) -> None:
    """Refuse what the machine cannot hold, at the user's line."""
    if n.nbytes > MEMORY:
        raise OutOfMemoryError(
            f"can't allocate memory: a tensor of shape {list(n.shape)} and type {n.dtype.name} needs {n.nbytes} bytes, "
            f"the machine has {MEMORY}"
        )


class Cells(list[Any]):
    """A thread's pending cells, and the state of its queue."""

    __slots__ = ("state", "__weakref__")
    state: dict[str, Any]


_everywhere: list[weakref.ref[Cells]] = []


class Queue(threading.local):
    """Pending cells, weakly, in the order they were made; and the trace in progress, if any.

    Each thread has its own, so threads do not compute each other's work.
    """

    def __init__(self) -> None:
        self.cells = Cells()
        self.cells.state = self.__dict__
        _everywhere[:] = [r for r in _everywhere if r() is not None] + [weakref.ref(self.cells)]
        self.bytes = 0
        self.trace: Any = None
        self.limit = config.queue_nodes  # cells; below it nothing is done about the length
        self.turn: Any = None  # the operation after which the queue was computed last for being long

    def add(self, cell: Storage) -> None:
        cells = self.cells
        cells.append(weakref.ref(cell))
        self.bytes += cell.node.nbytes
        if (len(cells) > self.limit or self.bytes > config.queue_bytes) and self.trace is None:
            self.overflow()

    def overflow(self) -> None:
        """Many operations were recorded: forget what nobody holds any more.  If much is left, compute it when the
        loop that records it comes round: a graph that ends where the last one ended is a whole number of turns, so
        its program is found again.
        """
        cell = self.cells[-1]()
        assert cell is not None
        n = cell.node
        try:
            check_room(n)
        except OutOfMemoryError:
            self.cells.pop()
            self.bytes -= n.nbytes
            raise
        if self.limit and self._forget():
            return
        self.limit = 0  # from now on every operation asks whether the turn is complete
        here = n.op, n.shape, n.dtype, n.origin
        if here == self.turn or self.bytes > config.queue_bytes or len(self.cells) > PATIENCE * config.queue_nodes:
            self.turn = here
            self.flush()
        elif self.turn is None:
            self.turn = here

    def _forget(self) -> bool:
        """Keep the cells that are alive; whether they are few and small."""
        live = self.pending()
        self.cells[:] = [weakref.ref(cell) for cell in live]
        self.bytes = sum([cell.node.nbytes for cell in live])
        self.limit = config.queue_nodes + len(live)
        return self.bytes <= config.queue_bytes // 2 and len(toposort([cell.node for cell in live])) <= config.queue_nodes // 2

    def pending(self) -> list[Storage]:
        """All cells that are alive and pending, in order."""
        return _alive(self.cells)

    def take(self) -> list[Storage]:
        """The pending cells; the queue is empty afterwards."""
        state = self.__dict__  # one look-up instead of four
        found = _alive(state["cells"])
        state["cells"].clear()
        state["bytes"], state["limit"] = 0, config.queue_nodes
        return found

    def flush(self) -> None:
        """Compute everything that is pending in this thread."""
        cells = self.take()
        if cells:
            _compute(cells)

    def flush_all(self) -> None:
        """Compute what is pending in any thread, but for what a trace of another thread is recording."""
        self.flush()
        found: dict[Storage, None] = {}
        for r in list(_everywhere):
            cells = r()
            if cells is not None and cells.state["trace"] is None:
                found.update(dict.fromkeys([c for c in [ref() for ref in list(cells)] if c is not None]))
        waiting = [c for c in found if c.pending and c.error is None]
        if waiting:
            _compute(waiting)


def _pending(refs: list[weakref.ref[Storage]]) -> list[Storage]:
    found: dict[Storage, None] = {}
    for r in refs:
        cell = r()
        if cell is not None and cell.node.op != "BUFFER" and cell.error is None:
            found[cell] = None
    return list(found)


_alive = fast.pending or _pending
queue = Queue()
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child never starts with values half computed
    # Whoever holds this lock may take those of the cache and the memory pool: at a fork it is taken first, hence
    # registered last.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


_pipeline: Any = None  # jit.eager, loaded when something is first computed


def _compute(cells: Sequence[Storage]) -> None:
    global _pipeline
    if _pipeline is None:
        from .jit import eager

        _pipeline = eager
    with _lock:
        _pipeline.compute(cells)


def realize(cells: Sequence[Storage]) -> None:
    """Give ``cells`` their values (and everything else pending, so that shared work is done once).

    Raises when one of them cannot be computed, again at every attempt.
    """
    todo = [c for c in cells if c.node.op != "BUFFER"]
    if todo:
        if queue.trace is not None:
            queue.trace.interrupted()
        rest = queue.take()
        if len(todo) > 1 or not rest or todo[0] is not rest[-1]:  # else it is the one that was made last
            rest = list(dict.fromkeys(todo + rest))
        _compute(rest)
    for c in cells:
        if c.error is not None:
            raise c.error.with_traceback(None)


# -- strides, for what users see; the graph itself does not use them ---------------------------------


def contiguous_strides(shape: Shape) -> tuple[int, ...]:
    out, n = [], 1
    for s in reversed(shape):
        out.append(n)
        n *= max(s, 1)
    return tuple(reversed(out))


def reshape_strides(shape: Shape, strides: Sequence[int], new: Shape) -> tuple[int, ...] | None:
    """Strides of ``new`` over the same memory, or None when a copy is needed (torch's view rule)."""
    if math.prod(shape) == 0:
        return tuple(strides) if shape == new else contiguous_strides(new)
    out = [0] * len(new)
    at = len(new) - 1
    run = base = 1  # the elements of the current run of mergeable axes, and its innermost stride
    for i in range(len(shape) - 1, -1, -1):
        if run == 1:
            base = strides[i]
        run *= shape[i]
        if i == 0 or (shape[i - 1] != 1 and strides[i - 1] != run * base):
            have = 1
            while at >= 0 and (have < run or new[at] == 1):
                out[at] = have * base
                have *= new[at]
                at -= 1
            if have != run:
                return None
            run = 1
        elif run == 1:
            continue
    while at >= 0:
        if new[at] != 1:
            return None
        out[at] = out[at + 1] if at + 1 < len(new) else 1
        at -= 1
    return tuple(out)


def is_marked(steps: Sequence[Step], mark: str) -> bool:
    """Whether memory seen through ``steps`` holds conjugates (mark 'CONJ') or negatives ('NEG') of the view's elements."""
    return [kind for kind, _ in steps].count(mark) % 2 == 1


def layout(shape: Shape, steps: Sequence[Step]) -> tuple[tuple[int, ...], int]:
    """(strides, offset) in elements of the view at ``steps`` of a contiguous cell of ``shape``."""
    strides: tuple[int, ...] = contiguous_strides(shape)
    offset = 0
    for kind, arg in steps:
        if kind == "RESHAPE":
            found = reshape_strides(shape, strides, arg)
            if found is None:
                raise SpiralError(f"no view of strides {strides} has shape {list(arg)}")
            shape, strides = arg, found
        elif kind == "PERMUTE":
            shape, strides = tuple(shape[i] for i in arg), tuple(strides[i] for i in arg)
        elif kind == "SLICE":
            offset += sum(r[0] * s for r, s in zip(arg, strides))
            strides = tuple(s * r[2] for r, s in zip(arg, strides))
            shape = tuple(graph.slice_length(r) for r in arg)
        elif kind == "EXPAND":
            if not shape:
                shape, strides = (1,) * len(arg), (0,) * len(arg)
            strides = tuple(0 if s == 1 and n != 1 else t for s, n, t in zip(shape, arg, strides))
            shape = arg
        elif kind == "AS_REAL":
            strides, offset, shape = (*[2 * s for s in strides], 1), 2 * offset, (*shape, 2)
        elif kind == "AS_COMPLEX":
            if strides[-1] != 1:
                raise SpiralError("Tensor must have a last dimension with stride 1; take .contiguous() first")
            if offset % 2 or any(s % 2 for s in strides[:-1]):
                raise SpiralError("Tensor must have strides and an offset that are divisible by 2; take .contiguous() first")
            strides, offset, shape = tuple(s // 2 for s in strides[:-1]), offset // 2, shape[:-1]
        elif kind == "DIAGONAL":
            off, a, b = arg
            offset += off * strides[b] if off >= 0 else -off * strides[a]
            rest = [i for i in range(len(shape)) if i not in (a, b)]
            length = graph.diagonal_length(shape[a], shape[b], off)
            strides = (*[strides[i] for i in rest], strides[a] + strides[b])
            shape = (*[shape[i] for i in rest], length)
        elif kind == "WINDOW":
            axis, size, stride, dilation = arg
            count = (shape[axis] - dilation * (size - 1) - 1) // stride + 1
            strides = (*strides[:axis], strides[axis] * stride, *strides[axis + 1 :], strides[axis] * dilation)
            shape = (*shape[:axis], count, *shape[axis + 1 :], size)
        elif kind == "STRIDED":
            shape, strides, offset = arg
        elif kind == "BITCAST" and arg[0].itemsize != arg[1].itemsize:
            have, want = arg[0].itemsize, arg[1].itemsize
            shape = step_shape(shape, (kind, arg))
            strides = (*[t * have // want for t in strides[:-1]], 1)
            offset = offset * have // want
    return strides, offset
