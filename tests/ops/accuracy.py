"""The error of every transcendental operator, in units in the last place, against mpmath.

    python -m tests.ops.accuracy                 # measures, and writes docs/accuracy.json (for docs/numerics.md)
    python -m tests.ops.accuracy lgamma j0       # prints the worst points of some

In: for each operator its exact value and where it is measured.  Out: the largest error over random and special points,
in float32 and float64.  Near a zero that is no float the result's own unit is no measure, and for those operators the
error is counted in units of ``max(|result|, scale)``: the table says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

import spiraltorch as st
from spiraltorch.ops.series import table

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.json"
Array = np.ndarray
Exact = Callable[..., Any]


@dataclass
class Case:
    """An operator to measure: its exact value, the ends of its domain, the scale near its zeros (0: none), and ``turns``,
    places that are measured exactly and beside: zeros that are floats nearly, and where one formula follows another."""

    exact: Exact
    low: float = -30.0
    high: float = 30.0
    scale: float = 0.0
    note: str = ""
    call: Callable[..., Any] | None = None
    second: tuple[float, float] | None = None
    turns: tuple[float, ...] = ()


def _log_ndtr(x: Any) -> Any:
    return mp.log(mp.erfc(-x / mp.sqrt(2)) / 2)


def _erfinv(y: Any) -> Any:
    return mp.erfinv(y)


def _ndtri(p: Any) -> Any:
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


def _sinc(x: Any) -> Any:
    return mp.sincpi(x)


def _logit(x: Any) -> Any:
    return mp.log(x / (1 - x))


def _zeta(s: Any, q: Any) -> Any:
    return mp.zeta(s, q)


def _softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def _polygamma_2(x: Any) -> Any:
    return mp.polygamma(2, x)


def _share(lower: bool) -> Exact:
    """The incomplete gamma function below or above x, regularized."""

    def f(a: Any, x: Any) -> Any:
        return mp.gammainc(a, 0, x, regularized=True) if lower else mp.gammainc(a, x, regularized=True)

    return f


def _zeros(name: str) -> tuple[float, ...]:
    """Some zeros that stand in the table of expansions: the float nearest to each."""
    return tuple([row[0] for row in table()[f"{name}_roots"]][::3])


COUNT = 120  # uniform points of each measurement; twice as many are near the ends and zero
ROOTS = "measured against max(|value|, {}), because its zeros are no floats"
CASES: dict[str, Case] = {
    "sinh": Case(mp.sinh, -85, 85, turns=(1, 4)), "cosh": Case(mp.cosh, -85, 85, turns=(1, 4)), "asinh": Case(mp.asinh, -1e4, 1e4),
    "acosh": Case(mp.acosh, 1, 1e4), "atanh": Case(mp.atanh, -1, 1), "log10": Case(mp.log10, 0, 1e6),
    "reciprocal": Case(lambda x: 1 / x), "sigmoid": Case(lambda x: 1 / (1 + mp.exp(-x)), -100, 80, turns=(-37.5, -88.8)),
    "logit": Case(_logit, 0, 1, turns=(0.25, 0.5, 0.75)), "log1p": Case(mp.log1p, -1, 1e4, turns=(-0.2928932188134524, 0.4142135623730951)),
    "nn.functional.mish": Case(lambda x: x * mp.tanh(_softplus(x)), -80, 30, turns=(-0.1, -1, 1)),
    "nn.functional.silu": Case(lambda x: x / (1 + mp.exp(-x)), -92, 80, turns=(-37.5, -2)),
    "nn.functional.softplus": Case(_softplus, -80, 19), "nn.functional.logsigmoid": Case(lambda x: -_softplus(-x), -80, 80),
    "igamma": Case(_share(True), 0.001, 30, second=(0.001, 60)), "igammac": Case(_share(False), 0.001, 30, second=(0.001, 60)),
    "erfc": Case(mp.erfc, -6, 9, turns=(0.5, 0.65)), "erfinv": Case(_erfinv, -1, 1), "special.erfcx": Case(lambda x: mp.exp(x * x) * mp.erfc(x), -5, 50, turns=(0.25, 1.25)),
    "special.ndtr": Case(mp.ncdf, -36, 6, turns=(-0.6, 0.6)), "special.ndtri": Case(_ndtri, 0, 1), "special.log_ndtr": Case(_log_ndtr, -40, 8, turns=(-1, -0.6, 0.6)),
    "sinc": Case(_sinc, -20, 20), "special.entr": Case(lambda x: -x * mp.log(x), 0, 10),
    "xlogy": Case(lambda x, y: x * mp.log(y), -30, 30, second=(0, 30)),
    "special.xlog1py": Case(lambda x, y: x * mp.log1p(y), -30, 30, second=(-1, 30)),
    "logaddexp": Case(lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), 0.5, 30, second=(0.5, 30)),
    "logaddexp2": Case(lambda x, y: mp.log(mp.mpf(2) ** x + mp.mpf(2) ** y, 2), 0.5, 30, second=(0.5, 30)),
    "hypot": Case(mp.hypot, -1e3, 1e3, second=(-1e3, 1e3)),
    "lgamma": Case(mp.loggamma, 0, 200, turns=(1, 2)), "digamma": Case(mp.digamma, 0, 100, turns=(1.4616321449683622,)),
    "polygamma(1)": Case(lambda x: mp.polygamma(1, x), 0, 50, call=lambda x: st.polygamma(1, x)),
    "polygamma(2) below 0": Case(_polygamma_2, -20, 0, 16.0, ROOTS.format(16), call=lambda x: st.polygamma(2, x)),
    "polygamma(3)": Case(lambda x: mp.polygamma(3, x), 0, 50, call=lambda x: st.polygamma(3, x)),
    "special.zeta": Case(_zeta, 1.01, 20, second=(0.01, 20)),
    "i0": Case(lambda x: mp.besseli(0, x), -80, 80), "special.i0e": Case(lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), -80, 80),
    "special.i1": Case(lambda x: mp.besseli(1, x), -80, 80),
    "special.i1e": Case(lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), -80, 80),
    "special.modified_bessel_k0": Case(lambda x: mp.besselk(0, x), 0, 60),
    "special.modified_bessel_k1": Case(lambda x: mp.besselk(1, x), 0, 60),
    "special.scaled_modified_bessel_k0": Case(lambda x: mp.besselk(0, x) * mp.exp(x), 0, 60),
    "special.scaled_modified_bessel_k1": Case(lambda x: mp.besselk(1, x) * mp.exp(x), 0, 60),
    "special.bessel_j0": Case(mp.j0, -60, 60, turns=_zeros("j0")), "special.bessel_j1": Case(mp.j1, -60, 60, turns=_zeros("j1")),
    "special.bessel_y0": Case(lambda x: mp.bessely(0, x), 0, 60, turns=_zeros("y0")),
    "special.bessel_y1": Case(lambda x: mp.bessely(1, x), 0, 60, turns=_zeros("y1")),
    "special.spherical_bessel_j0": Case(mp.sinc, -60, 60),
    "special.airy_ai": Case(mp.airyai, -1, 60),
    "special.airy_ai below 0": Case(mp.airyai, -60, 0, turns=_zeros("airy"), call=lambda x: st.special.airy_ai(x)),
    "lgamma below 0": Case(lambda x: mp.re(mp.loggamma(x)), -20, 0, turns=_zeros("lgamma"), call=lambda x: st.lgamma(x)),
    "digamma below 0": Case(mp.digamma, -32, 0, turns=_zeros("digamma"), call=lambda x: st.digamma(x)),
    "digamma below -32": Case(mp.digamma, -100, -32, 4.0, ROOTS.format(4), call=lambda x: st.digamma(x)),
}  # fmt: skip


def points(case: Case, dtype: str, count: int, seed: int = 0) -> list[Array]:
    """Uniform points, and points near the ends and zero at every scale."""
    rng = np.random.default_rng(seed)

    def drawn(low: float, high: float) -> Array:
        parts = [rng.uniform(low, high, count)]
        for end, inward in ((low, 1.0), (high, -1.0)):
            parts.append(end + inward * (high - low) * 10.0 ** rng.uniform(-8, 0, count // 2))
        small = 10.0 ** rng.uniform(-17, 0, count // 2)
        parts += [small, -small]
        for turn in case.turns:
            near = 10.0 ** rng.uniform(-17, -1, count // 4)
            parts += [np.array([turn]), turn * (1 + near), turn * (1 - near)]
        x = np.concatenate(parts).astype(dtype)
        return x[(x > low) & (x < high) & ((x > 0) | (x != np.floor(x)))]  # negative integers are poles of some

    first = drawn(case.low, case.high)
    if case.second is None:
        return [first]
    second = rng.permutation(drawn(*case.second))
    n = min(len(first), len(second))
    return [rng.permutation(first)[:n], second[:n]]


def exact_values(case: Case, arrays: list[Array]) -> list[Any]:
    with mp.workdps(60):
        return [mp.re(case.exact(*[mp.mpf(float(v)) for v in row])) for row in zip(*arrays)]


def errors(name: str, case: Case, dtype: str, count: int) -> tuple[Array, list[Array], Array, list[Any]]:
    """The error at every point in units in the last place."""
    arrays = points(case, dtype, count)
    function: Any = case.call
    if function is None:
        function = st
        for part in name.split("."):
            function = getattr(function, part)
    got = function(*[st.tensor(a) for a in arrays]).numpy()
    assert got.dtype == np.dtype(dtype)
    want = exact_values(case, arrays)
    info = np.finfo(dtype)
    found = []
    for g, w in zip(got.tolist(), want):
        size = max(abs(w), mp.mpf(case.scale), mp.mpf(float(info.tiny)))
        unit = mp.mpf(2) ** (int(mp.floor(mp.log(size, 2))) - info.nmant)
        overflow = size > float(info.max)
        found.append(float(abs(mp.mpf(g) - w) / unit) if np.isfinite(g) else 0.0 if overflow else np.inf)
    return np.array(found), arrays, got, want


def main(names: list[str]) -> None:
    table = {}
    for name, case in CASES.items():
        if names and not any(n in name for n in names):
            continue
        row = {}
        for dtype in ("float32", "float64"):
            found, arrays, got, want = errors(name, case, dtype, COUNT)
            worst = int(np.argmax(found))
            row[dtype] = float(f"{found[worst]:.3g}")
            at = ", ".join(repr(float(a[worst])) for a in arrays)
            print(f"{name:36s} {dtype} {found[worst]:8.3g}   at {at}: {got[worst]!r} not {mp.nstr(want[worst], 20)}", flush=True)
        table[name] = row
    if not names:
        PAGE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
