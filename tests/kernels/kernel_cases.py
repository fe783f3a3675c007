"""Kernels written by hand as IR text, with inputs and what NumPy says about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from spiraltorch import dtypes as dt
from spiraltorch.ir import node, text
from spiraltorch.ir.kernel import Access, Gemm, Kernel, Load, Param, Phase, Slot, Store

Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """``arrays`` are flat, one per param; ``expected`` maps an output param to its values."""

    name: str
    kernel: Kernel | Gemm
    arrays: list[Array]
    ints: list[int]
    expected: dict[int, Array]
    scalars: list[Any] = field(default_factory=list)
    rtol: float = 0.0
    atol: float = 0.0

    def copies(self) -> list[Array]:
        return [a.copy() for a in self.arrays]

    def check(self, arrays: list[Array], rtol: float | None = None) -> None:
        for param, want in self.expected.items():
            got = arrays[param]
            assert got.dtype == want.dtype
            rtol = self.rtol if rtol is None else rtol
            if rtol == 0 and self.atol == 0:
                np.testing.assert_array_equal(got, want.ravel(), err_msg=self.name)
            else:
                wide = [a.astype(np.float64) for a in (got, want.ravel())]
                np.testing.assert_allclose(*wide, rtol=rtol, atol=self.atol, err_msg=self.name)


POINTWISE = """
kernel rows=2 lane=row block=64 axes=(s0, s1) params=(in float32, in float32, out float32) scalars=(float32) slots=3
  phase ()
    %0 = LOAD p0[a0*s2+a1] : float32
    %1 = LOAD p1[a1] : float32
    %2 = MUL(%0, %1) : float32
    %3 = SCALAR 0 : float32
    %4 = ADD(%2, %3) : float32
    %5 = CONST 0.0 : float32
    %6 = MAX(%4, %5) : float32
    store p2[a0*s2+a1] = %6
"""


def pointwise(rng: np.random.Generator, rows: int, cols: int) -> Case:
    x, w = rng.standard_normal((rows, cols), np.float32), rng.standard_normal(cols, np.float32)
    x[0, 0] = np.nan
    c = np.float32(0.25)
    return Case("pointwise", text.parse_kernel(POINTWISE), [x.ravel(), w, np.zeros(x.size, np.float32)],
                [rows, cols, cols], {2: np.maximum(x * w + c, np.float32(0))}, [c])  # fmt: skip


SOFTMAX = """
kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=3
  phase (a1)
    %0 = LOAD p0[a0*s2+a1] : float32
    r0 = max %0
  phase (a1)
    %1 = VALUE 0 : float32
    %2 = SUB(%0, %1) : float32
    %3 = EXP(%2) : float32
    r1 = add %3
  phase (a1)
    %4 = VALUE 1 : float32
    %5 = DIV(%3, %4) : float32
    store p1[a0*s2+a1] = %5
"""


def softmax(rng: np.random.Generator, rows: int, cols: int) -> Case:
    x = rng.standard_normal((rows, cols), np.float32) * 5
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return Case("softmax", text.parse_kernel(SOFTMAX), [x.ravel(), np.zeros(x.size, np.float32)],
                [rows, cols, cols], {1: (e / e.sum(1, keepdims=True)).astype(np.float32)}, rtol=4e-6)  # fmt: skip


LAYER_NORM = """
kernel rows=1 lane=inner block=0 axes=(s0, s1) \
params=(in float32, in float32, in float32, out float32, out float32) scalars=(float32, float32) slots=3
  phase (a1)
    %0 = LOAD p0[a0*s2+a1] : float32
    r0 = add %0
  phase (a1)
    %1 = VALUE 0 : float32
    %2 = SCALAR 0 : float32
    %3 = MUL(%1, %2) : float32
    %4 = SUB(%0, %3) : float32
    %5 = MUL(%4, %4) : float32
    r1 = add %5
  phase ()
    %6 = VALUE 1 : float32
    %7 = MUL(%6, %2) : float32
    %8 = SCALAR 1 : float32
    %9 = ADD(%7, %8) : float32
    %10 = RSQRT(%9) : float32
    store p4[a0] = %10
  phase (a1)
    %11 = MUL(%4, %10) : float32
    %12 = LOAD p1[a1] : float32
    %13 = MUL(%11, %12) : float32
    %14 = LOAD p2[a1] : float32
    %15 = ADD(%13, %14) : float32
    store p3[a0*s2+a1] = %15
