"""LLVM kernels against the NumPy interpreter of the kernel tree, which is their definition."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernel_cases import Case, case_id, small_cases

from spiraltorch.ir import text
from spiraltorch.ir.kernel import Kernel
from spiraltorch.kernels import reference
from spiraltorch.kernels.llvm import emit, target

Array = np.ndarray[Any, Any]
HOST = target.host()
TARGETS = [HOST] + ([target.avx2(), target.sse2()] if HOST.is_x86 and HOST.vector_bits == 512 else [])


@cache
def compiled(kernel: Kernel, machine: target.Target = HOST) -> Any:
    obj = target.compile_module(emit.emit_kernel(kernel, machine, "f"), machine)
    address = target.load_object(obj, ["f"])["f"]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)


def words(kernel: Kernel, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any]) -> Array:
    """The argument block of the calling convention."""
    bits = [np.zeros(8, np.uint8) for _ in scalars]
    for word, value, dtype in zip(bits, scalars, kernel.scalars):
        word[: dtype.itemsize] = np.array([value], dtype.np).view(np.uint8)
    tail = [int(b.view(np.int64)[0]) for b in bits]
    return np.array([*[a.ctypes.data for a in arrays], *ints, *tail], np.int64)


def run(
    kernel: Kernel, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any] = (),
    machine: target.Target = HOST, cuts: Sequence[int] = (),
) -> None:  # fmt: skip
    """All tasks, in calls that are cut at ``cuts``."""
    block = words(kernel, arrays, ints, scalars)
    edges = [0, *cuts, kernel.tasks(ints)]
    for lo, hi in zip(edges, edges[1:]):
        compiled(kernel, machine)(block.ctypes.data, lo, hi)


def padded(a: Array, offset: int) -> Array:
    """A copy of ``a`` that begins ``offset`` elements after an aligned address, between guard bytes."""
    size = a.itemsize
    room = np.full(a.nbytes + 4096, 0xA5, np.uint8)
    start = -room.ctypes.data % 64 + 64 + offset * size
    view = room[start : start + a.nbytes].view(a.dtype)
    view[:] = a
    return view


def guards_hold(a: Array) -> bool:
    room = a.base
    while room.base is not None:
        room = room.base
    start = a.ctypes.data - room.ctypes.data
    return bool((room[:start] == 0xA5).all() and (room[start + a.nbytes :] == 0xA5).all())


def agrees(
    spec: str, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any] = (),
    machine: target.Target = HOST, rtol: float = 0.0, atol: float = 0.0, offset: int = 1,
) -> list[Array]:  # fmt: skip
    """Runs the kernel and the reference; every param must agree, and nothing beside it be written."""
    kernel = text.parse_kernel(spec)
    want = [a.copy() for a in arrays]
    reference.run_kernel(kernel, want, ints, scalars)
    got = [padded(a, offset) for a in arrays]
    run(kernel, got, ints, scalars, machine)
    for g, w in zip(got, want):
        assert guards_hold(g)
        if g.dtype.kind in "biu" or (rtol == 0 and atol == 0):
            np.testing.assert_array_equal(g, w)
        else:
            np.testing.assert_allclose(g.astype(np.float64), w.astype(np.float64), rtol=rtol, atol=atol)
    return got


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- shared cases


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", [c for c in small_cases() if isinstance(c.kernel, Kernel)], ids=case_id)
def test_shared_case(case: Case, machine: target.Target) -> None:
    assert isinstance(case.kernel, Kernel)
    arrays = case.copies()
    run(case.kernel, arrays, case.ints, case.scalars, machine)
    case.check(arrays)


# ---------------------------------------------------------------- lengths, strides, types

BROADCAST = """kernel rows=2 lane=row block={block} axes=(s0, s1) params=({params}) scalars=(float32) slots=5
  phase ()
    %0 = LOAD p0[a0*s2+a1] : float32
    %1 = LOAD p1[a0] : float32
    %2 = LOAD p2[s3+a1*s4] : float32
    %3 = SCALAR 0 : float32
    %4 = MUL(%1, %3) : float32
    %5 = MUL(%0, %4) : float32
    %6 = ADD(%5, %2) : float32
    store p3[a0*s2+a1] = %6
