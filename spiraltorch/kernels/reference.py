"""The living definition: NumPy interpreters of graphs and of kernels.

Every other spelling of a kernel is checked against this one.  In: nodes and NumPy arrays.  Out:
NumPy arrays.  Nothing here is fast; everything here is meant to be right.  float32 sums and
transcendental functions are computed in float64 and rounded once, so the reference is closer to
the true value than any back end.

    >>> import numpy as np
    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph, node
    >>> x = graph.param(0, (3,), dtypes.float32)
    >>> evaluate([node.scalar("MUL", x, x)], {x: np.arange(3, dtype=np.float32)})
    [array([0., 1., 4.], dtype=float32)]

Kernels run over flat 1-d arrays, one per param, and write their outputs in place:
``run_kernel(kernel, arrays, ints, scalars)``.  All axes of a kernel become axes of one broadcast
grid, and a reduction's result keeps its reduced axes with length 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..dtypes import FLOAT, DType, bfloat16, bool_, float16
from ..errors import VerifyError
from ..ir.kernel import Access, Bound, Coef, Gemm, Kernel, Operand, Phase, Slot
from ..ir.node import Node, toposort
from ..ir.prims import ROWS

Array = np.ndarray[Any, Any]

# ---------------------------------------------------------------- scalar rows


def convert(a: Array, dtype: DType) -> Array:
    """CAST: bool is ``a != 0``; the 16-bit floats are reached through float32; floats truncate to integers."""
    if dtype is bool_:
        return np.asarray(a != 0)
    if a.dtype.kind == "c" and not dtype.is_complex:
        a = a.real
    if dtype in (float16, bfloat16) or a.dtype == bfloat16.np:
        a = a.astype(np.float32)
    return a.astype(dtype.np)


def _trunc_div(a: Array, b: Array) -> Array:
    quotient = np.floor_divide(a, b)
    return quotient + ((np.multiply(quotient, b) != a) & ((a < 0) != (b < 0)) & (b != 0)).astype(a.dtype)


def _width(a: Array) -> int:
    return a.dtype.itemsize * 8


def _shl(a: Array, b: Array) -> Array:
    far = (b < 0) | (b >= _width(a))
    return np.where(far, np.zeros_like(a), np.left_shift(a, np.where(far, 0, b).astype(a.dtype)))


def _shr(a: Array, b: Array) -> Array:
    # A signed number is all sign bits after width - 1 places; an unsigned one is 0 after width.
    far = (b < 0) | (b >= _width(a))
    shifted = np.right_shift(a, np.where(far, 0, b).astype(a.dtype))
    return np.where(far, np.where(a < 0, -1, 0).astype(a.dtype), shifted)


def _mulhi(a: Array, b: Array) -> Array:
    if _width(a) == 64:
        return np.asarray((a.astype(object) * b.astype(object)) >> 64).astype(a.dtype)
    return ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(_width(a))).astype(a.dtype)


def _fma_exact(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)) or a == 0 or b == 0:
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact) if exact else 0.0
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once."""
    if a.dtype == np.float64:
        return np.asarray(np.frompyfunc(_fma_exact, 3, 1)(a, b, c), np.float64)
    # The product of float32s is exact in float64.  Rounding the sum to odd there keeps enough
    # information for the second rounding to be the right one.
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = np.asarray(total).view(np.int64) & 1 == 0
    nudged = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(np.isfinite(total) & (error != 0) & even, nudged, total).astype(np.float32)


def _erf(a: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(a), np.float64)


_NAMES = {"np": np, "trunc_div": _trunc_div, "fma": _fma, "erf": _erf, "shl": _shl, "shr": _shr, "mulhi": _mulhi}


def _meaning(expression: str) -> Callable[..., Array]:
    """The function that a row's ``numpy`` column says."""
    return eval(f"lambda a, b=None, c=None: {expression}", _NAMES)  # type: ignore[no-any-return]


