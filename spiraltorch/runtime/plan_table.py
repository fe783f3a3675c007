"""A program as a table of int64 words that one native call walks (:mod:`.native`).

In: launches, a function's address with a row of argument words per instance.  Out: the kernels have run.

    plan = Plan([Launch(fn, [(x.ptr, y.ptr, n)], tasks=[n // 1024], parallel=True)])
    plan.run([plan.position(0, 0)], [other.ptr])      # patch word 0 of launch 0, then run

All words of a plan are one array: status, then instructions, instances and arguments.  A run takes a
copy of the array nobody else is using, so any number of threads may run one plan, each with its own
patched words, and a forked child never waits for a lock.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dtypes import DType, float32, float64
from . import native, threads

HEADER = 8  # word 0 is the status; the rest keeps it in a cache line of its own
_ROW = 8  # words of an instruction
STATUS = "status"  # in a row of arguments: the address of the plan's status word

idle_scratch: list[tuple[int, np.ndarray]] = []


@dataclass(frozen=True)
class Launch:
    """One instruction.

    args: a row of words per instance; ``STATUS`` stands for the address of the plan's status word.
    tasks: tasks of each instance.  grain: tasks a thread takes at a time.  parallel: worth more than
    one thread.  stop_on_status: the plan ends here when the status is not 0.  scratch: the function
    has the fourth parameter.
    """

    fn: int
    args: Sequence[Sequence[int | str]]
    tasks: Sequence[int]
    grain: int = 1
    parallel: bool = False
    stop_on_status: bool = False
    scratch: bool = False


_PACKED: dict[DType, tuple[Any, Any]] = {
    float32: (struct.Struct("<f").pack, struct.Struct("<i").unpack),
    float64: (struct.Struct("<d").pack, struct.Struct("<q").unpack),
}


def scalar_word(value: Any, dtype: DType) -> int:
    """The argument word of a scalar: its bits in the low bytes."""
    packed = _PACKED.get(dtype)
    if packed is not None and value.__class__ is float:  # the most frequent, at every look at a value
        try:
            return packed[1](packed[0](value))[0] & 0xFFFFFFFF if dtype is float32 else packed[1](packed[0](value))[0]  # type: ignore[no-any-return]
        except OverflowError:
            pass  # rounds to infinity
    raw = np.asarray(value, dtype.np).tobytes()
    return int.from_bytes(raw.ljust(8, b"\0"), "little", signed=True)


class _Table:
    """One array of words, which refer to each other by address."""

    __slots__ = ("words", "view", "address", "version")

    def __init__(self, words: np.ndarray, version: int) -> None:
        self.words = words
        self.view = memoryview(words)  # type: ignore[arg-type]
        self.address = int(words.ctypes.data)
        self.version = version


def _aligned(n: int) -> np.ndarray:
    raw = np.zeros(n + 7, np.int64)
    start = -raw.ctypes.data % 64 // 8
    return raw[start : start + n]


class Plan:
    """A table that can be run; ``patch`` and ``run`` are safe from any thread."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.count = len(launches)
        self.parallel = any(x.parallel for x in launches)
        self.scratch = any(x.scratch for x in launches)
        self._args_at: list[list[int]] = []
        self._version = 0
        self._idle: list[_Table] = []
        self._build(launches)

    def _build(self, launches: Sequence[Launch]) -> None:
        instances_at = HEADER + _ROW * self.count
        args_at = instances_at + 2 * sum(len(x.args) for x in launches)
        total = args_at + sum(len(row) for x in launches for row in x.args)
        words = _aligned(total)
        base = int(words.ctypes.data)
        pointers: list[int] = []  # positions of words that are addresses of this array's words

        def point(position: int, target: int) -> None:
            words[position] = base + 8 * target
            pointers.append(position)

        for k, x in enumerate(launches):
            if len(x.args) != len(x.tasks):
                raise ValueError(f"launch {k} has {len(x.args)} rows of arguments but {len(x.tasks)} task counts")
            row = HEADER + _ROW * k
            words[row : row + 7] = (
                x.fn, 0, len(x.args), sum(x.tasks), max(1, x.grain), x.parallel, x.stop_on_status
            )  # fmt: skip
            point(row + 1, instances_at)
            starts = []
            first = 0
            for args, tasks in zip(x.args, x.tasks):
                point(instances_at, args_at)
                words[instances_at + 1] = first
                first += tasks
                instances_at += 2
                starts.append(args_at)
                for j, word in enumerate(args):
                    if word == STATUS:
                        point(args_at + j, 0)
                    else:
                        words[args_at + j] = word
                args_at += len(args)
            self._args_at.append(starts)
        self._template = words
        self._base = base
        self._pointers = np.array(pointers, np.int64)
        self._idle.append(self._copy())

    def _copy(self) -> _Table:
        version = self._version
        table = _Table(_aligned(len(self._template)), version)
        self._refresh(table)
        return table

    def _refresh(self, table: _Table) -> None:
        table.version = self._version
        table.words[:] = self._template
        table.words[self._pointers] += table.address - self._base

    def position(self, launch: int, word: int, instance: int = 0) -> int:
        """Where argument ``word`` of a launch lies, for :meth:`patch` and :meth:`run`."""
        return self._args_at[launch][instance] + word

    def patch(self, positions: Any, values: Any) -> None:
        """Change words for every later run."""
        self._template[positions] = values
        self._version += 1

    def run(
        self, positions: Any = None, values: Any = None, first: int = 0, count: int | None = None
    ) -> tuple[int, int]:
        """Run ``count`` instructions from ``first``, after writing ``values`` to ``positions`` for this
        run (or every run that writes the same positions).  Returns how many ran, and the status.
        """
        idle = self._idle
        table = idle.pop() if idle else self._copy()
        if table.version != self._version:
            self._refresh(table)
        if positions.__class__ is list:  # a few words: NumPy would cost more than it saves
            view = table.view
            for p, value in zip(positions, values):
                view[p] = value
        elif positions is not None:
            table.words[positions] = values
        address = table.address
        pool = threads.pool() if self.parallel else 0
        scratch = take_scratch() if self.scratch else None
        done: int = native.library().run_plan(
            address + 8 * HEADER,
            first,
            self.count - first if count is None else count,
            pool,
            scratch[0] if scratch is not None else 0,
            address,
        )
        if scratch is not None:
            idle_scratch.append(scratch)
        status = 0
        if done < 0:
            done = ~done
            status = int(table.words[0])
            table.words[0] = 0
        idle.append(table)
        return done, status


def take_scratch() -> tuple[int, np.ndarray]:
    """(address, memory) of a thread's scratch, to be put back in ``idle_scratch``."""
    try:
        return idle_scratch.pop()
    except IndexError:
        memory = threads.scratch()
        return int(memory.ctypes.data), memory
