"""Makes ``spiraltorch/ops/expansions.json``: the Chebyshev expansions that the special functions are computed from.

    python -m tests.ops.expansions            # writes the table (two minutes)
    python -m tests.ops.expansions lgamma     # prints how many terms each piece of one entry takes

In: a smooth function in mpmath's precision and the ends of the pieces of its domain.  Out: for each piece
``[low, high, coefficients]``, coefficients of T0, T1, ... on the piece, rounded to float64, cut where the rest is below
``TINY`` of the largest.  ``POLYNOMIALS`` are coefficients of 1, v, v**2, ... instead, each in two floats, and ``ROOTS`` are zeros
of functions in two floats, those of digamma with the cotangent there of pi times it.
"""

from __future__ import annotations

import functools
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


def bessel_ie_slope(order: int) -> Function:
    """Of ``1 / x``: the derivative of exp(-x) I0 or exp(-x) I1 for large x, without its decay ``x ** (-3 / 2)``."""

    def f(u: Any) -> Any:
        x = 1 / u
        i0, i1 = mp.besseli(0, x), mp.besseli(1, x)
        return mp.exp(-x) * (i0 - i1 - i1 / x if order else i1 - i0) * x * mp.sqrt(x)

    return f


def erfcx_slope(t: Any) -> Any:
    """``-(1 + 2 x)**2`` times the derivative of erfcx where ``t = 2 x / (x + 3.75)``."""
    x = mp.mpf("3.75") * t / (2 - t)
    if x > 1000:
        series = 1 - 3 / (2 * x**2) + 15 / (4 * x**4) - 105 / (8 * x**6) + 945 / (16 * x**8)
        return (1 + 2 * x) ** 2 / (x * x * mp.sqrt(mp.pi)) * series
    return (1 + 2 * x) ** 2 * (2 / mp.sqrt(mp.pi) - 2 * x * erfcx(x))


def sinc_slope(square: Any) -> Any:
    """Of ``x**2``: the derivative of sinc over x."""
    x = mp.sqrt(square)
    angle = mp.pi * x
    return (angle * mp.cos(angle) - mp.sin(angle)) / (angle * square)


# -- what vanishes at zeros that are no floats --------------------------------------------------------------


def phase(order: int, x: Any) -> Any:
    """What the phase of J and Y is more than ``x - pi / 4 - order pi / 2``."""
    v = (8 / x) ** 2
    return mp.atan(hankel(order, "q")(v) / x / hankel(order, "p")(v))


def bessel_phase(order: int) -> Function:
    """Of ``(7 / x)**2``: the phase times x."""

    def f(v: Any) -> Any:
        x = 7 / mp.sqrt(v)
        return phase(order, x) * x

    return f


def bessel_size(order: int) -> Function:
    """Of ``(7 / x)**2``: the amplitude of J and Y times sqrt(x)."""

    def f(v: Any) -> Any:
        x = 7 / mp.sqrt(v)
        return mp.sqrt(x) * mp.hypot(mp.besselj(order, x), mp.bessely(order, x))

    return f


def airy_phase(zeta: Any) -> Any:
    """What the phase of Airy's functions left of 0 is more than ``zeta + pi / 4``."""
    v = 1 / zeta**2
    return -mp.atan(airy_wave("q")(v) / zeta / airy_wave("p")(v))


def airy_phase_part(v: Any) -> Any:
    """Of ``(14.5 / zeta)**2``: that times zeta."""
    zeta = mp.mpf("14.5") / mp.sqrt(v)
    return airy_phase(zeta) * zeta


def airy_size(v: Any) -> Any:
    """Of ``(14.5 / zeta)**2``: the amplitude of Airy's functions at -z, times ``z ** (1 / 4)``."""
    z = (mp.mpf(3) / 2 * mp.mpf("14.5") / mp.sqrt(v)) ** (mp.mpf(2) / 3)
    return mp.sqrt(mp.sqrt(z)) * mp.hypot(mp.airyai(-z), mp.airybi(-z))


AIRY_ENDS = (-8, -7, -6, -5, -4, -3, -2, 0)


def airy_over_zero(x: Any) -> Any:
    return mp.airyai(x) / (x - mp.airyaizero(5 - sum([x > t for t in AIRY_ENDS[1:4] + (-3,)])))


