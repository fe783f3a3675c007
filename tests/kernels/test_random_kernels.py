"""Random kernels: the plain-Python, jitted and Triton spellings against the reference, bit for bit.

Rows: every exactly rounded row over every type, on one axis.  Shapes: random axes, lanes, phases,
reductions and tiles, with operations whose result does not depend on the order of folding.
"""

import random

import numpy as np
import pytest

from spiraltorch import dtypes as dt
from spiraltorch.ir import node
from spiraltorch.ir.kernel import Access, Kernel, Load, Param, Phase, Reduce, Slot, Store
from spiraltorch.kernels import numba, reference, triton
from spiraltorch.kernels.triton import Tile

TYPES = [d for d in dt.ALL if not d.is_complex]
COMMON = ["WHERE", "MIN", "MAX", "CAST", "EQ", "NE", "LT", "LE"]
FLOAT_UNARY = ["NEG", "ABS", "FLOOR", "CEIL", "TRUNC", "ROUND", "SQRT"]
ROWS = {
    "b": [*COMMON, "AND", "OR", "XOR", "NOT"],
    "f": [*COMMON, "ADD", "SUB", "MUL", "DIV", "REM", "FMA", *FLOAT_UNARY],
    "i": [*COMMON, "ADD", "SUB", "MUL", "IDIV", "REM", "NEG", "ABS", "AND", "OR", "XOR", "NOT", "SHL", "SHR"],
}
ROWS["u"] = [*ROWS["i"], "MULHI"]
NUMBERS = [0, 1, -1, 3, 100, 2.5, -0.0, 0.1]


def load(param, dtype, access):
    return node.make("LOAD", (), Load(param, access), (), dtype)


def random_row(rng, op, d, pick):
    """Row ``op`` on type ``d``, kept inside what the row defines."""
    a, b = pick(d), pick(d)
    if op == "WHERE":
        return node.scalar(op, pick(dt.bool_), a, b)
    if op == "CAST":
        target = rng.choice(TYPES)
        if d.kind == "f" and target.kind in "iu":
            a = node.scalar("WHERE", node.scalar("EQ", a, a), a, node.const(0, d))
            low = node.const(-100 if target.is_signed else 0, d)
            a = node.scalar("MIN", node.scalar("MAX", a, low), node.const(100, d))
        return node.cast(a, target)
    if op in ("IDIV", "REM") and d.kind != "f":
        b = node.scalar("OR", b, node.const(1, d))
    if op in ("SHL", "SHR"):
        b = node.scalar("AND", b, node.const(127, d))
    if op == "FMA":
        return node.scalar(op, a, b, pick(d))
    return node.scalar(op, a) if op in (*FLOAT_UNARY, "NOT") else node.scalar(op, a, b)


def random_rows(seed):
    """A kernel of twelve random rows over one value of each type."""
    rng = random.Random(seed)
    at = Access(0, ((0, 1),))
    pool = {d: [load(i, d, at)] for i, d in enumerate(TYPES)}

    def pick(d):
        return node.const(rng.choice(NUMBERS), d) if rng.random() < 0.12 else rng.choice(pool[d])

    made = []
    for _ in range(12):
        d = rng.choice(TYPES)
        made.append(random_row(rng, rng.choice(ROWS[d.kind]), d, pick))
        pool[made[-1].dtype].append(made[-1])
    stores = tuple(Store(len(TYPES) + i, at, value) for i, value in enumerate(made[-8:]))
    params = [Param(d) for d in TYPES] + [Param(s.value.dtype, "out") for s in stores]
    return Kernel((Slot(0),), 1, "row", 16, tuple(params), (), 1, (Phase((), (), stores),))


