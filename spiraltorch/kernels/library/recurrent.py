"""A recurrent layer's loop over time and its gradient: :mod:`spiraltorch.ops.recurrent` defines both.

Operands are the input's gates (rows, gates * units), the weights in panels, the state's bias, the first states (batch,
units), and the offsets of the steps' rows; backward also gets the gradients of outputs and final states, and forward's
flat result.  Units are a multiple of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ir.cells import CELLS, forward_parts
from ..llvm import recurrent as loops
from .routine import composite


def _sizes(n: Any) -> list[int]:
    """The values of ``loops.SIZES``; a task takes few sequences, but enough to use a panel of weights again."""
    x, weight, _, h = n.src[:4]
    offsets = n.src[_places(n.arg[1], "forward" in n.arg[0])["offsets"]]
    batch, units = h.shape
    return [x.shape[0], batch, offsets.shape[0] - 1, units, weight.shape[2], 8 if batch < 64 else 16]


def _places(static: Any, forward: bool) -> dict[str, int]:
    return {name: i for i, name in enumerate(loops.operands(static[0], forward))}


def _shapes(k: Any, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Of the operands, from their number and the sizes."""
    rows, batch, steps, units, panel = sizes[:5]
    kind, forward = k.static[0], "forward" in k.name
    gates = CELLS[kind].gates
    columns, depth = (gates * units, units) if forward else (units, gates * units)
    known: dict[str, tuple[int, ...]] = {
        "x": (rows, gates * units), "weight": (columns // panel, depth, panel), "bias": (gates * units,), "offsets": (steps + 1,),
        "d out": (rows, units), "work": (sum([a * b for a, b in forward_parts(kind, rows, batch, units).values()]),),
    }  # fmt: skip
    return [known.get(name, (batch, units)) for name in loops.operands(kind, forward)]


def _flops(k: Any, sizes: Sequence[int]) -> int:
    return 2 * CELLS[k.static[0]].gates * sizes[0] * sizes[3] ** 2


def _tasks(k: Any, sizes: Sequence[int]) -> tuple[int, int]:
    """A task: a block of sequences."""
    return -(-sizes[1] // sizes[5]), 1


def _emit(k: Any, target: Any, name: str) -> str:
    return loops.emit(target, name, k.params[0].dtype, *k.static, "forward" in k.name)


@composite("recurrent.forward", strided=True, sizes=_sizes, emit=_emit, tasks=_tasks, shapes=_shapes, flops=_flops)
def forward(options: Any, *operands: Any) -> Any:
    """The parts that ``cells.forward_parts`` says, one after the other."""
    from ...ops.recurrent import forward_body  # operators are above kernels

    return forward_body(options, *operands)


@composite("recurrent.backward", strided=True, sizes=_sizes, emit=_emit, tasks=_tasks, shapes=_shapes, flops=_flops)
def backward(options: Any, *operands: Any) -> Any:
    """The parts that ``cells.backward_parts`` says, one after the other."""
    from ...ops.recurrent import backward_body

    return backward_body(options, *operands)
