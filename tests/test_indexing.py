"""Random index expressions against torch: reading, writing, gradients, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.helpers import compare

PROGRAMS = 160


def part(rng: np.random.Generator, shape: tuple[int, ...], axis: int, width: tuple[int, ...]) -> tuple[str, int]:
    """(text of one index, axes it takes); ``m`` is the library."""
    n = shape[axis] if axis < len(shape) else 3
    kind = rng.choice(["slice", "slice", "int", "None", "tensor", "list", "mask", "mask2", "bool", "scalar", "..."], p=[0.2, 0.1, 0.12, 0.1, 0.16, 0.07, 0.09, 0.05, 0.03, 0.04, 0.04])
    low = -n
    if kind == "slice":
        a, b = sorted(rng.integers(-n - 1, n + 2, 2).tolist())
        return f"slice({rng.choice(['None', str(a)])}, {rng.choice(['None', str(b)])}, {rng.choice(['None', '1', '2', '3'])})", 1
    if kind == "int":
        return str(int(rng.integers(low, n + (rng.random() < 0.05)))) if n else "0", 1
    if kind == "scalar":
        return f"m.tensor({int(rng.integers(low, max(n, 1)))})", 1
    if kind == "None" or kind == "bool":
        return "None" if kind == "None" else rng.choice(["True", "False"]), 0
    if kind == "...":
        return "Ellipsis", 0
    if kind == "mask":
        return f"m.tensor({(rng.random(n) < 0.5).tolist()})", 1
    if kind == "mask2" and axis + 1 < len(shape):
        return f"m.tensor({(rng.random(shape[axis : axis + 2]) < 0.5).tolist()})", 2
    values = rng.integers(low, max(n, low + 1), width if kind == "tensor" else width[-1:]).tolist()
    dtype = "" if kind == "list" else rng.choice([", dtype=m.int64", ", dtype=m.int32"])
    return (f"m.tensor({values}{dtype})" if kind == "tensor" else repr(values)), 1


def expression(seed: int) -> tuple[tuple[int, ...], str]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.choice([0, 1, 2, 3, 4, 5], int(rng.integers(1, 5)), p=[0.02, 0.1, 0.2, 0.3, 0.2, 0.18]).tolist())
    width = [(2,), (3,), (2, 1), (2, 3)][int(rng.integers(4))]
    parts, axis = [], 0
    while axis < len(shape) and rng.random() < 0.8:
        text, used = part(rng, shape, axis, width)
        parts.append(text)
        axis += used
    return shape, f"({', '.join(parts)}{',' if len(parts) == 1 else ''})" if parts else "Ellipsis"


def outcome(compute: Any) -> tuple[Any, Exception | None]:
    try:
        found = compute()
        return [t.detach() for t in found], None
    except (RuntimeError, IndexError, TypeError, ValueError) as e:
        return None, e


def run(m: Any, shape: tuple[int, ...], text: str, write: str) -> list[Any]:
    data = np.arange(float(np.prod(shape))).reshape(shape) - 3
    x = m.tensor(data).requires_grad_()
    index = eval(text, {"m": m})
    if not write:
        y = x[index]
        (y * y).sum().backward()
        return [y, x.grad]
    y = x * 1.0
    if write == "number":
        y[index] = 7.5
        extra: list[Any] = []
    else:
        value = (m.arange(float(y[index].numel()), dtype=m.float64).reshape(tuple(y[index].shape)) + 0.25).requires_grad_()
        if write == "add":
            y[index] += value
        else:
            y[index] = value[:1] if value.ndim and write == "part" else value
        extra = [value]
    (y * y).sum().backward()
    return [y, *[m.zeros_like(v) if v.grad is None else v.grad for v in (x, *extra)]]


@pytest.mark.parametrize("block", range(8))
def test_random_index_expressions(block: int) -> None:
    for seed in range(block * PROGRAMS // 8, (block + 1) * PROGRAMS // 8):
        shape, text = expression(seed)
        for write in ("", "number", "tensor" if "tensor" not in text else "number", "part", "add")[:: 1 + seed % 2]:
            where = f"seed {seed}: shape {shape}, x[{text}], {write or 'read'}"
            repeated = "tensor" in text or "[" in text  # of equal positions torch does not promise which one stays
            if repeated and write in ("part", "tensor"):
                continue
            theirs, refused = outcome(lambda s=shape, t=text, w=write: run(torch, s, t, w))
            ours, error = outcome(lambda s=shape, t=text, w=write: run(st, s, t, w))
            if refused is not None:
                assert error is not None, f"{where}: torch raises {refused!r}"
                kinds = (IndexError, TypeError, ValueError, RuntimeError)
                assert isinstance(error, next(k for k in kinds if isinstance(refused, k))), f"{where}: {error!r}, torch {refused!r}"
                continue
            assert error is None, f"{where}: {error!r}"
            compare(ours, theirs, path=where)


def test_what_is_no_index() -> None:
    x = st.ones(3, 3)
    for index in ("a", 1.5, (0, 0, 0), slice(None, None, -1), (Ellipsis, Ellipsis, 0), st.tensor([0.5]), object()):
        with pytest.raises((IndexError, TypeError, ValueError)):
            x[index]  # type: ignore[index]
