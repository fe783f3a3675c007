"""Training steps: forward, backward and optimizer as one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, labels, workload
from .steps import jax_step, torch_step


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
    loss_of = lib.nn.functional.cross_entropy
    x, y = _data(fw, sizes, batch)
    return torch_step(fw, model, x, y, lambda x, y: loss_of(model(x), y))


def _mlp_jax(fw: Framework, sizes: Sequence[int], batch: int) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    params = [(fw.tensor(w), fw.tensor(b)) for w, b in _weights(sizes)]
    x, y = _data(fw, sizes, batch)

    def loss_of(params, x, y):  # type: ignore[no-untyped-def]
        for k, (w, b) in enumerate(params):
            x = x @ w.T + b
            if k + 1 < len(params):
                x = jax.nn.relu(x)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    return jax_step(fw, params, x, y, loss_of)


def _mlp(name: str, note: str, sizes: Sequence[int], batch: int) -> None:
    w = workload(name, note)
    w.torch(lambda fw: _mlp_torch(fw, sizes, batch))
    w.jax(lambda fw: _mlp_jax(fw, sizes, batch))


_mlp("mlp", "784-512-512-10, batch 64, Adam: a training step", (784, 512, 512, 10), 64)
_mlp("mlp_small", "64-64-10, batch 16, Adam: a training step", (64, 64, 10), 16)
