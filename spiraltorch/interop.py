"""A tensor among Python's and NumPy's objects: what their operators and functions ask of it, and torch's old type names.

In: arrays, numbers, sizes.  Out: tensors.

    >>> import numpy as np, spiraltorch as st
    >>> np.float64(2) * st.ones(2), np.sqrt(st.ones(2)), 3 in st.arange(3)
    (tensor([2., 2.]), tensor([1., 1.]), False)
    >>> st.LongTensor([1, 2]), isinstance(st.ones(2), st.FloatTensor)
    (tensor([1, 2]), True)
"""

from __future__ import annotations

import numbers
import operator
from typing import Any

import numpy as np

from . import dtypes
from .creation import empty, from_numpy, tensor
from .dtypes import DType
from .tensor import Size, Tensor

__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor",
]  # fmt: skip

#: torch's words for element types, as in LongTensor
TYPE_NAMES = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "float16": "Half",
    "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "complex64": "ComplexFloat",
    "complex128": "ComplexDouble", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
}  # fmt: skip


# -- operators ------------------------------------------------------------------------------------------------


def _wrap(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
    """A NumPy function's result as a tensor; truth values are uint8 (torch.Tensor.__array_wrap__)."""
    array = np.asarray(array)
    return from_numpy(array.astype(np.uint8) if array.dtype == np.bool_ else array)


def _contains(self: Tensor, element: Any) -> bool:
    """Whether any element equals a number or (broadcast) a tensor.  Raises RuntimeError for anything else."""
    if not isinstance(element, (Tensor, numbers.Number, np.generic)):
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")
    equal: Any = self == element
    return bool(equal.any().item())


def _reversed(self: Tensor) -> Tensor:
    """This tensor flipped along its first axis (torch.Tensor.__reversed__)."""
    return self.flip(0) if self.ndim else self


METHODS: dict[str, Any] = {
    "__array_priority__": 1000,  # a NumPy scalar on the left leaves the operation to the tensor
    "__array_wrap__": _wrap, "__contains__": _contains, "__reversed__": _reversed,
}  # fmt: skip


# -- old type names -------------------------------------------------------------------------------------------


def legacy_new(dtype: DType | None, args: tuple[Any, ...], device: Any = None) -> Tensor:
    """What ``torch.Tensor(...)`` and ``torch.LongTensor(...)`` make: of sizes a tensor with any values, of a sequence or an
    array one of these values, of a tensor the tensor itself.  ``dtype``: None for the default type.

    Raises TypeError for what is none of these, a tensor of another type among it.
    """
    d = dtype or dtypes.get_default_dtype()
    if not args:
        return empty(0, dtype=d, device=device)
    first = args[0]
    if len(args) == 1 and isinstance(first, Tensor):
        if dtype is not None and first.dtype is not dtype:
            raise TypeError(f"expected a tensor of {dtype.name} (got {first.dtype.name}); use .to(st.{dtype.name}) to convert it")
        return first.view(tuple(first.shape))  # type: ignore[no-any-return]
    if isinstance(first, Size):
        return empty(*args, dtype=d, device=device)
    try:
        return empty(tuple([operator.index(n) for n in args]), dtype=d, device=device)
    except TypeError:
        pass
    if len(args) > 1 or isinstance(first, numbers.Number):
        raise TypeError(f"new(): data must be a sequence (got {type(first).__name__})")
    return _of_values(first, d, device)


def _of_values(values: Any, d: DType, device: Any) -> Tensor:
    found = tensor(values if isinstance(values, (list, tuple, str, np.ndarray)) else list(values), device=device)
    if found.dtype.is_complex and not d.is_complex:
        raise TypeError("must be real number, not complex")
    return found.to(d)


class TypedTensor(type):
    """The class of ``st.FloatTensor`` and its like: calling one makes a tensor of its type, and tensors of that type are its
    instances."""

    dtype: DType

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        return legacy_new(cls.dtype, args, device)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dtype is cls.dtype


class BoolTensor(metaclass=TypedTensor):
    """Tensors of bool."""

    dtype = dtypes.bool_


class ByteTensor(metaclass=TypedTensor):
    """Tensors of uint8."""

    dtype = dtypes.uint8


class CharTensor(metaclass=TypedTensor):
    """Tensors of int8."""

    dtype = dtypes.int8


class ShortTensor(metaclass=TypedTensor):
    """Tensors of int16."""

    dtype = dtypes.int16


class IntTensor(metaclass=TypedTensor):
    """Tensors of int32."""

    dtype = dtypes.int32


class LongTensor(metaclass=TypedTensor):
    """Tensors of int64."""

    dtype = dtypes.int64


class HalfTensor(metaclass=TypedTensor):
    """Tensors of float16."""

    dtype = dtypes.float16


class BFloat16Tensor(metaclass=TypedTensor):
    """Tensors of bfloat16."""

    dtype = dtypes.bfloat16


class FloatTensor(metaclass=TypedTensor):
    """Tensors of float32."""

    dtype = dtypes.float32


class DoubleTensor(metaclass=TypedTensor):
    """Tensors of float64."""

    dtype = dtypes.float64
