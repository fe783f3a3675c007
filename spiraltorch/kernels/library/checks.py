"""A value that exists only where a condition on the data holds.

In: a value and a bool that says whether it may be used.  Out: the value; without the bool, an error for whoever looks.

    >>> import numpy as np
    >>> require.value(("RuntimeError", "too large"), np.array([2.0]), np.array(True))
    array([2.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .routine import routine

ERRORS: dict[str, type[Exception]] = {"RuntimeError": RuntimeError, "ValueError": ValueError}


def _value(static: tuple[Any, ...], value: Any, holds: Any) -> Any:
    return value


@routine("checks.require", fails=True, body=_value)
def require(static: tuple[Any, ...], value: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """``value``.  Raises the error of the class and with the message that ``static`` names unless ``holds``."""
    kind, message = static
    if not holds.all():
        raise ERRORS[kind](message)
    return value
