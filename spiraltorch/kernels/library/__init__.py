"""Hand kernels for what no loop nest computes well: scatter, scan and sort as Numba loops, and the routines of CALLs.

In: a :class:`~spiraltorch.jit.lower.Library` (name, parameter types, static choices).  Out: the address of a
native function with the calling convention of every CPU kernel, how many tasks a launch has, and the
same loops run in Python for the reference interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import host
from .routine import find

COLUMNS = 64  # inner elements of one scatter or scan task


def tasks(k: Any, ints: Sequence[int]) -> tuple[int, int]:
    """(independent pieces of a launch, pieces a thread takes at a time)."""
    if "." in k.name:
        routine = find(k.name)
        return routine.tasks(k, ints) if routine.tasks is not None else (1, 1)
    outer, _, inner = ints[:3]  # pieces are (outer, block of inner) pairs, or lines for a sort
    return outer * (inner if k.name == "sort" else -(-inner // COLUMNS)), 1


def stored(name: str) -> np.dtype[Any]:
    """The NumPy type that Numba sees: 16-bit floats as bits."""
    return np.dtype(np.uint16) if name in ("float16", "bfloat16") else np.dtype(np.bool_ if name == "bool" else name)


def run_reference(k: Any, arrays: Sequence[np.ndarray], ints: Sequence[int]) -> None:
    """The loops in Python over flat arrays.  Raises what a routine raises."""
    if "." in k.name and not find(k.name).native:
        host.run(k, list(arrays), ints)
        return
    if "." in k.name and find(k.name).loops is None:
        return _run_definition(k, arrays, ints)
    from .loops import loops_of

    plain = loops_of(k, jit=False)
    views = [a.view(stored(p.dtype.name)) for a, p in zip(arrays, k.params)]
    plain(*views, *ints, 0, tasks(k, ints)[0])


def _run_definition(k: Any, arrays: Sequence[np.ndarray], ints: Sequence[int]) -> None:
    """The definition of a routine that has native code alone, on operands rebuilt from sizes and strides."""
    routine = find(k.name)
    assert routine.shapes is not None, f"{k.name} says no shapes: compare with its definition on the graph's level"
    shapes = routine.shapes(k, ints)
    at = len(ints) - sum([len(s) + 1 for s in shapes]) if routine.strided else 0
    operands = []
    for a, shape in zip(arrays, shapes):
        if routine.strided:
            offset, *strides = ints[at : at + len(shape) + 1]
            at += len(shape) + 1
            a = np.lib.stride_tricks.as_strided(a[offset:], shape, [s * a.itemsize for s in strides])
        operands.append(a[: int(np.prod(shape))].reshape(shape) if not routine.strided else a)
    out = routine.value(k.static, *operands)
    arrays[len(shapes)][: out.size] = out.reshape(-1)


def address(k: Any) -> int:
    """Address of the compiled kernel, valid for the life of the process."""
    if "." in k.name:
        routine = find(k.name)
        if not routine.native:
            return host.address(k)
        if routine.emit is not None:
            from ...runtime.cache import functions
            from ..llvm.target import host as target

            emit = routine.emit
            return functions([(k.key, lambda: emit(k, target(), k.key))])[k.key]
    from .loops import native_address

    return native_address(k)


__all__ = ["COLUMNS", "address", "run_reference", "stored", "tasks"]
