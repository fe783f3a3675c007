"""The operators: importing this package fills :data:`OPS` with every record.

    >>> from spiraltorch.ops import OPS
    >>> "lerp" in OPS and OPS["lerp"].inplace
    True

One module a family; :mod:`.registry` says what a record is, :mod:`.gradients` differentiates bodies.
"""

from . import (
    activation,
    arithmetic,
    assemble,
    attention,
    bessel,
    bits,
    compare,
    complex,
    conv,
    create,
    elementwise,
    fft,
    gamma,
    index,
    linalg,
    linalg_norms,
    linalg_solve,
    loss,
    matmul,
    norm,
    parts,
    polynomials,
    products,
    random,
    rearrange,
    reduce,
    scans,
    scatter,
    selection,
    sorting,
    special,
    statistics,
    view,
)
from .registry import OPS, Op, op

__all__ = [
    "OPS", "Op", "activation", "arithmetic", "assemble", "attention", "bessel", "bits", "compare", "complex", "conv",
    "create", "elementwise", "fft", "gamma", "index", "linalg", "linalg_norms", "linalg_solve", "loss", "matmul",
    "norm", "op", "parts", "polynomials", "products", "random", "rearrange", "reduce", "scans", "scatter", "selection",
    "sorting", "special", "statistics", "view",
]  # fmt: skip
