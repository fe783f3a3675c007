"""Positions of the true elements of a vector, in order.

In: a vector of bools.  Out: how many are true in each of its parts; then, from both, the flat positions.  A part is a task's own
stretch, cut by sizes alone, and where its positions go follows from the counts before it: any number of threads gives the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .language import i64, stored
from .routine import routine

STRETCH = 1 << 16  # elements that are worth a task


def parts_of(count: int) -> int:
    return max(1, min(16, count // STRETCH))


def _count_sizes(node: Any) -> list[int]:
    return [node.src[0].size, node.shape[0]]


def _count_loops(k: Any) -> Any:
    def count(mask, out, n, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        for part in range(lo, hi):
            total = i64(0)
            for i in range(n * part // parts, n * (part + 1) // parts):
                total = total + i64(mask[i])
            out[part] = total

    return count, [stored("bool"), stored("int64")]


def _no_key(node: Any) -> tuple[Any, ...]:
    return ()


def _a_task_each(k: Any, sizes: Any) -> tuple[int, int]:
    return int(sizes[-1]), 1


@routine("selecting.counts", sizes=_count_sizes, loops=_count_loops, tasks=_a_task_each, key=_no_key)
def counts(static: Any, mask: np.ndarray) -> np.ndarray:
    """(parts,): how many elements are true in each part."""
    n, parts = mask.size, static[0]
    return np.array([mask[n * p // parts : n * (p + 1) // parts].sum() for p in range(parts)], np.int64)


def _place_sizes(node: Any) -> list[int]:
    return [node.src[0].size, node.shape[0], node.arg[1][1], node.src[1].size]


def _place_loops(k: Any) -> Any:
    def place(mask, counts, out, n, size, fill, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        for part in range(lo, hi):
            at = i64(0)
            for p in range(part):
                at = at + counts[p]
            end = min(at + counts[part], size)
            for i in range(n * part // parts, n * (part + 1) // parts):
                if at < end:  # each is written, and the next true one's place is kept by moving on
                    out[at] = i
                    at = at + i64(mask[i])
            if part == parts - 1:
                for j in range(end, size):
                    out[j] = fill

    return place, [stored("bool"), stored("int64"), stored("int64")]


@routine("selecting.positions", sizes=_place_sizes, loops=_place_loops, tasks=_a_task_each, key=_no_key)
def positions(static: Any, mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(size,): the first true positions, then ``fill``."""
    size, fill = static
    found = np.flatnonzero(mask)[:size]
    return np.concatenate([found, np.full(size - found.size, fill)]).astype(np.int64)