"""


def layer_norm(rng: np.random.Generator, rows: int, cols: int) -> Case:
    x, g, b = (rng.standard_normal(s, np.float32) for s in ((rows, cols), cols, cols))
    wide = x.astype(np.float64)
    scale = 1 / np.sqrt(wide.var(1) + 1e-5)
    want = (wide - wide.mean(1, keepdims=True)) * scale[:, None] * g + b
    return Case("layer_norm", text.parse_kernel(LAYER_NORM),
                [x.ravel(), g, b, np.zeros(x.size, np.float32), np.zeros(rows, np.float32)], [rows, cols, cols],
                {3: want.astype(np.float32), 4: scale.astype(np.float32)},
                [np.float32(1 / cols), np.float32(1e-5)], rtol=2e-5, atol=2e-6)  # fmt: skip


COLUMN_SUM = """
kernel rows=2 lane=row block=64 axes=(s0, s1, s2) params=(in float32, out float32, out float32) scalars=() slots=5
  phase (a2)
    %0 = LOAD p0[a0*s3+a1+a2*s4] : float32
    r0 = add %0
    r1 = max %0
  phase ()
    %1 = VALUE 0 : float32
    store p1[a0*s1+a1] = %1
    %2 = VALUE 1 : float32
    store p2[a0*s1+a1] = %2
"""


def column_sum(rng: np.random.Generator, batch: int, depth: int, cols: int) -> Case:
    x = rng.standard_normal((batch, depth, cols), np.float32)
    x[0, 0, 0] = np.nan
    out = np.zeros(batch * cols, np.float32)
    return Case("column_sum", text.parse_kernel(COLUMN_SUM), [x.ravel(), out, out.copy()],
                [batch, cols, depth, depth * cols, cols],
                {1: x.astype(np.float64).sum(1).astype(np.float32), 2: x.max(1)}, rtol=2e-5, atol=1e-5)  # fmt: skip


PADDED = """
kernel rows=2 lane=row block=32 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=5
  phase ()
    %0 = INDEX s3+a1 : int64
    %1 = CONST 0 : int64
    %2 = LE(%1, %0) : bool
    %3 = INDEX s4 : int64
    %4 = LT(%0, %3) : bool
    %5 = AND(%2, %4) : bool
    %6 = LOAD(%5) p0[s3+a0*s4+a1]? : float32
    store p1[a0*s2+a1] = %6
"""


def padded(rng: np.random.Generator, rows: int, cols: int) -> Case:
    x = rng.standard_normal((rows, cols), np.float32)
    want = np.pad(x, ((0, 0), (2, 3)))
    return Case("padded", text.parse_kernel(PADDED), [x.ravel(), np.ones(want.size, np.float32)],
                [rows, cols + 5, cols + 5, -2, cols], {1: want})  # fmt: skip


GATHER = """
kernel rows=2 lane=row block=32 axes=(s0, s1) \
params=(in bfloat16, in int64, out bfloat16, status int64) scalars=() slots=4
  phase ()
    %0 = LOAD p1[a0] : int64
    %1 = CONST 0 : int64
    %2 = LE(%1, %0) : bool
    %3 = INDEX s2 : int64
    %4 = LT(%0, %3) : bool
    %5 = AND(%2, %4) : bool
    %6 = LOAD(%0, %5) p0[a1; s3]? : bfloat16
    store p2[a0*s3+a1] = %6
    check %5 else 7
"""


def gather(rng: np.random.Generator, rows: int, cols: int, bad: bool) -> Case:
    table = rng.standard_normal((11, cols)).astype(ml_dtypes.bfloat16)
    index = rng.integers(0, 11, rows)
    want = table[index]
    if bad:
        index[rows // 2] = 11
        want[rows // 2] = 0
    return Case("gather", text.parse_kernel(GATHER),
                [table.ravel(), index, np.zeros(rows * cols, ml_dtypes.bfloat16), np.zeros(1, np.int64)],
                [rows, cols, 11, cols], {2: want, 3: np.array([7 if bad else 0])})  # fmt: skip


HALVES = """
kernel rows=1 lane=row block=64 axes=(s0) \
params=(in bfloat16, in float16, out bfloat16, out float16, out float16) scalars=(bfloat16) slots=1
  phase ()
    %0 = LOAD p0[a0] : bfloat16
    %1 = SCALAR 0 : bfloat16
    %2 = MUL(%0, %1) : bfloat16
    %3 = ADD(%2, %0) : bfloat16
    store p2[a0] = %3
    %4 = LOAD p1[a0] : float16
    %5 = CAST(%0) : float16
    %6 = DIV(%5, %4) : float16
    %7 = NEG(%6) : float16
    %8 = SQRT(%4) : float16
    %9 = MIN(%7, %8) : float16
    store p3[a0] = %9
    %10 = BITCAST(%4) : int16
    %11 = CONST 1024 : int16
    %12 = ADD(%10, %11) : int16
    %13 = BITCAST(%12) : float16
    store p4[a0] = %13
