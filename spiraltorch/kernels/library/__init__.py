"""Hand kernels for what no loop nest computes well: scatter, scan and sort, as Numba loops.

In: a :class:`~spiraltorch.jit.lower.Library` (name, parameter types, static choices).  Out: the address of a
native function with the calling convention of every CPU kernel, how many tasks a launch has, and the
same loops run in Python for the reference interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

COLUMNS = 64  # inner elements of one scatter or scan task


def tasks(k: Any, ints: Sequence[int]) -> int:
    """Independent pieces of a launch: (outer, block of inner) pairs, or lines for a sort."""
    outer, _, inner = ints[:3]
    return outer * (inner if k.name == "sort" else -(-inner // COLUMNS))


def stored(name: str) -> np.dtype[Any]:
    """The NumPy type that Numba sees: 16-bit floats as bits."""
    return np.dtype(np.uint16) if name in ("float16", "bfloat16") else np.dtype(np.bool_ if name == "bool" else name)


def run_reference(k: Any, arrays: Sequence[np.ndarray], ints: Sequence[int]) -> None:
    """The loops in Python over flat arrays."""
    from .loops import loops_of

    plain = loops_of(k, jit=False)
    views = [a.view(stored(p.dtype.name)) for a, p in zip(arrays, k.params)]
    plain(*views, *ints, 0, tasks(k, ints))


def address(k: Any) -> int:
    """Address of the compiled kernel, valid for the life of the process."""
    from .loops import native_address

    return native_address(k)


__all__ = ["COLUMNS", "address", "run_reference", "stored", "tasks"]
