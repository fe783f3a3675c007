"""Samplers that reject: an element takes as many random words as it needs, so no fixed graph computes it.

In: key and counter (0-d uint64) and float64 parameters, one an element.  Out: float64 counts.  Element i reads Philox
at counter + i under a key of its own for every try, so the numbers depend neither on threads nor on the other elements.

Poisson: a product of uniforms below a mean of 10 (Knuth), else the transformed rejection of Hoermann (1993), PTRS;
binomial: geometric gaps below n p of 10, else the BTRS of the same paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .routine import routine

_ELEMENTS = 1024  # elements of one task


def _tools(wrap: Callable[[Any], Any]) -> tuple[Any, Any]:
    """(uniform in (0, 1) for (key, counter, try), logarithm of k!), compiled or not."""

    def uniform(key, counter, turn):  # type: ignore[no-untyped-def]
        mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
        own = key ^ (np.uint64(turn + 1) * np.uint64(0xD1B54A32D192ED03))
        k0, k1 = own & mask, own >> half
        c0, c1, c2, c3 = counter & mask, counter >> half, np.uint64(0), np.uint64(0)
        for _ in range(10):
            first, second = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (
                (second >> half) ^ c1 ^ k0, second & mask, (first >> half) ^ c3 ^ k1, first & mask,
            )  # fmt: skip
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
        bits = ((c0 << half) | c1) >> np.uint64(11)
        return (float(bits) + 0.5) / 9007199254740992.0

    def log_factorial(k):  # type: ignore[no-untyped-def]
        return math.lgamma(k + 1.0)

    return wrap(uniform), wrap(log_factorial)


def _plain(f: Any) -> Any:
    return f


def _compiled(f: Any) -> Any:
    import numba

    return numba.njit(error_model="numpy")(f)


def _poisson(wrap: Callable[[Any], Any]) -> Any:
    uniform, log_factorial = _tools(wrap)

    def one(key, at, rate):  # type: ignore[no-untyped-def]
        if not rate > 0.0:
            return 0.0 if rate == 0.0 else math.nan
        turn = 0
        if rate < 10.0:
            limit, product, count = math.exp(-rate), 1.0, -1.0
            while product > limit:
                product *= uniform(key, at, turn)
                turn += 1
                count += 1.0
            return max(count, 0.0)
        slog, log_rate = math.sqrt(rate), math.log(rate)
        b = 0.931 + 2.53 * slog
        a = -0.059 + 0.02483 * b
        inv_alpha, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0)
        while True:
            u, v = uniform(key, at, turn) - 0.5, uniform(key, at, turn + 1)
            turn += 2
            us = 0.5 - abs(u)
            k = math.floor((2.0 * a / us + b) * u + rate + 0.43)
            if us >= 0.07 and v <= v_r:
                return float(k)
            if k < 0 or (us < 0.013 and v > us):
                continue
            if math.log(v) + math.log(inv_alpha) - math.log(a / (us * us) + b) <= -rate + k * log_rate - log_factorial(k):
                return float(k)

    return wrap(one)


def _binomial(wrap: Callable[[Any], Any]) -> Any:
    uniform, log_factorial = _tools(wrap)

    def one(key, at, n, chance):  # type: ignore[no-untyped-def]
        if not (n > 0.0 and chance > 0.0):
            return 0.0 if n >= 0.0 and chance >= 0.0 else math.nan
        p = min(chance, 1.0 - chance)
        if p <= 0.0:
            return n
        turn, count = 0, 0.0
        if n * p < 10.0:
            total, scale = 0.0, math.log1p(-p)
            while True:
                total += math.floor(math.log(uniform(key, at, turn)) / scale) + 1.0
                turn += 1
                if total > n:
                    break
                count += 1.0
            return count if chance == p else n - count
        spread = math.sqrt(n * p * (1.0 - p))
        b = 1.15 + 2.53 * spread
        a, c = -0.0873 + 0.0248 * b + 0.01 * p, n * p + 0.5
        alpha, v_r, m = (2.83 + 5.1 / b) * spread, 0.92 - 4.2 / b, math.floor((n + 1.0) * p)
        odds = math.log(p / (1.0 - p))
        middle = log_factorial(m) + log_factorial(n - m)
        while True:
            u, v = uniform(key, at, turn) - 0.5, uniform(key, at, turn + 1)
            turn += 2
            us = 0.5 - abs(u)
            k = math.floor((2.0 * a / us + b) * u + c)
            if k < 0 or k > n:
                continue
            accepted = us >= 0.07 and v <= v_r
            if not accepted:
                level = math.log(v * alpha / (a / (us * us) + b))
                accepted = level <= middle - log_factorial(k) - log_factorial(n - k) + (k - m) * odds
            if accepted:
                return float(k) if chance == p else n - k

    return wrap(one)


def _over_rates(k: Any) -> Callable[..., None]:
    one = _poisson(_compiled)

    def loops(key, counter, rate, out, count, lo, hi):  # type: ignore[no-untyped-def]
        for i in range(lo * 1024, min(hi * 1024, count)):
            out[i] = one(key[0], counter[0] + np.uint64(i), rate[i])

    return loops


def _over_counts(k: Any) -> Callable[..., None]:
    one = _binomial(_compiled)

    def loops(key, counter, n, chance, out, count, lo, hi):  # type: ignore[no-untyped-def]
        for i in range(lo * 1024, min(hi * 1024, count)):
            out[i] = one(key[0], counter[0] + np.uint64(i), n[i], chance[i])

    return loops


def _size(n: Any) -> list[int]:
    return [n.size]


def _tasks(k: Any, sizes: Any) -> tuple[int, int]:
    return max(1, -(-sizes[0] // _ELEMENTS)), 1


def _each(one: Any, key: Any, counter: Any, *parameters: Any) -> np.ndarray:
    flat = [p.reshape(-1).tolist() for p in parameters]
    with np.errstate(over="ignore"):
        found = [one(np.uint64(key), np.uint64(counter) + np.uint64(i), *values) for i, values in enumerate(zip(*flat))]
    return np.array(found, np.float64).reshape(parameters[0].shape)


@routine("sampling.poisson", sizes=_size, numba=_over_rates, tasks=_tasks)
def poisson(static: Any, key: Any, counter: Any, rate: Any) -> np.ndarray:
    """Poisson counts with mean ``rate``."""
    return _each(_poisson(_plain), key, counter, rate)


@routine("sampling.binomial", sizes=_size, numba=_over_counts, tasks=_tasks)
def binomial(static: Any, key: Any, counter: Any, n: Any, chance: Any) -> np.ndarray:
    """How many of ``n`` trials succeed, each with ``chance``."""
    return _each(_binomial(_plain), key, counter, n, chance)
