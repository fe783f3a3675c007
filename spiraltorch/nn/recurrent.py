"""Recurrent networks as functions of their weights: torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu.

In: an input (steps, batch, features), first states for each layer and direction, and the weights in torch's order.  Out:
the last layer's outputs and every layer's last state.  For each layer and direction the input's part of the gates is one
matrix product over all steps, and the loop over time one library call (:mod:`spiraltorch.ops.recurrent`).

    >>> import spiraltorch as st
    >>> w = [st.zeros(3, 2), st.zeros(3, 3)]
    >>> out, h = st.rnn_tanh(st.ones(4, 1, 2), st.zeros(1, 1, 3), w, False, 1, 0.0, False, False, False)
    >>> out.shape, h.shape
    (torch.Size([4, 1, 3]), torch.Size([1, 1, 3]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..creation import zeros
from ..dispatch import call
from ..errors import SpiralError
from ..ops.recurrent import CELLS
from ..ops.registry import OPS
from ..tensor import Tensor
from .functional import dropout as _dropout

__all__ = ["gru", "lstm", "rnn_relu", "rnn_tanh"]

_linear, _cat, _stack = OPS["linear"], OPS["cat"], OPS["stack"]


def _offsets(batch_sizes: Tensor) -> Tensor:
    """Where the rows of each step begin, and where the last ones end."""
    first = zeros(1, dtype=batch_sizes.dtype)
    return call(_cat, ([first, batch_sizes.cumsum(0)],))  # type: ignore[attr-defined, no-any-return]


def _layers(
    kind: str, rows: Tensor, offsets: Tensor | None, hx: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool,
    num_layers: int, dropout: float, train: bool, bidirectional: bool,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Outputs in rows, and the last states of all layers, one tensor for each of ``hx``."""
    projects = len(hx) == 2 and hx[0].shape[2] != hx[1].shape[2]
    each, directions = 2 + 2 * has_biases + projects, 1 + bidirectional
    if len(params) != each * directions * num_layers:
        raise SpiralError(f"got an incorrect number of RNN parameters: {len(params)}, but expected {each * directions * num_layers}")
    last: list[tuple[Tensor, ...]] = []
    for layer in range(num_layers):
        outs = []
        for direction in range(directions):
            k = layer * directions + direction
            w_ih, w_hh, *more = params[k * each : (k + 1) * each]
            biases: list[Any] = more[:2] if has_biases else [None, None]
            gates = call(_linear, (rows, w_ih, biases[0]))
            h, c = hx[0][k], hx[1][k] if len(hx) == 2 else None
            _check_step(kind, gates, w_hh, h, c)
            project = more[-1] if projects else None
            made = call(OPS["recurrent_layer"], (kind, bool(direction), gates, w_hh, h, c, biases[1], offsets, project))
            outs.append(made[1])
            last.append(tuple(made[2:]))
        rows = outs[0] if directions == 1 else call(_cat, (outs, 1))
        if dropout and train and layer + 1 < num_layers:
            rows = _dropout(rows, dropout)
    return rows, [call(_stack, (list(states),)) for states in zip(*last)]


def _check_step(kind: str, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor | None) -> None:
    """Raises RuntimeError unless the weights fit the states."""
    units = (h if c is None else c).shape[1]
    wanted = CELLS[kind].gates * units
    if tuple(weight.shape) != (wanted, h.shape[1]) or gates.shape[1] != wanted:
        raise SpiralError(
            f"a hidden state of size {units} needs weight_ih [{wanted}, ..] and weight_hh [{wanted}, {h.shape[1]}], but got "
            f"{gates.shape[1]} gates and weight_hh {list(weight.shape)}"
        )


def _dense(kind: str, input: Tensor, hx: Sequence[Tensor], options: Sequence[Any], batch_first: bool) -> tuple[Tensor, ...]:
    if input.ndim != 3:
        raise SpiralError(f"input must have 3 dimensions, got {input.ndim}")
    x = input.transpose(0, 1) if batch_first else input  # type: ignore[attr-defined]
    steps, batch, features = x.shape
    if not steps:
        raise SpiralError("Expected sequence length to be larger than 0 in RNN")
    rows, last = _layers(kind, x.reshape(steps * batch, features), None, hx, *options)
    out = rows.reshape(steps, batch, rows.shape[1])  # type: ignore[attr-defined]
    return out.transpose(0, 1) if batch_first else out, *last


def _packed(kind: str, data: Tensor, batch_sizes: Tensor, hx: Sequence[Tensor], options: Sequence[Any]) -> tuple[Tensor, ...]:
    rows, last = _layers(kind, data, _offsets(batch_sizes), hx, *options)
    return rows, *last


_PACKED = ("data", "batch_sizes", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")
_DENSE = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")


def _function(name: str, kind: str, doc: str) -> Callable[..., tuple[Tensor, ...]]:
    def function(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        names = _PACKED if "data" in kwargs or (len(args) > 2 and isinstance(args[2], Tensor)) or _pair_third(args) else _DENSE
        values = dict(zip(names, args)) | kwargs
        if len(args) + len(kwargs) != len(names) or set(values) != set(names):
            forms = " or ".join([f"({', '.join(form)})" for form in (_DENSE, _PACKED)])
            raise TypeError(f"{name}() expected {forms}, but got {len(args) + len(kwargs)} arguments")
        states = [values["hx"]] if isinstance(values["hx"], Tensor) else list(values["hx"])
        options = [values[n] for n in ("params", "has_biases", "num_layers", "dropout", "train", "bidirectional")]
        if names is _PACKED:
            return _packed(kind, values["data"], values["batch_sizes"], states, options)
        return _dense(kind, values["input"], states, options, values["batch_first"])

    def _pair_third(args: Sequence[Any]) -> bool:
        """lstm(data, batch_sizes, (h, c), ...): the second argument is no pair of states."""
        return kind == "lstm" and len(args) > 1 and isinstance(args[1], Tensor)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


_TAIL = (
    "one layer after the other, over ``input`` [T, N, I] ([N, T, I] with ``batch_first``), or over packed ``data`` and "
    "``batch_sizes``.  ``params`` are weight_ih, weight_hh, and with ``has_biases`` bias_ih, bias_hh, for each layer and "
    "direction; first states are [layers * directions, N, H].  "
)
lstm = _function("lstm", "lstm", f"(output, h_n, c_n): LSTM cells, {_TAIL}``hx`` is a pair (h, c).  (torch.lstm)")
gru = _function("gru", "gru", f"(output, h_n): GRU cells, {_TAIL}(torch.gru)")
rnn_tanh = _function("rnn_tanh", "tanh", f"(output, h_n): cells with tanh, {_TAIL}(torch.rnn_tanh)")
rnn_relu = _function("rnn_relu", "relu", f"(output, h_n): cells with relu, {_TAIL}(torch.rnn_relu)")
