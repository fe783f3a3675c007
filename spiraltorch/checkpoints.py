"""Files that torch.save wrote, read without torch.

In: the bytes of such a file (a zip archive: a pickle, and a file of raw elements for each storage).  Out: what was saved, with
tensors in place of torch's.  Only the few names that make tensors and plain containers are known to the pickle, so nothing else
can be called; a file that asks for more is refused, as ``torch.load(weights_only=True)`` does.

    st.load("resnet18.pt")["conv1.weight"].shape
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import dtypes
from .creation import over_array
from .device import device
from .dtypes import DType
from .errors import SpiralError
from .interop import TYPE_NAMES
from .layouts import as_strided
from .nn.parameter import Parameter
from .size import Size
from .tensor import Tensor

MAGIC = b"PK\x03\x04"
_OF_WORD = {f"{word}Storage": dtypes.BY_NAME[name] for name, word in TYPE_NAMES.items()}


def _tensor(
    cell: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], requires_grad: bool = False, hooks: Any = None, notes: Any = None
) -> Tensor:
    t = as_strided(cell, tuple(size), tuple(stride), offset)
    t = t.conj() if notes and notes.get("conj") else t
    return t.neg().requires_grad_(requires_grad) if notes and notes.get("neg") else t.requires_grad_(requires_grad)


def _typed(
    cell: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], requires_grad: bool, hooks: Any, dtype: DType, notes: Any = None
) -> Tensor:
    cell = over_array(np.array(cell._values()).view(dtype.np))
    return _tensor(cell, offset, size, stride, requires_grad, hooks, notes)


def _parameter(data: Tensor, requires_grad: bool = True, *hooks: Any) -> Parameter:
    return Parameter(data, requires_grad)


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict, ("collections", "defaultdict"): defaultdict, ("collections", "Counter"): Counter,
    ("builtins", "set"): set, ("builtins", "frozenset"): frozenset, ("builtins", "complex"): complex, ("builtins", "slice"): slice,
    ("builtins", "bytearray"): bytearray, ("torch", "Size"): Size, ("torch", "device"): device,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor, ("torch._utils", "_rebuild_tensor_v3"): _typed,
    ("torch.storage", "UntypedStorage"): dtypes.uint8, ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): d for name, d in dtypes.BY_NAME.items()},
    **{("torch", word): d for word, d in _OF_WORD.items()},
}  # fmt: skip


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, cell: Callable[[Any], Tensor]) -> None:
        super().__init__(io.BytesIO(data))
        self.persistent_load = cell  # type: ignore[assignment]

    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module.replace("__builtin__", "builtins"), name))
        if found is None:
            raise SpiralError(
                f"the file asks for {module}.{name}; only tensors in lists, tuples and dicts are loaded: save a state_dict() instead"
            )
        return found


def load(content: bytes) -> Any:
    """What torch saved.  Raises SpiralError for what is no plain data, zipfile.BadZipFile and others for damaged files."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    if archive.testzip() is not None:
        raise ValueError(f"{archive.testzip()} in the archive is damaged")
    main = next((n for n in archive.namelist() if n.endswith("/data.pkl") or n == "data.pkl"), None)
    if main is None:
        raise ValueError("the archive holds no data.pkl")
    folder = main.removesuffix("data.pkl")
    cells: dict[str, Tensor] = {}

    def cell(name: Any) -> Tensor:
        _, d, key, _, count = name
        if key not in cells:
            cells[key] = over_array(np.frombuffer(archive.read(f"{folder}data/{key}"), d.np, count))
        return cells[key]

    return _Reader(archive.read(main), cell).load()
