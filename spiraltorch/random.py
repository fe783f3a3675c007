"""Generators of random numbers: Philox4x32-10, a counter and a key, so the same seed gives the same
numbers on every backend and with any number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import dtypes
from .device import device as _Device
from .ir import graph
from .ir.node import Node
from .jit.trace import host_number
from .storage import queue

_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child never starts with a counter half moved
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Generator:
    """A seed and how many numbers were taken (torch.Generator)."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = _Device(device)
        self.manual_seed(67280421310721)

    def manual_seed(self, seed: int) -> Generator:
        """Start over from ``seed``, 64 bits with or without a sign; returns self.  Raises ValueError for a larger one."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long: the seed {seed} has more than 64 bits")
        self._seed = self.key = seed & 0xFFFFFFFFFFFFFFFF
        self.offset = 0
        return self

    def initial_seed(self) -> int:
        return self._seed

    def seed(self) -> int:
        """Seed from the system's entropy; returns the seed."""
        value = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(value)
        return value

    def key_node(self) -> Node:
        """The key as a 0-d uint64 leaf."""
        return host_number(self, "key", dtypes.uint64)

    def take(self, count: int) -> Node:
        """The next counter as a 0-d uint64 node; ``count`` values belong to the caller."""
        trace = queue.trace
        with _lock:
            if trace is None:
                node = host_number(self, "offset", dtypes.uint64)
            else:
                # Inside a trace the counter is the run's first plus what the function took before.
                used = trace.random.get(self, 0)
                self.offset -= used
                node = host_number(self, "offset", dtypes.uint64)
                self.offset += used
                trace.random[self] = used + count
                if used:
                    node = node + used
            self.offset += count
        return node

    def get_state(self) -> Any:
        from .creation import over_array

        return over_array(np.array([self.key, self.offset], np.uint64).view(np.uint8))

    def set_state(self, state: Any) -> None:
        self.key, self.offset = (int(v) for v in np.array(state._values()).view(np.uint64))

    def clone_state(self) -> Generator:
        """Another generator that goes on as this one would (torch.Generator.clone_state)."""
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Generator:
        g = Generator(self.device)
        g._seed, g.key, g.offset = self._seed, self.key, self.offset
        return g


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator (torch.manual_seed)."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    return default_generator.seed()


def initial_seed() -> int:
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    return default_generator.get_state()


def set_rng_state(state: Any) -> None:
    default_generator.set_state(state)


@contextmanager
def fork_rng(
    devices: Any = None, enabled: bool = True, _caller: str = "fork_rng", _devices_kw: str = "devices", device_type: str = "cuda"
) -> Iterator[None]:
    """What is drawn inside moves the default generator only until the block ends (torch.random.fork_rng).

    One generator serves all devices, so ``devices`` need not be named.
    """
    if not enabled:
        yield
        return
    state = default_generator.get_state()
    try:
        yield
    finally:
        default_generator.set_state(state)


__all__ = ["Generator", "default_generator", "fork_rng", "get_rng_state", "graph", "initial_seed", "manual_seed", "seed", "set_rng_state"]
