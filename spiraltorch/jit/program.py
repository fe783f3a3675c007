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
from functools import cached_property
from typing import Any

import numpy as np

from .. import fast
from ..config import config, log
from ..device import CPU, device
from ..dtypes import DType
from ..errors import Origin, SpiralError, describe_origin
from ..ir.kernel import Gemm
from ..ir.node import Node, origins, toposort
from ..runtime import buffers
from ..runtime.native import run_plan_address
from ..runtime.plan_table import HEADER, STATUS, Plan, scalar_word
from ..runtime.plan_table import Launch as Row
from .fuse import fuse
from .layout import Layout, Stored, lay_out, load, name_of, save
from .lower import Launch, Library
from .lower_matrix import Table
from .plan import Schedule, Step, plan
from .realify import realify
from .remat import fit
from .rules import simplify
from .stages import _is_leaf, build_stages, peel

FEW_WORDS = 32  # words to patch that a Python loop writes sooner than NumPy

# Runs a program's plan in place of its table: inspect.profile, which times each launch.
observer: Callable[[Program, Any], tuple[int, int]] | None = None

counters = {"programs": 0, "kernels": 0, "compile_seconds": 0.0, "launches": 0}
fast.connect(counters=counters)


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


class Passes:
    """The passes' result for one graph, made when it is first asked for."""

    def __init__(self, roots: Sequence[Node], donated: Sequence[int | None], budget: int | None) -> None:
        self.roots, self.donated, self.budget = list(roots), donated, budget
        self.lines = [(n, n.origin) for n in toposort(roots) if n.origin is not None]

    @cached_property
    def lowered(self) -> Lowered:
        for n, line in self.lines:  # another program of the same operations may have said its own since
            n.origin = line
        return lower(self.roots, self.donated, self.budget)

    @cached_property
    def origins(self) -> dict[Node, Origin | None]:
        """Lines of the operations that may fail."""
        lines = origins(toposort(self.lowered.simplified))
        return {n: n.origin or lines.get(n) for step in self.lowered.steps for x in step.launches for n in x.checks.values()}

    def kernel(self, key: str) -> Any:
        """The kernel tree with this key."""
        return next(k for k in self.lowered.kernels if k.key == key)


@dataclass
class Program:
    """A runnable plan.  ``passes`` gives what the passes made, which is not looked at when the layout was on disk.
    ``out_types``: (shape, dtype) of each output.  ``taken``: the input whose memory output j is written to, or None
    for memory of its own."""

    passes: Passes
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
    compile_seconds: float = 0.0
    baked: bool = False
    runner: Any = None  # the same in C
    panels: list[tuple[int, int, int]] = field(default_factory=list)  # where a word is, of which input, how many bytes

    def run(self, inputs: Sequence[Any], scalars: Sequence[Any] = (), outs: list[Any] | None = None) -> list[Any]:
        """Run on input buffers; the output buffers.  ``outs`` may give memory for some (None: make it).

        Raises CheckFailed (an IndexError) when an index was out of range; the inputs are then as they were.
        """
        if self.runner is not None and observer is None:
            found = self.runner(inputs, scalars, outs)
            if found.__class__ is list:
                return found  # type: ignore[no-any-return]
            raise self.failed(*found)
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
        if arena is not None and self.arena <= buffers.SMALL_ARENA:
            buffers.small_arenas.append(arena)
        if status:
            raise self.failed(done, status)
        return outs

    def _arena(self) -> Any:
        """Memory for what lies between, of this run alone."""
        if self.arena > buffers.SMALL_ARENA:
            return buffers.allocate(self.arena)
        try:
            return buffers.small_arenas.pop()
        except IndexError:
            return buffers.allocate(buffers.SMALL_ARENA)

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
            self._make_runner()

    def failed(self, done: int, status: int) -> Exception:
        """The error of a run that ended early, after ``done`` launches."""
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
            return RoutineFailed(error, self.passes.origins.get(n))
        if error is not None:  # KeyboardInterrupt
            raise error
        return check_failed(n, self.passes.origins.get(n))

    def __post_init__(self) -> None:
        self.out_bytes = [math.prod(s) * d.itemsize for s, d in self.out_types]
        self.fresh = all(t is None for t in self.taken)

    @property
    def lowered(self) -> Lowered:
        return self.passes.lowered

    @property
    def launches(self) -> int:
        return len(self.lowered.steps)

    def attach(self, layout: Layout) -> None:
        """Make the table of instructions; compiles kernels that are not compiled yet."""
        from .codegen import addresses

        kernels = [k if isinstance(k, Library) else Stored(k, self.passes.kernel) for k in layout.kernels]
        called = {w for r in layout.rows for row in r.words for w in row if isinstance(w, tuple)}
        found = addresses(kernels, sorted([w for w in called if not isinstance(w, Table)]))
        rows = []
        for r in layout.rows:
            words = [[w if w.__class__ is int else self._word(w) for w in row] for row in r.words]
            rows.append(Row(found[kernels[r.kernel].key], words, r.tasks, r.grain, r.parallel, r.checks, r.scratch))
        self.table = Plan(rows)
        at = [self.table.position(k, w, i) for k, i, w, _, _ in layout.pointers]
        self.scalar_positions = [self.table.position(k, w, i) for k, i, w, _ in layout.scalars]
        self.scalar_order = [s for *_, s in layout.scalars]
        self.panels = [(self.table.position(k, w, i), source, nbytes) for k, i, w, source, nbytes in layout.panels]
        self.positions = at + self.scalar_positions
        self.sources = [s for _, _, _, s, _ in layout.pointers]
        self.offsets = [o for *_, o in layout.pointers]
        self._make_runner()
        if len(self.positions) > FEW_WORDS:
            self.positions, self.sources, self.offsets = (
                np.array(x, np.int64) for x in (self.positions, self.sources, self.offsets)
            )

    def _make_runner(self) -> None:
        if fast.Runner is not None:
            numbers = [] if self.baked else self.scalar_positions
            self.runner = fast.Runner(
                self.table, run_plan_address(), HEADER, self.table.count, self.table.parallel, self.table.scratch, len(self.inputs),
                self.positions[: len(self.sources)], self.sources, self.offsets, numbers, self.scalar_order, self.scalar_types,
                self.out_bytes, [-1 if t is None else t for t in self.taken], self.arena, buffers.SMALL_ARENA,
            )  # fmt: skip

    def _word(self, w: Any) -> int | str:
        """A word that depends on the process; a table's offsets live as long as the program."""
        if isinstance(w, Table):
            self.constants.append(w.offsets())
            return int(self.constants[-1].ctypes.data)
        if w == STATUS:
            return STATUS
        if isinstance(w, tuple):
            from ..kernels.llvm.target import host

            return w.address(host())  # type: ignore[attr-defined, no-any-return]
        return int(w)


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


