"""Reverse-mode differentiation of graphs: what each primitive's transpose is.

In: output nodes, the input nodes to stop at, a gradient node for each output.  Out: a gradient node
for each input, or None where no gradient flows.  The results are ordinary nodes, so they fuse with
everything else and can be differentiated again.

Scalar rows say their derivative in ``prims.ROWS``; the structural operations are here.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..errors import SpiralError
from ..ir import graph, lang, prims
from ..ir.graph import slice_length
from ..ir.node import Node, cast, make, scalar, toposort

Grads = Sequence[Node | None]

_WORDS: dict[str, Any] = {
    "neg": lang.neg, "exp": lang.exp, "log": lang.log, "sin": lang.sin, "cos": lang.cos, "rsqrt": lang.rsqrt,
    "trunc": lang.trunc, "sign": lang.sign, "where": lang.where, "pow": lang.pow_, "tie": lang.tie,
    "real": lang.real, "cast_like": lambda g, a: cast(g, a.dtype),
}  # fmt: skip


class _Equality(ast.NodeTransformer):
    """``a == b`` in a derivative means the row EQ, not Python identity of nodes."""

    def visit_Compare(self, n: ast.Compare) -> ast.AST:
        self.generic_visit(n)
        if isinstance(n.ops[0], ast.Eq):
            name = ast.Name("eq", ast.Load())
            return ast.copy_location(ast.Call(name, [n.left, n.comparators[0]], []), n)
        return n


@functools.cache
def _derivative(op: str) -> tuple[Callable[..., Node] | None, ...]:
    out: list[Callable[..., Node] | None] = []
    for text in prims.ROWS[op].derivative:
        if text is None:
            out.append(None)
            continue
        tree = _Equality().visit(ast.parse(f"lambda a, b, c, out, g: {text}", mode="eval"))
        code = compile(ast.fix_missing_locations(tree), f"<derivative of {op}>", "eval")
        out.append(eval(code, {**_WORDS, "eq": lang.eq}))
    return tuple(out)


@functools.cache
def derivative_names(op: str) -> tuple[frozenset[str], ...]:
    """Per operand, which of ``a b c out`` its derivative looks at: what the tape must save."""
    names = []
    for text in prims.ROWS[op].derivative:
        found = {n.id for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Name)} if text else set()
        names.append(frozenset(found & {"a", "b", "c", "out"}))
    return tuple(names)


def _row(n: Node, g: Node, out: Node, wanted: Sequence[bool]) -> Grads:
    rules = _derivative(n.op)
    src = n.src
    full = [s if s.op == "CONST" else graph.expand(s, n.shape) for s in src]
    if n.dtype.kind == "c":  # rows are analytic with real coefficients: the transpose of f'(a) is f'(conj a)
        full, out = [lang.conj(s) for s in full], lang.conj(out)
    a, b, c = (full + [None, None])[:3]  # type: ignore[list-item]
    grads: list[Node | None] = []
    for rule, s, needed in zip(rules, src, wanted):
        if rule is None or not needed:
            grads.append(None)
        else:
            grads.append(lang.unbroadcast(graph.expand(rule(a, b, c, out, g), n.shape), s.shape))
    return grads + [None] * (len(src) - len(grads))


def _reduce(n: Node, g: Node, out: Node) -> Grads:
    (x,) = n.src
    op, axes = n.arg
    kept = lang.kept_shape(x.shape, axes)
    wide = graph.expand(graph.reshape(g, kept), x.shape)
    if op == "add" or (op == "mul" and lang.count(x.shape, axes) == 1):
        return [wide]
    x, out = lang.conj(x), lang.conj(out)
    out = graph.expand(graph.reshape(out, kept), x.shape)
    if op == "mul":
        return [wide * _others(x, out, axes)]
    hit = lang.eq(x, out) | (lang.isnan(x) & lang.isnan(out))
    share = lang.fold("add", cast(hit, x.dtype), axes, keepdim=True)
    return [lang.where(hit, wide / graph.expand(share, x.shape), 0)]


def _others(x: Node, out: Node, axes: Sequence[int]) -> Node:
    """For each element the product of the others along ``axes``, as torch has it: ``out``, the whole product, over the element
    where no 0 is in ``x`` at all; of a whole tensor with several 0, never nan."""
    zero = lang.eq(x, 0)
    quotient = out / lang.where(zero, 1, x)  # its own derivative too is finite where it is not taken
    found = quotient
    far = [] if x.dtype.kind == "c" else [lang.isnan(x) | lang.eq(lang.absolute(x), math.inf)]
    for odd in [zero, *far]:
        many = lang.fold("add", cast(odd, x.dtype), axes, keepdim=True)
        rest = lang.fold("mul", lang.where(odd, 1, x), axes, keepdim=True)
        # Of several zeros or infinities one more does not matter, but for its sign; and of two zeros each has a slope in the other.
        if odd is zero:
            other = lang.fold("add", lang.where(odd, x, 0), axes, keepdim=True) - x
            several = lang.where(lang.eq(many, 2), other * rest, out)
        else:
            several = lang.where(lang.lt(x, 0), -out, out)
        found = lang.where(odd, lang.where(lang.eq(many, 1), rest, several), found)
    if len(axes) == len(x.shape) and far:
        several = lang.lt(1, lang.fold("add", cast(zero, x.dtype), axes, keepdim=True))
        found = lang.where(several & lang.isnan(found), 0, found)
    return lang.where(lang.fold("max", zero, range(len(x.shape)), keepdim=True), found, quotient)


def _reshape(n: Node, g: Node) -> Grads:
    return [graph.reshape(g, n.src[0].shape)]


def _permute(n: Node, g: Node) -> Grads:
    inverse = [0] * len(n.arg)
    for i, k in enumerate(n.arg):
        inverse[k] = i
    return [graph.permute(g, tuple(inverse))]


def _expand(n: Node, g: Node) -> Grads:
    return [lang.unbroadcast(g, n.src[0].shape)]


def _slice(n: Node, g: Node) -> Grads:
    widths, flips = [], []
    for (start, stop, step), size in zip(n.arg, n.src[0].shape):
        length = slice_length((start, stop, step))
        flips.append((length - 1, -1, -1) if step < 0 else (0, length, 1))
        first, last = (start, start + (length - 1) * step)[:: 1 if step > 0 else -1] if length else (0, -1)
        widths.append((first, size - 1 - last, abs(step) - 1))
    return [graph.pad(graph.slice_(g, tuple(flips)), tuple(widths))]


def unpad_ranges(widths: Sequence[tuple[int, int, int]], shape: Sequence[int]) -> tuple[graph.Range, ...]:
    """The slice that takes out what ``pad`` with ``widths`` put a tensor of ``shape`` into."""
    return tuple([(b, b + max(0, (s - 1) * (i + 1) + 1) if s else b, i + 1) for (b, _, i), s in zip(widths, shape)])


def _pad(n: Node, g: Node) -> Grads:
    return [graph.slice_(g, unpad_ranges(n.arg, n.src[0].shape))]


def _window(n: Node, g: Node) -> Grads:
    axis, size, stride, dilation = n.arg
    length, count = n.src[0].shape[axis], n.shape[axis]
    total: Node | None = None
    for k in range(size):
        at = tuple([(0, s, 1) for s in n.shape[:-1]]) + ((k, k + 1, 1),)
        piece = graph.reshape(graph.slice_(g, at), n.shape[:-1])
        before = k * dilation
        after = length - before - ((count - 1) * stride + 1)
        widths = [(0, 0, 0)] * (len(n.shape) - 1)
        widths[axis] = (before, after, stride - 1)
        piece = graph.pad(piece, tuple(widths))
        total = piece if total is None else total + piece
    return [total]


def _diagonal(n: Node, g: Node) -> Grads:
    (x,) = n.src
    return [graph.set_diagonal(graph.full(0, x.shape, g.dtype), g, *n.arg)]


def _gather(n: Node, g: Node) -> Grads:
    x, index = n.src
    wide = x.dtype.acc  # 16-bit floats are summed in float32
    zeros, up = graph.full(0, x.shape, wide), cast(g, wide)
    if not isinstance(n.arg, int):
        place = graph.reshape(_flat_position(x.shape, index, n.arg[1]), (index.size,))
        flat = graph.scatter_add(graph.reshape(zeros, (x.size,)), place, graph.reshape(up, (index.size,)), 0)
        return [cast(graph.reshape(flat, x.shape), x.dtype), None]
    axis, rank = n.arg, len(index.shape)
    # SCATTER adds along the axis; an index of rank != 1 is flattened into one axis first.
    up = graph.reshape(up, g.shape[:axis] + (index.size,) + g.shape[axis + rank :])
    return [cast(graph.scatter_add(zeros, graph.reshape(index, (index.size,)), up, axis), x.dtype), None]


def _scatter(n: Node, g: Node) -> Grads:
    base, index, values = n.src
    axis, op = n.arg
    if op in ("max", "min"):
        return _scatter_extreme(n, g)
    if op == "mul":
        return _scatter_product(n, g)
    kept = g if op == "add" else graph.scatter(g, index, graph.full(0, values.shape, g.dtype), axis, "set")
    return [kept, None, graph.gather(g, index, axis)]


def _scatter_extreme(n: Node, g: Node) -> Grads:
    """All that are equal to the result share its gradient."""
    base, index, values = n.src
    axis = n.arg[0]
    stays, wins = lang.eq(base, n), lang.eq(values, graph.gather(n, index, axis))
    share = g / graph.scatter_add(cast(stays, g.dtype), index, cast(wins, g.dtype), axis)
    return [lang.where(stays, share, 0), None, lang.where(wins, graph.gather(share, index, axis), 0)]


def _scatter_product(n: Node, g: Node) -> Grads:
    """The product of the others; a factor 0 is left out of the product where it is the only one."""
    base, index, values, out = lang.conj(n.src[0]), n.src[1], lang.conj(n.src[2]), lang.conj(n)
    axis = n.arg[0]
    filled = lang.where(lang.eq(base, 0), 1, base)
    kept = g * graph.scatter(filled, index, values, axis, "mul") / filled
    zero = lang.eq(values, 0)
    zeros = graph.scatter_add(graph.full(0, base.shape, g.dtype), index, cast(zero, g.dtype), axis)
    alone = zero & lang.eq(graph.gather(zeros, index, axis), 1)
    without = graph.scatter(base, index, lang.where(alone, 1, values), axis, "mul")
    others = graph.gather(g * out, index, axis) / lang.where(zero, 1, values)
    return [kept, None, lang.where(alone, graph.gather(g * without, index, axis), others)]


def _update(n: Node, g: Node) -> Grads:
    base, values = n.src
    return [graph.update(g, n.arg, graph.full(0, values.shape, g.dtype)), graph.slice_(g, n.arg)]


def _dot(n: Node, g: Node) -> Grads:
    a, b = n.src
    ba, bb, ca, cb = n.arg
    nb = len(ba)
    fa = [i for i in range(len(a.shape)) if i not in ba and i not in ca]
    fb = [i for i in range(len(b.shape)) if i not in bb and i not in cb]
    g_batch = tuple(range(nb))
    g_a = tuple(range(nb, nb + len(fa)))
    g_b = tuple(range(nb + len(fa), nb + len(fa) + len(fb)))
    # d a: contract g's b-axes with b's free axes -> axes (batch, free a, contracted of b in b's order)
    da = graph.dot(g, lang.conj(b), g_batch, bb, g_b, tuple(fb))
    order_b = sorted(range(len(cb)), key=lambda i: cb[i])
    place = list(ba) + fa + [ca[i] for i in order_b]
    da = graph.permute(da, tuple([place.index(i) for i in range(len(a.shape))]))
    db = graph.dot(lang.conj(a), g, ba, g_batch, tuple(fa), g_a)
    order_a = sorted(range(len(ca)), key=lambda i: ca[i])
    place = list(bb) + [cb[i] for i in order_a] + fb
    db = graph.permute(db, tuple([place.index(i) for i in range(len(b.shape))]))
    return [da, db]


def _copy(n: Node, g: Node) -> Grads:
    return [None if n.arg == "detach" else g]


def _scan(n: Node, g: Node) -> Grads:
    op, axis, reverse = n.arg
    (x,) = n.src
    if op == "add":
        return [graph.scan(g, op, axis, not reverse)]
    if op == "mul":
        return [_running_product(n, x, g, axis, reverse)]
    if op == "logaddexp" and n.dtype.kind == "c":
        return [lang.conj(lang.exp(graph.scan(lang.log(lang.conj(g)) - n, op, axis, not reverse) + x))]
    if op == "logaddexp":
        # sum of g exp(x - n) over the later elements, the positive and the negative part in logarithms
        total = lang.where(lang.eq(n, float("-inf")), float("inf"), n)  # nothing so far: no share
        parts = []
        for up in (g, lang.neg(g)):
            size = lang.where(lang.lt(0, up), lang.log(up), float("-inf"))
            parts.append(lang.exp(graph.scan(size - total, op, axis, not reverse) + x))
        return [parts[0] - parts[1]]
    raise SpiralError(f"the gradient of a running '{op}' is not defined on this level")


def _running_product(n: Node, x: Node, g: Node, axis: int, reverse: bool) -> Node:
    """Before the first 0 the later products over x; at it, the products without it; behind it 0, with a slope in that 0."""
    n, x = lang.conj(n), lang.conj(x)
    none = lang.eq(x, 0)
    zeros = graph.scan(cast(none, dtypes.int64), "add", axis, reverse)
    first, second = none & lang.eq(zeros, 1), none & lang.eq(zeros, 2)
    divisor = lang.where(none, 1, x)
    later = graph.scan(g * n, "add", axis, not reverse) / divisor
    at = graph.scan(g * graph.scan(lang.where(first, 1, x), "mul", axis, reverse), "add", axis, not reverse)
    past = graph.scan(g * graph.scan(lang.where(first | second, 1, x), "mul", axis, reverse), "add", axis, not reverse)
    behind = lang.where(second, past, lang.where(lang.eq(zeros, 1), at / divisor, 0))
    zero = graph.scan(lang.where(first, x, 0), "add", axis, reverse)
    behind = lang.where(lang.lt(lang.absolute(behind), math.inf), zero * behind, 0)
    return lang.where(lang.eq(zeros, 0), later, lang.where(first, at, behind))


def take_along(x: Node, index: Node, axis: int) -> Node:
    """``x[.., index[.., i, ..], ..]`` with ``index`` of x's rank (torch.gather)."""
    return graph.gather_along(x, index, axis)