"""


def halves(rng: np.random.Generator, n: int) -> Case:
    bf = ml_dtypes.bfloat16
    x, y = rng.standard_normal(n).astype(bf), rng.standard_normal(n).astype(np.float16)
    y[:4] = [6e-8, 65504, np.inf, 0]
    c = bf(0.3)
    with np.errstate(all="ignore"):
        b = (x * c).astype(bf) + x
        quotient = -(x.astype(np.float16) / y)
        h = np.minimum(quotient, np.sqrt(y))
        bits = (y.view(np.int16) + np.int16(1024)).view(np.float16)
    return Case("halves", text.parse_kernel(HALVES),
                [x, y, np.zeros(n, bf), np.zeros(n, np.float16), np.zeros(n, np.float16)], [n],
                {2: b, 3: h, 4: bits}, [c])  # fmt: skip


INTEGERS = """
kernel rows=1 lane=row block=64 axes=(s0) \
params=(in int32, in int32, in uint8, out int32, out int32, out int32, out uint8, out int32, out bool) \
scalars=(int32) slots=1
  phase ()
    %0 = LOAD p0[a0] : int32
    %1 = LOAD p1[a0] : int32
    %2 = IDIV(%0, %1) : int32
    store p3[a0] = %2
    %3 = REM(%0, %1) : int32
    store p4[a0] = %3
    %4 = MUL(%0, %1) : int32
    %5 = SCALAR 0 : int32
    %6 = SHL(%4, %5) : int32
    %7 = CONST 40 : int32
    %8 = SHR(%0, %7) : int32
    %9 = XOR(%6, %8) : int32
    %10 = NOT(%9) : int32
    store p5[a0] = %10
    %11 = LOAD p2[a0] : uint8
    %12 = CONST 200 : uint8
    %13 = ADD(%11, %12) : uint8
    %14 = NEG(%13) : uint8
    store p6[a0] = %14
    %15 = BITCAST(%0) : uint32
    %16 = BITCAST(%1) : uint32
    %17 = MULHI(%15, %16) : uint32
    %18 = BITCAST(%17) : int32
    store p7[a0] = %18
    %19 = LT(%0, %1) : bool
    %20 = CAST(%11) : bool
    %21 = XOR(%19, %20) : bool
    store p8[a0] = %21
