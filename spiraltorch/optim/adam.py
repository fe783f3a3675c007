"""Adam (Kingma and Ba, 2015), and AdamW with decoupled weight decay (Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import dtypes
from ..ir import lang
from ..ir.node import Node, cast
from ..tensor import Tensor
from .optimizer import Group, Optimizer, check, check_rate


class _Numbers(NamedTuple):
    lr: Node
    beta1: Node
    beta2: Node
    eps: Node
    weight_decay: Node


class Adam(Optimizer):
    """Steps of about ``lr`` in the direction of the mean gradient, over the root of the mean square
    (torch.optim.Adam).

    ``foreach``, ``fused``, ``capturable`` and ``differentiable`` are kept for torch's sake; updates always fuse.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_rate(lr)
        check(eps >= 0.0, "epsilon value", eps)
        for i, beta in enumerate(betas):
            check(0.0 <= beta < 1.0, f"beta parameter at index {i}", beta)
        check(weight_decay >= 0.0, "weight_decay value", weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        })  # fmt: skip

    def start(self, p: Tensor, group: Group) -> dict[str, Tensor]:
        state = {"step": self.scalar(0.0, p), "exp_avg": self.zeros(p), "exp_avg_sq": self.zeros(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = self.zeros(p)
        return state

    def numbers(self, group: Group) -> _Numbers:
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        return _Numbers(
            self.number(group, "lr"), beta1, beta2, self.number(group, "eps"), self.number(group, "weight_decay")
        )

    def update(self, p: Node, g: Node, state: dict[str, Node], group: Group, n: _Numbers) -> Node:
        d = p.dtype  # numbers are combined in float64 and rounded to it last
        if group["weight_decay"] != 0:
            if group["decoupled_weight_decay"]:
                p = p * cast(1 - n.lr * n.weight_decay, d)
            else:
                g = g + p * cast(n.weight_decay, d)
        state["step"] = step = state["step"] + 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        state["exp_avg"] = mean = mean + (g - mean) * cast(1 - n.beta1, d)
        state["exp_avg_sq"] = square = square * cast(n.beta2, d) + g * g * cast(1 - n.beta2, d)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = square = lang.maximum(state["max_exp_avg_sq"], square)
        t = cast(step, dtypes.float64)
        size = n.lr / (1 - lang.pow_(n.beta1, t))
        root = lang.sqrt(1 - lang.pow_(n.beta2, t))
        return p - cast(size, d) * mean / (lang.sqrt(square) / cast(root, d) + cast(n.eps, d))


class AdamW(Adam):
    """:class:`Adam` whose weight decay shrinks the parameter itself rather than entering the gradient
    (torch.optim.AdamW)."""

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
