"""The short way from a call to a recorded node: tensors of one type and shape, or one and a number, no options.

Recording is what eager mode costs, so what would be five small functions is written out here. Each
recorder answers None when the call needs the long way (:func:`spiraltorch.dispatch.call`): other
types to promote, shapes to broadcast, 16-bit floats, bad kinds.  ``form`` says the same of an operator for the C module
(:mod:`.fast`), which then comes first.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from sys import _getframe
from typing import Any

from . import dtypes
from .again import kept
from .config import config
from .errors import _inside, user_origin
from .ir.node import Node, const
from .ir.prims import ROWS
from .ops.registry import Op
from .ordering import is_turned, shared_order
from .storage import Storage, computed_at_once, queue
from .tape import Hole, OpCall, mode
from .tensor import Tensor, attach

#: classes whose calls may take the short way; nn.Parameter adds itself
SHORT: set[Any] = {Tensor}
NUMBERS = frozenset((float, int))
MOST_NUMBERS = 1 << 5  # that are kept as constants
MOST_CALLS = 8  # with a number, whose gradients are remembered: each number is a program of its own then
numbers: dict[tuple[float, dtypes.DType], Node] = {}

_ONE = (Hole(0),)
_new = object.__new__
_ref = weakref.ref


def fresh(op: str, src: tuple[Node, ...], shape: tuple[int, ...], dtype: dtypes.DType, where: Any) -> Tensor:
    """A tensor with a pending cell of its own, whose node carries the user's line: three frames up, or further when
    that is inside the package.

    The node is not looked up in the table of nodes: it becomes the one node of its kind when its graph is compiled.
    """
    node = _new(Node)
    node.op = op
    node.src = src
    node.arg = node._digest = None
    node.shape = shape
    node.dtype = dtype
    f = _getframe(3)
    code = f.f_code
    node.origin = (code, f.f_lasti) if _inside.get(code.co_filename) is False else user_origin(3)
    return tensor_of(node, where)


def tensor_of(node: Node, where: Any) -> Tensor:
    """``tensor.from_node`` written out, for a node that is no BUFFER."""
    cell = _new(Storage)
    cell.node = node
    cell.version = cell.history_version = 0
    cell.buffer = cell.history = cell.error = None
    cell.device = where
    cell.exposed = False
    t = _new(Tensor)
    t._storage = cell
    t._steps = ()
    t._requires_grad = t._detached = False
    t._fn = t._hooks = t._base = t._grad = None
    t._index = t._seen = 0
    q = queue.__dict__  # this thread's; one look-up instead of five
    cells = q["cells"]
    cells.append(_ref(cell))
    size = node.dtype.itemsize
    for n in node.shape:
        size *= n
    q["bytes"] = size = q["bytes"] + size
    if (len(cells) > q["limit"] or size > config.queue_bytes) and q["trace"] is None:
        queue.overflow()
    return t  # type: ignore[no-any-return]


def _row_of(op: Op) -> tuple[str, bool]:
    """The scalar row, and whether it answers with truth."""
    assert op.row is not None
    return op.row, ROWS[op.row].result == "bool"


def pair_types(op: Op) -> set[dtypes.DType]:
    """Types of two tensors that the short way knows."""
    kinds = set(op.kinds) & set(ROWS[_row_of(op)[0]].kinds)  # bool + bool and int / int are no plain rows
    return {d for d in dtypes.ALL if d.kind in kinds and not (d.kind == "f" and d.itemsize == 2)}


def float_types(op: Op) -> set[dtypes.DType]:
    """Types of one tensor, or one and a number, that the short way knows."""
    floats = "f" in op.kinds and "f" in ROWS[_row_of(op)[0]].kinds
    return {d for d in (dtypes.float32, dtypes.float64) if floats and (op.operands == 2 or not op.acc or op.wide(d) is d)}


@cache
def _call_of(op: Op) -> OpCall:
    """What the tape says of a call with tensors alone."""
    return kept(OpCall(op, tuple([Hole(i) for i in range(op.operands)]), {}))  # type: ignore[no-any-return]


def form(op: Op, pair: bool, number: bool, reflected: bool = False) -> dict[str, Any]:
    """What :class:`_fast.Recorder` knows of a row: over tensors alone (``pair``), and over a tensor and a number."""
    row, is_bool = _row_of(op)
    types = pair_types(op) if op.operands == 2 else float_types(op)
    return {
        "row": row, "operands": op.operands, "pair": tuple(types) if pair else None, "number": tuple(float_types(op)) if number else None,
        "pointwise": bool(op.pointwise),
        "result": dtypes.bool_ if is_bool else None, "call": _call_of(op) if op.differentiable else None, "reflected": reflected,
    }  # fmt: skip


def short_binary(op: Op) -> Callable[[Tensor, Tensor], Tensor | None]:
    """Recorder of a scalar row over two tensors."""
    row, is_bool = _row_of(op)
    allowed, call = pair_types(op), _call_of(op)

    def record(a: Tensor, b: Tensor) -> Tensor | None:
        order = None
        if (a._steps and is_turned(a)) or (b._steps and is_turned(b)):
            order = shared_order((a, b))
            if order is None:
                return None
        s, r = a._storage, b._storage
        x = a._read() if a._steps and not order else s.node
        y = b._read() if b._steps and not order else r.node
        d = x.dtype
        if d is not y.dtype or x.shape != y.shape or d not in allowed or s.device is not r.device:
            return None
        t = fresh(row, (x, y), x.shape, dtypes.bool_ if is_bool else d, s.device)
        if order:
            t._steps, t._cached_from = order, None
        if (
            a._requires_grad or a._fn is not None or b._requires_grad or b._fn is not None or s.history or r.history
        ) and mode.enabled:
            attach(call, (a, b), (t,))
        if s.exposed or r.exposed:
            computed_at_once((a, b), (t,))
        return t

    return record


def number_node(value: float, dtype: dtypes.DType) -> Node:
    """A Python number as a constant of a program's data, remembered."""
    c = numbers.get((value, dtype))
    if c is None:
        c = const(value, dtype, False)
        if value:  # 0.0 is not -0.0
            if len(numbers) >= MOST_NUMBERS:
                numbers.clear()
            numbers[value, dtype] = c
    return c