"""


def integers(rng: np.random.Generator, n: int) -> Case:
    a = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    b = rng.integers(-9, 10, n).astype(np.int32)
    b[b == 0] = 3
    u = rng.integers(0, 256, n).astype(np.uint8)
    u[:5] = 0
    quotient = np.trunc(a / b).astype(np.int32)
    with np.errstate(all="ignore"):
        bits = ~(((a * b) << np.int32(3)) ^ np.where(a < 0, -1, 0).astype(np.int32))
        wrapped = -(u + np.uint8(200))
    high = (a.view(np.uint32).astype(np.uint64) * b.view(np.uint32)) >> np.uint64(32)
    zeros = np.zeros(n, np.int32)
    return Case("integers", text.parse_kernel(INTEGERS),
                [a, b, u, zeros, zeros.copy(), zeros.copy(), np.zeros(n, np.uint8), zeros.copy(), np.zeros(n, bool)],
                [n], {3: quotient, 4: a - quotient * b, 5: bits, 6: wrapped, 7: high.astype(np.uint32).view(np.int32),
                      8: (a < b) ^ (u != 0)}, [3])  # fmt: skip


_UNARY = [
    "EXP",
    "EXP2",
    "EXPM1",
    "LOG",
    "LOG2",
    "LOG1P",
    "SIN",
    "COS",
    "TAN",
    "ATAN",
    "TANH",
    "ERF",
    "RSQRT",
    "FLOOR",
    "CEIL",
    "TRUNC",
    "ROUND",
    "ABS",
    "ASIN",
    "ACOS",
]


def _functions_text() -> str:
    outs = ", ".join(["out float32"] * (len(_UNARY) + 3))
    lines = [f"kernel rows=1 lane=row block=64 axes=(s0) params=(in float32, {outs}) scalars=() slots=1", "  phase ()",
             "    %0 = LOAD p0[a0] : float32"]  # fmt: skip
    for i, op in enumerate(_UNARY, 1):
        lines += [f"    %{i} = {op}(%0) : float32", f"    store p{i}[a0] = %{i}"]
    for i, op in enumerate(("POW", "ATAN2", "REM"), len(_UNARY) + 1):
        lines += [f"    %{i} = {op}(%0, %6) : float32", f"    store p{i}[a0] = %{i}"]
    return "\n".join(lines)


def functions(n: int) -> Case:
    """Every function of a row, from -1.1 to 9 (nan where it is not defined)."""
    x = np.linspace(-1.1, 9, n, dtype=np.float32)
    np_names = {"ASIN": "arcsin", "ACOS": "arccos", "ATAN": "arctan", "ROUND": "rint"}
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        import math

        special: dict[str, Callable[[Array], Array]] = {
            "RSQRT": lambda v: 1 / np.sqrt(v),
            "ERF": lambda v: np.array([math.erf(t) for t in v]),
        }
        want = [special.get(op) or getattr(np, np_names.get(op, op.lower())) for op in _UNARY]
        results = [f(wide) for f in want]
        log1p = np.log1p(wide).astype(np.float32)
        results += [np.power(wide, log1p), np.arctan2(wide, log1p), np.fmod(x, log1p)]
    return Case("functions", text.parse_kernel(_functions_text()),
                [x] + [np.zeros(n, np.float32) for _ in results], [n],
                {i: r.astype(np.float32) for i, r in enumerate(results, 1)}, rtol=3e-6, atol=2e-6)  # fmt: skip


MULTI = """
kernel rows=1 lane=inner block=0 axes=(s0, s1, s2) \
params=(in float32, in bool, out float32, out int32, out bool) scalars=() slots=5
  phase (a1, a2)
    %0 = LOAD p0[a0*s3+a1*s4+a2] : float32
    r0 = min %0
    %1 = CONST 1 : int32
    r1 = add %1
    %2 = LOAD p1[a0*s3+a1*s4+a2] : bool
    r2 = max %2
  phase ()
    %3 = VALUE 0 : float32
    store p2[a0] = %3
    %4 = VALUE 1 : int32
    store p3[a0] = %4
    %5 = VALUE 2 : bool
    store p4[a0] = %5
"""


def multi(rng: np.random.Generator, rows: int, depth: int, cols: int) -> Case:
    x = rng.standard_normal((rows, depth, cols), np.float32)
    flags = np.zeros(x.shape, bool)
    flags[rows // 2, depth - 1, cols - 1] = True
    return Case("multi", text.parse_kernel(MULTI),
                [x.ravel(), flags.ravel(), np.zeros(rows, np.float32), np.zeros(rows, np.int32), np.zeros(rows, bool)],
                [rows, depth, cols, depth * cols, cols],
                {2: x.min((1, 2)), 3: np.full(rows, depth * cols, np.int32), 4: flags.any((1, 2))})  # fmt: skip


IN_PLACE = """
kernel rows=1 lane=row block=64 axes=(s0) params=(inout float32, in float32) scalars=(float32) slots=1
  phase ()
    %0 = LOAD p0[a0] : float32
    %1 = LOAD p1[a0] : float32
    %2 = SCALAR 0 : float32
    %3 = MUL(%1, %2) : float32
    %4 = SUB(%0, %3) : float32
    %5 = CONST -0.0 : float32
    %6 = LT(%0, %5) : bool
    store p0[a0] = %4 if %6
"""


def in_place(rng: np.random.Generator, n: int) -> Case:
    p, g = rng.standard_normal(n, np.float32), rng.standard_normal(n, np.float32)
    return Case("in_place", text.parse_kernel(IN_PLACE), [p, g], [n],
                {0: np.where(p < 0, p - g * np.float32(0.1), p)}, [np.float32(0.1)])  # fmt: skip


TOTAL = """
kernel rows=0 lane=inner block=0 axes=(s0) params=(in float32, out float32) scalars=() slots=1
  phase (a0)
    %0 = LOAD p0[a0] : float32
    r0 = add %0
  phase ()
    %1 = VALUE 0 : float32
    store p1[0] = %1
