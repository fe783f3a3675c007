"""What a recurrent cell does at a step, and how the routines of a layer lay out their results.

In: nodes of any shape.  Out: nodes; graphs, derivatives and the vectors of kernels read the same lines.

    h, c, kept = CELLS["lstm"].forward(input_gates, state_gates, h, c)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import lang
from .lang import logistic
from .node import Node

Nodes = list[Node]


@dataclass(frozen=True)
class Cell:
    """What happens at a step, written in nodes of any shape: graphs, derivatives and kernels read the same lines.

    gates: blocks of the weights.  kept: values of a unit that backward looks at, of which the first ``gates`` take the
    place of the state's products.  memory: whether there is a cell state besides the hidden one.
    forward: (input's gates, state's gates, h, c) -> (h, c, kept values).
    backward: (kept, h, c, dh, dc), with the states from before -> (gradients, one for each kept value; those of
    the state's gates come first), and what of dh and dc goes past the gates.
    """

    gates: int
    kept: int
    memory: bool
    forward: Callable[[Nodes, Nodes, Node, Node], tuple[Node, Node, Nodes]]
    backward: Callable[[Nodes, Node, Node, Node, Node], tuple[Nodes, Node | None, Node]]


def _lstm(x: Nodes, g: Nodes, h: Node, c: Node) -> tuple[Node, Node, Nodes]:
    a, b, n, o = [p + q for p, q in zip(g, x)]
    i, f, n, o = logistic(a), logistic(b), lang.tanh(n), logistic(o)
    c = f * c + i * n
    return o * lang.tanh(c), c, [i, f, n, o]


def _lstm_back(kept: Nodes, h: Node, c: Node, dh: Node, dc: Node) -> tuple[Nodes, Node | None, Node]:
    i, f, n, o = kept
    now = lang.tanh(f * c + i * n)
    dc = dc + dh * o * (1 - now * now)
    return [dc * n * (i * (1 - i)), dc * c * (f * (1 - f)), dc * i * (1 - n * n), dh * now * (o * (1 - o))], None, dc * f


def _gru(x: Nodes, g: Nodes, h: Node, c: Node) -> tuple[Node, Node, Nodes]:
    r, z = logistic(g[0] + x[0]), logistic(g[1] + x[1])
    n = lang.tanh(x[2] + r * g[2])
    return (h - n) * z + n, c, [r, z, g[2], n]


def _gru_back(kept: Nodes, h: Node, c: Node, dh: Node, dc: Node) -> tuple[Nodes, Node | None, Node]:
    r, z, q, n = kept
    dn = dh * (1 - z) * (1 - n * n)
    return [dn * q * (r * (1 - r)), dh * (h - n) * (z * (1 - z)), dn * r, dn], dh * z, dc


def _tanh(x: Nodes, g: Nodes, h: Node, c: Node) -> tuple[Node, Node, Nodes]:
    h = lang.tanh(g[0] + x[0])
    return h, c, [h]


def _tanh_back(kept: Nodes, h: Node, c: Node, dh: Node, dc: Node) -> tuple[Nodes, Node | None, Node]:
    return [dh * (1 - kept[0] * kept[0])], None, dc


def _relu(x: Nodes, g: Nodes, h: Node, c: Node) -> tuple[Node, Node, Nodes]:
    h = lang.maximum(g[0] + x[0], 0)
    return h, c, [h]


def _relu_back(kept: Nodes, h: Node, c: Node, dh: Node, dc: Node) -> tuple[Nodes, Node | None, Node]:
    return [lang.where(lang.le(kept[0], 0), 0, dh)], None, dc


CELLS = {
    "lstm": Cell(4, 4, True, _lstm, _lstm_back),
    "gru": Cell(3, 4, False, _gru, _gru_back),
    "tanh": Cell(1, 1, False, _tanh, _tanh_back),
    "relu": Cell(1, 1, False, _relu, _relu_back),
}


def forward_parts(kind: str, rows: int, batch: int, units: int) -> dict[str, tuple[int, int]]:
    """What a forward CALL's flat result holds, part after part, and as which shape."""
    cell = CELLS[kind]
    parts = {"out": (rows, units), "h": (batch, units), "c": (batch, units), "kept": (rows, cell.kept * units)}
    parts |= {"before h": (rows, units), "before c": (rows, units)}
    return {name: shape for name, shape in parts.items() if cell.memory or not name.endswith("c")}


def backward_parts(kind: str, rows: int, batch: int, units: int) -> dict[str, tuple[int, int]]:
    """The same of a backward CALL's."""
    cell = CELLS[kind]
    parts = {"gates": (rows, cell.kept * units), "h": (batch, units), "c": (batch, units)}
    return {name: shape for name, shape in parts.items() if cell.memory or name != "c"}


__all__ = ["CELLS", "Cell", "Nodes", "backward_parts", "forward_parts"]
