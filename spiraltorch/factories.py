"""More constructors: from records, from bytes, with strides, windows, and those that take after a tensor.

In: numbers, sizes, buffers.  Out: tensors.

    >>> import spiraltorch as st
    >>> st.logspace(0, 2, 3), st.frombuffer(bytearray(4), dtype=st.int16)
    (tensor([  1.,  10., 100.]), tensor([0, 0], dtype=torch.int16))
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes
from .creation import (
    as_tensor,
    empty,
    from_dlpack,
    from_numpy,
    full,
    made,
    no_more,
    ones,
    size_of,
    tensor,
    type_or,
    zeros,
)
from .dtypes import DType
from .errors import SpiralError
from .layouts import as_strided
from .ops.registry import OPS
from .tensor import Tensor
from .writes import refuse_own_overlap

__all__ = [
    "asarray", "bartlett_window", "blackman_window", "empty_permuted", "empty_strided", "frombuffer", "hamming_window",
    "hann_window", "kaiser_window", "logspace", "range", "scalar_tensor", "tril_indices", "triu_indices",
]  # fmt: skip


def _factory(name: str) -> Callable[..., Tensor]:
    """``st.name`` of a record that takes numbers alone: torch's keyword arguments added."""
    body = OPS[name].body

    def apply(
        *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kwargs: Any
    ) -> Tensor:
        options: dict[str, Any] = {k: kwargs.pop(k) for k in ("layout", "pin_memory") if k in kwargs}
        no_more(name, options)
        args = tuple([a.item() if isinstance(a, Tensor) else a for a in args])
        d = None if dtype is None else type_or(dtype, None)
        node = body(*args, **kwargs) if d is None else body(*args, dtype=d, **kwargs)
        return made(node, device, requires_grad)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = OPS[name].doc
    return apply


logspace = _factory("logspace")
tril_indices, triu_indices = _factory("tril_indices"), _factory("triu_indices")
hann_window, hamming_window, blackman_window, bartlett_window, kaiser_window = (
    _factory(f"{name}_window") for name in ("hann", "hamming", "blackman", "bartlett", "kaiser")
)


def range(start: float, end: float | None = None, step: float = 1, **kwargs: Any) -> Tensor:
    """``start, start + step, ...`` up to ``end``, which is included, in the default type (torch.range)."""
    from .creation import arange

    if end is None:
        start, end = 0, start
    if step == 0:
        raise SpiralError("step must be nonzero")
    if (end - start) / step < 0:
        raise SpiralError("upper bound and lower bound inconsistent with step sign")
    count = math.floor((end - start) / step) + 1
    kwargs.setdefault("dtype", dtypes.get_default_dtype())
    return arange(start, start + step * (count - 0.5), step, **kwargs)


