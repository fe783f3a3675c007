"""Scans, sorting, selection and scatter: what is a library routine below the graph."""

from __future__ import annotations

from .registry import Framework, Step, arrays, labels, workload

cumsum = workload("cumsum", "float32[4096, 1024] along the last axis")


@cumsum.torch
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 1024))[0])
    f = fw.compile(lambda x: x.cumsum(1))
    return lambda: f(x)


@cumsum.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((4096, 1024))[0])
    f = fw.compile(lambda x: fw.lib.numpy.cumsum(x, 1))
    return lambda: f(x)


sort = workload("sort", "float32[512, 8192] along the last axis: indices and values")


@sort.torch
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((512, 8192))[0])

    @fw.compile
    def step(x):  # type: ignore[no-untyped-def]
        values, indices = x.sort(-1)
        return indices, values

    return lambda: step(x)


@sort.jax
def _(fw: Framework) -> Step:
    jnp = fw.lib.numpy
    x = fw.tensor(arrays((512, 8192))[0])

    @fw.compile
    def step(x):  # type: ignore[no-untyped-def]
        indices = jnp.argsort(x, -1)
        return indices, jnp.take_along_axis(x, indices, -1)

    return lambda: step(x)


topk = workload("topk", "float32[512, 32000], the 50 largest of each row")


@topk.torch
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((512, 32000))[0])
    f = fw.compile(lambda x: tuple(x.topk(50)))
    return lambda: f(x)


@topk.jax
def _(fw: Framework) -> Step:
    x = fw.tensor(arrays((512, 32000))[0])
    f = fw.compile(lambda x: tuple(fw.lib.lax.top_k(x, 50)))
    return lambda: f(x)


embedding = workload("embedding_bwd", "gradient of a float32[50000, 128] table looked up at 16384 ids")


@embedding.torch
def _(fw: Framework) -> Step:
    w, g = fw.tensor(arrays((50000, 128))[0], True), fw.tensor(arrays((16384, 128), seed=1)[0])
    ids = fw.tensor(labels(16384, 50000))
    look_up = fw.lib.nn.functional.embedding

    @fw.compile
    def step(w, ids, g):  # type: ignore[no-untyped-def]
        w.grad = None
        look_up(ids, w).backward(g)

    def run():  # type: ignore[no-untyped-def]
        step(w, ids, g)
        return w.grad

    return run


@embedding.jax
def _(fw: Framework) -> Step:
    jax = fw.lib
    w, g = [fw.tensor(a) for a in (arrays((50000, 128))[0], arrays((16384, 128), seed=1)[0])]
    ids = fw.tensor(labels(16384, 50000))
    f = fw.compile(lambda w, ids, g: jax.vjp(lambda w: w[ids], w)[1](g)[0])
    return lambda: f(w, ids, g)
