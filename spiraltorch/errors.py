"""Every error class of the library, and how a message gets the user's own line.

The classes subclass what torch raises (RuntimeError, IndexError, TypeError, ValueError), so code
that catches torch's errors goes on working.
"""

from __future__ import annotations

import sys
from types import CodeType

_PACKAGE = __name__.rpartition(".")[0].replace(".", "/") + "/"
_inside: dict[str, bool] = {}  # whether a file is of this package


class SpiralError(RuntimeError):
    """Base of the library's own errors; a RuntimeError, as torch's are."""


class ShapeError(SpiralError):
    """Sizes do not fit each other."""


class DtypeError(SpiralError, NotImplementedError):
    """An operator is not defined for an element type; torch raises NotImplementedError, a RuntimeError."""


class LinAlgError(SpiralError):
    """A matrix that a factorization or solver can do nothing with (torch.linalg.LinAlgError)."""


class VersionError(SpiralError):
    """A tensor that backward needs was changed in place after it was saved."""


class OutOfMemoryError(SpiralError, MemoryError):
    """An allocation is larger than the machine can give."""


class CompileError(SpiralError):
    """``fullgraph=True`` met Python that depends on a tensor's value."""


class VerifyError(SpiralError):
    """A graph or kernel breaks a rule of the IR: always a bug of this library."""


Origin = tuple[CodeType, int]


def user_origin(depth: int = 1) -> Origin | None:
    """Code object and instruction of the nearest caller outside this package (cheap, unresolved)."""
    f = sys._getframe(depth)
    while f is not None:
        code = f.f_code
        name = code.co_filename
        inside = _inside.get(name)
        if inside is None:
            inside = _inside[name] = _PACKAGE in name and "/tests/" not in name
        if not inside:
            return code, f.f_lasti
        f = f.f_back  # type: ignore[assignment]
    return None


def describe_origin(origin: Origin | None) -> str:
    """``file:line`` of an origin, or '' when none was recorded."""
    if origin is None:
        return ""
    code, lasti = origin
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= lasti < end and number is not None:
            line = number
            break
    return f"{code.co_filename}:{line}"