class DividedByZero(ProgramFailed):
    """An integer was divided by a zero of a tensor, which the line ``origin`` recorded."""

    def __init__(self, origin: Origin | None) -> None:
        where = describe_origin(origin)
        super().__init__(
            "ZeroDivisionError: integers cannot be divided by zero; mask the zeros before dividing, or convert to a floating type"
            + (f"; the operation was recorded at {where}" if where else "")
        )


def check_failed(n: Node | None, origin: Origin | None) -> ProgramFailed:
    """The error of a check that found what it looks for: an index or a divisor."""
    return DividedByZero(origin) if n is not None and n.op == "COPY" else CheckFailed(n, origin)


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


def build(
    roots: Sequence[Node], donated: Sequence[int | None], inputs: Any, scalar_types: Sequence[DType], where: device = CPU,
    budget: int | None = None,
) -> Program:  # fmt: skip
    """Passes, code generation and the plan's table for a canonical graph that is computed on ``where``."""
    start = time.perf_counter()
    passes = Passes(roots, donated, budget)
    name = name_of(roots, donated, budget, len(inputs)) if where is CPU else None
    layout = None if name is None else load(name)
    if layout is None and where is CPU and config.cpu != "reference":
        layout = lay_out(passes.lowered, len(inputs), len(roots))
        if name is not None:
            save(name, layout)
    if where is CPU:
        kind = Program
    else:
        from .device_program import DeviceProgram as kind  # type: ignore[no-redef]
    taken, arena = (passes.lowered.schedule.taken, passes.lowered.schedule.arena) if layout is None else (layout.taken, layout.arena)
    program = kind(passes, list(inputs), list(scalar_types), [(r.shape, r.dtype) for r in roots], taken, arena)
    if layout is not None:
        program.attach(layout)
    elif where is not CPU:
        program.link(where)  # type: ignore[attr-defined]
    program.compile_seconds = time.perf_counter() - start
    counters["programs"] += 1
    counters["compile_seconds"] += program.compile_seconds
    if config.log:
        lowered = passes.lowered
        log("kernels", f"program of {len(lowered.steps)} launches, {len(lowered.kernels)} kernels, {program.compile_seconds * 1e3:.1f} ms")
        if "source" in config.log:
            from ..inspect.show import source

            log("source", "\n\n".join(source(k) for k in lowered.kernels))
    if config.dump:
        from ..inspect.show import dump

        dump(passes.lowered)
    return program


__all__ = ["CheckFailed", "Gemm", "Library", "Lowered", "Program", "ProgramFailed", "build", "counters", "lower"]
