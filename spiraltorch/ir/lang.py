"""The notation that operator bodies and gradient rules are written in: arithmetic on nodes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ir.lang import tanh
    >>> x = graph.param(0, (4,), dtypes.float32)
    >>> (0.5 * x * (1 + tanh(x))).op
    'MUL'

Operands broadcast as in NumPy; Python numbers take the type of the node beside them.  The operators
of :class:`Node` (``+ - * / < <= > >= & | ^ ~``) are defined here; ``==`` stays identity, use :func:`eq`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import DtypeError
from . import graph, prims
from .node import Node, cast, const, is_const, make, scalar

Value = Node | complex | float | int | bool


def shapes_broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's broadcast of shapes.  Raises ValueError naming the axis that does not fit."""
    rank = max(map(len, shapes), default=0)
    out = [1] * rank
    for shape in shapes:
        for i, s in enumerate(shape, rank - len(shape)):
            if s != 1 and out[i] != s:
                if out[i] != 1:
                    raise ValueError(i)
                out[i] = s
    return tuple(out)


def lift(value: Value, like: Node) -> Node:
    """A number as a constant of ``like``'s type; a node as it is."""
    return value if isinstance(value, Node) else const(value, like.dtype)


def refuse_complex(op: str, dtype: DType) -> None:
    """Raise NotImplementedError where row ``op`` has no meaning on complex numbers."""
    if "c" not in prims.ROWS[op].kinds:
        name = {"complex64": "ComplexFloat", "complex128": "ComplexDouble"}[dtype.name]
        raise DtypeError(f'"{op.lower()}" not implemented for \'{name}\'; take .real, .imag or .abs() first')


def row(op: str, *operands: Value, dtype: DType | None = None) -> Node:
    """Scalar row ``op`` over broadcast operands."""
    like = next(o for o in operands if isinstance(o, Node))
    if like.dtype.kind == "c":
        refuse_complex(op, like.dtype)
    nodes = [lift(o, like) for o in operands]
    shape = nodes[0].shape
    for n in nodes:
        if n.shape != shape:
            break
    else:
        return scalar(op, *nodes, dtype=dtype)
    shape = shapes_broadcast([n.shape for n in nodes])
    nodes = [n if n.op == "CONST" else graph.broadcast(n, shape) for n in nodes]
    return scalar(op, *nodes, dtype=dtype)


def _same(a: Value, b: Value) -> tuple[Node, Node]:
    like = a if isinstance(a, Node) else b
    assert isinstance(like, Node)
    return lift(a, like), lift(b, like)


def add(a: Value, b: Value) -> Node:
    x, y = _same(a, b)
    return row("ADD", x, y)


def sub(a: Value, b: Value) -> Node:
    x, y = _same(a, b)
    return row("SUB", x, y)


def mul(a: Value, b: Value) -> Node:
    x, y = _same(a, b)
    if is_const(y, 1) and x.op != "CONST":
        return x
    if is_const(x, 1) and y.op != "CONST":
        return y
    return row("MUL", x, y)


def div(a: Value, b: Value) -> Node:
    x, y = _same(a, b)
    if is_const(y, 1):
        return x
    return row("DIV", x, y)


def eq(a: Value, b: Value) -> Node:
    return row("EQ", *_same(a, b))


def ne(a: Value, b: Value) -> Node:
    return row("NE", *_same(a, b))


def lt(a: Value, b: Value) -> Node:
    return row("LT", *_same(a, b))


def le(a: Value, b: Value) -> Node:
    return row("LE", *_same(a, b))


def where(c: Node, a: Value, b: Value) -> Node:
    like = a if isinstance(a, Node) else b
    assert isinstance(like, Node)
    x, y = lift(a, like), lift(b, like)
    if x is y:
        return x
    return row("WHERE", c, x, y)


def _unary(op: str) -> Callable[[Node], Node]:
    def apply(a: Node) -> Node:
        if a.dtype.kind == "c":
            refuse_complex(op, a.dtype)
        return make(op, (a,), None, a.shape, a.dtype)

    apply.__name__ = op.lower()
    apply.__doc__ = f"Row {op}: ``{prims.ROWS[op].numpy}``."
    return apply


