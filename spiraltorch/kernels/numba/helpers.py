"""Small functions that generated loops call; they run as plain Python and under ``numba.njit`` alike.

16-bit floats are kept in arrays as uint16 bits and carried as float32 values:

    >>> round_bf16(np.float32(1.005))
    np.float32(1.0078125)
    >>> f16_value(f16_bits(np.float32(0.1)))
    np.float32(0.099975586)
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

# ---------------------------------------------------------------- 16-bit floats


@register_jitable
def bf16_bits(x):
    """The nearest bfloat16 (ties to even), as bits."""
    bits = int(np.float32(x).view(np.uint32))
    if bits & 0x7FFFFFFF > 0x7F800000:  # nan: keep it one
        return np.uint16(bits >> 16 | 0x40)
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


@register_jitable
def bf16_value(bits):
    """Bits as float32."""
    return np.uint32(int(bits) << 16).view(np.float32)


@register_jitable
def round_bf16(x):
    return bf16_value(bf16_bits(x))


@register_jitable
def f16_bits(x):
    """The nearest float16 (ties to even), as bits."""
    bits = int(np.float32(x).view(np.uint32))
    sign, size = bits >> 16 & 0x8000, bits & 0x7FFFFFFF
    if size > 0x7F800000:  # nan
        return np.uint16(sign | 0x7E00)
    if size >= 0x47800000:  # 65536 and above
        return np.uint16(sign | 0x7C00)
    if size < 0x38800000:  # below the smallest normal number: a multiple of 2**-24
        return np.uint16(sign | int(np.rint(abs(np.float64(x)) * 16777216.0)))
    size -= 0x38000000
    return np.uint16(sign | (size + 0xFFF + (size >> 13 & 1)) >> 13)


@register_jitable
def f16_value(bits):
    """Bits as float32."""
    sign, exponent, fraction = int(bits) >> 15 << 31, int(bits) >> 10 & 31, int(bits) & 1023
    if exponent == 0:
        value = np.float32(fraction * 5.9604644775390625e-08)
        return -value if sign else value
    wide = 255 if exponent == 31 else exponent + 112
    return np.uint32(sign | wide << 23 | fraction << 13).view(np.float32)


@register_jitable
def round_f16(x):
    return f16_value(f16_bits(x))


# ---------------------------------------------------------------- integers


@register_jitable
def trunc_div(a, b):
    """Signed a / b without its fraction, as in C; 0 where b is 0, and it wraps where C would trap."""
    if b == 0:
        return b
    if b == -1:
        return np.int64(np.uint64(0) - np.uint64(a))
    quotient = a // b
    if quotient * b != a and (a < 0) != (b < 0):
        quotient += 1
    return quotient


@register_jitable
def trunc_rem(a, b):
    """What ``trunc_div`` leaves: it has the sign of ``a``."""
    if b == 0 or b == -1:
        return a - a
    return a - trunc_div(a, b) * b


@register_jitable
def floor_div(a, b):
    """Unsigned a / b; 0 where b is 0."""
    return a // b if b != 0 else b


@register_jitable
def floor_rem(a, b):
    """Unsigned remainder; 0 where b is 0."""
    return a % b if b != 0 else b


@register_jitable
def shift_left(a, b, width):
    """0 from ``width`` places on."""
    return a << b if 0 <= b < width else a - a


@register_jitable
def shift_right(a, b, width):
    """Unsigned: 0 from ``width`` places on."""
    return a >> b if 0 <= b < width else a - a


@register_jitable
def shift_right_signed(a, b, width):
    """All bits are the sign from ``width`` places on."""
    return a >> b if 0 <= b < width else a >> (a - a + width - 1)


@register_jitable
def mulhi64(a, b):
    """The high 64 bits of an unsigned product."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a0, a1, b0, b1 = a & mask, a >> half, b & mask, b >> half
    low, cross = a0 * b0, a1 * b0
    middle = cross + (low >> half)
    other = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (other >> half)


@register_jitable
def truncate(x, low, high):
    """``x`` where low <= x < high, else ``low`` (for nan too), so that the conversion that follows is defined."""
    return x if low <= x < high else low


# ---------------------------------------------------------------- fused multiply-add


@register_jitable
def _add_to_odd(x, y):
    """x + y in float64, rounded to odd: a second rounding of it is then the right one."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    if error != 0 and np.isfinite(total) and np.float64(total).view(np.int64) & 1 == 0:
        return np.nextafter(total, np.inf if error > 0 else -np.inf)
    return total


@register_jitable
def fma32(a, b, c):
    """float32 a * b + c rounded once: the product is exact in float64."""
    return np.float32(_add_to_odd(np.float64(a) * np.float64(b), np.float64(c)))


@register_jitable
def _two_product(a, b):
    """a * b and its rounding error, by splitting each factor into halves."""
    product = a * b
    big = a * 134217729.0
    a1 = big - (big - a)
    big = b * 134217729.0
    b1 = big - (big - b)
    a2, b2 = a - a1, b - b1
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


@register_jitable
def _two_sum(a, b):
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@register_jitable
def fma64(a, b, c):
    """float64 a * b + c rounded once (twice where a product's error under- or overflows)."""
    if not np.isfinite(a * b * 134217729.0 + c) or abs(a) > 1e300 or abs(b) > 1e300:
        return a * b + c
    high, low = _two_product(a, b)
    total, error = _two_sum(c, low)
    total, rest = _two_sum(high, total)
    return total + _add_to_odd(rest, error)