"""


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("block", [16, 50])
def test_pointwise_of_every_length(machine: target.Target, block: int) -> None:
    spec = BROADCAST.format(block=block, params="in float32, in float32, in float32, out float32")
    for n in range(71):
        r = rng(n)
        x, rows, cols = [r.standard_normal(k, np.float32) for k in (3 * n, 3, 2 * n + 5)]
        agrees(spec, [x, rows, cols, np.zeros(3 * n, np.float32)], [3, n, n, 4, 2], [1.5], machine, offset=n % 7)


REVERSED = """kernel rows=1 lane=row block=64 axes=(s0) params=(in {t}, out {t}) scalars=() slots=3
  phase ()
    %0 = LOAD p0[s1+a0*s2] : {t}
    store p1[s1+a0*s2] = %0
"""


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "bfloat16", "float32", "int64", "float64"])
def test_strided_load_and_store(dtype: str) -> None:
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for n in (0, 1, 15, 64, 100):
        x = (rng().standard_normal(3 * n + 1) * 5).astype(np_type)
        agrees(REVERSED.format(t=dtype), [x, np.zeros_like(x)], [n, 3 * n - 3 if n else 0, -3])


SUM = """kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in {t}, out {t}, out {t}, out {t}, out {t}) scalars=() slots=3
  phase (a1)
    %0 = LOAD p0[a0*s2+a1] : {t}
    r0 = add %0
    r1 = mul %0
    r2 = max %0
    r3 = min %0
  phase ()
    %1 = VALUE 0 : {t}
    store p1[a0] = %1
    %2 = VALUE 1 : {t}
    store p2[a0] = %2
    %3 = VALUE 2 : {t}
    store p3[a0] = %3
    %4 = VALUE 3 : {t}
    store p4[a0] = %4
"""


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "dtype,rtol", [("float32", 1e-5), ("float64", 1e-13), ("int32", 0), ("uint8", 0), ("int64", 0), ("bfloat16", 0.01)]
)
def test_reductions_of_every_length(machine: target.Target, dtype: str, rtol: float) -> None:
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for n in [*range(0, 71, 1 if dtype == "float32" else 7), 300, 5000]:
        x = rng(n).uniform(0.5, 1.5, 2 * n) if np_type.kind not in "iu" else rng(n).integers(0, 9, 2 * n)
        outs = [np.zeros(2, np_type) for _ in range(4)]
        agrees(SUM.format(t=dtype), [x.astype(np_type), *outs], [2, n, n], (), machine, rtol=rtol, atol=1e-30)


def test_reductions_of_bool() -> None:
    spec = SUM.replace("    r0 = add %0\n    r1 = mul %0\n", "").format(t="bool")
    for name in ("VALUE 0", "VALUE 1"):
        spec = spec.replace(name, "VALUE 2")
    for n in (0, 1, 17, 64, 200):
        for bit in (0, n - 1):
            x = np.zeros(max(n, 1), bool)
            x[bit] = True
            agrees(spec, [x[:n], *[np.zeros(1, bool) for _ in range(4)]], [1, n, n])
            agrees(spec, [~x[:n], *[np.zeros(1, bool) for _ in range(4)]], [1, n, n])


@pytest.mark.parametrize("op", ["max", "min"])
def test_extrema_keep_nan(op: str) -> None:
    spec = f"""kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=2
  phase (a1)
    %0 = LOAD p0[a1] : float32
    r0 = {op} %0
  phase ()
    %1 = VALUE 0 : float32
    store p1[a0] = %1
