"""``x[index]`` and ``x[index] = value``: basic indices are views, tensors and masks gather and scatter."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from . import again, dtypes
from .device import CPU
from .dispatch import call, view_of, write_result
from .errors import ShapeError, SpiralError
from .ir import graph
from .ops.registry import OPS
from .storage import Step
from .tape import mode
from .tensor import Tensor
from .writes import refuse_leaf_write, refuse_overlap, write


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return tuple([_mask(i) for i in index]) if isinstance(index, tuple) else (_mask(index),)


def _mask(i: Any) -> Any:
    """A uint8 tensor or array is a mask, as in old code."""
    if not isinstance(i, (Tensor, np.ndarray)) or i.dtype not in (dtypes.uint8, np.uint8) or not i.ndim:
        return i
    warnings.warn("indexing with dtype uint8 is deprecated, use bool instead", UserWarning, stacklevel=5)
    return i.to(dtypes.bool_) if isinstance(i, Tensor) else i.astype(np.bool_)


def _is_advanced(i: Any) -> bool:
    if isinstance(i, Tensor):
        return i.ndim > 0 or i.dtype is dtypes.bool_
    return isinstance(i, (list, np.ndarray, range)) or isinstance(i, (bool, np.bool_))


def _expand_ellipsis(index: tuple[Any, ...], rank: int) -> list[Any]:
    used = 0
    for i in index:
        if i is None or i is Ellipsis or isinstance(i, (bool, np.bool_)):
            continue
        used += i.ndim if isinstance(i, (Tensor, np.ndarray)) and i.dtype in (dtypes.bool_, np.bool_) and i.ndim > 0 else 1
    if sum(i is Ellipsis for i in index) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    out: list[Any] = []
    for i in index:
        if i is Ellipsis:
            out.extend([slice(None)] * (rank - used))
        else:
            out.append(i)
    if not any(i is Ellipsis for i in index):
        out.extend([slice(None)] * (rank - used))
    return out


def _slice_range(s: slice, size: int) -> tuple[int, int, int]:
    step = 1 if s.step is None else int(s.step)
    if step <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, _ = slice(_number(s.start), _number(s.stop), step).indices(size)
    return start, max(start, stop), step


def _number(v: Any) -> int | None:
    return None if v is None else int(v)


def parse(x: Tensor, index: Any) -> tuple[list[Step], list[Any] | None]:
    """Movement steps of the basic part, and per resulting axis a tensor or None (None: nothing advanced).

    Raises IndexError for what is out of range, too many, or no index.
    """
    parts = _expand_ellipsis(_as_tuple(index), x.ndim)
    shape = tuple(x.shape)
    ranges: list[tuple[int, int, int]] = []
    keep: list[Any] = []  # per output axis: 'axis' (a size), None (new), or an advanced index
    axis = 0
    for i in parts:
        if i is None:
            keep.append(None)
            continue
        if isinstance(i, (bool, np.bool_)):
            keep.append(("advanced", bool(i), -1))
            continue
        if isinstance(i, slice):
            ranges.append(_slice_range(i, shape[axis]))
            keep.append("axis")
            axis += 1
            continue
        if _is_advanced(i):
            t = i if isinstance(i, Tensor) else _index_tensor(i)
            spans = t.ndim if t.dtype is dtypes.bool_ else 1
            keep.append(("advanced", t, axis))
            for k in range(spans):
                if t.dtype is dtypes.bool_ and t.shape[k] != shape[axis + k]:
                    raise IndexError(
                        f"The shape of the mask {list(t.shape)} at index {k} does not match the shape of the indexed "
                        f"tensor {list(shape)} at index {axis + k}"
                    )
                ranges.append((0, shape[axis + k], 1))
            axis += spans
            continue
        try:
            n = i.__index__()
        except (AttributeError, TypeError):
            kind = TypeError if isinstance(i, str) else IndexError
            raise kind(
                f"only integers, slices (`:`), ellipsis (`...`), None and long or bool tensors are valid indices (got {type(i).__name__})"
            ) from None
        if not -shape[axis] <= n < shape[axis]:
            raise IndexError(f"index {n} is out of bounds for dimension {axis} with size {shape[axis]}")
        n %= shape[axis]
        ranges.append((n, n + 1, 1))
        keep.append("drop")
        axis += 1
    steps: list[Step] = []
    if any(r != (0, s, 1) for r, s in zip(ranges, shape)):
        steps.append(("SLICE", tuple(ranges)))
    lengths = [graph.slice_length(r) for r in ranges]
    sizes: list[int] = []
    advanced: list[Any] = []
    at = 0
    for k in keep:
        if k is None:
            sizes.append(1)
            advanced.append(None)
        elif k == "axis":
            sizes.append(lengths[at])
            advanced.append(None)
            at += 1
        elif k == "drop":
            at += 1
        elif k[2] < 0:
            sizes.append(1)
            advanced.append(_index_tensor(np.zeros(int(k[1]), np.int64)))
        else:
            t = k[1]
            if t.dtype is dtypes.bool_:
                found = np.nonzero(t._values())
                sizes.extend(lengths[at : at + t.ndim])
                advanced.extend([_index_tensor(f) for f in found])
                at += t.ndim
            else:
                if t.dtype.category > dtypes.INT:
                    raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
                sizes.append(lengths[at])
                advanced.append(t)
                at += 1
    if tuple(sizes) != tuple(lengths):
        steps.append(("RESHAPE", tuple(sizes)))
    return steps, advanced if any(a is not None for a in advanced) else None


def _index_tensor(i: Any) -> Tensor:
    from .creation import tensor

    t = tensor(np.asarray(i) if not isinstance(i, list) else i)
    if t.numel() == 0 and t.dtype.category > dtypes.INT:
        t = t.to(dtypes.int64)
    return t


def _on(x: Tensor, indices: list[Any]) -> list[Any]:
    """Indices of the host may be used on a device; those of another device may not (torch)."""
    where = x._storage.device
    return [i.to(where) if i is not None and i._storage.device is CPU and where is not CPU else i for i in indices]


def getitem(x: Tensor, index: Any) -> Tensor:
    shape = (x._read() if x._steps else x._storage.node).shape
    key = again.key_of_index(shape, index)
    known = again.indices.get(key)
    if known is not None:
        return view_of(x, known, "slice")
    steps, advanced = parse(x, index)
    if key is not None:
        again.indices.learn(key, key, tuple(steps))
    view = view_of(x, steps, "slice") if steps or advanced is None else x
    if advanced is None:
        return view
    advanced = _on(x, advanced)
    return call(OPS["index_tensors"], (view, advanced))  # type: ignore[no-any-return]


def _number_to_write(value: Any, x: Tensor) -> Tensor:
    from .creation import tensor

    if not isinstance(value, (bool, int, float, complex, np.generic)):
        raise TypeError(f"can't assign a {type(value).__name__} to a {x.type()}; make it a tensor first")
    if isinstance(value, complex) and not x.dtype.is_complex:
        if value.imag:
            raise SpiralError(f"value cannot be converted to type {x.dtype.name} without overflow: {value} is no real number")
        value = value.real
    if isinstance(value, int) and not -1 << 63 <= value < 1 << 63:
        raise ValueError("Overflow when unpacking long long: the integer has more than 64 bits")
    dtypes.fitting(value, x.dtype.acc)
    return tensor(value, dtype=x.dtype)


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Write ``value`` (a number, or a tensor that broadcasts) to the indexed elements."""
    if mode.enabled:
        refuse_leaf_write(x)
    steps, advanced = parse(x, index)
    view = view_of(x, steps, "slice") if steps else x
    if not isinstance(value, Tensor):
        value = _number_to_write(value, x)
    value = value.to(x._storage.device)
    if value.dtype is not x.dtype:
        if value.dtype.is_complex and not x.dtype.is_complex:
            raise SpiralError(f"value of type {value.dtype.name} can't be written to a tensor of type {x.dtype.name}")
        value = value.to(x.dtype)
    if advanced is not None:
        refuse_overlap(view, (value, advanced), True)
        result = call(OPS["index_put"], (view, _on(x, advanced), value))
        write_result(view, result, "index_put_")
        return
    while value.ndim > view.ndim and value.shape[0] == 1:
        value = value[0]
    try:
        wide = value.expand(tuple(view.shape)) if tuple(value.shape) != tuple(view.shape) else value
    except (ShapeError, SpiralError):
        raise ShapeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of shape "
            f"{list(view.shape)}"
        ) from None
    if wide.numel():
        refuse_overlap(view, (wide,))
        write(view, wide._read(), wide, over=True)
