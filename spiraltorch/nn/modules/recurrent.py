"""Recurrent networks and cells, with torch's parameter names: checkpoints of either load into the other."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable
from typing import Any

from ...creation import empty, zeros
from ...dispatch import call
from ...errors import SpiralError
from ...ops.registry import OPS
from ...tensor import Tensor
from .. import init
from .. import recurrent as functions
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _uniform(module: Module, units: int) -> None:
    """All parameters uniform on +-1 / sqrt(units)."""
    bound = 1 / math.sqrt(units) if units > 0 else 0
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


class RNNBase(Module):
    """Layers of recurrent cells: parameters ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, perhaps
    ``weight_hr_l0``, for each layer, and the same with ``_reverse``."""

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._check_settings(dropout)
        self.dropout = float(dropout)
        self._all_weights: list[list[str]] = []
        out = proj_size or hidden_size
        gates = _GATES[mode] * hidden_size
        for layer in range(num_layers):
            for suffix in ("", "_reverse") if bidirectional else ("",):
                features = input_size if layer == 0 else out * (1 + bidirectional)
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, features), "weight_hh": (gates, out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = {f"{name}_l{layer}{suffix}": shape for name, shape in shapes.items()}
                for name, shape in names.items():
                    setattr(self, name, Parameter(empty(*shape, device=device, dtype=dtype)))
                self._all_weights.append(list(names))
        self.reset_parameters()

    def _check_settings(self, dropout: Any) -> None:
        """Raises ValueError or TypeError for settings that torch refuses."""
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:  # type: ignore[operator]
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed, "
                f"but got {dropout!r}"
            )
        if dropout > 0 and self.num_layers == 1:  # type: ignore[operator]
            warnings.warn(
                f"dropout is applied after all but the last recurrent layer, so dropout={dropout} does nothing with num_layers=1",
                stacklevel=4,
            )
        for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int), ("hidden_size", int)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        for name in ("input_size", "hidden_size", "num_layers"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than zero, but got {getattr(self, name)}")
        if self.proj_size < 0:
            raise ValueError(f"proj_size should be a positive integer or zero to disable projections, but got {self.proj_size}")
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"proj_size has to be smaller than hidden_size, but got {self.proj_size} and {self.hidden_size}")
        if self.mode not in _GATES:
            raise ValueError(f"Unrecognized RNN mode: {self.mode}")

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Any]:
        return [p for layer in self.all_weights for p in layer]

    def flatten_parameters(self) -> None:
        """Does nothing: the weights are read where they lie."""

    def reset_parameters(self) -> None:
        _uniform(self, self.hidden_size)

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        weight = self._flat_weights[0]
        if input.dtype is not weight.dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                f"input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        rank = 2 if batch_sizes is not None else 3
        if input.ndim != rank:
            raise SpiralError(f"input must have {rank} dimensions, got {input.ndim}")
        if self.input_size != input.shape[-1]:
            raise SpiralError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )

    def _expected(self, batch: int) -> list[tuple[int, int, int]]:
        """The shapes of the states."""
        count = self.num_layers * (1 + self.bidirectional)
        return [(count, batch, self.proj_size or self.hidden_size), (count, batch, self.hidden_size)][: self._states]

    _states = 1

    def _check_states(self, states: list[Tensor], batch: int) -> None:
        for k, (s, wanted) in enumerate(zip(states, self._expected(batch))):
            if tuple(s.shape) != wanted:
                which = f"hidden[{k}]" if self._states > 1 else "hidden"
                raise SpiralError(f"Expected {which} size {wanted}, got {list(s.shape)}")

    def _unbatched(self, states: list[Tensor], batched: bool) -> list[Tensor]:
        """The given states with an axis for the batch."""
        rank = 3 if batched else 2
        if any([s.ndim != rank for s in states]):
            given = ", ".join([f"{s.ndim}-D" for s in states])
            which = "hx" if self._states == 1 else "hx and cx"
            kind = "batched" if batched else "unbatched"
            raise SpiralError(f"For {kind} {rank}-D input, {which} should also be {rank}-D but got {given} tensors")
        return states if batched else [s.unsqueeze(1) for s in states]  # type: ignore[attr-defined]

    def _run(self, input: Any, hx: list[Tensor] | None) -> tuple[Any, list[Tensor]]:
        """(output, last states) for an input that may be packed."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched = input.ndim == 3
        axis = 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(axis)
        batch = x.shape[axis]
        given = self._zeros(x, batch) if hx is None else self._unbatched(hx, batched)
        self.check_input(x, None)
        self._check_states(given, batch)
        out, *last = self._function(x, given, self.batch_first)
        return (out, last) if batched else (out.squeeze(axis), [s.squeeze(1) for s in last])  # type: ignore[attr-defined]

    def _run_packed(self, input: PackedSequence, hx: list[Tensor] | None) -> tuple[PackedSequence, list[Tensor]]:
        data, sizes, order, back = input
        batch = int(sizes[0]) if back is None else back.shape[0]
        given = self._zeros(data, batch) if hx is None else hx
        self.check_input(data, sizes)
        self._check_states(given, batch)
        out, *last = self._function(data, [_reordered(s, order) for s in given], None, sizes)
        return PackedSequence(out, sizes, order, back), [_reordered(s, back) for s in last]

    def _zeros(self, like: Tensor, batch: int) -> list[Tensor]:
        return [zeros(*shape, dtype=like.dtype, device=like.device) for shape in self._expected(batch)]

    def _function(self, x: Tensor, states: list[Tensor], batch_first: bool | None, *sizes: Tensor) -> tuple[Tensor, ...]:
        function: Callable[..., tuple[Tensor, ...]] = getattr(functions, self.mode.lower())
        hx = states[0] if self._states == 1 else tuple(states)
        tail = () if batch_first is None else (batch_first,)
        return function(
            x, *sizes, hx, self._flat_weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, *tail
        )

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0), ("bidirectional", False))
        for name, default in defaults:
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def _reordered(state: Tensor, order: Tensor | None) -> Tensor:
    return state if order is None else state.index_select(1, order)  # type: ignore[attr-defined, no-any-return]


