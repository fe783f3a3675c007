"""Realify: complex numbers become pairs of real ones, so that kernels, memory and backends know only real types.

In: roots of a graph.  Out: roots of an equal one without complex types: a complex root, input or operand of a library
routine of shape S is real memory of shape (*S, 2), which is what it is for NumPy and torch too.

    MUL(x, y): complex64[3]   ->   x' = PARAM: float32[3, 2]; a = x'[:, 0], b = x'[:, 1], ...
                                   a * c - b * d  and  a * d + b * c, each written to every other place

A complex value is kept in one of two forms, and made into the other when that is asked for: its *parts*, two nodes of
shape S (what rows compute), or *whole* (what lies in memory).  Movement keeps the form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..ir import graph, lang
from ..ir.node import Node, cast, const, make, toposort
from ..ir.prims import MOVEMENT
from .complex_rows import ROWS, logaddexp, mul

Pair = tuple[Node, Node]


def realify(roots: Sequence[Node]) -> list[Node]:
    """The pass; a graph without complex numbers is returned as it is."""
    order = toposort(roots)
    if not any(n.dtype.kind == "c" for n in order):
        return list(roots)
    split = _Split()
    for n in order:
        split.visit(n)
    return [split.whole(r) if r.dtype.kind == "c" else split.real[r] for r in roots]


class _Split:
    """What became of each node: ``real`` of real ones, ``_parts`` or ``_wholes`` (or both) of complex ones."""

    def __init__(self) -> None:
        self.real: dict[Node, Node] = {}
        self._parts: dict[Node, Pair] = {}
        self._wholes: dict[Node, Node] = {}

    def parts(self, n: Node) -> Pair:
        if n not in self._parts:
            w = self._wholes[n]
            front = tuple([(0, s, 1) for s in n.shape])
            re, im = (graph.reshape(graph.slice_(w, (*front, (k, k + 1, 1))), n.shape) for k in (0, 1))
            self._parts[n] = re, im
        return self._parts[n]

    def whole(self, n: Node) -> Node:
        if n not in self._wholes:
            shape = (*n.shape, 2)
            out = graph.full(0, shape, n.dtype.to_real())
            for k, p in enumerate(self._parts[n]):
                p = graph.reshape(graph.broadcast(p, n.shape), (*n.shape, 1))
                out = graph.update(out, (*[(0, s, 1) for s in n.shape], (k, k + 1, 1)), p)
            self._wholes[n] = out
        return self._wholes[n]

    def any(self, n: Node) -> Any:
        """A real node as it became, a complex one as its parts."""
        return self.parts(n) if n.dtype.kind == "c" else self.real[n]

    def visit(self, n: Node) -> None:
        if n.dtype.kind != "c" and all(s.dtype.kind != "c" for s in n.src) and n.op != "AS_COMPLEX":
            pair = _part_of_view(self, n)
            if pair is None:
                src = tuple([self.real[s] for s in n.src])
                pair = n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype)
            self.real[n] = _from(n, pair)
            return
        if n.op in ROWS:
            made = ROWS[n.op](*[self.parts(s) for s in n.src])
        elif n.op in MOVEMENT:
            made = _movement(self, n)
        else:
            made = _RULES[n.op](self, n)
        if n.dtype.kind != "c":
            self.real[n] = _from(n, made)
        elif isinstance(made, tuple):
            self._parts[n] = _from(n, made[0]), _from(n, made[1])
        else:
            self._wholes[n] = _from(n, made)


def _from(n: Node, new: Node) -> Node:
    if new.origin is None:
        new.origin = n.origin
    return new


def _part_of_view(s: _Split, n: Node) -> Node | None:
    """``view_as_real(x)[..., k]``: that part, with no need of the other."""
    if n.op != "SLICE" or n.src[0].op != "AS_REAL" or graph.slice_length(n.arg[-1]) != 1:
        return None
    (x,) = n.src[0].src
    part = s.parts(x)[n.arg[-1][0]]
    return graph.reshape(graph.slice_(graph.broadcast(part, x.shape), n.arg[:-1]), n.shape)


def _each(f: Callable[..., Node], *pairs: Pair) -> Pair:
    return f(*[p[0] for p in pairs]), f(*[p[1] for p in pairs])


def _leaf(s: _Split, n: Node) -> Node:
    return make(n.op, (), n.arg, (*n.shape, 2), n.dtype.to_real())


def _const(s: _Split, n: Node) -> Pair:
    v, part = n.arg.value, n.dtype.to_real()
    return const(v.real, part), const(v.imag, part)


def _movement(s: _Split, n: Node) -> Any:
    (x,) = n.src

    def move(p: Node) -> Node:
        return make(n.op, (p,), n.arg, n.shape, p.dtype)

    return _each(move, s.parts(x))


def _copy(s: _Split, n: Node) -> Any:
    (x,) = n.src
    if x in s._wholes:
        w = s.whole(x)
        return make("COPY", (w,), n.arg, w.shape, w.dtype)
    return s.parts(x)


def _where(s: _Split, n: Node) -> Pair:
    c, a, b = n.src
    return _each(lambda p, q: lang.where(s.real[c], p, q), s.parts(a), s.parts(b))


def _cast(s: _Split, n: Node) -> Any:
    (x,) = n.src
    part = n.dtype.to_real()
    if x.dtype.kind != "c":
        re = cast(s.real[x], part)
        return re, graph.full(0, re.shape, part)
    re, im = s.parts(x)
    if n.dtype.kind == "c":
        return cast(re, part), cast(im, part)
    return lang.ne(re, 0) | lang.ne(im, 0) if n.dtype.kind == "b" else cast(re, part)


def _gather(s: _Split, n: Node) -> Pair:
    x, index = n.src
    return _each(lambda p: make("GATHER", (graph.broadcast(p, x.shape), s.real[index]), n.arg, n.shape, p.dtype), s.parts(x))


def _scatter(s: _Split, n: Node) -> Any:
    base, index, values = n.src
    if n.arg[1] == "mul":
        return _routine(s, n, "placing.scatter", n.arg)

    def put(b: Node, v: Node) -> Node:
        v, b = graph.broadcast(v, values.shape), graph.broadcast(b, base.shape)
        return make("SCATTER", (b, s.real[index], v), n.arg, n.shape, b.dtype)

    return _each(put, s.parts(base), s.parts(values))


def _update(s: _Split, n: Node) -> Node:
    base, values = map(s.whole, n.src)
    return graph.update(base, (*n.arg, (0, 2, 1)), values)


def _reduce(s: _Split, n: Node) -> Pair:
    (x,) = n.src
    op, axes = n.arg
    if op == "add":
        return _each(lambda p: graph.reduce(graph.broadcast(p, x.shape), "add", axes), s.parts(x))
    kept = tuple([i for i in range(len(x.shape)) if i not in axes])
    lines = math.prod(x.shape[i] for i in axes)
    a, b = _each(lambda p: graph.reshape(graph.permute(graph.broadcast(p, x.shape), (*kept, *axes)), (*n.shape, lines)), s.parts(x))
    while lines > 1:  # halves are multiplied, an odd one is carried
        half = lines // 2
        product = mul(_cut(a, b, 0, half), _cut(a, b, half, 2 * half))
        if lines % 2:
            rest = _cut(a, b, lines - 1, lines)
            first = mul(_cut(*product, 0, 1), rest)
            a, b = (graph.update(p, _last(p, 0, 1), f) for p, f in zip(product, first))
        else:
            a, b = product
        lines = half
    if not lines:
        return graph.full(1, n.shape, a.dtype), graph.full(0, n.shape, a.dtype)
    return graph.reshape(a, n.shape), graph.reshape(b, n.shape)


def _last(p: Node, lo: int, hi: int) -> tuple[graph.Range, ...]:
    return (*[(0, k, 1) for k in p.shape[:-1]], (lo, hi, 1))


def _cut(a: Node, b: Node, lo: int, hi: int) -> Pair:
    return graph.slice_(a, _last(a, lo, hi)), graph.slice_(b, _last(b, lo, hi))


def _scan(s: _Split, n: Node) -> Pair:
    (x,) = n.src
    op, axis, reverse = n.arg
    a, b = _each(lambda p: graph.broadcast(p, n.shape), s.parts(x))
    if op == "add":
        return _each(lambda p: graph.scan(p, "add", axis, reverse), (a, b))
    fold = mul if op == "mul" else logaddexp
    size, step = n.shape[axis], 1
    while step < size:  # doubling: each element meets the one ``step`` before (Hillis and Steele, 1986)
        keep = [(0, k, 1) for k in n.shape]
        put = [(0, 0, 0)] * len(n.shape)
        keep[axis] = (step, size, 1) if reverse else (0, size - step, 1)
        put[axis] = (0, step, 0) if reverse else (step, 0, 0)
        moved = [graph.pad(graph.slice_(p, tuple(keep)), tuple(put)) for p in (a, b)]
        at = graph.iota(n.shape, axis)
        inside = lang.lt(at, size - step) if reverse else lang.le(step, at)
        product = fold((a, b), (moved[0], moved[1]))
        a, b = lang.where(inside, product[0], a), lang.where(inside, product[1], b)
        step *= 2
    return a, b


def _dot(s: _Split, n: Node) -> Pair:
    x, y = n.src
    (a, b), (c, d) = ([graph.broadcast(p, m.shape) for p in s.parts(m)] for m in (x, y))
    return graph.dot(a, c, *n.arg) - graph.dot(b, d, *n.arg), graph.dot(a, d, *n.arg) + graph.dot(b, c, *n.arg)


def _call(s: _Split, n: Node) -> Node:
    return _routine(s, n, *n.arg)


def _routine(s: _Split, n: Node, name: str, static: Any) -> Node:
    """The routine sees complex arrays over the same memory."""
    complexes = tuple([m.dtype.kind == "c" for m in (*n.src, n)])
    src = tuple([s.whole(m) if c else s.real[m] for m, c in zip(n.src, complexes)])
    shape = (*n.shape, 2) if complexes[-1] else n.shape
    from ..kernels.library.routine import find

    kind = "parts.failing" if find(name).fails else "parts.plain"
    return graph.call(kind, src, shape, n.dtype.to_real(), name, static, complexes)


def _part(k: int) -> Callable[[_Split, Node], Node]:
    return lambda s, n: graph.broadcast(s.parts(n.src[0])[k], n.shape)


def _complex(s: _Split, n: Node) -> Pair:
    return s.real[n.src[0]], s.real[n.src[1]]


def _as_real(s: _Split, n: Node) -> Node:
    return s.whole(n.src[0])


def _as_complex(s: _Split, n: Node) -> Node:
    return s.real[n.src[0]]


_RULES: dict[str, Callable[[_Split, Node], Any]] = {
    "PARAM": _leaf, "BUFFER": _leaf, "CONST": _const, "COPY": _copy, "WHERE": _where, "CAST": _cast, "GATHER": _gather,
    "SCATTER": _scatter, "UPDATE": _update, "REDUCE": _reduce, "SCAN": _scan, "DOT": _dot, "CALL": _call, "REAL": _part(0),
    "IMAG": _part(1), "COMPLEX": _complex, "AS_REAL": _as_real, "AS_COMPLEX": _as_complex,
}  # fmt: skip
