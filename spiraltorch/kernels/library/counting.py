"""Counting: how many elements (or how much weight) fall into each bin; and rows in lexicographic order.

In: a vector of bin numbers, and weights.  Out: one row of bins for each task, which the graph then adds: a task counts
its own stretch of the vector, so the cut depends on sizes alone and any number of threads gives the same bits.  A
number outside of the bins is not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .language import i64, stored, view
from .routine import routine
from .sorting import key_of, keys, unsigned

STRETCH = 1 << 15  # elements that are worth a task
COPIES = 4  # tables that one task counts in by turns, so that equal neighbours do not wait for each other
SMALL = 1 << 12  # bins up to which there are copies


def parts_of(count: int, bins: int) -> int:
    """How many tasks share ``count`` elements: clearing and adding their rows must cost less than counting."""
    return max(1, min(16, count // max(STRETCH, 4 * bins)))


def _sizes(node: Any) -> list[int]:
    return [node.src[0].size, node.shape[1], node.shape[0]]


def _bins(k: Any) -> Any:
    weighted = len(k.params) == 3
    at = stored(k.params[0].dtype.name)
    t = stored(k.params[-1].dtype.name)

    def count(index, weights, out, n, bins, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        table = view(scratch, 0, t)
        copies = i64(COPIES) if bins <= SMALL else i64(0)
        for part in range(lo, hi):
            row = part * bins
            for b in range(bins):
                out[row + b] = 0
            for b in range(bins * copies):
                table[b] = 0
            first = n * part // parts
            last = n * (part + 1) // parts
            if copies > 0:
                for i in range(first, last):
                    b = i64(index[i])
                    if b >= 0 and b < bins:
                        place = b * COPIES + (i & (COPIES - 1))
                        table[place] = table[place] + (weights[i] if weighted else 1)
                for b in range(bins):
                    a = b * COPIES
                    out[row + b] = (table[a] + table[a + 1]) + (table[a + 2] + table[a + 3])
            else:
                for i in range(first, last):
                    b = i64(index[i])
                    if b >= 0 and b < bins:
                        out[row + b] = out[row + b] + (weights[i] if weighted else 1)

    if weighted:

        def weigh(index, weights, out, n, bins, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
            count(index, weights, out, n, bins, parts, lo, hi, scratch)

        return weigh, [at, t, t]

    def number(index, out, n, bins, parts, lo, hi, scratch):  # type: ignore[no-untyped-def]
        count(index, index, out, n, bins, parts, lo, hi, scratch)

    return number, [at, t]


@routine("counting.bins", sizes=_sizes, loops=_bins, tasks=lambda k, ints: (ints[2], 1), key=lambda n: ())
def bins(static: Any, index: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(parts, bins): how often each bin number comes in a part of ``index``, or the sum of its ``weights``."""
    parts, size = static
    n = index.size
    out = np.zeros((parts, size), np.int64 if weights is None else weights.dtype)
    for p in range(parts):
        part = slice(n * p // parts, n * (p + 1) // parts)
        inside = (index[part] >= 0) & (index[part] < size)
        np.add.at(out[p], index[part][inside], 1 if weights is None else weights[part][inside])
    return out


# -- rows ---------------------------------------------------------------------------------------------------


def _row_sizes(node: Any) -> list[int]:
    return list(node.src[0].shape)


def _rows(k: Any) -> Any:
    name = k.params[0].dtype.name
    key = key_of(name, False)

    def later(x, a, b, width):  # type: ignore[no-untyped-def]
        """Whether row ``a`` comes after row ``b``."""
        c = i64(0)
        while c < width and key(x[a * width + c]) == key(x[b * width + c]):
            c += 1
        found = width < 0
        if c < width:
            found = key(x[a * width + c]) > key(x[b * width + c])
        return found

    def sort(x, out, n, width, lo, hi, scratch):  # type: ignore[no-untyped-def]
        other = view(scratch, 0, i64)
        for i in range(n):
            out[i] = i
        run = i64(1)
        while run < n:
            start = i64(0)
            while start < n:
                middle = min(start + run, n)
                stop = min(start + 2 * run, n)
                for i in range(start, middle):
                    other[i - start] = out[i]
                a = i64(0)
                b = middle
                at = start
                left = middle - start
                while a < left and b < stop:
                    if later(x, other[a], out[b], width):
                        out[at] = out[b]
                        b += 1
                    else:
                        out[at] = other[a]
                        a += 1
                    at += 1
                while a < left:
                    out[at] = other[a]
                    a += 1
                    at += 1
                start += 2 * run
            run = 2 * run

    return sort, [unsigned(name), i64]


MOST_ROWS = 1 << 22  # one of the two runs that are merged stands in scratch memory


@routine("counting.rows", sizes=_row_sizes, loops=_rows, tasks=lambda k, ints: (1, 1))
def rows(static: Any, x: np.ndarray) -> np.ndarray:
    """Positions that sort the rows of a matrix, by their first element, then the second, and so on; stable."""
    return np.lexsort(keys(x, False).T[::-1]) if x.shape[1] else np.arange(len(x))


__all__ = ["MOST_ROWS", "bins", "parts_of", "rows"]
