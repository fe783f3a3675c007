"""The public functions of the installed torch, as ``docs/torch_names.json`` keeps them.

A name is public when it has no underscore in front and is a function (of Tensor also: an attribute) that torch
wrote for this namespace; it is documented when it has a docstring.  ``python -m tests.torch_names`` writes the file.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

FILE = Path(__file__).parent.parent / "docs" / "torch_names.json"
SPACES: dict[str, Any] = {
    "torch": torch,
    "torch.Tensor": torch.Tensor,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.fft": torch.fft,
    "torch.special": torch.special,
}
#: where helpers come from that a namespace merely imports
_ELSEWHERE = ("torch.overrides", "torch._jit_internal", "typing", "collections.abc", "torch._C")
#: classes that are used like functions
_CLASSES = ("Generator", "Size", "device", "dtype", "enable_grad", "finfo", "iinfo", "inference_mode", "no_grad", "set_grad_enabled")


def _is_public(space: str, name: str, value: Any) -> bool:
    if name.startswith("_"):
        return False
    if space == "torch.Tensor":
        return True
    if space == "torch" and name in _CLASSES:
        return True
    if isinstance(value, (ModuleType, torch.dtype)) or inspect.isclass(value) or not callable(value):
        return False
    return space == "torch" or getattr(value, "__module__", None) not in _ELSEWHERE


def names() -> dict[str, dict[str, list[str]]]:
    """By namespace: the documented and the undocumented public names, sorted."""
    out = {}
    for space, holder in SPACES.items():
        found = [n for n in dir(holder) if _is_public(space, n, getattr(holder, n))]
        said = [n for n in found if n in _CLASSES or getattr(getattr(holder, n), "__doc__", None)]
        out[space] = {"documented": said, "undocumented": sorted(set(found) - set(said))}
    return out


if __name__ == "__main__":
    FILE.write_text(json.dumps(names(), indent=0) + "\n", encoding="utf-8")
