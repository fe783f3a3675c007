"""The readable CPU spelling: plain Python loops that run as they are, or compiled by Numba.

``source`` needs nothing but this package; Numba is imported by ``run``, ``function`` and ``compile``.
"""

from __future__ import annotations

from typing import Any

from .emit import gemm_tasks, source

__all__ = ["compile", "function", "gemm_tasks", "run", "source"]


def __getattr__(name: str) -> Any:
    if name in ("compile", "function", "run"):
        from . import native

        return getattr(native, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
