"""Tables for the terminal and for ``docs/performance.md``, and the figures as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .registry import FRAMEWORKS, WORKLOADS
from .runner import ROOT, Row

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
OURS = "spiraltorch"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "llvmlite", "torch", "jax")},
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    named = {k.strip(): v.strip() for k, v in fields.items()}
    wide = [w for w in ("avx2", "avx512f", "avx512_bf16", "neon") if w in named.get("flags", "").split()]
    return f"{named.get('model name', platform.machine())} ({', '.join(wide)})"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


# -- JSON ---------------------------------------------------------------------------------------------


def load(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text())["rows"]]


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """``old`` with the rows of ``new`` in place of earlier ones, in the registry's order."""
    rows = {(r.workload, r.threads, r.framework): r for r in [*old, *new]}
    order = {name: k for k, name in enumerate(WORKLOADS)}
    frameworks = {name: k for k, name in enumerate(FRAMEWORKS)}
    known = [r for r in rows.values() if r.workload in order and r.framework in frameworks]
    return sorted(known, key=lambda r: (r.threads, order[r.workload], frameworks[r.framework]))


def save(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [r.as_json() for r in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")


# -- tables -------------------------------------------------------------------------------------------


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _time(r: Row) -> str:
    if r.ms is None:
        return "-"
    w = WORKLOADS[r.workload]
    return f"{_number(1e3 * r.ms / w.per)} us" if w.per else _number(r.ms)


def _grid(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    grid: dict[str, dict[str, Row]] = {}
    for r in rows:
        grid.setdefault(r.workload, {})[r.framework] = r
    return grid


def _ratio(line: dict[str, Row]) -> str:
    """The best peer's time over ours: above 1 we are faster."""
    ours = line.get(OURS)
    peers = [r.ms for name, r in line.items() if name != OURS and r.ms is not None]
    if ours is None or ours.ms is None or not peers:
        return "-"
    return f"{min(peers) / ours.ms:.2f}"


def _mean(rows: Sequence[Row], threads: int) -> float:
    """Geometric mean of the ratios."""
    found = [_ratio(line) for line in _grid(r for r in rows if r.threads == threads).values()]
    logs = [math.log(float(r)) for r in found if r != "-"]
    return math.exp(sum(logs) / max(1, len(logs)))


def _limit(line: dict[str, Row]) -> str:
    """Our share of the machine's limit: the least time the planner's bytes and operations allow, over ours."""
    ours = line.get(OURS)
    if ours is None or not ours.ms or not ours.roofline_ms:
        return "-"
    return f"{100 * ours.roofline_ms / ours.ms:.0f} %"


def table(rows: Sequence[Row], threads: int, cell: Callable[[Row], str], ratio: bool = False) -> list[list[str]]:
    """Workloads down, frameworks across."""
    grid = _grid(r for r in rows if r.threads == threads)
    names = [f for f in FRAMEWORKS if any(f in line for line in grid.values())]
    out = [["workload", *names, *(["best peer / ours", "of the limit"] if ratio else [])]]
    for name, line in grid.items():
        cells = [cell(line[f]) if f in line else "-" for f in names]
        out.append([name, *cells, *([_ratio(line), _limit(line)] if ratio else [])])
    return out


def plain(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths))) for r in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(r) + " |" for r in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def _first(r: Row) -> str:
    return f"{_number(r.first_cold)} / {_number(r.first_warm)}"


def _imports(rows: Sequence[Row]) -> list[list[str]]:
    """What `import` takes before a first call: seconds and memory beyond NumPy's, the median over all processes."""
    out = [["framework", "seconds", "MiB"]]
    for name in FRAMEWORKS:
        found = [(r.import_s, r.import_mib) for r in rows if r.framework == name and r.import_s and r.import_mib]
        if found:
            out.append([name, *[_number(statistics.median(values)) for values in zip(*found)]])
    return out


def page(rows: Sequence[Row]) -> str:
    """The generated part of ``docs/performance.md``."""
    about = machine()
    versions = ", ".join(f"{k} {about[k]}" for k in ("python", "numpy", "llvmlite", "torch", "jax"))
    dates = sorted({r.date for r in rows})
    when = dates[-1] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    parts = [f"Measured {when} on {about['cpu']}, {about['cores']} cores, {about['system']}; {versions}."]
    counts = sorted({r.threads for r in rows}, reverse=True)
    for n in counts:
        parts.append(f"### {n} thread{'s' * (n > 1)}: milliseconds a step")
        parts.append(markdown(table(rows, n, _time, ratio=True)))
        parts.append(f"![time over SpiralTorch's](figures/ratios-{n}.svg)")
    means = [f"{_mean(rows, n):.2f} on {n} thread{'s' * (n > 1)}" for n in counts]
    parts.append(f"Geometric mean of best peer / ours: {', '.join(means)}.")
    parts.append("### First call: seconds with empty caches / with filled caches")
    parts.append(markdown(table(rows, counts[0], _first)))
    parts.append("### Import: what comes before the first call, beyond NumPy")
    parts.append(markdown(_imports(rows)))
    parts.append("### Peak memory above the imported library, MiB")
    parts.append(markdown(table(rows, counts[0], lambda r: _number(r.peak_mib))))
    failed = sorted({f"{r.workload} in {r.framework}: {r.error}" for r in rows if r.error})
    if failed:
        parts.append("Not measured: " + "; ".join(failed) + ".")
    notes = [f"* `{name}`: {WORKLOADS[name].note}" for name in _grid(rows)]
    return "\n\n".join([*parts, "### Workloads", "\n".join(notes)])


def write_page(rows: Sequence[Row], path: Path = PAGE) -> None:
    """Put the tables between the page's markers.  Raises ValueError when it has none."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no {BEGIN} ... {END}")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    path.write_text(f"{head}{BEGIN}\n\n{page(rows)}\n\n{END}{tail}")


def terminal(rows: Sequence[Row]) -> str:
    parts = []
    for n in sorted({r.threads for r in rows}, reverse=True):
        parts.append(f"{n} threads: ms a step (us where it says so)\n{plain(table(rows, n, _time, ratio=True))}")
        parts.append(f"first call, s, cold / warm\n{plain(table(rows, n, _first))}")
        parts.append(
            f"peak memory above the imported library, MiB\n{plain(table(rows, n, lambda r: _number(r.peak_mib)))}"
        )
    parts += [f"{r.workload} in {r.framework} failed: {r.error}" for r in rows if r.error]
    return "\n\n".join(parts)