class RNN(RNNBase):
    """``h = tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)``, or relu with ``nonlinearity='relu'``: (output, h_n)."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", *args: Any, **kwargs: Any
    ) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, last = self._run(input, None if hx is None else [hx])
        return out, last[0]


class GRU(RNNBase):
    """Gated recurrent units: (output, h_n)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, last = self._run(input, None if hx is None else [hx])
        return out, last[0]


class LSTM(RNNBase):
    """Long short-term memory: (output, (h_n, c_n)); ``proj_size`` projects the hidden state."""

    _states = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        out, last = self._run(input, None if hx is None else list(hx))
        return out, (last[0], last[1])


class RNNCellBase(Module):
    """One step of cells with parameters ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``."""

    _states = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        gates = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(gates, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(gates, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(gates, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _uniform(self, self.hidden_size)

    def _step(self, op: str, input: Tensor, hx: Any) -> Any:
        """The cell for an input with or without an axis for the batch."""
        name = type(self).__name__
        states = None if hx is None else list(hx) if self._states > 1 else [hx]
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        for k, s in enumerate(states or ()):
            if s.ndim not in (1, 2):
                which = f"hx[{k}]" if self._states > 1 else "hidden"
                raise ValueError(f"{name}: Expected {which} to be 1D or 2D, got {s.ndim}D instead")
        batched = input.ndim == 2
        x = input if batched else input.unsqueeze(0)  # type: ignore[attr-defined]
        if states is None:
            states = [zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)] * self._states
        elif not batched:
            states = [s.unsqueeze(0) for s in states]
        given = states if self._states > 1 else states[0]
        found = call(OPS[op], (x, given, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))  # type: ignore[attr-defined]
        if batched:
            return found
        return tuple([s.squeeze(0) for s in found]) if self._states > 1 else found.squeeze(0)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """``tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)``, or relu with ``nonlinearity='relu'``."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise SpiralError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(f"rnn_{self.nonlinearity}_cell", input, hx)  # type: ignore[no-any-return]


class LSTMCell(RNNCellBase):
    """(h, c) after one step."""

    _states = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return self._step("lstm_cell", input, hx)  # type: ignore[no-any-return]


class GRUCell(RNNCellBase):
    """h after one step of a gated recurrent unit."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step("gru_cell", input, hx)  # type: ignore[no-any-return]
