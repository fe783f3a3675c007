"""What a CALL of the graph means: one record for each library routine.

In: a name ``module.routine``, as a CALL node has it.  Out: its :class:`Routine`, from the module of this package
with that name, which is imported when it is first asked for.

    @routine("linalg.inv", fails=True)
    def inv(static, a):
        '''The inverse of the last two axes.'''
        return np.linalg.inv(a)

A routine that says no more runs as it is, called back from the native plan on the thread that runs the program.  One
that is to be fast and threaded also says ``loops`` (Python loops that :mod:`.compiler` compiles) or ``emit`` (LLVM text).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Routine:
    """value: ``(static, *arrays) -> array``, the definition; it may raise where ``fails``, and then so does the program.

    body: ``(static, *nodes) -> node``, the same in primitives, which is what gets differentiated.
    What follows is for native kernels, which get flat memory.  sizes: the run-time sizes, from the CALL node.
    strided: operands are read where they lie, as views whose last axis is contiguous; after ``sizes`` follow, for each
    operand, the element where it starts and the stride of each axis (0 where the size is 1).
    loops: ``(kernel) -> (function(*flat memory, *sizes, lo, hi, scratch), types of that memory)``; see :mod:`.compiler`.
    numba: ``(kernel) -> function(*flat arrays, *sizes, lo, hi)``, compiled by Numba.  emit: ``(kernel, target, name) -> LLVM
    text`` of ``void name(i64* args, i64 lo, i64 hi, i8* scratch)``.  tasks: ``(kernel, sizes) -> (tasks, tasks a
    thread takes at a time)``.  shapes: ``(kernel, sizes) -> shapes of the operands``, by which the reference
    interpreter runs the definition where there are no loops.  flops: ``(kernel, sizes) -> operations``, for profiles.
    key: what of the CALL node native code depends on (None: all of ``static``).
    """

    name: str
    value: Callable[..., Any]
    fails: bool = False
    body: Callable[..., Any] | None = None
    strided: bool = False
    sizes: Callable[[Any], list[int]] | None = None
    loops: Callable[[Any], tuple[Callable[..., None], Sequence[Any]]] | None = None
    numba: Callable[[Any], Callable[..., None]] | None = None
    emit: Callable[[Any, Any, str], str] | None = None
    tasks: Callable[[Any, Sequence[int]], tuple[int, int]] | None = None
    shapes: Callable[[Any, Sequence[int]], list[tuple[int, ...]]] | None = None
    flops: Callable[[Any, Sequence[int]], int] | None = None
    key: Callable[[Any], tuple[Any, ...]] | None = None

    @property
    def native(self) -> bool:
        return any(x is not None for x in (self.loops, self.numba, self.emit))

    def numbers(self, n: Any) -> list[int]:
        """The integers that a launch for CALL node ``n`` gets: its sizes, or (called back) the shapes of all arrays."""
        if self.native:
            assert self.sizes is not None
            return self.sizes(n)
        return [s for m in (*n.src, n) for s in m.shape]


ROUTINES: dict[str, Routine] = {}


def routine(name: str, **fields: Any) -> Callable[[Callable[..., Any]], Routine]:
    """Register the decorated definition.  Raises ValueError when the name is taken."""

    def register(value: Callable[..., Any]) -> Routine:
        if name in ROUTINES:
            raise ValueError(f"library routine {name} is registered already")
        ROUTINES[name] = Routine(name, value, **fields)
        return ROUTINES[name]

    return register


def composite(name: str, **fields: Any) -> Callable[[Callable[..., Any]], Routine]:
    """Register a routine that is defined in primitives: the decorated function is its ``body``."""

    def register(body: Callable[..., Any]) -> Routine:
        def value(static: tuple[Any, ...], *arrays: np.ndarray) -> np.ndarray:
            from ...dtypes import from_numpy_dtype
            from ...ir import graph
            from ..reference import evaluate

            leaves = {graph.param(i, a.shape, from_numpy_dtype(a.dtype)): a for i, a in enumerate(arrays)}
            return evaluate([body(static, *leaves)], leaves)[0]

        return routine(name, body=body, **fields)(value)

    return register


def find(name: str) -> Routine:
    """The routine ``module.routine``.  Raises KeyError when there is none."""
    if name not in ROUTINES and "." in name:
        importlib.import_module(f"{__package__}.{name.partition('.')[0]}")
    return ROUTINES[name]


def evaluate(n: Any, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The value of CALL node ``n`` for its operands' values.  Raises what the routine raises."""
    if not n.size:  # what has no elements needs no computing
        return np.empty(n.shape, n.dtype.np)
    name, static = n.arg
    found = np.asarray(find(name).value(static, *arrays), n.dtype.np)
    assert found.shape == n.shape, f"{name} gave {found.shape} where the graph says {n.shape}"
    return found


__all__ = ["ROUTINES", "Routine", "composite", "evaluate", "find", "routine"]
