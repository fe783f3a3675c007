"""Where tensors live: ``device("cpu")``, ``device("cuda", 0)`` (CUDA and ROCm).

A tensor's own device is one of few objects that :func:`place` gives, so that two of them are compared with ``is``.
"""

from __future__ import annotations

from typing import Any

_TYPES = ("cpu", "cuda")


class device:
    """A device by type and index; equal by both (torch.device).

    Raises RuntimeError for an unknown type.
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        name = type.type if isinstance(type, device) else type
        if isinstance(type, device):
            index = type.index
        elif ":" in name:
            name, _, number = name.partition(":")
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if name == "meta":
            raise RuntimeError(
                "there is no device 'meta': a tensor has no memory before its value is looked at, so st.empty(...) on the CPU will do"
            )
        if name not in _TYPES:
            raise RuntimeError(f"Expected one of {', '.join(_TYPES)} device type at start of device string: {name}")
        self.type = name
        self.index = index

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, device) and (self.type, self.index or 0) == (other.type, other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))


CPU = device("cpu")


def place(where: device | str | int | None) -> device:
    """The device that a tensor asked for as ``where`` lives on, always the same object: None is the CPU, a number
    a GPU, and "cuda" the current GPU.

    Raises RuntimeError when there is no such device.
    """
    if where is None or where is CPU:
        return CPU
    wanted = device("cuda", where) if isinstance(where, int) else device(where)
    if wanted.type == "cpu":
        return CPU
    from .runtime.devices import driver  # torch is loaded when a device is first asked for

    return driver(wanted).where
