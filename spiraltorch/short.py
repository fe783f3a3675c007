"""The short way from a call to a recorded node: tensors of one type and shape, no options.

Recording is what eager mode costs, so what would be five small functions is written out here. Each
recorder answers None when the call needs the long way (:func:`spiraltorch.dispatch.call`): other
types to promote, shapes to broadcast, 16-bit floats, bad kinds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from sys import _getframe
from typing import Any

from . import dtypes
from .config import config
from .errors import _PACKAGE, user_origin
from .ir.node import Node, make
from .ir.prims import ROWS
from .ops.registry import Op
from .storage import Storage, computed_at_once, queue
from .tape import Hole, OpCall, mode
from .tensor import Tensor, attach

#: classes whose calls may take the short way; nn.Parameter adds itself
SHORT: set[type] = {Tensor}

_NO_KW: dict[str, Any] = {}
_TWO, _ONE = (Hole(0), Hole(1)), (Hole(0),)
_new = object.__new__
_ref = weakref.ref
_inside: dict[str, bool] = {}


def fresh(node: Node, where: Any) -> Tensor:
    """A tensor with a pending cell of its own: ``tensor.from_node`` written out."""
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
    q = queue
    cells = q.cells
    cells.append(_ref(cell))
    size = node.dtype.itemsize
    for n in node.shape:
        size *= n
    q.bytes += size
    if (len(cells) > config.queue_nodes or q.bytes > config.queue_bytes) and q.trace is None:
        q.overflow()
    return t  # type: ignore[no-any-return]


def _mark(n: Node) -> None:
    """Give a node the user's line, two frames up unless that is still inside the package."""
    f = _getframe(3)
    name = f.f_code.co_filename
    inside = _inside.get(name)
    if inside is None:
        inside = _inside[name] = _PACKAGE in name and "/tests/" not in name
    n.origin = user_origin(3) if inside else (f.f_code, f.f_lasti)


def short_binary(op: Op) -> Callable[[Tensor, Tensor], Tensor | None]:
    """Recorder of a scalar row over two tensors."""
    row = op.row
    assert row is not None
    is_bool = ROWS[row].result == "bool"
    kinds = set(op.kinds) & set(ROWS[row].kinds)  # bool + bool and int / int are no plain rows
    allowed = {d for d in dtypes.ALL if d.kind in kinds and not (d.kind == "f" and d.itemsize == 2)}

    def record(a: Tensor, b: Tensor) -> Tensor | None:
        s, r = a._storage, b._storage
        x = a._read() if a._steps else s.node
        y = b._read() if b._steps else r.node
        d = x.dtype
        if d is not y.dtype or x.shape != y.shape or d not in allowed or s.device is not r.device:
            return None
        n = make(row, (x, y), None, x.shape, dtypes.bool_ if is_bool else d)
        if n.origin is None:
            _mark(n)
        t = fresh(n, s.device)
        if mode.enabled and (
            a._requires_grad or a._fn is not None or b._requires_grad or b._fn is not None or s.history or r.history
        ):
            attach(OpCall(op, _TWO, _NO_KW), (a, b), (t,))
        if s.exposed or r.exposed:
            computed_at_once((a, b), (t,))
        return t

    return record


def short_unary(op: Op) -> Callable[[Tensor], Tensor | None]:
    """Recorder of an operator over one tensor of a wide float type."""
    row = op.row
    body = op.body
    floats = "f" in op.kinds and (row is None or "f" in ROWS[row].kinds)
    allowed = {dtypes.float32, dtypes.float64} if floats else set()

    def record(a: Tensor) -> Tensor | None:
        s = a._storage
        x = a._read() if a._steps else s.node
        d = x.dtype
        if d not in allowed:
            return None
        if row is not None:
            n = make(row, (x,), None, x.shape, d)
        else:
            n = body(x)
            if n.__class__ is not Node or n is x:
                return None
        if n.origin is None:
            _mark(n)
        t = fresh(n, s.device)
        if mode.enabled and op.differentiable and (a._requires_grad or a._fn is not None or s.history):
            attach(OpCall(op, _ONE, _NO_KW), (a,), (t,))
        if s.exposed:
            computed_at_once((a,), (t,))
        return t

    return record
