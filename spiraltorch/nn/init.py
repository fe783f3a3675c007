"""Initial values for parameters, written in place and off the tape (torch.nn.init).

>>> import spiraltorch as st
>>> w = st.nn.init.constant_(st.empty(2), 3.0)
>>> w
tensor([3., 3.])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..creation import eye, full, over_array
from ..random import Generator
from ..sampling import rand, randn
from ..tensor import Tensor

_SQRT2 = math.sqrt(2.0)
_GAINS = {"sigmoid": 1.0, "tanh": 5.0 / 3, "relu": _SQRT2, "selu": 3.0 / 4}
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much to widen a layer's initial weights for the function behind it (torch.nn.init.calculate_gain)."""
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def fans(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight.  Raises ValueError for fewer than two axes."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    window = math.prod(tensor.shape[2:])
    return int(tensor.shape[1]) * window, int(tensor.shape[0]) * window


_calculate_fan_in_and_fan_out = fans  # by this name, what many scripts write


def _initializer(values: Callable[..., Tensor | None]) -> Callable[..., Tensor]:
    """Writes what ``values`` gives into its first argument; None leaves it as it is."""

    @wraps(values)
    def apply(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with no_grad():
            found = values(tensor, *args, **kwargs)
            return tensor if found is None else tensor.copy_(found)  # type: ignore[attr-defined, no-any-return]

    return apply


def _uniform(tensor: Tensor, low: float, high: float, generator: Generator | None) -> Tensor:
    u = rand(tuple(tensor.shape), generator=generator, dtype=tensor.dtype)
    return u * (high - low) + low  # type: ignore[operator, no-any-return]


def _normal(tensor: Tensor, mean: float, std: float, generator: Generator | None) -> Tensor:
    return randn(tuple(tensor.shape), generator=generator, dtype=tensor.dtype) * std + mean  # type: ignore[operator, no-any-return]


@_initializer
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b)."""
    return _uniform(tensor, a, b, generator)


@_initializer
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with ``mean`` and ``std``."""
    return _normal(tensor, mean, std, generator)


@_initializer
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal with ``mean`` and ``std``, cut off at ``a`` and ``b``: the quantile of a uniform number in between."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    u = rand(tuple(tensor.shape), generator=generator, dtype=_float64())._values()
    x = np.asarray(ndtri(low + u * (high - low))) * std + mean
    return over_array(np.ascontiguousarray(np.clip(x, a, b)).reshape(tensor.shape).astype(tensor.dtype.np))


def _float64() -> Any:
    from ..dtypes import float64

    return float64


@_initializer
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal with ``std``, and in each column of a matrix a share ``sparsity`` of zeros.  Raises ValueError for other ranks."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows = tensor.shape[0]
    at = rand(tuple(tensor.shape), generator=generator).argsort(0)[: math.ceil(sparsity * rows)]
    return _normal(tensor, 0.0, std, generator).scatter(0, at, 0.0)  # type: ignore[no-any-return]


@_initializer
def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return full(tuple(tensor.shape), val, dtype=tensor.dtype)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


@_initializer
def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, else 0."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return eye(*tensor.shape, dtype=tensor.dtype)


@_initializer
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight that passes on as many channels as it can, in each group."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    values = np.zeros(tensor.shape, np.float64)
    per_group = tensor.shape[0] // groups
    middle = tuple([n // 2 for n in tensor.shape[2:]])
    for g in range(groups):
        for c in range(min(per_group, tensor.shape[1])):
            place = (g * per_group + c, c, *middle)
            values[place] = 1
    return over_array(values.astype(tensor.dtype.np))


@_initializer
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with the variance ``2 * gain**2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return _uniform(tensor, -bound, bound, generator)


@_initializer
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the variance ``2 * gain**2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""
    return _normal(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan = fans(tensor)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


@_initializer
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor | None:
    """Uniform with the variance ``gain**2 / fan`` (He et al., 2015)."""
    if 0 in tensor.shape:
        return None
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return _uniform(tensor, -bound, bound, generator)


@_initializer
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor | None:
    """Normal with the variance ``gain**2 / fan`` (He et al., 2015)."""
    if 0 in tensor.shape:
        return None
    return _normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


@_initializer
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor | None:
    """Rows (or columns, whichever are fewer) of length ``gain`` at right angles, as a matrix [first axis, others]."""
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return None
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    tall = randn(max(rows, columns), min(rows, columns), generator=generator, dtype=_float64())._values()
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # with positive diagonals the decomposition, and so the distribution, is unique
    values = gain * (q if rows >= columns else q.T)
    return over_array(np.ascontiguousarray(values).reshape(tensor.shape).astype(tensor.dtype.np))


__all__ = [name for name in dir() if name.endswith("_") and not name.startswith("_")] + ["calculate_gain", "fans"]