neg, exp, exp2, expm1 = map(_unary, ("NEG", "EXP", "EXP2", "EXPM1"))
log, log2, log1p, sqrt, rsqrt = map(_unary, ("LOG", "LOG2", "LOG1P", "SQRT", "RSQRT"))
sin, cos, tan, asin, acos, atan = map(_unary, ("SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN"))
tanh, erf, floor, ceil, trunc, round_ = map(_unary, ("TANH", "ERF", "FLOOR", "CEIL", "TRUNC", "ROUND"))
not_ = _unary("NOT")


def logistic(a: Node) -> Node:
    """``1 / (1 + exp(-a))``."""
    return div(1, add(1, exp(neg(a))))


def smooth_logistic(a: Node, power: Callable[[Node], Node] = exp) -> Node:
    """:func:`logistic` (of base ``power``) whose own derivatives are finite and exact far from 0, as gradient rules need it.

    Nothing overflows, and the branches are those of ``a < 0`` alone: both have the slope of the whole at 0.
    """
    if a.dtype.kind == "c":
        return div(1, add(1, power(neg(a))))
    below = lt(a, 0)
    small = power(where(below, a, neg(a)))
    return div(where(below, small, 1), add(1, small))


def hyperbolic(a: Node) -> tuple[Node, Node]:
    """(cosh a, sinh |a|) of a real number.  Far from 0 the exponential is taken 3 lower, exactly, so that nothing overflows
    that does not in the end; ``exp(3) / 2`` is by chance nearly a float."""
    size = absolute(a)
    far = lt(4, size)
    half = mul(exp(where(far, sub(size, 3), size)), where(far, full_like(a, 10.042768461593834), 0.5))
    rest = div(0.25, half)
    square = mul(size, size)
    series: Node = full_like(a, 1 / math.factorial(19))
    for k in range(17, 1, -2):
        series = fma(series, square, 1 / math.factorial(k))
    near = fma(mul(size, square), series, size)
    return add(half, rest), where(lt(size, 1), near, sub(half, rest))


def absolute(a: Node) -> Node:
    """Row ABS; of complex numbers it is real."""
    return make("ABS", (a,), None, a.shape, a.dtype.to_real())


real, imag = graph.real, graph.imag


def complex_(re: Value, im: Value) -> Node:
    """``re + i im``, broadcast."""
    x, y = _same(re, im)
    shape = shapes_broadcast([x.shape, y.shape])
    return graph.complex_(graph.broadcast(x, shape), graph.broadcast(y, shape))


def conj(a: Node) -> Node:
    """The complex conjugate; a real number is its own."""
    return graph.complex_(real(a), neg(imag(a))) if a.dtype.kind == "c" else a


def size_squared(a: Node) -> Node:
    """``|a| ** 2``, real."""
    return a * a if a.dtype.kind != "c" else real(a) * real(a) + imag(a) * imag(a)


def root(a: Node) -> Node:
    """Square root with gradient 0 at 0: the subgradient of a norm that torch takes."""
    zero = eq(a, 0)
    return where(zero, 0, sqrt(where(zero, 1, a)))


def scaled(a: Node, factor: Node) -> Node:
    """``a * factor`` for a real factor: of a complex number each part is multiplied."""
    return a * factor if a.dtype.kind != "c" else complex_(real(a) * factor, imag(a) * factor)


def minimum(a: Value, b: Value) -> Node:
    return row("MIN", *_same(a, b))


def maximum(a: Value, b: Value) -> Node:
    return row("MAX", *_same(a, b))


def pow_(a: Value, b: Value) -> Node:
    return row("POW", *_same(a, b))


def full_like(a: Node, value: Any) -> Node:
    """``value`` in every place of ``a``'s shape, of its type."""
    return graph.full(value, a.shape, a.dtype)


def fma(a: Value, b: Value, c: Value) -> Node:
    """``a * b + c`` rounded once."""
    return row("FMA", a, b, c)


