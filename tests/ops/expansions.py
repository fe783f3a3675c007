"""Makes ``spiraltorch/ops/expansions.json``: the Chebyshev expansions that the special functions are computed from.

    python -m tests.ops.expansions            # writes the table (two minutes)
    python -m tests.ops.expansions lgamma     # prints how many terms each piece of one entry takes

In: a smooth function in mpmath's precision and the ends of the pieces of its domain.  Out: for each piece
``[low, high, coefficients]``, coefficients of T0, T1, ... on the piece, rounded to float64, cut where the rest is below
``TINY`` of the largest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath as mp

TABLE = Path(__file__).parents[2] / "spiraltorch" / "ops" / "expansions.json"
TINY = 2e-17
mp.mp.dps = 45
Function = Callable[[Any], Any]


def chebyshev(f: Function, low: Any, high: Any, nodes: int = 72) -> list[float]:
    """Coefficients of the polynomial through ``nodes`` Chebyshev points of the first kind."""
    low, high = mp.mpf(low), mp.mpf(high)
    angles = [mp.pi * (k + mp.mpf(1) / 2) / nodes for k in range(nodes)]
    values = [f((low + high) / 2 + (high - low) / 2 * mp.cos(a)) for a in angles]
    found = []
    for j in range(nodes):
        c = 2 * sum(v * mp.cos(j * a) for v, a in zip(values, angles)) / nodes
        found.append(c / 2 if j == 0 else c)
    largest = max(map(abs, found))
    while abs(found[-1]) < TINY * largest:
        found.pop()
    if len(found) > nodes - 4:
        raise ValueError(f"{nodes} points do not resolve the function on [{low}, {high}]")
    return [float(c) for c in found]


# -- the functions, smooth on their pieces ----------------------------------------------------------------


def erfcx(x: Any) -> Any:
    return mp.exp(x * x) * mp.erfc(x)


def erfcx_mapped(t: Any) -> Any:
    """``(1 + 2 x) erfcx(x)`` where ``t = 2 x / (x + 3.75)``."""
    x = mp.mpf("3.75") * t / (2 - t)
    if x > 1000:  # the asymptotic series
        return (1 + 2 * x) / (x * mp.sqrt(mp.pi)) * (1 - 1 / (2 * x**2) + 3 / (4 * x**4) - 15 / (8 * x**6) + 105 / (16 * x**8))
    return (1 + 2 * x) * erfcx(x)


def erfinv_central(square: Any) -> Any:
    y = mp.sqrt(square)
    return mp.erfinv(y) / y


def erfc_inverse(z: Any) -> Any:
    """x with erfc(x) = z, for small z: Newton's method on the logarithm."""
    x = mp.sqrt(-mp.log(z))
    for _ in range(60):
        value = mp.erfc(x)
        step = mp.log(value / z) * value * mp.sqrt(mp.pi) / (2 * mp.exp(-x * x))
        x += step
        if abs(step) < mp.mpf(10) ** -42 * x:
            return x
    raise ValueError(f"no inverse of erfc at {z}")


def erfinv_tail(s: Any) -> Any:
    return erfc_inverse(mp.exp(-s * s)) / s


def gamma(x: Any) -> Any:
    return mp.gamma(x)


def lgamma_rest(a: Any) -> Any:
    """``(log(gamma(a + 1)) + euler a) / a**2``."""
    if a < mp.mpf(10) ** -8:
        return mp.zeta(2) / 2 - mp.zeta(3) / 3 * a + mp.zeta(4) / 4 * a**2 - mp.zeta(5) / 5 * a**3 + mp.zeta(6) / 6 * a**4
    return (mp.loggamma(a + 1) + mp.euler * a) / a**2


def lgamma_ratio(x: Any) -> Any:
    return mp.loggamma(x) / ((x - 1) * (x - 2))


ROOT_OF_DIGAMMA = mp.findroot(mp.digamma, 1.4616321449683623)


def digamma_ratio(x: Any) -> Any:
    return mp.digamma(x) / (x - ROOT_OF_DIGAMMA)


def digamma_rest(u: Any) -> Any:
    """``(digamma(x) - log(x)) * x`` where ``u = 1 / x``."""
    if u < mp.mpf(10) ** -4:
        terms = [mp.bernoulli(2 * k) / (2 * k) * u ** (2 * k - 1) for k in range(1, 8)]
        return -mp.mpf(1) / 2 - sum(terms)
    return (mp.digamma(1 / u) + mp.log(u)) / u


def log1p_rest(d: Any) -> Any:
    """``(log(1 + d) - d) / d**2``."""
    if abs(d) < mp.mpf(10) ** -8:
        return -mp.mpf(1) / 2 + d / 3 - d**2 / 4 + d**3 / 5 - d**4 / 6
    return (mp.log(1 + d) - d) / d**2


def bessel_ie(order: int) -> Function:
    def f(x: Any) -> Any:
        return mp.exp(-x) * (mp.besseli(0, x) if order == 0 else mp.besseli(1, x) / x)

    return f


def bessel_ie_far(order: int) -> Function:
    def f(u: Any) -> Any:
        return mp.exp(-1 / u) * mp.besseli(order, 1 / u) / mp.sqrt(u)

    return f


def bessel_i_near(order: int) -> Function:
    """Of ``x**2``: (I0(x) - 1) / x**2, or I1(x) / x."""

    def f(square: Any) -> Any:
        x = mp.sqrt(square)
        with mp.workdps(90):
            return mp.besseli(1, x) / x if order else (mp.besseli(0, x) - 1) / square

    return f


def bessel_k0_near(square: Any) -> Any:
    x = mp.sqrt(square)
    return mp.besselk(0, x) + mp.log(x / 2) * mp.besseli(0, x)