"""
    for n in (1, 16, 65, 130):
        for at in {0, n // 2, n - 1}:
            x = rng().standard_normal(n, np.float32)
            x[at] = np.nan
            (_, out) = agrees(spec, [x, np.zeros(1, np.float32)], [1, n])
            assert np.isnan(out[0])


COLUMNS = """kernel rows=1 lane=row block={block} axes=(s0, s1, s2) params=({params}) scalars=() slots=5
  phase (a1, a2)
    %0 = LOAD p0[a0+a1*s3+a2*s4] : float32
    r0 = add %0
    r1 = max %0
  phase ()
    %1 = VALUE 0 : float32
    %2 = VALUE 1 : float32
    %3 = SUB(%1, %2) : float32
    store p1[a0] = %3
  phase (a1, a2)
    %4 = MUL(%0, %3) : float32
    store p2[a0+a1*s3+a2*s4] = %4
    %5 = CONST 1.0 : float32
    r2 = add %5
  phase ()
    %6 = VALUE 2 : float32
    store p3[a0] = %6
"""


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("block", [32, 100])
def test_column_reductions(machine: target.Target, block: int) -> None:
    for n in [*range(0, 70, 5), 16, 64, 200]:
        for depth in ((1, 1), (2, 9), (3, 0), (0, 4), (1, 40)):
            x = rng(n).standard_normal(depth[0] * depth[1] * n, np.float32)
            outs = [np.zeros(n, np.float32), np.zeros_like(x), np.zeros(n, np.float32)]
            ints = [n, *depth, depth[1] * n, n]
            spec = COLUMNS.format(block=block, params="in float32, out float32, out float32, out float32")
            agrees(spec, [x, *outs], ints, (), machine, rtol=1e-5, atol=1e-5)


COLUMN_FOLDS = """kernel rows=1 lane=row block=40 axes=(s0, s1) params=(in {t}, out {t}, out {t}, out {t}) scalars=() slots=2
  phase (a1)
    %0 = LOAD p0[a0+a1*s0] : {t}
    r0 = add %0
    r1 = max %0
    r2 = min %0
  phase ()
    %1 = VALUE 0 : {t}
    store p1[a0] = %1
    %2 = VALUE 1 : {t}
    store p2[a0] = %2
    r3 = max %2
  phase ()
    %3 = VALUE 2 : {t}
    %4 = VALUE 3 : {t}
    %5 = MIN(%3, %4) : {t}
    store p3[a0] = %5
"""


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float64"])
def test_column_reductions_of_types(dtype: str, machine: target.Target) -> None:
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    spec = COLUMN_FOLDS.format(t=dtype)
    if dtype == "bool":
        spec = spec.replace("    r0 = add %0\n", "").replace("VALUE 0", "VALUE 1")
    for n in (1, 7, 40, 130):
        for depth in (0, 1, 5, 20):
            x = rng(n).integers(0, 7 if depth else 1, n * depth).astype(np_type)
            agrees(spec, [x, *[np.zeros(n, np_type) for _ in range(3)]], [n, depth], (), machine)


TRANSPOSE = """kernel rows={rows} lane=row block={block} axes=({axes}) params=(in {t}, in {t}, out {t}) scalars=() slots=6
  phase ()
    %0 = LOAD p0[{access}] : {t}
    %1 = LOAD p1[{out}] : {t}
    %2 = ADD(%0, %1) : {t}
    store p2[{out}] = %2
