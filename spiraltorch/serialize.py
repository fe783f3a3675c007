"""``st.save`` and ``st.load``: nested dicts and lists of tensors and numbers in one safetensors-like file.

Nothing that is loaded is executed: the file is a JSON header and raw bytes.  Writing is atomic.
"""

from __future__ import annotations

import json
import os
import tempfile
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
    """Write ``value`` to ``path``, all of it or nothing.  Raises TypeError for what cannot be stored."""
    arrays: list[np.ndarray] = []
    header = json.dumps({"value": _pack(value, arrays), "sizes": [a.nbytes for a in arrays]}).encode()
    folder = os.path.dirname(os.path.abspath(os.fspath(path)))
    handle, temporary = tempfile.mkstemp(dir=folder)
    try:
        with open(handle, "wb") as f:
            f.write(MAGIC + len(header).to_bytes(8, "little") + header)
            for a in arrays:
                f.write(a.tobytes())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: Any) -> Any:
    """Read what :func:`save` wrote.  Raises SpiralError for a file that is not whole or not of this format."""
    with open(path, "rb") as f:
        content = f.read()
    if content[:8] != MAGIC:
        raise SpiralError(f"{path}: not a file of st.save")
    size = int.from_bytes(content[8:16], "little")
    try:
        header = json.loads(content[16 : 16 + size])
    except ValueError:
        raise SpiralError(f"{path}: the file is damaged (its header cannot be read)") from None
    at = 16 + size
    blobs = []
    for n in header["sizes"]:
        blobs.append(content[at : at + n])
        at += n
    if at != len(content):
        raise SpiralError(f"{path}: the file is damaged ({len(content)} bytes instead of {at})")

    def unpack(v: Any) -> Any:
        if "t" in v:
            d = dtypes.BY_NAME[v["dtype"]]
            t = over_array(np.frombuffer(blobs[v["t"]], d.np).reshape(v["shape"]))
            t._requires_grad = v["grad"]
            return t
        if "d" in v:
            return {unpack(k): unpack(x) for k, x in v["d"]}
        if "l" in v:
            return [unpack(x) for x in v["l"]]
        if "u" in v:
            return tuple(unpack(x) for x in v["u"])
        return v["v"]

    return unpack(header["value"])
