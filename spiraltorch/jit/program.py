"""A program: everything a plan needs to run, and the one native call that runs it.

In: a canonical graph (PARAM leaves) and which inputs outputs may overwrite.  Out: :class:`Program`, whose
``run(inputs, scalars)`` takes buffers and gives buffers.  A replay patches pointers by one NumPy
assignment and makes one native call, whatever the number of kernels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import config, log
from ..device import CPU, device
from ..dtypes import DType
from ..errors import Origin, SpiralError, describe_origin
from ..ir.kernel import Gemm, Kernel
from ..ir.node import Node, toposort
from ..runtime import buffers
from ..runtime.plan_table import STATUS, Plan, scalar_word
from ..runtime.plan_table import Launch as Row
from .fuse import fuse
from .lower import Launch, Library
from .lower_matrix import Table
from .plan import Schedule, Step, plan
from .realify import realify
from .remat import fit
from .rules import simplify
from .stages import _is_leaf, build_stages, peel

SERIAL_WORK = 1 << 15  # weighted elements below which one thread is faster than a fork
CHUNK_WORK = 1 << 14
SMALL_ARENA = 1 << 14  # bytes; such arenas are kept for whichever program runs next
FEW_WORDS = 32  # words to patch that a Python loop writes sooner than NumPy

# Runs a program's plan in place of its table: inspect.profile, which times each launch.
observer: Callable[[Program, Any], tuple[int, int]] | None = None

_small_arenas: list[Any] = []  # that no run is using
counters = {"programs": 0, "kernels": 0, "compile_seconds": 0.0, "launches": 0}


@dataclass
class Lowered:
    """What the passes made of a graph; every stage can be printed."""

    graph: list[Node]
    simplified: list[Node]
    groups: list[Any]
    schedule: Schedule

    @property
    def steps(self) -> list[Step]:
        return self.schedule.steps

    @property
    def kernels(self) -> list[Any]:
        """The distinct kernel trees, in order of first launch."""
        return list({s.kernel.key: s.kernel for s in self.steps}.values())


def lower(roots: Sequence[Node], donated: Sequence[int | None], budget: int | None = None) -> Lowered:
    """All passes up to the schedule; compiles nothing.  With a ``budget``, values are computed again to save memory."""
    from ..ir.node import make

    graph = list(roots)
    simple = simplify(realify(graph))
    seen: set[Node] = set()
    for j, r in enumerate(simple):
        base = peel(r)
        if _is_leaf(base):
            simple[j] = make("COPY", (base,), ("leaf", j), base.shape, base.dtype)
        elif base in seen:
            simple[j] = make("COPY", (base,), ("twin", j), base.shape, base.dtype)
        else:
            seen.add(base)
    if config.verify:
        from ..ir.verify import verify_graph

        verify_graph(simple)
    lowered = _scheduled(graph, simple, donated)
    if budget is not None:
        lowered = fit(lowered, budget, lambda changed: _scheduled(graph, list(changed), donated))
    if config.verify:
        from ..ir.verify import verify_kernel

        for step in lowered.steps:
            verify_kernel(step.kernel)
    return lowered


def _scheduled(graph: list[Node], simple: list[Node], donated: Sequence[int | None]) -> Lowered:
    groups = fuse(build_stages(simple))
    return Lowered(graph, simple, groups, plan(groups, simple, donated))


@dataclass
class Program:
    """A runnable plan.  ``out_types``: (shape, dtype) of each output.  ``taken``: the input whose memory
    output j is written to, or None for memory of its own."""

    lowered: Lowered
    inputs: list[tuple[tuple[int, ...], DType]]
    scalar_types: list[DType]
    out_types: list[tuple[tuple[int, ...], DType]]
    taken: list[int | None]
    arena: int
    table: Any = None
    positions: Any = None
    sources: Any = None
    offsets: Any = None
    scalar_positions: list[int] = field(default_factory=list)
    scalar_order: list[int] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)
    origins: dict[Node, Origin | None] = field(default_factory=dict)  # lines of the operations that may fail
    compile_seconds: float = 0.0
    baked: bool = False

    def run(self, inputs: Sequence[Any], scalars: Sequence[Any] = (), outs: list[Any] | None = None) -> list[Any]:
        """Run on input buffers; the output buffers.  ``outs`` may give memory for some (None: make it).

        Raises CheckFailed (an IndexError) when an index was out of range; the inputs are then as they were.
        """
        if outs is None and self.fresh:
            outs = buffers.allocate_many(self.out_bytes)
        else:
            outs = self._memory(inputs, outs)
        arena = self._arena() if self.arena else None
        if config.cpu == "reference":
            from .interpret import run_steps

            run_steps(self, inputs, outs, arena, scalars)
            return outs
        words = [b.ptr for b in inputs]
        words += [b.ptr for b in outs]
        words.append(arena.ptr if arena is not None else 0)
        values: Any
        if self.positions.__class__ is list:
            values = [words[s] + o for s, o in zip(self.sources, self.offsets)]
        else:
            values = np.array(words, np.int64)[self.sources]
            values += self.offsets
        if self.scalar_positions and not self.baked:
            extra = [scalar_word(v, d) for v, d in zip(scalars, self.scalar_types)]
            last = [extra[k] for k in self.scalar_order]
            values = [*values, *last] if values.__class__ is list else np.concatenate([values, np.array(last, np.int64)])
        done, status = self.table.run(self.positions, values) if observer is None else observer(self, values)
        counters["launches"] += done
        if arena is not None and self.arena <= SMALL_ARENA:
            _small_arenas.append(arena)
        if status:
            raise self._failed(done, status)
        return outs

    def _arena(self) -> Any:
        """Memory for what lies between, of this run alone."""
        if self.arena > SMALL_ARENA:
            return buffers.allocate(self.arena)
        try:
            return _small_arenas.pop()
        except IndexError:
            return buffers.allocate(SMALL_ARENA)

    def _memory(self, inputs: Sequence[Any], outs: list[Any] | None) -> list[Any]:
        """Buffers for the outputs that have none yet and do not take over an input's."""
        taken = self.taken
        outs = [None] * len(taken) if outs is None else outs
        sizes = []
        missing = []
        for j, t in enumerate(taken):
            if t is not None:
                outs[j] = inputs[t]
            elif outs[j] is None:
                missing.append(j)
                sizes.append(self.out_bytes[j])
        for j, b in zip(missing, buffers.allocate_many(sizes)):
            outs[j] = b
        return outs

    def bake(self, scalars: Sequence[Any]) -> None:
        """Make these numbers part of the program."""
        self.baked = True
        if self.table is not None and self.scalar_positions:
            words = [scalar_word(scalars[k], self.scalar_types[k]) for k in self.scalar_order]
            self.table.patch(self.scalar_positions, words)
            self.positions = self.positions[: len(self.sources)]

    def _failed(self, done: int, status: int) -> Exception:
        for step in reversed(self.lowered.steps[:done]):
            for x in step.launches:
                if status in x.checks:
                    return self.failure(x, status)
        return CheckFailed(None, None)

    def failure(self, x: Launch, status: int) -> Exception:
        """The error of the launch that wrote this status."""
        from ..kernels.library.host import take_error

        n = x.checks[status]
        error = take_error() if n.op == "CALL" else None
        if isinstance(error, Exception):
            return RoutineFailed(error, self.origins.get(n))
        if error is not None:  # KeyboardInterrupt
            raise error
        return CheckFailed(n, self.origins.get(n))

    def __post_init__(self) -> None:
        self.out_bytes = [math.prod(s) * d.itemsize for s, d in self.out_types]
        self.fresh = all(t is None for t in self.taken)

    @property
    def launches(self) -> int:
        return len(self.lowered.steps)