"""


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bfloat16", "int16"])
def test_transposed_operand(dtype: str, machine: target.Target) -> None:
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for block in (24, 256):
        spec = TRANSPOSE.format(
            rows=2, block=block, axes="s0, s1", t=dtype, access="a0+a1*s2", out="a0*s3+a1"
        ).replace("slots=6", "slots=4")
        for m, n in ((1, 1), (3, 5), (64, 16), (33, 70), (70, 33), (130, 300)):
            x, y = [(rng(k).standard_normal(m * n) * 9).astype(np_type) for k in (1, 2)]
            agrees(spec, [x, y, np.zeros_like(x)], [m, n, m, n], (), machine)


def test_transposed_operand_among_other_axes() -> None:
    """out[i, j, k] = x[k, j, i] + y[i, j, k]: the contiguous axis is not beside the lane axis."""
    i, j, k = 5, 3, 50
    spec = TRANSPOSE.format(
        rows=3, block=32, axes="s0, s1, s2", t="float32", access="a0+a1*s0+a2*s4", out="a0*s3+a1*s2+a2"
    ).replace("slots=6", "slots=5")
    x, y = rng(1).standard_normal((k, j, i), np.float32), rng(2).standard_normal((i, j, k), np.float32)
    ints = [i, j, k, j * k, i * j]
    got = agrees(spec, [x.ravel(), y.ravel(), np.zeros(x.size, np.float32)], ints)
    np.testing.assert_array_equal(got[2], (x.transpose(2, 1, 0) + y).ravel())
    kernel = text.parse_kernel(spec)
    for step in (1, 7):
        out = np.zeros(x.size, np.float32)
        run(kernel, [x.ravel(), y.ravel(), out], ints, cuts=range(step, kernel.tasks(ints), step))
        np.testing.assert_array_equal(out, got[2])


# ---------------------------------------------------------------- guards, indices, checks

PAD_COLUMNS = """kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=5
  phase (a1)
    %0 = INDEX s2+a1 : int64
    %1 = CONST 0 : int64
    %2 = LE(%1, %0) : bool
    %3 = INDEX s3 : int64
    %4 = LT(%0, %3) : bool
    %5 = AND(%2, %4) : bool
    %6 = INDEX s2+a0 : int64
    %7 = LE(%1, %6) : bool
    %8 = LT(%6, %3) : bool
    %9 = AND(%7, %8) : bool
    %10 = AND(%5, %9) : bool
    %11 = LOAD(%10) p0[s4+a0*s3+a1]? : float32
    %12 = LOAD(%9) p0[s4+a0*s3]? : float32
    %13 = LOAD(%5) p0[0]? : float32
    %14 = LOAD(%9) p0[s4+a0*s3+a1*s1]? : float32
    %15 = ADD(%11, %13) : float32
    store p1[a0*s1+a1] = %15
"""


def test_guarded_loads() -> None:
    spec = PAD_COLUMNS.replace("    %12 = LOAD(%9) p0[s4+a0*s3]? : float32\n", "").replace(
        "    %14 = LOAD(%9) p0[s4+a0*s3+a1*s1]? : float32\n", ""
    )
    for i in (15, 13):
        spec = spec.replace(f"%{i}", f"%{i - 1}" if i == 13 else "%13")
    for n in (1, 3, 20, 70):
        x = rng().standard_normal(n * n, np.float32)
        agrees(spec, [x, np.zeros((n + 3) ** 2, np.float32)], [n + 3, n + 3, -2, n, -2 * n - 2])


GUARDED_SCALAR = """kernel rows=1 lane={lane} block=32 axes=(s0{axis}) params=(in float32, out float32) scalars=() slots=3
  phase ({phase})
    %0 = INDEX {row} : int64
    %1 = INDEX s2 : int64
    %2 = LT(%0, %1) : bool
    %3 = LOAD(%2) p0[a0]? : float32
    store p1[{out}] = %3
"""


def test_guard_that_is_the_same_in_all_lanes() -> None:
    x = rng().standard_normal(5, np.float32)
    inner = GUARDED_SCALAR.format(lane="inner", axis=", s1", phase="a1", row="a0", out="a0*s1+a1")
    agrees(inner, [x, np.ones(9 * 33, np.float32)], [9, 33, 5])
    lanes = GUARDED_SCALAR.format(lane="row", axis="", phase="", row="a0", out="a0")
    agrees(lanes, [x, np.ones(9, np.float32)], [9, 0, 5])


MASKED_STORE = """kernel rows=1 lane=row block=32 axes=(s0) params=(inout int32, in bool) scalars=() slots=1
  phase ()
    %0 = LOAD p0[a0] : int32
    %1 = LOAD p1[a0] : bool
    %2 = NOT(%0) : int32
    store p0[a0] = %2 if %1
