"""Routines on complex numbers, called by programs that know only real ones.

In: the name and static arguments of a routine, and which operands (and whether the result, last) are complex; arrays of
(*shape, 2) in their place.  Out: the routine's result, as such pairs where it is complex.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .routine import find, routine


def _through(static: Any, *arrays: np.ndarray) -> np.ndarray:
    name, inner, complexes = static
    seen = [as_complex(a) if c else a for a, c in zip(arrays, complexes)]
    out = np.asarray(find(name).value(inner, *seen))
    return as_pairs(out) if complexes[-1] else out


def as_complex(a: np.ndarray) -> np.ndarray:
    """Pairs along the last axis as complex numbers over the same memory."""
    return a.view(np.complex64 if a.dtype == np.float32 else np.complex128)[..., 0]


def as_pairs(a: np.ndarray) -> np.ndarray:
    a = np.ascontiguousarray(a).reshape(*a.shape, 1)
    return a.view(np.float32 if a.dtype == np.complex64 else np.float64)


@routine("parts.plain")
def plain(static: Any, *arrays: np.ndarray) -> np.ndarray:
    """A routine that does not fail."""
    return _through(static, *arrays)


@routine("parts.failing", fails=True)
def failing(static: Any, *arrays: np.ndarray) -> np.ndarray:
    """A routine that may fail."""
    return _through(static, *arrays)
