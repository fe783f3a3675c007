"""Hours of mixed use in minutes: whether memory and caches stay as large as they were once every shape had come by.

``python -m benchmarks --soak --calls 200000`` lets several threads work, each on small tasks of every kind (eager with
gradients, compiled, training, indexing and writes, views and random numbers) with a bounded number of different shapes.  It
prints resident memory and the sizes of all caches after each tenth, and fails where one has grown since the third.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

SHAPES = tuple((1 + 7 * k % 23, 2 + 5 * k % 17) for k in range(40))
THREADS = 4
SECTIONS = 10
WARM = 3  # sections until memory has found its size: each thread's allocator, lists of free objects
SLACK = {"MiB resident": 1.04, "MiB in pool": 1.25, "nodes": 1.02, "objects": 1.02}  # of what may differ with the moment; others: 1


def main(calls: int) -> int:
    """Print the table; 1 when something grew."""
    _Task.every = calls // SECTIONS // THREADS
    if _Task.every < 2 * len(SHAPES) * len(_Task.KINDS):
        print(f"--calls {calls}: too few for every shape to come by twice before the first look; take "
              f"{2 * len(SHAPES) * len(_Task.KINDS) * SECTIONS * THREADS} or more")  # fmt: skip
        return 2
    start = time.monotonic()
    rows: list[dict[str, float]] = []
    tasks = [_Task(k) for k in range(THREADS)]
    for section in range(1, SECTIONS + 1):
        workers = [threading.Thread(target=t.run) for t in tasks]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        failed = [t.error for t in tasks if t.error is not None]
        if failed:
            raise failed[0]
        rows.append({"calls": section * _Task.every * THREADS, "seconds": time.monotonic() - start, **held()})
        if section == 1:
            print("| " + " | ".join(rows[0]) + " |\n|" + "---:|" * len(rows[0]))
        print("| " + " | ".join(f"{v:.0f}" for v in rows[-1].values()) + " |", flush=True)
    grown = growth(rows)
    rate = rows[-1]["calls"] / rows[-1]["seconds"]
    said = "; ".join(grown) or "nothing grew"
    print(f"{rows[-1]['calls']:.0f} calls of {THREADS} threads, {rate:.0f} a second: {said}", file=sys.stderr)
    return 1 if grown else 0


def growth(rows: list[dict[str, float]]) -> list[str]:
    """A sentence for each measure whose last value is above what it was after the first ``WARM`` sections, beyond its slack."""
    first, last = rows[WARM - 1], rows[-1]
    return [
        f"{name}: {first[name]:.0f} -> {last[name]:.0f}"
        for name in first
        if name not in ("calls", "seconds") and last[name] > max(first[name] * SLACK.get(name, 1), first[name])
    ]


def held() -> dict[str, float]:
    """What the process holds now."""
    import spiraltorch as st
    from spiraltorch import again
    from spiraltorch.ir.node import live_nodes
    from spiraltorch.jit.eager import cached_programs
    from spiraltorch.runtime import cache

    gc.collect()
    with open("/proc/self/statm") as f:
        resident = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "MiB resident": resident / 2**20, "KiB in tensors": st.memory.allocated() / 2**10, "MiB in pool": st.memory.cached() / 2**20,
        "programs": cached_programs(), "modules": len(cache._addresses),
        "calls remembered": sum(map(len, (again.calls, again.views, again.indices, again._moves))),
        "nodes": live_nodes(), "objects": len(gc.get_objects()),
    }  # fmt: skip


class _Task:
    """What one thread does, turn after turn."""

    every = 0  # turns of a section

    def __init__(self, number: int) -> None:
        import spiraltorch as st

        self.error: BaseException | None = None
        self.rng = np.random.default_rng(number)
        self.model = st.nn.Sequential(st.nn.Linear(8, 16), st.nn.LayerNorm(16), st.nn.GELU(), st.nn.Linear(16, 4))
        self.optimizer = st.optim.Adam(self.model.parameters(), lr=1e-3)
        self.softmax = st.compile(lambda x: (x * 2).softmax(-1).sum(0))
        self.step = st.compile(self._step)
        self.turns: Iterator[tuple[Callable[[_Task, int, int], None], tuple[int, int]]] = (
            (kind, shape) for shape in itertools.cycle(SHAPES) for kind in self.KINDS
        )

    def run(self) -> None:
        try:
            for kind, shape in itertools.islice(self.turns, self.every):
                kind(self, *shape)
        except BaseException as e:  # the main thread raises it
            self.error = e

    def _array(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape, dtype=np.float32)

    def _step(self, x, y):  # type: ignore[no-untyped-def]
        import spiraltorch as st

        self.optimizer.zero_grad()
        loss = st.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def eager(self, rows: int, columns: int) -> None:
        import spiraltorch as st

        x, w = st.from_numpy(self._array(rows, columns)), st.ones(columns, 3, requires_grad=True)
        loss = (st.nn.functional.gelu(x @ w).softmax(-1) ** 2).sum() + x[:, ::2].mean()
        loss.backward()
        assert np.isfinite(loss.item()) and w.grad is not None and np.isfinite(w.grad.sum().item())

    def compiled(self, rows: int, columns: int) -> None:
        import spiraltorch as st

        total = self.softmax(st.from_numpy(self._array(rows, columns))).sum().item()
        assert abs(total - rows) < 1e-3 * rows

    def training(self, rows: int, columns: int) -> None:
        import spiraltorch as st

        assert np.isfinite(self.step(st.from_numpy(self._array(rows, 8)), st.arange(rows) % 4).item())

    def indexing(self, rows: int, columns: int) -> None:
        import spiraltorch as st

        x = st.from_numpy(self._array(rows, columns))
        order, mask = x[:, 0].argsort(), st.arange(rows * columns).view(rows, columns) % 3 == 0
        picked = x[order]
        picked[:, 1] = 0.0
        picked.index_add_(0, order, x)
        assert x[mask].shape == (-(-rows * columns // 3),) and st.where(mask, picked, -picked).isfinite().all().item()

    def views(self, rows: int, columns: int) -> None:
        import spiraltorch as st

        x = st.rand(rows, columns).t().contiguous().view(-1, rows)
        y = st.cat([x, x.flip(0)], 0).cumsum(0).unfold(0, 2, 2).transpose(0, 1)
        assert (y.amax() <= 2 * columns).item() and len(str(y)) > 0

    KINDS = (eager, compiled, training, indexing, views)
