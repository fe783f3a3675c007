"""Tensors from outside: Python data, NumPy, DLPack; factories; conversion between types and devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import dtypes
from .device import CPU, device
from .dtypes import DType
from .errors import OutOfMemoryError, SpiralError
from .ir import graph
from .ir.node import cast
from .ops.registry import OPS
from .runtime import buffers
from .storage import Storage, queue
from .tensor import Size, Tensor, from_node, tensor_over


def over_array(a: np.ndarray) -> Tensor:
    """A tensor over memory of its own that holds the values of a C-contiguous array."""
    d = dtypes.from_numpy_dtype(a.dtype)
    b = buffers.allocate(a.nbytes)
    if a.size:
        buffers.as_numpy(b, a.dtype, a.shape)[...] = a
    return from_node(graph.buffer(b, tuple(a.shape), d))


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    if isinstance(data, np.ndarray) or isinstance(data, np.generic):
        a = np.asarray(data)
    else:
        a = np.array(_plain(data), dtype=None if dtype is None else dtype.np)
        if dtype is None:
            if a.dtype == np.float64:
                a = a.astype(dtypes.get_default_dtype().np)
            elif a.dtype == np.complex128:
                a = a.astype(np.complex64)
            elif a.dtype == object:
                raise ValueError("expected a rectangular sequence of numbers: rows differ in length or hold other objects")
            elif a.size == 0 and a.dtype == np.float64:
                a = a.astype(dtypes.get_default_dtype().np)
    if dtype is not None and a.dtype != dtype.np:
        a = a.astype(dtype.np)
    return np.ascontiguousarray(a).reshape(a.shape)


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data._values()
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    return data


def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor that copies ``data``: numbers, nested sequences, arrays, tensors (torch.tensor).

    Python floats become the default type, integers int64.  Raises ValueError for ragged data and
    TypeError for objects that are no numbers.
    """
    if isinstance(data, Tensor):
        t = from_node(graph.copy(data._read()), data.device)
        if dtype is not None and dtype is not data.dtype:
            t = from_node(cast(data._read(), dtype), data.device)
    else:
        t = over_array(_array_of(data, dtype))
    if device is not None:
        t = t.to(device)
    return t.requires_grad_() if requires_grad else t


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where possible (torch.as_tensor)."""
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data.to(dtype=dtype or data.dtype, device=device or data.device)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over the array's memory; writes on either side are seen on the other (torch.from_numpy).

    Arrays with negative strides are refused, as torch does; other strides are views.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    d = dtypes.from_numpy_dtype(array.dtype)
    if any(s < 0 for s in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently supported. (You can probably work around this by making a copy of your array with array.copy().)"
        )
    if not array.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion is not supported.")
    if array.size == 0:
        return over_array(array)
    root = array
    while isinstance(root.base, np.ndarray) and not root.flags.c_contiguous:
        root = root.base
    steps = strided_steps(array, root) if root.flags.c_contiguous and root.dtype == array.dtype else None
    if steps is None:
        return over_array(np.ascontiguousarray(array))
    b, _ = buffers.from_numpy(root)
    cell = Storage(graph.buffer(b, root.shape if not steps else (root.size,), d), CPU)
    return tensor_over(cell, steps)


def strided_steps(array: np.ndarray, root: np.ndarray) -> list[Any] | None:
    """Movement steps from the flat elements of contiguous ``root`` to ``array``; None if there are none.

    Axes are ordered by stride; each lives in a dimension as long as the next larger stride allows.
    """
    if array is root or (array.flags.c_contiguous and array.size == root.size):
        return [] if array.shape == root.shape else [("RESHAPE", tuple(array.shape))]
    size = array.itemsize
    live = [i for i in range(array.ndim) if array.shape[i] > 1 and array.strides[i] != 0]
    order = sorted(live, key=lambda i: -array.strides[i])
    strides = [array.strides[i] // size for i in order]
    if any(array.strides[i] % size for i in order) or any(a % b for a, b in zip(strides, strides[1:])):
        return None
    offset = (array.__array_interface__["data"][0] - root.__array_interface__["data"][0]) // size
    if not order:
        strides = [1]
    first = array.shape[order[0]] if order else 1
    room = first * strides[0]
    start = min(offset, root.size - room)
    if start < 0:
        return None
    rest = offset - start
    dims, ranges = [first], []
    for k, stride in enumerate(strides):
        at, rest = divmod(rest, stride)
        count = array.shape[order[k]] if order else 1
        if at + count > dims[-1]:
            return None
        ranges.append((at, at + count, 1))
        dims.append(stride // strides[k + 1] if k + 1 < len(strides) else stride)
    if dims[-1] > 1:
        ranges.append((rest, rest + 1, 1))
    else:
        dims.pop()
    steps: list[Any] = [("SLICE", ((start, start + room, 1),)), ("RESHAPE", tuple(dims)), ("SLICE", tuple(ranges))]
    place = [k for _, k in sorted((i, k) for k, i in enumerate(order))]
    if len(dims) > len(order):
        place.append(len(order))
    if place != list(range(len(dims))):
        steps.append(("PERMUTE", tuple(place[: len(dims)])))
    sizes = tuple([array.shape[i] if i in live else 1 for i in range(array.ndim)])
    steps.append(("RESHAPE", sizes))
    if sizes != tuple(array.shape):
        steps.append(("EXPAND", tuple(array.shape)))
    return steps


def from_dlpack(other: Any) -> Tensor:
    """A tensor over the memory of any object with ``__dlpack__`` on the CPU, without a copy.

    bfloat16 tensors of torch come through as well.
    """
    name = getattr(getattr(other, "dtype", None), "__str__", lambda: "")()
    if name.endswith("bfloat16") and hasattr(other, "view") and not isinstance(other, np.ndarray):
        import sys

        import ml_dtypes

        torch = sys.modules["torch"]
        return from_numpy(np.from_dlpack(other.view(torch.int16)).view(ml_dtypes.bfloat16))
    a = np.from_dlpack(other)
    return from_numpy(a)


def rebuild_tensor(values: np.ndarray, dtype: str, requires_grad: bool, kind: type) -> Tensor:
    """What pickle calls to make a tensor again."""
    t = over_array(np.ascontiguousarray(values).reshape(values.shape))
    t.__class__ = kind
    t._requires_grad = requires_grad
    return t


# -- factories -----------------------------------------------------------------------------------------


def size_of(size: Sequence[Any]) -> tuple[int, ...]:
    """(2, 3) from ``f(2, 3)``, ``f((2, 3))`` or a Size.  Raises RuntimeError for a negative size."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    out = tuple([int(s) for s in size])
    if any(s < 0 for s in out):
        raise SpiralError(f"Trying to create tensor with negative dimension {min(out)}: {list(out)}")
    return out


