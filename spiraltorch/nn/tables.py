"""Functions of tables that are read by number: embeddings, bags of them, one-hot rows.

In: tensors of numbers, a table.  Out: tensors, by calls of records; here is what writes to the table, or looks at a number.

    >>> import spiraltorch as st
    >>> st.nn.functional.one_hot(st.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
"""

from __future__ import annotations

import warnings

from .. import dtypes
from ..autograd import no_grad
from ..dispatch import call
from ..errors import ShapeError, SpiralError
from ..ops.registry import OPS
from ..tensor import Tensor


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Row ``weight[i]`` for each number ``i`` of ``input`` (torch.nn.functional.embedding).

    input: int64 or int32 of any shape; weight: [rows, features]; result [*input.shape, features].  Row ``padding_idx`` gets no
    gradient.  With ``max_norm`` the rows that are read are first shortened to that ``norm_type``-norm, in place.  With
    ``scale_grad_by_freq`` a row's gradient is divided by how often it is read.  Gradients are dense, also with ``sparse``.
    Raises RuntimeError for another type, IndexError (when looked at) for a number that is no row.
    """
    if max_norm is not None and weight.ndim == 2:
        _shorten(weight, input, max_norm, norm_type)
    return call(OPS["embedding"], (input, weight, padding_idx, None, 2.0, scale_grad_by_freq))  # type: ignore[no-any-return]


def _shorten(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """The rows of ``weight`` that ``input`` names, shortened where they are longer than ``max_norm``."""
    with no_grad():
        at = input.reshape(-1).to(dtypes.int64)
        size = weight.norm(norm_type, 1, keepdim=True)  # type: ignore[attr-defined]
        named = (size * 0).to(dtypes.bool_).index_fill(0, at, True)
        weight.mul_(call(OPS["where"], (named & (size > max_norm), max_norm / (size + 1e-7), 1.0)))  # type: ignore[attr-defined]


def embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None, norm_type: float = 2,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """The sum, mean or maximum of the rows of ``weight`` for the numbers of each bag (torch.nn.functional.embedding_bag).

    input: [B, N], a bag a row; or [N] with ``offsets`` [B], where each bag begins.  Result [B, features].  With
    ``per_sample_weights`` (of input's shape, mode 'sum') rows are multiplied.  ``padding_idx`` does not count.  Other
    arguments as :func:`embedding`'s.  Raises ValueError for shapes or modes that do not fit, and (when looked at)
    RuntimeError for offsets that do not begin at 0 and rise, up to N.
    """
    if weight.dtype is dtypes.int64 and input.is_floating_point():
        warnings.warn("Argument order of nn.functional.embedding_bag is (input, weight, ...).", stacklevel=2)
        weight, input = input, weight
    if per_sample_weights is not None and tuple(input.shape) != tuple(per_sample_weights.shape):
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, then it must have the same "
            f"shape as the input ({list(input.shape)})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim not in (1, 2):
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if input.ndim == 2 and offsets is not None:
        raise ValueError("if input is 2D, then offsets has to be None, as input is treated as a batch of fixed length sequences.")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise ValueError("offsets has to be a 1D Tensor" + (" but got None" if offsets is None else ""))
    if input.ndim == 2 and not input.shape[1]:
        raise ShapeError("embedding_bag: bags of no elements need offsets")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if max_norm is not None:
        _shorten(weight, input, max_norm, norm_type)
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: per_sample_weights is only supported for mode='sum' (got mode='{mode}').")
    args = (input, weight, offsets, per_sample_weights, mode, scale_grad_by_freq, include_last_offset, padding_idx)
    return call(OPS["embedding_bag"], args)  # type: ignore[no-any-return]


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows of 0 with a 1 at each class number of ``tensor`` (int64), along a new last axis (torch.nn.functional.one_hot).

    ``num_classes`` is how long a row is; -1 looks at the largest number.  Raises RuntimeError for another type, and for
    numbers that are no classes (when the value is looked at).
    """
    if num_classes == -1 and tensor.dtype is dtypes.int64:
        if not tensor.numel():
            raise SpiralError("Can not infer total number of classes from empty tensor.")
        low, high = (int(v) for v in tensor.aminmax())  # type: ignore[attr-defined]
        if low < 0:
            raise SpiralError("Class values must be non-negative.")
        num_classes = high + 1
    return call(OPS["one_hot"], (tensor, num_classes))  # type: ignore[no-any-return]


__all__ = ["embedding", "embedding_bag", "one_hot"]
