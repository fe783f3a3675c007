"""Parts of a tensor scaled by their size: neighbouring channels, slices.

In: a node.  Out: a node of its shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["local_response_norm"].apply([graph.param(0, (2, 5, 7), dtypes.float32), 3], {}).shape
    (2, 5, 7)
"""

from __future__ import annotations

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import floating, number
from .reduce import norm
from .registry import op, raise_dtype, wrap_dim

T = s.T


# -- neighbouring channels --------------------------------------------------------------------------------


@op("local_response_norm", kinds="uif", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 5, 3), 3), s.call(T(1, 6, 2, 3), 4, 0.01, 0.5, 2.0), s.call(T(2, 3, 2, 2, 2), size=2), s.call(T(2, 1, 3), 1),
    s.call(T(0, 3, 2), 2)))  # fmt: skip
def local_response_norm(input: Node, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Node:
    """``input / (k + alpha * mean(input ** 2)) ** beta``, the mean over ``size`` neighbouring channels (axis 1), 0 beyond
    the ends.  (torch.nn.functional.local_response_norm)"""
    if len(input.shape) < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {len(input.shape)} dimensions)")
    if size < 1:
        raise SpiralError(f"local_response_norm: size must be positive, but got {size}")
    if not input.size:
        return input
    if input.dtype is dtypes.bool_:
        raise_dtype(local_response_norm, input.dtype)
    widths = tuple([(size // 2, (size - 1) // 2, 0) if a == 1 else (0, 0, 0) for a in range(len(input.shape))])
    near = graph.window(graph.pad(input * input, widths), 1, size, 1)
    total = fold("add", near, len(input.shape))
    if input.dtype.kind != "f":  # a mean of integers is one, as in torch
        total, input = cast(lang.row("IDIV", total, size) * size, dtypes.get_default_dtype()), floating(input)
    mean = total / number(float(size), input)
    return input / lang.pow_(mean * number(alpha, input) + number(k, input), number(beta, input))


# -- slices -----------------------------------------------------------------------------------------------


@op("renorm", kinds="fc", acc=False, inplace=True, out="exact", samples=s.calls(
    s.call(T(3, 4), 2, 0, 1.0), s.call(T(2, 3, 4), 1, -1, 2.0), s.call(T(3, 2), 0.5, 1, 100.0), s.call(T(3, 2), 3.0, 1, 0.5),
    s.call(T(0, 2), 2, 0, 1.0), s.call(T(2, 5), float("inf"), 0, 0.5)))  # fmt: skip
def renorm(input: Node, p: float, dim: int, maxnorm: float) -> Node:
    """``input`` with each slice along ``dim`` whose ``p``-norm is above ``maxnorm`` shortened to it.  (torch.renorm)"""
    if input.dtype.kind not in "fc":
        raise_dtype(renorm, input.dtype)
    if isinstance(p, complex) or not p > 0:
        raise SpiralError("renorm: non-positive-norm not supported")
    if len(input.shape) < 2:
        raise ShapeError(f"renorm: input must have at least 2 dimensions, got {len(input.shape)}")
    if not maxnorm >= 0:
        raise SpiralError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    axis = wrap_dim(dim, len(input.shape))
    x = cast(input, input.dtype.acc)
    rest = tuple([a for a in range(len(input.shape)) if a != axis])
    size: Node = norm.body(x, float(p), rest, True)
    limit = number(float(maxnorm), size)
    factor = lang.where(lang.lt(limit, size), limit / (size + number(1e-7, size)), 1.0)
    return cast(lang.scaled(x, graph.expand(factor, x.shape)), input.dtype)


__all__ = ["local_response_norm", "renorm"]
