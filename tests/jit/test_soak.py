"""Long use: shapes come and go, memory and caches stay bounded; many threads run programs and get the bits they get alone."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import spiraltorch as st
from benchmarks.soak import SECTIONS, SLACK, growth
from benchmarks.soak import held as held_by_soak
from spiraltorch.ir.node import live_nodes
from spiraltorch.jit.eager import MOST_PROGRAMS, cached_programs, clear_programs
from spiraltorch.nn import functional as F

TURNS = 150


def eager_turn(rng: np.random.Generator) -> float:
    rows, columns = (int(n) for n in rng.integers(1, 40, 2))
    x = st.from_numpy(rng.standard_normal((rows, columns), dtype=np.float32))
    w = st.ones(columns, 3, requires_grad=True)
    loss = (F.gelu(x @ w).softmax(-1) ** 2).sum() + x[:, ::2].mean()
    loss.backward()
    return loss.item() + w.grad.sum().item()


def held() -> tuple[int, int, int]:
    gc.collect()
    return st.memory.allocated(), live_nodes(), len(gc.get_objects())


def test_mixed_shapes_leave_nothing_behind():
    rng = np.random.default_rng(0)
    compiled = st.compile(lambda x: (x * 2).softmax(-1).sum())
    for _ in range(TURNS):
        eager_turn(rng)
    before = held()
    for n in range(TURNS):
        eager_turn(rng)
        compiled(st.ones(2, 1 + n % 50)).item()
    memory, nodes, objects = (after - b for after, b in zip(held(), before))
    assert cached_programs() <= MOST_PROGRAMS
    assert memory <= 1 << 16
    per_program = 400  # what a cached program of a new shape may keep: its passes' results, which can be shown
    assert nodes <= per_program * 2 * TURNS
    assert objects <= 4 * per_program * 2 * TURNS


def test_the_cache_of_programs_is_bounded(monkeypatch):
    clear_programs()
    monkeypatch.setattr("spiraltorch.jit.eager.MOST_PROGRAMS", 20)
    for n in range(1, 60):
        (st.ones(n) + 1).sum().item()
    assert cached_programs() <= 20


def program(k: int):
    st.manual_seed(k)
    model = st.nn.Sequential(st.nn.Linear(16 + k, 32), st.nn.GELU(), st.nn.LayerNorm(32), st.nn.Linear(32, 4))
    optimizer = st.optim.Adam(model.parameters(), lr=1e-2)
    data = np.random.default_rng(k).standard_normal((24, 16 + k), dtype=np.float32)
    x, y = st.tensor(data.tolist()), st.arange(24) % 4

    @st.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return lambda: step(x, y).item()


@pytest.mark.parametrize("threads", [8])
def test_programs_in_many_threads_give_the_bits_they_give_alone(threads):
    alone = []
    for k in range(threads):
        step = program(k)
        alone.append([step() for _ in range(6)])
    steps = [program(k) for k in range(threads)]
    found: list[list[float]] = [[] for _ in range(threads)]
    barrier = threading.Barrier(threads)

    def run(k: int) -> None:
        barrier.wait()
        for _ in range(6):
            found[k].append(steps[k]())

    workers = [threading.Thread(target=run, args=(k,)) for k in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert found == alone


def test_the_long_soak_says_what_grew():
    rows = [{"calls": 1.0, "seconds": 1.0, "programs": 5.0, "MiB resident": 100.0} for _ in range(SECTIONS)]
    rows[-1]["MiB resident"] = 103.0
    assert growth(rows) == []
    rows[-1] |= {"programs": 6.0, "MiB resident": 105.0}
    assert growth(rows) == ["programs: 5 -> 6", "MiB resident: 100 -> 105"]
    assert set(SLACK) < set(held_by_soak())
