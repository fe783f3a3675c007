"""Transcendental rows written out in basic ones: the project's own branch-free functions.

In: a node such as ``EXP(x)``.  Out: a node of ``ADD MUL FMA WHERE BITCAST ...`` over the same operands.

    expand(EXP(x : float32))  ->  MUL(MUL(polynomial, BITCAST(...)), BITCAST(...))

Each function exists once, for float32 and float64; what differs stands in a :class:`Format`.
float16 and bfloat16 compute in float32.  Bounds on the error, over the whole domain, with nan,
infinities, signed zeros and subnormals as IEEE 754 says: 2 ulp in float32, 4 ulp in float64
(``tests/kernels/test_llvm_math.py`` measures them).

Polynomials are minimax for the relative error of the function they are part of (Remez exchange in
300-bit arithmetic, coefficients then rounded to the type); the comment at each says its interval
and the error before rounding in the arithmetic, as a power of 2.

``SCALE(p, n)`` is p 2^n.  Arguments too large for an accurate reduction take ``SLOW(fast, rare, operands...)``: where
``rare`` is true in any lane, the lanes concerned get the value of a helper function.  The helpers
of float32 are nodes as well (:data:`HELPERS`); float64's and ``fmod`` are the C library's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...dtypes import DType, float32, float64, int32, int64, uint64
from ...ir.kernel import Kernel, Phase
from ...ir.lang import absolute, bitcast, eq, le, lt, ne, not_, row, sqrt, trunc, where
from ...ir.node import Node, cast, const, make

INF = float("inf")
NAN = float("nan")


@dataclass(frozen=True)
class Format:
    """Numbers that depend on the floating type.

    ``magic`` + n holds the integer n in its low bits (n may be negative); ``ln2``, ``pi_2`` and
    ``pi`` are sums of parts, each truncated, so that all of them are positive.
    """

    dtype: DType
    bits: DType
    mantissa: int
    bias: int
    exp_range: tuple[float, float]
    exp2_range: tuple[float, float]
    expm1_low: float
    tanh_high: float
    log2e: tuple[float, float]
    ln2: tuple[float, float]
    pi_2: tuple[float, float, float]
    pi: tuple[float, float]
    trig_limit: float
    erf_high: float
    expm1_poly: tuple[float, ...]
    tanh_poly: tuple[float, ...]
    exp2_poly: tuple[float, ...]
    log_poly: tuple[float, ...]
    sin_poly: tuple[float, ...]
    cos_poly: tuple[float, ...]
    atan_poly: tuple[float, ...]
    asin_poly: tuple[float, ...]
    erf_poly: tuple[float, ...]
    erfc_poly: tuple[float, ...]
    half_poly: tuple[float, ...]

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


F32 = Format(
    dtype=float32, bits=int32, mantissa=23, bias=127,
    exp_range=(-104.0, 89.0), exp2_range=(-151.0, 129.0), expm1_low=-18.0, tanh_high=9.1,
    log2e=(1.4426950216293335, 1.9259629911266175e-08),
    ln2=(0.6931471228599548, 5.769998878690785e-08),
    pi_2=(1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15),
    pi=(3.141592502593994, 1.5099578831723193e-07),
    trig_limit=2.0**17, erf_high=4.0,
    # (e^r - 1 - r) / r^2 on |r| <= ln2 / 2: 2^-26.2 of expm1
    expm1_poly=(0.4999999701976776, 0.1666654348373413, 0.04166720435023308, 0.008366575464606285,
                0.001388250500895083),
    # (tanh a / a - 1) / a^2 in a^2, a <= 0.55: 2^-24.7
    tanh_poly=(-0.3333294093608856, 0.13320602476596832, -0.05266357585787773, 0.016421323642134666),
    # (2^r - 1) / r on |r| <= 1/2: 2^-28.9 of 2^r
    exp2_poly=(0.6931471824645996, 0.24022647738456726, 0.055503323674201965, 0.009618440642952919,
               0.0013398997252807021, 0.00015352746413554996),
    # (log(1 + f) - f + f^2/2) / f^3 on 1/sqrt2 - 1 <= f <= sqrt2 - 1: 2^-27.4 of the logarithm
    log_poly=(0.3333333134651184, -0.250008225440979, 0.20001229643821716, -0.16623343527317047,
              0.14201678335666656, -0.1316026747226715, 0.12762166559696198, -0.07634936273097992),
    # (sin r / r - 1) / r^2 in r^2, |r| <= pi/4: 2^-28.0;  (cos r - 1 + r^2/2) / r^4: 2^-33.0
    sin_poly=(-0.16666655242443085, 0.008332155644893646, -0.00019514633459039032),
    cos_poly=(0.04166664555668831, -0.0013887310633435845, 2.443248376948759e-05),
    # (atan t / t - 1) / t^2 in t^2, t <= 1: 2^-28.5;  (asin s / s - 1) / s^2 in s^2, s <= 1/2: 2^-27.6
    atan_poly=(-0.33333298563957214, 0.19998548924922943, -0.14264243841171265, 0.10952195525169373,
               -0.084034763276577, 0.057958025485277176, -0.031178265810012817, 0.010914827696979046,
               -0.0017936709336936474),
    asin_poly=(0.16666753590106964, 0.07495255023241043, 0.04547632485628128, 0.02414751425385475,
               0.04222481697797775),
    # erf a / a - 1 in a^2, a <= 1: 2^-29.6;  -log2(erfc a) on 1 <= a <= 4: 2^-26.9 of 1;
    # 2^-r on |r| <= 1/2: 2^-23.7
    erf_poly=(0.12837916612625122, -0.3761262595653534, 0.1128358393907547, -0.026853766292333603,
              0.005188231356441975, -0.0008009266457520425, 7.850529800634831e-05),
    erfc_poly=(0.00036560851731337607, 1.6269774436950684, 0.9181607961654663, 0.15209701657295227,
               -0.03401863947510719, 0.00532165402546525, -0.000509407022036612, 2.2201660613063723e-05),
    half_poly=(1.0000001192092896, -0.6931469440460205, 0.24022115767002106, -0.05550715699791908,
               0.00967576913535595, -0.0013276232639327645),
)  # fmt: skip

F64 = Format(
    dtype=float64, bits=int64, mantissa=52, bias=1023,
    exp_range=(-746.0, 710.0), exp2_range=(-1076.0, 1025.0), expm1_low=-40.0, tanh_high=19.2,
    log2e=(1.4426950408889634, 2.0355273740931033e-17),
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    pi_2=(1.5707963267948966, 6.123233995736766e-17, 1.4973849048591833e-33),
    pi=(3.141592653589793, 1.2246467991473532e-16),
    trig_limit=2.0**30, erf_high=6.0,
    # the same functions, in order: 2^-61.7, 2^-55.4, 2^-58.0, 2^-56.6, 2^-57.9, 2^-63.9, 2^-60.2, 2^-55.9,
    # 2^-62.7, 2^-57.4 (on 1 <= a <= 6), 2^-58.1
    expm1_poly=(0.5, 0.16666666666666677, 0.041666666666666505, 0.00833333333332161, 0.0013888888888962884,
                0.00019841269886201784, 2.480158717181734e-05, 2.7557244110234652e-06, 2.755740300336699e-07,
                2.5109079326247576e-08, 2.087529912969826e-09),
    tanh_poly=(-0.3333333333333228, 0.13333333333163935, -0.05396825387370079, 0.021869485917185173,
               -0.008863193720093112, 0.00359171329185112, -0.0014531846711937945, 0.0005790405823401178,
               -0.00021014283235701482, 5.09097752798209e-05),
    exp2_poly=(0.6931471805599453, 0.2402265069591013, 0.05550410866482007, 0.00961812910759385,
               0.0013333558146777533, 0.0001540353045748931, 1.5252733491130668e-05, 1.3215435078899156e-06,
               1.0178200078518985e-07, 7.073820538808155e-09, 4.434742210704709e-10),
    log_poly=(0.3333333333333314, -0.24999999999987974, 0.20000000000066334, -0.1666666666982681,
              0.14285714280127723, -0.12499999691345749, 0.1111111114526338, -0.10000015210408725,
              0.09090924012841323, -0.08332913475668176, 0.07691528052361753, -0.07149439122750643,
              0.06684611260395205, -0.06196703235911203, 0.05668236932140943, -0.05677501884510481,
              0.06503759361634523, -0.05982763683716116, 0.026158138858848753),
    sin_poly=(-0.1666666666666663, 0.008333333333322012, -0.00019841269829500667, 2.755731358912392e-06,
              -2.5050742503605352e-08, 1.589591413984496e-10),
    cos_poly=(0.041666666666666595, -0.0013888888888872908, 2.480158728875434e-05, -2.7557314149996494e-07,
              2.087569671686662e-09, -1.1358316272837898e-11),
    atan_poly=(-0.33333333333333287, 0.1999999999999048, -0.14285714285038553, 0.11111111086502097,
               -0.09090908548177468, 0.07692299721947776, -0.06666583801152681, 0.058817165943969366,
               -0.05259435649710055, 0.04744932154206951, -0.04286406157494813, 0.038210365522080264,
               -0.03278589800589854, 0.026152240368451762, -0.01861474619005769, 0.01131805219814993,
               -0.0056126087279810225, 0.0021516761394655215, -0.0005929169655091578, 0.00010387571655925347,
               -8.654479185877154e-06),
    asin_poly=(0.16666666666665375, 0.07500000000345668, 0.04464285682086635, 0.030381959456095117,
               0.02237175015485286, 0.017359827151975663, 0.013883996532035588, 0.012177529133768314,
               0.006491261586269357, 0.019630654952039743, -0.016387784802227568, 0.032026237656988345),
    erf_poly=(0.1283791670955126, -0.3761263890318375, 0.11283791670954854, -0.02686617064507229,
              0.005223977624774787, -0.0008548326978381794, 0.00012055331023366616, -1.4925593172727219e-05,
              1.6460967318710907e-06, -1.6349965534737363e-07, 1.4657469393624457e-08, -1.1364046320228376e-09,
              5.942468538570573e-11),
    erfc_poly=(-3.0088848217112905e-08, 1.6279074984877056, 0.9184449883605936, 0.14828259399885438,
               -0.027633038775694563, -0.00022676475792294593, 0.002328664022668139, -0.0007035638520603639,
               -0.00011124953644381852, 0.00021471386840474915, -0.00012436350520390118, 4.931462957213499e-05,
               -1.5199324072030346e-05, 3.7993565145019784e-06, -7.827578756616733e-07, 1.3344740611139313e-07,
               -1.8761252053703516e-08, 2.1545012426167454e-09, -1.9889094603282373e-10, 1.4401400409275881e-11,
               -7.875516037426022e-13, 3.057107289056367e-14, -7.504364708829333e-16, 8.754218086070376e-18),
    half_poly=(1.0, -0.6931471805599453, 0.24022650695910158, -0.05550410866481989, 0.009618129107587694,
               -0.0013333558146795721, 0.00015403530463342088, -1.5252733486254092e-05, 1.3215432661640377e-06,
               -1.0178198894916503e-07, 7.074182020480904e-09, -4.435245397193906e-10),
)  # fmt: skip


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
    # One step of reduction is enough: where n is large the quotient hardly moves.
    r = fma(t - magic, -F64.ln2[0], y + y)
    p = fma(fma(polynomial(k.expm1_poly, r), r, 1.0), r, 1.0)
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
    f = fma(lost, where(lt(x, 2.0 ** (k.mantissa + 2)), scale, 0.0), m - 1.0)
    result = fma(e, k.ln2[0], f + fma(e, k.ln2[1], _log_tail(k, f)))
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

    def phase(p: Phase) -> Phase:
        stores = [replace(s, value=new[s.value], guard=None if s.guard is None else new[s.guard]) for s in p.stores]
        return Phase(
            p.axes,
            tuple([replace(r, expr=new[r.expr]) for r in p.reduces]),
            tuple(stores),
            tuple([replace(c, cond=new[c.cond]) for c in p.checks]),
        )

    return replace(kernel, phases=tuple([phase(p) for p in kernel.phases]))