_MEANING = {name: _meaning(r.numpy) for name, r in ROWS.items() if name not in ("CAST", "BITCAST")}


def apply_row(op: str, operands: Sequence[Array], dtype: DType) -> Array:
    """One scalar row on arrays that broadcast against each other; the result has type ``dtype``.

    float16 and bfloat16 compute in float32; inexact rows of float32 compute in float64.
    """
    if op == "CAST":
        return convert(operands[0], dtype)
    if op == "BITCAST":
        return np.ascontiguousarray(operands[0]).reshape(operands[0].shape).view(dtype.np)
    narrow = (float16.np, bfloat16.np)
    wide = [a.astype(np.float32) if a.dtype in narrow else a for a in operands]
    if ROWS[op].ulp:
        wide = [a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in wide]
    return convert(np.asarray(_MEANING[op](*wide)), dtype)


def identity(op: str, dtype: DType) -> Any:
    """What a fold with ``op`` starts from."""
    if op in ("add", "mul"):
        return 0 if op == "add" else 1
    low = op == "max"
    if dtype.is_floating_point:
        return -math.inf if low else math.inf
    if dtype is bool_:
        return not low
    return int(np.iinfo(dtype.np).min if low else np.iinfo(dtype.np).max)


_UFUNC: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _accumulator(dtype: DType) -> Any:
    """Floats fold in float64 and are rounded once at the end; integers fold in their own type, and wrap."""
    return np.complex128 if dtype.is_complex else np.float64 if dtype.is_floating_point else dtype.np


def fold(a: Array, op: str, axes: tuple[int, ...], dtype: DType, keepdims: bool = False) -> Array:
    """Reduce ``axes`` with 'add', 'mul', 'max' or 'min'; the result has type ``dtype``."""
    acc = _accumulator(dtype)
    start = dtype.np.type(identity(op, dtype)) if dtype.category < FLOAT else acc(identity(op, dtype))
    folded = _UFUNC[op].reduce(a.astype(acc), axis=axes, dtype=acc, keepdims=keepdims, initial=start)
    return convert(np.asarray(folded), dtype)


# ---------------------------------------------------------------- graphs


def _slices(ranges: Iterable[tuple[int, int, int]]) -> tuple[slice, ...]:
    return tuple([slice(start, None if stop < 0 else stop, step) for start, stop, step in ranges])


def _pad(a: Array, widths: Sequence[tuple[int, int, int]], shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape, a.dtype)
    inside = [slice(before, before + size + max(0, size - 1) * interior, interior + 1)
              for size, (before, _, interior) in zip(a.shape, widths)]  # fmt: skip
    out[tuple(inside)] = a
    return out


def _window(a: Array, axis: int, size: int, stride: int, dilation: int) -> Array:
    view = np.lib.stride_tricks.sliding_window_view(a, dilation * (size - 1) + 1, axis)
    every = [slice(None)] * view.ndim
    every[axis] = slice(None, None, stride)
    every[-1] = slice(None, None, dilation)
    return view[tuple(every)]


def _checked(index: Array, size: int, axis: int) -> Array:
    bad = (index < 0) | (index >= size)
    if bad.any():
        raise IndexError(f"index {index[bad].flat[0]} is out of bounds for dimension {axis} with size {size}")
    return index.astype(np.intp)


def _scatter(a: Array, index: Array, values: Array, how: tuple[int, str], dtype: DType) -> Array:
    axis, op = how
    positions = _checked(index, a.shape[axis], axis).ravel()
    out = np.moveaxis(a.copy(), axis, 0)
    moved = np.moveaxis(values, range(axis, axis + index.ndim), range(index.ndim))
    moved = moved.reshape((len(positions),) + out.shape[1:])
    for position, value in zip(positions, moved):
        out[position] = value if op == "set" else apply_row(op.upper(), [out[position], value], dtype)
    return np.moveaxis(out, 0, axis)