"""


def test_guarded_store_in_place() -> None:
    for n in (0, 5, 32, 99):
        agrees(MASKED_STORE, [np.arange(n, dtype=np.int32), rng().integers(0, 2, n).astype(bool)], [n])


TAKE = """kernel rows=1 lane=row block=32 axes=(s0) params=(in float32, in {index}, out float32, status int64) scalars=() slots=3
  phase ()
    %0 = LOAD p1[a0] : {index}
    %1 = CONST 0 : {index}
    %2 = LE(%1, %0) : bool
    %3 = INDEX s1 : int64
    %4 = CAST(%0) : int64
    %5 = LT(%4, %3) : bool
    %6 = AND(%2, %5) : bool
    %7 = LOAD(%0, %6) p0[0; s2]? : float32
    store p2[a0] = %7
    check %6 else 3
"""


@pytest.mark.parametrize("index", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
def test_take_with_check(index: str, machine: target.Target) -> None:
    spec = TAKE.format(index=index)
    if index == "int64":
        spec = spec.replace("    %4 = CAST(%0) : int64\n    %5 = LT(%4, %3)", "    %4 = LT(%0, %3)")
        spec = spec.replace("%5)", "%4)").replace("%6", "%5").replace("%7", "%6")
    for n in (1, 16, 45):
        table = rng().standard_normal(22, np.float32)
        i = rng().integers(0, 11, n).astype(index)
        for bad in (False, True):
            if bad:
                i[n - 1] = 11
            got = agrees(spec, [table, i, np.zeros(n, np.float32), np.zeros(1, np.int64)], [n, 11, 2], (), machine)
            assert got[3][0] == (3 if bad else 0)


EMBEDDING = """kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float16, in int32, out float16) scalars=() slots=3
  phase (a1)
    %0 = LOAD p1[a0] : int32
    %1 = LOAD(%0) p0[a1; s2] : float16
    store p2[a0*s1+a1] = %1
"""


def test_embedding_rows() -> None:
    for n in (1, 8, 37, 100):
        table = rng().standard_normal(7 * n).astype(np.float16)
        i = rng().integers(0, 7, 5).astype(np.int32)
        agrees(EMBEDDING, [table, i, np.zeros(5 * n, np.float16)], [5, n, n])


def test_a_load_beside_an_empty_axis_is_not_done() -> None:
    spec = """kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, in int64, out float32) scalars=() slots=3
  phase (a1)
    %0 = LOAD p1[a0] : int64
    %1 = LOAD(%0) p0[0; s2] : float32
    r0 = add %1
  phase ()
    %2 = VALUE 0 : float32
    store p2[a0] = %2
"""
    kernel = text.parse_kernel(spec)
    out = np.ones(3, np.float32)
    far = np.full(3, 1 << 50)
    run(kernel, [np.ones(1, np.float32), far, out], [3, 0, 1])
    np.testing.assert_array_equal(out, 0)


# ---------------------------------------------------------------- rows


def pointwise(op: str, inputs: Sequence[str], result: str) -> str:
    params = ", ".join([f"in {t}" for t in inputs])
    loads = "".join([f"    %{k} = LOAD p{k}[a0] : {t}\n" for k, t in enumerate(inputs)])
    n = len(inputs)
    return f"""kernel rows=1 lane=row block=64 axes=(s0) params=({params}, out {result}) scalars=() slots=1
  phase ()
{loads}    %{n} = {op}({", ".join([f"%{k}" for k in range(n)])}) : {result}
    store p{n}[a0] = %{n}
