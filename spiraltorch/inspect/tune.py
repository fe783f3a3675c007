"""Measure what :class:`~spiraltorch.runtime.tuning.Choice` may say, on the machine at hand: ``spiraltorch tune``.

In: seconds to spend.  Out: the best choice found and the records of what was measured.

    entry = tune(20.0, print)
    entry.choice.block_rows          # 128
    entry.measured[0]                # {"word": "block_rows", "work": "...", "microseconds": {"64": 812.0, "128": ...}}

One word after the other: its candidates run in turn on the same few workloads, each counts with the least of its times,
and another than the value so far is taken if the geometric mean over the workloads says that it is at least 1.5 % faster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..dtypes import float32
from ..ir import graph, lang
from ..ir.node import Node
from ..runtime import buffers, threads, tuning
from ..runtime.tuning import Choice, Entry
from .ceilings import timed

WORTH = 1.015  # times faster, from which another value is taken


@dataclass(frozen=True)
class Workload:
    """Something to time: results made of parameters of the given shapes, on one thread or on all."""

    note: str
    shapes: tuple[tuple[int, ...], ...]
    body: Callable[..., Node]
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.note}, {'1 thread' if self.alone else f'{threads.get_num_threads()} threads'}"


@dataclass(frozen=True)
class Question:
    """The candidates of a word, and what they are timed on."""

    word: str
    candidates: tuple[int, ...]
    workloads: tuple[Workload, ...]


def _times(x: Node, w: Node) -> Node:
    return graph.dot(x, w, contract_a=(1,), contract_b=(0,))


def _linear(x: Node, w: Node) -> Node:
    return graph.dot(x, w, contract_a=(1,), contract_b=(1,))


def _smooth(x: Node) -> Node:
    return x / (1 + lang.exp(-x))


def _product(m: int, n: int, k: int, turned: bool = False, alone: bool = False) -> Workload:
    note = f"float32 {m}x{k} by {f'the transpose of {n}x{k}' if turned else f'{k}x{n}'}"
    return Workload(note, ((m, k), (n, k) if turned else (k, n)), _linear if turned else _times, alone)


def _loop(n: int) -> Workload:
    return Workload(f"x / (1 + exp(-x)) of {n} float32", ((n,),), _smooth)


_BLOCKS = (_product(1024, 1024, 512, alone=True), _product(512, 1024, 384, True, alone=True), _product(512, 512, 512))

QUESTIONS = (
    Question("block_rows", (64, 128, 192, 256, 384), _BLOCKS),
    Question("block_bytes", (1024, 2048, 3072), _BLOCKS),
    Question("thin_across", (0, 1, 2, 4, 8), tuple([_product(m, 1024, 512, alone=True) for m in (1, 2, 4, 8)])),
    Question("thin_along", (0, 1, 2, 4, 8), tuple([_product(m, 1024, 512, True, alone=True) for m in (1, 2, 4, 8)])),
    Question("direct_panels", (0, 1, 2, 4, 8), tuple([_product(m, 512, 512, alone=True) for m in (8, 24, 48, 96)])),
    Question("serial_products", (1 << 14, 1 << 16, 1 << 17, 1 << 18), tuple([_product(s, s, s) for s in (24, 40, 56, 72)])),
    Question("split_products", (1 << 20, 1 << 22, 1 << 24, 1 << 26), tuple([_product(s, s, s) for s in (96, 160, 256)])),
    Question("serial_elements", (1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17), tuple([_loop(1 << s) for s in (11, 12, 13, 14)])),
    Question("chunk_elements", (1 << 13, 1 << 14, 1 << 15, 1 << 16), tuple([_loop(1 << s) for s in (17, 20, 22)])),
)


def tune(seconds: float = 20.0, say: Callable[[str], None] | None = None) -> Entry:
    """The best choice found in about ``seconds``; ``say`` gets a line for each word.  Results of programs never change."""
    choice, measured = Choice(), []
    for q in QUESTIONS:
        found = measure(q, choice, seconds / len(QUESTIONS))
        totals = {c: math.prod(found[w][c] for w in q.workloads) ** (1 / len(q.workloads)) for c in q.candidates}
        before = getattr(choice, q.word)
        best = min(totals, key=lambda c: totals[c])
        if totals[before] >= WORTH * totals[best]:
            choice = replace(choice, **{q.word: best})
        for w, times in found.items():
            figures = {str(c): round(t * 1e6, 2) for c, t in times.items()}
            measured.append({"word": q.word, "work": str(w), "microseconds": figures})
        if say is not None:
            shown = ", ".join([f"{c}: {totals[before] / t:.3f}" for c, t in totals.items()])
            say(f"{q.word} = {getattr(choice, q.word)}   (speed by value, {before} is 1: {shown})")
    return Entry(choice, tuple(measured))


def measure(q: Question, choice: Choice, seconds: float) -> dict[Workload, dict[int, float]]:
    """The least seconds of each workload with each candidate; candidates take turns."""
    found = {}
    for w in q.workloads:
        with _threads(1 if w.alone else threads.get_num_threads()):
            runs = {c: _prepared(w, replace(choice, **{q.word: c})) for c in q.candidates}
            repeats = max(1, int(2e-4 / min(timed(run) for run in runs.values())))
            best = dict.fromkeys(runs, math.inf)
            end = time.perf_counter() + seconds / len(q.workloads)
            rounds = 0
            while rounds < 3 or time.perf_counter() < end:
                rounds += 1
                for c, run in runs.items():
                    best[c] = min(best[c], timed(_repeat, run, repeats) / repeats)
            found[w] = best
    return found


def _repeat(run: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        run()


def _prepared(w: Workload, choice: Choice) -> Callable[[], Any]:
    """A call of the workload, scheduled by ``choice``; it has run once."""
    from ..jit.program import build

    with tuning.using(choice):
        root = w.body(*[graph.param(k, shape, float32) for k, shape in enumerate(w.shapes)])
        program = build([root], [None], [(shape, float32) for shape in w.shapes], [])
    rng = np.random.default_rng(0)
    given = []
    for shape in w.shapes:
        b = buffers.allocate(4 * math.prod(shape))
        b.view(np.float32, shape)[...] = rng.standard_normal(shape)
        given.append(b)

    def run() -> Any:
        return program.run(given)

    run()
    return run


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        yield
    finally:
        threads.set_num_threads(before)


__all__ = ["QUESTIONS", "Question", "Workload", "measure", "tune"]
