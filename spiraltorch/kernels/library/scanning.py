"""Running folds along an axis: sums, products, extremes, where the extreme is, log-sum-exp.

In: an array seen as (outer, size, inner), and what each row begins with when a fold goes on.  Out: the fold of
everything up to each element.  float32 sums and products run in float64 and round once an element, as in torch.

Neighbours along ``inner`` run side by side in vectors; along the last axis ``GROUP`` rows do, which hides the latency
of the fold.  Few long rows are cut into blocks: ``scanning.totals`` folds each, the totals are scanned, and every
block begins with what came before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import BY_NAME
from .language import Type, exp, i64, log1p, stored, view
from .routine import routine

COLUMNS = 128  # neighbours that one task runs side by side
GROUP = 4  # rows that do so along the last axis
BLOCK = 1 << 13  # elements of a block of a long row


def accumulator(dtype: Any, op: str) -> Any:
    """The element type in which the fold of ``dtype`` runs."""
    return BY_NAME["float64"] if dtype.name == "float32" and op in ("add", "mul", "logaddexp") else dtype


def blocks_of(outer: int, size: int, inner: int) -> int:
    """Into how many blocks a row is cut."""
    return -(-size // BLOCK) if inner == 1 and outer < 16 and size >= 4 * BLOCK else 1


def _identity(op: str, t: Type) -> Any:
    if op in ("add", "mul"):
        return int(op == "mul")
    if t.kind == "f":
        return float("inf") if op == "min" else float("-inf")
    low = -(1 << (t.width - 1)) if t.kind == "i" else 0
    return low + (1 << t.width) - 1 if op == "min" else low


def folding(op: str) -> Any:
    """The function of two elements, for loops; extremes keep nan, 'set' is the second."""

    def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    def mul(a, b):  # type: ignore[no-untyped-def]
        return a * b

    def larger(a, b):  # type: ignore[no-untyped-def]
        return a if a != a or a > b else b

    def smaller(a, b):  # type: ignore[no-untyped-def]
        return a if a != a or a < b else b

    def either(a, b):  # type: ignore[no-untyped-def]
        return a | b

    def second(a, b):  # type: ignore[no-untyped-def]
        return b

    def logaddexp(a, b):  # type: ignore[no-untyped-def]
        low = b if a > b else a
        high = a if a > b else b
        apart = high + log1p(exp(low - high))
        return a + b if a != a or b != b else high if low == high and low - high != 0 else apart

    folds = {"add": add, "mul": mul, "max": larger, "min": smaller, "logaddexp": logaddexp, "or": either, "set": second}
    return folds[op]


def _around(shape: tuple[int, ...], axis: int) -> list[int]:
    outer, inner = (int(np.prod(part, dtype=np.int64)) for part in (shape[:axis], shape[axis + 1 :]))
    return [outer, shape[axis], inner]


def _sizes(node: Any) -> list[int]:
    sizes = _around(node.src[0].shape, node.arg[1][1])
    return [*sizes, blocks_of(*sizes)]


def _tasks(k: Any, ints: Any) -> tuple[int, int]:
    outer, size, inner, blocks = ints
    if inner == 1:
        return -(-outer * blocks // GROUP), 1
    return outer * -(-inner // COLUMNS), 1


def _static(node: Any) -> tuple[Any, ...]:
    op, _, reverse = node.arg[1]
    return op, reverse


# -- the folds ----------------------------------------------------------------------------------------


def _loops(k: Any, totals: bool) -> Any:
    op, reverse = k.static
    dtype = k.params[0].dtype
    t, wide = stored(dtype.name), stored(accumulator(dtype, op).name)
    begin = _identity(op, wide)
    carried = len(k.params) == 3
    fold = folding(op)

    def columns(x, out, size, inner, lo, hi, scratch):  # type: ignore[no-untyped-def]
        so_far = view(scratch, 0, wide)
        parts = (inner + COLUMNS - 1) // COLUMNS
        for task in range(lo, hi):
            first = (task % parts) * COLUMNS
            count = min(inner - first, i64(COLUMNS))
            for c in range(count):
                so_far[c] = wide(begin)
            for k in range(size):
                j = size - 1 - k if reverse else k
                row = (task // parts * size + j) * inner + first
                for c in range(count):
                    v = fold(so_far[c], wide(x[row + c]))
                    so_far[c] = v
                    out[row + c] = t(v)

    def begins(carry, row, blocks):  # type: ignore[no-untyped-def]
        value = wide(begin)
        if carried:
            block = row % blocks
            if reverse:
                if block < blocks - 1:
                    value = carry[row + 1]
            else:
                if block > 0:
                    value = carry[row - 1]
        return value

    def place(row, size, blocks, width):  # type: ignore[no-untyped-def]
        return row // blocks * size + row % blocks * width

    def rows(x, carry, out, outer, size, blocks, lo, hi, scratch):  # type: ignore[no-untyped-def]
        width = size if blocks == 1 else i64(BLOCK)
        for task in range(lo, hi):
            first = task * GROUP
            last = first + GROUP - 1
            if last < outer * blocks and (blocks == 1 or size % BLOCK == 0 or first % blocks + GROUP < blocks):
                p = place(first, size, blocks, width)
                q = place(first + 1, size, blocks, width)
                r = place(first + 2, size, blocks, width)
                s = place(last, size, blocks, width)
                a = begins(carry, first, blocks)
                b = begins(carry, first + 1, blocks)
                c = begins(carry, first + 2, blocks)
                d = begins(carry, last, blocks)
                for k in range(width):
                    j = width - 1 - k if reverse else k
                    a = fold(a, wide(x[p + j]))
                    b = fold(b, wide(x[q + j]))
                    c = fold(c, wide(x[r + j]))
                    d = fold(d, wide(x[s + j]))
                    if not totals:
                        out[p + j] = t(a)
                        out[q + j] = t(b)
                        out[r + j] = t(c)
                        out[s + j] = t(d)
                if totals:
                    out[first] = a
                    out[first + 1] = b
                    out[first + 2] = c
                    out[last] = d
            else:
                for row in range(first, min(first + GROUP, outer * blocks)):
                    p = place(row, size, blocks, width)
                    length = min(width, size - row % blocks * width)
                    a = begins(carry, row, blocks)
                    for k in range(length):
                        at = p + (length - 1 - k if reverse else k)
                        a = fold(a, wide(x[at]))
                        if not totals:
                            out[at] = t(a)
                    if totals:
                        out[row] = a

    def scan(x, out, outer, size, inner, blocks, lo, hi, scratch):  # type: ignore[no-untyped-def]
        if inner == 1:
            rows(x, x, out, outer, size, blocks, lo, hi, scratch)
        else:
            columns(x, out, size, inner, lo, hi, scratch)

    def scan_on(x, carry, out, outer, size, inner, blocks, lo, hi, scratch):  # type: ignore[no-untyped-def]
        rows(x, carry, out, outer, size, blocks, lo, hi, scratch)

    def fold_blocks(x, out, outer, size, inner, blocks, lo, hi, scratch):  # type: ignore[no-untyped-def]
        rows(x, x, out, outer, size, blocks, lo, hi, scratch)

    if totals:
        return fold_blocks, [t, wide]
    return (scan_on, [t, wide, t]) if carried else (scan, [t, t])


def _scan(k: Any) -> Any:
    return _loops(k, totals=False)


def _totals(k: Any) -> Any:
    return _loops(k, totals=True)


def _log_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """logaddexp of complex numbers too."""
    if a.dtype.kind != "c":
        return np.logaddexp(a, b)  # type: ignore[no-any-return]
    high = np.where(a.real < b.real, b, a)
    return high + np.log(np.exp(a - high) + np.exp(b - high))


UFUNC = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "logaddexp": np.logaddexp}


def accumulate(x: np.ndarray, op: str, axis: int, reverse: bool) -> np.ndarray:
    """The fold of everything up to each element along ``axis``, in the accumulator's type."""
    wide = accumulator(BY_NAME[x.dtype.name], op).np
    ordered = np.flip(x, axis) if reverse else x
    out = UFUNC[op].accumulate(ordered.astype(wide), axis=axis, dtype=wide)
    out = out + 0 if op == "add" else out  # a sum begins with 0
    return np.flip(out, axis) if reverse else out


