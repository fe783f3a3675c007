"""A tensor among Python's and NumPy's objects: what their operators, copies and pickles ask of it, and torch's old type names.

In: arrays, numbers, sizes.  Out: tensors.

    >>> import numpy as np, spiraltorch as st
    >>> np.float64(2) * st.ones(2), np.sqrt(st.ones(2)), 3 in st.arange(3)
    (tensor([2., 2.]), tensor([1., 1.]), False)
    >>> st.LongTensor([1, 2]), isinstance(st.ones(2), st.FloatTensor)
    (tensor([1, 2]), True)
"""

from __future__ import annotations

import copy
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import dtypes
from .creation import empty, from_numpy, over_array, tensor
from .device import place
from .dtypes import DType
from .errors import SpiralError
from .tensor import Size, Tensor, tensor_over

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


def _delete(self: Tensor, index: Any) -> None:
    raise TypeError("Tensor does not support deleting items")


def _reversed(self: Tensor) -> Tensor:
    """This tensor flipped along its first axis (torch.Tensor.__reversed__)."""
    return self.flip(0) if self.ndim else self


# -- copies ---------------------------------------------------------------------------------------------------


def sharing(x: Tensor) -> Tensor:
    """What ``copy.copy`` gives: another tensor over the same memory, a leaf."""
    t = x.detach()
    t.__class__, t._requires_grad = type(x), x._requires_grad
    t.__dict__.update(_of_the_user(x))
    return t


def deepcopied(x: Tensor, memo: dict[int, Any]) -> Tensor:
    """What ``copy.deepcopy`` gives: tensors that share memory share its copy.  Raises RuntimeError for what is no leaf."""
    if x._history() is not None:
        raise SpiralError("Only Tensors created explicitly by the user support the deepcopy protocol at the moment")
    cell = memo.get(id(x._storage))
    if cell is None:
        whole = tensor_over(x._storage, ())
        cell = memo[id(x._storage)] = over_array(np.array(whole._values()), x.device)._storage
    t = memo[id(x)] = tensor_over(cell, x._steps)
    t.__class__, t._requires_grad = type(x), x._requires_grad
    t._grad = copy.deepcopy(x._grad, memo)
    t.__dict__.update(copy.deepcopy(_of_the_user(x), memo))
    return t


def _of_the_user(x: Tensor) -> dict[str, Any]:
    return {name: value for name, value in x.__dict__.items() if name not in ("_one_of_many", "_accumulated", "_accumulator", "_end")}


def reduced(x: Tensor, protocol: Any = None) -> Any:
    """What pickle writes: the values in the order in which they lie, and that order."""
    strides, values = x._layout()[0], x._values()
    order = tuple(sorted(range(x.ndim), key=lambda k: -strides[k]))
    state = values.transpose(order).copy(), x.dtype.name, x.requires_grad, type(x), str(x.device), order
    return rebuild_tensor, (*state, own) if (own := _of_the_user(x)) else state


def rebuild_tensor(
    values: np.ndarray, dtype: str, requires_grad: bool, kind: type, where: str = "cpu", order: Sequence[int] = (), own: Any = ()
) -> Tensor:
    """What pickle calls to make a tensor again, on the device it was on, with the attributes that users gave it (``own``)."""
    t = over_array(np.ascontiguousarray(values).reshape(values.shape), place(where))
    if list(order) != sorted(order):
        t = t.permute(*np.argsort(order).tolist())
    t.__class__ = kind
    t._requires_grad = requires_grad
    t.__dict__.update(own)
    return t


METHODS: dict[str, Any] = {
    "__array_priority__": 1000,  # a NumPy scalar on the left leaves the operation to the tensor
    "__array_wrap__": _wrap, "__contains__": _contains, "__reversed__": _reversed,
    "__delitem__": _delete, "__copy__": sharing, "__deepcopy__": deepcopied, "__reduce_ex__": reduced,
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
