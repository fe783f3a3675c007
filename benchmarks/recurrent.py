"""A training step of a recurrent network: one LSTM layer, and the loss of its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, workload
from .training import BETA1, BETA2, EPS, LR

lstm_train = workload("lstm_train", "LSTM 32-64, 32 steps, batch 32, squared error, Adam: a training step")
_IN, _UNITS, _STEPS, _BATCH = 32, 64, 32, 32


def _weights() -> dict[str, np.ndarray]:
    shapes = {"weight_ih_l0": (4 * _UNITS, _IN), "weight_hh_l0": (4 * _UNITS, _UNITS), "bias_ih_l0": (4 * _UNITS,)}
    shapes["bias_hh_l0"] = (4 * _UNITS,)
    return dict(zip(shapes, arrays(*shapes.values(), scale=_UNITS**-0.5, seed=60)))


def _data(fw: Framework) -> tuple[Any, Any]:
    x, y = arrays((_STEPS, _BATCH, _IN), (_STEPS, _BATCH, _UNITS), scale=0.5, seed=61)
    return fw.tensor(x), fw.tensor(y)


@lstm_train.torch
def _(fw: Framework) -> Step:
    model = fw.lib.nn.LSTM(_IN, _UNITS)
    model.load_state_dict({name: fw.tensor(a) for name, a in _weights().items()})
    optimizer = fw.lib.optim.Adam(model.parameters(), lr=LR, betas=(BETA1, BETA2), eps=EPS)
    loss_of = fw.lib.nn.functional.mse_loss
    x, y = _data(fw)

    @fw.compile
    def step(x, y):  # type: ignore[no-untyped-def]
        optimizer.zero_grad()
        loss = loss_of(model(x)[0], y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return lambda: step(x, y)


@lstm_train.jax
def _(fw: Framework) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    params = {name: fw.tensor(a) for name, a in _weights().items()}
    x, y = _data(fw)

    def loss_of(p, x, y):  # type: ignore[no-untyped-def]
        def cell(state, gates):  # type: ignore[no-untyped-def]
            h, c = state
            i, f, g, o = jnp.split(gates + h @ p["weight_hh_l0"].T + p["bias_hh_l0"], 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        first = jnp.zeros((_BATCH, _UNITS)), jnp.zeros((_BATCH, _UNITS))
        _, out = jax.lax.scan(cell, first, x @ p["weight_ih_l0"].T + p["bias_ih_l0"])
        return ((out - y) ** 2).mean()

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

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = [(params, zeros, zeros, jnp.float32(0))]

    def run():  # type: ignore[no-untyped-def]
        state[0], loss = step(state[0], x, y)
        return loss, state[0]

    return run
