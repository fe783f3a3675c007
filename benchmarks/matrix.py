"""Matrix products."""

from __future__ import annotations

from .registry import Framework, Step, arrays, workload

matmul = workload("matmul", "float32, 1024 x 1024 by 1024 x 1024")


@matmul.torch
@matmul.jax
def _(fw: Framework) -> Step:
    a, b = [fw.tensor(x) for x in arrays((1024, 1024), (1024, 1024))]
    f = fw.compile(lambda a, b: a @ b)
    return lambda: f(a, b)
