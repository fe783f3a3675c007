"""Result types of mixed operands, against torch for every pair of types, with dimensions, without, and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.dtypes import DType
from spiraltorch.ir import graph
from spiraltorch.ir.node import Node, make, toposort
from spiraltorch.ops import OPS
from spiraltorch.ops.samples import Sample
from spiraltorch.tape import Hole, OpCall
from tests.ops import harness
from tests.ops.harness import REFUSALS, TORCH, Bound, close, from_torch, to_torch

TYPES = (
    dtypes.bool_, dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64, dtypes.float16, dtypes.bfloat16,
    dtypes.float32, dtypes.float64,
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "true_divide", "remainder", "pow", "maximum", "lt", "eq", "atan2", "bitwise_xor")
SECOND: dict[str, Any] = {"1-d": (3,), "0-d": (), "int": 2, "float": 1.5, "bool": True}


def ones(d: DType, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, d.np)


def interned(n: Node) -> Node:
    """The one node that says what ``n`` says (recording leaves the table out, and remembers calls that it has seen)."""
    n = n.arg.spelled(n.src) if n.op == "APPLY" else n
    return make(n.op, n.src, n.arg, n.shape, n.dtype)


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("name", BINARY)
def test_result_type(name: str, second: str) -> None:
    op, form = OPS[name], SECOND[second]
    for a in TYPES:
        for b in TYPES if isinstance(form, tuple) else (None,):
            x = ones(a, (3,))
            y = ones(b, form) if b is not None else form
            sample = Sample((x, y))
            try:
                want = harness.theirs(op, to_torch([x, y]), {})[0]
            except REFUSALS:
                continue
            bound = Bound(sample)
            out = op.apply(bound.args, {})
            label = f"{name}({a.name}[3], {b.name if b is not None else ''}{form})"
            assert TORCH[out.dtype] == want.dtype, f"{label} is {out.dtype.name}, torch has {want.dtype}"
            close(label, harness.ours(op, bound)[0], from_torch(want), 1e-5)


@pytest.mark.parametrize("default", [dtypes.float32, dtypes.float64], ids=["float32", "float64"])
def test_the_default_type_is_what_integers_become(default: DType) -> None:
    before = dtypes.get_default_dtype(), torch.get_default_dtype()
    try:
        dtypes.set_default_dtype(default)
        torch.set_default_dtype(TORCH[default])
        x = np.arange(3)
        for name, args in (
            ("exp", (x,)), ("add", (x, 0.5)), ("div", (x, 2)), ("where", (x > 1, 1.0, 2)), ("full", ((2,), 1.5)),
        ):  # fmt: skip
            sample = Sample(args)
            want = harness.theirs(OPS[name], to_torch(list(args)), {})[0]
            close(name, harness.ours(OPS[name], Bound(sample))[0], from_torch(want), 1e-5)
    finally:
        dtypes.set_default_dtype(before[0])
        torch.set_default_dtype(before[1])


@pytest.mark.parametrize("name", ["cat", "stack"])
def test_joining_promotes(name: str) -> None:
    for a in TYPES:
        for b in TYPES:
            parts = [ones(a, (2,)), ones(b, (2,))]
            want = harness.theirs(OPS[name], [to_torch(parts)], {})[0]
            got = harness.ours(OPS[name], Bound(Sample((parts,))))[0]
            close(f"{name} of {a.name}, {b.name}", got, from_torch(want), 1e-5)


@pytest.mark.parametrize("name", ["add", "mul", "hypot", "logaddexp", "where", "clamp_min", "cat"])
def test_each_gradient_has_the_type_of_its_tensor(name: str) -> None:
    x, y = np.array([0.5, 2.0], np.float32), np.array([[1.5], [0.25], [1.0]], np.float64)
    args: tuple[Any, ...] = (x, y)
    if name == "where":
        args = (np.array([True, False]), x, y)
    elif name == "cat":
        args = ([x, y[:, 0]],)
    op, sample = OPS[name], Sample(args)
    theirs = to_torch(list(args))
    leaves = [t for v in theirs for t in (v if isinstance(v, list) else [v])]
    for t in leaves:
        t.requires_grad_(t.is_floating_point())
    (out,) = harness.theirs(op, theirs, {})
    g = np.arange(out.numel(), dtype=np.float64).reshape(tuple(out.shape)) + 1
    out.backward(torch.from_numpy(g))
    bound = Bound(sample)
    got = harness.our_gradients(op, bound, harness.ours(op, bound), [g])
    for t, d in zip(leaves, got):
        if t.requires_grad:
            assert d is not None
            close(name, d, from_torch(t.grad), 1e-6)


def test_arguments_by_name_in_any_order() -> None:
    """Gradients come in the order of the call's tensors, whatever the order of the names."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape) for shape in ((4, 3), (3,), (3,)))
    forward = Bound(Sample((x, (3,)), {"bias": b, "weight": w}))
    out = harness.ours(OPS["layer_norm"], forward)
    dx, db, dw = harness.our_gradients(OPS["layer_norm"], forward, out, [np.ones((4, 3))])
    np.testing.assert_allclose(db, [4, 4, 4])
    np.testing.assert_allclose(dw, ((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)).sum(0))
    assert dx is not None and dx.shape == (4, 3)
    limits = Bound(Sample((np.arange(5.0),), {"max": np.array(3.0), "min": np.array(1.0)}))
    np.testing.assert_array_equal(harness.ours(OPS["clamp"], limits)[0], [1, 1, 2, 3, 3])
    _, high, low = harness.our_gradients(OPS["clamp"], limits, [np.arange(5.0)], [np.ones(5)])
    assert (high, low) == (1, 1)


