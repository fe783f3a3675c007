"""Transcendental rows written out in basic ones: the project's own branch-free functions.

In: a node such as ``EXP(x)``.  Out: a node of ``ADD MUL FMA WHERE BITCAST ...`` over the same operands.

    expand(EXP(x : float32))  ->  MUL(MUL(polynomial, BITCAST(...)), BITCAST(...))

Each function exists once, for float32 and float64; what differs stands in
a :class:`~.coefficients.Format`.
float16 and bfloat16 compute in float32.  Bounds on the error, over the whole domain, with nan,
infinities, signed zeros and subnormals as IEEE 754 says: 2 ulp in float32, 4 ulp in float64
(``tests/kernels/test_llvm_math.py`` measures them).

``SCALE(p, n)`` is p 2^n.  Arguments too large for an accurate reduction take ``SLOW(fast, rare, operands...)``: where
``rare`` is true in any lane, the lanes concerned get the value of a helper function.  The helpers
of float32 are nodes as well (:data:`HELPERS`); float64's and ``fmod`` are the C library's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...dtypes import float32, float64, int32, int64, uint64
from ...ir.kernel import Kernel
from ...ir.lang import absolute, bitcast, eq, le, lt, ne, not_, row, sqrt, trunc, where
from ...ir.node import Node, cast, const, make
from .coefficients import F32, F64, Format

INF = float("inf")
NAN = float("nan")


def format_of(x: Node) -> Format:
    return F64 if x.dtype is float64 else F32


# ---------------------------------------------------------------- pieces


def fma(a: Node, b: Node | float, c: Node | float) -> Node:
    return row("FMA", a, b, c)


def shl(a: Node, b: int) -> Node:
    return row("SHL", a, const(b, a.dtype))


def shr(a: Node, b: int) -> Node:
    return row("SHR", a, const(b, a.dtype))


def polynomial(coefficients: Sequence[float], x: Node) -> Node:
    """Horner's rule, lowest coefficient first."""
    p = fma(x, coefficients[-1], coefficients[-2])
    for c in coefficients[-3::-1]:
        p = fma(p, x, c)
    return p


def clamp(x: Node, low: float, high: float) -> Node:
    """nan stays nan: the comparisons are false and the last operand is x."""
    x = where(lt(x, low), low, x)
    return at_most(x, high)


def at_most(x: Node, high: float) -> Node:
    return where(lt(high, x), high, x)


def with_sign(magnitude: Node, x: Node) -> Node:
    """``magnitude`` (its sign bit is 0) with the sign of ``x``."""
    k = format_of(x)
    sign = bitcast(x, k.bits) & -(1 << (k.dtype.bits - 1))
    return bitcast(bitcast(magnitude, k.bits) | sign, k.dtype)


def keep_small(x: Node, small: float, result: Node) -> Node:
    """``x`` itself where it is tiny: right there, signed zeros and subnormals included."""
    return where(lt(absolute(x), small), x, result)


def power_of_two(k: Format, t: Node) -> Node:
    """2^n from ``t = magic + bias + n``, for a normal result."""
    return bitcast(shl(bitcast(t, k.bits), k.mantissa), k.dtype)


def scaled(p: Node, n: Node) -> Node:
    """``p * 2^n`` for a float n that is an integer; overflow and subnormals round once.

    A row of this package alone, since some CPUs have it as one instruction.
    """
    return make("SCALE", (p, n), None, (), p.dtype)


def reduced(k: Format, x: Node, n: Node) -> Node:
    """``x - n ln2``."""
    return fma(n, -k.ln2[1], fma(n, -k.ln2[0], x))


# ---------------------------------------------------------------- exponentials


def exp(x: Node) -> Node:
    k = format_of(x)
    x = clamp(x, *k.exp_range)
    n = fma(x, k.log2e[0], k.magic) - k.magic
    r = reduced(k, x, n)
    return scaled(fma(fma(polynomial(k.expm1_poly, r), r, 1.0), r, 1.0), n)


def exp2(x: Node) -> Node:
    k = format_of(x)
    x = clamp(x, *k.exp2_range)
    n = (x + k.magic) - k.magic
    r = x - n
    return scaled(fma(polynomial(k.exp2_poly, r), r, 1.0), n)


def expm1(x: Node) -> Node:
    k = format_of(x)
    magic = k.magic + k.bias - 1
    y = clamp(x, k.expm1_low, k.exp_range[1])
    t = fma(y, k.log2e[0], magic)
    r = reduced(k, y, t - magic)
    p = fma(r * r, polynomial(k.expm1_poly, r), r)
    # Half of the result, since 2^n itself may overflow where e^x - 1 does not.
    half = power_of_two(k, t)
    return keep_small(x, 2.0 ** -(k.mantissa + 2), fma(half, p, half - 0.5) * 2.0)


