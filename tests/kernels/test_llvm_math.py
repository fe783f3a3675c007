"""The project's own functions: error in ulp against float64 (float32) and mpmath (float64), and special values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from test_llvm import HOST, TARGETS, Array, pointwise, run

from spiraltorch.ir import text
from spiraltorch.kernels.llvm.target import Target

UNARY: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any]]] = {
    "EXP": (np.exp, mpmath.exp),
    "EXP2": (np.exp2, lambda x: mpmath.mpf(2) ** x),
    "EXPM1": (np.expm1, mpmath.expm1),
    "LOG": (np.log, mpmath.log),
    "LOG2": (np.log2, lambda x: mpmath.log(x, 2)),
    "LOG1P": (np.log1p, mpmath.log1p),
    "RSQRT": (lambda x: 1 / np.sqrt(x), lambda x: 1 / mpmath.sqrt(x)),
    "SIN": (np.sin, mpmath.sin),
    "COS": (np.cos, mpmath.cos),
    "TAN": (np.tan, mpmath.tan),
    "ASIN": (np.arcsin, mpmath.asin),
    "ACOS": (np.arccos, mpmath.acos),
    "ATAN": (np.arctan, mpmath.atan),
    "TANH": (np.tanh, mpmath.tanh),
    "ERF": (lambda x: np.array([math.erf(v) for v in x]), mpmath.erf),
}
BINARY: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Any, Any], Any]]] = {
    "POW": (np.power, lambda x, y: x**y),
    "ATAN2": (np.arctan2, mpmath.atan2),
}
# Where a real function is not defined, mpmath answers with a complex number or raises.
DOMAIN: dict[str, tuple[float, float]] = {
    "LOG": (0, math.inf), "LOG2": (0, math.inf), "LOG1P": (-1, math.inf), "RSQRT": (0, math.inf), "ASIN": (-1, 1),
    "ACOS": (-1, 1),
}  # fmt: skip


def evaluate(op: str, arrays: list[Array], dtype: str, machine: Target = HOST) -> Array:
    out = np.zeros_like(arrays[0])
    kernel = text.parse_kernel(pointwise(op, [dtype] * len(arrays), dtype))
    run(kernel, [*arrays, out], [len(out)], (), machine)
    return out


def inputs(dtype: str, n: int, seed: int = 0) -> Array:
    """All magnitudes (random bits), the usual ones, and the neighbourhood of 1 and of 0.5."""
    r = np.random.default_rng(seed)
    size = np.dtype(dtype).itemsize
    parts = [r.integers(0, 256, (n, size)).astype(np.uint8).view(dtype).ravel()]
    parts += [r.standard_normal(n) * s for s in (1e-3, 0.3, 1, 3, 10, 30, 300, 1e5)]
    parts += [c * (1 + r.standard_normal(n // 4) * 1e-3) for c in (1, -1, 0.5, -0.5, math.pi / 2)]
    return np.concatenate([p.astype(dtype) for p in parts])


def special(dtype: str) -> Array:
    info = np.finfo(dtype)
    one = [0, 1, 0.5, 2, 3, math.inf, info.tiny, info.smallest_subnormal, info.max, 1 + info.eps, 1 - info.epsneg, 1e22]
    return np.array([*one, *[-v for v in one], math.nan, 88.72284, -103.97, 709.78, -745.13, 128, -149.5], dtype)


def error_in_ulp(got: Array, want: Array, dtype: str) -> Array:
    """|got - want| in units of the last place of ``want``; inf where the kind of value is wrong.

    ``want`` has more precision than ``got``; a value that overflows counts as the infinity it rounds to.
    """
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        unit = np.spacing(np.minimum(np.abs(rounded), info.max).astype(dtype)).astype(want.dtype)
        error = np.abs(got.astype(want.dtype) - want) / unit
        error = np.where(np.isinf(rounded) & (got == rounded), 0, error)
        wrong = (np.isnan(got) != np.isnan(want)) | ((want == 0) & (got == 0) & (np.signbit(got) != np.signbit(want)))
    return np.where(wrong, np.inf, np.where(np.isnan(want), 0, error))


def assert_close(op: str, arrays: list[Array], got: Array, want: Array, dtype: str, bound: float) -> None:
    error = error_in_ulp(got, want, dtype)
    worst = int(np.argmax(error))
    at = [repr(a[worst]) for a in arrays]
    assert error[worst] <= bound, f"{op}({', '.join(at)}) = {got[worst]!r}, not {want[worst]!r}: {error[worst]} ulp"


@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_float32(op: str) -> None:
    x = np.concatenate([inputs("float32", 4000 if op == "ERF" else 60_000), special("float32")])
    arrays = [x]
    if op in BINARY:
        s = special("float32")
        pos, exponents = np.abs(x), inputs("float32", 60_000, 1)[: len(x) - len(s)]
        arrays = [np.concatenate([x, pos, np.repeat(s, len(s))]),
                  np.concatenate([np.random.default_rng(2).permutation(x), exponents, s, np.tile(s, len(s))])]  # fmt: skip
    with np.errstate(all="ignore"):
        function: Any = (UNARY | BINARY)[op][0]  # type: ignore[operator]
        want = np.asarray(function(*[a.astype(np.float64) for a in arrays]), np.float64)
    assert_close(op, arrays, evaluate(op, arrays, "float32"), want, "float32", 2.0)


def exact(function: Callable[..., Any], operands: tuple[float, ...]) -> float | np.longdouble:
    """The function's value with more than float64's precision where the machine has such a type."""
    with mpmath.workprec(1200 if max(map(abs, operands)) > 1e9 else 140):
        value = function(*[mpmath.mpf(v) for v in operands])
        high = float(value)
        return np.longdouble(high) + np.longdouble(float(value - high)) if math.isfinite(high) else high


@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_float64(op: str) -> None:
    arrays = [inputs("float64", 150)]
    if op in BINARY:
        y = np.random.default_rng(3).permutation(arrays[0])
        arrays = [np.abs(arrays[0]), np.clip(y, -600, 600)] if op == "POW" else [arrays[0], y]
    low, high = DOMAIN.get(op, (-math.inf, math.inf))
    inside = np.isfinite(arrays[0]) & (arrays[0] > low) & (arrays[0] < high) & np.isfinite(arrays[-1])
    # mpmath has no overflow: the exponentials' huge arguments are for the special values.
    inside &= (np.abs(arrays[0]) < 1e5) if op in ("EXP", "EXP2", "EXPM1", "ERF", "TANH") else True
    arrays = [a[inside] for a in arrays]
    function: Any = (UNARY | BINARY)[op][1]  # type: ignore[operator]
    want = np.array([exact(function, operands) for operands in zip(*[a.tolist() for a in arrays])], np.longdouble)
    assert_close(op, arrays, evaluate(op, arrays, "float64"), want, "float64", 4.0)


@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_float64_special_values(op: str) -> None:
    s = special("float64")
    arrays = [s] if op in UNARY else [np.repeat(s, len(s)), np.tile(s, len(s))]
    with np.errstate(all="ignore"):
        function: Any = (UNARY | BINARY)[op][0]  # type: ignore[operator]
        want = np.asarray(function(*arrays), np.float64)
    assert_close(op, arrays, evaluate(op, arrays, "float64"), want, "float64", 6.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["SIN", "COS", "TAN"])
def test_huge_angles(op: str, dtype: str) -> None:
    """Every exponent above the fast reduction's limit, in lanes between small angles."""
    top = int(np.finfo(dtype).maxexp)
    x = np.array([s * 1.2345678 * 2.0**k for k in range(15, top) for s in (1, -1)], dtype)
    x = np.stack([x, np.full_like(x, 0.5)], 1).ravel()
    function = UNARY[op][1]
    want = np.array([exact(function, (v,)) for v in x.tolist()], np.longdouble)
    assert_close(op, [x], evaluate(op, [x], dtype), want, dtype, 2.0 if dtype == "float32" else 4.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_float32_rounded(dtype: str) -> None:
    """All 65536 values: the 16-bit result is float32's, rounded."""
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.arange(1 << 16, dtype=np.uint16).view(np_type)
    for op in UNARY:
        with np.errstate(all="ignore"):
            want = evaluate(op, [x.astype(np.float32)], "float32").astype(np_type).astype(np.float32)
        np.testing.assert_array_equal(evaluate(op, [x], dtype).astype(np.float32), want, err_msg=op)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_the_machine(dtype: str) -> None:
    """The same functions on 512, 256 and 128 bits, with and without FMA instructions."""
    x = np.concatenate([inputs(dtype, 400), special(dtype)])
    y = np.random.default_rng(4).permutation(x)
    for op in [*UNARY, *BINARY]:
        arrays = [x] if op in UNARY else [x, y]
        first, *others = [evaluate(op, arrays, dtype, machine) for machine in TARGETS]
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=op)
