"""``st.compile(module)``: the module with its forward compiled."""

from __future__ import annotations

from typing import Any

from ..jit.compile import CompiledFunction


def compile_module(module: Any, fullgraph: bool = False) -> Any:
    """The same module object; calling it runs the compiled forward.  Parameters, state and names are its own."""
    forward = CompiledFunction(type(module).forward.__get__(module), fullgraph)
    object.__setattr__(module, "forward", forward)
    return module
