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


biased = workload("matmul_bias_gelu", "tanh-GELU(x @ w + b), float32, 1024 x 1024 by 1024 x 1024")


@biased.torch
@biased.jax
def _(fw: Framework) -> Step:
    x, w, b = [fw.tensor(a) for a in arrays((1024, 1024), (1024, 1024), (1024,))]
    if fw.surface == "jax":
        f = fw.compile(lambda x, w, b: fw.lib.nn.gelu(x @ w + b, approximate=True))
    else:
        f = fw.compile(lambda x, w, b: fw.lib.nn.functional.gelu(x @ w + b, approximate="tanh"))
    return lambda: f(x, w, b)
