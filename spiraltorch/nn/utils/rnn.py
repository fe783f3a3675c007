"""Sequences of different lengths: padded to one tensor, or packed step by step (torch.nn.utils.rnn).

A packed batch holds, for each step, the rows of the sequences that are long enough, longest sequence first:

    >>> import spiraltorch as st
    >>> rnn = st.nn.utils.rnn
    >>> packed = rnn.pack_sequence([st.tensor([1, 2, 3]), st.tensor([4, 5])])
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 4, 2, 5, 3], [2, 2, 1])
    >>> rnn.pad_packed_sequence(packed, batch_first=True)[0].tolist()
    [[1, 2, 3], [4, 5, 0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...creation import as_tensor, full, tensor
from ...dispatch import call
from ...dtypes import int64
from ...errors import SpiralError
from ...ops.registry import OPS
from ...tensor import Tensor

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """Rows of all steps, how many sequences have each step, and how the sequences were sorted (None: they were).

    Functions of this module make these.  Raises ValueError when ``batch_sizes`` is not on the CPU.
    """

    def __new__(
        cls, data: Any, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None, unsorted_indices: Tensor | None = None
    ) -> PackedSequence:
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(f"batch_sizes should always be on CPU, but is on {batch_sizes.device}; use pack_padded_sequence")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """``data`` in another type or on another device, where the indices follow it."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        places = [None if i is None else i.to(data.device) for i in self[2:]]
        return type(self)(data, self.batch_sizes, *places)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to(*(args or ("cuda",)), **kwargs)

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def double(self) -> PackedSequence:
        return self._as("float64")

    def float(self) -> PackedSequence:
        return self._as("float32")

    def half(self) -> PackedSequence:
        return self._as("float16")

    def long(self) -> PackedSequence:
        return self._as("int64")

    def int(self) -> PackedSequence:
        return self._as("int32")

    def short(self) -> PackedSequence:
        return self._as("int16")

    def char(self) -> PackedSequence:
        return self._as("int8")

    def byte(self) -> PackedSequence:
        return self._as("uint8")

    def _as(self, name: str) -> PackedSequence:
        from ...dtypes import BY_NAME

        return self.to(dtype=BY_NAME[name])

    @property
    def is_cuda(self) -> bool:
        return bool(self.data.device.type == "cuda")


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Where each position went: the permutation that undoes this one."""
    return None if permutation is None else permutation.argsort()  # type: ignore[attr-defined]


def _lengths(lengths: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths], np.int64)


def _taken(x: Tensor, index: np.ndarray[Any, Any], dim: int = 0) -> Tensor:
    return x.index_select(dim, tensor(index, device=x.device))  # type: ignore[attr-defined, no-any-return]


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The first ``lengths[b]`` steps of each sequence of ``input`` [T, N, ..] (or [N, T, ..]).  With ``enforce_sorted`` they
    come longest first.  Raises RuntimeError for lengths that are not positive, not sorted, or not one for each sequence."""
    counts = _lengths(lengths)
    x = input.transpose(0, 1) if batch_first else input  # type: ignore[attr-defined]
    steps, batch = x.shape[:2]
    if len(counts) != batch:
        raise SpiralError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(counts)} (batch_size={batch})")
    order = None
    if not enforce_sorted:
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
    elif (np.diff(counts) > 0).any():
        raise SpiralError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do "
            "not need ONNX exportability."
        )
    if not batch or counts[-1] <= 0:
        raise SpiralError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0: "
            f"{counts.tolist()}"
        )
    if counts[0] > steps:
        raise SpiralError(f"a length of {counts[0]} is more than the input's {steps} steps")
    there = np.arange(counts[0])[:, None] < counts
    sequence = np.arange(batch) if order is None else order
    rows = (np.arange(counts[0])[:, None] * batch + sequence)[there]
    data = _taken(x.reshape(steps * batch, *x.shape[2:]), rows)
    indices = None if order is None else tensor(order, device=input.device)
    return PackedSequence(data, tensor(there.sum(1)), indices)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(sequences [T, N, ..] or [N, T, ..] with ``padding_value`` after their ends, lengths), in the order before sorting.
    Raises ValueError when ``total_length`` is less than the longest."""
    sizes = _lengths(sequence.batch_sizes)
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None and total_length < steps:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {steps}"
        )
    counts = (np.arange(batch) < sizes[:, None]).sum(0)
    order = np.arange(batch) if sequence.unsorted_indices is None else _lengths(sequence.unsorted_indices)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    index = starts[:, None] + order
    there = order < sizes[:, None]
    if total_length is not None:
        more = ((0, total_length - steps), (0, 0))
        index, there = np.pad(index, more), np.pad(there, more)
    if batch_first:
        index, there = index.T, there.T
    data = sequence.data
    out = _taken(data, np.where(there, index, 0).reshape(-1)).reshape(*index.shape, *data.shape[1:])
    if not there.all():
        shape = (*there.shape, *(1,) * (data.ndim - 1))
        value = full((), padding_value, dtype=data.dtype, device=data.device)
        out = call(OPS["where"], (tensor(there.reshape(shape), device=data.device), out, value))
    return out, tensor(counts[order])


def pad_sequence(
    sequences: Tensor | Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences [L, ..] of different lengths as one tensor [T, N, ..] (or [N, T, ..]), filled up on ``padding_side``."""
    if not isinstance(sequences, Iterable):
        raise SpiralError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    listed = list(sequences)
    if padding_side not in ("left", "right"):
        raise SpiralError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    if not listed:
        raise SpiralError("received an empty list of sequences")
    longest = max([s.shape[0] for s in listed])
    padded = []
    for s in listed:
        more = longest - s.shape[0]
        widths = [0, 0] * (s.ndim - 1) + ([0, more] if padding_side == "right" else [more, 0])
        padded.append(call(OPS["pad"], (s, widths, "constant", padding_value)) if more else s)
    return call(OPS["stack"], (padded, 0 if batch_first else 1))  # type: ignore[no-any-return]


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each as long as ``lengths`` says."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)  # type: ignore[attr-defined]
    return [x[b, : int(n)] for b, n in enumerate(_lengths(lengths))]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences [L, ..] packed, longest first unless ``enforce_sorted`` is off."""
    lengths = as_tensor([int(s.shape[0]) for s in sequences], dtype=int64)
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
