"""Row kernels: softmax, layer norm and cross entropy, forward and backward."""

from __future__ import annotations

from .registry import Framework, Step, arrays, labels, workload

softmax = workload("softmax", "float32[4096, 1024] along rows")


@softmax.torch
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 1024))[0])
    f = fw.compile(lambda x: x.softmax(-1))
    return lambda: f(x)


@softmax.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 1024))[0])
    f = fw.compile(lambda x: fw.lib.nn.softmax(x, axis=-1))
    return lambda: f(x)


layernorm = workload("layernorm_fwd_bwd", "float32[4096, 768]: result and three gradients")
_NORM = ((4096, 768), (768,), (768,), (4096, 768))


@layernorm.torch
def _(fw: Framework) -> Step:
    x, w, b, g = [fw.tensor(a, i < 3) for i, a in enumerate(arrays(*_NORM))]
    layer_norm = fw.lib.nn.functional.layer_norm

    @fw.compile
    def step(x, w, b, g):  # type: ignore[no-untyped-def]
        x.grad = w.grad = b.grad = None
        y = layer_norm(x, (768,), w, b)
        y.backward(g)
        return y.detach()

    return lambda: (step(x, w, b, g), x.grad, w.grad, b.grad)


@layernorm.jax
def _(fw: Framework) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    data = [fw.tensor(a) for a in arrays(*_NORM)]

    def layer_norm(x, w, b):  # type: ignore[no-untyped-def]
        mean = jnp.mean(x, -1, keepdims=True)
        var = jnp.mean((x - mean) ** 2, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * w + b

    @fw.compile
    def step(x, w, b, g):  # type: ignore[no-untyped-def]
        y, pull = jax.vjp(layer_norm, x, w, b)
        return y, *pull(g)

    return lambda: step(*data)


cross_entropy = workload("cross_entropy_fwd_bwd", "float32[2048, 8192]: loss and the logits' gradient")


@cross_entropy.torch
def _(fw: Framework) -> Step:
    x, y = fw.tensor(arrays((2048, 8192))[0], True), fw.tensor(labels(2048, 8192))
    loss_of = fw.lib.nn.functional.cross_entropy

    @fw.compile
    def step(x, y):  # type: ignore[no-untyped-def]
        x.grad = None
        loss = loss_of(x, y)
        loss.backward()
        return loss.detach()

    return lambda: (step(x, y), x.grad)


@cross_entropy.jax
def _(fw: Framework) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    x, y = fw.tensor(arrays((2048, 8192))[0]), fw.tensor(labels(2048, 8192))

    def loss_of(x, y):  # type: ignore[no-untyped-def]
        picked = jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1)
        return -picked.mean()

    step = fw.compile(jax.value_and_grad(loss_of))
    return lambda: step(x, y)
