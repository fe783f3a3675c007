"""A trace: one run of a function's Python, with what it read and changed written down.

Recording goes on as always; while a trace is active nothing is computed.  Afterwards the trace knows
the cells that were written, the gradients that were set, the host numbers that were read (learning
rates, random counters), and from that which memory a replay must read and which it must update.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..dtypes import DType
from ..errors import CompileError, describe_origin, user_origin
from ..ir import graph
from ..ir.node import Node
from ..runtime import buffers
from ..storage import Storage, queue


class Trace:
    """State of one trace.  host: (node, container, key, dtype) numbers read from Python objects at each
    run.  random: Philox counters used, by generator.  literals: cells whose data was made inside."""

    def __init__(self, name: str, fullgraph: bool) -> None:
        self.name, self.fullgraph = name, fullgraph
        self.writes: dict[Storage, tuple[Node, int, Any, int]] = {}
        self.grads: dict[Any, Any] = {}
        self.grads_seen: dict[Any, bool] = {}
        self.host: list[tuple[Node, Any, Any, DType]] = []
        self.random: dict[Any, int] = {}
        self.literals: set[Storage] = set()
        self.broken = ""

    # -- hooks called while recording ------------------------------------------------------------------

    def write(self, cell: Storage) -> None:
        """``cell`` is about to be written: remember what it held."""
        if cell not in self.writes:
            self.writes[cell] = (cell.node, cell.version, cell.history, cell.history_version)

    def interrupted(self) -> None:
        """Python looks at a value: the rest cannot be part of this program."""
        where = describe_origin(user_origin(2))
        message = f"{self.name} looks at a tensor's value at {where}"
        if self.fullgraph:
            queue.trace = None
            raise CompileError(
                f"{message}; with fullgraph=True that is an error. Keep the value on the graph (st.where), or move the "
                "decision out of the compiled function."
            )
        self.broken = message
        queue.trace = None
        warnings.warn(
            f"{message}, so it is not compiled: it runs operation by operation, with the recorded parts fused. "
            "Use st.where, or move the decision out of the function.",
            stacklevel=3,
        )

    def grad_read(self, t: Any) -> None:
        if t not in self.grads and t not in self.grads_seen:
            self.grads_seen[t] = t._grad is not None

    def grad_write(self, t: Any) -> None:
        if t not in self.grads:
            self.grads[t] = t._grad

    def host_number(self, container: Any, key: Any, dtype: DType) -> Node:
        """A 0-d leaf that every run sets to what :func:`read_host` finds."""
        for node, c, k, d in self.host:
            if c is container and k == key and d is dtype:
                return node
        node = host_node(read_host(container, key), dtype)
        self.host.append((node, container, key, dtype))
        return node

    def undo(self) -> None:
        """Put everything back as it was before the trace."""
        for cell, (node, version, history, at) in self.writes.items():
            cell.node, cell.version, cell.history, cell.history_version = node, version, history, at
        for t, old in self.grads.items():
            t._grad = old
        for generator, used in self.random.items():
            generator.offset -= used


def read_host(container: Any, key: Any) -> Any:
    """``container[key]``, or the attribute ``key``; a tuple is a path: ``("betas", 0)``."""
    if isinstance(key, tuple):
        for k in key:
            container = read_host(container, k)
        return container
    return container[key] if isinstance(container, (dict, list, tuple)) else getattr(container, key)


def host_node(value: Any, dtype: DType) -> Node:
    """A 0-d leaf with a number of Python's."""
    b = buffers.allocate(8)
    buffers.as_numpy(b, dtype.np, ())[()] = value
    return graph.buffer(b, (), dtype)


def host_number(container: Any, key: Any, dtype: DType) -> Node:
    """A number of Python's as data: changing it needs no new program, traced or not."""
    trace = queue.trace
    if trace is not None:
        return trace.host_number(container, key, dtype)  # type: ignore[no-any-return]
    return host_node(read_host(container, key), dtype)


class untraced:
    """Inside, values are made and computed at once: state that outlives the traced function."""

    def __enter__(self) -> None:
        self.trace = queue.trace
        queue.trace = None

    def __exit__(self, *exc: Any) -> None:
        queue.trace = self.trace


__all__ = ["Trace", "host_number", "untraced"]