@routine("scanning.scan", sizes=_sizes, loops=_scan, tasks=_tasks, key=_static)
def scan(static: Any, x: np.ndarray, carry: np.ndarray | None = None) -> np.ndarray:
    """Running fold; with ``carry``, the running fold of the blocks of each row, the rows are folded block by block."""
    op, axis, reverse = static
    if carry is None:
        return accumulate(x, op, axis, reverse).astype(x.dtype)
    size, out = x.shape[-1], np.empty_like(x)
    for b, start in enumerate(range(0, size, BLOCK)):
        part = x[..., start : start + BLOCK].astype(carry.dtype)
        before = b + 1 if reverse else b - 1
        if 0 <= before < carry.shape[-1]:
            part = np.concatenate([carry[..., before : before + 1], part][:: -1 if reverse else 1], -1)
            part = UFUNC[op].accumulate(part[..., ::-1] if reverse else part, axis=-1)[..., 1:]
            part = part[..., ::-1] if reverse else part
        else:
            part = accumulate(part, op, part.ndim - 1, reverse)
        out[..., start : start + BLOCK] = part
    return out


@routine("scanning.totals", sizes=_sizes, loops=_totals, tasks=_tasks, key=_static)
def totals(static: Any, x: np.ndarray) -> np.ndarray:
    """The fold of every block of ``BLOCK`` elements of the last axis."""
    op, _, reverse = static
    parts = [x[..., s : s + BLOCK] for s in range(0, x.shape[-1], BLOCK)]
    folds = [accumulate(p, op, p.ndim - 1, reverse)[..., 0 if reverse else -1] for p in parts]
    return np.stack(folds, -1)