def check_room(shape: Sequence[int], d: DType) -> None:
    """Refuse what the machine cannot hold, at the user's line."""
    need = math.prod(shape) * d.itemsize
    if need > buffers.physical_memory():
        raise OutOfMemoryError(
            f"can't allocate memory: a tensor of shape {list(shape)} and type {d.name} needs {need} bytes, "
            f"the machine has {buffers.physical_memory()}"
        )


def made(node: Any, where: Any = None, requires_grad: bool = False) -> Tensor:
    """The tensor of a factory's node, with torch's keyword arguments applied."""
    from .dispatch import _mark

    check_room(node.shape, node.dtype)
    t = from_node(node, CPU if where is None else device(where))
    _mark(node)
    return t.requires_grad_() if requires_grad else t


def full(size: Any, fill_value: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ``size`` filled with a number (torch.full)."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    shape = size_of((size,) if isinstance(size, int) else tuple(size))
    d = dtype or dtypes.of_python(fill_value)
    return made(graph.full(fill_value, shape, d), device, requires_grad)


def _filled(value: int) -> Any:
    def factory(*size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
        return made(graph.full(value, size_of(size), dtype or dtypes.get_default_dtype()), device, requires_grad)

    return factory


zeros, ones, empty = _filled(0), _filled(1), _filled(0)
for _f, _name, _doc in (
    (zeros, "zeros", "A tensor filled with 0 (torch.zeros)."),
    (ones, "ones", "A tensor filled with 1 (torch.ones)."),
    (empty, "empty", "A tensor to be written; its content is 0 here (torch.empty)."),
):
    _f.__name__ = _f.__qualname__ = _name
    _f.__doc__ = _doc


def _like(value: int) -> Any:
    def factory(input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
        return made(graph.full(value, tuple(input.shape), dtype or input.dtype), device or input.device, requires_grad)

    return factory


zeros_like, ones_like, empty_like = _like(0), _like(1), _like(0)


def full_like(input: Tensor, fill_value: Any, *, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """A tensor of the shape and type of ``input`` filled with a number (torch.full_like)."""
    return full(tuple(input.shape), fill_value, dtype=dtype or input.dtype, **kwargs)


def arange(
    start: float, end: float | None = None, step: float = 1, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` below ``end`` (torch.arange); int64 for integers, else the default type."""
    if end is None:
        start, end = 0, start
    if step == 0:
        raise SpiralError("step must be nonzero")
    if (end - start) / step < 0:
        raise SpiralError("upper bound and lower bound inconsistent with step sign")
    n = math.ceil((end - start) / step)
    integral = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    d = dtype or (dtypes.int64 if integral else dtypes.get_default_dtype())
    node = graph.iota((n,), 0)
    if d.kind == "f":
        # Computed in float64 and rounded once, as torch does.
        node = cast(cast(node, dtypes.float64) * float(step) + float(start), d)
    else:
        node = cast(node * int(step) + int(start), d)
    return made(node, device, requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included (torch.linspace)."""
    d = dtype or dtypes.get_default_dtype()
    values = np.linspace(start, end, steps, dtype=np.float64).astype(d.np)
    t = over_array(values)
    if device is not None:
        t = t.to(device)
    return t.requires_grad_() if requires_grad else t


def eye(n: int, m: int | None = None, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal (torch.eye)."""
    from .ir.lang import eq

    shape = (n, n if m is None else m)
    return made(cast(eq(graph.iota(shape, 0), graph.iota(shape, 1)), dtype or dtypes.get_default_dtype()), device, requires_grad)


# -- conversion ----------------------------------------------------------------------------------------


def convert(self: Tensor, *args: Any, dtype: DType | None = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
    """``Tensor.to``."""
    from .device import device as Device

    for a in args:
        if isinstance(a, DType):
            dtype = a
        elif isinstance(a, (str, Device)):
            device = a
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, bool):
            copy = copy or False
        else:
            raise TypeError(f"to() received an invalid argument of type {type(a).__name__}")
    out = self
    if dtype is not None and dtype is not self.dtype:
        from .dispatch import call

        out = call(OPS["to_dtype"], (self, dtype))
    elif copy:
        from .dispatch import call

        out = call(OPS["clone"], (self,))
    if device is not None and Device(device) != out.device:
        from .runtime.transfer import move

        out = move(out, Device(device))
    return out


__all__ = ["Size", "Storage", "queue"]
