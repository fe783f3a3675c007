"""The operators: importing this package fills :data:`OPS` with every record.

    >>> from spiraltorch.ops import OPS
    >>> "lerp" in OPS and OPS["lerp"].inplace
    True

One module a family; :mod:`.registry` says what a record is, :mod:`.gradients` differentiates bodies.
"""

from . import (
    activation,
    alignment,
    arithmetic,
    assemble,
    attention,
    average,
    bessel,
    bits,
    compare,
    complex,
    conv,
    conv_transpose,
    counting,
    create,
    distance,
    elementwise,
    embedding,
    fft,
    fold,
    gamma,
    gamma_incomplete,
    grid,
    index,
    likelihood,
    linalg,
    linalg_norms,
    linalg_solve,
    loss,
    margin,
    matmul,
    moments,
    norm,
    parts,
    polynomials,
    pool,
    products,
    random,
    rearrange,
    recurrent,
    reduce,
    resample,
    scans,
    scatter,
    selection,
    sorting,
    special,
    statistics,
    variance,
    view,
)
from .registry import OPS, Op, op

__all__ = [
    "OPS", "Op", "activation", "alignment", "arithmetic", "assemble", "attention", "average", "bessel", "bits",
    "compare", "complex", "conv", "conv_transpose", "counting", "create", "distance", "elementwise", "embedding",
    "fft", "fold", "gamma", "gamma_incomplete", "grid", "index", "likelihood", "linalg", "linalg_norms",
    "linalg_solve", "loss", "margin", "matmul", "moments", "norm", "op", "parts", "polynomials", "pool",
    "products", "random", "rearrange", "recurrent", "reduce", "resample", "scans", "scatter", "selection",
    "sorting", "special", "statistics", "variance", "view",
]  # fmt: skip
