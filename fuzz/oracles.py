"""What is true where torch's own results are not: special functions by SciPy and mpmath.

In: a call and torch's operands.  Out: the results in float64, which decide where ours and torch's differ; None for an
operator without an oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import torch
from scipy import special

from .programs import Call, TorchValues, fill


def truth(call: Call, values: TorchValues) -> np.ndarray | None:
    """The call's result, from its operands as they are, in float64."""
    oracle = ORACLES.get(call.op.name)
    if oracle is None or call.kwargs:
        return None
    given = [v.double().numpy() if isinstance(v, torch.Tensor) else np.asarray(v, np.float64) for v in fill(call.args, values)]
    with np.errstate(all="ignore"):
        return np.asarray(oracle(*given), np.float64)


Step = Callable[[int, Any, Any, Any], Any]  # (k, x, p of degree k, p of degree k - 1) to p of degree k + 1


def _polynomial(first: Callable[[Any], Any], step: Step, shifted: bool = False) -> Callable[..., Any]:
    """Of degree n at x, by its recurrence: nan for nan, 0 for a negative degree, at infinity where the highest power goes."""

    def value(x: float, degree: float) -> float:
        n = int(degree) if np.isfinite(degree) else -1
        if np.isnan(x) or n <= 0 or n > MOST:
            return 1.0 if n == 0 else 0.0 if n < 0 else float("nan")
        with mpmath.workdps(100):
            at = mpmath.mpf(x) if np.isfinite(x) else mpmath.mpf(10) ** 1000 * (1 if x > 0 else -1)
            at = 2 * at - 1 if shifted else at
            before, found = mpmath.mpf(1), first(at)
            for k in range(1, n):
                before, found = found, step(k, at, found, before)
            return float(found) if abs(found) < mpmath.mpf(2) ** 1023 else float(mpmath.sign(found)) * np.inf

    return np.vectorize(value, otypes=[np.float64])


def _chebyshev(k: int, x: Any, p: Any, before: Any) -> Any:
    return 2 * x * p - before


def _hermite(k: int, x: Any, p: Any, before: Any) -> Any:
    return 2 * (x * p - k * before)


def _probabilists(k: int, x: Any, p: Any, before: Any) -> Any:
    return x * p - k * before


def _laguerre(k: int, x: Any, p: Any, before: Any) -> Any:
    return ((2 * k + 1 - x) * p - k * before) / (k + 1)


def _legendre(k: int, x: Any, p: Any, before: Any) -> Any:
    return ((2 * k + 1) * x * p - k * before) / (k + 1)


MOST = 200  # degrees
_FIRST: dict[str, Callable[[Any], Any]] = {"t": lambda x: x, "u": lambda x: 2 * x, "v": lambda x: 2 * x - 1, "w": lambda x: 2 * x + 1}
ORACLES: dict[str, Callable[..., Any]] = {
    **{f"chebyshev_polynomial_{k}": _polynomial(f, _chebyshev) for k, f in _FIRST.items()},
    **{f"shifted_chebyshev_polynomial_{k}": _polynomial(f, _chebyshev, True) for k, f in _FIRST.items()},
    "hermite_polynomial_h": _polynomial(lambda x: 2 * x, _hermite), "hermite_polynomial_he": _polynomial(lambda x: x, _probabilists),
    "laguerre_polynomial_l": _polynomial(lambda x: 1 - x, _laguerre), "legendre_polynomial_p": _polynomial(lambda x: x, _legendre),
    "airy_ai": lambda x: special.airy(x)[0], "spherical_bessel_j0": lambda x: special.spherical_jn(0, x),
    "bessel_j0": special.j0, "bessel_j1": special.j1, "bessel_y0": special.y0, "bessel_y1": special.y1,
    "modified_bessel_i0": special.i0, "modified_bessel_i1": special.i1, "modified_bessel_k0": special.k0, "modified_bessel_k1": special.k1,
    "scaled_modified_bessel_k0": special.k0e, "scaled_modified_bessel_k1": special.k1e, "i0": special.i0, "i1": special.i1,
    "igamma": special.gammainc, "igammac": special.gammaincc, "erfcx": special.erfcx, "log_ndtr": special.log_ndtr,
}  # fmt: skip