class ProgramFailed(SpiralError):
    """The program ended early: an index was out of range, or a library routine raised."""

    @property
    def seen(self) -> Exception:
        """The error that the user gets."""
        return self


class RoutineFailed(ProgramFailed):
    """A library routine raised ``error``."""

    def __init__(self, error: Exception, origin: Origin | None) -> None:
        super().__init__(str(error))
        self.error = located(error, origin)

    @property
    def seen(self) -> Exception:
        return self.error


def located(error: Exception, origin: Origin | None) -> Exception:
    """The error with the line that recorded the operation."""
    where = describe_origin(origin)
    return type(error)(f"{error}; the operation was recorded at {where}") if where else error


class CheckFailed(ProgramFailed, IndexError):
    """An index was out of range at ``node``, which the line ``origin`` recorded."""

    def __init__(self, node: Node | None, origin: Origin | None) -> None:
        where = describe_origin(origin)
        size = "" if node is None or node.src[0].op == "RESHAPE" else f": an index is not in [0, {indexed_size(node)})"
        super().__init__(f"index out of range in self{size}" + (f"; the operation was recorded at {where}" if where else ""))


def indexed_size(n: Node) -> int:
    """How many positions the axis has that a GATHER or SCATTER indexes."""
    axis = n.arg
    if isinstance(axis, tuple):  # SCATTER (axis, op), GATHER ("along", axis)
        axis = axis[1] if n.op == "GATHER" else axis[0]
    return n.src[0].shape[axis]


