"""Generated Triton kernels run on host memory by Triton's interpreter: a test oracle, not a back end.

    interpret(softmax, [x, out], ints=[4, 7, 7])

Five things of the stock interpreter are replaced while a kernel runs: it only takes tensors of
torch (here: anything with an address), it gets bfloat16 wrong (conversions truncate, products
multiply the bits), it broadcasts the result of comparing two scalars as a number, it folds element
by element in Python (here: halves, as a GPU does), and lanes that a load masks out are 0 (here:
garbage, as they may be on a GPU, so that a forgotten mask shows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock

from ...dtypes import DType, bool_, from_numpy_dtype, int32
from ...ir.kernel import Gemm, Kernel
from .. import reference
from .emit import Tile
from .gemm import GemmTile
from .module import constants, function, plan, programs, source
from .rows import LIBRARY


class _HostExecutor(stock.GridExecutor):
    """Arguments are on the host already: nothing is copied in or out."""

    def _init_args_hst(self, args_dev: Any, kwargs: Any) -> Any:
        return list(args_dev), dict(kwargs)

    def _restore_args_dev(self, *args: Any) -> None:
        pass


class _Pointer:
    """An address and an element type, which is all that a kernel needs of a tensor."""

    def __init__(self, address: int, dtype: DType) -> None:
        self.address = address
        self.dtype = tl.int8 if dtype is bool_ else getattr(tl, dtype.name)

    def data_ptr(self) -> int:
        return self.address


# ---------------------------------------------------------------- libdevice


def _elementwise(f: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*operands: Any) -> Any:
        dtype = operands[0].type.scalar
        data = np.asarray(f(*[o.handle.data for o in operands])).astype(operands[0].handle.data.dtype)
        block = any(o.type.is_block() for o in operands)
        return tl.tensor(stock.TensorHandle(data, dtype), tl.block_type(dtype, list(data.shape)) if block else dtype)

    return apply


def _row(op: str) -> Callable[..., Any]:
    """A library function by its row's definition."""

    def apply(*operands: np.ndarray[Any, Any]) -> Any:
        return reference.apply_row(op, operands, from_numpy_dtype(operands[0].dtype))

    return _elementwise(apply)


_LIBDEVICE = SimpleNamespace(**{name: _row(op) for op, name in LIBRARY.items()})


# ---------------------------------------------------------------- repairs


def _decoded(handle: Any) -> np.ndarray[Any, Any]:
    """The numbers in a handle; bfloat16 is kept as uint16 bits there."""
    is_bf16 = handle.dtype.scalar == tl.bfloat16
    return handle.data.view(ml_dtypes.bfloat16).astype(np.float32) if is_bf16 else handle.data


def _cast(src: Any, target: Any) -> Any:
    data, scalar = _decoded(src), target.scalar
    if scalar == tl.bfloat16:
        bits = data.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
        return stock.TensorHandle(bits, scalar)
    return stock.TensorHandle(data.astype(stock._get_np_dtype(target)), scalar)


def _dot(a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
    product = np.matmul(_decoded(a), _decoded(b), dtype=d.data.dtype)
    return stock.TensorHandle(product + d.data, d.dtype.scalar)


def _splat(result_type: Any, value: Any) -> Any:
    return stock.TensorHandle(np.full(result_type.shape, value.data), value.dtype.scalar)


def _masked_load(pointers: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any) -> Any:
    element = pointers.get_element_ty()
    np_type = stock._get_np_dtype(element)
    if other is None:
        size = pointers.data.size * np_type.itemsize
        garbage = np.full(size, 0xFF, np.uint8).view(np_type)  # nan, or a large or negative integer
        other = stock.TensorHandle(garbage.reshape(pointers.data.shape), element)
    return stock.TensorHandle(stock._interpreter.load(pointers.data, mask.data, other.data, np_type), element)


def _tree_reduce(self: Any, inputs: Any) -> list[Any]:
    """Fold the upper half onto the lower until one element is left."""
    (value,) = inputs
    data, axis = value.handle.data, self.axis
    while (n := data.shape[axis]) > 1:
        low, high = np.split(data, [n // 2], axis)
        halves = [self.to_tensor(np.ascontiguousarray(half), value.dtype) for half in (low, high)]
        data = self.combine_fn.fn(*halves).handle.data
    data = data if self.keep_dims else data.squeeze(axis)
    return [self.to_tensor(data if data.shape else data.item(), value.dtype)]


@contextmanager
def _repaired() -> Iterator[None]:
    builder, folds = stock.interpreter_builder, stock.ReduceOps
    stock_reduce = folds.generic_reduce
    repairs = {"cast_impl": _cast, "create_dot": _dot, "create_splat": _splat, "create_masked_load": _masked_load}
    for name, repair in repairs.items():
        setattr(builder, name, repair)
    folds.generic_reduce = _tree_reduce
    try:
        yield
    finally:
        for name in repairs:
            delattr(builder, name)
        folds.generic_reduce = stock_reduce


def interpret(
    k: Kernel | Gemm,
    arrays: Sequence[np.ndarray[Any, Any]],
    ints: Sequence[int],
    scalars: Sequence[Any] = (),
    tile: Tile | GemmTile | None = None,
) -> None:
    """Run every program over flat host arrays, one per param; outputs are written in place."""
    interpret_at(k, [int(a.ctypes.data) for a in arrays], ints, scalars, tile)


_rewritten: dict[tuple[str, Tile | GemmTile], tuple[Any, Any]] = {}  # what the interpreter made of a kernel's text


def interpret_at(
    k: Kernel | Gemm,
    addresses: Sequence[int],
    ints: Sequence[int],
    scalars: Sequence[Any] = (),
    tile: Tile | GemmTile | None = None,
) -> None:
    """The same over addresses of host memory: what a simulated device launches."""
    tile = tile or plan(k, ints)
    count = programs(k, tile, ints)
    if count == 0:
        return
    key = (k.key, tile)
    if key not in _rewritten:
        wrapped = stock.InterpretedFunction(function(source(k, tile), k.key, libdevice=_LIBDEVICE).fn)
        _rewritten[key] = wrapped.rewrite(), wrapped.arg_names
    fn, arg_names = _rewritten[key]
    pointers = [_Pointer(a, p.dtype) for a, p in zip(addresses, k.params)]
    numbers = [host_scalar(value, d) for value, d in zip(scalars, k.scalars)]
    blocks = constants(tile)
    with _repaired(), np.errstate(all="ignore"):
        run = _HostExecutor(fn, arg_names, (count,))
        run(*pointers, *[int(i) for i in ints], *numbers, **blocks)


def host_scalar(value: Any, d: DType) -> Any:
    """A run-time scalar as a typed Triton scalar."""
    carried = d.acc if d.is_floating_point or d.bits >= 32 else int32
    name = getattr(tl, carried.name)
    return tl.tensor(stock.TensorHandle(np.array([value], carried.np), name), name)


def run_function(
    fn: Callable[..., Any], grid: tuple[int, ...], arrays: Sequence[np.ndarray[Any, Any]], ints: Sequence[int],
    constants: dict[str, Any],
) -> None:  # fmt: skip
    """Run a user's ``@triton.jit`` function (its Python function) over host arrays, then ints, then named constants."""
    wrapped = stock.InterpretedFunction(fn)
    pointers = [_Pointer(int(a.ctypes.data), from_numpy_dtype(a.dtype)) for a in arrays]
    with _repaired(), np.errstate(all="ignore"):
        run = _HostExecutor(wrapped.rewrite(), wrapped.arg_names, grid)
        run(*pointers, *[int(i) for i in ints], **constants)
