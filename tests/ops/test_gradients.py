"""The gradients of primitives, of arguments that coincide with inner values, and of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import graph, lang, prims
from spiraltorch.ir.node import Node, cast, const, scalar
from spiraltorch.kernels.reference import evaluate
from spiraltorch.ops import OPS
from spiraltorch.ops.gradients import vjp
from spiraltorch.ops.registry import Op
from spiraltorch.tape import Hole, OpCall
from tests.ops import harness
from tests.ops.harness import REFUSALS, Bound, close, from_torch, to_torch
from tests.ops.test_records import COMPARED, WRONG_IN_TORCH, describe, is_empty, tensors_of

F64, I64 = dtypes.float64, dtypes.int64


def real(k: int, *shape: int) -> Node:
    return graph.param(k, shape, F64)


def drawn(n: Node, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.uniform(0.3, 0.8, n.shape))


# -- rows against differences -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, r in prims.ROWS.items() if any(r.derivative) and n != "CAST"])
def test_row_derivative_is_the_slope(name: str) -> None:
    row, rng, step = prims.ROWS[name], np.random.default_rng(1), 1e-6
    xs = [real(k, 7) for k in range(row.arity)]
    operands = list(xs)
    if name == "WHERE":
        operands[0] = graph.param(9, (7,), dtypes.bool_)
    out = scalar(name, *operands)
    leaves: dict[Node, Any] = {x: drawn(x, rng) for x in xs}
    if name == "WHERE":
        leaves[operands[0]] = rng.random(7) < 0.5
    g = real(20, 7)
    leaves[g] = rng.normal(size=7)
    for x, d in zip(operands, vjp([out], operands, [g])):
        if x.dtype is not F64:
            assert d is None
            continue
        up, down = ({**leaves, x: leaves[x] + sign * step} for sign in (1, -1))
        slope = (evaluate([out], up)[0] - evaluate([out], down)[0]) / (2 * step)
        got = evaluate([d], leaves)[0] if d is not None else np.zeros(7)
        np.testing.assert_allclose(got, leaves[g] * slope, rtol=1e-5, atol=1e-7)


# -- structural primitives are linear: <J x, g> == <x, Jt g> ------------------------------------------

def _indices(*shape: int, high: int) -> Node:
    """Index data made of arithmetic, so that the cases need no further leaves."""
    size = int(np.prod(shape))
    flat = scalar("MUL", graph.iota((size,), 0), graph.expand(const(7, I64), (size,)))
    return graph.reshape(scalar("REM", flat, graph.expand(const(high, I64), (size,))), shape)


LINEAR: dict[str, Any] = {
    "reshape": (lambda x: graph.reshape(x, (3, 8)), (2, 3, 4)),
    "permute": (lambda x: graph.permute(x, (2, 0, 1)), (2, 3, 4)),
    "expand": (lambda x: graph.expand(x, (2, 5, 3)), (2, 1, 3)),
    "slice": (lambda x: graph.slice_(x, ((1, 6, 2), (0, 3, 1))), (7, 3)),
    "slice with an uneven rest": (lambda x: graph.slice_(x, ((0, 7, 3), (1, 2, 1))), (8, 3)),
    "slice backwards": (lambda x: graph.slice_(x, ((6, -1, -1), (2, 0, -1))), (7, 3)),
    "slice backwards in steps": (lambda x: graph.slice_(x, ((5, 0, -2),)), (7,)),
    "pad": (lambda x: graph.pad(x, ((1, 2, 0), (0, 1, 2))), (3, 4)),
    "window apart": (lambda x: graph.window(x, 1, 2, 2), (2, 6, 3)),
    "window overlapping": (lambda x: graph.window(x, 0, 3, 1), (7, 2)),
    "window with stride and dilation": (lambda x: graph.window(x, 1, 2, 3, 2), (2, 12)),
    "diagonal": (lambda x: graph.diagonal(x, 0, 0, 1), (3, 4)),
    "diagonal above": (lambda x: graph.diagonal(x, 1, 0, 2), (3, 2, 4)),
    "diagonal below, axes turned": (lambda x: graph.diagonal(x, -1, 2, 0), (3, 2, 4)),
    "gather": (lambda x: graph.gather(x, _indices(2, 3, high=4), 1), (2, 4, 3)),
    "gather along": (lambda x: graph.gather_along(x, _indices(2, 5, 3, high=4), 1), (2, 4, 3)),
    "gather along, fewer": (lambda x: graph.gather_along(x, _indices(1, 5, 2, high=4), 1), (2, 4, 3)),
    "reduce": (lambda x: graph.reduce(x, "add", (0, 2)), (2, 3, 4)),
    "scan": (lambda x: graph.scan(x, "add", 1), (2, 5)),
    "scan backwards": (lambda x: graph.scan(x, "add", 0, True), (5, 2)),
    "copy": (graph.copy, (3,)),
    "update": (lambda x: graph.update(x, ((1, 3, 1), (0, 4, 2)), graph.full(0, (2, 2), F64)), (4, 4)),
    "updated with": (lambda x: graph.update(graph.full(0, (4, 4), F64), ((1, 3, 1), (0, 4, 2)), x), (2, 2)),
    "scatter_add into": (lambda x: graph.scatter_add(x, _indices(3, high=4), graph.full(0, (2, 3), F64), 1), (2, 4)),
    "scatter_add of": (lambda x: graph.scatter_add(graph.full(0, (2, 4), F64), _indices(5, high=4), x, 1), (2, 5)),
    "scatter into": (lambda x: graph.scatter(x, _indices(3, high=4), graph.full(0, (2, 3), F64), 1, "set"), (2, 4)),
    "scatter of": (lambda x: graph.scatter(graph.full(0, (2, 4), F64), _indices(3, high=4), x, 1, "set"), (2, 3)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_transpose(name: str) -> None:
    apply, shape = LINEAR[name]
    rng, x = np.random.default_rng(2), real(0, *shape)
    out = apply(x)
    g = real(1, *out.shape)
    (back,) = vjp([out], [x], [g])
    assert back is not None and back.shape == x.shape
    leaves = {x: rng.normal(size=shape), g: rng.normal(size=out.shape)}
    forward, transposed = evaluate([out, back], leaves)
    np.testing.assert_allclose((forward * leaves[g]).sum(), (leaves[x] * transposed).sum(), rtol=1e-12)


DOTS = {
    "matrices": ((2, 3), (3, 4), (), (), (1,), (0,)),
    "transposed": ((3, 2), (4, 3), (), (), (0,), (1,)),
    "batch": ((5, 2, 3), (5, 3, 4), (0,), (0,), (2,), (1,)),
    "batch in other places": ((2, 5, 3), (3, 4, 5), (1,), (2,), (2,), (0,)),
    "two sums crossed": ((2, 3, 4), (4, 5, 3), (), (), (1, 2), (2, 0)),
    "two batches crossed": ((2, 3, 4), (3, 2, 4), (0, 1), (1, 0), (2,), (2,)),
    "outer": ((2, 3), (4,), (), (), (), ()),
    "convolution": ((4, 3, 2, 2), (5, 3, 6, 7, 2, 2), (), (), (1, 2, 3), (1, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", DOTS)
def test_dot_transposes(name: str) -> None:
    sa, sb, *form = DOTS[name]
    rng, a, b = np.random.default_rng(3), real(0, *sa), real(1, *sb)
    out = graph.dot(a, b, *form)
    g = real(2, *out.shape)
    da, db = vjp([out], [a, b], [g])
    leaves = {n: rng.normal(size=n.shape) for n in (a, b, g)}
    value, ga, gb = evaluate([out, da, db], leaves)
    total = (value * leaves[g]).sum()  # linear in each of the two
    np.testing.assert_allclose([(leaves[a] * ga).sum(), (leaves[b] * gb).sum()], total, rtol=1e-12)


def test_product_with_zeros() -> None:
    x, g = real(0, 3, 4), real(1, 3)
    (d,) = vjp([graph.reduce(x, "mul", (1,))], [x], [g])
    values = np.array([[1, 2, 3, 4], [1, 0, 3, 4], [0, 2, 0, 4]], np.float64)
    got = evaluate([d], {x: values, g: np.ones(3)})[0]
    np.testing.assert_allclose(got, [[24, 12, 8, 6], [0, 12, 0, 0], [0, 0, 0, 0]])


def test_second_gradient_of_a_product_with_zeros() -> None:
    """d2 / dx_i dx_k is the product of the others, also where x_i, x_k or both are 0."""
    values = [[1.0, 2, 3, 4], [1, 0, 3, 4], [0, 2, 0, 4], [0, 0, 3, 0]]
    x = st.tensor(values, dtype=st.float64, requires_grad=True)
    weights = np.array([1.0, 10, 100, 1000])
    (d,) = st.autograd.grad(x.prod(1).sum(), x, create_graph=True)
    (second,) = st.autograd.grad((d * st.tensor(weights)).sum(), x)
    mixed = [[[np.prod(np.delete(row, [i, k])) if i != k else 0 for i in range(4)] for k in range(4)] for row in values]
    np.testing.assert_allclose(second.numpy(), mixed @ weights)


def test_second_gradient_of_running_products_with_zeros() -> None:
    values = [[1.0, 2, 3, 4, 5], [1, 0, 3, 4, 5], [0, 2, 0, 4, 5], [1, 2, 0, 0, 0], [0, 0, 0, 4, 5]]
    found = []
    for library in (st, torch):
        x = library.tensor(values, dtype=library.float64, requires_grad=True)
        weights = library.tensor([1.0, 10, 100, 1000, 7], dtype=library.float64)
        (d,) = library.autograd.grad((library.cumprod(x, 1) * weights.flip(0)).sum(), x, create_graph=True)
        (second,) = library.autograd.grad((d * weights).sum(), x)
        found.append((d.tolist(), second.tolist()))
    np.testing.assert_allclose(*found)


def test_nothing_flows_to_integers_or_around_a_detached_value() -> None:
    x, i = real(0, 3), graph.param(1, (3,), I64)
    out = lang.detach(x) * cast(i, F64)
    assert vjp([out], [x, i], [real(2, 3)]) == [None, None]


# -- an argument that is also an inner value ----------------------------------------------------------


def test_an_argument_may_be_an_inner_value_of_the_body() -> None:
    """lerp computes ``end - input``; here the caller passes that very node as the weight."""
    rng, a, b = np.random.default_rng(4), real(0, 5), real(1, 5)
    weight = scalar("SUB", b, a)
    g = real(2, 5)
    call = OpCall(OPS["lerp"], [Hole(0), Hole(1), Hole(2)], {})
    (out,) = call.forward([a, b, weight])
    found = call.vjp([g], [out], [a, b, weight])
    leaves = {a: rng.normal(size=5) * 0.1, b: rng.normal(size=5) * 0.1, g: rng.normal(size=5)}
    ta, tb, tg = (torch.from_numpy(leaves[n]).requires_grad_() for n in (a, b, g))
    tw = (tb - ta).detach().requires_grad_()
    torch.lerp(ta, tb, tw).backward(tg)
    for n, t in zip(found, (ta, tb, tw)):
        np.testing.assert_allclose(evaluate([n], leaves)[0], t.grad, rtol=1e-12)


def test_the_same_tensor_twice_gets_two_gradients() -> None:
    x, g = real(0, 3), real(1, 3)
    call = OpCall(OPS["mul"], [Hole(0), Hole(1)], {})
    first, second = call.vjp([g], call.forward([x, x]), [x, x])
    leaves = {x: np.array([1.0, 2, 3]), g: np.array([1.0, 10, 100])}
    np.testing.assert_array_equal(evaluate([first, second], leaves), [[1, 20, 300]] * 2)


# -- gradients of gradients ---------------------------------------------------------------------------

#: torch gives the triangle of a Cholesky factor that is not read a gradient too, and differentiates that
UNREAD_TRIANGLE = {"cholesky_inverse", "cholesky_solve"}
DIFFERENTIABLE = [o for o in COMPARED if harness.has_gradient(o) and o.name not in UNREAD_TRIANGLE | WRONG_IN_TORCH]


def _second_of_torch(op: Op, args: Any, kwargs: Any, rng: np.random.Generator) -> Any:
    """(cotangent, cotangents of the first gradients, gradients of those for every float leaf) or None."""
    leaves = [t for v in (*args, *kwargs.values()) for t in tensors_of(v)]
    for t in leaves:
        t.requires_grad_(t.is_floating_point())
    floats = [t for t in leaves if t.requires_grad]
    try:
        every = harness.theirs(op, args, kwargs)
        outs = [o for o in every if o.requires_grad]
        gs = [torch.from_numpy(np.asarray(rng.normal(size=tuple(o.shape)))).requires_grad_() for o in outs]
        first = torch.autograd.grad(outs, floats, gs, create_graph=True, allow_unused=True)
        used = [(k, f) for k, f in enumerate(first) if f is not None and f.requires_grad]
        if not used:
            return None
        vs = [torch.from_numpy(np.asarray(rng.normal(size=tuple(f.shape)))) for _, f in used]
        second = torch.autograd.grad([f for _, f in used], [*gs, *floats], vs, allow_unused=True)
    except REFUSALS:
        return None
    return gs, [k for k, _ in used], vs, second, [o.requires_grad for o in every]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=[o.name for o in DIFFERENTIABLE])
def test_second_gradients(op: Op) -> None:
    rng = np.random.default_rng(5)
    for sample in op.samples(F64):
        if not sample.grad or is_empty(sample):
            continue
        kwargs = {k: to_torch(v) for k, v in sample.kwargs.items()}
        asked = _second_of_torch(op, to_torch(list(sample.args)), kwargs, rng)
        if asked is None:
            continue
        gs, used, vs, want, tracked = asked
        bound = Bound(sample)
        floats = [n for n in bound.nodes if n.dtype.kind == "f"]
        call = OpCall(op, bound.template, bound.kw_template)
        outs = call.forward(bound.nodes)
        live = [o for o, wanted in zip(outs, tracked) if wanted]
        up = {o: graph.param(("g", k), o.shape, o.dtype) for k, o in enumerate(live)}
        # For the second derivative the output is a function of the inputs: it is not a saved value here.
        first = [f for f, n in zip(call.vjp([up.get(o) for o in outs], outs, bound.nodes), bound.nodes) if n in floats]
        picked = [first[k] for k in used]
        down = [None if f is None else graph.param(("v", k), f.shape, f.dtype) for k, f in enumerate(picked)]
        pairs = [(f, d) for f, d in zip(picked, down) if f is not None]
        inputs = [*up.values(), *floats]
        found = vjp([f for f, _ in pairs], inputs, [d for _, d in pairs])
        leaves = dict(bound.leaves) | {up[o]: from_torch(g) for o, g in zip(live, gs)}
        leaves |= {d: from_torch(v) for d, v in zip(down, vs) if d is not None}
        for k, (n, d, w) in enumerate(zip(inputs, found, want)):
            got = np.zeros(n.shape) if d is None else evaluate([d], leaves)[0]
            expected = np.zeros(n.shape) if w is None else from_torch(w)
            if op.name == "embedding" and sample.kwargs.get("scale_grad_by_freq"):
                continue  # torch's second gradient forgets the scale that its first one has
            if w is None and op.name == "batch_norm_fixed":
                continue  # torch takes the running figures for constants
            if n.dtype is F64:
                exact = all([o.dtype is F64 for o in live])
                close(f"second gradient of {describe(op, sample)}, {k}", got, expected, 1e-7 if exact else 1e-5)


# -- far from 0 -------------------------------------------------------------------------------------

LOGISTIC = """
L.sigmoid(x)
F.silu(x)
F.softplus(x)
F.mish(x)
F.logsigmoid(x)
F.glu(L.stack([L.ones_like(x), x]), 0)
F.soft_margin_loss(x, L.ones_like(x), reduction='sum')
F.binary_cross_entropy_with_logits(x, 0.3 * L.ones_like(x), reduction='sum')
F.binary_cross_entropy_with_logits(x, 0.3 * L.ones_like(x), reduction='sum', pos_weight=2 * L.ones_like(x))
F.multilabel_soft_margin_loss(x, 0.3 * L.ones_like(x), reduction='sum')
""".strip().splitlines()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LOGISTIC)
def test_derivatives_of_the_logistic_family_far_from_zero(case: str, dtype: str) -> None:
    """The first three: finite where exp overflows, and right at 0, where branches meet."""
    ladder = []
    for library, kind in ((st, dtype), (torch, "float64")):
        x = library.tensor([-1000.0, -300, -104, -90, -50, -1, 0, 1, 50, 90, 104, 300, 1000], dtype=getattr(library, kind))
        x.requires_grad_()
        y, found = eval(case, {"L": library, "F": library.nn.functional, "x": x}), []
        for _ in range(3):
            (y,) = library.autograd.grad(y.sum(), x, create_graph=True)
            found.append(np.asarray(y.tolist()))
        ladder.append(found)
    for order, (ours, theirs) in enumerate(zip(*ladder)):
        loose = 1e-5 if dtype == "float32" else 1e-12
        assert np.all(np.isfinite(ours)), f"derivative {order + 1}: {ours}"
        theirs = np.where(np.isnan(theirs), ours, theirs)  # torch's exp overflows at 1000 in soft_margin_loss and mish
        np.testing.assert_allclose(ours, theirs, loose, loose, err_msg=f"derivative {order + 1} of {case}")


@pytest.mark.parametrize("function", ["logaddexp", "logaddexp2"])
def test_second_derivatives_of_a_sum_in_logarithms(function: str) -> None:
    x = st.tensor([-2000.0, -300, -1, 0, 1, 300, 2000], requires_grad=True)
    (g,) = st.autograd.grad(getattr(st, function)(x, st.zeros_like(x)).sum(), x, create_graph=True)
    (second,) = st.autograd.grad(g.sum(), x)
    base = np.e if function == "logaddexp" else 2.0
    small = base ** -np.abs(np.array(x.tolist()))
    np.testing.assert_allclose(second.numpy(), np.log(base) * small / (1 + small) ** 2, rtol=1e-5, atol=1e-38)


def _derivatives() -> list[tuple[str, Callable[[Any], Any], list[float]]]:
    root, pi = mp.sqrt, mp.pi
    density = lambda x: mp.exp(-x * x / 2) / root(2 * pi)  # noqa: E731
    return [
        ("asin", lambda x: 1 / root((1 - x) * (1 + x)), [0.3, 0.999999, -1 + 1e-12]),
        ("acosh", lambda x: 1 / root((x - 1) * (x + 1)), [1 + 1e-9, 3.0, 1e200]),
        ("asinh", lambda x: 1 / root(1 + x * x), [1e-5, 2.0, -1e200]),
        ("atanh", lambda x: 1 / ((1 - x) * (1 + x)), [0.5, 1 - 1e-12]),
        ("erfc", lambda x: -2 / root(pi) * mp.exp(-x * x), [0.2, 26.0, -20.3]),
        ("erfinv", lambda y: root(pi) / 2 * mp.exp(mp.erfinv(y) ** 2), [0.1, 0.9999999999999, -0.7]),
        ("special.ndtri", lambda p: root(2 * pi) * mp.exp(mp.erfinv(2 * p - 1) ** 2), [1e-9, 0.3, 0.999999]),
        ("special.ndtr", density, [-37.1, 0.3, 36.3]),
        ("special.log_ndtr", lambda x: density(x) / mp.ncdf(x), [-300.0, -2.0, 1.0, 30.7]),
        ("special.erfcx", lambda x: 2 * x * mp.exp(x * x) * mp.erfc(x) - 2 / root(pi), [-3.0, 0.1, 2.0, 91.3, 5000.0]),
        ("special.i0e", lambda x: mp.exp(-abs(x)) * (mp.besseli(1, x) - mp.sign(x) * mp.besseli(0, x)), [0.4, -9.5, 8543.1]),
        ("special.i1e", lambda x: mp.exp(-abs(x)) * (mp.besseli(0, x) - mp.besseli(1, x) / x - mp.sign(x) * mp.besseli(1, x)), [0.4, -9.5, 7000.0]),
        ("sinc", lambda x: (pi * x * mp.cos(pi * x) - mp.sin(pi * x)) / (pi * x * x), [1e-9, 0.002, 0.45, 0.7]),
    ]  # fmt: skip


@pytest.mark.parametrize("case", _derivatives(), ids=lambda c: c[0])
def test_derivatives_keep_their_digits_where_terms_cancel_or_overflow(case: tuple[str, Callable[[Any], Any], list[float]]) -> None:
    name, exact, points = case
    function: Any = st
    for part in name.split("."):
        function = getattr(function, part)
    x = st.tensor(points, dtype=st.float64, requires_grad=True)
    function(x).sum().backward()
    with mp.workdps(200 if name in ("erfinv", "special.ndtri") else 80):
        want = [exact(mp.mpf(p)) for p in points]
        errors = [float(abs((mp.mpf(g) - w) / w)) for g, w in zip(x.grad.numpy().tolist(), want)]
    assert max(errors) < 24 * 2.0**-53, dict(zip(points, errors))
