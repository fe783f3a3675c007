"""Text and back: graphs, kernels and GEMMs, and that printing is fast."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiraltorch import dtypes as dt
from spiraltorch.ir import graph, node, prims, text
from spiraltorch.ir.kernel import Access, Check, Gemm, Kernel, Load, Operand, Param, Phase, Reduce, Slot, Store

slots = st.integers(0, 7).map(Slot)
coefs = st.one_of(slots, st.integers(-3, 3))
dtypes = st.sampled_from(dt.ALL)


@st.composite
def constants(draw):
    d = draw(dtypes)
    if d.kind == "b":
        value = draw(st.booleans())
    elif d.kind in "iu":
        value = draw(st.integers(-(2**63), 2**64 - 1))
    elif d.kind == "c":
        value = draw(st.complex_numbers())
    else:
        value = draw(st.floats(width=64))
    return node.const(value, d, static=draw(st.booleans()))


@st.composite
def accesses(draw):
    axes = sorted(draw(st.sets(st.integers(0, 4), max_size=3)))
    return Access(draw(coefs), tuple((axis, draw(coefs)) for axis in axes))


@st.composite
def expressions(draw):
    """A few roots over shared leaves: every row may appear, types are not meant to fit."""
    pool = [draw(constants())]
    for _ in range(draw(st.integers(1, 12))):
        pick = draw(st.integers(0, 5))
        d = draw(dtypes)
        if pick == 0:
            pool.append(node.make("VALUE", (), draw(st.integers(0, 3)), (), d))
        elif pick == 1:
            pool.append(node.make("SCALAR", (), draw(st.integers(0, 3)), (), d))
        elif pick == 2:
            pool.append(node.make("INDEX", (), draw(accesses()), (), dt.int64))
        elif pick == 3:
            dyn = tuple(draw(st.lists(coefs, max_size=2)))
            guarded = draw(st.booleans())
            src = tuple(draw(st.sampled_from(pool)) for _ in range(len(dyn) + guarded))
            pool.append(node.make("LOAD", src, Load(draw(st.integers(0, 9)), draw(accesses()), dyn, guarded), (), d))
        else:
            row = prims.ROWS[draw(st.sampled_from(sorted(prims.ROWS)))]
            src = tuple(draw(st.sampled_from(pool)) for _ in range(row.arity))
            pool.append(node.make(row.name, src, None, (), d))
    return pool


@st.composite
def phases(draw, pool):
    value = st.sampled_from(pool)
    number = st.integers(0, 9)
    return Phase(
        tuple(draw(st.lists(number, max_size=2))),
        tuple(draw(st.lists(st.builds(Reduce, number, st.sampled_from(prims.REDUCTIONS), value), max_size=2))),
        tuple(draw(st.lists(st.builds(Store, number, accesses(), value, st.none() | value, st.sampled_from(["", "add"])), max_size=3))),
        tuple(draw(st.lists(st.builds(Check, value, st.integers(1, 99)), max_size=1))),
    )


params = st.lists(st.builds(Param, dtypes, st.sampled_from(["in", "out", "inout", "status"])), max_size=4).map(tuple)
scalars = st.lists(dtypes, max_size=3).map(tuple)
axes = st.lists(slots, max_size=4).map(tuple)


@st.composite
def kernels(draw):
    pool = draw(expressions())
    body = tuple(draw(st.lists(phases(pool), max_size=3)))
    lane = draw(st.sampled_from(["row", "inner"]))
    return Kernel(draw(axes), draw(st.integers(0, 3)), lane, draw(st.sampled_from([0, 64])), draw(params),
                  draw(scalars), draw(st.integers(0, 9)), body, draw(st.integers(1, 3)), draw(st.integers(0, 2)))  # fmt: skip


@st.composite
def gemms(draw):
    steps = st.one_of(coefs, st.integers(0, 9).map("p{}".format))
    sides = [Operand(draw(st.integers(0, 5)), draw(steps), draw(steps), tuple(draw(st.lists(coefs, max_size=2))),
                     draw(coefs)) for _ in range(2)]  # fmt: skip
    pool = draw(expressions())
    return Gemm(draw(axes), draw(slots), *sides, draw(dtypes), draw(params), draw(scalars), draw(st.integers(0, 9)),
                draw(phases(pool)))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(kernels())
def test_kernels_round_trip(k):
    printed = text.format_kernel(k)
    assert text.parse_kernel(printed) == k
    assert text.format_kernel(text.parse_kernel(printed)) == printed


@settings(max_examples=60, deadline=None)
@given(gemms())
def test_gemms_round_trip(g):
    assert text.parse_gemm(text.format_gemm(g)) == g


@st.composite
def graphs(draw):
    """Roots over params, buffers, constants, rows and every kind of structural argument."""
    pool = [graph.param(0, (4, 6), dt.float32), graph.param(("s", 1), (), dt.float64), draw(constants())]
    for i in range(draw(st.integers(0, 8))):
        x = draw(st.sampled_from(pool))
        rank = len(x.shape)
        choice = draw(st.integers(0, 6))
        if choice == 0:
            pool.append(graph.buffer(object(), draw(st.sampled_from([(), (0,), (3, 2)])), draw(dtypes)))
        elif choice == 1 and rank:
            pool.append(graph.pad(x, tuple((1, i % 3, i % 2) for _ in x.shape)))
        elif choice == 2 and rank:
            pool.append(graph.slice_(x, tuple((s - 1, -1, -1) for s in x.shape)))
        elif choice == 3 and rank:
            pool.append(graph.reduce(x, draw(st.sampled_from(prims.REDUCTIONS)), (rank - 1,)))
        elif choice == 4 and rank:
            pool.append(graph.scan(x, "add", rank - 1, draw(st.booleans())))
        elif choice == 5 and rank:
            pool.append(graph.permute(x, tuple(reversed(range(rank)))))
        else:
            pool.append(node.scalar("ADD", x, x))
    return draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_graphs_come_back_identical(roots):
    printed = text.format_graph(roots)
    leaves = [n for n in node.toposort(roots) if n.op == "BUFFER"]
    back = text.parse_graph(printed, dict(enumerate(leaves)))
    assert len(back) == len(roots) and all(a is b for a, b in zip(back, roots))
    assert text.format_graph(back) == printed


def test_buffers_without_a_leaf_become_placeholders():
    x = graph.buffer(object(), (3,), dt.float32)
    (back,) = text.parse_graph(text.format_graph([x]))
    assert back is graph.param(("buffer", 0), (3,), dt.float32)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-320, float("inf"), float("-inf"), float("nan"), 0.1])
def test_float_constants_keep_their_bits(value):
    n = node.const(value, dt.float64)
    (back,) = text.parse_graph(text.format_graph([n]))
    assert back is n


def test_constants_of_different_types_differ():
    lines = {text.format_graph([node.const(1, d)]) for d in dt.ALL}
    assert len(lines) == len(dt.ALL)
    assert text.format_graph([node.const(7.5, dt.float32, static=False)]).startswith("%0 = CONST 7.5 dynamic : float32")


def test_node_repr_is_one_short_line():
    x = graph.param(0, (2, 3), dt.float32)
    n = x
    for _ in range(5000):
        n = node.scalar("MUL", n, x)
    assert repr(n) == "MUL(MUL(MUL(..., PARAM 0), PARAM 0), PARAM 0) : float32[2, 3]"
    assert repr(graph.permute(x, (1, 0))) == "PERMUTE(PARAM 0) (1, 0) : float32[3, 2]"


def chain(length):
    at = Access(0, ((0, 1),))
    n = node.make("LOAD", (), Load(0, at), (), dt.float32)
    for _ in range(length):
        n = node.scalar("MUL", n, n)
    store = Phase((), (), (Store(1, at, n),) * 3)
    return Kernel((Slot(0),), 1, "row", 64, (Param(dt.float32), Param(dt.float32, "out")), (), 1, (store,) * 2)


def test_shared_nodes_print_once_and_time_is_linear():
    assert len(text.format_kernel(chain(50)).splitlines()) == 1 + 2 + 51 + 6
    k = chain(20000)
    start = time.perf_counter()
    printed = text.format_kernel(k)
    assert time.perf_counter() - start < 1.0
    assert printed.count("MUL") == 20000
    assert k.key == text.parse_kernel(printed).key


@pytest.mark.parametrize("line", ["%0 = NOSUCH", "store p0[a0 = %1", "phase a0", "what is this"])
def test_nonsense_is_refused_with_the_line(line):
    head = "kernel rows=1 lane=row block=64 axes=(s0) params=() scalars=() slots=1\n"
    with pytest.raises(ValueError, match="not understood"):
        text.parse_kernel(head + "  " + line)
    with pytest.raises(ValueError, match="not understood"):
        text.parse_kernel(line)
    with pytest.raises(ValueError, match="not understood|no 'return'"):
        text.parse_graph(line)
