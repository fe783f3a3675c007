"""BLAS and LAPACK on one thread, while a routine runs.

    with one_thread:
        np.linalg.qr(a)

A BLAS that shares a product among threads cuts it by their number, and every cut rounds otherwise: the inverse of a matrix
of 300 rows had other bits on one core than on two.  And its threads spin while they wait, which beside the runtime's own
takes the cores from those that work.  What is set, is set for the process and taken back when the last routine returns.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Any, NamedTuple


class Threads(NamedTuple):
    """What a library is asked for its number of threads with, and told it."""

    get: Any
    set: Any


#: OpenBLAS as distributions and as NumPy and SciPy name it, MKL, BLIS.
_NAMES = [(f"{p}openblas_get_num_threads{s}", f"{p}openblas_set_num_threads{s}") for p in ("scipy_", "") for s in ("64_", "")]
_NAMES += [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"), ("bli_thread_get_num_threads", "bli_thread_set_num_threads")]


@cache
def libraries() -> list[Threads]:
    """Those that NumPy and SciPy are linked with, as far as the system finds a name in what a module is linked with."""
    import numpy.linalg._umath_linalg as of_numpy
    import scipy.linalg._flapack as of_scipy

    found = []
    for module in (of_numpy, of_scipy):
        library = ctypes.CDLL(module.__file__)
        both = [(getattr(library, g), getattr(library, s)) for g, s in _NAMES if hasattr(library, g) and hasattr(library, s)]
        found += [Threads(*pair) for pair in both[:1]]
    return found


class _OneThread:
    """A context that many threads may be in at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before: list[tuple[Threads, int]] = []

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = [(found, n) for found in libraries() if (n := found.get()) > 1]
                for found, _ in self.before:
                    found.set(1)
            self.inside += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                for found, n in self.before:
                    found.set(n)


one_thread = _OneThread()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_thread.__init__)  # type: ignore[misc]  # the lock may be another thread's

__all__ = ["Threads", "libraries", "one_thread"]
