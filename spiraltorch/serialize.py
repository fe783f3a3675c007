"""``st.save`` and ``st.load``: nested dicts and lists of tensors and numbers in one safetensors-like file.

Nothing that is loaded is executed: the file is a JSON header, raw bytes and a checksum.  Writing is atomic.  Tensors that share
memory share it again when they are loaded.  ``st.load`` reads files of ``torch.save`` too (:mod:`spiraltorch.checkpoints`).
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import dtypes
from .creation import over_array
from .device import device
from .dtypes import DType
from .errors import SpiralError
from .layouts import as_strided
from .size import Size
from .storage import Storage
from .tensor import Tensor, tensor_over

MAGIC = b"SPIRAL01"


class _Packer:
    """What is written: the arrays, and where those of memory that several tensors share are."""

    def __init__(self, value: Any) -> None:
        self.arrays: list[np.ndarray] = []
        self.shared = {cell: -1 for cell, n in Counter(_cells(value)).items() if n > 1}

    def tensor(self, x: Tensor) -> dict[str, Any]:
        said = {"dtype": x.dtype.name, "shape": list(x.shape), "grad": x.requires_grad}
        cell = x._storage
        if cell not in self.shared or cell.node.dtype is not x.dtype:
            return {"t": self._add(np.ascontiguousarray(x._values()).reshape(x.shape)), **said}
        if self.shared[cell] < 0:
            self.shared[cell] = self._add(np.ascontiguousarray(tensor_over(cell, ())._values()))
        strides, offset = x._layout()
        return {"t": self.shared[cell], **said, "strides": list(strides), "offset": offset}

    def _add(self, a: np.ndarray) -> int:
        self.arrays.append(a)
        return len(self.arrays) - 1

    def pack(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, dict):
            items = [[self.pack(k), self.pack(v)] for k, v in value.items()]
            return {"d": items, "ordered": True} if isinstance(value, OrderedDict) else {"d": items}
        if isinstance(value, (Size, DType, device, complex)):
            return {type(value).__name__: _TEXT[type(value).__name__](value)}
        if isinstance(value, (list, tuple)):
            return {"l" if isinstance(value, list) else "u": [self.pack(v) for v in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"v": value}
        raise TypeError(f"st.save stores tensors, numbers, strings, lists, tuples and dicts, not {type(value).__name__}")


def _cells(value: Any) -> Iterator[Storage]:
    """The memory of every tensor in ``value``."""
    if isinstance(value, Tensor):
        yield value._storage
    elif isinstance(value, dict):
        for v in value.values():
            yield from _cells(v)
    elif isinstance(value, (list, tuple)) and not isinstance(value, Size):
        for v in value:
            yield from _cells(v)


def _parts(z: complex) -> list[float]:
    return [z.real, z.imag]


def _name(d: DType) -> str:
    return d.name


#: how a few more types are written, and read again
_TEXT: dict[str, Callable[[Any], Any]] = {"Size": list, "DType": _name, "device": str, "complex": _parts}
_READ: dict[str, Callable[[Any], Any]] = {"Size": Size, "DType": dtypes.BY_NAME.__getitem__, "device": device}


def save(value: Any, path: Any, pickle_module: Any = None, pickle_protocol: int = 2, _use_new_zipfile_serialization: bool = True) -> None:
    """Write ``value`` to ``path``, all of it or nothing, or to an open binary file.  Raises TypeError for what cannot be stored.

    torch's other arguments are about pickles, which these files are not.
    """
    packer = _Packer(value)
    packed, arrays = packer.pack(value), packer.arrays
    header = json.dumps({"value": packed, "sizes": [a.nbytes for a in arrays]}).encode()
    parts: list[Any] = [MAGIC + len(header).to_bytes(8, "little") + header, *[a.reshape(-1).view(np.uint8).data for a in arrays]]
    if hasattr(path, "write"):
        _write(path, parts)
        return
    temporary = f"{os.fspath(path)}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        with open(temporary, "wb") as f:
            _write(f, parts)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _write(f: Any, parts: list[Any]) -> None:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
        f.write(part)
    f.write(checksum.to_bytes(4, "little"))


def load(
    path: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None, mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:  # fmt: skip
    """Read what :func:`save` or torch.save wrote, from a path or from an open binary file to its end (torch.load).

    ``map_location`` says on which device the tensors are put; nothing that is loaded is executed, whatever ``weights_only`` says.
    Raises SpiralError for a file that is not whole, not of these formats, or holds more than plain data.
    """
    if hasattr(path, "read"):
        content = path.read()
    else:
        with open(path, "rb") as f:
            content = f.read()
    found = _read(path, content)
    return found if map_location is None else _moved(found, map_location)


def _moved(value: Any, where: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(where)
    if isinstance(value, dict):
        for k, v in value.items():
            value[k] = _moved(v, where)
        return value
    return type(value)([_moved(v, where) for v in value]) if type(value) in (list, tuple) else value


def _read(path: Any, content: bytes) -> Any:
    if content[:4] == b"PK\x03\x04":
        from .checkpoints import load as of_torch

        try:
            return of_torch(content)
        except SpiralError as e:
            raise SpiralError(f"{path}: {e}") from None
        except Exception as e:
            raise SpiralError(f"{path}: the file is damaged ({type(e).__name__}: {e})") from None
    if content[:8] != MAGIC:
        raise SpiralError(f"{path}: not a file of st.save")
    content, check = content[:-4], content[-4:]
    if zlib.crc32(content) != int.from_bytes(check, "little"):
        raise SpiralError(f"{path}: the file is damaged (its checksum is another)")
    at = 16 + int.from_bytes(content[8:16], "little")
    try:
        header = json.loads(content[16:at])
        arrays: list[Any] = []
        for n in header["sizes"]:
            arrays.append(content[at : at + n])
            at += n
        if at != len(content):
            raise ValueError(f"{len(content)} bytes instead of {at}")
        return _unpack(header["value"], arrays)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as e:
        raise SpiralError(f"{path}: the file is damaged ({type(e).__name__}: {e})") from None


def _unpack(v: Any, arrays: list[Any]) -> Any:
    if "t" in v:
        found = arrays[v["t"]]
        if isinstance(found, bytes):
            a = np.frombuffer(found, dtypes.BY_NAME[v["dtype"]].np)
            found = over_array(a if "strides" in v else a.reshape(v["shape"]))
        t = found
        if "strides" in v:
            arrays[v["t"]] = found
            t = as_strided(found, tuple(v["shape"]), tuple(v["strides"]), v["offset"]).detach()
        t._requires_grad = bool(v["grad"])
        return t
    if "d" in v:
        return (OrderedDict if v.get("ordered") else dict)([(_unpack(k, arrays), _unpack(x, arrays)) for k, x in v["d"]])
    if "l" in v:
        return [_unpack(x, arrays) for x in v["l"]]
    if "u" in v:
        return tuple([_unpack(x, arrays) for x in v["u"]])
    if "complex" in v:
        return complex(*v["complex"])
    for name, read in _READ.items():
        if name in v:
            return read(v[name])
    return v["v"]
