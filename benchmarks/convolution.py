"""Convolutional networks: a training step of a small classifier, and a residual block at inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, labels, workload
from .steps import jax_step, torch_step

cnn_train = workload("cnn_train", "conv32-bn-relu-pool-conv64-bn-relu-pool-fc, batch 64 of 1x28x28, Adam: a training step")
_CHANNELS = (1, 32, 64)
_CLASSES, _BATCH, _SIDE = 10, 64, 28
NORM_EPS = 1e-5


def _cnn_weights() -> dict[str, np.ndarray]:
    """Parameters under the names that an ``nn.Sequential`` gives them: conv, norm, relu, pool twice, then a layer."""
    found: dict[str, np.ndarray] = {}
    for k, (i, o) in enumerate(zip(_CHANNELS, _CHANNELS[1:])):
        (found[f"{4 * k}.weight"],) = arrays((o, i, 3, 3), scale=(9 * i) ** -0.5, seed=20 + k)
        found[f"{4 * k}.bias"] = np.zeros(o, np.float32)
        found[f"{4 * k + 1}.weight"], found[f"{4 * k + 1}.bias"] = np.ones(o, np.float32), np.zeros(o, np.float32)
    features = _CHANNELS[-1] * (_SIDE // 4) ** 2
    (found["9.weight"],) = arrays((_CLASSES, features), scale=features**-0.5, seed=30)
    found["9.bias"] = np.zeros(_CLASSES, np.float32)
    return found


def _cnn_data(fw: Framework) -> tuple[Any, Any]:
    return fw.tensor(arrays((_BATCH, 1, _SIDE, _SIDE), seed=6)[0]), fw.tensor(labels(_BATCH, _CLASSES))


@cnn_train.torch
def _(fw: Framework) -> Step:
    nn = fw.lib.nn
    layers: list[Any] = []
    for i, o in zip(_CHANNELS, _CHANNELS[1:]):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o, eps=NORM_EPS), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(_CHANNELS[-1] * (_SIDE // 4) ** 2, _CLASSES))
    model.load_state_dict({name: fw.tensor(a) for name, a in _cnn_weights().items()}, strict=False)
    loss_of = nn.functional.cross_entropy
    x, y = _cnn_data(fw)
    return torch_step(fw, model, x, y, lambda x, y: loss_of(model(x), y))


def _convolve(jax: Any, x: Any, w: Any) -> Any:
    return jax.lax.conv_general_dilated(x, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW"))


def _per_channel(v: Any) -> Any:
    return v[:, None, None]


def _largest_of_four(x: Any) -> Any:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


@cnn_train.jax
def _(fw: Framework) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    params = {name: fw.tensor(a) for name, a in _cnn_weights().items()}
    running = [(jnp.zeros(o), jnp.ones(o)) for o in _CHANNELS[1:]]
    x, y = _cnn_data(fw)

    def loss_of(params, running, x, y):  # type: ignore[no-untyped-def]
        moved = []
        for k, (mean, var) in enumerate(running):
            x = _convolve(jax, x, params[f"{4 * k}.weight"]) + _per_channel(params[f"{4 * k}.bias"])
            count = x.size // x.shape[1]
            batch_mean = x.mean((0, 2, 3))
            d = x - _per_channel(batch_mean)
            batch_var = (d * d).mean((0, 2, 3))
            scale = jax.lax.rsqrt(batch_var + NORM_EPS) * params[f"{4 * k + 1}.weight"]
            x = jax.nn.relu(d * _per_channel(scale) + _per_channel(params[f"{4 * k + 1}.bias"]))
            x = _largest_of_four(x)
            moved.append((0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var * (count / (count - 1))))
        logits = x.reshape(len(x), -1) @ params["9.weight"].T + params["9.bias"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), moved

    return jax_step(fw, params, x, y, loss_of, running=running)


resblock = workload("resblock_infer", "2 x (conv3x3-bn-relu) and the input added, 8x64x56x56, eval")
_BLOCK = (8, 64, 56, 56)


def _block_weights() -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """For each half its filter, and the norm's weight, bias, mean and variance."""
    channels = _BLOCK[1]
    found = []
    for k in range(2):
        (w,) = arrays((channels, channels, 3, 3), scale=(9 * channels) ** -0.5, seed=40 + k)
        scale, shift, mean, spread = arrays(*[(channels,)] * 4, scale=0.1, seed=50 + k)
        found.append((w, [1 + scale, shift, mean, 1 + np.abs(spread)]))
    return found


def _torch_block(fw: Framework, halves: Sequence[tuple[np.ndarray, list[np.ndarray]]]) -> Any:
    nn = fw.lib.nn
    parts: dict[str, Any] = {}
    state = {}
    for k, (w, norm) in enumerate(halves):
        parts[f"conv{k}"] = nn.Conv2d(_BLOCK[1], _BLOCK[1], 3, padding=1, bias=False)
        parts[f"norm{k}"] = nn.BatchNorm2d(_BLOCK[1], eps=NORM_EPS)
        state[f"conv{k}.weight"] = fw.tensor(w)
        for name, a in zip(("weight", "bias", "running_mean", "running_var"), norm):
            state[f"norm{k}.{name}"] = fw.tensor(a)
    block = nn.ModuleDict(parts)
    block.load_state_dict(state, strict=False)
    return block.eval()


@resblock.torch
def _(fw: Framework) -> Step:
    block = _torch_block(fw, _block_weights())
    relu, x = fw.lib.nn.functional.relu, fw.tensor(arrays(_BLOCK, seed=7)[0])

    @fw.compile
    def forward(x):  # type: ignore[no-untyped-def]
        inner = relu(block["norm0"](block["conv0"](x)))
        return relu(block["norm1"](block["conv1"](inner)) + x)

    def run():  # type: ignore[no-untyped-def]
        with fw.lib.no_grad():
            return forward(x)

    return run


@resblock.jax
def _(fw: Framework) -> Step:
    jax = fw.lib
    weights = [(fw.tensor(w), [fw.tensor(a) for a in norm]) for w, norm in _block_weights()]
    x = fw.tensor(arrays(_BLOCK, seed=7)[0])

    def half(x, w, norm):  # type: ignore[no-untyped-def]
        scale, shift, mean, var = norm
        scale = scale * jax.lax.rsqrt(var + NORM_EPS)
        return _convolve(jax, x, w) * _per_channel(scale) + _per_channel(shift - mean * scale)

    @fw.compile
    def forward(weights, x):  # type: ignore[no-untyped-def]
        first, second = weights
        return jax.nn.relu(half(jax.nn.relu(half(x, *first)), *second) + x)

    return lambda: forward(weights, x)
