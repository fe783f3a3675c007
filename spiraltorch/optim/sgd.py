"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import dtypes
from ..dispatch import call
from ..ops.registry import OPS
from .optimizer import Group, Optimizer, check, check_rate, store, wide


class _Numbers(NamedTuple):
    lr: Any
    weight_decay: Any
    momentum: Any
    kept: Any  # 1 - dampening


class SGD(Optimizer):
    """``buffer = momentum * buffer + (1 - dampening) * gradient; parameter -= lr * buffer``; the first buffer is
    the gradient (torch.optim.SGD).

    ``foreach``, ``fused`` and ``differentiable`` are kept for torch's sake; updates always fuse.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_rate(lr)
        check(momentum >= 0.0, "momentum value", momentum)
        check(weight_decay >= 0.0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        #: whether a buffer is still to be started, for buffers that were made here and are dampened
        self._fresh: dict[Any, Any] = {}
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        })  # fmt: skip

    def numbers(self, group: Group) -> _Numbers:
        lr, decay, momentum, dampening = (self.number(group, k) for k in ("lr", "weight_decay", "momentum", "dampening"))
        return _Numbers(lr, decay, momentum, 1 - dampening)

    def update(self, p: Any, g: Any, state: dict[str, Any], group: Group, n: _Numbers) -> None:
        value, g = wide(p), wide(g)
        if group["weight_decay"] != 0:
            g = g + value * n.weight_decay
        if group["momentum"] != 0:
            buffer = self._buffer(p, g, state, group, n)
            g = g + buffer * n.momentum if group["nesterov"] else buffer
        store(p, value - g * n.lr)

    def _buffer(self, p: Any, g: Any, state: dict[str, Any], group: Group, n: _Numbers) -> Any:
        """The new momentum buffer, written."""
        dampened = group["dampening"] != 0
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = self.zeros(p)
            if dampened:
                self._fresh[p] = self.scalar(True, dtypes.bool_)
        kept = n.kept if dampened else None
        if p in self._fresh and dampened:
            kept = call(OPS["where"], (self._fresh[p], 1.0, kept))
            store(self._fresh[p], self._fresh[p] & False)
        new = wide(state["momentum_buffer"]) * n.momentum + (g if kept is None else g * kept)
        store(state["momentum_buffer"], new)
        return new

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._fresh.clear()
