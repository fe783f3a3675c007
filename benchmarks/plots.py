"""Figures for ``docs/performance.md``: ratios to the best peer as bars, growth as curves (matplotlib, written as SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .registry import FRAMEWORKS
from .runner import ROOT, Row

FIGURES = ROOT / "docs" / "figures"
_COLOURS = {"spiraltorch": "#b5179e", "torch": "#ee6c4d", "torch.compile": "#f4a261", "jax": "#3d5a80"}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "spiraltorch"  # the same figures give the same file
    import matplotlib.pyplot as plt

    return plt


def _save(plt: Any, figure: Any, name: str) -> Path:
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{name}.svg"
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def bars(rows: Sequence[Row], threads: int) -> Path:
    """Time of each framework over ours, by workload; bars right of the line are slower than SpiralTorch."""
    plt = _pyplot()
    times: dict[str, dict[str, float]] = {}
    for r in rows:
        if r.threads == threads and r.ms:
            times.setdefault(r.workload, {})[r.framework] = r.ms
    names = [n for n, line in times.items() if "spiraltorch" in line]
    peers = [f for f in FRAMEWORKS if f != "spiraltorch"]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1.5))
    for k, peer in enumerate(peers):
        at = [i + (k - 1) * 0.27 for i, n in enumerate(names) if peer in times[n]]
        ratios = [times[n][peer] / times[n]["spiraltorch"] for n in names if peer in times[n]]
        axes.barh(at, ratios, height=0.25, label=peer, color=_COLOURS[peer])
    axes.axvline(1.0, color=_COLOURS["spiraltorch"], label="spiraltorch")
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"time over SpiralTorch's, {threads} thread{'s' * (threads > 1)}")
    axes.legend()
    return _save(plt, figure, f"ratios-{threads}")


def curves(found: dict[str, list[dict[str, float]]]) -> Path:
    """Run time, compile time and memory by elements, operations and layers."""
    plt = _pyplot()
    figure, grid = plt.subplots(3, len(found), figsize=(10, 8), squeeze=False)
    for column, (name, points) in enumerate(found.items()):
        for row, (what, unit) in enumerate((("run", "s"), ("compile", "s"), ("memory", "bytes"))):
            axes = grid[row][column]
            axes.loglog([p["at"] for p in points], [max(p[what], 1e-9) for p in points], "o-", color=_COLOURS["spiraltorch"])
            axes.set_xlabel(name)
            axes.set_ylabel(f"{what}, {unit}")
    return _save(plt, figure, "scaling")
