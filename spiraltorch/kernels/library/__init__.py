"""Routines kept whole, because no loop nest computes them well: scatter, scan, sort, and every CALL of the graph.

In: a :class:`~spiraltorch.jit.lower.Library` (name, parameter types, static choices).  Out: the address of a
native function with the calling convention of every CPU kernel, how many tasks a launch has, and the
same routine run in Python for the reference interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import host
from .routine import find

if TYPE_CHECKING:
    from ...runtime.cache import Source


def tasks(k: Any, ints: Sequence[int]) -> tuple[int, int]:
    """(independent pieces of a launch, pieces a thread takes at a time)."""
    routine = find(k.name)
    return routine.tasks(k, ints) if routine.tasks is not None else (1, 1)


def stored(name: str) -> np.dtype[Any]:
    """The NumPy type that Numba sees: 16-bit floats as bits."""
    return np.dtype(np.uint16) if name in ("float16", "bfloat16") else np.dtype(np.bool_ if name == "bool" else name)


def run_reference(k: Any, arrays: Sequence[np.ndarray], ints: Sequence[int]) -> None:
    """The routine in Python over flat arrays.  Raises what a routine raises."""
    routine = find(k.name)
    if not routine.native:
        host.run(k, list(arrays), ints)
        return
    if routine.numba is not None:
        views = [a.view(stored(p.dtype.name)) for a, p in zip(arrays, k.params)]
        routine.numba(k)(*views, *ints, 0, tasks(k, ints)[0])
        return
    if routine.loops is None:
        return _run_definition(k, arrays, ints)
    function, types = routine.loops(k)
    scratch = np.empty(32 << 20, np.uint8)
    views = [a.view(t.numpy) for a, t in zip(arrays, types, strict=True)]
    with np.errstate(all="ignore"):
        function(*views, *ints, 0, tasks(k, ints)[0], scratch)


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
    found = module(k)
    if found is not None:
        from ...runtime.cache import load

        return load(*found)[found.key]
    if not find(k.name).native:
        return host.address(k)
    from .jitted import native_address

    return native_address(k)


def module(k: Any) -> Source | None:
    """The module of a routine that LLVM compiles; None for one that runs in Python or that Numba compiles."""
    routine = find(k.name)
    if not routine.native or routine.numba is not None:
        return None
    from ...runtime.cache import Source
    from ..llvm.target import host as target

    name = "".join([c if c.isalnum() or c in "._" else "_" for c in k.key])

    def text() -> str:
        if routine.emit is not None:
            return routine.emit(k, target(), name)
        from .compiler import emit

        assert routine.loops is not None
        return emit(*routine.loops(k), target(), name)

    return Source(name, [name], text)


__all__ = ["address", "module", "run_reference", "stored", "tasks"]
