"""Functions whose result's size, or whose refusal, is in the data: they look at a number or two of it.

In: tensors.  Out: tensors, by calls of records.

    >>> import spiraltorch as st
    >>> st.unique(st.tensor([3, 1, 3, 2]), return_counts=True)
    (tensor([1, 2, 3]), tensor([1, 1, 2]))
    >>> st.bincount(st.tensor([0, 2, 2]))
    tensor([1, 0, 2])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import dtypes
from .creation import as_tensor, empty
from .dispatch import call
from .errors import ShapeError, SpiralError
from .ops.registry import OPS, result_class, wrap_dim
from .outs import write_out
from .shapes import nonzero
from .tensor import Tensor

__all__ = ["bincount", "cov", "histc", "histogram", "histogramdd", "unique", "unique_consecutive"]


def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """The covariances of the variables in the rows of ``input`` [V, N] over the N observations in its columns, [V, V]
    (torch.cov).

    ``fweights`` (integers) say how often an observation counts, ``aweights`` (floats) how much.  Raises RuntimeError for
    negative weights, which it looks for, and for weights that do not fit.
    """
    options = {"correction": correction, "fweights": fweights, "aweights": aweights}
    found = call(OPS["cov"], (input,), options)
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is not None and w.numel() and bool((w.detach() < 0).any()):  # type: ignore[operator]
            raise SpiralError(f"cov(): {name} cannot be negative")
    return found  # type: ignore[no-any-return]


# -- each element once ------------------------------------------------------------------------------------


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements of ``input`` in order, each once; with ``dim`` its slices, in order of their elements (torch.unique).

    Also, where asked for: where each element of ``input`` is in the result (int64), and how often each one of the result
    comes.  Every nan is one of its own.  Always sorted; looks at how many there are.
    """
    x = input.detach()
    if x.dtype.is_complex:
        raise NotImplementedError(f'"unique" not implemented for {x.dtype.name!r}')
    if dim is None:
        lines, order = x.reshape(-1), x.reshape(-1).argsort(stable=True)  # type: ignore[attr-defined]
    else:
        lines = _slices("unique", x, dim)
        order = call(OPS["order_of_rows"], (lines.flatten(1) if lines.ndim > 1 else lines.reshape(-1, 1),))
    return _runs(input, lines, order, dim, return_inverse, return_counts)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """``input`` with each run of equal elements (with ``dim``: of equal slices) as one (torch.unique_consecutive).

    Results as :func:`unique`'s.
    """
    x = input.detach()
    if x.dtype.is_complex:
        raise NotImplementedError(f'"unique_consecutive" not implemented for {x.dtype.name!r}')
    lines = x.reshape(-1) if dim is None else _slices("unique_consecutive", x, dim)
    return _runs(input, lines, None, dim, return_inverse, return_counts)


def _slices(name: str, x: Tensor, dim: int) -> Tensor:
    """``x`` with ``dim`` in front."""
    axis = wrap_dim(dim, x.ndim)
    if not x.ndim:
        return x.reshape(1)
    if not x.numel() and x.shape[axis]:
        raise ShapeError(f"There are 0 sized dimensions, and they aren't selected, so {name} cannot be applied")
    return x.movedim(axis, 0)  # type: ignore[attr-defined, no-any-return]


def _runs(input: Tensor, lines: Tensor, order: Tensor | None, dim: int | None, inverse: bool, counts: bool) -> Any:
    """The first of each run of equal lines (taken in ``order``), and what else is asked for."""
    n = int(lines.shape[0])
    taken = lines if order is None else lines[order]
    differs: Tensor = call(OPS["ne"], (taken[1:], taken[:-1]))
    if differs.ndim > 1:
        differs = differs.flatten(1).any(1)  # type: ignore[attr-defined]
    begins = call(OPS["pad"], (differs, (1, 0)), {"value": True}) if n else differs
    values = taken[begins]
    results = [values if dim is None or not input.ndim else values.movedim(0, wrap_dim(dim, input.ndim))]
    if inverse:
        number = begins.cumsum(0) - 1
        if order is not None:
            number = number.scatter(0, order, number)
        results.append(number.reshape(tuple(input.shape)) if dim is None else number)
    if counts:
        results.append(nonzero(begins)[:, 0].diff(append=as_tensor([n])))  # type: ignore[attr-defined]
    return tuple(results) if len(results) > 1 else results[0]