def bessel_k1_near(square: Any) -> Any:
    x = mp.sqrt(square)
    return (mp.besselk(1, x) - mp.log(x / 2) * mp.besseli(1, x)) * x


def bessel_ke_far(order: int) -> Function:
    def f(u: Any) -> Any:
        return mp.exp(1 / u) * mp.besselk(order, 1 / u) / mp.sqrt(u)

    return f


def zeros(order: int) -> list[Any]:
    return [mp.besseljzero(order, k) for k in (1, 2)]


def bessel_j_near(order: int) -> Function:
    """Of ``x**2``: J over its first two zeros, and over x for order 1."""
    first, second = zeros(order)

    def f(square: Any) -> Any:
        x = mp.sqrt(square)
        return mp.besselj(order, x) / x**order / ((square - first**2) * (square - second**2))

    return f


def bessel_y0_near(square: Any) -> Any:
    x = mp.sqrt(square)
    return mp.bessely(0, x) - 2 / mp.pi * mp.log(x) * mp.besselj(0, x)


def bessel_y1_near(square: Any) -> Any:
    x = mp.sqrt(square)
    return (mp.bessely(1, x) - 2 / mp.pi * (mp.log(x) * mp.besselj(1, x) - 1 / x)) / x


def hankel(order: int, which: str) -> Function:
    """Of ``(8 / x)**2``: the amplitudes of cos and sin in J and Y for large x."""

    def f(v: Any) -> Any:
        x = 8 / mp.sqrt(v)
        angle = x - mp.pi / 4 - order * mp.pi / 2
        size = mp.sqrt(mp.pi * x / 2)
        j, y = mp.besselj(order, x), mp.bessely(order, x)
        if which == "p":
            return size * (j * mp.cos(angle) + y * mp.sin(angle))
        return size * (y * mp.cos(angle) - j * mp.sin(angle)) * x

    return f


def airy_near(x: Any) -> Any:
    return mp.airyai(x) * mp.exp(x)


def airy_far(u: Any) -> Any:
    """Of ``1 / zeta``: Ai without its decay."""
    zeta = 1 / u
    x = (mp.mpf(3) / 2 * zeta) ** (mp.mpf(2) / 3)
    return mp.airyai(x) * mp.exp(zeta) * 2 * mp.sqrt(mp.pi) * x ** mp.mpf("0.25")


def airy_wave(which: str) -> Function:
    """Of ``1 / zeta**2``: the amplitudes of Ai and Bi on the negative axis."""

    def f(v: Any) -> Any:
        zeta = 1 / mp.sqrt(v)
        z = (mp.mpf(3) / 2 * zeta) ** (mp.mpf(2) / 3)
        angle = zeta + mp.pi / 4
        size = mp.sqrt(mp.pi) * z ** mp.mpf("0.25")
        a, b = mp.airyai(-z), mp.airybi(-z)
        if which == "p":
            return size * (a * mp.sin(angle) + b * mp.cos(angle))
        return size * (b * mp.sin(angle) - a * mp.cos(angle)) * zeta

    return f


ENTRIES: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "erfcx": (erfcx_mapped, (0, 0.5, 1, 2)),
    "erfinv_central": (erfinv_central, (0, 0.5625)),
    "erfinv_tail": (erfinv_tail, (1.15, 3, 6.25, 28)),
    "gamma": (gamma, (1, 2)), "lgamma_rest": (lgamma_rest, (0, 1)),
    "lgamma": (lgamma_ratio, (0.5, 1.5, 3, 11)),
    "digamma": (digamma_ratio, (1, 3)),
    "digamma_far": (digamma_rest, (0, 0.34375)),
    "log1p": (log1p_rest, (-0.5, 0, 1)),
    "i0e": (bessel_ie(0), (0, 3, 8)), "i0e_far": (bessel_ie_far(0), (0, 0.125)),
    "i1e": (bessel_ie(1), (0, 1.25, 3, 5, 8)), "i1e_far": (bessel_ie_far(1), (0, 0.125)),
    "i0_near": (bessel_i_near(0), (0, 0.25)), "i1_near": (bessel_i_near(1), (0, 0.25)),
    "k0_near": (bessel_k0_near, (0, 0.25)), "k1_near": (bessel_k1_near, (0, 0.25)),
    "k0e_far": (bessel_ke_far(0), (0, 0.125, 0.5, 1, 2)), "k1e_far": (bessel_ke_far(1), (0, 0.125, 0.5, 1, 2)),
    "j0_near": (bessel_j_near(0), (0, 64)), "j1_near": (bessel_j_near(1), (0, 64)),
    "y0_near": (bessel_y0_near, (0, 64)), "y1_near": (bessel_y1_near, (0, 64)),
    "j0_p": (hankel(0, "p"), (0, 1)), "j0_q": (hankel(0, "q"), (0, 1)),
    "j1_p": (hankel(1, "p"), (0, 1)), "j1_q": (hankel(1, "q"), (0, 1)),
    "airy_waving": (mp.airyai, (-7, -4, -2, 0)), "airy_near": (airy_near, (0, 2.25)), "airy_far": (airy_far, (0, 0.125, 0.46875)),
    "airy_p": (airy_wave("p"), (0, 0.0078125)), "airy_q": (airy_wave("q"), (0, 0.0078125)),
}  # fmt: skip


def pieces(name: str) -> list[list[Any]]:
    f, ends = ENTRIES[name]
    return [[float(a), float(b), chebyshev(f, a, b)] for a, b in zip(ends, ends[1:])]


def main(names: list[str]) -> None:
    table = {}
    for name in names or ENTRIES:
        table[name] = pieces(name)
        print(name, [len(c) for _, _, c in table[name]], flush=True)
    if not names:
        lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in table.items()]
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