def _dot(n: Node, a: Array, b: Array) -> Array:
    batch_a, batch_b, contract_a, contract_b = n.arg
    acc = _accumulator(n.dtype)
    free_a = [i for i in range(a.ndim) if i not in batch_a and i not in contract_a]
    free_b = [i for i in range(b.ndim) if i not in batch_b and i not in contract_b]
    depth = math.prod([a.shape[i] for i in contract_a])
    batch = tuple([a.shape[i] for i in batch_a])
    rows = math.prod([a.shape[i] for i in free_a])
    columns = math.prod([b.shape[i] for i in free_b])
    left = a.astype(acc).transpose(*batch_a, *free_a, *contract_a).reshape(*batch, rows, depth)
    right = b.astype(acc).transpose(*batch_b, *contract_b, *free_b).reshape(*batch, depth, columns)
    return convert((left @ right).reshape(n.shape), n.dtype)


def philox(key: int, counter: int, size: int) -> Array:
    """Word 0 of Philox4x32-10 at the 128-bit counters ``counter + 0, 1, ... size - 1`` (low word first)."""
    index = np.arange(size, dtype=np.uint64)
    low = index + np.uint64(counter)
    carry = (low < index).astype(np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c0, c1, c2, c3 = low & mask, low >> half, carry, np.zeros_like(low)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first, second = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (second >> half) ^ c1 ^ np.uint64(k0), second & mask,
            (first >> half) ^ c3 ^ np.uint64(k1), first & mask,
        )  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0.astype(np.uint32)


def _iota(shape: tuple[int, ...], axis: int) -> Array:
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=np.int64).reshape(along), shape)


def _gather(a: Array, index: Array, arg: Any) -> Array:
    if isinstance(arg, int):
        return np.take(a, _checked(index, a.shape[arg], arg), axis=arg)
    axis = arg[1]
    near = a[tuple([slice(None) if k == axis else slice(0, s) for k, s in enumerate(index.shape)])]
    return np.take_along_axis(near, _checked(index, a.shape[axis], axis), axis)


def _structural(n: Node, src: list[Array]) -> Array:
    match n.op:
        case "CONST":
            return np.asarray(n.arg.value, n.dtype.np)
        case "IOTA":
            return _iota(n.shape, n.arg)
        case "RESHAPE":
            return src[0].reshape(n.shape)
        case "PERMUTE":
            return src[0].transpose(n.arg)
        case "EXPAND":
            return np.broadcast_to(src[0], n.shape)
        case "SLICE":
            return src[0][_slices(n.arg)]
        case "PAD":
            return _pad(src[0], n.arg, n.shape)
        case "DIAGONAL":
            return np.diagonal(src[0], *n.arg)
        case "WINDOW":
            return _window(src[0], *n.arg)
        case "GATHER":
            return _gather(src[0], src[1], n.arg)
        case "SCATTER":
            return _scatter(src[0], src[1], src[2], n.arg, n.dtype)
        case "UPDATE":
            out = src[0].copy()
            out[_slices(n.arg)] = src[1]
            return out
        case "REDUCE":
            return fold(src[0], n.arg[0], n.arg[1], n.dtype)
        case "SCAN":
            from .library.scanning import accumulate

            return convert(accumulate(src[0], *n.arg), n.dtype)
        case "DOT":
            return _dot(n, *src)
        case "RANDOM":
            return philox(int(src[0]), int(src[1]), n.size).reshape(n.shape)
        case "COPY":
            return src[0].copy()
        case "REAL":
            return src[0].real
        case "IMAG":
            return src[0].imag
        case "COMPLEX":
            out = np.empty(n.shape, n.dtype.np)
            out.real, out.imag = src
            return out
        case "AS_REAL":
            return np.stack([src[0].real, src[0].imag], -1)
        case "AS_COMPLEX":
            return np.ascontiguousarray(src[0]).view(n.dtype.np)[..., 0]
        case "CALL":
            from .library.routine import evaluate as call

            return call(n, src)
    raise VerifyError(f"the reference interpreter has no meaning for {n.op}")


