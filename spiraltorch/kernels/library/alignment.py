"""Connectionist temporal classification: sums over all ways to align a sequence of labels with a longer one of classes.

In: log probabilities [T, N, C], labels [N, S], lengths [N].  Out: ``alignment.forward`` gives the logarithms [N, T, 2 S + 1], float64, of
the probability of all beginnings that end at a place of the labels (blanks between them), ``alignment.gradient`` the loss'
derivative.  A task is one sample.  (Graves et al. 2006, equations 6, 10 and 16.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .language import exp, f64, i64, log1p, stored, view
from .routine import routine

NOTHING = float("-inf")


def _logaddexp(a, b):  # type: ignore[no-untyped-def]
    high = a if a > b else b
    low = b if a > b else a
    return high if low == NOTHING else high + log1p(exp(low - high))


def _label(labels, n, width, s, blank):  # type: ignore[no-untyped-def]
    """The class at place ``s``: blanks stand at even places."""
    odd = (s & 1) == 1
    return labels[n * width + (s // 2 if odd else 0)] if odd else blank


def _three(memory, at, s, stays):  # type: ignore[no-untyped-def]
    """The sum of what leads to place ``s`` of the next row: from itself, its neighbour, and the one behind if it may."""
    total = memory[at + s]
    if s > 0:
        total = _logaddexp(total, memory[at + s - 1])
    if s > 1 and not stays:
        total = _logaddexp(total, memory[at + s - 2])
    return total


def _forward_sizes(node: Any) -> list[int]:
    t, n, c = node.src[0].shape
    return [t, n, c, node.src[1].shape[1], node.arg[1][0]]


def _forward(k: Any) -> Any:
    t = stored(k.params[0].dtype.name)

    def forward(logs, labels, spans, sizes, out, steps, samples, classes, width, blank, lo, hi, scratch):  # type: ignore[no-untyped-def]
        row = 2 * width + 1
        for n in range(lo, hi):
            span = min(max(spans[n], i64(0)), steps)
            places = 2 * min(max(sizes[n], i64(0)), width) + 1
            first = n * steps * row
            for i in range(steps * row):
                out[first + i] = f64(NOTHING)
            if span > 0:
                out[first] = f64(logs[n * classes + blank])
                if places > 1:
                    out[first + 1] = f64(logs[n * classes + labels[n * width]])
            for step in range(1, span):
                at = first + (step - 1) * row
                for s in range(places):
                    c = _label(labels, n, width, s, blank)
                    stays = True
                    if s > 1:
                        stays = _label(labels, n, width, s - 2, blank) == c
                    out[at + row + s] = _three(out, at, s, stays) + f64(logs[(step * samples + n) * classes + c])

    return forward, [t, i64, i64, i64, f64]


@routine("alignment.forward", sizes=_forward_sizes, loops=_forward, tasks=lambda k, ints: (ints[1], 1), key=lambda n: ())
def forward(static: Any, logs: np.ndarray, labels: np.ndarray, spans: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Logarithms [N, T, 2 S + 1] of the probability of all beginnings, -inf beyond the lengths."""
    (blank,) = static
    steps, samples, _ = logs.shape
    out = np.full((samples, steps, 2 * labels.shape[1] + 1), NOTHING)
    for n in range(samples):
        classes = _classes(labels[n], int(sizes[n]), blank)
        for step in range(int(spans[n])):
            for s, c in enumerate(classes):
                if step == 0:
                    total = 0.0 if s < 2 else NOTHING
                else:
                    total = np.logaddexp.reduce(_before(out[n, step - 1], classes, s))
                out[n, step, s] = total + logs[step, n, c]
    return out


def _classes(labels: np.ndarray, size: int, blank: int) -> list[int]:
    return [int(labels[s // 2]) if s % 2 else blank for s in range(2 * size + 1)]


def _before(row: np.ndarray, classes: list[int], s: int) -> list[float]:
    found = [row[s]] + ([row[s - 1]] if s > 0 else [])
    return found + ([row[s - 2]] if s > 1 and classes[s] != classes[s - 2] else [])


def _gradient(k: Any) -> Any:
    t = stored(k.params[0].dtype.name)

    def gradient(logs, labels, spans, sizes, alphas, loss, out, steps, samples, classes, width, blank, lo, hi, scratch):  # type: ignore[no-untyped-def]
        row = 2 * width + 1
        beta = view(scratch, 0, f64)
        found = view(scratch, 16 * row, f64)
        for n in range(lo, hi):
            span = min(max(spans[n], i64(0)), steps)
            places = 2 * min(max(sizes[n], i64(0)), width) + 1
            now = i64(0)
            last = row
            for step in range(steps - 1, -1, -1):
                at = (step * samples + n) * classes
                if step >= span:
                    for c in range(classes):
                        out[at + c] = t(0)
                else:
                    for c in range(classes):
                        found[c] = f64(NOTHING)
                    for s in range(places):
                        c = _label(labels, n, width, s, blank)
                        total = f64(NOTHING)
                        if step == span - 1:
                            if s >= places - 2:
                                total = f64(0)
                        else:
                            total = beta[last + s]
                            if s + 1 < places:
                                total = _logaddexp(total, beta[last + s + 1])
                            if s + 2 < places:
                                if _label(labels, n, width, s + 2, blank) != c:
                                    total = _logaddexp(total, beta[last + s + 2])
                        beta[now + s] = total + f64(logs[at + c])
                        both = alphas[(n * steps + step) * row + s] + beta[now + s]
                        found[c] = _logaddexp(found[c], both)
                    for c in range(classes):
                        v = f64(logs[at + c])
                        out[at + c] = t(exp(v) - exp(found[c] + loss[n] - v))
                    swap = now
                    now = last
                    last = swap

    return gradient, [t, i64, i64, i64, f64, f64, t]


@routine("alignment.gradient", sizes=_forward_sizes, loops=_gradient, tasks=lambda k, ints: (ints[1], 1), key=lambda n: ())
def gradient(
    static: Any, logs: np.ndarray, labels: np.ndarray, spans: np.ndarray, sizes: np.ndarray, alphas: np.ndarray, loss: np.ndarray
) -> np.ndarray:
    """The derivative [T, N, C] of each sample's loss at the inputs of the log-softmax that gave ``logs``."""
    (blank,) = static
    _, samples, classes = logs.shape
    out = np.zeros_like(logs)
    for n in range(samples):
        span, places = int(spans[n]), _classes(labels[n], int(sizes[n]), blank)
        beta = np.full(len(places), NOTHING)
        for step in range(span - 1, -1, -1):
            total = np.full(len(places), NOTHING)
            for s in range(len(places)):
                if step == span - 1:
                    total[s] = 0.0 if s >= len(places) - 2 else NOTHING
                else:
                    total[s] = np.logaddexp.reduce(_before(beta[::-1], places[::-1], len(places) - 1 - s))
            beta = total + logs[step, n, places]
            found = np.full(classes, NOTHING)
            np.logaddexp.at(found, places, alphas[n, step, : len(places)] + beta)
            out[step, n] = np.exp(logs[step, n]) - np.exp(found + loss[n] - logs[step, n])
    return out


__all__ = ["forward", "gradient"]
