"""Tensors from outside: Python data, NumPy, DLPack; factories; conversion between types and devices."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np

from . import dtypes
from .device import CPU, device, place
from .dtypes import DType
from .errors import SpiralError
from .ir import graph
from .ir.node import cast
from .ops.parts import strided_steps
from .ops.registry import OPS
from .runtime import buffers
from .storage import Storage, check_room, queue
from .tensor import Size, Tensor, from_node, tensor_over


def over_array(a: np.ndarray, where: device = CPU) -> Tensor:
    """A tensor over memory of its own on ``where`` that holds the values of a C-contiguous array."""
    d = dtypes.from_numpy_dtype(a.dtype)
    b = buffers.allocate(a.nbytes)
    if a.size:
        buffers.as_numpy(b, a.dtype, a.shape)[...] = a
    if where is not CPU:
        from .runtime.devices import copied

        b = copied(b, where, a.nbytes)
    return from_node(graph.buffer(b, tuple(a.shape), d), where)


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    if isinstance(data, (np.ndarray, np.generic)):
        a = np.asarray(data)
        if a.dtype.kind in _NO_NUMBERS:
            dtypes.from_numpy_dtype(a.dtype)  # says which types there are
    else:
        kinds: set[Any] = set()
        plain = _plain(data, kinds)
        a = np.array(plain)
        if a.dtype.kind in _NO_NUMBERS:
            _refuse(plain, isinstance(plain, list))
        a = _fitting(a, dtype or _of_python_data(a, kinds))
    if dtype is not None and a.dtype != dtype.np:
        a = a.astype(dtype.np)
    return np.ascontiguousarray(a).reshape(a.shape)


_NO_NUMBERS = "OUSMm"


def _plain(data: Any, kinds: set[Any]) -> Any:
    """``data`` with tensors as numbers; ``kinds`` gets the Python types of the numbers and the types of arrays in it."""
    if isinstance(data, (list, tuple)):
        return [_plain(x, kinds) for x in data]
    if isinstance(data, Tensor):
        if data.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        kinds.add(data.dtype)
        return data.item()
    kinds.add(data.dtype if isinstance(data, (np.ndarray, np.generic)) else type(data))
    return data


def _refuse(data: Any, first: bool = True) -> None:
    """Raise what torch raises for the first thing in ``data`` that is no number; huge integers are numbers."""
    if isinstance(data, list):
        for i, x in enumerate(data):
            _refuse(x, first and i == 0)
    elif isinstance(data, str) and first:
        raise ValueError("too many dimensions 'str'")
    elif isinstance(data, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'")
    elif not isinstance(data, (int, float, complex, np.generic, np.ndarray)):
        raise SpiralError(f"Could not infer dtype of {type(data).__name__}")


def _type_of(kind: Any) -> DType:
    if isinstance(kind, DType):
        return kind
    if isinstance(kind, np.dtype):
        return dtypes.from_numpy_dtype(kind)
    return dtypes.of_python(next(base for base in (bool, int, float, complex) if issubclass(kind, base))())


def _of_python_data(a: np.ndarray, kinds: set[Any]) -> DType:
    """The type of numbers of these kinds: NumPy's and tensors' own, promoted, where there are such, else of Python's."""
    if any([isinstance(k, (DType, np.dtype)) for k in kinds]) and a.dtype.kind != "O":
        return functools.reduce(dtypes.promote_types, [_type_of(k) for k in kinds])
    if a.dtype.kind == "O" or a.dtype == np.uint64:
        raise ValueError("Overflow when unpacking long long: integers beyond 64 bits need a dtype")
    if a.dtype == np.float64:
        return dtypes.get_default_dtype()
    return dtypes.of_python(1j) if a.dtype == np.complex128 else dtypes.from_numpy_dtype(a.dtype)