def evaluate(roots: Sequence[Node], leaves: dict[Node, Array]) -> list[Array]:
    """The values of ``roots``; ``leaves`` gives those of PARAM and BUFFER nodes.

    Raises IndexError when a GATHER or SCATTER index is out of range, KeyError for a leaf not given.
    """
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for n in toposort(roots):
            src = [values[s] for s in n.src]
            if n.op in ROWS:
                values[n] = apply_row(n.op, src, n.dtype)
            elif n.op in ("PARAM", "BUFFER"):
                values[n] = np.asarray(leaves[n], n.dtype.np).reshape(n.shape)
            else:
                values[n] = _structural(n, src)
    return [np.array(values[r]) for r in roots]


# ---------------------------------------------------------------- kernels


class _Grid:
    """The axes of one kernel as axes of broadcast index arrays, and the results of its reductions."""

    def __init__(self, axes: tuple[Slot, ...], arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any]):
        self.arrays = arrays
        self.ints = ints
        self.scalars = scalars
        self.sizes = [int(ints[s.index]) for s in axes]
        self.values: dict[int, Array] = {}
        rank = len(axes)
        self.index = [
            np.arange(size, dtype=np.int64).reshape((1,) * k + (size,) + (1,) * (rank - k - 1))
            for k, size in enumerate(self.sizes)
        ]

    def coef(self, c: Coef) -> int:
        return int(self.ints[c.index]) if isinstance(c, Slot) else c

    def position(self, access: Access) -> Array:
        rank = len(self.sizes)
        total = np.full((1,) * rank, self.coef(access.offset), np.int64)
        for axis, stride in access.terms:
            total = total + self.index[axis] * self.coef(stride)
        return total

    def load(self, n: Node, src: list[Array]) -> Array:
        where = self.position(n.arg.access)
        for index, stride in zip(src, n.arg.dyn):
            where = where + index.astype(np.int64) * self.coef(stride)
        memory = self.arrays[n.arg.param]
        if n.arg.guarded:
            where, guard = np.broadcast_arrays(where, src[-1])
            where = np.where(guard, where, 0)
            if not guard.any():
                return np.zeros(where.shape, memory.dtype)
        if where.size and (where.min() < 0 or where.max() >= memory.size):
            raise IndexError(f"{n.arg} reads outside the {memory.size} elements of its param")
        return np.where(guard, memory[where], memory.dtype.type(0)) if n.arg.guarded else memory[where]

    def expressions(self, phase: Phase) -> dict[Node, Array]:
        at: dict[Node, Array] = {}
        for n in toposort(phase.exprs()):
            src = [at[s] for s in n.src]
            if n.op == "LOAD":
                at[n] = self.load(n, src)
            elif n.op == "INDEX":
                at[n] = self.position(n.arg)
            elif n.op == "VALUE":
                at[n] = convert(self.values[n.arg], n.dtype)
            elif n.op == "SCALAR":
                at[n] = np.asarray(self.scalars[n.arg], n.dtype.np)
            elif n.op == "CONST":
                at[n] = np.asarray(n.arg.value, n.dtype.np)
            else:
                at[n] = apply_row(n.op, src, n.dtype)
        return at

    def shape(self, rows: int, phase: Phase) -> tuple[int, ...]:
        return tuple([s if k < rows or k in phase.axes else 1 for k, s in enumerate(self.sizes)])

    def run(self, rows: int, phase: Phase, params: Sequence[Any], walked: int = 0) -> None:
        """One phase at every row.  Everything is read before anything is written."""
        shape = self.shape(rows, phase)
        if math.prod(shape) == 0:
            for r in phase.reduces:
                empty = np.full((1,) * len(shape), identity(r.op, r.expr.dtype))
                self.values[r.id] = convert(empty, r.expr.dtype)
            return
        at = self.expressions(phase)
        for r in phase.reduces:
            # The expression may not move along an inner axis; it is folded once per step all the same.
            full = np.broadcast_to(at[r.expr], shape)
            self.values[r.id] = fold(full, r.op, phase.axes, r.expr.dtype, keepdims=True)
        for s in phase.stores:
            value = np.broadcast_to(at[s.value], shape)
            if s.fold:
                value = fold(value, s.fold, tuple(range(rows - walked, rows)), s.value.dtype, keepdims=True)
            guard = np.broadcast_to(True if s.guard is None else at[s.guard], value.shape)
            where = np.broadcast_to(self.position(s.access), value.shape)[guard]
            memory = self.arrays[s.param]
            if where.size and (where.min() < 0 or where.max() >= memory.size):
                raise IndexError(f"a store to p{s.param}[{s.access}] is outside its {memory.size} elements")
            memory[where] = value[guard]
        for c in phase.checks:
            if not at[c.cond].all():
                self.arrays[[p.mode for p in params].index("status")][0] = c.code


