"""Adam (Kingma and Ba, 2015), and AdamW with decoupled weight decay (Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import dtypes
from .optimizer import Group, Optimizer, check, check_rate, store, wide


class _Numbers(NamedTuple):
    lr: Any
    beta1: Any
    beta2: Any
    eps: Any
    weight_decay: Any


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

    def numbers(self, group: Group) -> _Numbers:
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        return _Numbers(self.number(group, "lr"), beta1, beta2, self.number(group, "eps"), self.number(group, "weight_decay"))

    def update(self, p: Any, g: Any, state: dict[str, Any], group: Group, n: _Numbers) -> None:
        if not state:
            state["step"] = self.scalar(0.0)
            for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])):
                state[name] = self.zeros(p)
        value, g = wide(p), wide(g)
        step = state["step"] + 1
        taken = step.to(dtypes.float64)
        if group["weight_decay"] != 0:
            if group["decoupled_weight_decay"]:
                value = value * (1 - n.lr * n.weight_decay)
            else:
                g = g + value * n.weight_decay
        mean, square = wide(state["exp_avg"]), wide(state["exp_avg_sq"])
        mean = mean + (g - mean) * (1 - n.beta1)
        square = square * n.beta2 + g * g * (1 - n.beta2)
        bound = square
        if group["amsgrad"]:
            bound = wide(state["max_exp_avg_sq"]).maximum(square)
            store(state["max_exp_avg_sq"], bound)
        root = (1 - n.beta2**taken).sqrt()
        size = n.lr / (1 - n.beta1**taken)
        store(p, value - size * mean / (bound.sqrt() / root + n.eps))
        store(state["exp_avg"], mean)
        store(state["exp_avg_sq"], square)
        store(state["step"], step)


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