def _fitting(a: np.ndarray, d: DType) -> np.ndarray:
    """``a`` converted to ``d``.  Raises RuntimeError for numbers that an integer type cannot hold."""
    if d.kind in "iu" and a.size:
        if d is not dtypes.uint64 and a.dtype in (np.uint64, np.object_):
            raise ValueError(f"Overflow when unpacking long long: integers beyond 64 bits do not fit {d.name}")
        high = int(np.iinfo(d.np).max)
        low = int(np.iinfo(d.np).min) or -high
        if not (a.min() >= low and a.max() <= high):
            raise SpiralError(f"value cannot be converted to type {d.name} without overflow")
    with np.errstate(over="ignore"):
        return a if a.dtype == d.np else a.astype(d.np)


def tensor(
    data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A tensor that copies ``data``: numbers, nested sequences, arrays, tensors (torch.tensor).

    Python floats become the default type, integers int64.  Raises ValueError for ragged data and
    RuntimeError for objects that are no numbers and for numbers that ``dtype`` cannot hold.
    """
    if dtype is not None:
        dtype = type_or(dtype, None)
    if isinstance(data, Tensor):
        t = from_node(graph.copy(data._read()), data.device)
        if dtype is not None and dtype is not data.dtype:
            t = from_node(cast(data._read(), dtype), data.device)
    elif isinstance(data, np.ndarray) and data.ndim and not data.flags.c_contiguous:
        t = _lying_as(data, dtype)
    else:
        t = over_array(_array_of(data, dtype))
    if device is not None:
        t = t.to(device)
    return t.requires_grad_() if requires_grad else t


def _lying_as(array: np.ndarray, dtype: DType | None) -> Tensor:
    """A copy whose axes lie in the order of the array's."""
    from .ordering import laid

    refuse_negative(array)
    order = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
    t = over_array(_array_of(array.transpose(order), dtype))
    return t if order == tuple(range(array.ndim)) else laid(t, order)


def refuse_negative(array: np.ndarray) -> None:
    """Raise ValueError for strides that tensors do not have."""
    if any(s < 0 for s in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently supported. (You can probably work around this by making a copy of your array with array.copy().)"
        )


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where possible (torch.as_tensor)."""
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data.to(dtype=type_or(dtype, None) or data.dtype, device=device or data.device)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over the array's memory; writes on either side are seen on the other (torch.from_numpy).

    Arrays with negative strides are refused, as torch does; other strides are views.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    d = dtypes.from_numpy_dtype(array.dtype)
    refuse_negative(array)
    if array.size == 0:
        return over_array(array)
    root = array
    while isinstance(root.base, np.ndarray) and not root.flags.forc:
        root = root.base
    steps = _steps_to(array, root) if root.flags.forc and root.dtype == array.dtype else None
    if steps is None:
        return over_array(np.ascontiguousarray(array))
    b, _ = buffers.from_numpy(root)
    cell = Storage(graph.buffer(b, root.shape if not steps else (root.size,), d), CPU)
    return tensor_over(cell, steps)


def _steps_to(array: np.ndarray, root: np.ndarray) -> list[Any] | None:
    """Movement steps from the flat elements of ``root`` (of either order) to ``array``; None if there are none."""
    if array.flags.c_contiguous and array.size == root.size:
        return [] if array.shape == root.shape else [("RESHAPE", tuple(array.shape))]
    size = array.itemsize
    if any(s % size for s in array.strides):
        return None
    offset = (array.__array_interface__["data"][0] - root.__array_interface__["data"][0]) // size
    return strided_steps(root.size, array.shape, [s // size for s in array.strides], offset)


def from_dlpack(other: Any) -> Tensor:
    """A tensor over the memory of any object with ``__dlpack__``, without a copy, on the device where it is.

    bfloat16 tensors of torch come through as well.
    """
    if hasattr(other, "__dlpack_device__") and other.__dlpack_device__()[0] != 1:
        from .transfer import import_device

        return import_device(other)
    name = getattr(getattr(other, "dtype", None), "__str__", lambda: "")()
    if name.endswith("bfloat16") and hasattr(other, "view") and not isinstance(other, np.ndarray):
        import sys

        import ml_dtypes

        torch = sys.modules["torch"]
        return from_numpy(np.from_dlpack(other.view(torch.int16)).view(ml_dtypes.bfloat16))
    a = np.from_dlpack(other)
    return from_numpy(a)


# -- factories -----------------------------------------------------------------------------------------


#: Python's types as torch reads them where a dtype is asked for
OF_PYTHON: dict[Any, DType] = {float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool_, complex: dtypes.complex128}


def type_or(dtype: Any, default: Any) -> DType:
    """The type a caller asked for, Python's ``float`` among them, else ``default``.  Raises TypeError for what is no type."""
    if dtype is None:
        return default  # type: ignore[no-any-return]
    if isinstance(dtype, type) and dtype in OF_PYTHON:
        return OF_PYTHON[dtype]
    if not isinstance(dtype, DType):
        raise TypeError(f"dtype must be a spiraltorch.dtype such as spiraltorch.float32, not {dtype!r}")
    return dtype


_LAYOUT = frozenset(("layout", "pin_memory", "memory_format"))


def no_more(name: str, options: dict[str, Any]) -> None:
    """Accept torch's options about layouts that do not exist here; refuse others."""
    for option in options:
        if option not in _LAYOUT:
            raise TypeError(f"{name}() got an unexpected keyword argument {option!r}")


def size_of(size: Sequence[Any]) -> tuple[int, ...]:
    """(2, 3) from ``f(2, 3)``, ``f((2, 3))`` or a Size.  Raises RuntimeError for a negative size."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    try:
        out = tuple([index(s) for s in size])
    except TypeError:
        raise TypeError(f"a size must be a tuple of ints, not {size!r}") from None
    if any(s < 0 for s in out):
        raise SpiralError(f"Trying to create tensor with negative dimension {min(out)}: {list(out)}")
    return out


def filled(value: Any, shape: tuple[int, ...], d: DType, where: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one number."""
    return made(graph.full(dtypes.fitting(value, d), shape, d), where, requires_grad)


def made(node: Any, where: Any = None, requires_grad: bool = False) -> Tensor:
    """The tensor of a factory's node, with torch's keyword arguments applied."""
    from .dispatch import _mark

    check_room(node)
    t = from_node(node, CPU if where is None else place(where))
    _mark(node)
    return t.requires_grad_() if requires_grad else t


def full(
    size: Any, fill_value: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **options: Any
) -> Tensor:
    """A tensor of ``size`` filled with a number (torch.full).  Raises RuntimeError for one that ``dtype`` cannot hold."""
    no_more("full", options)
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    if isinstance(size, int):
        raise TypeError("full(): argument 'size' (position 1) must be tuple of ints, not int")
    shape = size_of((tuple(size),))
    d = type_or(dtype, dtypes.of_python(fill_value))
    return filled(fill_value, shape, d, device, requires_grad)


def _filled(name: str, value: int) -> Callable[..., Tensor]:
    def factory(*shape: Any, size: Any = (), dtype: Any = None, device: Any = None, requires_grad: bool = False, **options: Any) -> Tensor:
        no_more(name, options)
        d = type_or(dtype, dtypes.get_default_dtype())
        found = size_of(shape or size)
        if "memory_format" not in options:
            return filled(value, found, d, device, requires_grad)
        from .layouts import new_in

        return new_in(found, options["memory_format"], lambda lying: filled(value, lying, d, device, requires_grad))

    return factory


zeros, ones, empty = _filled("zeros", 0), _filled("ones", 1), _filled("empty", 0)
for _f, _name, _doc in (
    (zeros, "zeros", "A tensor filled with 0 (torch.zeros)."),
    (ones, "ones", "A tensor filled with 1 (torch.ones)."),
    (empty, "empty", "A tensor to be written; its content is 0 here (torch.empty)."),
):
    _f.__name__ = _f.__qualname__ = _name
    _f.__doc__ = _doc


def _like(name: str, value: int) -> Callable[..., Tensor]:
    def factory(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **options: Any) -> Tensor:
        refuse_no_tensor(name, input)
        d = type_or(dtype, input.dtype)

        def make(shape: tuple[int, ...]) -> Tensor:
            return filled(value, shape, d, device or input.device, requires_grad)

        return like(name, input, options, make)

    return factory


def refuse_no_tensor(name: str, input: Any) -> None:
    """Raise torch's TypeError for an argument that is no tensor."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")


def like(name: str, input: Tensor, options: dict[str, Any], make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """``make(shape)`` in the shape of ``input``, and in its order of memory or that of the option ``memory_format``."""
    no_more(name, options)
    refuse_no_tensor(name, input)
    if not input._steps and "memory_format" not in options:
        return make(tuple(input.shape))
    from .layouts import new_like, preserve_format

    return new_like(input, options.get("memory_format", preserve_format), make)


zeros_like, ones_like, empty_like = _like("zeros_like", 0), _like("ones_like", 1), _like("empty_like", 0)


def full_like(input: Tensor, fill_value: Any, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """A tensor of the shape and type of ``input`` filled with a number (torch.full_like)."""
    layout = {k: kwargs.pop(k) for k in _LAYOUT if k in kwargs}

    def make(shape: tuple[int, ...]) -> Tensor:
        return full(shape, fill_value, **{"dtype": dtype or input.dtype, "device": input.device, **kwargs})

    return like("full_like", input, layout, make)


def arange(
    start: Any = None, end: Any = None, step: Any = 1, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False,
    **options: Any,
) -> Tensor:
    """``start, start + step, ...`` below ``end`` (torch.arange); int64 for integers, else the default type."""
    no_more("arange", options)
    if end is None:
        if start is None:
            raise TypeError("arange() missing 1 required positional argument: 'end'")
        start, end = None, start
    start = 0 if start is None else start
    start, end, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step))
    return made(OPS["arange"].body(start, end, step, dtype=type_or(dtype, None)), device, requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **options: Any
) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included (torch.linspace)."""
    no_more("linspace", options)
    start, end = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end))
    return made(OPS["linspace"].body(start, end, index(steps), dtype=type_or(dtype, None)), device, requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **options: Any
) -> Tensor:
    """Ones on the diagonal (torch.eye)."""
    no_more("eye", options)
    n, m = index(n), None if m is None else index(m)
    for k in (n, m):
        if k is not None and k < 0:
            raise SpiralError(f"n must be greater or equal to 0, got {k}")
    return made(OPS["eye"].body(n, m, dtype=type_or(dtype, None)), device, requires_grad)


