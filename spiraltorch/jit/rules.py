"""Simplify: rules that make a graph smaller or plainer without changing one bit of its results.

In: roots of a canonical graph.  Out: roots of an equal one.  Nothing here may reorder float
arithmetic; what does (splitting a long reduction) depends on sizes alone, so it is the same for
every run and every number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir import graph, lang
from ..ir.node import Node, cast, is_const, make
from ..ir.prims import ROWS, STRUCTURAL
from ..ir.rewrite import rewrite, rule, rules_of

# A reduction with fewer rows than this and more elements than that is done in two steps, so that
# there is work for every core.
FEW_ROWS = 32
LONG = 1 << 16
# A sum over at least so many rows is made of sums over blocks of at most so many: what walks the rows anyway adds
# them up as it goes (fuse.py).
MANY_ROWS = 512
BLOCK_ROWS = 64


@rule("COPY")
def markers_are_transparent(n: Node) -> Node | None:
    """A COPY that only marked something for autograd is its operand."""
    return n.src[0] if n.arg is not None and n.arg != "not zero" else None


@rule(*sorted((STRUCTURAL | set(ROWS)) - {"BUFFER", "PARAM", "CONST", "EXPAND"}))
def nothing_is_a_constant(n: Node) -> Node | None:
    """What has no elements needs no computing."""
    return None if n.size else graph.full(0, n.shape, n.dtype)


@rule("UPDATE", "SCATTER")
def writing_nothing_changes_nothing(n: Node) -> Node | None:
    return None if n.src[-1].size else n.src[0]


@rule("REDUCE")
def empty_reduction_is_identity(n: Node) -> Node | None:
    if n.src[0].size or not n.size:
        return None
    op = n.arg[0]
    kind = n.dtype.kind
    if op in ("add", "mul"):
        return graph.full(0 if op == "add" else 1, n.shape, n.dtype)
    low = -math.inf if kind == "f" else -(1 << (n.dtype.bits - 1)) if kind == "i" else 0
    high = math.inf if kind == "f" else (1 << (n.dtype.bits - (kind == "i"))) - 1 if kind != "b" else 1
    return graph.full(low if op == "max" else high, n.shape, n.dtype)


@rule("REDUCE")
def size_one_axes_are_dropped(n: Node) -> Node | None:
    """Folding an axis of one element is a reshape."""
    (x,) = n.src
    op, axes = n.arg
    ones = [a for a in axes if x.shape[a] == 1]
    if not ones:
        return None
    shape = tuple([s for i, s in enumerate(x.shape) if i not in ones])
    rest = tuple([a - sum(o < a for o in ones) for a in axes if a not in ones])
    return graph.reduce(graph.reshape(x, shape), op, rest)


@rule("SCAN")
def running_fold_is_a_routine(n: Node) -> Node:
    """A SCAN is a library routine; few long rows go by blocks, so that there is work for every core."""
    from ..kernels.library.scanning import accumulator, blocks_of

    (x,) = n.src
    op, axis, reverse = n.arg
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    blocks = blocks_of(outer, x.shape[axis], inner)
    static = (op, axis, bool(reverse))
    if blocks == 1:
        return graph.call("scanning.scan", (x,), x.shape, x.dtype, *static)
    x = graph.reshape(x, (outer, x.shape[axis]))
    static = (op, 1, bool(reverse))
    wide = accumulator(x.dtype, op)
    totals = graph.call("scanning.totals", (x,), (outer, blocks), wide, *static)
    carry = graph.call("scanning.scan", (totals,), totals.shape, wide, *static)
    return graph.reshape(graph.call("scanning.scan", (x, carry), x.shape, x.dtype, *static), n.shape)


@rule("DOT")
def empty_dot_is_zero(n: Node) -> Node | None:
    if not n.size or all(n.src[0].shape[i] for i in n.arg[2]):
        return None
    return graph.full(0, n.shape, n.dtype)


@rule("DOT")
def dot_is_multiply_and_add(n: Node) -> Node | None:
    """Only sums of floats have a matrix kernel: integers are multiplied and folded, and what sums nothing is pointwise."""
    a, b = n.src
    ba, bb, ca, cb = n.arg
    if n.dtype.kind == "f" and ca:
        return None
    fa = [i for i in range(len(a.shape)) if i not in ba and i not in ca]
    fb = [i for i in range(len(b.shape)) if i not in bb and i not in cb]
    left = graph.permute(a, (*ba, *fa, *ca))
    right = graph.permute(b, (*bb, *fb, *cb))
    nb, na, nf, nk = len(ba), len(fa), len(fb), len(ca)
    left = graph.reshape(left, left.shape[: nb + na] + (1,) * nf + left.shape[nb + na :])
    right = graph.reshape(right, right.shape[:nb] + (1,) * na + right.shape[nb:])
    full = lang.mul(left, right)
    return graph.reduce(full, "add", tuple(range(nb + na + nf, nb + na + nf + nk))) if nk else full


@rule("CAST")
def cast_of_cast(n: Node) -> Node | None:
    """A widening float cast that is undone at once is nothing."""
    (x,) = n.src
    if x.dtype is n.dtype:
        return x
    if x.op == "CAST" and x.src[0].dtype is n.dtype and x.dtype.kind == "f" == n.dtype.kind and x.dtype.itemsize > n.dtype.itemsize:
        return x.src[0]
    return None


@rule("MUL")
def multiply_by_one(n: Node) -> Node | None:
    a, b = n.src
    if is_one(b) and a.shape == n.shape:
        return a
    if is_one(a) and b.shape == n.shape:
        return b
    return None


def is_one(n: Node) -> bool:
    """The constant 1, however it is broadcast."""
    while n.op in ("EXPAND", "RESHAPE", "PERMUTE", "SLICE"):
        n = n.src[0]
    return is_const(n, 1)


@rule("UPDATE")
def full_update_is_value(n: Node) -> Node | None:
    base, value = n.src
    return value if value.shape == base.shape and all(r[2] == 1 for r in n.arg) else None


@rule("REDUCE")
def sum_of_rows_by_blocks(n: Node) -> Node | None:
    """Sums over many rows, each of a column: blocks of rows first, then the blocks' sums."""
    (x,) = n.src
    op, axes = n.arg
    rows = math.prod(x.shape[: len(axes)])
    if op != "add" or n.dtype.kind != "f" or axes != tuple(range(len(axes))) or n.size == 1 or rows < MANY_ROWS:
        return None
    cut, rest = len(axes), BLOCK_ROWS  # whole axes from the last one on, then a part of one
    while x.shape[cut - 1] <= rest:
        cut -= 1
        rest //= x.shape[cut]
    part = _divisor(x.shape[cut - 1], rest)
    shape = (*x.shape[: cut - 1], x.shape[cut - 1] // part, part, *x.shape[cut:])
    block = tuple(range(cut, len(axes) + 1))
    if math.prod(shape[a] for a in block) < BLOCK_ROWS // 4:
        return None
    wide = cast(graph.reshape(x, shape), n.dtype.acc)
    return cast(graph.reduce(graph.reduce(wide, op, block), op, tuple(range(cut))), n.dtype)


@rule("REDUCE")
def long_reduction_in_two_steps(n: Node) -> Node | None:
    """Few results from many elements: fold pieces first, then the pieces' results."""
    (x,) = n.src
    op, axes = n.arg
    folded = math.prod(x.shape[a] for a in axes)
    if n.size >= FEW_ROWS or folded <= LONG:
        return None
    axis = max(axes, key=lambda a: (x.shape[a], -a))
    size = x.shape[axis]
    pieces = _divisor(size, 64)
    if pieces == 1 and size > 128:
        head = size - size % 64
        ranges = [(0, s, 1) for s in x.shape]
        ranges[axis] = (0, head, 1)
        first = graph.reduce(graph.slice_(x, tuple(ranges)), op, axes)
        ranges[axis] = (head, size, 1)
        rest = graph.reduce(graph.slice_(x, tuple(ranges)), op, axes)
        return lang.row({"add": "ADD", "mul": "MUL", "max": "MAX", "min": "MIN"}[op], first, rest)
    if pieces == 1:
        return None
    shape = x.shape[:axis] + (pieces, size // pieces) + x.shape[axis + 1 :]
    inner = tuple([a + (a >= axis) for a in axes])
    left = tuple([s for i, s in enumerate(shape) if i not in inner])
    part = make("REDUCE", (graph.reshape(x, shape),), (op, inner), left, x.dtype)
    at = axis - sum(a < axis for a in axes)
    return graph.reduce(part, op, (at,))


def _divisor(n: int, most: int) -> int:
    """The largest divisor of ``n`` that is at most ``most``."""
    return next((d for d in range(min(most, n), 0, -1) if n % d == 0), 1)


RULES = rules_of(
    nothing_is_a_constant, writing_nothing_changes_nothing, markers_are_transparent, empty_reduction_is_identity,
    size_one_axes_are_dropped, empty_dot_is_zero, dot_is_multiply_and_add, cast_of_cast, multiply_by_one,
    full_update_is_value, sum_of_rows_by_blocks, long_reduction_in_two_steps, running_fold_is_a_routine,
)  # fmt: skip


def simplify(roots: Sequence[Node]) -> list[Node]:
    """The pass: every rule, everywhere, to a fixed point."""
    return rewrite(roots, RULES)