def zero_of(phase: Function) -> Function:
    """Of ``1 / b**2``: how far the zero at which ``x`` and ``phase(x)`` are b lies beyond b, times b (McMahon)."""

    def f(t: Any) -> Any:
        b = 1 / mp.sqrt(t)
        z = b - phase(b)
        for _ in range(40):
            z, before = b - phase(z), z
            if abs(z - before) < mp.mpf(10) ** -(mp.mp.dps - 4):
                return (z - b) * b
        raise ValueError(f"no zero beside {b}")

    return f


def bessel_j_over_zero(order: int, turn: float) -> Function:
    """Of ``x**2 - 8`` below 0: J over x**order.  Of x above: J over x less its first zero below ``turn``, its second above."""
    first, second = zeros(order)

    def f(v: Any) -> Any:
        if v < 0:
            x = mp.sqrt(v + 8)
            return mp.besselj(order, x) / x**order
        return mp.besselj(order, v) / (v - (first if v < turn else second))

    return f


def bessel_y_over_zero(order: int, turns: tuple[float, float]) -> Function:
    """Y over ``x`` less its first zero below the first turn, its second below the second, its third above."""
    roots = [mp.besselyzero(order, k) for k in (1, 2, 3)]
    return lambda x: mp.bessely(order, x) / (x - roots[sum([x > t for t in turns])])


FIRST = 12  # zeros of J and Y that stand in the table

def sine_rest(square: Any) -> Any:
    """Of ``x**2``: ``(sin x - x) / x**3``."""
    x = mp.sqrt(square)
    return (mp.sin(x) - x) / (x * square)


@functools.cache
def lgamma_zeros() -> list[Any]:
    """In (-3, -2), (-3, -2), (-4, -3), (-4, -3) ... from the right, as far as floats lie between them and the pole."""
    found = []
    for n in range(2, 18):
        for side in (1, -1):  # right and left of -n
            if (n, side) == (2, 1):
                continue  # none
            e = mp.mpf(1) / mp.factorial(n)
            for _ in range(200):  # |gamma(-n + e)| = gamma(1 + e) / (e (1 - e) ... (n - e)) = 1
                e, before = mp.gamma(1 + side * e) / mp.fprod([j - side * e for j in range(1, n + 1)]), e
                if abs(e - before) < mp.mpf(10) ** -40 * e:
                    break
            found.append(mp.findroot(lambda x: mp.re(mp.loggamma(x)), -n + side * e))
    return found


def digamma_zeros() -> list[Any]:
    """One in each of (-1, 0), (-2, -1) ..."""
    found = []
    for m in range(MIRRORED):
        low, high = mp.mpf(1) / 8, mp.mpf(7) / 8
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if mp.digamma(-m - middle) < 0 else (middle, high)
        found.append(mp.findroot(mp.digamma, -m - middle))
    return found


def lgamma_over_zeros(x: Any) -> Any:
    """Between -2.75 and -2.25, where two zeros are near each other."""
    first, second = lgamma_zeros()[:2]
    return mp.re(mp.loggamma(x)) / ((x - first) * (x - second))


def lgamma_above(w: Any) -> Any:
    return mp.loggamma(w + mp.mpf(7) / 2)


MIRRORED = 32  # zeros of digamma that stand in the table