# -- conversion ----------------------------------------------------------------------------------------


def convert(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, copy: bool = False, **options: Any) -> Tensor:
    """``Tensor.to``."""
    from .device import device as Device

    flags: list[bool] = []  # non_blocking and copy
    for a in args:
        if isinstance(a, DType) or (isinstance(a, type) and a in OF_PYTHON):
            dtype = type_or(a, None)
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, bool):
            flags.append(a)
        elif a is None or isinstance(a, (str, Device, int)):
            device = a
        else:
            raise TypeError(f"to() received an invalid argument of type {type(a).__name__}")
    copy = copy or any(flags[1:])
    dtype = type_or(dtype, None)
    out = self
    if dtype is not None and self.dtype.is_complex and not dtype.is_complex and dtype is not dtypes.bool_:
        warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3)
    if dtype is not None and dtype is not self.dtype:
        from .layouts import kept_order

        out = kept_order(OPS["to_dtype"], self, dtype)
    elif copy:
        from .layouts import kept_order

        out = kept_order(OPS["clone"], self)
    if device is not None:
        where = place(device)
        if where is not out._storage.device:
            from .transfer import move

            out = move(out, where)
    if "memory_format" in options:
        from .layouts import formatted

        return formatted(out, options["memory_format"])
    return out


__all__ = ["Size", "Storage", "queue"]
