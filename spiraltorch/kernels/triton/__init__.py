"""The GPU spelling: Triton source for CUDA and ROCm from the same kernel tree.

``source`` and ``plan`` need nothing but this package.  ``compile`` (a binary, no GPU needed),
``interpret`` (on host memory) and ``launch`` import Triton when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .emit import Tile
from .gemm import GemmTile
from .module import plan, programs, source

_LATE = {"compile": "compiler", "interpret": "interpreter", "launch": "launcher"}

__all__ = ["GemmTile", "Tile", "compile", "interpret", "launch", "plan", "programs", "source"]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
