"""``st.compile(module)``: the module with its forward compiled.

>>> import spiraltorch as st
>>> m = st.nn.Linear(2, 3)
>>> st.compile(m) is m
True
"""

from __future__ import annotations

from typing import Any

from ..jit.compile import CompiledFunction


def compile_module(module: Any, fullgraph: bool = False, memory_budget: int | None = None) -> Any:
    """The same module object; calling it runs the compiled forward.  Parameters, state and names are its own.

    Copies and pickles of it are compiled anew.
    """
    forward = type(module).forward.__get__(module)
    module.__dict__.update(forward=CompiledFunction(forward, fullgraph, memory_budget), _compiled=(fullgraph, memory_budget))
    return module
