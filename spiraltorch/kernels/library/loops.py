"""The loops themselves, generic in element type, and their native entry points.

Each takes flat arrays, then (outer, size, inner, ...) and the task range [lo, hi).  A task owns its
part of the output, so the result does not depend on threads; sums run in the order of the index.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types

from ..numba.native import _pointer
from . import COLUMNS, stored
from .routine import find


def _scatter(combine: Callable[[Any, Any], Any], jit: bool) -> Callable[..., None]:
    fold = numba.njit(error_model="numpy")(combine) if jit else combine

    def scatter(base, index, values, out, status, outer, size, inner, count, lo, hi):  # type: ignore[no-untyped-def]
        blocks = (inner + COLUMNS - 1) // COLUMNS
        for task in range(lo, hi):
            o = task // blocks
            first = (task % blocks) * COLUMNS
            last = min(first + COLUMNS, inner)
            for j in range(size):
                row = (o * size + j) * inner
                for c in range(first, last):
                    out[row + c] = base[row + c]
            for i in range(count):
                j = index[i]
                if j < 0 or j >= size:
                    status[0] = 1
                    continue
                row = (o * size + j) * inner
                source = (o * count + i) * inner
                for c in range(first, last):
                    out[row + c] = fold(out[row + c], values[source + c])

    return scatter


def _scan(combine: Callable[[Any, Any], Any], reverse: bool, jit: bool) -> Callable[..., None]:
    fold = numba.njit(error_model="numpy")(combine) if jit else combine

    def scan(x, out, outer, size, inner, lo, hi):  # type: ignore[no-untyped-def]
        blocks = (inner + COLUMNS - 1) // COLUMNS
        for task in range(lo, hi):
            o = task // blocks
            first = (task % blocks) * COLUMNS
            last = min(first + COLUMNS, inner)
            for k in range(size):
                j = size - 1 - k if reverse else k
                row = (o * size + j) * inner
                for c in range(first, last):
                    if k == 0:
                        out[row + c] = x[row + c]
                    else:
                        before = row + inner if reverse else row - inner
                        out[row + c] = fold(out[before + c], x[row + c])

    return scan


def _sort(what: str, descending: bool, floating: bool) -> Callable[..., None]:
    values = what == "values"

    def sort(x, out, outer, size, inner, lo, hi):  # type: ignore[no-untyped-def]
        # Bottom-up merge sort: stable, and nan is the largest, as torch has it.
        here = np.empty(size, np.int64)
        there = np.empty(size, np.int64)
        for task in range(lo, hi):
            base = (task // inner) * size * inner + task % inner
            for j in range(size):
                here[j] = j
            width = 1
            while width < size:
                start = 0
                while start < size:
                    mid = min(start + width, size)
                    end = min(start + 2 * width, size)
                    a, b = start, mid
                    for k in range(start, end):
                        take_left = b >= end
                        if a < mid and b < end:
                            p = x[base + here[a] * inner]
                            q = x[base + here[b] * inner]
                            if floating and (p != p or q != q):
                                take_left = p != p if descending else q != q
                                if p != p and q != q:
                                    take_left = True
                            else:
                                take_left = p >= q if descending else p <= q
                        if take_left:
                            there[k] = here[a]
                            a += 1
                        else:
                            there[k] = here[b]
                            b += 1
                    start = end
                here, there = there, here
                width *= 2
            for j in range(size):
                out[base + j * inner] = x[base + here[j] * inner] if values else here[j]

    return sort


def _add(a, b):  # type: ignore[no-untyped-def]
    return a + b


def _mul(a, b):  # type: ignore[no-untyped-def]
    return a * b


def _max(a, b):  # type: ignore[no-untyped-def]
    return a if a != a or a > b else b


def _min(a, b):  # type: ignore[no-untyped-def]
    return a if a != a or a < b else b


def _set(a, b):  # type: ignore[no-untyped-def]
    return b


_COMBINE = {"set": _set, "add": _add, "mul": _mul, "max": _max, "min": _min}


def loops_of(k: Any, jit: bool = True) -> Callable[..., None]:
    """The Python function of a library kernel."""
    if k.name == "scatter":
        plain: Any = _scatter(_COMBINE[k.static[0]], jit)
    elif k.name == "scan":
        plain = _scan(_COMBINE[k.static[0]], k.static[1], jit)
    elif k.name == "sort":
        plain = _sort(k.static[0], k.static[1], k.params[0].dtype.kind == "f")
    else:
        made = find(k.name).loops
        assert made is not None
        plain = made(k)
    return numba.njit(error_model="numpy")(plain) if jit else plain  # type: ignore[no-any-return]


_compiled: dict[str, Any] = {}


def native_address(k: Any) -> int:
    """Compile the loops behind ``void f(int64 *args, int64 lo, int64 hi)``."""
    found = _compiled.get(k.key)
    if found is None:
        count = len(k.params)
        plain = loops_of(k)
        n = len(inspect.signature(plain).parameters) - count - 2
        arrays = ", ".join(f"carray(pointer(words[{i}]), (1 << 62,), d{i})" for i in range(count))
        ints = ", ".join(f"words[{count + i}]" for i in range(n))
        text = f"def entry(args, lo, hi):\n    words = carray(args, ({count + n},))\n    loops({arrays}, {ints}, lo, hi)\n"
        space: dict[str, Any] = {"carray": numba.carray, "pointer": _pointer, "loops": plain}
        space |= {f"d{i}": stored(p.dtype.name) for i, p in enumerate(k.params)}
        exec(text, space)
        signature = types.void(types.CPointer(types.int64), types.int64, types.int64)
        found = _compiled[k.key] = numba.cfunc(signature, error_model="numpy")(space["entry"])
    return int(found.address)