ENTRIES: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "erfcx": (erfcx_mapped, (0, 0.5, 1, 2)), "erfcx_slope": (erfcx_slope, (0, 0.5, 1, 1.5, 2)), "sinc_slope": (sinc_slope, (0, 0.25)),
    "i0e_slope": (bessel_ie_slope(0), (0, 0.125)), "i1e_slope": (bessel_ie_slope(1), (0, 0.125)),
    "erfinv_central": (erfinv_central, (0, 0.5625)),
    "erfinv_tail": (erfinv_tail, (1.15, 3, 6.25, 28)),
    "gamma": (gamma, (1, 2)), "lgamma_rest": (lgamma_rest, (0, 1)),
    "lgamma": (lgamma_ratio, (0.5, 1.5, 3, 11)),
    "lgamma_middle": (lgamma_over_zeros, (-2.75, -2.5, -2.25)),
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
    # Widths and centres that leave no rounding where an argument is mapped to -1 .. 1.
    "j0_between": (bessel_j_over_zero(0, 4), (-8, -7, 1, 2, 3, 4, 6, 8)),
    "j1_between": (bessel_j_over_zero(1, 6), (-8, -7, 1, 2, 3, 4, 6, 8)),
    "y0_between": (bessel_y_over_zero(0, (2, 6)), (0.25, 0.5, 1, 2, 4, 6, 8)),
    "y1_between": (bessel_y_over_zero(1, (4, 6)), (1, 2, 4, 6, 8)),
    "airy_between": (airy_over_zero, AIRY_ENDS),
    "airy_waving": (mp.airyai, (-7, -4, -2, 0)), "airy_near": (airy_near, (0, 2.25)), "airy_far": (airy_far, (0, 0.125, 0.46875)),
    "airy_p": (airy_wave("p"), (0, 0.0078125)), "airy_q": (airy_wave("q"), (0, 0.0078125)),
}  # fmt: skip
POLYNOMIALS: dict[str, tuple[Function, float, float]] = {  # on 0 .. high, to a share of the largest
    "lgamma_above": (lgamma_above, 1.25, 1e-17), "digamma_rest": (digamma_rest, 0.25, 1e-17),
    "airy_phase": (airy_phase_part, 1.0, 5e-16), "airy_size": (airy_size, 1.0, 1e-16),
    "airy_zero": (zero_of(airy_phase), 1 / 14.75**2, 1e-29),
    "sine": (sine_rest, 1.7**2, 2e-17),
    **{f"j{n}_phase": (bessel_phase(n), 1.0, 5e-16) for n in (0, 1)},
    **{f"j{n}_size": (bessel_size(n), 1.0, 1e-16) for n in (0, 1)},
    **{f"j{n}_zero": (zero_of(functools.partial(phase, n)), 1 / 38.0**2, 1e-29) for n in (0, 1)},
}
ROOTS: dict[str, Callable[[], list[Any]]] = {
    "airy": lambda: [mp.airyaizero(k) for k in range(1, 6)], "lgamma": lgamma_zeros, "digamma": digamma_zeros,
    **{f"j{n}": lambda n=n: [mp.besseljzero(n, k) for k in range(1, FIRST + 1)] for n in (0, 1)},
    **{f"y{n}": lambda n=n: [mp.besselyzero(n, k) for k in range(1, FIRST + 1)] for n in (0, 1)},
}


def two_floats(value: Any) -> list[float]:
    high = float(value)
    return [high, float(value - high)]


def powers(f: Function, high: float, tiny: float, nodes: int = 44) -> list[list[float]]:
    """Coefficients of 1, v, v**2, ... of the Chebyshev expansion on 0 .. ``high``, cut at ``tiny``."""
    with mp.workdps(60):
        angles = [mp.pi * (k + mp.mpf(1) / 2) / nodes for k in range(nodes)]
        values = [f(high * (1 + mp.cos(a)) / 2) for a in angles]
        found = [2 * sum(v * mp.cos(j * a) for v, a in zip(values, angles)) / nodes for j in range(nodes)]
        found[0] /= 2
        while abs(found[-1]) < tiny * max(map(abs, found)):
            found.pop()
        last, this = [mp.mpf(1)], [mp.mpf(-1), mp.mpf(2) / high]  # T0 and T1 of 2 v / high - 1
        total = [found[0]] + [mp.mpf(0)] * (len(found) - 1)
        for c in found[1:]:
            total = [t + c * p for t, p in zip(total, this + [mp.mpf(0)] * len(total))]
            raised = [mp.mpf(0)] + [4 / mp.mpf(high) * p for p in this]
            shifted = [a - 2 * b for a, b in zip(raised, this + [mp.mpf(0)])]
            last, this = this, [a - b for a, b in zip(shifted, last + [mp.mpf(0)] * 2)]
        return [two_floats(c) for c in total]


def pieces(name: str) -> list[list[Any]]:
    if name in POLYNOMIALS:
        return powers(*POLYNOMIALS[name])
    if name.endswith("_roots"):
        found = ROOTS[name.removesuffix("_roots")]()
        return [two_floats(z) + ([float(mp.cot(mp.pi * z))] if name == "digamma_roots" else []) for z in found]
    f, ends = ENTRIES[name]
    return [[float(a), float(b), chebyshev(f, a, b)] for a, b in zip(ends, ends[1:]) if a >= 0 or b <= 0]


def main(names: list[str]) -> None:
    """Print what ``names`` take, or write the table; with "+" before them, put these into the table that is there."""
    everything = [*ENTRIES, *POLYNOMIALS, *(f"{name}_roots" for name in ROOTS)]
    adding = names[:1] == ["+"]
    table = json.loads(TABLE.read_text(encoding="utf-8")) if adding else {}
    for name in names[adding:] or everything:
        table[name] = pieces(name)
        print(name, len(table[name]) if name not in ENTRIES else [len(c) for _, _, c in table[name]], flush=True)
    if adding or not names:
        lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in table.items()]
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