# -- where the extreme is -----------------------------------------------------------------------------


def _position(k: Any) -> Any:
    op, _ = k.static
    t = stored(k.params[0].dtype.name)

    def wins(v, best):  # type: ignore[no-untyped-def]
        return v != v or (v >= best if op == "max" else v <= best)

    def position(x, out, outer, size, inner, blocks, lo, hi, scratch):  # type: ignore[no-untyped-def]
        best = view(scratch, 0, t)
        place = view(scratch, 8 * COLUMNS, i64)
        parts = (inner + COLUMNS - 1) // COLUMNS
        for task in range(lo, hi):
            first = (task % parts) * COLUMNS
            count = min(inner - first, i64(COLUMNS))
            base = task // parts * size * inner + first
            if inner == 1:
                top = x[base]
                at = i64(0)
                for j in range(size):
                    v = x[base + j]
                    better = wins(v, top)
                    top = v if better else top
                    at = j if better else at
                    out[base + j] = at
            else:
                for c in range(count):
                    best[c] = x[base + c]
                for j in range(size):
                    row = base + j * inner
                    for c in range(count):
                        v = x[row + c]
                        better = wins(v, best[c])
                        best[c] = v if better else best[c]
                        at = j if better else place[c]
                        place[c] = at
                        out[row + c] = at

    return position, [t, i64]


def _position_tasks(k: Any, ints: Any) -> tuple[int, int]:
    outer, size, inner, _ = ints
    return outer * -(-inner // COLUMNS), 1


@routine("scanning.position", sizes=_sizes, loops=_position, tasks=_position_tasks, key=_static)
def position(static: Any, x: np.ndarray) -> np.ndarray:
    """Where the largest ('max') or smallest element so far along the axis is: the last of equals, nan above all."""
    op, axis, _ = static
    values = np.moveaxis(x, axis, -1)
    best = UFUNC[op].accumulate(values, axis=-1)
    hit = (values == best) | (values != values)
    at = np.maximum.accumulate(np.where(hit, np.arange(values.shape[-1]), 0), axis=-1)
    return np.moveaxis(at, -1, axis)


__all__ = ["UFUNC", "accumulate", "accumulator", "blocks_of", "folding", "position", "scan", "totals"]