def tanh(x: Node) -> Node:
    """A polynomial up to 0.55, then 1 - 2 / (e^2|x| + 1)."""
    k = format_of(x)
    magic = k.magic + k.bias
    a = absolute(x)
    z = a * a
    near = fma(a * z, polynomial(k.tanh_poly, z), a)
    y = at_most(a, k.tanh_high)
    t = fma(y, 2 * k.log2e[0], magic)
    # One step of reduction is enough: where n is large the quotient hardly moves.  This is e^2r.
    r = fma(t - magic, -F64.ln2[0] / 2, y)
    doubled = [c * 2.0 ** (i + 2) for i, c in enumerate(k.expm1_poly)]
    p = fma(fma(polynomial(doubled, r), r, 2.0), r, 1.0)
    far = 1.0 - 2.0 / fma(p, power_of_two(k, t), 1.0)
    return with_sign(where(lt(a, 0.55), near, far), x)


# ---------------------------------------------------------------- logarithms


def mantissa_exponent(x: Node) -> tuple[Node, Node, Node]:
    """m in [1/sqrt2, sqrt2), e, and e as a float, with x = m 2^e for a positive normal or subnormal x."""
    k = format_of(x)
    up = k.mantissa + 1
    subnormal = lt(x, k.smallest)
    bits = bitcast(where(subnormal, x * 2.0**up, x), k.bits)
    e = shr(bits - _bits(k, 0.5**0.5), k.mantissa)
    m = bitcast(bits - shl(e, k.mantissa), k.dtype)
    return m, e, cast(e, k.dtype) + where(subnormal, const(-up, k.dtype), const(0.0, k.dtype))


def _bits(k: Format, value: float) -> int:
    import numpy as np

    return int(np.array(value, k.dtype.np).view(k.bits.np))


def _log_tail(k: Format, f: Node) -> Node:
    """log(1 + f) - f."""
    return f * f * fma(f, polynomial(k.log_poly, f), -0.5)


def _log_special(x: Node, result: Node, pole: float = 0.0) -> Node:
    """-inf at the pole, nan below it; inf and nan stay."""
    special = where(eq(x, pole), -INF, where(lt(x, pole), NAN, x))
    return where(lt(pole, x) & lt(x, INF), result, special)


def log(x: Node) -> Node:
    k = format_of(x)
    m, _, e = mantissa_exponent(x)
    f = m - 1.0
    return _log_special(x, fma(e, k.ln2[0], f + fma(e, k.ln2[1], _log_tail(k, f))))


def log2(x: Node) -> Node:
    k = format_of(x)
    m, _, e = mantissa_exponent(x)
    f = m - 1.0
    low = fma(_log_tail(k, f), k.log2e[0], f * k.log2e[1])
    return _log_special(x, fma(f, k.log2e[0], low) + e)


def log1p(x: Node) -> Node:
    k = format_of(x)
    u = 1.0 + x
    back = u - 1.0
    lost = (1.0 - (u - back)) + (x - back)  # x + 1 = u + lost, exactly
    m, exponent, e = mantissa_exponent(u)
    scale = bitcast(const(_bits(k, 1.0), k.bits) - shl(exponent, k.mantissa), k.dtype)
    f = m - 1.0
    rest = where(lt(x, 2.0 ** (k.mantissa + 2)), lost * scale, 0.0)  # so small that its share is rest / (1 + f) = rest (1 - f + ...)
    result = fma(e, k.ln2[0], f + fma(e, k.ln2[1], _log_tail(k, f) + fma(row("NEG", rest), f, rest)))
    return keep_small(x, 2.0 ** -(k.mantissa + 2), _log_special(x, result, -1.0))


# ---------------------------------------------------------------- trigonometry


def _sin_cos(k: Format, r: Node) -> tuple[Node, Node]:
    """Both functions for |r| <= pi/4."""
    z = r * r
    sine = fma(r * z, polynomial(k.sin_poly, z), r)
    cosine = fma(z * z, polynomial(k.cos_poly, z), fma(z, -0.5, 1.0))
    return sine, cosine


def _by_quadrant(k: Format, q: Node, r: Node) -> Node:
    """sin(r + q pi/2)."""
    sine, cosine = _sin_cos(k, r)
    value = where(eq(q & 1, 0), sine, cosine)
    return bitcast(bitcast(value, k.bits) ^ shl(q & 2, k.dtype.bits - 2), k.dtype)


def _quadrant(k: Format, x: Node) -> tuple[Node, Node]:
    """q (in the low bits) and r with x = q pi/2 + r, |r| <= pi/4, for |x| up to the limit.

    The first product cancels exactly, so r is right to about an ulp however small it is.
    """
    t = fma(x, 0.6366197723675814, k.magic)
    n = t - k.magic
    r = x
    for part in k.pi_2:
        r = fma(n, -part, r)
    return bitcast(t, k.bits), r