# -- counting ---------------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1 .. is in the vector ``input`` of integers, or the sum of ``weights`` there; at least
    ``minlength`` numbers (torch.bincount).

    int64, or float64 with weights (float32 stays).  Looks at the smallest and the largest element.  Raises RuntimeError
    for negative numbers.
    """
    if input.dtype.kind not in "ui":
        raise NotImplementedError(f'"bincount" not implemented for {input.dtype.name!r}')
    if input.ndim != 1:
        raise ShapeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise SpiralError("minlength should be >= 0")
    if weights is not None and (weights.ndim != 1 or weights.numel() != input.numel()):
        raise ShapeError("weights should be 1-d and have the same length as input")
    if not input.numel():
        return empty(minlength, dtype=dtypes.int64, device=input.device)
    low, high = (int(v) for v in input.aminmax())  # type: ignore[attr-defined]
    if low < 0:
        raise SpiralError("bincount only supports 1-d non-negative integral inputs.")
    return call(OPS["bincount"], (input, weights, max(high + 1, int(minlength))))  # type: ignore[no-any-return]


def _ends(name: str, x: Tensor, low: float, high: float, room: float) -> tuple[float, float]:
    """The ends of a range, of the data where both are equal and so none is given."""
    if low == high and x.numel():
        low, high = (float(v) for v in x.detach().aminmax())  # type: ignore[attr-defined]
    if low == high:
        low, high = low - room, high + room
    if not math.isfinite(low) or not math.isfinite(high):
        raise SpiralError(f"{name}: range of [{low}, {high}] is not finite")
    return low, high


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Tensor | None = None) -> Tensor:
    """How many elements of ``input`` lie in each of ``bins`` equal parts of [``min``, ``max``], in its type; with both 0 the
    range is the data's, which is looked at (torch.histc).  Raises RuntimeError for a range that is not finite."""
    if input.dtype.kind != "f":
        raise NotImplementedError(f'"histogram" not implemented for {input.dtype.name!r}')
    if bins <= 0:
        raise SpiralError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    low, high = float(min), float(max)
    if low > high:
        raise SpiralError("torch.histc: max must be larger than min")
    low, high = _ends("torch.histc", input, low, high, 1.0)
    found: Tensor = call(OPS["histc"], (input.detach(), int(bins), low, high))
    if out is None:
        return found
    write_out("histc", [input], [out], [found])
    return out


def histogram(
    input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None, density: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    """(hist, bin_edges): how many elements, or how much ``weight``, lie between the edges, which are ``bins`` equal parts of
    ``range`` (or of the data's) or a vector; with ``density`` the integral is 1 (torch.histogram)."""
    if isinstance(bins, Tensor) and range is not None:
        raise TypeError("histogram() got a range for bins that are edges already")
    flat = input.reshape(-1, 1)
    heavy = None if weight is None else weight.reshape(-1) if weight.shape == input.shape else weight
    hist, edges = _boxes(flat, [bins], range, heavy, density)
    found = result_class("histogram", ("hist", "bin_edges"))((hist, edges))
    if out is None:
        return found
    write_out("histogram", [input], list(out), list(found))
    return result_class("histogram", ("hist", "bin_edges"))(out)


def histogramdd(
    input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """:func:`histogram` of points [.., D]: (hist of D axes, edges of each).  ``bins`` is a number, or a number or a vector an
    axis; ``range`` has two numbers an axis (torch.histogramdd)."""
    if input.ndim < 2:
        raise ShapeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    each = [bins] * int(input.shape[-1]) if isinstance(bins, int) else list(bins)
    hist, *edges = _boxes(input, each, range, weight, density)
    return result_class("histogramdd", ("hist", "bin_edges"))((hist, tuple(edges)))


def _boxes(input: Tensor, bins: list[Any], span: Sequence[float] | None, weight: Tensor | None, density: bool) -> tuple[Tensor, ...]:
    name, axes = "torch.histogramdd", int(input.shape[-1])
    known = span is not None or all(isinstance(b, Tensor) for b in bins)
    if input.dtype.kind != "f" or (input.dtype.itemsize == 2 and input.numel() and not known):
        raise NotImplementedError(f'"histogramdd" not implemented for {input.dtype.name!r}')
    if span is not None and len(span) != 2 * axes:
        raise SpiralError(f"{name}: for a {axes}-dimensional histogram range should have {2 * axes} elements, but got {len(span)}")
    if len(bins) != axes:
        raise ShapeError("histogramdd: The size of bins must be equal to the innermost dimension of the input.")
    ends: list[float] = []
    for d, b in enumerate(bins):
        column = input[..., d]
        if span is not None:
            low, high = float(span[2 * d]), float(span[2 * d + 1])
            if low > high:
                raise SpiralError(f"{name}: min should not exceed max, but got min {low:g} max {high:g} for dimension {d}")
            ends += (low - 0.5, high + 0.5) if low == high else (low, high)
        elif isinstance(b, Tensor):
            ends += (0.0, 1.0)
        else:
            ends += _ends(f"{name}: dimension {d}'s", column, 0.0, 0.0, 0.5) if column.numel() else (0.0, 1.0)
        if not all(map(math.isfinite, ends[-2:])):
            raise SpiralError(f"{name}: dimension {d}'s range [{ends[-2]}, {ends[-1]}] is not finite")
    return tuple(call(OPS["histogramdd"], (input.detach(), bins, ends, weight, density)))


METHODS: dict[str, Any] = {
    "bincount": bincount, "cov": cov, "histc": histc, "histogram": histogram, "unique": unique,
    "unique_consecutive": unique_consecutive,
}  # fmt: skip
