"""torch's settings of the libraries below it (torch.backends): accepted and remembered, since scripts set them; results here
are deterministic and float32 products exact to their type whatever they say.

    >>> import spiraltorch as st
    >>> st.backends.cudnn.benchmark = True
    >>> st.backends.cudnn.benchmark, st.backends.mps.is_available()
    (True, False)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class Backend(SimpleNamespace):
    """One library's settings.  There is none such below SpiralTorch."""

    def is_available(self) -> bool:
        """False: nothing here calls that library."""
        return False

    is_built = is_available

    def version(self) -> None:
        """None: see :meth:`is_available`."""

    @contextmanager
    def flags(self, **settings: Any) -> Iterator[None]:
        """Settings that hold in a block."""
        before = dict(vars(self))
        vars(self).update(settings)
        try:
            yield
        finally:
            vars(self).clear()
            vars(self).update(before)


cudnn = Backend(enabled=True, benchmark=False, benchmark_limit=10, deterministic=False, allow_tf32=True)
cuda = Backend(
    matmul=Backend(allow_tf32=False, allow_fp16_reduced_precision_reduction=True, allow_bf16_reduced_precision_reduction=True)
)
mkldnn, mkl, openmp, mps = Backend(enabled=True), Backend(), Backend(), Backend()

__all__ = ["Backend", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
