"""Functions of nn.functional around the pools' records: pairs with indices, random samples, unpooling.

    >>> import spiraltorch as st
    >>> values, places = st.nn.functional.max_pool2d_with_indices(st.arange(16.0).reshape(1, 4, 4), 2)
    >>> places
    tensor([[[ 5,  7],
             [13, 15]]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dispatch import call, function
from ..ops.registry import OPS
from ..tensor import Tensor


def _with_indices(name: str) -> Callable[..., Any]:
    op = OPS[name]

    def apply(*args: Any, **kwargs: Any) -> Any:
        at = op.parameters.index("return_indices")
        return call(op, args[:at], {**kwargs, "return_indices": True})

    apply.__name__ = apply.__qualname__ = f"{name}_with_indices"
    apply.__doc__ = f"(values, indices) of {name} (torch.nn.functional.{name})."
    return apply


max_pool1d_with_indices = _with_indices("max_pool1d")
max_pool2d_with_indices = _with_indices("max_pool2d")
max_pool3d_with_indices = _with_indices("max_pool3d")
adaptive_max_pool1d_with_indices = _with_indices("adaptive_max_pool1d")
adaptive_max_pool2d_with_indices = _with_indices("adaptive_max_pool2d")
adaptive_max_pool3d_with_indices = _with_indices("adaptive_max_pool3d")
unfold = function(OPS["unfold_windows"])


def _fractional(
    rank: int, input: Tensor, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any
) -> Any:
    from ..sampling import rand

    if output_size is None and output_ratio is None:
        raise ValueError(f"fractional_max_pool{rank}d requires specifying either an output_size or an output_ratio")
    if output_size is None:
        ratios = (output_ratio,) * rank if isinstance(output_ratio, float) else tuple(output_ratio)
        if len(ratios) != rank:
            raise ValueError(f"fractional_max_pool{rank}d requires output_ratio to either be a single float or {rank} of them.")
        output_size = [int(n * r) for n, r in zip(input.shape[-rank:], ratios)]
    if samples is None:
        batch = (1, *input.shape)[-rank - 2 : -rank] if input.ndim == rank + 1 else tuple(input.shape[:2])
        samples = rand(*batch, rank, dtype=input.dtype)
    return call(OPS[f"fractional_max_pool{rank}d"], (input, samples, kernel_size, output_size, return_indices))


def fractional_max_pool2d(
    input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:  # fmt: skip
    """The largest elements of windows at random places, as many as ``output_size`` or ``output_ratio`` says
    (torch.nn.functional.fractional_max_pool2d)."""
    return _fractional(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:  # fmt: skip
    """:func:`fractional_max_pool2d` over three axes (torch.nn.functional.fractional_max_pool3d)."""
    return _fractional(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """(values, indices) of :func:`fractional_max_pool2d` (torch.nn.functional.fractional_max_pool2d)."""
    return fractional_max_pool2d(input, *args, **{**kwargs, "return_indices": True})


def fractional_max_pool3d_with_indices(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """(values, indices) of :func:`fractional_max_pool3d` (torch.nn.functional.fractional_max_pool3d)."""
    return fractional_max_pool3d(input, *args, **{**kwargs, "return_indices": True})


def _unpool(rank: int) -> Callable[..., Tensor]:
    def apply(
        input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Tensor:
        return call(OPS["max_unpool"], (input, indices, rank, kernel_size, stride, padding, output_size))  # type: ignore[no-any-return]

    apply.__name__ = apply.__qualname__ = f"max_unpool{rank}d"
    apply.__doc__ = f"Zeros with each element at the place it was pooled from (torch.nn.functional.max_unpool{rank}d)."
    return apply


max_unpool1d, max_unpool2d, max_unpool3d = map(_unpool, (1, 2, 3))

__all__ = [
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices",
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices", "max_pool1d_with_indices", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "max_unpool1d", "max_unpool2d", "max_unpool3d", "unfold",
]  # fmt: skip
