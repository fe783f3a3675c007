"""What a notebook does: small operations, a look at every value, and a new length at every call."""

from __future__ import annotations

from typing import Any

from .registry import Framework, Step, arrays, workload

LENGTHS = tuple(range(24, 64))
LOOKS = 20


small_ops = workload("eager_small_ops", "a layer norm and a gelu layer by hand, 20 operations on float32[8, 32], not compiled", eager=True)


def _by_hand(lib: Any, x: Any, w: Any, b: Any) -> Any:
    """tanh-GELU(normalised x * w + b), softmaxed, as a user writes it."""
    y = x - x.mean(-1)[:, None]
    y = y / (lib.sqrt((y * y).mean(-1)[:, None] + 1e-5))
    y = y * w + b
    y = 0.5 * y * (1.0 + lib.tanh(0.7978845608 * (y + 0.044715 * y * y * y)))
    e = lib.exp(y)
    return (e / e.sum(-1)[:, None]).sum()


@small_ops.torch
@small_ops.jax
def _(fw: Framework) -> Step:
    x, w, b = [fw.tensor(a) for a in arrays((8, 32), (32,), (32,))]
    lib = fw.lib.numpy if fw.surface == "jax" else fw.lib
    return lambda: _by_hand(lib, x, w, b).item()


item_loop = workload("eager_item_loop", f"{LOOKS} times x * 0.9 + 0.1 on 16 floats, and its sum looked at", eager=True)


@item_loop.torch
@item_loop.jax
def _(fw: Framework) -> Step:
    (start,) = [fw.tensor(a) for a in arrays((16,))]

    def step():  # type: ignore[no-untyped-def]
        x, total = start, 0.0
        for _ in range(LOOKS):
            x = x * 0.9 + 0.1
            total += x.sum().item()
        return total

    return step


def _lengths(fw: Framework) -> list[Any]:
    return [fw.tensor(arrays((16, n), seed=n)[0]) for n in LENGTHS]


def _softmax(fw: Framework) -> Any:
    if fw.surface == "jax":
        return lambda x: fw.lib.nn.softmax(x * 0.5, axis=-1).sum()
    return lambda x: (x * 0.5).softmax(-1).sum()


varlen_eager = workload("varlen_eager", f"softmax(x / 2) of {len(LENGTHS)} lengths in turn, not compiled", eager=True)
varlen_compile = workload("varlen_compile", f"softmax(x / 2) of {len(LENGTHS)} lengths in turn, one compiled function")


@varlen_eager.torch
@varlen_eager.jax
@varlen_compile.torch
@varlen_compile.jax
def _(fw: Framework) -> Step:
    inputs = _lengths(fw)
    f = fw.compile(_softmax(fw))
    return lambda: sum([f(x).item() for x in inputs])
