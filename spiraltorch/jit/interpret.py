"""Run a schedule with the NumPy reference interpreter: the oracle for every spelling, and ``ST_CPU=reference``.

In: lowered passes and flat input arrays.  Out: flat output arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir.kernel import Gemm, Kernel
from ..kernels import reference
from .lower_matrix import Table
from .program import Lowered, RoutineFailed, check_failed

Runner = Callable[[Any, Sequence[np.ndarray], Sequence[int], Sequence[Any]], None]


def run_reference(kernel: Any, arrays: Sequence[np.ndarray], ints: Sequence[int], scalars: Sequence[Any]) -> None:
    """One launch on flat arrays by the reference interpreter."""
    if isinstance(kernel, Kernel):
        reference.run_kernel(kernel, arrays, ints, scalars)
    elif isinstance(kernel, Gemm):
        reference.run_gemm(kernel, arrays, ints, scalars)
    else:
        from ..kernels.library import run_reference as library

        library(kernel, arrays, ints)


def run_lowered(
    lowered: Lowered, inputs: Sequence[np.ndarray], scalars: Sequence[Any] = (), runner: Runner = run_reference
) -> list[np.ndarray]:
    """Outputs (flat) for flat ``inputs``; every launch goes through ``runner``.  Raises ProgramFailed."""
    schedule = lowered.schedule
    status = np.zeros(1, np.int64)
    ins = [np.array(a).reshape(-1) for a in inputs]
    outs: dict[int, np.ndarray] = {}
    arena = np.zeros(schedule.arena, np.uint8)
    node_of = {j: r for j, r in enumerate(lowered.simplified)}

    def view(p: Any) -> np.ndarray:
        if isinstance(p, str):
            return status
        if isinstance(p, Table):
            return p.offsets()
        kind, value = schedule.memory[p]
        if kind == "in":
            return ins[value]
        if kind == "out":
            if value not in outs:
                outs[value] = np.zeros(node_of[value].size, node_of[value].dtype.np)
            return outs[value]
        return arena[value : value + p.nbytes].view(p.dtype.np)

    for step in schedule.steps:
        for x in step.launches:
            try:
                runner(x.kernel, [view(p) for p in x.params], x.ints, [scalars[s] for s in x.scalars])
            except Exception as e:
                n = x.checks.get(1)
                if n is None or n.op != "CALL":
                    raise
                raise RoutineFailed(e, n.origin) from None
            if status[0]:
                n = x.checks.get(int(status[0]))
                raise check_failed(n, n.origin if n is not None else None)
    result = []
    for j, (kind, value) in enumerate(schedule.outs):
        if kind == "in":
            result.append(ins[value])
        else:
            result.append(outs.get(value, np.zeros(node_of[j].size, node_of[j].dtype.np)))
    return result


def run_steps(program: Any, inputs: Sequence[Any], outs: Sequence[Any], arena: Any, scalars: Sequence[Any]) -> None:
    """The same on buffers."""
    arrays = [b.view(d.to_real().np, (int(np.prod(s, dtype=np.int64)) * (1 + d.is_complex),)) for b, (s, d) in zip(inputs, program.inputs)]
    typed = [d.np.type(v) for v, d in zip(scalars, program.scalar_types)]
    found = run_lowered(program.lowered, arrays, typed)
    for a, b in zip(found, outs):
        a = np.ascontiguousarray(a)
        ctypes.memmove(b.ptr, a.ctypes.data, a.nbytes)
