"""Moving tensors between devices."""

from __future__ import annotations

from typing import Any

from ..device import device
from ..errors import SpiralError


def move(tensor: Any, target: device) -> Any:
    """``tensor`` on ``target``.  Raises RuntimeError for a device that tensors cannot live on yet.

    Kernels for CUDA and ROCm are generated and compiled (:mod:`spiraltorch.kernels.triton`), but buffers are
    host memory in this version.
    """
    if target.type == tensor.device.type:
        return tensor
    raise SpiralError(
        f"tensors live on the CPU in this version, so none can be moved to {str(target)!r}; kernels for that device can be "
        "compiled and read with f.lower(...)"
    )
