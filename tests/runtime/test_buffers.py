"""Blocks go back to the pool, views keep them alive, and the counters say so."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import ml_dtypes
import numpy as np
import pytest

from spiraltorch.errors import OutOfMemoryError
from spiraltorch.runtime import buffers


@pytest.fixture(autouse=True)
def _collected() -> None:
    gc.collect()


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 513, 4097, 1 << 20, (1 << 20) + 1])
def test_blocks_are_aligned_and_large_enough(nbytes: int) -> None:
    b = buffers.allocate(nbytes)
    assert b.ptr and b.ptr % 64 == 0 and b.nbytes == nbytes
    view = buffers.as_numpy(b, np.uint8, (nbytes,))
    view[:] = 7
    assert (view == 7).all()


def test_size_classes_waste_at_most_an_eighth() -> None:
    sizes = [buffers.size_class(n) for n in range(1, 5000)]
    assert sizes == sorted(sizes)
    for n, size in enumerate(sizes, 1):
        assert n <= size and size % 64 == 0
        assert size - n <= max(63, n / 8)


def test_freed_memory_is_reused_and_counted() -> None:
    buffers.empty_cache()
    start = buffers.memory_allocated()
    b = buffers.allocate(100_000)
    size = buffers.size_class(100_000)
    assert buffers.memory_allocated() - start == size
    address, seen = b.ptr, weakref.ref(b)
    del b
    assert seen() is None
    assert buffers.memory_allocated() == start and buffers.memory_cached() == size
    again = buffers.allocate(99_990)
    assert again.ptr == address and buffers.memory_cached() == 0
    del again
    buffers.empty_cache()
    assert buffers.memory_cached() == 0


def test_peak() -> None:
    buffers.reset_peak()
    base = buffers.peak_memory()
    held = [buffers.allocate(1 << 16) for _ in range(3)]
    held.clear()
    held.append(buffers.allocate(1 << 16))
    assert buffers.peak_memory() - base == 3 << 16
    buffers.reset_peak()
    assert buffers.peak_memory() - base == 1 << 16


def test_view_keeps_the_buffer_alive() -> None:
    b = buffers.allocate(64)
    view = buffers.as_numpy(b, np.float32, (4, 4))
    view[:] = 3
    address = b.ptr
    seen = weakref.ref(b)
    del b
    assert seen() is not None and buffers.allocate(64).ptr != address
    assert (view == 3).all()
    part = view[1:, 2]
    del view
    assert seen() is not None
    del part
    assert seen() is None


def test_views_with_strides_offset_and_bfloat16() -> None:
    b = buffers.allocate(48)
    buffers.as_numpy(b, np.int16, (24,))[:] = np.arange(24)
    np.testing.assert_array_equal(buffers.as_numpy(b, np.int16, (3, 2), (4, 12), 2), [[1, 7], [3, 9], [5, 11]])
    halves = buffers.as_numpy(b, ml_dtypes.bfloat16, (2, 2), offset=8)
    halves[:] = 1.5
    np.testing.assert_array_equal(buffers.as_numpy(b, np.uint16, (4,), offset=8), [0x3FC0] * 4)
    with pytest.raises(TypeError, match="too small"):
        buffers.as_numpy(b, np.int32, (13,))
    with pytest.raises(ValueError, match="strides"):
        buffers.as_numpy(b, np.int32, (2,), (48,))


def test_foreign_memory_keeps_its_owner() -> None:
    class Owner(np.ndarray):  # type: ignore[type-arg]
        pass

    a = np.arange(12, dtype=np.float32).reshape(3, 4).view(Owner)
    seen = weakref.ref(a)
    start = buffers.memory_allocated()
    b, offset = buffers.from_numpy(a)
    assert (b.ptr, b.nbytes, offset) == (a.ctypes.data, 48, 0)
    assert buffers.memory_allocated() == start
    del a
    assert seen() is not None
    np.testing.assert_array_equal(buffers.as_numpy(b, np.float32, (12,)), np.arange(12))
    del b
    assert seen() is None


def test_foreign_views_span_what_they_touch() -> None:
    a = np.arange(20, dtype=np.int64)
    b, offset = buffers.from_numpy(a[15:3:-4])
    assert (b.ptr, b.nbytes, offset) == (a.ctypes.data + 7 * 8, 9 * 8, 8 * 8)
    empty, offset = buffers.from_numpy(a[5:5])
    assert empty.nbytes == 0 and offset == 0


def test_too_much_is_refused_before_it_is_touched() -> None:
    start = buffers.memory_allocated()
    huge = buffers.physical_memory() * 2
    with pytest.raises(OutOfMemoryError, match=r"tried to allocate .* on the CPU: .* are in use and the machine has"):
        buffers.allocate(huge)
    with pytest.raises(MemoryError):
        buffers.allocate(1 << 60)
    assert buffers.memory_allocated() == start
    with pytest.raises(ValueError, match="cannot allocate -1 bytes"):
        buffers.allocate(-1)


def test_cached_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers.empty_cache()
    monkeypatch.setattr(buffers._pool, "cache_limit", 1 << 20)
    held = [buffers.allocate(100_000 + 20_000 * k) for k in range(30)]
    held.clear()
    assert 0 < buffers.memory_cached() <= 1 << 20
    large = buffers.allocate(2 << 20)
    del large
    assert buffers.memory_cached() <= 1 << 20
    buffers.empty_cache()


def test_cached_blocks_make_room_for_a_request_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers.empty_cache()
    b = buffers.allocate(1 << 20)
    del b
    monkeypatch.setattr(buffers._pool, "limit", buffers.memory_allocated() + (1 << 20) + 1024)
    assert buffers.allocate(1 << 19).nbytes == 1 << 19
    assert buffers.memory_cached() <= 1 << 19


def test_threads_share_the_pool() -> None:
    start = buffers.memory_allocated()
    errors: list[str] = []

    def work(k: int) -> None:
        for n in range(300):
            held = [buffers.allocate(64 * (1 + (n + j) % 5)) for j in range(4)]
            for h in held:
                buffers.as_numpy(h, np.uint8, (h.nbytes,))[:] = k
            if any((buffers.as_numpy(h, np.uint8, (h.nbytes,)) != k).any() for h in held):
                errors.append("a block had two owners")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not errors and buffers.memory_allocated() == start


def test_pool_survives_fork() -> None:
    b = buffers.allocate(1000)
    view = buffers.as_numpy(b, np.uint8, (1000,))
    view[:] = 1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = buffers.allocate(1000)
            view[:] = 2
            code = 0 if mine.ptr != b.ptr else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (view == 1).all()


def test_repr() -> None:
    b = buffers.allocate(10)
    assert repr(b) == f"Buffer(ptr={b.ptr:#x}, nbytes=10, device='cpu')"
