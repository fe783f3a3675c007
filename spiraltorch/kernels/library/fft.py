"""Discrete Fourier transforms by pocketfft (SciPy): what the CALLs of :mod:`spiraltorch.ops.fft` mean on arrays.

In: one array; static: the axes, the norm ('backward', 'forward' or 'ortho'), and for ``c2r`` the length of the last axis.
Out: one array.  float32 stays float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .routine import routine


@routine("fft.c2c")
def c2c(static: Any, a: np.ndarray) -> np.ndarray:
    axes, norm, forward = static
    from scipy import fft

    return np.asarray((fft.fftn if forward else fft.ifftn)(a, axes=axes, norm=norm))


@routine("fft.r2c")
def r2c(static: Any, a: np.ndarray) -> np.ndarray:
    """The first half of the last of ``axes``."""
    axes, norm = static
    from scipy import fft

    return np.asarray(fft.rfftn(a, axes=axes, norm=norm))


@routine("fft.c2r")
def c2r(static: Any, a: np.ndarray) -> np.ndarray:
    """From the first half of the last of ``axes``, whose full length is ``last``."""
    axes, norm, last = static
    from scipy import fft

    return np.asarray(fft.irfftn(a, s=[*[a.shape[i] for i in axes[:-1]], last], axes=axes, norm=norm))
