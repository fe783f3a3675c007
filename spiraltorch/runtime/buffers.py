"""Host memory: a pool of blocks by size class, and buffers that hold one each.

    b = allocate(4096)            # Buffer(ptr=0x7f..., nbytes=4096), on a cache line
    as_numpy(b, np.float32, (32, 32))[0, 0] = 1.0
    del b                         # its block waits in the pool for the next request

The first touch of fresh pages costs more than the arithmetic on them, so blocks are kept, up to half
of the machine's memory.  Memory of others (a NumPy array, a DLPack capsule) is wrapped by
:func:`foreign` with an owner that stays alive as long as the buffer.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import CPU, device
from ..errors import OutOfMemoryError

ALIGNMENT = 64


def physical_memory() -> int:
    """Bytes this process can have: the machine's memory, or what its container allows."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 1 << 40  # unknown: the allocator itself will say no
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as f:
                total = min(total, int(f.read()))
        except (OSError, ValueError):
            pass
    return total


def size_class(nbytes: int) -> int:
    """Bytes of the block that serves a request: eight classes for every power of two."""
    if nbytes <= 512:
        return max(64, (nbytes + 63) & -64)
    step = 1 << ((nbytes - 1).bit_length() - 4)
    return (nbytes + step - 1) & -step


class _Pool:
    """Free blocks by class, and the counters.  A block is (address, array that owns the memory)."""

    def __init__(self) -> None:
        # Freeing may happen inside an allocation (a garbage collection ran), hence reentrant.
        self.lock = threading.RLock()
        self.free: dict[int, list[tuple[int, np.ndarray]]] = {}
        self.limit = physical_memory()
        self.cache_limit = self.limit // 2
        self.allocated = 0
        self.cached = 0
        self.peak = 0

    def take(self, size: int) -> tuple[int, np.ndarray]:
        with self.lock:
            blocks = self.free.get(size)
            if blocks:
                block = blocks.pop()
                self.cached -= size
            else:
                block = self._fresh(size)
            self.allocated += size
            if self.allocated > self.peak:
                self.peak = self.allocated
            return block

    def _fresh(self, size: int) -> tuple[int, np.ndarray]:
        if self.allocated + self.cached + size > self.limit:
            self.empty()
        if self.allocated + size > self.limit:
            raise OutOfMemoryError(self._refusal(size))
        try:
            raw = np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self.empty()
            try:
                raw = np.empty(size + ALIGNMENT, np.uint8)
            except MemoryError:
                raise OutOfMemoryError(self._refusal(size)) from None
        address: int = raw.__array_interface__["data"][0]
        return -(-address // ALIGNMENT) * ALIGNMENT, raw

    def _refusal(self, size: int) -> str:
        return (
            f"tried to allocate {_readable(size)} on the CPU: {_readable(self.allocated)} are in use "
            f"and the machine has {_readable(self.limit)}"
        )

    def give(self, size: int, block: tuple[int, np.ndarray]) -> None:
        with self.lock:
            self.allocated -= size
            if self.cached + size > self.cache_limit:
                self.empty()  # what is in use comes back; what no longer is does not
                if size > self.cache_limit:
                    return
            self.cached += size
            blocks = self.free.get(size)
            if blocks is None:
                self.free[size] = [block]
            else:
                blocks.append(block)

    def empty(self) -> None:
        with self.lock:
            self.free.clear()
            self.cached = 0


def _readable(nbytes: int) -> str:
    """``1536`` as '1.50 KiB'."""
    power = min(4, max(0, nbytes.bit_length() - 1) // 10)
    return f"{nbytes} bytes" if power == 0 else f"{nbytes / 1024**power:.2f} {'KMGT'[power - 1]}iB"


_pool = _Pool()
SMALL_ARENA = 1 << 14  # bytes; memory between a program's launches that is kept for whichever program runs next
small_arenas: list[Buffer] = []  # that no run is using
if hasattr(os, "register_at_fork"):  # a child never starts with the pool half changed
    os.register_at_fork(
        before=_pool.lock.acquire, after_in_parent=_pool.lock.release, after_in_child=_pool.lock.release
    )


class Buffer:
    """``nbytes`` bytes at ``ptr`` of ``device``.

    ``owner`` keeps foreign memory alive; ``cell`` refers weakly to the Storage whose value it holds; a
    buffer of our own returns its block to the pool when it is collected.
    """

    __slots__ = ("ptr", "nbytes", "device", "owner", "cell", "_size", "_block", "_export", "__weakref__")
    ptr: int
    nbytes: int
    device: device
    owner: Any
    cell: Any
    _size: int
    _block: tuple[int, np.ndarray] | None
    _export: Any

    def __del__(self, _give: Any = _pool.give) -> None:
        if self._block is not None:
            _give(self._size, self._block)

    def __repr__(self) -> str:
        return f"Buffer(ptr={self.ptr:#x}, nbytes={self.nbytes}, device='{self.device}')"

    @property
    def shared(self) -> bool:
        """Whether somebody outside can read and write this memory at any time."""
        return self.owner is not None or (self._export is not None and self._export() is not None)

    @property
    def seen_outside(self) -> bool:
        """Whether anybody outside ever could read and write this memory."""
        return self.owner is not None or self._export is not None

    def export(self) -> _Export:
        """The bytes for NumPy, remembered: the buffer is ``shared`` while any array made from it lives."""
        e = self._export() if self._export is not None else None
        if e is None:
            e = _Export(self)
            self._export = weakref.ref(e)
        return e

    def view(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A private array over the start of the memory."""
        return as_numpy(self, dtype, shape)

    def overwrite(self, other: Buffer, nbytes: int) -> None:
        """Overwrite the start of the memory with that of a buffer on the same device."""
        ctypes.memmove(self.ptr, other.ptr, nbytes)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The bytes, for NumPy; an array made from it keeps the buffer alive."""
        return {"version": 3, "shape": (self.nbytes,), "typestr": "|u1", "data": (self.ptr, False)}


class _Export:
    """Stands between a buffer and the arrays users hold, so that one can see whether any is left."""

    __slots__ = ("buffer", "__weakref__")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.buffer.__array_interface__


def allocate(nbytes: int) -> Buffer:
    """Memory of our own, aligned to 64 bytes, with any content.

    Raises OutOfMemoryError when the machine has less, and ValueError for a negative size.
    """
    if nbytes < 0:
        raise ValueError(f"cannot allocate {nbytes} bytes")
    b = Buffer()
    b._block = None
    b._export = None
    b.cell = None
    b._size = size = size_class(nbytes)
    block = _pool.take(size)
    b.ptr = block[0]
    b._block = block
    b.nbytes = nbytes
    b.device = CPU
    b.owner = None
    return b


def allocate_many(sizes: Sequence[int]) -> list[Buffer]:
    """Several buffers at once: what a replay needs, in one call.  Raises as :func:`allocate`."""
    out: list[Buffer] = []
    if not sizes:
        return out
    with _pool.lock:
        for nbytes in sizes:
            b = Buffer()
            b._block = b._export = b.cell = b.owner = None
            b._size = size = size_class(nbytes) if nbytes > 512 else max(64, (nbytes + 63) & -64)
            blocks = _pool.free.get(size)
            if blocks:
                b._block = block = blocks.pop()
                _pool.cached -= size
                _pool.allocated += size
            else:
                b._block = block = _pool.take(size)
            b.ptr = block[0]
            b.nbytes = nbytes
            b.device = CPU
            out.append(b)
        if _pool.allocated > _pool.peak:
            _pool.peak = _pool.allocated
    return out


def foreign(ptr: int, nbytes: int, owner: Any, on: device = CPU) -> Buffer:
    """Memory of somebody else, which ``owner`` keeps alive."""
    b = Buffer()
    b._block = None
    b._export = None
    b.cell = None
    b._size = 0
    b.ptr = ptr
    b.nbytes = nbytes
    b.device = on
    b.owner = owner
    return b


def from_numpy(array: np.ndarray) -> tuple[Buffer, int]:
    """A buffer over the bytes an array spans, and the byte offset of its first element in it."""
    start: int = array.__array_interface__["data"][0]
    if array.size == 0:
        return foreign(start, 0, array), 0
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides)]
    low = start + sum([r for r in reach if r < 0])
    high = start + sum([r for r in reach if r > 0]) + array.itemsize
    return foreign(low, high - low, array), start - low


def as_numpy(
    buffer: Buffer, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None = None, offset: int = 0
) -> np.ndarray:
    """A view of host memory, without a copy; it keeps the buffer alive.

    ``strides`` and ``offset`` are in bytes.  Raises NumPy's TypeError or ValueError when the view does not
    fit the buffer.
    """
    return np.ndarray(shape, np.dtype(dtype), np.asarray(buffer), offset, strides)


def memory_allocated() -> int:
    """Bytes of host memory in use by buffers."""
    return _pool.allocated


def memory_cached() -> int:
    """Bytes of host memory that wait for reuse."""
    return _pool.cached


def peak_memory() -> int:
    """The most bytes that were in use at one time since :func:`reset_peak`."""
    return _pool.peak


def reset_peak() -> None:
    """Start counting the peak anew."""
    _pool.peak = _pool.allocated


def empty_cache() -> None:
    """Give all cached blocks back to the system."""
    _pool.empty()