def _flat_position(shape: Sequence[int], index: Node, axis: int) -> Node:
    """Flat positions in an array of ``shape`` that a gather along ``axis`` at ``index`` reads."""
    position: Node | None = None
    stride = 1
    for ax in range(len(shape) - 1, -1, -1):
        at = index if ax == axis else graph.iota(index.shape, ax)
        term = at * stride if stride != 1 else at
        position = term if position is None else position + term
        stride *= shape[ax]
    assert position is not None
    return position


def _real(n: Node, g: Node) -> Grads:
    return [lang.complex_(g, 0)]


def _imag(n: Node, g: Node) -> Grads:
    return [lang.complex_(0, g)]


def _complex(n: Node, g: Node) -> Grads:
    return [graph.real(g), graph.imag(g)]


def _as_real(n: Node, g: Node) -> Grads:
    return [graph.as_complex(g)]


def _as_complex(n: Node, g: Node) -> Grads:
    return [graph.as_real(g)]


#: ``(n, g, out) -> one gradient per operand`` of the library routines that have a derivative, by name
CALLS: dict[str, Callable[[Node, Node, Node], Grads]] = {}


def routine_gradient(*names: str) -> Callable[[Callable[[Node, Node, Node], Grads]], Callable[[Node, Node, Node], Grads]]:
    """Register the decorated rule as the derivative of CALLs of these routines; it is made of nodes, so it has one too."""

    def register(rule: Callable[[Node, Node, Node], Grads]) -> Callable[[Node, Node, Node], Grads]:
        CALLS.update(dict.fromkeys(names, rule))
        return rule

    return register


