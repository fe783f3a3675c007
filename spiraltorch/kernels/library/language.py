"""The names that kernels written as Python loops use besides Python's own (see :mod:`.compiler`).

    def total(x, out, n, lo, hi, scratch):
        acc = f64(0)
        for i in range(n):
            acc += f64(x[i])
        out[0] = f32(acc)

``u32(v)`` converts, ``bits(v, u32)`` keeps the bits, ``view(scratch, 1024, u32)`` is memory from that byte on as
another type.  Called from Python they do the same on NumPy's scalars and arrays, so the loops can be stepped through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Type:
    """A scalar type: kind 'i', 'u' or 'f', and its bits; 'b' with 1 bit is a truth value."""

    kind: str
    width: int

    @property
    def llvm(self) -> str:
        """As LLVM spells it."""
        return {16: "half", 32: "float", 64: "double"}[self.width] if self.kind == "f" else f"i{self.width}"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(np.bool_ if self.kind == "b" else f"{self.kind}{self.width // 8}")

    def __call__(self, value: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(value).astype(self.numpy)[()]

    def __str__(self) -> str:
        return f"{self.kind}{self.width}"


b1 = Type("b", 1)
i8, i16, i32, i64 = [Type("i", n) for n in (8, 16, 32, 64)]
u8, u16, u32, u64 = [Type("u", n) for n in (8, 16, 32, 64)]
f32, f64 = Type("f", 32), Type("f", 64)


def bits(value: Any, to: Type) -> Any:
    """The same bits as another type of the same width."""
    return value.view(to.numpy)


def view(memory: Any, offset: int, to: Type) -> Any:
    """``memory`` from byte ``offset`` on as values of another type."""
    return memory.view(np.uint8)[int(offset) :].view(to.numpy)


def exp(value: Any) -> Any:
    return np.exp(value)


def log1p(value: Any) -> Any:
    return np.log1p(value)


LINE = 64  # bytes of a cache line


def misplaced(memory: Any) -> int:
    """How many bytes after a multiple of LINE ``memory`` begins."""
    return int(memory.ctypes.data) % LINE


def clear_line(memory: Any, index: int) -> None:
    """LINE bytes of zeros from ``index`` on, which is the begin of a line; they go past the cache."""
    memory[index : index + LINE // memory.itemsize] = 0


def copy_line(memory: Any, index: int, source: Any, start: int) -> None:
    """As :func:`clear_line`, with what ``source`` of the same type has from ``start`` on, which may lie anywhere."""
    count = LINE // memory.itemsize
    memory[index : index + count] = source[start : start + count]


def prefetch(memory: Any, index: int) -> None:
    """The line of this element will be read soon."""


def fence() -> None:
    """What went past the cache is seen by other threads before what is written later."""


def stored(name: str) -> Type:
    """The type that loops see an element type's memory as: bools and 16-bit floats as unsigned bits."""
    if name in ("bool", "float16", "bfloat16"):
        return u8 if name == "bool" else u16
    kind = name[0]
    return Type(kind, int("".join([c for c in name if c.isdigit()])))


__all__ = [
    "LINE", "Type", "b1", "bits", "clear_line", "copy_line", "exp", "f32", "f64", "fence", "i16", "i32", "i64", "i8", "log1p", "misplaced",
    "prefetch", "stored", "u16", "u32", "u64", "u8", "view",
]  # fmt: skip
