"""A training step with Adam, the same for every workload: in torch's surface, and in JAX's.

    @lstm_train.torch
    def _(fw):
        return torch_step(fw, model, x, y, lambda x, y: mse_loss(model(x)[0], y))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .registry import Framework, Step

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def torch_step(fw: Framework, model: Any, x: Any, y: Any, loss_of: Callable[[Any, Any], Any], decay: float | None = None) -> Step:
    """Forward, backward and optimizer as one function; ``decay`` makes the optimizer AdamW."""
    settings: dict[str, Any] = {"lr": LR, "betas": (BETA1, BETA2), "eps": EPS}
    if decay is None:
        optimizer = fw.lib.optim.Adam(model.parameters(), **settings)
    else:
        optimizer = fw.lib.optim.AdamW(model.parameters(), weight_decay=decay, **settings)

    @fw.compile
    def step(x, y):  # type: ignore[no-untyped-def]
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return lambda: step(x, y)


def jax_step(
    fw: Framework, params: Any, x: Any, y: Any, loss_of: Callable[..., Any], decay: float | None = None, running: Any = None
) -> Step:
    """The same in JAX.  ``loss_of(params, x, y)``; with statistics of ``running``, ``loss_of(params, running, x, y)`` also
    gives the new ones."""
    jax, jnp = fw.lib, fw.lib.numpy

    def with_running(params, running, x, y):  # type: ignore[no-untyped-def]
        return (loss_of(params, x, y), None) if running is None else loss_of(params, running, x, y)

    @fw.compile
    def step(state, x, y):  # type: ignore[no-untyped-def]
        params, running, mean, square, t = state
        (loss, running), grads = jax.value_and_grad(with_running, has_aux=True)(params, running, x, y)
        t = t + 1
        mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, grads)
        square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, grads)
        rate, correct = LR / (1 - BETA1**t), 1 - BETA2**t
        kept = 1 if decay is None else 1 - LR * decay
        params = jax.tree.map(lambda p, m, v: p * kept - rate * m / (jnp.sqrt(v / correct) + EPS), params, mean, square)
        return (params, running, mean, square, t), loss

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = [(params, running, zeros, zeros, jnp.float32(0))]

    def run():  # type: ignore[no-untyped-def]
        state[0], loss = step(state[0], x, y)
        return loss, state[0]

    return run
