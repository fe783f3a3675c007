"""Settings, read once from the environment and changeable at run time.

================  ==========================================================================
ST_NUM_THREADS    threads that kernels use (default: the CPUs this process may run on)
ST_CPU            'llvm' (default), 'numba' (plain loops) or 'reference' (NumPy interpreter)
ST_GEMM           'generated' (default), or 'blas': matrix products through SciPy's BLAS
ST_INSTRUCTIONS   'avx2' or 'sse2': code for this instruction set, although the machine has a wider one
ST_LOG            comma-separated channels: recompile, fuse, kernels, source, launch
ST_DUMP           folder that gets every program's graph, kernels and source as text
ST_CACHE_DIR      folder of compiled kernels (default: the user's cache folder)
ST_VERIFY         1: check every graph and kernel between passes
ST_QUEUE_NODES    pending operations after which eager mode computes them when a loop comes round (default 1024),
                  and 16 times as many at the latest
ST_QUEUE_BYTES    bytes of pending results before eager mode computes them (default 1 GiB)
ST_EXTENSION      0: do without the C module (:mod:`spiraltorch.fast`); nothing but time differs
ST_SIMULATE_CUDA  number of CUDA devices to simulate, for tests on machines without one: host memory in the role of
                  theirs, kernels run by Triton's interpreter (default 0: real devices)
================  ==========================================================================
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field

CHANNELS = ("recompile", "fuse", "kernels", "source", "launch")


@dataclass
class Config:
    cpu: str = field(default_factory=lambda: os.environ.get("ST_CPU", "llvm"))
    gemm: str = field(default_factory=lambda: os.environ.get("ST_GEMM", "generated"))
    log: frozenset[str] = frozenset()
    dump: str = field(default_factory=lambda: os.environ.get("ST_DUMP", ""))
    verify: bool = field(default_factory=lambda: os.environ.get("ST_VERIFY", "") == "1")
    queue_nodes: int = field(default_factory=lambda: int(os.environ.get("ST_QUEUE_NODES", 1024)))
    queue_bytes: int = field(default_factory=lambda: int(os.environ.get("ST_QUEUE_BYTES", 1 << 30)))
    simulate_cuda: int = field(default_factory=lambda: int(os.environ.get("ST_SIMULATE_CUDA", 0)))


config = Config()
logger = logging.getLogger("spiraltorch")


def set_log(channels: str | None) -> None:
    """Switch log channels on: ``"recompile,fuse"``; None or '' switches all off.

    Raises ValueError for a channel that does not exist.
    """
    names = frozenset(c.strip() for c in (channels or "").split(",") if c.strip())
    unknown = names - set(CHANNELS)
    if unknown:
        raise ValueError(f"unknown log channel {sorted(unknown)}; there are: {', '.join(CHANNELS)}")
    config.log = names


def log(channel: str, text: str) -> None:
    """One line (or block) on stderr, if the channel is on."""
    if channel in config.log:
        print(f"[{channel}] {text}", file=sys.stderr, flush=True)


set_log(os.environ.get("ST_LOG"))
