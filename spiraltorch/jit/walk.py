"""The walk from a stage's value down to what it reads: movement becomes index arithmetic.

In: a stage and the values that are kept.  Out: the stage's expression over READ, AT, GUARD (see stages.py).
Raises NeedSplit when the stage's axes must be cut, NotAffine when a value must be in memory first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dtypes import bool_, int64, uint32, uint64
from ..ir.index import ZERO, Affine, NotAffine, flatten, reindex
from ..ir.node import Node, cast, const, make, scalar
from ..ir.prims import ROWS
from .stages import Guard, Read, Stage, _is_leaf, peel


class Walk:
    """Expression of a value at an index: movement becomes index arithmetic, kept values become reads."""

    def __init__(self, stage: Stage, kept: set[Node]) -> None:
        self.stage, self.kept = stage, kept
        self.memo: dict[Any, Node] = {}
        self.reads: dict[Read, None] = {}
        self.checks: list[tuple[Node, Node]] = []

    def value(self, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
        key = (n, index, guards)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._value(n, index, guards)
        return found

    def _value(self, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
        if n.op == "CONST":
            return n
        own = n is self.stage.node and self.stage.kind == "map"
        if _is_leaf(n) or (n in self.kept and not own):
            if n.op == "PARAM" and isinstance(n.arg, tuple):
                return make("SCALAR", (), n.arg[1], (), n.dtype)
            read = Read(n, index, guards)
            self.reads[read] = None
            return make("READ", (), read, (), n.dtype)
        if n.op in ROWS:
            src = tuple([self.value(s, index if s.shape else (), guards) for s in n.src])
            return make(n.op, src, n.arg, (), n.dtype)
        return _WALK[n.op](self, n, index, guards)


_Step = Callable[[Walk, Node, tuple[Affine, ...], "tuple[Guard, ...]"], Node]


def _iota(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    return make("AT", (), index[n.arg], (), int64)


def _reshape(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    (x,) = n.src
    try:
        return w.value(x, tuple(reindex(index, n.shape, x.shape, w.stage.atoms)), guards)
    except NotAffine as e:
        base = peel(x)
        if e.node is None and (_is_leaf(base) or (base in w.kept and base is not w.stage.node)):
            read = Read(base, (flatten(index, n.shape),), guards, flat=True)
            w.reads[read] = None
            return make("READ", (), read, (), n.dtype)
        if e.node is None:
            # Not a linear map: the reshape is done through memory.
            e.node = _keepable(x, w.kept, n)
        raise


def _keepable(x: Node, kept: set[Node], fallback: Node) -> Node:
    base = peel(x)
    if base in kept or _is_leaf(base) or base.op == "CONST":
        return fallback
    return base


def _permute(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    at = [ZERO] * len(index)
    for i, k in enumerate(n.arg):
        at[k] = index[i]
    return w.value(n.src[0], tuple(at), guards)


def _expand(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    (x,) = n.src
    return w.value(x, tuple([ZERO if s == 1 else a for a, s in zip(index, x.shape)]), guards)


def _slice(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    return w.value(n.src[0], tuple([a * r[2] + r[0] for a, r in zip(index, n.arg)]), guards)


def _window(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    axis, _, stride, dilation = n.arg
    at = list(index[:-1])
    at[axis] = at[axis] * stride + index[-1] * dilation
    return w.value(n.src[0], tuple(at), guards)


def _diagonal(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    (x,) = n.src
    offset, a, b = n.arg
    rest = iter(index[:-1])
    at = {a: index[-1] + max(0, -offset), b: index[-1] + max(0, offset)}
    return w.value(x, tuple([at[i] if i in at else next(rest) for i in range(len(x.shape))]), guards)


def _pad(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    (x,) = n.src
    at, new = [], list(guards)
    for a, (before, after, interior), size in zip(index, n.arg, x.shape):
        form = a + -before
        if before or after:
            lo, hi = form.bounds(w.stage.atoms)
            end = (size - 1) * (interior + 1) + 1
            if form.dyn or lo < 0 or hi >= end:
                new.append((form, 0, end))
        if interior:
            form = _every(w, form, interior + 1, new)
        at.append(form)
    held = tuple(dict.fromkeys(new))
    if held == guards:
        return w.value(x, tuple(at), guards)
    inner = w.value(x, tuple(at), held)
    ok = make("GUARD", (), held[len(guards) :], (), bool_)
    return make("WHERE", (ok, inner, const(0, n.dtype)), None, (), n.dtype)


def _every(w: Walk, form: Affine, k: int, guards: list[Guard]) -> Affine:
    """``form / k`` where it divides; a guard says so where that is not certain."""
    if form.const % k == 0 and all(c % k == 0 for _, c in form.terms) and not form.dyn:
        return Affine(form.const // k, tuple([(a, c // k) for a, c in form.terms]))
    guards.append((form, "every", k))
    quotient = scalar("IDIV", make("AT", (), form, (), int64), const(k, int64))
    return Affine(0, (), ((quotient, 1),))


def _gather(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    x, which = n.src
    along = not isinstance(n.arg, int)
    axis, rank = (n.arg[1], 1) if along else (n.arg, len(which.shape))
    size = x.shape[axis]
    i = cast(w.value(which, index if along else index[axis : axis + rank], guards), int64)
    last = make("AT", (), Affine(size - 1), (), int64)
    _check(w, scalar("AND", scalar("LE", const(0, int64), i), scalar("LE", i, last)), n, guards)
    clamped = scalar("MIN", scalar("MAX", i, const(0, int64)), last)
    at = (*index[:axis], Affine(0, (), ((clamped, 1),)), *index[axis + rank :])
    return w.value(x, at, guards)


def _check(w: Walk, ok: Node, n: Node, guards: tuple[Guard, ...]) -> None:
    """The program fails at ``n`` where its guards hold and ``ok`` does not."""
    if guards:
        ok = scalar("OR", ok, scalar("NOT", make("GUARD", (), guards, (), bool_)))
    if not any(c is ok for c, _ in w.checks):
        w.checks.append((ok, n))


def _random(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    key, counter = (w.value(s, (), ()) for s in n.src)
    flat = make("AT", (), flatten(index, n.shape), (), int64)
    at = scalar("ADD", counter, cast(flat, uint64))
    return philox(cast_bits(key), cast_bits(at))


def _copy(w: Walk, n: Node, index: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
    value = w.value(n.src[0], index, guards)
    if n.arg == "not zero":
        _check(w, scalar("NE", value, const(0, value.dtype)), n, guards)
    return value


def cast_bits(n: Node) -> tuple[Node, Node]:
    """Low and high 32 bits of a uint64."""
    return cast(scalar("AND", n, const(0xFFFFFFFF, uint64)), uint32), cast(scalar("SHR", n, const(32, uint64)), uint32)


def philox(key: tuple[Node, Node], counter: tuple[Node, Node]) -> Node:
    """Word 0 of Philox4x32-10 (Salmon et al., SC 2011) for a 64-bit counter under a 64-bit key."""
    zero = const(0, uint32)
    c = [counter[0], counter[1], zero, zero]
    k0, k1 = key
    m0, m1 = const(0xD2511F53, uint32), const(0xCD9E8D57, uint32)
    for _ in range(10):
        hi0, lo0 = scalar("MULHI", m0, c[0]), scalar("MUL", m0, c[0])
        hi1, lo1 = scalar("MULHI", m1, c[2]), scalar("MUL", m1, c[2])
        c = [scalar("XOR", scalar("XOR", hi1, c[1]), k0), lo1, scalar("XOR", scalar("XOR", hi0, c[3]), k1), lo0]
        k0 = scalar("ADD", k0, const(0x9E3779B9, uint32))
        k1 = scalar("ADD", k1, const(0xBB67AE85, uint32))
    return c[0]


_WALK: dict[str, _Step] = {
    "IOTA": _iota, "RESHAPE": _reshape, "PERMUTE": _permute, "EXPAND": _expand, "SLICE": _slice, "WINDOW": _window,
    "DIAGONAL": _diagonal, "PAD": _pad, "GATHER": _gather, "RANDOM": _random, "COPY": _copy,
}  # fmt: skip
