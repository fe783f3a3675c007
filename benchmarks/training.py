"""Training steps: forward, backward and optimizer as one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, labels, workload

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def _weights(sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(out, in) matrices as nn.Linear has them, and biases."""
    found = []
    for k, (i, o) in enumerate(zip(sizes, sizes[1:])):
        (w,) = arrays((o, i), scale=i**-0.5, seed=10 + k)
        found.append((w, np.zeros(o, np.float32)))
    return found


def _data(fw: Framework, sizes: Sequence[int], batch: int) -> tuple[Any, Any]:
    return fw.tensor(arrays((batch, sizes[0]), seed=5)[0]), fw.tensor(labels(batch, sizes[-1]))


def _mlp_torch(fw: Framework, sizes: Sequence[int], batch: int) -> Step:
    lib = fw.lib
    layers: list[Any] = []
    state = {}
    for w, b in _weights(sizes):
        state[f"{len(layers)}.weight"], state[f"{len(layers)}.bias"] = fw.tensor(w), fw.tensor(b)
        layers += [lib.nn.Linear(w.shape[1], w.shape[0]), lib.nn.ReLU()]
    model = lib.nn.Sequential(*layers[:-1])
    model.load_state_dict(state)
    optimizer = lib.optim.Adam(model.parameters(), lr=LR, betas=(BETA1, BETA2), eps=EPS)
    loss_of = lib.nn.functional.cross_entropy
    x, y = _data(fw, sizes, batch)

    @fw.compile
    def step(x, y):  # type: ignore[no-untyped-def]
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return lambda: step(x, y)


def _mlp_jax(fw: Framework, sizes: Sequence[int], batch: int) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    params = [(fw.tensor(w), fw.tensor(b)) for w, b in _weights(sizes)]
    zeros = jax.tree.map(jnp.zeros_like, params)
    x, y = _data(fw, sizes, batch)

    def loss_of(params, x, y):  # type: ignore[no-untyped-def]
        for k, (w, b) in enumerate(params):
            x = x @ w.T + b
            if k + 1 < len(params):
                x = jax.nn.relu(x)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    @fw.compile
    def step(state, x, y):  # type: ignore[no-untyped-def]
        params, mean, square, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        t = t + 1
        mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, grads)
        square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, grads)
        rate, correct = LR / (1 - BETA1**t), 1 - BETA2**t
        move = lambda p, m, v: p - rate * m / (jnp.sqrt(v / correct) + EPS)  # noqa: E731
        return (jax.tree.map(move, params, mean, square), mean, square, t), loss

    state = [(params, zeros, zeros, jnp.float32(0))]

    def run():  # type: ignore[no-untyped-def]
        state[0], loss = step(state[0], x, y)
        return loss, state[0]

    return run


def _mlp(name: str, note: str, sizes: Sequence[int], batch: int) -> None:
    w = workload(name, note)
    w.torch(lambda fw: _mlp_torch(fw, sizes, batch))
    w.jax(lambda fw: _mlp_jax(fw, sizes, batch))


_mlp("mlp", "784-512-512-10, batch 64, Adam: a training step", (784, 512, 512, 10), 64)
_mlp("mlp_small", "64-64-10, batch 16, Adam: a training step", (64, 64, 10), 16)
