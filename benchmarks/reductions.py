"""Reductions over other axes than the last, and over all."""

from __future__ import annotations

from .registry import Framework, Step, arrays, workload

column_sum = workload("column_sum", "float32[4096, 4096] over the first axis")


@column_sum.torch
@column_sum.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 4096))[0])
    f = fw.compile(lambda x: x.sum(0))
    return lambda: f(x)


var_all = workload("var_all", "variance of all of float32[4096, 4096]")


@var_all.torch
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 4096))[0])
    f = fw.compile(lambda x: x.var())
    return lambda: f(x)


@var_all.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 4096))[0])
    f = fw.compile(lambda x: x.var(ddof=1))
    return lambda: f(x)
