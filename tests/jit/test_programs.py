"""Random graphs: the definition, the lowered kernels through the interpreter, and native code agree.

Exact graphs hold only operations whose result does not depend on order or library (rounded rows, movement, indexing,
integer and extremal folds): all three must have the same bits.  Smooth graphs add sums, products, matrix products and
transcendental rows: close.  Everything runs with the IR's rules checked between passes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draws

from spiraltorch import dtypes as dt
from spiraltorch.config import config
from spiraltorch.ir import graph, lang, text
from spiraltorch.ir.kernel import Gemm, Kernel
from spiraltorch.ir.node import Node, cast, const, make, scalar, toposort
from spiraltorch.jit.interpret import run_lowered
from spiraltorch.jit.program import Program, build, lower
from spiraltorch.kernels import reference
from spiraltorch.ops.rearrange import joined
from spiraltorch.runtime import buffers

LIMIT = 600  # elements of one value
TYPES = (dt.float32, dt.float32, dt.float32, dt.int64, dt.int32, dt.bool_, dt.float64, dt.bfloat16, dt.float16, dt.uint8)
COMMON = ("WHERE", "MIN", "MAX", "EQ", "NE", "LT", "LE", "CAST")
EXACT = {
    "b": (*COMMON, "AND", "OR", "XOR", "NOT"),
    "f": (*COMMON, "ADD", "SUB", "MUL", "DIV", "NEG", "ABS", "SQRT", "FLOOR", "CEIL", "TRUNC", "ROUND", "FMA"),
    "i": (*COMMON, "ADD", "SUB", "MUL", "IDIV", "REM", "NEG", "ABS", "AND", "OR", "XOR", "NOT", "SHL", "SHR"),
}
EXACT["u"] = EXACT["i"]
SMOOTH = ("ADD", "SUB", "MUL", "TANH", "SIN", "COS", "ERF", "ATAN", "EXP2", "LOG1P", "DIV", "SQRT", "MAX", "NEG")
MOVES = ("reshape", "permute", "slice", "expand", "pad", "window", "diagonal", "flip")
EXACT_KINDS = ("row", "row", "row", "move", "move", "cat", "update", "fold", "gather", "broadcast")
SMOOTH_KINDS = ("row", "row", "move", "cat", "fold", "dot", "dot", "broadcast", "softmax", "gather")


@pytest.fixture(autouse=True)
def _verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "verify", True)


checked = settings(
    deadline=None, derandomize=True, database=None, print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip


# -- random graphs ---------------------------------------------------------------------------------------------


class Maker:
    """Draws a graph step by step; every step adds one value that earlier values make possible."""

    def __init__(self, rng: random.Random, exact: bool) -> None:
        self.rng, self.exact = rng, exact
        self.values: list[Node] = []
        self.params: list[Node] = []
        for _ in range(self.number(1, 3)):
            self.param(self.shape(), self.pick(TYPES) if exact else dt.float32)

    def number(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def pick(self, options: Any) -> Any:
        return self.rng.choice(list(options))

    def order(self, rank: int) -> tuple[int, ...]:
        return tuple(self.rng.sample(range(rank), rank))

    def shape(self) -> tuple[int, ...]:
        sizes = (0, 1, 2, 3) if self.exact and not self.number(0, 15) else (1, 2, 3, 4, 5, 7, 16, 17)
        return tuple([self.pick(sizes) for _ in range(self.pick((0, 1, 1, 2, 2, 2, 3, 3)))])

    def param(self, shape: tuple[int, ...], d: dt.DType) -> Node:
        n = graph.param(len(self.params), shape, d)
        self.params.append(n)
        self.values.append(n)
        return n

    def grow(self, steps: int) -> list[Node]:
        """About ``steps`` more values; the outputs are the last one and some others."""
        kinds = EXACT_KINDS if self.exact else SMOOTH_KINDS
        for _ in range(steps):
            x = self.values[-self.number(1, min(4, len(self.values)))]
            n = getattr(self, self.pick(kinds))(x)
            if n is not None and n.size <= LIMIT:
                self.values.append(n)
        made = [v for v in self.values if v not in self.params] or [scalar("MAX", self.values[0], self.values[0])]
        outs = {made[-1]: None}
        for _ in range(self.number(0, 2)):
            outs.setdefault(self.pick(made))
        return list(outs)

    # one method for each kind of step

    def other(self, x: Node, d: dt.DType | None = None) -> Node:
        """A second operand of x's shape: another value, or a constant."""
        d = d or x.dtype
        fits = [v for v in self.values if v.shape == x.shape and v.dtype is d]
        if fits and self.number(0, 4):
            return self.pick(fits)  # type: ignore[no-any-return]
        if d is dt.bool_:
            return scalar("LT", x, x) if self.number(0, 1) else scalar("LE", x, x)
        return graph.full(self.pick((0, 1, 2, 3, 0.5, -1.25, 100)), x.shape, d, static=self.number(0, 1) == 1)

    def row(self, x: Node) -> Node:
        if not self.exact:
            return self.smooth_row(x)
        op = self.pick(EXACT[x.dtype.kind])
        if op == "WHERE":
            return scalar(op, self.other(x, dt.bool_), x, self.other(x))
        if op == "CAST":
            target = self.pick(TYPES)
            if x.dtype.kind == "f" and target.kind in "iu":  # inside what the conversion defines
                x = scalar("WHERE", scalar("EQ", x, x), x, graph.full(0, x.shape, x.dtype))
                x = scalar("MIN", scalar("MAX", x, graph.full(0, x.shape, x.dtype)), graph.full(100, x.shape, x.dtype))
            return cast(x, target)
        if op in ("IDIV", "REM"):
            return scalar(op, x, scalar("OR", self.other(x), graph.full(1, x.shape, x.dtype)))
        if op == "FMA":
            return scalar(op, x, self.other(x), self.other(x))
        if op in ("NEG", "ABS", "SQRT", "FLOOR", "CEIL", "TRUNC", "ROUND", "NOT"):
            return scalar(op, x)
        a, b = (x, self.other(x)) if self.number(0, 1) else (self.other(x), x)
        return scalar(op, a, b)

    def smooth_row(self, x: Node) -> Node:
        op = self.pick(SMOOTH)
        if op in ("ADD", "SUB", "MAX"):
            return scalar(op, x, self.other(x))
        if op in ("MUL", "SIN", "COS"):  # nothing grows without bound, nothing depends on many turns of a circle
            x = scalar("TANH", x)
            return scalar(op, x, self.other(x)) if op == "MUL" else scalar(op, x)
        if op == "DIV":
            y = self.other(x)
            return scalar(op, x, lang.add(scalar("MUL", y, y), 1.0))
        if op in ("SQRT", "LOG1P"):
            return scalar(op, lang.add(scalar("MUL", x, x), 0.25))
        if op == "EXP2":
            return scalar(op, scalar("TANH", x))
        return scalar(op, x)

    def broadcast(self, x: Node) -> Node | None:
        y = self.pick(self.values)
        if y.dtype is not x.dtype:
            return None
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            return None
        op = "ADD" if x.dtype.kind in "fi" else "MAX"
        return scalar(op, graph.broadcast(x, shape), graph.broadcast(y, shape)) if math.prod(shape) <= LIMIT else None

    def move(self, x: Node) -> Node | None:
        rank = len(x.shape)
        match self.pick(MOVES):
            case "reshape":
                sizes = [k for s in x.shape for k in factors(s)] or [1]
                cut = self.number(0, len(sizes))
                return graph.reshape(x, (math.prod(sizes[:cut]), math.prod(sizes[cut:])))
            case "permute":
                return graph.permute(x, self.order(rank))
            case "slice":
                return graph.slice_(x, tuple([self.range(s) for s in x.shape]))
            case "flip":
                return graph.slice_(x, tuple([(s - 1, -1, -1) if s and self.number(0, 1) else (0, s, 1) for s in x.shape]))
            case "expand":
                at = self.number(0, rank)
                one = graph.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))
                return graph.expand(one, (*x.shape[:at], self.number(1, 4), *x.shape[at:]))
            case "pad" if all(x.shape):
                return graph.pad(x, tuple([(self.number(0, 2), self.number(0, 2), self.number(0, 1)) for _ in x.shape]))
            case "window" if rank and rank < 4 and all(x.shape):
                axis = self.number(0, rank - 1)
                size = self.number(1, x.shape[axis])
                dilation = 1 if size == 1 else self.number(1, (x.shape[axis] - 1) // (size - 1))
                return graph.window(x, axis, size, self.number(1, 3), dilation)
            case "diagonal" if rank > 1 and all(x.shape):
                a, b = self.order(rank)[:2]
                return graph.diagonal(x, self.number(-1, 1), a, b)
        return None

    def range(self, size: int) -> tuple[int, int, int]:
        if not size:
            return 0, 0, 1
        start = self.number(0, size - 1)
        return start, self.number(start, size), self.number(1, 3)

    def cat(self, x: Node) -> Node | None:
        if not x.shape:
            return None
        axis = self.number(0, len(x.shape) - 1)
        fits = [
            v for v in self.values
            if v.dtype is x.dtype and len(v.shape) == len(x.shape) and all(a == b for k, (a, b) in enumerate(zip(v.shape, x.shape)) if k != axis)
        ]  # fmt: skip
        return joined([x, *[self.pick(fits) for _ in range(self.number(1, 2))]], axis)

    def update(self, x: Node) -> Node | None:
        if not x.size:
            return None
        region = tuple([self.range(s) for s in x.shape])
        shape = tuple([graph.slice_length(r) for r in region])
        values = [v for v in self.values if v.shape == shape and v.dtype is x.dtype]
        return graph.update(x, region, self.pick(values) if values else graph.full(3, shape, x.dtype))

    def fold(self, x: Node) -> Node:
        axes = tuple([k for k in range(len(x.shape)) if self.number(0, 1)])
        ops = ("max", "min") if self.exact and x.dtype.kind in "fb" else ("add", "mul", "max", "min") if self.exact else ("add", "add", "max")
        return graph.reduce(x, self.pick(ops), axes)

    def gather(self, x: Node) -> Node | None:
        if not x.size or not x.shape:
            return None
        axis = self.number(0, len(x.shape) - 1)
        count = self.number(1, 5)
        index = scalar("REM", lang.mul(graph.iota((count,), 0), self.number(1, 7)), graph.full(x.shape[axis], (count,), dt.int64))
        return graph.gather(x, index, axis)

    def dot(self, x: Node) -> Node | None:
        if not x.shape:
            return None
        k = self.number(0, len(x.shape) - 1)
        fits = [(v, j) for v in self.values for j, s in enumerate(v.shape) if s == x.shape[k]]
        y, j = self.pick(fits)
        if len(x.shape) + len(y.shape) > 5 or not x.shape[k]:
            return None
        product = graph.dot(scalar("TANH", x), scalar("TANH", y), (), (), (k,), (j,))
        return lang.mul(product, 0.5) if self.number(0, 1) else product

    def softmax(self, x: Node) -> Node | None:
        if not x.shape or not x.size:
            return None
        axis = (self.number(0, len(x.shape) - 1),)
        e = scalar("EXP", scalar("SUB", x, graph.expand(lang.fold("max", x, axis, keepdim=True), x.shape)))
        return scalar("DIV", e, graph.expand(lang.fold("add", e, axis, keepdim=True), x.shape))


def factors(n: int) -> list[int]:
    return next(([d, n // d] for d in (2, 3, 5) if n > d and n % d == 0), [n])


@draws.composite
def graphs(draw: Any, exact: bool, most: int = 14) -> tuple[list[Node], list[Node], int]:
    """(outputs, params, seed of the data)."""
    maker = Maker(draw(draws.randoms(use_true_random=False)), exact)
    outs = maker.grow(maker.number(most // 3, most))
    return outs, maker.params, maker.number(0, 1000)


# -- running them ------------------------------------------------------------------------------------------------


def inputs_for(params: list[Node], seed: int, awkward: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    out = []
    for p in params:
        if p.dtype.kind == "f":
            a = rng.standard_normal(p.shape) * 3
            if awkward and a.size > 4:
                a.reshape(-1)[rng.permutation(a.size)[:5]] = [np.nan, np.inf, -np.inf, 0.0, 1e-6]
        else:
            a = rng.integers(0 if p.dtype.kind in "bu" else -50, 2 if p.dtype.kind == "b" else 50, p.shape)
        out.append(a.astype(np.float32).astype(p.dtype.np) if p.dtype.itemsize == 2 else np.asarray(a).astype(p.dtype.np))
    return out


def canonical(roots: list[Node]) -> tuple[list[Node], list[Any]]:
    """Numbers that Python computed become run-time scalars, as eager mode makes them."""
    numbers = [n for n in toposort(roots) if n.op == "CONST" and not n.arg.static]
    memo: dict[Node, Node] = {n: graph.param(("s", k), (), n.dtype) for k, n in enumerate(numbers)}
    for n in toposort(roots):
        if n not in memo:
            memo[n] = make(n.op, tuple([memo[s] for s in n.src]), n.arg, n.shape, n.dtype)
    return [memo[r] for r in roots], numbers


def native(program: Program, arrays: list[np.ndarray], roots: list[Node], scalars: list[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(outputs, inputs afterwards)."""
    bound = []
    for a in arrays:
        b = buffers.allocate(a.nbytes)
        if a.size:
            b.view(a.dtype, a.shape)[...] = a
        bound.append(b)
    outs = program.run(bound, scalars)
    return [b.view(r.dtype.np, r.shape).copy() for b, r in zip(outs, roots)], [b.view(a.dtype, a.shape).copy() for b, a in zip(bound, arrays)]


def definition(roots: list[Node], params: list[Node], arrays: list[np.ndarray]) -> list[np.ndarray]:
    return reference.evaluate(roots, dict(zip(params, arrays)))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal values, nan where nan; which zero a tie of MIN or MAX gives is open."""
    a, b = np.asarray(a), np.asarray(b).reshape(np.shape(a))
    if a.dtype.kind not in "biu":
        a, b = a.astype(np.float64), b.astype(np.float64)
        return bool(np.array_equal(a, b, equal_nan=True))
    return bool(np.array_equal(a, b))


def show(roots: list[Node], *arrays: Any) -> str:
    return "\n".join([text.format_graph(roots), *map(str, arrays)])


def program_of(roots: list[Node], params: list[Node], donated: list[int | None]) -> tuple[Program, list[Any]]:
    form, numbers = canonical(roots)
    types = [n.dtype for n in numbers]
    return build(form, donated, [(p.shape, p.dtype) for p in params], types), [n.arg.value for n in numbers]


def compare_all(roots: list[Node], params: list[Node], arrays: list[np.ndarray], agree: Callable[[np.ndarray, np.ndarray], bool]) -> None:
    expected = definition(roots, params, arrays)
    form, numbers = canonical(roots)
    lowered = lower(form, [None] * len(form))
    scalars = [n.dtype.np.type(n.arg.value) for n in numbers]
    with np.errstate(all="ignore"):
        interpreted = run_lowered(lowered, arrays, scalars)
    for e, got in zip(expected, interpreted):
        assert agree(e, got.reshape(e.shape)), show(roots, "definition", e, "lowered", got)
    program, values = program_of(roots, params, [None] * len(roots))
    outs, after = native(program, arrays, roots, values)
    for e, got in zip(expected, outs):
        assert agree(e, got), show(roots, "definition", e, "native", got)
    for a, b in zip(arrays, after):
        assert same_bits(a, b), "an input was changed"
    round_trip(roots, lowered.kernels)


def round_trip(roots: list[Node], kernels: list[Any]) -> None:
    assert text.parse_graph(text.format_graph(roots)) == roots
    for k in kernels:
        if isinstance(k, Kernel):
            assert text.parse_kernel(text.format_kernel(k)) == k
        elif isinstance(k, Gemm):
            assert text.parse_gemm(text.format_gemm(k)) == k


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(b.astype(np.float64), a.astype(np.float64), rtol=2e-4, atol=2e-4 * max(1.0, float(np.abs(a).max(initial=0))), equal_nan=True)


# -- tests -----------------------------------------------------------------------------------------------------------


@settings(checked, max_examples=220)
@given(graphs(exact=True))
def test_exact_graphs_have_the_same_bits(case: Any) -> None:
    roots, params, seed = case
    compare_all(roots, params, inputs_for(params, seed, awkward=True), same_bits)


@settings(checked, max_examples=160)
@given(graphs(exact=False))
def test_smooth_graphs_are_close(case: Any) -> None:
    roots, params, seed = case
    compare_all(roots, params, inputs_for(params, seed, awkward=False), close)


def donations(roots: list[Node], params: list[Node]) -> Iterator[list[int | None]]:
    """Ways to let outputs take over inputs of their size and type."""
    taken: list[int | None] = []
    for r in roots:
        free = [k for k, p in enumerate(params) if p.dtype is r.dtype and p.shape == r.shape and k not in taken]
        taken.append(free[0] if free else None)
    if any(t is not None for t in taken):
        yield taken
    for j, t in enumerate(taken):
        if t is not None and len(roots) > 1:
            yield [t if i == j else None for i in range(len(roots))]


@settings(checked, max_examples=200)
@given(graphs(exact=True, most=6))
def test_donated_inputs_give_the_same_results(case: Any) -> None:
    roots, params, seed = case
    arrays = inputs_for(params, seed, awkward=True)
    # Something that every input could be overwritten by, and reads that come before or after.
    roots = list(dict.fromkeys([*roots, *[scalar("MAX", p, graph.full(0, p.shape, p.dtype)) for p in params]]))
    expected = definition(roots, params, arrays)
    for donated in donations(roots, params):
        program, values = program_of(roots, params, donated)
        outs, after = native(program, arrays, roots, values)
        for e, got in zip(expected, outs):
            assert same_bits(e, got), show(roots, donated, e, got)
        for k, (a, b) in enumerate(zip(arrays, after)):
            assert k in donated or same_bits(a, b), show(roots, donated, f"input {k} was changed")


@settings(checked, max_examples=12)
@given(graphs(exact=True, most=4))
def test_numba_spelling(case: Any) -> None:
    roots, params, seed = case
    arrays = inputs_for(params, seed, awkward=True)
    before, config.cpu = config.cpu, "numba"
    try:
        program, values = program_of(roots, params, [None] * len(roots))
        outs, _ = native(program, arrays, roots, values)
    finally:
        config.cpu = before
    for e, got in zip(definition(roots, params, arrays), outs):
        assert same_bits(e, got), show(roots, e, got)


def test_comparison_sees_differences() -> None:
    x = graph.param(0, (3,), dt.float32)
    with pytest.raises(AssertionError):
        compare_all([scalar("ADD", x, const(1.0, dt.float32))], [x], [np.zeros(3, np.float32)], lambda a, b: same_bits(a, b + 1))
    assert not same_bits(np.array([np.nan]), np.array([1.0])) and same_bits(np.array([0.0]), np.array([-0.0]))


def test_a_flat_look_up_in_what_the_same_kernel_could_compute() -> None:
    """A position in the flattened value is no row of it, so the value is read from memory."""
    a, b = (graph.param(k, (2, 3), dt.float32) for k in range(2))
    at = graph.param(2, (6,), dt.int64)
    total = graph.reshape(lang.add(a, b), (6,))
    taken = lang.where(lang.le(at, 1), graph.gather(total, at, 0), total)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 10, np.float32), np.array([1, 1, 5, 4, 0, 0])]
    compare_all([taken], [a, b, at], arrays, same_bits)
