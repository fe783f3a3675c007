"""Routines whose loops need more than :mod:`.compiler` knows (rejection samplers): compiled by Numba, in this process.

In: a library kernel.  Out: the address of ``void f(int64 *args, int64 lo, int64 hi)``.
"""

from __future__ import annotations

import inspect
from typing import Any

import numba
from numba import types

from ..numba.native import _pointer
from . import stored
from .routine import find

_compiled: dict[str, Any] = {}


def native_address(k: Any) -> int:
    """The loops compiled behind the calling convention of every CPU kernel."""
    found = _compiled.get(k.key)
    if found is None:
        count = len(k.params)
        made = find(k.name).numba
        assert made is not None
        plain = numba.njit(error_model="numpy")(made(k))
        n = len(inspect.signature(made(k)).parameters) - count - 2
        arrays = ", ".join(f"carray(pointer(words[{i}]), (1 << 62,), d{i})" for i in range(count))
        ints = ", ".join(f"words[{count + i}]" for i in range(n))
        text = f"def entry(args, lo, hi):\n    words = carray(args, ({count + n},))\n    loops({arrays}, {ints}, lo, hi)\n"
        space: dict[str, Any] = {"carray": numba.carray, "pointer": _pointer, "loops": plain}
        space |= {f"d{i}": stored(p.dtype.name) for i, p in enumerate(k.params)}
        exec(text, space)
        signature = types.void(types.CPointer(types.int64), types.int64, types.int64)
        found = _compiled[k.key] = numba.cfunc(signature, error_model="numpy")(space["entry"])
    return int(found.address)