def asarray(
    obj: Any, *, dtype: DType | None = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """Anything as a tensor, over its memory where possible and ``copy`` allows (torch.asarray).

    Raises ValueError when ``copy`` is False and a copy is needed.
    """
    shares = isinstance(obj, (Tensor, np.ndarray)) or hasattr(obj, "__dlpack__")
    if isinstance(obj, (bytes, bytearray, memoryview)):
        t, shares = frombuffer(obj, dtype=dtype or dtypes.uint8), True
    elif isinstance(obj, (Tensor, np.ndarray)):
        t = as_tensor(obj)
    elif isinstance(obj, np.generic) or not shares:
        t, shares = tensor(obj, dtype=dtype), False
    else:
        t = from_dlpack(obj)
    changed = dtype is not None and t.dtype is not dtype
    if copy is False and (changed or not shares):
        raise ValueError("can't alias arbitrary sequence or change its type: copy=False asks for the same memory")
    t = t.to(dtype) if changed else t
    t = t.to(device) if device is not None else t
    if copy and shares and not changed:
        t = t.detach().clone()
    elif t.requires_grad or requires_grad:
        t = t.detach()
    return t.requires_grad_() if requires_grad else t


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor over the bytes of ``buffer``, from ``offset`` bytes on (torch.frombuffer).

    Raises ValueError where the bytes do not fit.
    """
    size, d = memoryview(buffer).nbytes, type_or(dtype, None)
    if not size or not count:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1")
    left = size - offset
    if count < 0:
        if left % d.itemsize:
            raise ValueError(
                f"buffer length ({left} bytes) after offset ({offset} bytes) must be a multiple of element size ({d.itemsize})"
            )
        count = left // d.itemsize
    elif count * d.itemsize > left:
        raise ValueError(
            f"requested buffer length ({count} * {d.itemsize} bytes) after offset ({offset} bytes) must not be greater than actual "
            f"buffer length ({size} bytes)"
        )
    t = from_numpy(np.frombuffer(buffer, d.np, count, offset))
    return t.requires_grad_() if requires_grad else t


def scalar_tensor(s: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a 0-d tensor of the default type (torch.scalar_tensor)."""
    return tensor(s, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


def empty_strided(
    size: Any, stride: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **options: Any
) -> Tensor:
    """A tensor of such sizes and strides; its content is 0 here (torch.empty_strided)."""
    no_more("empty_strided", options)
    shape, strides = size_of((tuple(size),)), tuple([int(s) for s in stride])
    if len(shape) != len(strides):
        raise SpiralError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides ({len(strides)})")
    total = 0 if 0 in shape else 1 + sum([(n - 1) * s for n, s in zip(shape, strides)])
    t = as_strided(empty(max(total, 0), dtype=dtype, device=device), shape, strides)
    return t.requires_grad_() if requires_grad else t


def empty_permuted(size: Any, physical_layout: Any, **kwargs: Any) -> Tensor:
    """A tensor whose axes lie in memory in the order ``physical_layout``; its content is 0 here (torch.empty_permuted)."""
    shape, order = tuple(size), [int(i) for i in physical_layout]
    if sorted(order) != list(np.arange(len(shape))):
        raise SpiralError(f"empty_permuted: expected a permutation of the {len(shape)} dimensions, but got {order}")
    grad = kwargs.pop("requires_grad", False)
    t = empty([shape[i] for i in order], **kwargs).permute([order.index(i) for i in np.arange(len(shape)).tolist()])
    return t.requires_grad_() if grad else t


def into(factory: Callable[..., Tensor], typed: bool) -> Callable[..., Tensor]:
    """``factory`` with torch's ``out=``: a tensor that takes the result's size and values, and with ``typed`` says its type.

    Raises RuntimeError for a tensor of another type than the result's.
    """

    @functools.wraps(factory)
    def apply(*args: Any, out: Tensor | None = None, **kwargs: Any) -> Tensor:
        if out is None:
            return factory(*args, **kwargs)
        if typed and kwargs.get("dtype") is None:
            kwargs["dtype"] = out.dtype
        refuse_own_overlap(out)
        found = factory(*args, **kwargs)
        if found.dtype is not out.dtype:
            raise SpiralError(f"dtype {found.dtype.name} does not match dtype of out parameter ({out.dtype.name})")
        return out.resize_(tuple(found.shape)).copy_(found)  # type: ignore[no-any-return]

    return apply


#: functions that take ``out=``, and whether it says the type
OUT: dict[str, bool] = {
    **dict.fromkeys(("arange", "linspace", "logspace", "range", "eye", "full", "zeros", "ones", "empty", "rand", "randn", "randint"), True),
    **dict.fromkeys(("randperm", "normal"), True), **dict.fromkeys(("multinomial", "bernoulli"), False),
}  # fmt: skip


# -- after a tensor -------------------------------------------------------------------------------------


def _new(name: str, factory: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        for option in ("dtype", "device"):
            if kwargs.get(option) is None:
                kwargs[option] = getattr(self, option)
        return factory(*args, **kwargs)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"{factory.__doc__}  Type and device are this tensor's unless given."
    return method


def _new_empty_strided(self: Tensor, size: Any, stride: Any, **kwargs: Any) -> Tensor:
    """:func:`empty_strided` of this tensor's type and device (torch.Tensor.new_empty_strided)."""
    return empty_strided(size, stride, **{"dtype": self.dtype, "device": self.device, **kwargs})


def _new_any(self: Tensor, *args: Any) -> Tensor:
    """A tensor of this one's type from sizes or data, as old code writes it (torch.Tensor.new)."""
    from .interop import legacy_new

    return legacy_new(self.dtype, args)


METHODS: dict[str, Any] = {
    f"new_{name}": _new(f"new_{name}", factory)
    for name, factory in (("zeros", zeros), ("ones", ones), ("empty", empty), ("full", full), ("tensor", tensor))
} | {"new_empty_strided": _new_empty_strided, "new": _new_any}