def _call(n: Node, g: Node, out: Node) -> Grads:
    """By the routine's rule, or by its body in nodes."""
    from ..kernels.library.routine import find

    name, static = n.arg
    if name in CALLS:
        return CALLS[name](n, g, out)
    body = find(name).body
    if body is None:
        raise SpiralError(f"the derivative of {name} is not implemented")
    holes = [graph.param(("hole", i), m.shape, m.dtype) for i, m in enumerate(n.src)]
    return vjp([body(static, *holes)], holes, [g], dict(zip(holes, n.src)))


def _none(n: Node, g: Node) -> Grads:
    return [None] * len(n.src)


_RULES: dict[str, Callable[[Node, Node], Grads]] = {
    "RESHAPE": _reshape, "PERMUTE": _permute, "EXPAND": _expand, "SLICE": _slice, "PAD": _pad,
    "WINDOW": _window, "DIAGONAL": _diagonal, "GATHER": _gather, "SCATTER": _scatter, "UPDATE": _update, "DOT": _dot,
    "REAL": _real, "IMAG": _imag, "COMPLEX": _complex, "AS_REAL": _as_real, "AS_COMPLEX": _as_complex,
    "COPY": _copy, "SCAN": _scan, "RANDOM": _none, "IOTA": _none,
}  # fmt: skip


