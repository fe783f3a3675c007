"""The classes of results that have names (torch.return_types), by the operator's name.

>>> import spiraltorch as st
>>> isinstance(st.ones(2, 2).max(0), st.return_types.max)
True
"""

from __future__ import annotations

from typing import Any

from .ops.registry import OPS, Results, result_class


def __getattr__(name: str) -> type[Results]:
    record: Any = OPS.get(name)
    if record is None or not record.results:
        raise AttributeError(f"no operator {name!r} gives results with names")
    return result_class(name, record.results)


def __dir__() -> list[str]:
    return sorted([name for name, record in OPS.items() if record.results])
