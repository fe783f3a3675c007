"""Lower library calls: values that no loop nest computes well (scatter and every CALL) become kernels kept whole.

In: a 'call' stage whose operands are in memory.  Out: launches of :class:`~spiraltorch.jit.lower.Library`
kernels, which :mod:`spiraltorch.kernels.library` provides by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import SpiralError
from ..ir.kernel import Param
from ..ir.node import Node
from .stages import Stage, is_zero, peel


def lower_call(s: Stage, memory: Callable[[Node], Any]) -> list[Any]:
    """Launches for the call.  Raises SpiralError for one that has no kernel."""
    n = s.node
    if n.op == "SCATTER":
        return _scatter(n, memory)
    if n.op == "CALL":
        return [_call(s, memory)]
    raise SpiralError(f"no backend computes {n.op} {n.arg!r}")


def _call(s: Stage, memory: Callable[[Node], Any]) -> Any:
    from ..kernels.library.routine import find

    n = s.node
    name, static = n.arg
    routine = find(name)
    if routine.key is not None:
        static = routine.key(n)
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


def _scatter(n: Node, memory: Callable[[Node], Any]) -> list[Any]:
    from ..kernels.library.routine import find

    zero = is_zero(n.src[0])
    operands = [("in", peel(x)) for x in n.src[1 if zero else 0 :]]
    sizes = find("placing.scatter").numbers(n)
    launch = _launch("placing.scatter", [*operands, ("out", n)], (n.arg[1], zero), sizes, memory, n, status=True)
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