def work_of(x: Launch) -> int:
    """Elements touched, weighted by how dear their rows are: decides about threads and chunks."""
    from .stages import weight

    if isinstance(x.kernel, Kernel):
        total = 0
        sizes = [x.ints[a.index] for a in x.kernel.axes]
        rows = int(np.prod(sizes[: x.kernel.rows], dtype=np.int64))
        for p in x.kernel.phases:
            n = rows
            for k in p.axes:
                n *= sizes[k]
            ops = sum(weight(m.op) for m in toposort(list(p.exprs())) if m.src and m.op not in ("LOAD",))
            total += n * max(1, ops // 8)
        return total
    return sum(n.size for n in x.outs)


def build(
    roots: Sequence[Node], donated: Sequence[int | None], inputs: Any, scalar_types: Sequence[DType], where: device = CPU,
    budget: int | None = None,
) -> Program:  # fmt: skip
    """Passes, code generation and the plan's table for a canonical graph that is computed on ``where``."""
    start = time.perf_counter()
    lowered = lower(roots, donated, budget)
    schedule = lowered.schedule
    if where is CPU:
        kind = Program
    else:
        from .device_program import DeviceProgram as kind  # type: ignore[no-redef]
    program = kind(
        lowered, list(inputs), list(scalar_types), [(r.shape, r.dtype) for r in roots], schedule.taken, schedule.arena
    )
    program.origins = {n: n.origin for step in schedule.steps for x in step.launches for n in x.checks.values()}
    if where is not CPU:
        program.link(where)  # type: ignore[attr-defined]
    elif config.cpu != "reference":
        _link(program)
    program.compile_seconds = time.perf_counter() - start
    counters["programs"] += 1
    counters["compile_seconds"] += program.compile_seconds
    if config.log:
        log("kernels", f"program of {len(lowered.steps)} launches, {len(lowered.kernels)} kernels, {program.compile_seconds * 1e3:.1f} ms")
        if "source" in config.log:
            from ..inspect.show import source

            log("source", "\n\n".join(source(k) for k in lowered.kernels))
    if config.dump:
        from ..inspect.show import dump

        dump(lowered)
    return program


def _link(program: Program) -> None:
    """Compile what is not compiled yet and lay out the table of instructions."""
    from .codegen import addresses, shape_of

    steps = program.lowered.steps
    found = addresses([s.kernel for s in steps])
    n_in, n_out = len(program.inputs), len(program.out_types)
    rows: list[Row] = []
    pointer_words: list[tuple[int, int, int, int, int]] = []  # launch, instance, word, source, offset
    scalar_words: list[tuple[int, int, int, int]] = []
    memory = program.lowered.schedule.memory
    for k, step in enumerate(steps):
        args_rows, tasks = [], []
        grain, parallel, scratch = 1, False, False
        work = 0
        for inst, x in enumerate(step.launches):
            words: list[Any] = []
            for p in x.params:
                if isinstance(p, str):
                    words.append(STATUS)
                elif isinstance(p, Table):
                    array = p.offsets()
                    program.constants.append(array)
                    words.append(int(array.ctypes.data))
                else:
                    kind, value = memory[p]
                    source = value if kind == "in" else n_in + value if kind == "out" else n_in + n_out
                    pointer_words.append((k, inst, len(words), source, value if kind == "temp" else 0))
                    words.append(0)
            words.extend(x.ints)
            for s in x.scalars:
                scalar_words.append((k, inst, len(words), s))
                words.append(0)
            count, grain, scratch, more = shape_of(x)
            words.extend(more)
            tasks.append(count)
            args_rows.append(words)
            work += work_of(x)
        if isinstance(step.kernel, Kernel):
            total = max(1, sum(tasks))
            parallel = work >= SERIAL_WORK
            grain = max(1, min(total, CHUNK_WORK * total // max(1, work)))
        else:
            parallel = True
        checks = any(x.checks for x in step.launches)
        rows.append(Row(found[step.kernel.key], args_rows, tasks, grain, parallel, checks, scratch))
    program.table = Plan(rows)
    at = [program.table.position(k, w, i) for k, i, w, _, _ in pointer_words]
    program.scalar_positions = [program.table.position(k, w, i) for k, i, w, _ in scalar_words]
    program.scalar_order = [s for *_, s in scalar_words]
    program.positions = at + program.scalar_positions
    program.sources = [s for _, _, _, s, _ in pointer_words]
    program.offsets = [o for *_, o in pointer_words]
    if len(program.positions) > FEW_WORDS:
        program.positions, program.sources, program.offsets = (
            np.array(x, np.int64) for x in (program.positions, program.sources, program.offsets)
        )


__all__ = ["CheckFailed", "Gemm", "Library", "Lowered", "Program", "ProgramFailed", "build", "counters", "lower"]
