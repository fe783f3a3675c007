"""Scans, sorting, selection and scatter: what is a library routine below the graph."""

from __future__ import annotations

from typing import Any

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
bags = workload("embedding_bag_bwd", "gradient of a float32[50000, 128] table summed over 1024 bags of 16 ids")


def _table_torch(fw: Framework, shape: tuple[int, ...], look_up: Any) -> Step:
    """The gradient at a table of ``look_up(ids, table)`` for ids of ``shape``."""
    ids = fw.tensor(labels(16384, 50000).reshape(shape))
    w, g = fw.tensor(arrays((50000, 128))[0], True), fw.tensor(arrays((shape[0], 128), seed=1)[0])

    @fw.compile
    def step(w, ids, g):  # type: ignore[no-untyped-def]
        w.grad = None
        look_up(ids, w).backward(g)

    def run():  # type: ignore[no-untyped-def]
        step(w, ids, g)
        return w.grad

    return run


def _table_jax(fw: Framework, shape: tuple[int, ...], look_up: Any) -> Step:
    w, g = [fw.tensor(a) for a in (arrays((50000, 128))[0], arrays((shape[0], 128), seed=1)[0])]
    ids = fw.tensor(labels(16384, 50000).reshape(shape))
    f = fw.compile(lambda w, ids, g: fw.lib.vjp(lambda w: look_up(ids, w), w)[1](g)[0])
    return lambda: f(w, ids, g)


embedding.torch(lambda fw: _table_torch(fw, (16384,), fw.lib.nn.functional.embedding))
embedding.jax(lambda fw: _table_jax(fw, (16384,), lambda ids, w: w[ids]))
bags.torch(lambda fw: _table_torch(fw, (1024, 16), lambda ids, w: fw.lib.nn.functional.embedding_bag(ids, w, mode="sum")))
bags.jax(lambda fw: _table_jax(fw, (1024, 16), lambda ids, w: w[ids].sum(1)))