"""


def samples(dtype: str, n: int = 500, seed: int = 0) -> Array:
    """Random bits, small numbers and special values of a type."""
    np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    r = rng(seed)
    if dtype == "bool":
        return r.integers(0, 2, n).astype(bool)
    bits = r.integers(0, 256, (n, np_type.itemsize)).astype(np.uint8).view(np_type).ravel()
    if np_type.kind in "iu":
        small = r.integers(-5 if np_type.kind == "i" else 0, 6, n).astype(np_type)
        info = np.iinfo(np_type)
        return np.concatenate([bits, small, np.array([info.min, info.max, 0, 1], np_type)])
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, -2.5, 1e-40, 65504, 65520, 6e-8])
    with np.errstate(all="ignore"):
        return np.concatenate([bits, r.standard_normal(n).astype(np_type), special.astype(np_type)])


FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]


def same(got: Array, want: Array) -> None:
    """Equal values; nan equals nan."""
    if got.dtype.kind not in "biu":
        with np.errstate(all="ignore"):
            got, want = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_array_equal(got, want)


def check_row(op: str, inputs: Sequence[str], result: str, arrays: list[Array], machine: target.Target) -> None:
    out = np.zeros(len(arrays[0]), np.dtype(getattr(ml_dtypes, result, result)))
    kernel = text.parse_kernel(pointwise(op, inputs, result))
    want = out.copy()
    with np.errstate(all="ignore"):
        reference.run_kernel(kernel, [*arrays, want], [len(out)])
    run(kernel, [*arrays, out], [len(out)], (), machine)
    same(out, want)


def pairs(dtype: str) -> list[Array]:
    a = samples(dtype)
    return [a, rng(9).permutation(samples(dtype, seed=5))]


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_float_rows(dtype: str, machine: target.Target) -> None:
    a, b = pairs(dtype)
    for op in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "REM"):
        check_row(op, [dtype] * 2, dtype, [a, b], machine)
    for op in ("NEG", "ABS", "SQRT", "FLOOR", "CEIL", "TRUNC", "ROUND"):
        check_row(op, [dtype], dtype, [a], machine)
    for op in ("EQ", "NE", "LT", "LE"):
        check_row(op, [dtype] * 2, "bool", [a, b], machine)
    check_row("FMA", [dtype] * 3, dtype, [a, b, a[::-1].copy()], machine)
    check_row("WHERE", ["bool", dtype, dtype], dtype, [samples("bool", len(a)), a, b], machine)


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", INTS)
def test_integer_rows(dtype: str, machine: target.Target) -> None:
    a, b = pairs(dtype)
    for op in ("ADD", "SUB", "MUL", "MIN", "MAX", "AND", "OR", "XOR", "SHL", "SHR"):
        check_row(op, [dtype] * 2, dtype, [a, b], machine)
    for op in ("NEG", "ABS", "NOT"):
        check_row(op, [dtype], dtype, [a], machine)
    for op in ("EQ", "NE", "LT", "LE"):
        check_row(op, [dtype] * 2, "bool", [a, b], machine)
    divisor = np.where(b == 0, np.ones_like(b), b)
    low = a == np.iinfo(a.dtype).min if a.dtype.kind == "i" else np.zeros(len(a), bool)
    dividend = np.where(low & (divisor == -1 if a.dtype.kind == "i" else low), np.ones_like(a), a)
    for op in ("IDIV", "REM"):
        check_row(op, [dtype] * 2, dtype, [dividend, divisor], machine)
    check_row("WHERE", ["bool", dtype, dtype], dtype, [samples("bool", len(a)), a, b], machine)
    if dtype == "uint32":
        check_row("MULHI", [dtype] * 2, dtype, [a, b], machine)


@pytest.mark.parametrize("dtype", INTS)
def test_division_does_not_trap(dtype: str) -> None:
    a = samples(dtype)
    for divisor in (0, -1):
        b = np.full_like(a, np.array(divisor).astype(a.dtype))
        for op in ("IDIV", "REM"):
            kernel = text.parse_kernel(pointwise(op, [dtype] * 2, dtype))
            run(kernel, [a, b, np.zeros_like(a)], [len(a)])


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("source", ["bool", *INTS, *FLOATS])
def test_casts(source: str, machine: target.Target) -> None:
    for to in ["bool", *INTS, *FLOATS]:
        a = samples(source)
        if source in FLOATS and to in INTS:
            info = np.iinfo(to)
            most = 65504.0 if source == "float16" else 1e9
            a = rng().uniform(max(info.min, -most), min(info.max, most), 300).astype(a.dtype)
            a = a[(a.astype(np.float64) > info.min - 1) & (a.astype(np.float64) < info.max + 1.0)]
        check_row("CAST", [source], to, [a], machine)


@pytest.mark.parametrize("source,to", [("float32", "int32"), ("uint64", "float64"), ("float16", "int16"),
                                       ("uint16", "bfloat16"), ("bfloat16", "float16"), ("int8", "uint8")])  # fmt: skip
@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: t.name)
def test_bitcast(source: str, to: str, machine: target.Target) -> None:
    a = samples(source)
    for name in (source, to):
        if "float16" in name:
            # A nan's payload may change on the way through float32.
            with np.errstate(all="ignore"):
                a = a[np.isfinite(a.view(np.dtype(getattr(ml_dtypes, name, name))).astype(np.float64))]
    check_row("BITCAST", [source], to, [a], machine)


def test_every_half_rounds_as_numpy() -> None:
    """All float16 and bfloat16 values survive, and halfway cases round to even, on every target."""
    for dtype in ("float16", "bfloat16"):
        np_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
        every = np.arange(1 << 16, dtype=np.uint16).view(np_type)
        wide = every.astype(np.float32)
        bits = wide.view(np.uint32)
        half = np.uint32(0x1000 if dtype == "float16" else 0x8000)
        with np.errstate(all="ignore"):
            near = np.concatenate([(bits + d).view(np.float32) for d in (0, half, half - 1, half + 1)])
        for machine in TARGETS:
            check_row("CAST", ["float32"], dtype, [near], machine)
            check_row("CAST", [dtype], "float32", [every], machine)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("case", [c for c in small_cases() if isinstance(c.kernel, Kernel)], ids=case_id)
def test_bits_do_not_depend_on_the_cut(case: Case) -> None:
    assert isinstance(case.kernel, Kernel)
    tasks = case.kernel.tasks(case.ints)
    whole, cut = case.copies(), case.copies()
    run(case.kernel, whole, case.ints, case.scalars)
    run(case.kernel, cut, case.ints, case.scalars, cuts=range(1, tasks))
    for a, b in zip(whole, cut):
        assert a.tobytes() == b.tobytes()


def test_long_sums_are_accurate() -> None:
    """Two levels keep a sum of a million values near its true value."""
    x = rng().uniform(0, 1, 1 << 20).astype(np.float32)
    out = np.zeros(1, np.float32)
    kernel = text.parse_kernel(SUM.replace("out {t}, out {t}, out {t}, out {t}", "out {t}").format(t="float32").replace(
        "    r1 = mul %0\n    r2 = max %0\n    r3 = min %0\n", "").split("    %2")[0])  # fmt: skip
    run(kernel, [x, out], [1, len(x), len(x)])
    assert abs(out[0] / x.sum(dtype=np.float64) - 1) < 2e-7


def test_several_kernels_share_a_module() -> None:
    module = emit.Module(HOST)
    cases = [c for c in small_cases() if isinstance(c.kernel, Kernel)]
    for i, c in enumerate(cases):
        assert isinstance(c.kernel, Kernel)
        module.add(c.kernel, f"k{i}")
    addresses = target.load_object(target.compile_module(module.text(), HOST), [f"k{i}" for i in range(len(cases))])
    for i, c in enumerate(cases):
        assert isinstance(c.kernel, Kernel)
        arrays = c.copies()
        block = words(c.kernel, arrays, c.ints, c.scalars)
        f = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(addresses[f"k{i}"])
        f(block.ctypes.data, 0, c.kernel.tasks(c.ints))
        c.check(arrays)


def test_code_for_another_architecture() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    arm = target.Target("arm", "aarch64-unknown-linux-gnu", "generic", "+neon", 128)
    for c in small_cases():
        if isinstance(c.kernel, Kernel):
            assert "fmla" in target.assembly(emit.emit_kernel(c.kernel, arm, "f"), arm) or c.name != "functions"


def test_text_that_is_not_ir_is_refused() -> None:
    with pytest.raises(RuntimeError):
        target.compile_module("define void @f( {", HOST)
    with pytest.raises(RuntimeError):
        target.load_object(b"not an object", ["f"])
