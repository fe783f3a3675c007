"""A training step of a recurrent network: one LSTM layer, and the loss of its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, workload
from .steps import jax_step, torch_step

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
    loss_of = fw.lib.nn.functional.mse_loss
    x, y = _data(fw)
    return torch_step(fw, model, x, y, lambda x, y: loss_of(model(x)[0], y))


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

    return jax_step(fw, params, x, y, loss_of)
