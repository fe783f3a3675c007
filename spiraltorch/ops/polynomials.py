"""Orthogonal polynomials of each element, of each element's degree (torch.special).

In: points and degrees, which broadcast; a degree is cut to an integer.  Out: the polynomials' values.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["legendre_polynomial_p"].apply([graph.param(0, (4,), dtypes.float32), 3], {}).dtype
    spiraltorch.float32

Chebyshev's polynomials of higher degree are cosines and powers, whatever it is.  The others come from their three-term recurrences,
unrolled: as far as the degree where it is a number, to ``MOST`` where it is a tensor (nan beyond).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..ir import graph, lang
from ..ir.node import Node, is_const
from . import samples as s
from .registry import op
from .series import NAN

LOW = 6  # up to this degree, where it is a number, Chebyshev's polynomials too come from their recurrence, as in torch
MOST = 48  # the highest degree in a tensor of degrees
Step = Callable[[int, Node, Node, Node], Node]

_SAMPLES = s.calls(
    s.call(s.T(2, 3, fill="unit"), 3), s.call(s.T(fill="unit"), 0), s.call(s.T(4), 1), s.call(s.T(0, 3), 2),
    s.call(s.T(4, 1), s.T(5, fill="index", high=9)), s.call(s.T(4), -1), s.call(1.5, s.T(4, fill="index", high=12)),
    s.call(s.T(14, fill="finite"), 4),
)  # fmt: skip


def _recurrence(x: Node, n: Node, first: Node, step: Step) -> Node:
    """The polynomial of degree ``n``: 1, ``first``, then ``step(k, x, p_k, p_k-1)`` gives degree k + 1."""
    one = lang.full_like(x, 1.0)
    if is_const(n):
        degree = int(n.arg.value) if math.isfinite(n.arg.value) else -1
        if degree <= 0:
            return one if degree == 0 else lang.full_like(x, 0.0)
        last, p = one, first
        for k in range(1, degree):
            last, p = p, step(k, x, p, last)
        return p
    x, n = (graph.broadcast(a, lang.shapes_broadcast([x.shape, n.shape])) for a in (x, n))
    first = graph.broadcast(first, x.shape)
    last, p = lang.full_like(x, 1.0), first
    out = lang.where(lang.le(n, -1.0), 0, lang.where(lang.lt(n, 1), last, first))
    for k in range(1, MOST):
        last, p = p, step(k, x, p, last)
        out = lang.where(lang.le(k + 1.0, n), p, out)
    return lang.where(lang.lt(n, MOST + 1.0), out, NAN)


# -- Chebyshev: four kinds, and their shifted forms -------------------------------------------------------


def _chebyshev(kind: str, x: Node, n: Node) -> Node:
    """T, U, V or W of degree n as functions of the angle inside -1 to 1, of powers outside."""
    if is_const(n) and n.arg.value <= LOW:
        p1 = {"t": x, "u": x + x, "v": x + x - 1, "w": x + x + 1}[kind]
        return _recurrence(x, n, p1, lambda k, x, p, last: (x + x) * p - last)
    n = lang.trunc(n)
    x, n = (graph.broadcast(a, lang.shapes_broadcast([x.shape, n.shape])) for a in (x, n))
    size = lang.absolute(x)
    negative = lang.lt(x, 0)
    odd = lang.ne(n - 2 * lang.floor(n * 0.5), 0)
    if kind in "vw":  # under x -> -x the third and the fourth kind change places
        mirrored = _outside("w" if kind == "v" else "v", size, n)
        far = lang.where(negative, lang.where(odd, -mirrored, mirrored), _outside(kind, size, n))
    else:
        far = _outside(kind, size, n)
        far = lang.where(negative & odd, -far, far)
    huge = lang.pow_(x + x, n) * (0.5 if kind == "t" else 1.0)
    out = lang.where(lang.lt(size, 1), _inside(kind, x, n), lang.where(lang.lt(size, 1e9), far, huge))
    out = lang.where(lang.eq(n, 0), 1, out)
    return lang.where(lang.lt(n, 0), 0, out)


def _inside(kind: str, x: Node, n: Node) -> Node:
    angle = lang.acos(x)
    half = angle * 0.5
    if kind == "t":
        return lang.cos(n * angle)
    if kind == "u":
        return lang.sin((n + 1.0) * angle) / lang.sin(angle)
    if kind == "v":
        return lang.cos((n + 0.5) * angle) / lang.cos(half)
    return lang.sin((n + 0.5) * angle) / lang.sin(half)


def _outside(kind: str, x: Node, n: Node) -> Node:
    """For ``x >= 1``, with ``z = x + sqrt(x**2 - 1)``."""
    root = lang.sqrt((x - 1) * (x + 1))
    z = x + root
    if kind == "t":
        return 0.5 * (lang.pow_(z, n) + lang.pow_(z, -n))
    edge = {"u": n + 1.0, "v": lang.full_like(x, 1.0), "w": 2.0 * n + 1.0}[kind]
    if kind == "u":
        value = (lang.pow_(z, n + 1.0) - lang.pow_(z, -n - 1.0)) / (root + root)
    else:
        up, down = lang.pow_(z, n + 0.5), lang.pow_(z, -n - 0.5)
        a, b = lang.sqrt(z), 1 / lang.sqrt(z)
        value = (up + down) / (a + b) if kind == "v" else (up - down) / (a - b)
    return lang.where(lang.eq(x, 1), edge, value)


# -- the others -------------------------------------------------------------------------------------------


def _hermite_h(x: Node, n: Node) -> Node:
    def step(k: int, x: Node, p: Node, last: Node) -> Node:
        return 2.0 * (x * p - float(k) * last)

    return _recurrence(x, n, x + x, step)


def _hermite_he(x: Node, n: Node) -> Node:
    def step(k: int, x: Node, p: Node, last: Node) -> Node:
        return x * p - float(k) * last

    return _recurrence(x, n, x, step)


def _laguerre(x: Node, n: Node) -> Node:
    def step(k: int, x: Node, p: Node, last: Node) -> Node:
        return ((2.0 * k + 1 - x) * p - float(k) * last) / (k + 1.0)

    return _recurrence(x, n, 1 - x, step)


def _legendre(x: Node, n: Node) -> Node:
    def step(k: int, x: Node, p: Node, last: Node) -> Node:
        return ((2.0 * k + 1) * (x * p) - float(k) * last) / (k + 1.0)

    return _recurrence(x, n, x, step)


def _record(name: str, letter: str, compute: Callable[[Node, Node], Node]) -> None:
    def body(input: Node, n: Node) -> Node:
        return compute(input, n)

    body.__name__ = name
    body.__doc__ = f"The polynomial {letter} of degree ``n`` at ``input``; 0 for negative degrees.  (torch.special.{name})"
    op(name, operands=2, promote="float", kinds="f", acc="double", differentiable=False, numbers="both",
       refuses=("float16", "bfloat16"), where=("special",), samples=_SAMPLES)(body)  # fmt: skip


def _chebyshev_of(kind: str, shifted: bool) -> Callable[[Node, Node], Node]:
    def compute(x: Node, n: Node) -> Node:
        return _chebyshev(kind, x + x - 1 if shifted else x, n)

    return compute


for _kind in "tuvw":
    _record(f"chebyshev_polynomial_{_kind}", f"{_kind.upper()} of Chebyshev", _chebyshev_of(_kind, shifted=False))
    _record(f"shifted_chebyshev_polynomial_{_kind}", f"{_kind.upper()} of Chebyshev, on 0 to 1,",
            _chebyshev_of(_kind, shifted=True))  # fmt: skip
_record("hermite_polynomial_h", "H of Hermite (physicists')", _hermite_h)
_record("hermite_polynomial_he", "He of Hermite (probabilists')", _hermite_he)
_record("laguerre_polynomial_l", "L of Laguerre", _laguerre)
_record("legendre_polynomial_p", "P of Legendre", _legendre)
