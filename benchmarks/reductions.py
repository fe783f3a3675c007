"""Reductions over other axes than the last."""

from __future__ import annotations

from .registry import Framework, Step, arrays, workload

column_sum = workload("column_sum", "float32[4096, 4096] over the first axis")


@column_sum.torch
@column_sum.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 4096))[0])
    f = fw.compile(lambda x: x.sum(0))
    return lambda: f(x)
