"""``st.save`` and ``st.load``: nested dicts and lists of tensors and numbers in one safetensors-like file.

Nothing that is loaded is executed: the file is a JSON header, raw bytes and a checksum.  Writing is atomic.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from typing import Any

import numpy as np

from . import dtypes
from .creation import over_array
from .errors import SpiralError
from .tensor import Tensor

MAGIC = b"SPIRAL01"


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, Tensor):
        a = np.ascontiguousarray(value._values()).reshape(value.shape)
        arrays.append(a)
        return {"t": len(arrays) - 1, "dtype": value.dtype.name, "shape": list(value.shape), "grad": value._requires_grad}
    if isinstance(value, dict):
        return {"d": [[_pack(k, arrays), _pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"l" if isinstance(value, list) else "u": [_pack(v, arrays) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"v": value}
    raise TypeError(f"st.save stores tensors, numbers, strings, lists, tuples and dicts, not {type(value).__name__}")


def save(value: Any, path: Any) -> None:
    """Write ``value`` to ``path``, all of it or nothing, or to an open binary file.  Raises TypeError for what cannot be stored."""
    arrays: list[np.ndarray] = []
    header = json.dumps({"value": _pack(value, arrays), "sizes": [a.nbytes for a in arrays]}).encode()
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


def load(path: Any) -> Any:
    """Read what :func:`save` wrote, from a path or from an open binary file to its end.

    Raises SpiralError for a file that is not whole or not of this format.
    """
    if hasattr(path, "read"):
        content = path.read()
    else:
        with open(path, "rb") as f:
            content = f.read()
    if content[:8] != MAGIC:
        raise SpiralError(f"{path}: not a file of st.save")
    content, check = content[:-4], content[-4:]
    if zlib.crc32(content) != int.from_bytes(check, "little"):
        raise SpiralError(f"{path}: the file is damaged (its checksum is another)")
    at = 16 + int.from_bytes(content[8:16], "little")
    try:
        header = json.loads(content[16:at])
        arrays = []
        for n in header["sizes"]:
            arrays.append(content[at : at + n])
            at += n
        if at != len(content):
            raise ValueError(f"{len(content)} bytes instead of {at}")
        return _unpack(header["value"], arrays)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as e:
        raise SpiralError(f"{path}: the file is damaged ({type(e).__name__}: {e})") from None


def _unpack(v: Any, arrays: list[bytes]) -> Any:
    if "t" in v:
        a = np.frombuffer(arrays[v["t"]], dtypes.BY_NAME[v["dtype"]].np)
        t = over_array(a.reshape(v["shape"]))
        t._requires_grad = bool(v["grad"])
        return t
    if "d" in v:
        return {_unpack(k, arrays): _unpack(x, arrays) for k, x in v["d"]}
    if "l" in v:
        return [_unpack(x, arrays) for x in v["l"]]
    if "u" in v:
        return tuple([_unpack(x, arrays) for x in v["u"]])
    return v["v"]