def vjp(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    grads: Sequence[Node | None],
    known: dict[Node, Node] | None = None,
) -> list[Node | None]:
    """Gradients of ``sum(grads * outputs)`` with respect to ``inputs``.

    ``known`` maps a node to another that has the same value, which derivatives then read instead of computing
    it again: a saved output, or what an input that is a placeholder stands for.
    """
    stop = set(inputs)
    order = _between(outputs, stop)
    meant: dict[Node, Node] = {}
    for n, same in (known or {}).items():
        meant[n] = same
        if n.op == "CAST" and n not in stop and n.src[0].dtype is same.dtype.acc:
            meant.setdefault(n.src[0], cast(same, same.dtype.acc))  # 16-bit floats: what was rounded at the end
    total: dict[Node, Node] = {}

    def accumulate(n: Node, g: Node | None) -> None:
        if g is not None:
            total[n] = total[n] + g if n in total else g

    live: set[Node] = set()  # what an input's gradient flows through
    for n in order:
        if n.dtype.kind in "fc" and (n in stop or any([m in live for m in n.src])):
            live.add(n)
        if meant and n not in meant:
            meant[n] = n if n in stop else _over(n, meant)
    for out, g in zip(outputs, grads):
        if out in live:
            accumulate(out, g)
    for n in reversed(order):
        if n in stop or n not in total:
            continue
        g = total.pop(n)
        real = _over(n, meant) if meant else n
        wanted = [m in live for m in n.src]
        if n.op in _RULES:
            parts = _RULES[n.op](real, g)
        elif n.op == "CALL":
            parts = _call(real, g, meant.get(n, n))
        elif n.op == "REDUCE":
            parts = _reduce(real, g, meant.get(n, n))
        else:
            parts = _row(real, g, meant.get(n, n), wanted)
        for m, part, needed in zip(n.src, parts, wanted):
            if needed:
                accumulate(m, part)
    return [total.get(n) for n in inputs]


def _over(n: Node, meant: dict[Node, Node]) -> Node:
    """``n`` with the operands' meanings in their places."""
    src = tuple([meant[s] for s in n.src])
    return n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype)


def _between(outputs: Sequence[Node], stop: set[Node]) -> list[Node]:
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(o, False) for o in reversed(outputs)]
    while stack:
        n, ready = stack.pop()
        if ready:
            order.append(n)
            continue
        if n in seen:
            continue
        seen.add(n)
        stack.append((n, True))
        if n not in stop:
            stack.extend([(s, False) for s in reversed(n.src) if s not in seen])
    return order


__all__ = ["derivative_names", "routine_gradient", "scalar", "take_along", "toposort", "unpad_ranges", "vjp"]
