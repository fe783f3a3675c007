"""The reference interpreter against NumPy, SciPy-free formulas and known answers."""

import math

import ml_dtypes
import numpy as np
import pytest
from kernel_cases import case_id, small_cases, softmax, total

from spiraltorch import dtypes as dt
from spiraltorch.ir import graph, node, text
from spiraltorch.ir.kernel import Gemm
from spiraltorch.kernels import reference


def run(case, arrays, ints=None):
    runner = reference.run_gemm if isinstance(case.kernel, Gemm) else reference.run_kernel
    runner(case.kernel, arrays, case.ints if ints is None else ints, case.scalars)


@pytest.mark.parametrize("case", small_cases(), ids=case_id)
def test_kernels_match_numpy(case):
    arrays = case.copies()
    run(case, arrays)
    case.check(arrays)


def test_empty_axes():
    rng = np.random.default_rng(0)
    empty = softmax(rng, 0, 4)
    run(empty, empty.arrays)
    folded = total(rng, 0)
    run(folded, folded.arrays)
    assert folded.arrays[1][0] == 0


def test_an_access_outside_memory_is_refused():
    case = softmax(np.random.default_rng(0), 2, 8)
    with pytest.raises(IndexError, match=r"p0\[a0\*s2\+a1\] reads outside the 15 elements"):
        run(case, [case.arrays[0][:15], case.arrays[1]])
    with pytest.raises(IndexError, match="store to p1"):
        run(case, [case.arrays[0], case.arrays[1][:15]])


# ---------------------------------------------------------------- rows


def one(op, dtype, *values, result=None):
    operands = [np.asarray(v, dtype.np) for v in values]
    with np.errstate(all="ignore"):
        return reference.apply_row(op, operands, result or dtype)


def test_sixteen_bit_rows_round_once_each():
    x, y = np.float16(0.1), np.float16(3.0)
    assert one("ADD", dt.float16, x, y) == np.float16(np.float32(x) + np.float32(y))
    assert one("MUL", dt.bfloat16, 1.0078125, 1.0078125) == ml_dtypes.bfloat16(1.015625)
    assert one("ADD", dt.bfloat16, 1.0, 0.00390625) == ml_dtypes.bfloat16(1.0)  # tie to even
    assert one("ADD", dt.bfloat16, 1.0078125, 0.00390625) == ml_dtypes.bfloat16(1.015625)


def test_integer_rows_are_those_of_c():
    low = -(2**31)
    assert one("IDIV", dt.int32, -7, 2) == -3 and one("REM", dt.int32, -7, 2) == -1
    assert one("IDIV", dt.int32, low, -1) == low and one("REM", dt.int32, low, -1) == 0
    one("IDIV", dt.int32, 5, 0)
    assert one("ADD", dt.uint8, 250, 10) == 4 and one("MUL", dt.int32, 2**30, 4) == 0
    assert one("SHL", dt.int32, 1, 32) == 0 and one("SHL", dt.uint8, 1, 7) == 128
    assert one("SHR", dt.int32, -5, 99) == -1 and one("SHR", dt.uint32, 2**31, 32) == 0
    assert one("SHR", dt.int32, -8, 1) == -4
    assert one("MULHI", dt.uint32, 2**32 - 1, 2**32 - 1) == 2**32 - 2
    assert one("MULHI", dt.uint64, 2**64 - 1, 2**63) == 2**63 - 1


def test_comparisons_and_nan():
    assert one("NE", dt.float32, np.nan, np.nan, result=dt.bool_)
    assert not one("EQ", dt.float32, np.nan, np.nan, result=dt.bool_)
    assert np.isnan(one("MAX", dt.float32, np.nan, 1.0)) and np.isnan(one("MIN", dt.bfloat16, 1.0, np.nan))
    assert one("ROUND", dt.float32, 2.5) == 2 and one("ROUND", dt.float32, 3.5) == 4


