"""How run time, compile time and memory grow: with the elements of an array, the operations of a chain, the layers of a model.

``python -m benchmarks --scaling`` measures in this process, writes ``results/scaling.json`` and draws the curves.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ELEMENTS = tuple(10**k for k in range(2, 9))
OPERATIONS = (1, 3, 10, 30, 100, 300, 1000)
LAYERS = (1, 2, 5, 10, 20, 50)


def measure() -> dict[str, list[dict[str, float]]]:
    """Points of each curve: ``at``, and ``run`` and ``compile`` in seconds, ``memory`` in bytes, ``kernels``."""
    return {
        "elements": [_point(n, *_chain(n, 4)) for n in ELEMENTS],
        "operations": [_point(n, *_chain(1000, n)) for n in OPERATIONS],
        "layers": [_point(n, *_model(n)) for n in LAYERS],
    }


def _chain(elements: int, operations: int) -> tuple[Any, tuple[Any, ...]]:
    import spiraltorch as st

    def f(x: Any) -> Any:
        for _ in range(operations):
            x = (x * 0.5).tanh()
        return x

    return st.compile(f), (st.from_numpy(np.linspace(-1, 1, elements, dtype=np.float32)),)


def _model(layers: int) -> tuple[Any, tuple[Any, ...]]:
    import spiraltorch as st

    blocks = [m for _ in range(layers) for m in (st.nn.Linear(64, 64), st.nn.LayerNorm(64), st.nn.GELU())]
    model = st.nn.Sequential(*blocks)
    optimizer = st.optim.Adam(model.parameters())

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return st.compile(step), (st.ones(64, 64),)


def _point(at: int, f: Any, args: tuple[Any, ...]) -> dict[str, float]:
    import spiraltorch as st
    from spiraltorch.jit.program import counters

    kernels = counters["kernels"]
    first = _seconds(f, args)
    f(*args)
    st.memory.reset_peak()
    samples = [_seconds(f, args) for _ in range(7 if at >= 10**7 else 25)]
    run = statistics.median(samples)
    return {
        "at": at, "run": run, "compile": max(0.0, first - run), "memory": st.memory.peak(),
        "kernels": counters["kernels"] - kernels,
    }  # fmt: skip


def _seconds(f: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    f(*args)
    return time.perf_counter() - start


def growth(points: list[dict[str, float]], what: str) -> float:
    """The exponent of ``what`` over the upper half of the curve: 1 is linear."""
    upper = points[len(points) // 2 :]
    low, high = upper[0], upper[-1]
    if min(low[what], high[what]) <= 0:
        return 0.0
    return float(np.log(high[what] / low[what]) / np.log(high["at"] / low["at"]))


def main() -> int:
    from .plots import curves
    from .report import RESULTS

    found = measure()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    curves(found)
    for name, points in found.items():
        exponents = ", ".join(f"{what} {growth(points, what):.2f}" for what in ("run", "compile", "memory"))
        print(f"{name}: exponents of growth over the upper half: {exponents}")
        for p in points:
            print("   ", ", ".join(f"{k} {v:.4g}" for k, v in p.items()))
    return 0
