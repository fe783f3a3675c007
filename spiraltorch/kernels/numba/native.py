"""The plain-Python spelling compiled by Numba: for calls from Python, and as a native function.

``compile(kernel)`` gives the address of ``void f(int64 *args, int64 lo, int64 hi)``, the calling
convention of every CPU back end (see :mod:`spiraltorch.ir.kernel`).  ``run`` is for tests and
notebooks:

    out = np.empty(3, np.float32)
    run(kernel, [np.ones(3, np.float32), out], ints=[3])
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir as llvm
from numba import types
from numba.extending import intrinsic

from ...dtypes import DType
from ...ir.kernel import Gemm, Kernel
from .emit import source
from .rows import SHORT

_bytecode = compile  # this module's own ``compile`` hides the built-in


def load(text: str, name: str) -> Callable[..., None]:
    """The function that ``text`` defines; a debugger and ``inspect`` find its lines."""
    filename = f"<spiraltorch {name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    namespace: dict[str, Any] = {"__name__": f"spiraltorch.generated.{name}"}
    exec(_bytecode(text, filename, "exec"), namespace)
    return namespace[name]  # type: ignore[no-any-return]


@lru_cache(maxsize=512)
def function(k: Kernel | Gemm, jit: bool = True) -> Callable[..., None]:
    """The kernel as a Python function over arrays, ints and scalars; jitted, or plain to step through."""
    plain = load(source(k, k.key), k.key)
    return numba.njit(error_model="numpy")(plain) if jit else plain  # type: ignore[no-any-return]


def stored(dtype: DType) -> np.dtype[Any]:
    """The NumPy type that the generated text sees in memory."""
    return np.dtype(np.uint16) if dtype in SHORT else dtype.np


def run(
    k: Kernel | Gemm, arrays: Sequence[np.ndarray[Any, Any]], ints: Sequence[int], scalars: Sequence[Any] = (),
    jit: bool = True,
) -> None:  # fmt: skip
    """Run every task over flat arrays, one per param; outputs are written in place."""
    views = [a.view(stored(p.dtype)) for a, p in zip(arrays, k.params)]
    numbers = [np.asarray(value, d.acc.np)[()] for value, d in zip(scalars, k.scalars)]
    with np.errstate(all="ignore"):
        function(k, jit)(*views, *[np.int64(i) for i in ints], *numbers)


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer that ``numba.carray`` takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], llvm.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


def _entry_text(k: Kernel | Gemm) -> str:
    """The native entry point: unpack the argument words, call the loops."""
    count = len(k.params) + k.slots
    arguments = [f"carray(pointer(words[{i}]), (1 << 62,), d{i})" for i in range(len(k.params))]
    arguments += [f"words[{i}]" for i in range(len(k.params), count)]
    for i, d in enumerate(k.scalars, count):
        word = f"carray(pointer(words.ctypes.data + {8 * i}), (1,), np.{stored(d).name})[0]"
        arguments.append(f"{SHORT[d]}_value({word})" if d in SHORT else word)
    lines = [f"    words = carray(args, ({count + len(k.scalars)},))", f"    loops({', '.join(arguments)}, lo, hi)"]
    return "def entry(args, lo, hi):\n" + "\n".join(lines) + "\n"


def _native(k: Kernel | Gemm, blas: bool) -> Any:
    from . import helpers

    loops = numba.njit(error_model="numpy")(load(source(k, k.key, by_task=True, blas=blas), k.key))
    namespace: dict[str, Any] = {"np": np, "carray": numba.carray, "pointer": _pointer, "loops": loops}
    namespace |= {"bf16_value": helpers.bf16_value, "f16_value": helpers.f16_value}
    namespace |= {f"d{i}": stored(p.dtype) for i, p in enumerate(k.params)}
    exec(_entry_text(k), namespace)
    signature = types.void(types.CPointer(types.int64), types.int64, types.int64)
    return numba.cfunc(signature, error_model="numpy")(namespace["entry"])


def compile(k: Kernel | Gemm, blas: bool = False) -> int:  # the back ends share this name
    """The address of the kernel's native function; it stays valid for the life of the process."""
    if (k.key, blas) not in _COMPILED:
        _COMPILED[k.key, blas] = _native(k, blas)
    return int(_COMPILED[k.key, blas].address)


_COMPILED: dict[tuple[str, bool], Any] = {}
