"""Train a small convolutional network on 1,797 real images of handwritten digits.

    python examples/digits.py [--epochs 10]

The same training runs eagerly and compiled, on one thread and on all, with the same seed; all of them must end in
the same bits.  With torch installed, it trains the same model on the same batches side by side, taking turns
epoch by epoch.  Kernels are compiled into an empty cache, so the compile seconds are those of a first run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TRAIN, BATCH, SEED = 1437, 64, 0
GOAL = 0.97


# -- data and model: the same code for both libraries --------------------------------------------------


@dataclass
class Digits:
    """Images as float32[n, 1, 8, 8] in 0..1 and labels, split once and for all."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Full batches of one epoch, in an order that depends on the epoch alone."""
        order = np.random.default_rng([SEED, epoch]).permutation(len(self.x))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[at : at + BATCH]
            yield self.x[rows], self.y[rows]

    @property
    def steps(self) -> int:
        return len(self.x) // BATCH


def load_digits() -> Digits:
    from sklearn.datasets import load_digits as bundled

    x, y = bundled(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = y[order].astype(np.int64)
    return Digits(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


def make_model(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 2 * 2, 10),
    )  # fmt: skip


def make_step(library: Any, model: Any) -> Callable[[Any, Any], Any]:
    """One training step: forward, backward, Adam."""
    loss_of = library.nn.CrossEntropyLoss()
    optimizer = library.optim.Adam(model.parameters(), lr=3e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


# -- runs ---------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One training: its step, and what was measured on the way."""

    name: str
    library: Any
    model: Any
    step: Callable[[Any, Any], Any]
    threads: int
    seconds: list[float] = field(default_factory=list)
    launches: int = 0
    compile_seconds: float = 0.0
    peak_bytes: int = 0
    loss: float = float("nan")

    def epoch(self, data: Digits, number: int, tick: Callable[[], None]) -> None:
        for x, y in data.batches(number):
            xt, yt = self.library.tensor(x), self.library.tensor(y)
            start = time.perf_counter()
            self.loss = self.step(xt, yt).item()
            self.seconds.append(time.perf_counter() - start)
            tick()

    def accuracy(self, data: Digits) -> float:
        self.model.eval()
        with self.library.no_grad():
            guess = self.model(self.library.tensor(data.test_x)).argmax(1).numpy()
        self.model.train()
        return float((guess == data.test_y).mean())

    def digest(self) -> str:
        """A hash of every parameter and buffer, bit for bit."""
        h = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            h.update(name.encode())
            h.update(np.ascontiguousarray(value.numpy()).tobytes())
        return h.hexdigest()


class SpiralRun(Run):
    """A run in SpiralTorch, which also counts launches, compile time and memory."""

    def epoch(self, data: Digits, number: int, tick: Callable[[], None]) -> None:
        from spiraltorch.jit.program import counters

        st = self.library
        st.set_num_threads(self.threads)
        st.memory.reset_peak()
        launches, compiling = counters["launches"], counters["compile_seconds"]
        super().epoch(data, number, tick)
        # Of the last epoch: the first one also sets up the optimizer's state.
        self.launches = round((counters["launches"] - launches) / data.steps)
        self.compile_seconds += counters["compile_seconds"] - compiling
        self.peak_bytes = max(self.peak_bytes, st.memory.peak())


def spiral_run(name: str, compiled: bool, threads: int) -> Run:
    import spiraltorch as st

    st.manual_seed(SEED)
    model = make_model(st.nn)
    step = make_step(st, model)
    return SpiralRun(name, st, model, st.compile(step) if compiled else step, threads)


def torch_run(like: Run, threads: int) -> Run | None:
    """torch's eager mode from the same initial weights; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    model = make_model(torch.nn)
    start = {k: torch.from_numpy(np.array(v.numpy())) for k, v in like.model.state_dict().items()}
    model.load_state_dict(start)
    return Run("torch eager", torch, model, make_step(torch, model), threads)


# -- showing it ---------------------------------------------------------------------------------------


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], Callable[[], None]]]:
    """``bar(text)`` shows the text and gives the function to call after each step."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield _plain_progress(total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as shown:
        task = shown.add_task("", total=total)

        def bar(text: str) -> Callable[[], None]:
            shown.update(task, description=f"{text:34}")
            return lambda: shown.advance(task)

        yield bar


def _plain_progress(total: int) -> Callable[[str], Callable[[], None]]:
    done = 0
    label = ""

    def tick() -> None:
        nonlocal done
        done += 1
        if done % 50 == 0 or done == total:
            print(f"\r{label:34} {done:5}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    def bar(text: str) -> Callable[[], None]:
        nonlocal label
        label = text
        return tick

    return bar


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = [list(head), *[list(r) for r in rows]]
    widths = [max(len(r[k]) for r in rows) for k in range(len(head))]
    lines = ["  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths))) for r in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def report(runs: Sequence[Run], data: Digits) -> list[Sequence[str]]:
    rows = []
    for r in runs:
        spiral = isinstance(r, SpiralRun)
        settled = r.seconds[data.steps :] or r.seconds
        rows.append((
            r.name, str(r.threads), f"{statistics.median(settled) * 1e3:.2f}", f"{r.seconds[0]:.2f}",
            str(r.launches) if spiral else "-", f"{r.compile_seconds:.2f}" if spiral else "-",
            f"{r.peak_bytes / 2**20:.1f}" if spiral else "-", f"{r.accuracy(data):.4f}", f"{r.loss:.4f}",
        ))  # fmt: skip
    return rows


def train(epochs: int) -> None:
    import spiraltorch as st

    data = load_digits()
    most = st.get_num_threads()
    runs = [spiral_run("eager", False, most), spiral_run("compiled", True, most)]
    runs += [spiral_run("eager", False, 1), spiral_run("compiled", True, 1)]
    peer = torch_run(runs[0], most)
    everyone = [*runs, peer] if peer is not None else runs
    with progress(epochs * data.steps * len(everyone)) as bar:
        for number in range(epochs):
            for run in everyone:
                run.epoch(data, number, bar(f"epoch {number + 1:2}/{epochs}  {run.name}, {run.threads} threads"))
    head = ("training", "threads", "ms a step", "first step s", "launches", "compile s", "peak MiB", "held-out", "loss")
    print(table(head, report(everyone, data)))
    if peer is None:
        print("torch is not installed, so there is nothing to compare with")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest resident size of the whole process: {resident:.0f} MiB")
    digests = {(r.name, r.threads): r.digest() for r in runs}
    for (name, threads), digest in digests.items():
        print(f"weights  {name:8} {threads} threads  {digest}")
    assert len(set(digests.values())) == 1, (
        "eager and compiled training must end in the same bits on any number of threads"
    )
    worst = min(r.accuracy(data) for r in runs)
    assert worst >= GOAL, f"held-out accuracy {worst:.4f} is below {GOAL}"
    print(f"bit-identical; held-out accuracy {worst:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ST_CACHE_DIR"] = cache
        train(options.epochs)


if __name__ == "__main__":
    main()
