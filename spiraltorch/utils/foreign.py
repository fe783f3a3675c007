"""Tensors of other libraries, as they come in checkpoints.

>>> import numpy as np
>>> from spiraltorch.utils.foreign import as_ours
>>> as_ours(np.ones(2, np.float32))
tensor([1., 1.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..creation import from_dlpack, from_numpy
from ..tensor import Tensor


def as_ours(value: Any) -> Tensor | None:
    """A tensor over the memory of anything that holds one, without a copy where possible; None for what does not."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return from_numpy(value)
    if hasattr(value, "__dlpack__"):
        return from_dlpack(value.detach() if hasattr(value, "detach") else value)
    return None
