"""Activation functions as layers."""

from __future__ import annotations

from typing import Any

from ...creation import full
from ...tensor import Tensor
from .. import functional as F
from ..parameter import Parameter
from .module import Module


class _Inplace(Module):
    """An activation whose only setting is torch's ``inplace``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class _Plain(Module):
    """An activation without settings; any that are given are ignored, as torch does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class ReLU(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input, inplace=self.inplace)  # type: ignore[no-any-return]


class ReLU6(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input, inplace=self.inplace)  # type: ignore[no-any-return]


class SiLU(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input, inplace=self.inplace)  # type: ignore[no-any-return]


class Mish(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.mish(input, inplace=self.inplace)  # type: ignore[no-any-return]


class Hardswish(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.hardswish(input, inplace=self.inplace)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return ""


class Hardsigmoid(_Inplace):
    def forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(input, inplace=self.inplace)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return ""


class Tanh(_Plain):
    def forward(self, input: Tensor) -> Tensor:
        return input.tanh()  # type: ignore[attr-defined, no-any-return]


class Sigmoid(_Plain):
    def forward(self, input: Tensor) -> Tensor:
        return input.sigmoid()  # type: ignore[attr-defined, no-any-return]


class Softsign(_Plain):
    def forward(self, input: Tensor) -> Tensor:
        return F.softsign(input)  # type: ignore[attr-defined, no-any-return]


class LogSigmoid(_Plain):
    def forward(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)  # type: ignore[attr-defined, no-any-return]


class Tanhshrink(_Plain):
    def forward(self, input: Tensor) -> Tensor:
        return F.tanhshrink(input)  # type: ignore[attr-defined, no-any-return]


class LeakyReLU(_Inplace):
    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(_Inplace):
    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha, self.inplace)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class Hardtanh(_Inplace):
    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(inplace)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        if self.max_val <= self.min_val:
            raise AssertionError("max_val must be larger than min_val")

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate=self.approximate)  # type: ignore[attr-defined, no-any-return]

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class GLU(Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.glu(input, self.dim)  # type: ignore[attr-defined, no-any-return]

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softplus(Module):
    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)  # type: ignore[attr-defined, no-any-return]

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class PReLU(Module):
    """``input`` where positive, else ``weight * input``; ``weight`` is learned, one number or one a channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), float(init), device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        weight: Any = self.weight
        if self.num_parameters > 1:
            weight = weight.reshape(-1, *[1] * (input.ndim - 2))
        return input.clamp_min(0) + weight * input.clamp_max(0)  # type: ignore[attr-defined, no-any-return]

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class _Along(Module):
    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Along):
    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)  # type: ignore[attr-defined, no-any-return]


class LogSoftmax(_Along):
    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)  # type: ignore[attr-defined, no-any-return]


class Softmin(_Along):
    def forward(self, input: Tensor) -> Tensor:
        return F.softmin(input, self.dim)
