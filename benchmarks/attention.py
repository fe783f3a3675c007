"""Attention by itself, and two small GPTs: a training step and the logits of a batch.

The GPT is written once with ``nn`` modules that spiraltorch and torch both have, and once as JAX functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import Framework, Step, arrays, workload
from .steps import jax_step, torch_step

VOCAB = 256
DECAY = 0.01

sdpa = workload("sdpa_fwd_bwd", "causal attention, float32[4, 8, 512, 64]: result and three gradients")
_QKVG = ((4, 8, 512, 64),) * 4


@sdpa.torch
def _(fw: Framework) -> Step:
    q, k, v, g = [fw.tensor(a, i < 3) for i, a in enumerate(arrays(*_QKVG))]
    attention = fw.lib.nn.functional.scaled_dot_product_attention

    @fw.compile
    def step(q, k, v, g):  # type: ignore[no-untyped-def]
        q.grad = k.grad = v.grad = None
        y = attention(q, k, v, is_causal=True)
        y.backward(g)
        return y.detach()

    return lambda: (step(q, k, v, g), q.grad, k.grad, v.grad)


@sdpa.jax
def _(fw: Framework) -> Step:
    jax = fw.lib
    data = [fw.tensor(a) for a in arrays(*_QKVG)]

    @fw.compile
    def step(q, k, v, g):  # type: ignore[no-untyped-def]
        y, pull = jax.vjp(lambda q, k, v: _attention_jax(jax, q, k, v), q, k, v)
        return y, *pull(g)

    return lambda: step(*data)


def _attention_jax(jax: Any, q: Any, k: Any, v: Any) -> Any:
    """Causal attention over (batch, heads, position, feature) by JAX's own function, which puts heads third."""
    q, k, v = (jax.numpy.swapaxes(x, 1, 2) for x in (q, k, v))
    return jax.numpy.swapaxes(jax.nn.dot_product_attention(q, k, v, is_causal=True), 1, 2)


# -- the models ----------------------------------------------------------------------------------------------


def gpt(lib: Any, layers: int, width: int, heads: int, length: int) -> Any:
    """A GPT with pre-normalisation, in a library with torch's surface."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = [
                y.view(b, t, heads, width // heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(width, 2)
            ]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCAB, width), nn.Embedding(length, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCAB, bias=False)
            self.register_buffer("order", lib.arange(length))

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.places(self.order)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return GPT()


def _shapes(layers: int, width: int, length: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters, as ``state_dict`` has them."""
    shapes: dict[str, tuple[int, ...]] = {"tokens.weight": (VOCAB, width), "places.weight": (length, width)}
    for k in range(layers):
        for name, o, i in (("qkv", 3, 1), ("out", 1, 1), ("up", 4, 1), ("down", 1, 4)):
            shapes[f"blocks.{k}.{name}.weight"] = (o * width, i * width)
            shapes[f"blocks.{k}.{name}.bias"] = (o * width,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{k}.{name}.weight"] = shapes[f"blocks.{k}.{name}.bias"] = (width,)
    shapes["norm.weight"] = shapes["norm.bias"] = (width,)
    return shapes | {"head.weight": (VOCAB, width)}


def _weights(layers: int, width: int, length: int) -> dict[str, np.ndarray]:
    """Small matrices, ones to scale by, zeros to add."""
    found = {}
    for seed, (name, shape) in enumerate(_shapes(layers, width, length).items()):
        if "norm" in name and name.endswith("weight"):
            found[name] = np.ones(shape, np.float32)
        elif name.endswith("bias"):
            found[name] = np.zeros(shape, np.float32)
        else:
            found[name] = arrays(shape, scale=0.02, seed=seed)[0]
    return found


def _ids(batch: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, (batch, length))


def _torch_model(fw: Framework, layers: int, width: int, heads: int, length: int) -> Any:
    model = gpt(fw.lib, layers, width, heads, length)
    state = {name: fw.tensor(a) for name, a in _weights(layers, width, length).items()}
    model.load_state_dict(state | {"order": model.order})
    return model


def _gpt_jax(jax: Any, w: dict[str, Any], ids: Any, layers: int, heads: int) -> Any:
    jnp = jax.numpy

    def norm(x: Any, name: str) -> Any:
        mean = jnp.mean(x, -1, keepdims=True)
        var = jnp.mean((x - mean) ** 2, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["tokens.weight"][ids] + w["places.weight"]
    b, t, width = x.shape
    for k in range(layers):
        name = f"blocks.{k}"
        qkv = linear(norm(x, f"{name}.norm1"), f"{name}.qkv").reshape(b, t, 3, heads, width // heads)
        y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
        x = x + linear(y.reshape(b, t, width), f"{name}.out")
        up = jax.nn.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.up"), approximate=True)
        x = x + linear(up, f"{name}.down")
    return norm(x, "norm") @ w["head.weight"].T


# -- training --------------------------------------------------------------------------------------------------

train = workload("gpt_train", "4 layers of width 128, 4 heads, 16 x 128 tokens, AdamW: a training step")
_TRAIN, _TRAIN_BATCH = (4, 128, 4, 128), 16


@train.torch
def _(fw: Framework) -> Step:
    model = _torch_model(fw, *_TRAIN)
    x, y = (fw.tensor(_ids(_TRAIN_BATCH, _TRAIN[3], seed)) for seed in (3, 4))
    loss_of = fw.lib.nn.functional.cross_entropy
    return torch_step(fw, model, x, y, lambda x, y: loss_of(model(x).reshape(-1, VOCAB), y.reshape(-1)), DECAY)


@train.jax
def _(fw: Framework) -> Step:
    jax, jnp = fw.lib, fw.lib.numpy
    layers, width, heads, length = _TRAIN
    params = {name: fw.tensor(a) for name, a in _weights(layers, width, length).items()}
    x, y = (fw.tensor(_ids(_TRAIN_BATCH, length, seed)) for seed in (3, 4))

    def loss_of(params, x, y):  # type: ignore[no-untyped-def]
        logits = jax.nn.log_softmax(_gpt_jax(jax, params, x, layers, heads))
        return -jnp.take_along_axis(logits, y[..., None], 2).mean()

    return jax_step(fw, params, x, y, loss_of, DECAY)


# -- inference -------------------------------------------------------------------------------------------------

infer = workload("gpt_infer", "6 layers of width 384, 6 heads, 8 x 128 tokens: logits")
_INFER, _INFER_BATCH = (6, 384, 6, 128), 8


@infer.torch
def _(fw: Framework) -> Step:
    model = _torch_model(fw, *_INFER).eval()
    ids = fw.tensor(_ids(_INFER_BATCH, _INFER[3], 3))

    @fw.compile
    def logits(ids):  # type: ignore[no-untyped-def]
        with fw.lib.no_grad():
            return model(ids)

    return lambda: logits(ids)


@infer.jax
def _(fw: Framework) -> Step:
    layers, width, heads, length = _INFER
    params = {name: fw.tensor(a) for name, a in _weights(layers, width, length).items()}
    ids = fw.tensor(_ids(_INFER_BATCH, length, 3))
    f = fw.compile(lambda params, ids: _gpt_jax(fw.lib, params, ids, layers, heads))
    return lambda: f(params, ids)
