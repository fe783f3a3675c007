"""``x[index]`` and ``x[index] = value``: basic indices are views, tensors and masks gather and scatter."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import again, dtypes
from .creation import from_numpy, tensor
from .device import CPU
from .dispatch import call, view_of, write_result
from .errors import ShapeError, SpiralError
from .ir import graph
from .ops.registry import OPS
from .storage import Step
from .tape import mode
from .tensor import Tensor
from .writes import refuse_leaf_write, refuse_overlap, write


def _as_tuple(index: Any) -> list[Any]:
    """The parts of an index, each None, ``...``, a bool, an integer, a slice or a tensor.

    A list is one index of many positions, but one that holds sequences, slices, None or tensors is a tuple, as in old NumPy.
    """
    if isinstance(index, tuple) or (_is_sequence(index) and len(index) < 32 and any([_is_part(i) for i in index])):
        return [_part(i) for i in index]
    return [_part(index)]


def _is_sequence(i: Any) -> bool:
    return isinstance(i, Sequence)


def _is_part(i: Any) -> bool:
    return i is None or i is Ellipsis or isinstance(i, (slice, Tensor, np.ndarray)) or _is_sequence(i)


def _part(i: Any) -> Any:
    """One part of an index: sequences and arrays as tensors of int64 or bool, a uint8 tensor as a mask, as in old code."""
    if isinstance(i, np.ndarray):
        i = from_numpy(i if i.dtype in (np.bool_, np.uint8) else i.astype(np.int64, copy=False)) if i.dtype.kind in "buif" else tensor(i)
    elif _is_sequence(i):
        i = _positions(i)
    if not isinstance(i, Tensor):
        return i
    if i.dtype is dtypes.uint8:
        warnings.warn("indexing with dtype uint8 is deprecated, use bool instead", UserWarning, stacklevel=6)
        i = i.to(dtypes.bool_)
    return bool(i.item()) if i.dtype is dtypes.bool_ and not i.ndim else i


def _positions(values: Sequence[Any]) -> Tensor:
    """A sequence of positions or truth values.  Raises TypeError for anything else in it."""
    try:
        if isinstance(values, (str, bytes)):
            raise ValueError(f"invalid data type {type(values).__name__!r}")
        t = tensor(list(values))
    except (ValueError, SpiralError) as e:
        raise TypeError(f"an index must be of integers, or of bools for a mask: {e}") from None
    if t.dtype.is_complex:
        raise TypeError("'complex' object cannot be interpreted as an integer")
    return t if t.dtype is dtypes.bool_ else t.to(dtypes.int64)


def _is_advanced(i: Any) -> bool:
    return isinstance(i, bool) or (isinstance(i, Tensor) and (i.ndim > 0 or i.dtype.category > dtypes.INT))


def _expand_ellipsis(index: list[Any], rank: int) -> list[Any]:
    used = 0
    for i in index:
        if i is not None and i is not Ellipsis and not isinstance(i, bool):
            used += i.ndim if isinstance(i, Tensor) and i.dtype is dtypes.bool_ else 1
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    dots = [k for k, i in enumerate(index) if i is Ellipsis]
    if dots:  # those after the first stand for no axis, as long as nothing comes after them
        if dots[1:] and used < rank and any([i is not Ellipsis for i in index[dots[1] :]]):
            raise IndexError("an index can only have a single ellipsis ('...')")
        return [*index[: dots[0]], *[slice(None)] * (rank - used), *[i for i in index[dots[0] :] if i is not Ellipsis]]
    return [*index, *[slice(None)] * (rank - used)]


def _slice_range(s: slice, size: int) -> tuple[int, int, int]:
    step = 1 if s.step is None else operator.index(s.step)
    if step <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, _ = slice(_number(s.start), _number(s.stop), step).indices(size)
    return start, max(start, stop), step


def _number(v: Any) -> int | None:
    if v is None:
        return None
    try:
        return operator.index(v)
    except TypeError:
        raise TypeError("slice indices must be integers or None or have an __index__ method") from None


def parse(x: Tensor, index: list[Any]) -> tuple[list[Step], list[Any] | None]:
    """Movement steps of the basic part, and per resulting axis a tensor or None (None: nothing advanced).

    Raises IndexError for what is out of range, too many, or no index.
    """
    parts = _expand_ellipsis(index, x.ndim)
    shape = tuple(x.shape)
    ranges: list[tuple[int, int, int]] = []
    keep: list[Any] = []  # per output axis: 'axis' (a size), None (new), or an advanced index
    axis = 0
    for i in parts:
        if i is None:
            keep.append(None)
            continue
        if isinstance(i, bool):
            keep.append(("advanced", i, -1))
            continue
        if isinstance(i, slice):
            ranges.append(_slice_range(i, shape[axis]))
            keep.append("axis")
            axis += 1
            continue
        if _is_advanced(i):
            t = i
            if t.dtype not in (dtypes.bool_, dtypes.int32, dtypes.int64):
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
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
            n = operator.index(i)
        except TypeError:
            raise IndexError(
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
                sizes.append(lengths[at])
                advanced.append(t)
                at += 1
    if tuple(sizes) != tuple(lengths):
        steps.append(("RESHAPE", tuple(sizes)))
    return steps, advanced if any(a is not None for a in advanced) else None


def _index_tensor(i: np.ndarray) -> Tensor:
    return tensor(i)


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
    steps, advanced = parse(x, _as_tuple(index))
    if key is not None:
        again.indices.learn(key, key, tuple(steps))
    view = view_of(x, steps, "slice") if steps or advanced is None else x
    if advanced is None:
        return view
    advanced = _on(x, advanced)
    return call(OPS["index_tensors"], (view, advanced))  # type: ignore[no-any-return]


def _number_to_write(value: Any, x: Tensor) -> Tensor:
    if not isinstance(value, (bool, int, float, complex, np.integer)):
        raise TypeError(f"can't assign a {type(value).__name__} to a {x.type()}; make it a tensor first")
    if isinstance(value, complex) and not x.dtype.is_complex:
        value = dtypes.fitting(value, x.dtype).real
    if isinstance(value, int) and not -1 << 63 <= value < 1 << 63:
        raise ValueError("Overflow when unpacking long long: the integer has more than 64 bits")
    dtypes.fitting(value, x.dtype.acc)
    return tensor(value, dtype=x.dtype)


def _is_one_mask(parts: list[Any]) -> bool:
    masks = [i for i in parts if _is_advanced(i)]
    return len(masks) == 1 and isinstance(masks[0], Tensor) and masks[0].dtype is dtypes.bool_


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Write ``value`` (a number, or a tensor that broadcasts) to the indexed elements."""
    if mode.enabled:
        refuse_leaf_write(x)
    parts = _as_tuple(index)
    steps, advanced = parse(x, parts)
    view = view_of(x, steps, "slice") if steps else x
    if not isinstance(value, Tensor):
        value = _number_to_write(value, x)
    value = value.to(x._storage.device)
    if advanced is not None and value.numel() == 1 and _is_one_mask(parts):
        value = value.reshape(()).to(x.dtype)
    if advanced is None:
        value = value.to(x.dtype)
    else:
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
