"""Covariances of variables, and slopes of sampled functions.

In: a node and what weighs or spaces its samples.  Out: a matrix; one node of the input's shape an axis.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 5), dtypes.float32)
    >>> OPS["cov"].apply([x], {}).shape, len(OPS["gradient"].apply([x], {}))
    ((2, 2), 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import floating, number
from .matmul import product
from .matrices import t
from .parts import cut
from .rearrange import joined
from .registry import op, result_type, wrap_dims
from .view import apply_steps

T = s.T


# -- covariance -------------------------------------------------------------------------------------------


def _variables(name: str, input: Node) -> Node:
    if len(input.shape) > 2:
        raise ShapeError(f"{name}(): expected input to have two or fewer dimensions but got {len(input.shape)}")
    if input.dtype is dtypes.bool_:
        raise SpiralError(f"{name}(): bool dtype is not supported for input")
    return graph.reshape(input, (1, input.size)) if len(input.shape) < 2 else input


def _weights(input: Node, name: str, w: Node, kinds: str) -> Node:
    words = "integral" if "i" in kinds else "floating point"
    if len(w.shape) > 1:
        raise ShapeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {len(w.shape)} dimensions")
    if w.dtype.kind not in kinds:
        raise SpiralError(f"cov(): expected {name} to have {words} dtype but got {name} with {w.dtype.name} dtype")
    if w.size != input.shape[1]:
        raise ShapeError(f"cov(): expected {name} to have the same numel as there are observations in the input but got {w.size}")
    return graph.reshape(w, (w.size,))


@op("cov", kinds="uifc", acc=False, where=(), samples=s.calls(
    s.call(T(3, 5)), s.call(T(5)), s.call(T(3, 5), correction=0), s.call(T()), s.call(T(1, 4)), s.value_only(T(3, 2), correction=3),
    s.call(T(2, 4), fweights=T(4, fill="index", high=3)), s.call(T(2, 4), aweights=T(4, fill="positive", dtype=dtypes.float64)),
    s.call(T(2, 4), fweights=T(4, fill="index", high=3), aweights=T(4, fill="positive", dtype=dtypes.float64))))  # fmt: skip
def cov(input: Node, *, correction: int = 1, fweights: Node | None = None, aweights: Node | None = None) -> Node:
    """The covariances of the variables in the rows of ``input`` over the observations in its columns, which may count
    ``fweights`` times and with weight ``aweights``.  (torch.cov)"""
    x = _variables("cov", input)
    given = [] if fweights is None else [_weights(x, "fweights", fweights, "iu")]
    given += [] if aweights is None else [_weights(x, "aweights", aweights, "f")]
    target = floating(x).dtype if not given else floating(cast(x, result_type([x, *given]))).dtype
    x = cast(x, target.acc)
    own = given[-1].dtype.acc if given and given[-1].dtype.kind == "f" else x.dtype.to_real()  # what the weights sum in
    count: Node = graph.full(float(x.shape[1]), (), own)
    lost: Node | float = float(correction)
    weighed = x
    if given:
        weights = [cast(w, own) for w in given]
        w = weights[0] if len(weights) == 1 else weights[0] * weights[1]
        count = fold("add", w, 0)
        if aweights is not None and correction:
            lost = correction * fold("add", w * weights[-1], 0) / count
        wide = graph.broadcast(cast(w, x.dtype.to_real()), x.shape)
        weighed = lang.scaled(x, wide)
    mean = lang.scaled(fold("add", weighed, 1, keepdim=True), graph.expand(cast(1 / count, x.dtype.to_real()), (x.shape[0], 1)))
    d = x - mean
    both = product(d, t(lang.conj(lang.scaled(d, wide) if given else d)))
    freedom = graph.expand(cast(lang.maximum(count - lost, 0), both.dtype.to_real()), both.shape)
    found = both / freedom if both.dtype.kind != "c" else lang.complex_(lang.real(both) / freedom, lang.imag(both) / freedom)
    return graph.reshape(cast(found, target), tuple([n for n in found.shape if n != 1]))


@op("corrcoef", kinds="uifc", acc=False, samples=s.calls(
    s.call(T(3, 5)), s.value_only(T(5, fill="positive")), s.value_only(T()), s.value_only(T(1, 4, fill="positive")),
    s.value_only(T(2, 1))))  # fmt: skip
def corrcoef(input: Node) -> Node:
    """The correlation coefficients of the variables in the rows of ``input``: :func:`cov` over the standard deviations.
    (torch.corrcoef)"""
    _variables("corrcoef", input)
    target = floating(input).dtype
    c: Node = cov.body(cast(input, target.acc))
    if not c.shape:
        return cast(c / c, target)
    deviation = lang.sqrt(lang.real(graph.diagonal(c, 0, 0, 1)))
    n = deviation.size
    parts = [lang.real(c), lang.imag(c)] if c.dtype.kind == "c" else [c]
    parts = [p / graph.reshape(deviation, (n, 1)) / deviation for p in parts]
    parts = [lang.minimum(lang.maximum(p, -1.0), 1.0) for p in parts]
    return cast(lang.complex_(*parts) if len(parts) > 1 else parts[0], target)


# -- slopes -----------------------------------------------------------------------------------------------


def _at(x: Node, axis: int, start: int, stop: int) -> Node:
    return apply_steps(x, cut(x.shape, axis, start, stop))


def _combined(x: Node, axis: int, starts: Sequence[int], length: int, factors: Sequence[Any]) -> Node:
    """The sum of ``length`` values of ``x`` from each start on, times its factor (a number, or one each)."""
    parts = [_at(x, axis, at, at + length) for at in starts]
    lined = [
        f if not isinstance(f, Node) or not f.shape else graph.reshape(f, tuple([length if a == axis else 1 for a in range(len(x.shape))]))
        for f in factors
    ]
    total = parts[0] * lined[0]
    for p, f in zip(parts[1:], lined[1:]):
        total = total + p * f
    return total


def _even(x: Node, axis: int, h: Any, order: int) -> Node:
    n = x.shape[axis]
    h = cast(h, x.dtype) if isinstance(h, Node) else number(h, x)
    middle = (_at(x, axis, 2, n) - _at(x, axis, 0, n - 2)) / (h + h)
    if order == 1:
        first, last = (_at(x, axis, 1, 2) - _at(x, axis, 0, 1)) / h, (_at(x, axis, n - 1, n) - _at(x, axis, n - 2, n - 1)) / h
    else:
        first = _combined(x, axis, (0, 1, 2), 1, (-1.5 / h, 2 / h, -0.5 / h))
        last = _combined(x, axis, (n - 3, n - 2, n - 1), 1, (0.5 / h, -2 / h, 1.5 / h))
    return joined([p for p in (first, middle, last) if p.size], axis)


def _placed(x: Node, axis: int, places: Node, order: int) -> Node:
    """As :func:`_even`, at coordinates of their own."""
    n = x.shape[axis]
    places = cast(places, x.dtype)
    steps = _at(places, 0, 1, n) - _at(places, 0, 0, n - 1)
    a, b = _at(steps, 0, 0, n - 2), _at(steps, 0, 1, n - 1)
    inner = (-b / (a * (a + b)), (b - a) / (a * b), a / (b * (a + b)))
    middle = _combined(x, axis, (0, 1, 2), n - 2, inner)
    if order == 1:
        first = _combined(x, axis, (0, 1), 1, (-1 / _at(steps, 0, 0, 1), 1 / _at(steps, 0, 0, 1)))
        last = _combined(x, axis, (n - 2, n - 1), 1, (-1 / _at(steps, 0, n - 2, n - 1), 1 / _at(steps, 0, n - 2, n - 1)))
    else:
        c, d = _at(steps, 0, 0, 1), _at(steps, 0, 1, 2)
        first = _combined(x, axis, (0, 1, 2), 1, (-(2 * c + d) / (c * (c + d)), (c + d) / (c * d), -c / (d * (c + d))))
        c, d = _at(steps, 0, n - 3, n - 2), _at(steps, 0, n - 2, n - 1)
        factors = (d / (c * (c + d)), -(c + d) / (c * d), (2 * d + c) / (d * (c + d)))
        last = _combined(x, axis, (n - 3, n - 2, n - 1), 1, factors)
    return joined([p for p in (first, middle, last) if p.size], axis)


@op("gradient", kinds="uifc", where=("",), samples=s.calls(
    s.call(T(5)), s.call(T(3, 4)), s.call(T(3, 4), spacing=2.0), s.call(T(3, 4), spacing=(2.0, 0.5), edge_order=2),
    s.call(T(2, 3, 4), dim=-1, edge_order=2), s.call(T(3, 4), spacing=[T(3, fill="distinct"), T(4, fill="distinct")]),
    s.call(T(3, 4), spacing=[T(4, fill="distinct")], dim=1, edge_order=2), s.call(T(2, 3), dim=(1, 0))))  # fmt: skip
def gradient(input: Node, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Node, ...]:
    """Slopes along each axis of ``dim`` by central differences, one-sided at the ends; ``spacing`` is a distance, one an
    axis, or a vector of places an axis.  (torch.gradient)"""
    if edge_order not in (1, 2):
        raise SpiralError("torch.gradient only supports edge_order=1 and edge_order=2.")
    rank = len(input.shape)
    axes = wrap_dims(dim, rank) if dim is None or isinstance(dim, int) or len(dim) else ()
    if axes and isinstance(dim, (list, tuple)):
        axes = tuple([d % rank for d in dim])
    several = isinstance(spacing, (list, tuple))
    if several and len(spacing) != len(axes):
        raise SpiralError(
            "torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to have the same "
            f"length, but got a spacing argument of length {len(spacing)} and a dim argument of length {len(axes)}."
        )
    apart = list(spacing) if several else [1 if spacing is None else spacing] * len(axes)
    x = floating(input)
    if input.dtype is dtypes.bool_:
        raise SpiralError("torch.gradient: subtraction of two bool tensors is not supported")
    found = []
    for axis, h in zip(axes, apart):
        if x.shape[axis] < edge_order + 1:
            raise ShapeError("torch.gradient expected each dimension size to be at least edge_order+1")
        if not isinstance(h, Node) or not h.shape:
            found.append(_even(x, axis, h, edge_order))
            continue
        if len(h.shape) != 1:
            raise ShapeError(
                f"torch.gradient expected each element of spacing to have one dimension, but got an element with {len(h.shape)} dimensions!"
            )
        if h.size != x.shape[axis]:
            raise IndexError(f"torch.gradient: {h.size} places for an axis of size {x.shape[axis]}")
        found.append(_placed(cast(x, result_type([x, h])), axis, h, edge_order))
    return tuple(found)


__all__ = ["corrcoef", "cov", "gradient"]
