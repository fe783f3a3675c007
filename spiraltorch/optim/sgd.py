"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..ir import lang
from ..ir.node import Node, cast
from ..tensor import Tensor
from .optimizer import Group, Optimizer, check, check_rate


class _Numbers(NamedTuple):
    lr: Node
    weight_decay: Node
    momentum: Node
    kept: Node  # 1 - dampening


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
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        })  # fmt: skip

    def start(self, p: Tensor, group: Group) -> dict[str, Tensor]:
        if group["momentum"] == 0:
            return {}
        state = {"momentum_buffer": self.zeros(p)}
        if group["dampening"] != 0:
            state["fresh"] = self.scalar(1.0, p)  # the first gradient is not dampened
        return state

    def numbers(self, group: Group) -> _Numbers:
        lr, decay, momentum, dampening = (
            self.number(group, k) for k in ("lr", "weight_decay", "momentum", "dampening")
        )
        return _Numbers(lr, decay, momentum, 1 - dampening)

    def update(self, p: Node, g: Node, state: dict[str, Node], group: Group, n: _Numbers) -> Node:
        if group["weight_decay"] != 0:
            g = g + p * cast(n.weight_decay, p.dtype)
        if group["momentum"] != 0:
            momentum = cast(n.momentum, p.dtype)
            added = g
            if group["dampening"] != 0:
                kept = n.kept
                if "fresh" in state:
                    kept = lang.where(lang.ne(state["fresh"], 0), 1.0, kept)
                    state["fresh"] = state["fresh"] * 0
                added = g * cast(kept, p.dtype)
            state["momentum_buffer"] = buffer = state["momentum_buffer"] * momentum + added
            g = g + buffer * momentum if group["nesterov"] else buffer
        return p - g * cast(n.lr, p.dtype)

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict()
        found["state"] = {p: {k: v for k, v in s.items() if k != "fresh"} for p, s in found["state"].items()}
        return found