def run_kernel(kernel: Kernel, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any] = ()) -> None:
    """Run every task of ``kernel``: ``arrays`` are flat, one per param, outputs are written in place.

    Raises IndexError when the kernel would touch memory outside an array.
    """
    grid = _Grid(kernel.axes, arrays, ints, scalars)
    if 0 in grid.sizes[: kernel.rows]:
        return
    with np.errstate(all="ignore"):
        for phase in kernel.phases:
            grid.run(kernel.rows, phase, kernel.params, kernel.walked)


def _operand(grid: _Grid, o: Operand, sizes: tuple[int, int], acc: DType) -> Array:
    """The operand gathered to (batch.., outer, inner), cast to ``acc``; 0 where a bound does not hold."""
    where = _places(grid, o, sizes)
    memory = grid.arrays[o.param]
    held = np.full(where.shape, True)
    for b in o.bounds:
        at = _places(grid, b, sizes)
        held = held & (at >= 0) & (at < grid.coef(b.size))
    where = np.where(held, where, 0)
    if held.any() and (where.min() < 0 or where.max() >= memory.size):
        raise IndexError(f"operand p{o.param} reads outside its {memory.size} elements")
    if not memory.size:
        return np.zeros(where.shape, acc.np)
    return convert(np.where(held, memory[where], memory.dtype.type(0)), acc)


def _places(grid: _Grid, o: Operand | Bound, sizes: tuple[int, int]) -> Array:
    """The linear form of an operand, or of a bound, at (batch.., outer, inner)."""

    def steps(c: Coef | str, size: int) -> Array:
        if isinstance(c, str):
            return np.asarray(grid.arrays[int(c[1:])][:size])
        return np.arange(size, dtype=np.int64) * grid.coef(c)

    where = steps(o.outer, sizes[0])[:, None] + steps(o.inner, sizes[1])[None, :] + grid.coef(o.offset)
    for axis, stride in reversed(list(enumerate(o.batch))):
        along = np.arange(grid.sizes[axis], dtype=np.int64) * grid.coef(stride)
        where = along.reshape(-1, *(1,) * where.ndim) + where
    return where


def run_gemm(gemm: Gemm, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any] = ()) -> None:
    """Run the whole of ``gemm``, its epilogue included; arrays as for :func:`run_kernel`."""
    grid = _Grid(gemm.axes, arrays, ints, scalars)
    if 0 in grid.sizes:
        return
    depth = int(ints[gemm.depth.index])
    m, n = grid.sizes[-2:]
    wide = _accumulator(gemm.acc)
    with np.errstate(all="ignore"):
        a = _operand(grid, gemm.a, (m, depth), gemm.acc).astype(wide)
        b = _operand(grid, gemm.b, (n, depth), gemm.acc).astype(wide)
        grid.values[0] = convert(a @ b.swapaxes(-1, -2), gemm.acc)
        grid.run(len(gemm.axes), gemm.epilogue, gemm.params)