"""


def total(rng: np.random.Generator, n: int) -> Case:
    x = rng.standard_normal(n, np.float32)
    return Case("total", text.parse_kernel(TOTAL), [x, np.ones(1, np.float32)], [n],
                {1: x.sum(dtype=np.float64).astype(np.float32).reshape(1)}, rtol=1e-5, atol=1e-5)  # fmt: skip


def _gemm_text(dtype: str, acc: str, k_inner: str = "1", params: str = "", a_outer: str = "s4") -> str:
    return f"""
gemm axes=(s0, s1, s2) depth=s3 acc={acc} \
params=(in {dtype}, in {dtype}, in {acc}, out {dtype}{params}) scalars=() slots=8
  a = p0 outer={a_outer} inner={k_inner} batch=(s5) offset=0
  b = p1 outer=1 inner=s6 batch=(0) offset=0
  epilogue ()
    %0 = VALUE 0 : {acc}
    %1 = LOAD p2[a2] : {acc}
    %2 = ADD(%0, %1) : {acc}
    %3 = CONST {"0.0" if "float" in acc else "0"} : {acc}
    %4 = MAX(%2, %3) : {acc}
    %5 = CAST(%4) : {dtype}
    store p3[a0*s7+a1*s2+a2] = %5
"""


def gemm(rng: np.random.Generator, dtype: Any, acc: Any, batch: int, m: int, n: int, depth: int) -> Case:
    """relu(a @ b + bias): a is (batch, m, k), b is (k, n)."""
    name, acc_name = np.dtype(dtype).name, np.dtype(acc).name
    scale = 1 if "float" in acc_name else 20
    a, b = (scale * rng.standard_normal(s) for s in ((batch, m, depth), (depth, n)))
    a, b = a.astype(dtype), b.astype(dtype)
    bias = rng.standard_normal(n).astype(acc)
    wide = np.float64 if "float" in acc_name else acc
    value = np.maximum((a.astype(wide) @ b.astype(wide)).astype(acc) + bias, acc(0)).astype(dtype)
    spec = _gemm_text(name, acc_name) if name != acc_name else _gemm_text(name, acc_name).replace(
        f"    %5 = CAST(%4) : {name}\n", "").replace("= %5", "= %4")  # fmt: skip
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 2e-5, "float64": 1e-12}.get(name, 0.0)
    arrays = [a.ravel(), b.ravel(), bias, np.zeros(value.size, dtype)]
    ints = [batch, m, n, depth, depth, m * depth, n, m * n]
    return Case(f"gemm_{name}", text.parse_gemm(spec), arrays, ints, {3: value}, rtol=tolerance, atol=tolerance)


def gemm_table(rng: np.random.Generator, m: int, n: int, depth: int) -> Case:
    """Both coordinates of ``a`` through tables of offsets (as a convolution does)."""
    source, b = rng.standard_normal(m * depth * 2, np.float32), rng.standard_normal((depth, n), np.float32)
    rows, inner = rng.permutation(m) * depth, rng.permutation(depth) + 3
    bias = np.zeros(n, np.float32)
    spec = _gemm_text("float32", "float32", "p5", ", in int64, in int64", "p4").replace(
        "    %5 = CAST(%4) : float32\n", "").replace("= %5", "= %4")  # fmt: skip
    want = np.maximum(source[rows[:, None] + inner].astype(np.float64) @ b, 0).astype(np.float32)
    return Case("gemm_table", text.parse_gemm(spec),
                [source, b.ravel(), bias, np.zeros(m * n, np.float32), rows, inner],
                [1, m, n, depth, 0, 0, n, 0], {3: want}, rtol=2e-5, atol=2e-5)  # fmt: skip


INTERLEAVED = """
kernel rows=3 lane=row block=8 group=2 axes=(s0, s1, s2) params=(in float32, in float32, out float32) scalars=() slots=6
  phase ()
    %0 = LOAD p0[a0*s3+a1*2+a2] : float32
    %1 = LOAD p1[a0*s4+a1] : float32
    %2 = INDEX a2 : int64
    %3 = CAST(%2) : float32
    %4 = ADD(%1, %3) : float32
    %5 = MUL(%0, %4) : float32
    store p2[a0*s5+a1*2+a2] = %5
