"""Lower library calls: values that no loop nest computes well (scatter, scan, sort) become hand kernels.

In: a 'call' stage whose operands are in memory.  Out: launches of :class:`~spiraltorch.jit.lower.Library`
kernels, which :mod:`spiraltorch.kernels.library` provides by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import SpiralError
from ..ir.kernel import Param
from ..ir.node import Node
from .stages import Stage, peel


def lower_call(s: Stage, memory: Callable[[Node], Any]) -> list[Any]:
    """Launches for the call.  Raises SpiralError for one that has no kernel."""
    n = s.node
    if n.op == "SCATTER":
        return _scatter(n, memory)
    if n.op == "SCAN":
        op, axis, reverse = n.arg
        outer, size, inner = _around(n.src[0].shape, axis)
        return [_launch("scan", [("in", peel(n.src[0])), ("out", n)], (op, bool(reverse)), [outer, size, inner], memory, n)]
    if n.op == "SORT":
        what, axis, descending = n.arg
        outer, size, inner = _around(n.src[0].shape, axis)
        static = (what, bool(descending))
        return [_launch("sort", [("in", peel(n.src[0])), ("out", n)], static, [outer, size, inner], memory, n)]
    if n.op == "CALL":
        return [_call(s, memory)]
    raise SpiralError(f"no backend computes {n.op} {n.arg!r}")


def _call(s: Stage, memory: Callable[[Node], Any]) -> Any:
    from ..kernels.library.routine import find

    n = s.node
    name, static = n.arg
    routine = find(name)
    if not routine.native:
        static = (static, tuple([len(m.shape) for m in (*n.src, n)]))
    operands = [*[("in", x) for x in s.inputs], ("out", n)]
    status = routine.fails or not routine.native
    numbers = list(routine.numbers(n))
    for view in s.views:
        strides = view.strides
        assert strides is not None, "the stage has made sure"
        numbers += [view.read.position.const, *strides]
    launch = _launch(name, operands, static, numbers, memory, n, status)
    launch.checks = {1: n} if status else {}
    return launch


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis] if shape else 1, math.prod(shape[axis + 1 :])


def _scatter(n: Node, memory: Callable[[Node], Any]) -> list[Any]:
    base, index, values = n.src
    axis, op = n.arg if isinstance(n.arg, tuple) else (n.arg, "add")
    outer, size, inner = _around(base.shape, axis)
    operands = [("in", peel(base)), ("in", peel(index)), ("in", peel(values)), ("out", n)]
    launch = _launch("scatter", operands, (op,), [outer, size, inner, index.size], memory, n, status=True)
    launch.checks = {1: n}
    return [launch]


def _launch(
    name: str, operands: list[tuple[str, Node]], static: tuple[Any, ...], ints: list[int], memory: Callable[[Node], Any], n: Node,
    status: bool = False,
) -> Any:  # fmt: skip
    from ..dtypes import int64
    from .lower import Launch, Library

    params = [Param(o.dtype, mode) for mode, o in operands]
    keys: list[Any] = [memory(o) for _, o in operands]
    if status:
        params.append(Param(int64, "status"))
        keys.append("status")
    return Launch(Library(name, tuple(params), static), keys, ints, [], [n], {}, None, [n])
