"""What a tensor's memory is to users: bytes, or elements of its type (torch.UntypedStorage, torch.TypedStorage).

In: a tensor.  Out: an object that its aliases share; looking at it computes.

    >>> import spiraltorch as st
    >>> x = st.arange(6, dtype=st.int16).view(2, 3)
    >>> x[1].untyped_storage() is x.untyped_storage(), x.untyped_storage().nbytes(), x.storage().tolist()
    (True, 12, [0, 1, 2, 3, 4, 5])
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from .device import device
from .dtypes import DType, uint8
from .storage import Storage
from .tensor import Tensor, tensor_over


class UntypedStorage:
    """The bytes of a cell of memory.  One object a cell, as long as somebody holds it."""

    __slots__ = ("_cell", "__weakref__")
    dtype: DType = uint8

    def __init__(self, cell: Storage) -> None:
        self._cell = cell

    def nbytes(self) -> int:
        return self._cell.node.nbytes

    def element_size(self) -> int:
        return self.dtype.itemsize

    def size(self) -> int:
        """How many elements there are."""
        return self.nbytes() // self.element_size()

    __len__ = size

    def data_ptr(self) -> int:
        """Address of the first byte; computes what is pending."""
        return tensor_over(self._cell, ()).data_ptr()

    @property
    def _cdata(self) -> int:
        return id(self._cell)

    @property
    def device(self) -> device:
        return self._cell.device

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def is_shared(self) -> bool:
        """False: no memory is shared between processes."""
        return False

    is_pinned = is_shared

    def resizable(self) -> bool:
        return not self._cell.shared

    def _elements(self) -> np.ndarray:
        values = np.ascontiguousarray(tensor_over(self._cell, ())._values())
        return values.reshape(-1).view(np.uint8).view(self.dtype.np)

    def tolist(self) -> list[Any]:
        return self._elements().tolist()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, index: int) -> Any:
        return self._elements()[index].item()

    def __repr__(self) -> str:
        values = "".join([f" {v}\n" for v in self.tolist()])
        return f"{values}[torch.storage.{type(self).__name__}(device={self.device}) of size {self.size()}]"


class TypedStorage(UntypedStorage):
    """The elements of a cell of memory as ``dtype``."""

    __slots__ = ("dtype",)  # type: ignore[misc]

    def __init__(self, cell: Storage, dtype: DType) -> None:
        super().__init__(cell)
        self.dtype = dtype

    def untyped(self) -> UntypedStorage:
        """The same memory as bytes."""
        return untyped(self._cell)


_made: weakref.WeakValueDictionary[int, UntypedStorage] = weakref.WeakValueDictionary()


def untyped(cell: Storage) -> UntypedStorage:
    """The one UntypedStorage of ``cell``."""
    found = _made.get(id(cell))
    if found is None:
        found = _made[id(cell)] = UntypedStorage(cell)
    return found


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The bytes that this tensor and its aliases share (torch.Tensor.untyped_storage)."""
    return untyped(self._storage)


def storage(self: Tensor) -> TypedStorage:
    """The memory that this tensor and its aliases share, as elements of its type (torch.Tensor.storage)."""
    return TypedStorage(self._storage, self.dtype)


METHODS: dict[str, Any] = {"untyped_storage": untyped_storage, "storage": storage}
