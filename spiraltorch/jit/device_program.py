"""A program on a CUDA or ROCm device: the schedule that the CPU runs, launched as Triton kernels.

In: the same passes' result.  Out: :class:`DeviceProgram`, whose ``run`` takes and gives buffers of the device.

    inputs, outputs, arena, status, tables -> addresses;  every launch: launch(kernel, addresses, ints, scalars)

Inputs that lie on the host (numbers that Python computed, counters of random numbers) go over in one copy at each run.
Indices out of range are noted in words on the device, one for each launch that checks; they are read back once, after
the last of those and so before any input is overwritten.  Library kernels (scatter, scan, sort, CALLs) exist for the
CPU only: their operands come to the host and their results go back, which is right but slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import device
from ..ir.kernel import Gemm, Kernel
from ..ir.node import Node
from ..runtime import buffers
from ..runtime.devices import DeviceBuffer, Driver, driver
from ..runtime.plan_table import STATUS, Plan
from ..runtime.plan_table import Launch as Row
from .codegen import addresses, shape_of
from .lower import Launch, Library
from .lower_matrix import Table
from .program import Program, counters

ALIGN = 64
WORD = 8

Place = tuple[int, int]  # which block of memory, and the byte in it


@dataclass
class Instance:
    """One launch: where its parameters are.  ``word``: the status word it writes, if it checks indices."""

    launch: Launch
    places: list[Place]
    word: int | None = None
    plan: Plan | None = None  # of a library kernel


class DeviceProgram(Program):
    """A program whose kernels run on a device."""

    driver: Driver
    instances: list[Instance]
    tables: list[DeviceBuffer]
    start: Callable[..., None]
    checked: int  # status words
    last_check: int  # the instance after which they are read
    values: Sequence[Any] | None = None  # numbers that are part of the program

    def link(self, where: device) -> None:
        """Say where everything is; constants go to the device."""
        self.driver = driver(where)
        self.start = _launcher(self.driver)
        self.in_bytes = [math.prod(s) * d.itemsize for s, d in self.inputs]
        self.instances, self.tables = [], []
        self.checked, self.last_check = 0, -1
        known: dict[Table, int] = {}
        for step in self.lowered.steps:
            for x in step.launches:
                self._add(x, known)

    def _add(self, x: Launch, known: dict[Table, int]) -> None:
        n_in, n_out = len(self.inputs), len(self.out_types)
        arena, status, tables = n_in + n_out, n_in + n_out + 1, n_in + n_out + 2
        at = Instance(x, [])
        if isinstance(x.kernel, Library):
            at.plan = _library_plan(x)
        elif x.checks:
            at.word = self.checked
            self.checked += 1
            self.last_check = len(self.instances)
        for p in x.params:
            if isinstance(p, str):
                at.places.append((status, WORD * (at.word or 0)))
            elif isinstance(p, Table):
                if p not in known:
                    known[p] = len(self.tables)
                    self.tables.append(_constant(self.driver, p.offsets()))
                at.places.append((tables + known[p], 0))
            else:
                kind, value = self.lowered.schedule.memory[p]
                at.places.append((value, 0) if kind == "in" else (n_in + value, 0) if kind == "out" else (arena, value))
        self.instances.append(at)

    def bake(self, scalars: Sequence[Any]) -> None:
        self.values = list(scalars)

    def run(self, inputs: Sequence[Any], scalars: Sequence[Any] = (), outs: list[Any] | None = None) -> list[Any]:
        d = self.driver
        if self.values is not None:
            scalars = self.values
        outs = [None] * len(self.taken) if outs is None else outs
        with d.active():
            inputs = self._brought(inputs)
            for j, t in enumerate(self.taken):
                if t is not None:
                    outs[j] = inputs[t]
                elif outs[j] is None:
                    outs[j] = d.allocate(self.out_bytes[j])
            arena = d.allocate(self.arena)
            status = _constant(d, np.zeros(self.checked, np.int64)) if self.checked else arena
            blocks = [*inputs, *outs, arena, status, *self.tables]
            for k, at in enumerate(self.instances):
                x = at.launch
                if at.plan is not None:
                    self._on_host(at, blocks)
                else:
                    pointers = [blocks[b].ptr + offset for b, offset in at.places]
                    self.start(x.kernel, pointers, x.ints, [scalars[s] for s in x.scalars])
                if k == self.last_check:
                    self._look(status)
        counters["launches"] += len(self.instances)
        return outs

    def _brought(self, inputs: Sequence[Any]) -> list[Any]:
        """The inputs, those of the host in one block of the device."""
        found = list(inputs)
        there = [i for i, b in enumerate(inputs) if not isinstance(b, DeviceBuffer)]
        if not there:
            return found
        offsets, size = [], 0
        for i in there:
            offsets.append(size)
            size += -(-self.in_bytes[i] // ALIGN) * ALIGN
        host = np.empty(size, np.uint8)
        for i, at in zip(there, offsets):
            n = self.in_bytes[i]
            host[at : at + n] = inputs[i].view(np.uint8, (n,))
        block = _constant(self.driver, host)
        for i, at in zip(there, offsets):
            found[i] = self.driver.wrap(block.ptr + at, self.in_bytes[i], block)
        return found

    def _look(self, status: DeviceBuffer) -> None:
        """Raise for the first launch that found an index out of range; waits for the device."""
        words = status.view(np.int64, (self.checked,))
        for at in self.instances:
            if at.word is not None and words[at.word]:
                raise self.failure(at.launch, int(words[at.word]))

    def _on_host(self, at: Instance, blocks: Sequence[Any]) -> None:
        """A library kernel on copies of its operands."""
        d, x, plan = self.driver, at.launch, at.plan
        assert plan is not None
        held, positions = [], []
        for k, (p, q, (b, offset)) in enumerate(zip(x.params, x.kernel.params, at.places)):
            if isinstance(p, Node):
                memory = buffers.allocate(p.nbytes)
                if q.mode != "out":
                    d.copy_out(memory.ptr, _part(blocks[b]), p.nbytes, offset + _skipped(blocks[b]))
                held.append((memory, q.mode, blocks[b], offset, p.nbytes))
                positions.append(plan.position(0, k))
        _, status = plan.run(np.array(positions, np.int64), [m.ptr for m, *_ in held])
        if status:
            raise self.failure(x, status)
        for memory, mode, block, offset, nbytes in held:
            if mode != "in":
                d.copy_in(_part(block), memory.ptr, nbytes, offset + _skipped(block))


def _part(b: DeviceBuffer) -> DeviceBuffer:
    """The buffer that ``b`` is a part of (an input that came from the host), or itself."""
    return b.memory if isinstance(b.memory, DeviceBuffer) else b


def _skipped(b: DeviceBuffer) -> int:
    return b.ptr - _part(b).ptr


def _constant(d: Driver, values: np.ndarray) -> DeviceBuffer:
    """``values`` on the device."""
    b = d.allocate(values.nbytes)
    _fill(d, b, values)
    return b


def _fill(d: Driver, b: DeviceBuffer, values: np.ndarray) -> None:
    d.copy_in(b, int(values.ctypes.data), values.nbytes)


def _library_plan(x: Launch) -> Plan:
    """The one call of a library kernel, over memory that every run fills in."""
    count, grain, scratch, more = shape_of(x)
    words: list[Any] = [STATUS if isinstance(p, str) else 0 for p in x.params]
    fn = addresses([x.kernel])[x.kernel.key]
    return Plan([Row(fn, [[*words, *x.ints, *more]], [count], grain, True, bool(x.checks), scratch)])


def _launcher(d: Driver) -> Callable[[Kernel | Gemm, Sequence[int], Sequence[int], Sequence[Any]], None]:
    """What runs a kernel over addresses of the device."""
    if d.simulated:
        from ..kernels.triton.interpreter import interpret_at

        return interpret_at
    from ..kernels.triton.launcher import launch

    index = d.where.index
    assert index is not None
    return lambda k, pointers, ints, scalars: launch(k, pointers, ints, scalars, index)