def awkward_values(rng, d, n):
    if d.kind == "b":
        return rng.integers(0, 2, n).astype(bool)
    if d.kind == "f":
        values = rng.standard_normal(n) * 10
        values[:6] = [np.nan, np.inf, -np.inf, 0, -0.0, 1e-6]
        return values.astype(d.np)
    limits = np.iinfo(d.np)
    values = rng.integers(limits.min, limits.max, n, dtype=d.np, endpoint=True)
    values[: n // 2] = rng.integers(0, 20, n // 2).astype(d.np)
    values[:2] = limits.min, limits.max
    return values


def assert_same(k, seed, arrays, ints, *runs):
    """Every run writes what the reference writes (nan for nan)."""
    want = [a.copy() for a in arrays]
    reference.run_kernel(k, want, ints)
    for run in runs:
        got = [a.copy() for a in arrays]
        run(k, got, ints)
        for a, b in zip(want, got):
            wide = [v.astype(np.float64) if v.dtype.kind in "fV" else v for v in (a, b)]
            np.testing.assert_array_equal(*wide, err_msg=f"seed {seed}\n{k}")


def plain(k, arrays, ints):
    numba.run(k, arrays, ints, jit=False)


def row_arrays(seed, k, n=24):
    rng = np.random.default_rng(seed)
    outs = [np.zeros(n, p.dtype.np) for p in k.params[len(TYPES) :]]
    return [awkward_values(rng, d, n) for d in TYPES] + outs


def interpreted(tile):
    def run(k, arrays, ints):
        triton.interpret(k, arrays, ints, tile=tile)

    return run


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_rows_agree(start):
    for seed in range(start, start + 20):
        k = random_rows(seed)
        assert_same(k, seed, row_arrays(seed, k), [24], plain, interpreted(Tile(1, 32)))


@pytest.mark.parametrize("seed", [*range(6), 24])
def test_rows_agree_when_jitted(seed):
    k = random_rows(seed)
    assert_same(k, seed, row_arrays(seed, k), [24], numba.run)


# ---------------------------------------------------------------- shapes

ORDERLESS = [("max", dt.float32), ("min", dt.float32), ("add", dt.int32), ("mul", dt.int32), ("max", dt.uint8)]


def random_shape(seed):
    """(kernel, sizes, elements of each param): phases over random inner axes, stores of values and folds."""
    rng = random.Random(seed)
    rows, inner = rng.randint(0, 3), rng.randint(0, 2)
    lane = rng.choice(["row", "inner"]) if rows else "inner"
    sizes = [rng.choice([1, 2, 3, 5]) for _ in range(rows + inner)]
    if sizes:
        sizes[rng.randrange(len(sizes))] = rng.choice([7, 9, 17])
    strides = [1] * len(sizes)
    for axis in reversed(range(len(sizes) - 1)):
        strides[axis] = strides[axis + 1] * sizes[axis + 1]
    ints = sizes + strides
    params, phases, folded = [], [], []

    def access(axes):
        # The last axis is contiguous; the others have a stride slot.
        steps = [(a, 1 if a == len(sizes) - 1 else Slot(len(sizes) + a)) for a in sorted(axes)]
        return Access(0, tuple(steps))

    def add_param(d, mode):
        params.append(Param(d, mode))
        return len(params) - 1

    def operand(d, axes):
        known = [v for v in folded if v.dtype is d]
        if known and rng.random() < 0.4:
            return rng.choice(known)
        some = [a for a in axes if rng.random() < 0.8]
        return load(add_param(d, "in"), d, access(some))

    for number in range(rng.randint(1, 3)):
        axes = tuple(range(rows, rows + inner)) if rng.random() < 0.7 else ()
        seen = (*range(rows), *axes)
        reduces, stores = [], []
        for _ in range(rng.randint(0, 2) if axes else 0):
            op, d = rng.choice(ORDERLESS)
            expr = node.scalar(rng.choice(["ADD", "MAX"]), operand(d, seen), operand(d, seen))
            reduces.append(Reduce(10 * number + len(reduces), op, expr))
        for d in rng.sample([dt.float32, dt.int32, dt.uint8], rng.randint(1, 2)):
            value = node.scalar("SUB", operand(d, seen), operand(d, seen))
            stores.append(Store(add_param(d, "out"), access(seen), value))
        phases.append(Phase(axes, tuple(reduces), tuple(stores)))
        folded += [node.make("VALUE", (), r.id, (), r.expr.dtype) for r in reduces]
    slots = tuple(Slot(i) for i in range(len(sizes)))
    k = Kernel(slots, rows, lane, 8, tuple(params), (), len(ints), tuple(phases))
    return k, ints, int(np.prod(sizes, dtype=int))


def shape_arrays(seed, k, count):
    rng = np.random.default_rng(seed)
    return [awkward_values(rng, p.dtype, max(count, 12)) if p.mode == "in" else np.zeros(max(count, 12), p.dtype.np)
            for p in k.params]  # fmt: skip


def random_tile(rng, k):
    folds = k.lane == "row" and k.rows and any(p.axes for p in k.phases)
    rows = rng.choice([2, 4]) if folds else rng.choice([1, 2, 4]) if k.rows else 1
    one_block = k.lane == "inner" and rng.random() < 0.5
    return Tile(rows, 32 if one_block else rng.choice([4, 8, 32]), one_block, rng.random() < 0.3)


@pytest.mark.parametrize("start", range(0, 90, 15))
def test_shapes_agree(start):
    for seed in range(start, start + 15):
        k, ints, count = random_shape(seed)
        tile = random_tile(random.Random(seed), k)
        assert_same(k, (seed, tile), shape_arrays(seed, k, count), ints, plain, interpreted(tile))


@pytest.mark.parametrize("seed", range(200, 206))
def test_shapes_agree_when_jitted(seed):
    k, ints, count = random_shape(seed)
    assert_same(k, seed, shape_arrays(seed, k, count), ints, numba.run)