def short_number(op: Op, reflected: bool) -> Callable[[Tensor, float], Tensor | None]:
    """Recorder of a scalar row over a tensor of a wide float type and a Python int or float, or the reverse."""
    row, is_bool = _row_of(op)
    allowed = float_types(op)
    calls: dict[Any, Any] = {}

    def record(a: Tensor, value: float) -> Tensor | None:
        order = None
        if a._steps and is_turned(a):
            order = shared_order((a,))
            if order is None:
                return None
        s = a._storage
        x = a._read() if a._steps and not order else s.node
        d = x.dtype
        if d not in allowed:
            return None
        c = numbers.get((value, d)) or number_node(value, d)
        t = fresh(row, (c, x) if reflected else (x, c), x.shape, dtypes.bool_ if is_bool else d, s.device)
        if order:
            t._steps, t._cached_from = order, None
        if (a._requires_grad or a._fn is not None or s.history) and mode.enabled:
            key = value.__class__, value, str(value) if not value else ""
            call = calls.get(key)
            if call is None:
                call = OpCall(op, (value, _ONE[0]) if reflected else (_ONE[0], value), {})
                if len(calls) < MOST_CALLS:
                    calls[key] = kept(call)
            attach(call, (a,), (t,))
        if s.exposed:
            computed_at_once((a,), (t,))
        return t

    return record


def short_unary(op: Op) -> Callable[[Tensor], Tensor | None]:
    """Recorder of a scalar row over one tensor of a wide float type."""
    row, _ = _row_of(op)
    allowed, call = float_types(op), _call_of(op)

    def record(a: Tensor) -> Tensor | None:
        order = None
        if a._steps and is_turned(a):
            order = shared_order((a,))
            if order is None:
                return None
        s = a._storage
        x = a._read() if a._steps and not order else s.node
        d = x.dtype
        if d not in allowed:
            return None
        t = fresh(row, (x,), x.shape, d, s.device)
        if order:
            t._steps, t._cached_from = order, None
        if (a._requires_grad or a._fn is not None or s.history) and op.differentiable and mode.enabled:
            attach(call, (a,), (t,))
        if s.exposed:
            computed_at_once((a,), (t,))
        return t

    return record