def sign(a: Node) -> Node:
    """-1, 0 or 1, 0 for nan, as torch; of complex numbers the one of size 1 with their angle, or 0."""
    if a.dtype.kind == "c":
        size = absolute(a)
        zero = eq(size, 0)
        size = where(zero, 1, size)
        return where(zero, 0, complex_(real(a) / size, imag(a) / size))
    return cast(lt(0, a), a.dtype) - cast(lt(a, 0), a.dtype) if a.dtype.is_signed else cast(ne(a, 0), a.dtype)


def isnan(a: Node) -> Node:
    return row("NE", a, a) if a.dtype.kind in "fc" else graph.full(False, a.shape, dtypes.bool_)


def tie(g: Node, a: Node, b: Node, loses: Node) -> Node:
    """Gradient share of ``min``/``max``: all, half at a tie, nothing where this side loses."""
    return where(loses, 0, where(eq(a, b), g * 0.5, g)) if g.dtype.kind == "f" else where(loses, 0, g)


def bitcast(a: Node, dtype: DType) -> Node:
    return a if a.dtype is dtype else make("BITCAST", (a,), None, a.shape, dtype)


def detach(a: Node) -> Node:
    """The same value, with no gradient through it."""
    return make("COPY", (a,), "detach", a.shape, a.dtype)


def not_zero(a: Node) -> Node:
    """The same value; the program that computes it fails where an element is 0."""
    return make("COPY", (a,), "not zero", a.shape, a.dtype)


# -- reductions over axes, keeping them as size 1 when asked -------------------------------------


def normal_axes(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    if axes is None:
        return tuple(range(rank))
    if isinstance(axes, int):
        axes = (axes,)
    return tuple(sorted([a % rank for a in axes])) if rank else ()


def kept_shape(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple([1 if i in axes else s for i, s in enumerate(shape)])


def fold(op: str, a: Node, axes: int | Sequence[int] | None, keepdim: bool = False) -> Node:
    """REDUCE over ``axes`` (None: all)."""
    ax = normal_axes(axes, len(a.shape))
    r = graph.reduce(a, op, ax)
    return graph.reshape(r, kept_shape(a.shape, ax)) if keepdim else r


def sum_(a: Node, axes: int | Sequence[int] | None = None, keepdim: bool = False) -> Node:
    return fold("add", a, axes, keepdim)


def count(shape: tuple[int, ...], axes: Sequence[int]) -> int:
    n = 1
    for i in axes:
        n *= shape[i]
    return n


def mean(a: Node, axes: int | Sequence[int] | None = None, keepdim: bool = False) -> Node:
    n = count(a.shape, normal_axes(axes, len(a.shape)))
    return sum_(a, axes, keepdim) / (float(n) if n else float("nan"))


def unbroadcast(g: Node, shape: tuple[int, ...]) -> Node:
    """Sum ``g`` down to ``shape``, the transpose of broadcasting ``shape`` to ``g.shape``."""
    if g.shape == shape:
        return g
    lead = len(g.shape) - len(shape)
    axes = tuple([i for i, s in enumerate(g.shape) if i < lead or (shape[i - lead] == 1 and s != 1)])
    return graph.reshape(graph.reduce(g, "add", axes), shape)


def _rsub(a: Node, b: Any) -> Node:
    return sub(b, a)


def _rdiv(a: Node, b: Any) -> Node:
    return div(b, a)


def _gt(a: Node, b: Any) -> Node:
    return lt(b, a)


def _ge(a: Node, b: Any) -> Node:
    return le(b, a)


def _bits(op: str) -> Callable[[Node, Value], Node]:
    def apply(a: Node, b: Value) -> Node:
        return row(op, *_same(a, b))

    return apply


for _name, _fn in {
    "__add__": add, "__radd__": add, "__sub__": sub, "__rsub__": _rsub, "__mul__": mul, "__rmul__": mul,
    "__truediv__": div, "__rtruediv__": _rdiv, "__neg__": neg, "__lt__": lt, "__le__": le, "__gt__": _gt,
    "__ge__": _ge, "__and__": _bits("AND"), "__or__": _bits("OR"), "__xor__": _bits("XOR"), "__invert__": not_,
}.items():  # fmt: skip
    setattr(Node, _name, _fn)
