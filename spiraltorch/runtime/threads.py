"""The process' one pool of worker threads.

    set_num_threads(4)
    address = pool()        # for native.run_plan; 0 means: run alone

Workers are Python threads that spend their life in one native call (:mod:`.native`), so they hold no
GIL and start with no library's help.  The pool is made when first needed, again after ``fork`` (a
child inherits no threads) and after :func:`set_num_threads`; it is stopped at exit.
"""

from __future__ import annotations

import atexit
import os
import threading

import numpy as np

from . import native

_SPIN = 50000  # looks before a worker sleeps, some ms: longer than Python's gaps between two steps
_SPIN_CROWDED = 1200  # with more threads than CPUs a spinning thread takes a core from one that works

_lock = threading.Lock()
_threads: int | None = None
_current: _Pool | None = None
_exiting = False


def _container_cpus() -> int | None:
    """The CPU time per second that a container allows, rounded up; None without a limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


def available_cpus() -> int:
    """How many CPUs this process may keep busy."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _container_cpus() or count))


def get_num_threads() -> int:
    """How many threads run a parallel region, the calling one included."""
    global _threads
    if _threads is None:
        chosen = os.environ.get("ST_NUM_THREADS", "")
        _threads = int(chosen) if chosen.isdigit() and int(chosen) > 0 else available_cpus()
    return _threads


def set_num_threads(n: int) -> None:
    """Use ``n`` threads from the next region on.  Results do not depend on it.

    Raises ValueError for less than one or more than 4096.
    """
    global _threads
    if not 1 <= n <= 4096:
        raise ValueError(f"set_num_threads expects 1 to 4096 threads, got {n}")
    with _lock:
        if n != get_num_threads():
            _threads = n
            _stop()


def scratch() -> np.ndarray:
    """``native.SCRATCH_BYTES`` of memory that starts on a cache line; pages appear as they are used."""
    raw = np.empty(native.SCRATCH_BYTES + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + native.SCRATCH_BYTES]


class _Pool:
    """Shared words and the workers that watch them."""

    def __init__(self, threads: int) -> None:
        library = native.library()
        words = np.zeros(native.RANGES + native.RANGE_WORDS * threads + 8, np.int64)
        words = words[-words.ctypes.data % 64 // 8 :]
        words[native.THREADS] = threads
        words[native.SPIN] = _SPIN if threads <= available_cpus() else _SPIN_CROWDED
        self.words = words
        self.address = int(words.ctypes.data)
        library.pool_init(self.address)
        self.memory = [scratch() for _ in range(threads - 1)]
        self.workers = [
            threading.Thread(
                target=library.worker, args=(self.address, k, m.ctypes.data), name=f"spiraltorch-{k}", daemon=True
            )
            for k, m in enumerate(self.memory, 1)
        ]
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        native.library().pool_stop(self.address)
        for worker in self.workers:
            worker.join()


# A caller may have read a pool's address just before the pool was stopped, and finds it idle but
# whole: the words of stopped pools (some hundred bytes each) are kept.
_stopped: list[np.ndarray] = []


def _stop() -> None:
    global _current
    if _current is not None:
        _current.stop()
        _stopped.append(_current.words)
        _current = None


def _start() -> int:
    global _current
    with _lock:
        threads = get_num_threads()
        if _current is None:
            if threads == 1 or _exiting or native.library().worker is None:
                return 0
            _current = _Pool(threads)
        return _current.address


def pool() -> int:
    """The address of the pool, which is started if need be; 0 when there is one thread."""
    current = _current
    return _start() if current is None else current.address


def _after_fork() -> None:
    """The child has none of the workers, and its locks may be held by threads it does not have."""
    global _lock, _current
    _lock = threading.Lock()
    if _current is not None:
        _stopped.append(_current.words)
        _current = None


def _at_exit() -> None:
    global _exiting
    with _lock:
        _exiting = True
        _stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