def test_casts():
    assert one("CAST", dt.float32, np.nan, result=dt.bool_) and not one("CAST", dt.float32, -0.0, result=dt.bool_)
    assert one("CAST", dt.float64, -2.9, result=dt.int32) == -2
    assert one("CAST", dt.int64, -1, result=dt.uint8) == 255
    assert one("BITCAST", dt.float32, 1.0, result=dt.int32) == 0x3F800000


def test_fma_rounds_once():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 2000))
    c = -(a * b) * (1 + rng.integers(-3, 4, 2000) * 2.0**-30)
    from fractions import Fraction

    want = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c)]
    np.testing.assert_array_equal(one("FMA", dt.float64, a, b, c), want)
    a, b, c = (v.astype(np.float32) for v in (a, b, c))
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c)]
    got = one("FMA", dt.float32, a, b, c)
    for value, true in zip(got, exact):
        error = abs(Fraction(float(value)) - true)
        for direction in (-np.inf, np.inf):
            assert error <= abs(Fraction(float(np.nextafter(value, np.float32(direction)))) - true)
    assert one("FMA", dt.float64, np.inf, 0.0, 1.0) != one("FMA", dt.float64, np.inf, 0.0, 1.0)


# ---------------------------------------------------------------- graphs


def leaf(shape, dtype=dt.float32, index=0):
    return graph.param(index, shape, dtype)


def value_of(root, *pairs):
    (value,) = reference.evaluate([root], dict(pairs))
    assert value.shape == root.shape and value.dtype == root.dtype.np
    return value


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
PX = leaf(X.shape)


def test_movement():
    np.testing.assert_array_equal(value_of(graph.permute(PX, (2, 0, 1)), (PX, X)), X.transpose(2, 0, 1))
    np.testing.assert_array_equal(value_of(graph.reshape(PX, (6, 4)), (PX, X)), X.reshape(6, 4))
    cut = graph.slice_(PX, ((0, 2, 1), (2, -1, -1), (1, 4, 2)))
    np.testing.assert_array_equal(value_of(cut, (PX, X)), X[:, ::-1, 1::2])
    wide = graph.pad(PX, ((0, 1, 0), (1, 0, 0), (0, 2, 1)))
    want = np.zeros((3, 4, 9), np.float32)
    want[:2, 1:, :7:2] = X
    np.testing.assert_array_equal(value_of(wide, (PX, X)), want)
    row = leaf((1, 3, 1), index=1)
    np.testing.assert_array_equal(
        value_of(graph.expand(row, (2, 3, 4)), (row, X[:1, :, :1])), np.broadcast_to(X[:1, :, :1], (2, 3, 4))
    )


def test_windows():
    got = value_of(graph.window(PX, 1, 2, 1), (PX, X))
    np.testing.assert_array_equal(got, np.stack([X[:, 0:2], X[:, 1:3]], 1).transpose(0, 1, 3, 2))
    line = leaf((10,))
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(value_of(graph.window(line, 0, 3, 2, 3), (line, x)), [[0, 3, 6], [2, 5, 8]])


def test_gather_scatter_update():
    index = leaf((2, 2), dt.int64, 1)
    i = np.array([[2, 0], [1, 1]])
    taken = graph.gather(PX, index, 1)
    np.testing.assert_array_equal(value_of(taken, (PX, X), (index, i)), X[:, i])
    values = leaf((2, 2, 2, 4), index=2)
    v = np.arange(32, dtype=np.float32).reshape(2, 2, 2, 4)
    want = X.copy()
    for j in range(2):
        for k in range(2):
            want[:, i[j, k]] += v[:, j, k]
    got = value_of(graph.scatter_add(PX, index, values, 1), (PX, X), (index, i), (values, v))
    np.testing.assert_array_equal(got, want)
    patch = leaf((1, 3, 2), index=3)
    p = -np.ones((1, 3, 2), np.float32)
    changed = X.copy()
    changed[1:, :, ::2] = p
    got = value_of(graph.update(PX, ((1, 2, 1), (0, 3, 1), (0, 4, 2)), patch), (PX, X), (patch, p))
    np.testing.assert_array_equal(got, changed)
    placed = graph.scatter_add(PX, index, values, 1)
    placed = node.make("SCATTER", placed.src, (1, "set"), placed.shape, placed.dtype)
    want = X.copy()
    for j, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        want[:, i[j, k]] = v[:, j, k]
    np.testing.assert_array_equal(value_of(placed, (PX, X), (index, i), (values, v)), want)
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 1 with size 3"):
        value_of(taken, (PX, X), (index, i + 1))


