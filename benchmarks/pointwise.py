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