"""


def interleaved(rng: np.random.Generator, rows: int, pairs: int) -> Case:
    """Pairs of values scaled by what each pair shares."""
    x, y = rng.standard_normal((rows, pairs, 2), np.float32), rng.standard_normal((rows, pairs), np.float32)
    want = x * (y[..., None] + np.arange(2, dtype=np.float32))
    return Case("interleaved", text.parse_kernel(INTERLEAVED), [x.ravel(), y.ravel(), np.zeros(x.size, np.float32)],
                [rows, pairs, 2, 2 * pairs, pairs, 2 * pairs], {2: want})  # fmt: skip


GEMM_PADDED = """
gemm axes=(s0, s1) depth=s2 acc=float32 params=(in float32, in float32, out float32) scalars=() slots=5
  a = p0 outer=s2 inner=1 batch=() offset=0
  b = p1 outer=1 inner=1 batch=() offset=s3 size=s4 outer=1 inner=1 batch=() offset=s3
  epilogue ()
    %0 = VALUE 0 : float32
    store p2[a0*s1+a1] = %0
"""


def gemm_padded(rng: np.random.Generator, filters: int, length: int, size: int) -> Case:
    """A convolution along one axis, padded on both sides by bounds."""
    w, x = rng.standard_normal((filters, size), np.float32), rng.standard_normal(length, np.float32)
    wins = np.lib.stride_tricks.sliding_window_view(np.pad(x, size - 1), size)
    want = (w.astype(np.float64) @ wins.T).astype(np.float32)
    return Case("gemm_padded", text.parse_gemm(GEMM_PADDED), [w.ravel(), x, np.zeros(want.size, np.float32)],
                [filters, len(wins), size, 1 - size, length], {2: want}, rtol=2e-5, atol=2e-5)  # fmt: skip


def small_cases() -> list[Case]:
    """Odd sizes, small enough for plain Python."""
    rng = np.random.default_rng(1)
    return [
        pointwise(rng, 3, 37), softmax(rng, 5, 19), layer_norm(rng, 4, 21), column_sum(rng, 2, 9, 13),
        padded(rng, 4, 11), gather(rng, 6, 5, False), gather(rng, 6, 5, True), halves(rng, 300), integers(rng, 333),
        functions(101), multi(rng, 3, 4, 7), in_place(rng, 77), total(rng, 100),
        gemm(rng, np.float32, np.float32, 2, 5, 7, 9), gemm(rng, ml_dtypes.bfloat16, np.float32, 1, 5, 7, 9),
        gemm(rng, np.float16, np.float32, 1, 5, 6, 7), gemm(rng, np.float64, np.float64, 1, 4, 5, 6),
        gemm(rng, np.int32, np.int32, 1, 4, 5, 6), gemm_table(rng, 6, 5, 7),
        gemm_padded(rng, 5, 9, 4), interleaved(rng, 3, 21),
    ]  # fmt: skip


def case_id(case: Case) -> str:
    return case.name


def binary_kernel(op: str, dtype: dt.DType) -> Kernel:
    """``out[i] = op(x[i], y[i])``; comparisons give bool."""
    at = Access(0, ((0, 1),))
    loads = [node.make("LOAD", (), Load(i, at), (), dtype) for i in range(2)]
    value = node.scalar(op, *loads, dtype=dt.bool_ if op in ("LT", "LE", "EQ", "NE") else dtype)
    params = (Param(dtype), Param(dtype), Param(value.dtype, "out"))
    return Kernel((Slot(0),), 1, "row", 8, params, (), 1, (Phase((), (), (Store(2, at, value),)),))


def edge_pairs(op: str, dtype: dt.DType) -> tuple[Array, Array]:
    """All pairs of awkward integers for which ``op`` is defined."""
    values = np.array([0, 1, -1, 2, -3, 5, 7, 100, -128, 127], np.int64).astype(dtype.np)
    if dtype.bits == 64:
        low = np.iinfo(dtype.np)
        values = np.concatenate([values, np.array([low.min, low.max], dtype.np)])
    a, b = (v.ravel().copy() for v in np.meshgrid(values, values))
    return (a[b != 0], b[b != 0]) if op in ("IDIV", "REM") else (a, b)