def test_gather_along_an_axis():
    index = leaf((2, 1, 4), dt.int64, 1)
    i = np.array([[[0, 2, 1, 1]], [[2, 2, 0, 1]]])
    along = node.make("GATHER", (PX, index), ("along", 1), (2, 1, 4), dt.float32)
    np.testing.assert_array_equal(value_of(along, (PX, X), (index, i)), np.take_along_axis(X, i, 1))


def test_reduce_scan_dot():
    x = np.random.default_rng(5).standard_normal((3, 4, 5)).astype(np.float32)
    n = leaf(x.shape)
    for op, f in (("add", np.sum), ("mul", np.prod), ("max", np.max), ("min", np.min)):
        want = f(x.astype(np.float64), axis=(0, 2)).astype(np.float32)
        np.testing.assert_array_equal(value_of(graph.reduce(n, op, (0, 2)), (n, x)), want)
    back = value_of(graph.scan(n, "add", 1, reverse=True), (n, x))
    np.testing.assert_allclose(back, np.flip(np.cumsum(np.flip(x, 1), 1), 1), rtol=1e-5, atol=1e-6)
    wraps = leaf((3,), dt.int8)
    assert value_of(graph.reduce(wraps, "add", (0,)), (wraps, np.array([100, 100, 1], np.int8))) == -55
    a, b = leaf((2, 3, 5), index=0), leaf((2, 5, 4), index=1)
    u, v = x[:2, :3], np.random.default_rng(6).standard_normal((2, 5, 4)).astype(np.float32)
    got = value_of(graph.dot(a, b, (0,), (0,), (2,), (1,)), (a, u), (b, v))
    np.testing.assert_allclose(got, u @ v, rtol=1e-5)
    got = value_of(graph.dot(a, b, (), (), (0, 2), (0, 1)), (a, u), (b, v))
    np.testing.assert_allclose(got, np.einsum("aij,ajk->ik", u, v), rtol=1e-5)


def test_random_is_philox():
    # Known answers of Philox4x32-10 (word 0) for counter and key of all zeros and of all ones.
    assert reference.philox(0, 0, 1)[0] == 0x6627E8D5
    key, counter = (node.const(v, dt.uint64) for v in (7, 2**64 - 1))
    bits = value_of(graph.random(key, counter, (3, 2)))
    np.testing.assert_array_equal(bits.ravel()[1:], _philox_after_carry(7, 5))
    assert len(set(reference.philox(1, 0, 1000))) > 990


def _philox_after_carry(key, count):
    """Plain-integer Philox at the counters 2**64, 2**64 + 1 ..."""
    out = []
    for i in range(count):
        c, k = [i, 0, 1, 0], [key, 0]
        for _ in range(10):
            p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        out.append(c[0])
    return out


def test_zero_d_operands_broadcast():
    half = node.const(0.5, dt.float32)
    np.testing.assert_array_equal(value_of(node.scalar("MUL", PX, half), (PX, X)), X * np.float32(0.5))
    choice = node.scalar("WHERE", node.const(True, dt.bool_), PX, half)
    np.testing.assert_array_equal(value_of(choice, (PX, X)), X)
    assert value_of(graph.iota((2, 3), 1)).tolist() == [[0, 1, 2]] * 2


def test_evaluate_reads_parsed_graphs():
    (root,) = text.parse_graph("%0 = PARAM 0 : float32[2]\n%1 = ERF(%0) : float32[2]\nreturn %1")
    x = np.array([0.5, -2], np.float32)
    want = [math.erf(0.5), math.erf(-2)]
    np.testing.assert_allclose(value_of(root, (root.src[0], x)), want, rtol=1e-7)