def test_a_changed_number_is_the_same_program() -> None:
    """Numbers that callers compute are data: only the slot is in the program's structure."""
    x = graph.param(0, (4,), dtypes.float32)
    for name, operands, number in (
        ("add", 2, "alpha"), ("addcmul", 3, "value"), ("leaky_relu", 1, "negative_slope"), ("clamp", 1, "min"),
        ("lerp", 2, "weight"),
    ):  # fmt: skip
        out = OPS[name].apply([x] * operands, {number: 0.123})
        constants = [n.arg for n in toposort([out]) if n.op == "CONST" and abs(n.arg.value - 0.123) < 1e-6]
        assert constants and not any([c.static for c in constants]), name
    call = OpCall(OPS["mul"], [Hole(0), 0.123], {})
    assert not call.forward([x])[0].src[1].arg.static


@pytest.mark.parametrize("name", [n for n, o in OPS.items() if o.row is not None])
def test_the_short_path_of_recording_says_the_same(name: str) -> None:
    """Rows over tensors of one type and shape are recorded without promotion: the node must be the record's."""
    op = OPS[name]
    for d in TYPES:
        tensors = [st.tensor([1, 1, 1], dtype=d) for _ in range(op.operands)]
        try:
            want = op.apply([t._read() for t in tensors], {})
        except REFUSALS as e:
            with pytest.raises(type(e)):
                getattr(tensors[0], name)(*tensors[1:])
            continue
        got = getattr(tensors[0], name)(*tensors[1:])._read()
        assert interned(got) is want, f"{name} of {d.name}"


DUNDERS = ("add", "sub", "mul", "div", "fmod", "eq", "ne", "lt", "le", "gt", "ge")


@pytest.mark.parametrize("name", DUNDERS)
@pytest.mark.parametrize("value", [2, 0.3, -1.0, float("nan"), True, 1e300])
def test_the_short_path_of_numbers_says_the_same(name: str, value: Any) -> None:
    from spiraltorch.dispatch import _dunder

    op = OPS[name]
    for d in TYPES:
        t = st.tensor([1, 1, 1], dtype=d)
        for reflected in (False,) if op.numbers == "second" else (False, True):  # nobody calls 2 == x the other way round
            try:
                want = op.apply([value, t._read()] if reflected else [t._read(), value], {})
            except REFUSALS as e:
                with pytest.raises(type(e)):
                    _dunder(op, name, reflected)(t, value)
                continue
            got = _dunder(op, name, reflected)(t, value)._read()
            assert interned(got) is want, f"{name} of {d.name}, reflected {reflected}"
