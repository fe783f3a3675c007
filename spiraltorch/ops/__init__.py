"""The operators: importing this package fills :data:`OPS` with every record.

    >>> from spiraltorch.ops import OPS
    >>> "lerp" in OPS and OPS["lerp"].inplace
    True

One module a family; :mod:`.registry` says what a record is, :mod:`.gradients` differentiates bodies.
"""

from . import (
    activation,
    assemble,
    attention,
    compare,
    complex,
    conv,
    create,
    elementwise,
    index,
    loss,
    matmul,
    norm,
    parts,
    random,
    rearrange,
    reduce,
    scatter,
    view,
)
from .registry import OPS, Op, op

__all__ = [
    "OPS", "Op", "activation", "assemble", "attention", "compare", "complex", "conv", "create", "elementwise", "index", "loss", "matmul",
    "norm", "op", "parts", "random", "rearrange", "reduce", "scatter", "view",
]  # fmt: skip
