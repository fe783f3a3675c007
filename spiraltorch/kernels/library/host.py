"""Library routines that run as they are: the native plan calls back into Python, once for the launch.

In: a library kernel without native code.  Out: the address of a C function that makes arrays over the launch's
memory and calls the routine's definition.  What the routine raises is kept for the program to raise.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from .routine import find

FAILED = 1

_entries: dict[str, Any] = {}  # a callback lives as long as the process: plans hold its address
_raised = threading.local()
_TYPE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def take_error() -> BaseException | None:
    """What a routine raised on this thread since the last call."""
    error: BaseException | None = getattr(_raised, "error", None)
    _raised.error = None
    return error


def address(k: Any) -> int:
    """The address of the callback for library kernel ``k``."""
    found = _entries.get(k.key)
    if found is None:
        found = _entries[k.key] = _TYPE(_entry(k))
    address = ctypes.cast(found, ctypes.c_void_p).value
    assert address is not None
    return address


def run(k: Any, arrays: list[np.ndarray], ints: Any) -> None:
    """The launch on flat arrays; the last operand that is no status is written.  Raises what the routine raises."""
    static, ranks = k.static
    shaped, at = [], 0
    for a, rank in zip(arrays, ranks):
        shape = tuple([int(i) for i in ints[at : at + rank]])
        at += rank
        shaped.append(a[: int(np.prod(shape, dtype=np.int64))].reshape(shape))
    *operands, out = shaped
    with np.errstate(all="ignore"):
        out[...] = find(k.name).value(static, *operands)


def _entry(k: Any) -> Any:
    ranks = k.static[1]
    count = len(k.params)
    types = [p.dtype.np for p in k.params]

    def entry(args: Any, lo: int, hi: int, scratch: Any) -> None:
        status = args[count - 1]
        try:
            ints = args[count : count + sum(ranks)]
            arrays, at = [], 0
            for word, dtype, rank in zip(args[: len(ranks)], types, ranks):
                size = int(np.prod(ints[at : at + rank], dtype=np.int64))
                at += rank
                memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(word)
                arrays.append(np.frombuffer(memory, dtype))
            run(k, arrays, ints)
        except BaseException as e:  # the native caller cannot pass it on
            _raised.error = e
            ctypes.c_int64.from_address(status).value = FAILED

    return entry


__all__ = ["FAILED", "address", "run", "take_error"]
