"""Scatter: values put at or folded into positions along an axis, in the order of the index.

In: a base (or zeros, which are then not read), an index and values, all seen as (outer, size, inner) and
(outer, count, inner).  Out: the base with the values in it.  A task owns rows of the result, so any number of threads
gives the same bits.  Where rows are long, it first chains the entries of the index by row and then writes each row
once, the sum held in cache; else it copies its rows and runs through the index.  A large result of whole cache lines goes
past the cache, and the values of rows to come are asked for: a table's gradient is mostly zeros, and the rest comes from
everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...runtime.threads import get_num_threads
from .language import LINE, clear_line, copy_line, fence, i32, i64, misplaced, prefetch, stored, view
from .routine import routine
from .scanning import UFUNC, folding

PIECE = 1 << 15  # elements of the result that are worth a task
CHAINED = 8  # elements of a row from which on chains pay
READ = 48  # elements of the result that cost what reading one entry of the index costs
LARGE = 16 << 20  # bytes of the result from which on it is written past the cache
NEAR = 1 << 14  # bytes of a row that is added up in scratch memory before
AHEAD = 32  # rows of the result, a few of them with entries: their values are asked for
ROOM = 30 << 20  # bytes of scratch memory for chains


def _parts(outer: int, size: int, inner: int, count: int) -> int:
    """Tasks that share ``size`` rows.  Each of them reads the whole index, which for short rows is most of the work."""
    most = min(32, max(4, size * inner // (READ * max(1, count)))) if inner >= CHAINED else min(4, get_num_threads())
    return max(1, min(most, size, size * inner // PIECE, -(-64 // outer)))


def _sizes(node: Any) -> list[int]:
    base, index, _ = node.src
    axis = node.arg[0]
    outer, inner = (int(np.prod(part, dtype=np.int64)) for part in (base.shape[:axis], base.shape[axis + 1 :]))
    size = base.shape[axis]
    return [outer, size, inner, index.size, _parts(outer, size, inner, index.size)]


def _tasks(k: Any, ints: Any) -> tuple[int, int]:
    return ints[0] * ints[4], 1


def _loops(k: Any) -> Any:
    op, zero = k.static
    dtype = k.params[-2].dtype
    t, width = stored(dtype.name), dtype.itemsize
    line = LINE // width
    fold = folding("or" if dtype.name == "bool" and op == "add" else op)

    def begin(base, out, at, inner):  # type: ignore[no-untyped-def]
        for c in range(inner):
            if zero:
                out[at + c] = 0
            else:
                out[at + c] = base[at + c]

    def start(base, at, out, to, values, source, inner):  # type: ignore[no-untyped-def]
        for c in range(inner):
            if zero:
                out[to + c] = fold(t(0), values[source + c])
            else:
                out[to + c] = fold(base[at + c], values[source + c])

    def put(out, at, values, source, inner):  # type: ignore[no-untyped-def]
        for c in range(inner):
            out[at + c] = fold(out[at + c], values[source + c])

    def place(base, index, values, out, status, outer, size, inner, count, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        far = size * inner * width >= LARGE and inner % line == 0 and inner * width <= NEAR and misplaced(out) == 0
        for task in range(lo, hi):
            o = task // parts
            part = task % parts
            first = size * part // parts
            last = size * (part + 1) // parts
            if inner >= CHAINED and (last - first + count) * 4 + NEAR <= ROOM:
                heads = view(scratch, 0, i32)
                following = view(scratch, 4 * (last - first), i32)
                row = view(scratch, 4 * (last - first + count), t)
                for j in range(last - first):
                    heads[j] = i32(-1)
                for i in range(count - 1, -1, -1):
                    j = index[i]
                    if j < 0 or j >= size:
                        status[0] = i64(1)
                    elif j >= first and j < last:
                        following[i] = heads[j - first]
                        heads[j - first] = i32(i)
                for j in range(first, last):
                    at = (o * size + j) * inner
                    i = i64(heads[j - first])
                    if far:
                        next_ = i64(heads[min(j + AHEAD, last - 1) - first])
                        if next_ >= 0:
                            for c in range(0, inner, line):
                                prefetch(values, (o * count + next_) * inner + c)
                        if i >= 0:
                            start(base, at, row, 0, values, (o * count + i) * inner, inner)
                            i = i64(following[i])
                            while i >= 0:
                                put(row, 0, values, (o * count + i) * inner, inner)
                                i = i64(following[i])
                            for c in range(0, inner, line):
                                copy_line(out, at + c, row, c)
                        else:
                            for c in range(0, inner, line):
                                if zero:
                                    clear_line(out, at + c)
                                else:
                                    copy_line(out, at + c, base, at + c)
                    elif i >= 0:
                        start(base, at, out, at, values, (o * count + i) * inner, inner)
                        i = i64(following[i])
                        while i >= 0:
                            put(out, at, values, (o * count + i) * inner, inner)
                            i = i64(following[i])
                    else:
                        begin(base, out, at, inner)
            else:
                begin(base, out, (o * size + first) * inner, (last - first) * inner)
                for i in range(count):
                    j = index[i]
                    if j < 0 or j >= size:
                        status[0] = i64(1)
                    elif j >= first and j < last:
                        put(out, (o * size + j) * inner, values, (o * count + i) * inner, inner)
        if far:
            fence()

    def on_zeros(index, values, out, status, outer, size, inner, count, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        place(out, index, values, out, status, outer, size, inner, count, parts, lo, hi, scratch)

    def on_base(base, index, values, out, status, outer, size, inner, count, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        place(base, index, values, out, status, outer, size, inner, count, parts, lo, hi, scratch)

    if zero:
        return on_zeros, [i64, t, t, i64]
    return on_base, [t, i64, t, t, i64]


@routine("placing.scatter", fails=True, sizes=_sizes, loops=_loops, tasks=_tasks)
def scatter(static: Any, base: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``base`` with ``values`` at ``index`` along ``axis``; 'set' keeps the last of equal positions, others fold."""
    axis, op = static
    out = np.moveaxis(base.copy(), axis, 0)
    moved = np.moveaxis(values.reshape(*base.shape[:axis], index.size, *base.shape[axis + 1 :]), axis, 0)
    for j, v in zip(index.reshape(-1), moved):
        out[j] = v if op == "set" else UFUNC[op](out[j], v)
    return np.moveaxis(out, 0, axis)


__all__ = ["scatter"]