def _slow(x: Node, fast: Node, name: str) -> Node:
    k = format_of(x)
    rare = lt(k.trig_limit, absolute(x))
    helper = name if k is F64 else f"huge_{name}"
    return make("SLOW", (fast, rare, x), helper, (), x.dtype)


def sin(x: Node) -> Node:
    k = format_of(x)
    q, r = _quadrant(k, x)
    return keep_small(x, 2.0 ** -(k.mantissa // 2 + 2), _slow(x, _by_quadrant(k, q, r), "sin"))


def cos(x: Node) -> Node:
    k = format_of(x)
    q, r = _quadrant(k, x)
    return _slow(x, _by_quadrant(k, q + 1, r), "cos")


def _tan_by_quadrant(k: Format, q: Node, r: Node) -> Node:
    sine, cosine = _sin_cos(k, r)
    even = eq(q & 1, 0)
    return where(even, sine, row("NEG", cosine)) / where(even, cosine, sine)


def tan(x: Node) -> Node:
    """float32 goes through float64: two polynomials and a quotient have too much error for 2 ulp."""
    wide = cast(x, float64)
    fast = cast(_tan_by_quadrant(F64, *_quadrant(F64, wide)), x.dtype)
    return keep_small(x, 2.0 ** -(format_of(x).mantissa // 2 + 3), _slow(x, fast, "tan"))


# 2/pi after the binary point, below 32 zero bits, as 32-bit words.
_TWO_OVER_PI = (0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB)


def _huge_quadrant(x: Node) -> tuple[Node, Node]:
    """q and r (float64) with |x| = q pi/2 + r for any float32 above 2^17, in integers.

    |x| = m 2^s.  A window of 96 bits of 2/pi is cut out such that its product with m is
    2/pi |x| modulo 4 with 62 bits after the point: what stands above it is a multiple of 4.
    """
    bits = cast(bitcast(x, int32) & 0x7FFFFFFF, uint64)
    m = (bits & 0x7FFFFF) | 0x800000
    start = shr(bits, 23) + (30 - 150)
    first, shift = shr(start, 5), start & 31

    def word(k: int) -> Node:
        out = const(_TWO_OVER_PI[k], uint64)
        for i in range(1, len(_TWO_OVER_PI) - k):
            out = where(eq(first, i), const(_TWO_OVER_PI[i + k], uint64), out)
        return out

    def pair(high: Node, low: Node) -> Node:
        """The 32 bits at ``shift`` of two words."""
        return shr(row("SHL", shl(high, 32) | low, shift), 32)

    w = [word(k) for k in range(4)]
    high = shl(pair(w[0], w[1]), 32) | pair(w[1], w[2])
    turns = m * high + shr(m * pair(w[2], w[3]), 32)
    q = shr(turns + (1 << 61), 62)
    r = cast(bitcast(turns - shl(q, 62), int64), float64) * (F64.pi_2[0] * 2.0**-62)
    return bitcast(q, int64), r


def _huge(x: Node, result: Node) -> Node:
    """nan for an infinite x."""
    return where(lt(absolute(x), INF), cast(result, float32), NAN)


def huge_sin(x: Node) -> Node:
    q, r = _huge_quadrant(x)
    value = _by_quadrant(F64, q, r)
    return _huge(x, where(lt(x, 0.0), row("NEG", value), value))


def huge_cos(x: Node) -> Node:
    q, r = _huge_quadrant(x)
    return _huge(x, _by_quadrant(F64, q + 1, r))


def huge_tan(x: Node) -> Node:
    value = _tan_by_quadrant(F64, *_huge_quadrant(x))
    return _huge(x, where(lt(x, 0.0), row("NEG", value), value))


def _atan_unit(k: Format, t: Node) -> Node:
    """atan for 0 <= t <= 1."""
    z = t * t
    return fma(t * z, polynomial(k.atan_poly, z), t)


def _minus(k: Format, parts: tuple[float, ...], p: Node) -> Node:
    """A constant of two parts less p."""
    return parts[0] - (p - parts[1])


def atan(x: Node) -> Node:
    k = format_of(x)
    a = absolute(x)
    inverse = lt(1.0, a)
    one = const(1.0, k.dtype)
    p = _atan_unit(k, where(inverse, one, a) / where(inverse, a, one))
    return with_sign(where(inverse, _minus(k, k.pi_2, p), p), x)


def atan2(y: Node, x: Node) -> Node:
    k = format_of(x)
    ay, ax = absolute(y), absolute(x)
    steep = lt(ax, ay)
    low, high = where(steep, ax, ay), where(steep, ay, ax)
    # 0/0 counts as 0 and inf/inf as 1.
    t = where(eq(high, 0.0), 0.0, where(eq(low, high), 1.0, low / high))
    p = _atan_unit(k, t)
    p = where(steep, _minus(k, k.pi_2, p), p)
    p = where(lt(bitcast(x, k.bits), 0), _minus(k, k.pi, p), p)
    return with_sign(where(ne(x, x) | ne(y, y), NAN, p), y)


def _asin_parts(x: Node) -> tuple[Format, Node, Node, Node]:
    """|x| > 1/2; s; and asin(s) - s, for asin|x| = asin(s), or pi/2 - 2 asin(s) where |x| is large."""
    k = format_of(x)
    a = absolute(x)
    large = lt(0.5, a)
    z = where(large, fma(a, -0.5, 0.5), a * a)
    s = where(large, sqrt(z), a)
    return k, large, s, s * z * polynomial(k.asin_poly, z)


def asin(x: Node) -> Node:
    k, large, s, tail = _asin_parts(x)
    # pi/2 - 2 asin(s) around pi/4, where the parts are small and hardly rounded.
    quarter = k.pi_2[0] / 2
    rest = fma(s, -2.0, quarter) - fma(tail, 2.0, -k.pi_2[1])
    return with_sign(where(large, rest + quarter, s + tail), x)


def acos(x: Node) -> Node:
    k, large, s, tail = _asin_parts(x)
    near = fma(s, 2.0, tail + tail)
    near = where(lt(x, 0.0), _minus(k, k.pi, near), near)
    middle = k.pi_2[0] - (x - (k.pi_2[1] - with_sign(tail, x)))
    return where(large, near, middle)


# ---------------------------------------------------------------- the error function


def erf(x: Node) -> Node:
    """A polynomial up to 1, then 1 - 2^-q(|x|) for a polynomial q."""
    k = format_of(x)
    magic = k.magic + k.bias
    a = absolute(x)
    z = a * a
    near = fma(a, polynomial(k.erf_poly, z), a)
    b = at_most(a, k.erf_high)
    q = polynomial(k.erfc_poly, b)
    t = magic - q
    r = q - (magic - t)
    far = fma(row("NEG", polynomial(k.half_poly, r)), power_of_two(k, t), 1.0)
    return with_sign(where(lt(a, 1.0), near, far), x)


# ---------------------------------------------------------------- rows


def rsqrt(x: Node) -> Node:
    return 1.0 / sqrt(x)


def rem(a: Node, b: Node) -> Node:
    """``fmod``: exact while the quotient is an integer that the type holds, else the C library's."""
    k = format_of(a)
    quotient = a / b
    r = fma(row("NEG", trunc(quotient)), b, a)
    # The quotient may have been rounded up to the next integer, or truncated below a whole one.
    size = absolute(b)
    same = lt(with_sign(const(1.0, k.dtype), r) * with_sign(const(1.0, k.dtype), a), 0.0) & ne(r, 0.0)
    r = where(same, r + with_sign(size, a), r)
    r = where(le(size, absolute(r)), r - with_sign(size, a), r)
    easy = lt(absolute(quotient), 2.0 ** (k.mantissa - 1)) & lt(size, INF)
    helper = "fmodf" if k is F32 else "fmod"
    return make("SLOW", (with_sign(absolute(r), a), not_(easy), a, b), helper, (), k.dtype)


def pow_(x: Node, y: Node) -> Node:
    from .power import power

    return power(x, y)


_FUNCTIONS: dict[str, Callable[..., Node]] = {
    "EXP": exp, "EXP2": exp2, "EXPM1": expm1, "LOG": log, "LOG2": log2, "LOG1P": log1p, "RSQRT": rsqrt,
    "SIN": sin, "COS": cos, "TAN": tan, "ASIN": asin, "ACOS": acos, "ATAN": atan, "ATAN2": atan2,
    "TANH": tanh, "ERF": erf, "POW": pow_, "REM": rem,
}  # fmt: skip

HELPERS: dict[str, Callable[[Node], Node]] = {"huge_sin": huge_sin, "huge_cos": huge_cos, "huge_tan": huge_tan}


def expand(n: Node) -> Node:
    """A transcendental row as basic rows; any other node as it is."""
    function = _FUNCTIONS.get(n.op)
    if function is None or n.dtype.kind != "f":
        return n
    acc = n.dtype.acc
    return cast(function(*[cast(s, acc) for s in n.src]), n.dtype)


def expand_kernel(kernel: Kernel) -> Kernel:
    """The kernel with every transcendental row expanded."""
    nodes = kernel.nodes()
    if not any(n.op in _FUNCTIONS for n in nodes):
        return kernel
    new: dict[Node, Node] = {}
    for n in nodes:
        src = tuple([new[s] for s in n.src])
        new[n] = expand(n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype))
    return replace(kernel, phases=tuple([p.replaced(new) for p in kernel.phases]))
