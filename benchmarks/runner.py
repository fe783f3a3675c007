"""Starts a worker for each framework, lets them measure in turns, and collects what they say."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .registry import FRAMEWORKS, Framework, Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Plan:
    """How much to measure."""

    frameworks: Sequence[str]
    threads: Sequence[int]
    rounds: int = 7
    seconds: float = 0.4
    warm_starts: int = 3


@dataclass
class Row:
    """What was measured of one workload in one framework; ``error`` says why there is nothing."""

    workload: str
    framework: str
    threads: int
    date: str
    ms: float | None = None
    spread: float | None = None
    first_cold: float | None = None
    first_warm: float | None = None
    peak_mib: float | None = None
    import_s: float | None = None
    import_mib: float | None = None
    check: float | None = None
    roofline_ms: float | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Worker:
    process: subprocess.Popen[str]
    errors: Any
    row: Row
    samples: list[float] = field(default_factory=list)

    def answer(self) -> dict[str, Any] | None:
        """The next line the worker says, or None (and the row gets the error) when it died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)  # type: ignore[no-any-return]
        self.process.wait()
        self.errors.seek(0)
        said = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        self.row.error = said[-1][:200] if said else f"exit status {self.process.returncode}"
        return None

    def ask(self, command: str) -> dict[str, Any] | None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer()


def environment(cache: Path, threads: int) -> dict[str, str]:
    """This process' variables less what slows a BLAS down or keeps Python from caching bytecode, which installed packages
    come with; every other cache is in ``cache``."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_") and k != "PYTHONDONTWRITEBYTECODE"}
    n = str(threads)
    flags = "" if threads > 1 else "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return env | {
        "OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n, "ST_NUM_THREADS": n, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu",
        "ST_CACHE_DIR": str(cache / "st"), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"), "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip


@contextlib.contextmanager
def started(row: Row, cache: Path) -> Iterator[Worker]:
    """A worker; at the end its input is closed and it is waited for."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", row.workload, row.framework, str(row.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env=environment(cache, row.threads),
        )  # fmt: skip
        try:
            yield Worker(process, errors, row)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def usable(names: Sequence[str]) -> list[Framework]:
    """The frameworks that are installed; says which are not."""
    found = []
    for name in names:
        if FRAMEWORKS[name].installed:
            found.append(FRAMEWORKS[name])
        else:
            print(f"{name} is not installed: left out")
    return found


def measure(w: Workload, plan: Plan, threads: int, date: str) -> list[Row]:
    """Every framework on one workload.  Frameworks take turns, ``plan.rounds`` times; a row has the median."""
    frameworks = [f for f in usable(plan.frameworks) if w.builder(f) is not None]
    rows = [Row(w.name, f.name, threads, date) for f in frameworks]
    cache = Path(tempfile.mkdtemp(prefix="benchmark"))
    try:
        with contextlib.ExitStack() as stack:
            workers = []
            for row in rows:
                worker = stack.enter_context(started(row, cache / row.framework))
                said = worker.answer()
                if said is not None:
                    row.first_cold, row.check = said["first"], said["check"]
                    row.import_s, row.import_mib = said["import_s"], said["import_mib"]
                    workers.append(worker)
            for _ in range(plan.rounds):
                for worker in workers:
                    said = worker.ask(f"measure {plan.seconds}")
                    if said is not None:
                        worker.samples.append(said["ms"])
            for worker in workers:
                _finish(worker)
        for row in rows:
            row.first_warm = _warm(row, cache / row.framework, plan.warm_starts)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return rows


def _finish(worker: Worker) -> None:
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()
    said = worker.answer()
    if said is None or not worker.samples:
        return
    row = worker.row
    row.peak_mib = said["peak_mib"]
    row.roofline_ms = said["roofline_ms"]
    row.ms = statistics.median(worker.samples)
    row.spread = (max(worker.samples) - min(worker.samples)) / row.ms


def _warm(row: Row, cache: Path, times: int) -> float | None:
    """Median seconds of the first call in a new process with the caches filled."""
    if row.error or not times:
        return None
    found = []
    for _ in range(times):
        with started(row, cache) as worker:
            said = worker.answer()
            if said is not None:
                found.append(said["first"])
    return statistics.median(found) if found else None


def disagreements(rows: Sequence[Row], tolerance: float = 1e-3) -> list[str]:
    """Frameworks whose result is not the first one's: they did not compute the same thing."""
    known = [r for r in rows if r.check is not None]
    out = []
    for r in known[1:]:
        a, b = known[0].check, r.check
        assert a is not None and b is not None
        if abs(a - b) > tolerance * max(1.0, abs(a)):
            out.append(f"{r.workload}: {known[0].framework} gives {a:.6g}, {r.framework} {b:.6g}")
    return out
