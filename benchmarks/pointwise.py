"""Pointwise work: what recording an operation costs, and fused chains."""

from __future__ import annotations

from .registry import Framework, Step, arrays, workload

OPS = 200


def _chain(x, add, one):  # type: ignore[no-untyped-def]
    for _ in range(OPS // 2):
        x = add(x, one)
        x = x * one
    return x


def _small_chain(fw: Framework, look: bool) -> Step:
    x, one = fw.tensor(arrays((16,))[0]), fw.tensor(arrays((16,), scale=0.01, seed=1)[0])
    add = fw.lib.numpy.add if fw.surface == "jax" else fw.lib.add

    def step():  # type: ignore[no-untyped-def]
        y = _chain(x, add, one)
        return y.sum().item() if look else y

    return step


record = workload("record", f"eager chain of {OPS} operations on 16 floats, not looked at", eager=True, per=OPS)


@record.torch
@record.jax
def _record(fw: Framework) -> Step:
    return _small_chain(fw, look=False)


eager_chain = workload(
    "eager_chain", f"eager chain of {OPS} operations on 16 floats, with its result", eager=True, per=OPS
)


@eager_chain.torch
@eager_chain.jax
def _eager_chain(fw: Framework) -> Step:
    return _small_chain(fw, look=True)


gelu_chain = workload("gelu_chain", "tanh-GELU(x*w+b), x float32[4096, 1024]")
_GELU = ((4096, 1024), (1024,), (1024,))


@gelu_chain.torch
def _(fw: Framework) -> Step:
    data = [fw.tensor(a) for a in arrays(*_GELU)]
    gelu = fw.lib.nn.functional.gelu
    f = fw.compile(lambda x, w, b: gelu(x * w + b, approximate="tanh"))
    return lambda: f(*data)


@gelu_chain.jax
def _(fw: Framework) -> Step:
    data = [fw.tensor(a) for a in arrays(*_GELU)]
    f = fw.compile(lambda x, w, b: fw.lib.nn.gelu(x * w + b, approximate=True))
    return lambda: f(*data)


gelu_erf = workload("gelu_erf", "erf-GELU(x) + sigmoid(x) * softplus(x), x float32[4096, 1024]")


@gelu_erf.torch
def _(fw: Framework) -> Step:
    x, nn = fw.tensor(arrays((4096, 1024))[0]), fw.lib.nn.functional
    f = fw.compile(lambda x: nn.gelu(x) + x.sigmoid() * nn.softplus(x))
    return lambda: f(x)


@gelu_erf.jax
def _(fw: Framework) -> Step:
    x, nn = fw.tensor(arrays((4096, 1024))[0]), fw.lib.nn
    f = fw.compile(lambda x: nn.gelu(x, approximate=False) + nn.sigmoid(x) * nn.softplus(x))
    return lambda: f(x)


broadcast_norm = workload("broadcast_norm", "where(x > 0, exp(clamp((x - m) * s, -4, 4)), x), x float32[2048, 2048]")
_ROWS = ((2048, 2048), (2048, 1), (2048,))


@broadcast_norm.torch
def _(fw: Framework) -> Step:
    lib, data = fw.lib, [fw.tensor(a) for a in arrays(*_ROWS)]
    f = fw.compile(lambda x, m, s: lib.where(x > 0, ((x - m) * s).clamp(-4, 4).exp(), x))
    return lambda: f(*data)


@broadcast_norm.jax
def _(fw: Framework) -> Step:
    jnp, data = fw.lib.numpy, [fw.tensor(a) for a in arrays(*_ROWS)]
    f = fw.compile(lambda x, m, s: jnp.where(x > 0, jnp.exp(jnp.clip((x - m) * s, -4, 4)), x))
    return lambda: f(*data)


transpose_add = workload("transpose_add", "x + y.T, float32[4096, 4096]")


@transpose_add.torch
@transpose_add.jax
def _(fw: Framework) -> Step:
    x, y = [fw.tensor(a) for a in arrays((4096, 4096), (4096, 4096))]
    f = fw.compile(lambda x, y: x + y.T)
    return lambda: f(x, y)
