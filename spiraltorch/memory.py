"""Counters of host memory: ``allocated``, ``cached``, ``peak``, ``reset_peak``, ``empty_cache`` (bytes)."""

from .runtime.buffers import empty_cache, reset_peak
from .runtime.buffers import memory_allocated as allocated
from .runtime.buffers import memory_cached as cached
from .runtime.buffers import peak_memory as peak

__all__ = ["allocated", "cached", "empty_cache", "peak", "reset_peak"]
