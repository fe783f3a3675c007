"""Kernels as LLVM IR: explicit vector code, one function ``void name(ptr args, i64 lo, i64 hi)`` a kernel.

In: a :class:`~spiraltorch.ir.kernel.Kernel` and a :class:`~.target.Target`.  Out: LLVM IR text.

    module = Module(host())
    module.add(kernel, "f")
    obj = compile_module(module.text(), host())
"""

from __future__ import annotations

from ...ir.kernel import Kernel
from .helpers import helper_functions
from .rows import Unit
from .target import Target
from .tiles import TileWriter, transposed_axis
from .writer import Writer as _Writer


class Module:
    """Kernels that are compiled together."""

    def __init__(self, target: Target) -> None:
        self.unit = Unit(target)
        self.functions: list[str] = []

    def add(self, kernel: Kernel, name: str) -> None:
        """Write ``kernel`` as function ``name``."""
        writer = _Writer if transposed_axis(kernel) is None else TileWriter
        self.functions.append(writer(self.unit, kernel, name).text())

    def text(self) -> str:
        """The module as LLVM IR."""
        helpers = helper_functions(self.unit)
        return "\n".join([*self.unit.globals.values(), "", *helpers, *self.functions])


def emit_kernel(kernel: Kernel, target: Target, name: str) -> str:
    """LLVM IR of a module with the one function ``name``."""
    module = Module(target)
    module.add(kernel, name)
    return module.text()
