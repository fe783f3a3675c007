"""``st.compile``: one run of the Python function becomes a program; later calls replay it.

A call's key is the structure of its arguments (shapes, types, views, static Python values) and the
grad mode.  An entry under the key holds guards on everything else the trace looked at: closure and
global values, attributes, module versions, optimizer settings.  Tensors the function captured are
implicit inputs; cells it wrote and gradients it set are implicit outputs.  A replay checks the
guards, binds buffers, makes one native call and swaps the new buffers in; it runs no Python per kernel.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from sys import getrefcount as refcount
from typing import Any

from ..config import config, log
from ..device import CPU, device
from ..ir.node import Node
from ..runtime import buffers
from ..runtime.interrupts import uninterrupted
from ..short import SHORT
from ..storage import Storage, queue, realize
from ..tape import mode
from ..tensor import Tensor, tensor_over
from . import guards as guarding
from .differentiable import CompiledCall, bound, consumed, crosses, partition
from .eager import canonical
from .panels import Panels
from .program import Program, ProgramFailed, build
from .structure import STATIC, Output, describe, flatten, rebuild
from .trace import Trace

MOST_ENTRIES = 64
new_object = object.__new__


class _Off(threading.local):
    on = False


_off = _Off()


class eager:
    """Inside, compiled functions run as plain Python, operation by operation: for bisecting (``with st.eager():``)."""

    def __enter__(self) -> None:
        self.before = _off.on
        _off.on = True

    def __exit__(self, *exc: Any) -> None:
        _off.on = self.before


@dataclass
class Entry:
    """One compiled trace."""

    guards: guarding.Guards
    program: Program
    bindings: list[tuple[int, Any]]  # per leaf: (0, argument), (1, Storage), (3, buffer), (4, leaf: its gradient)
    host: list[tuple[Any, Any, Any, int]]  # where a number of Python's goes, and where it comes from
    writes: list[tuple[int, Any, int]]  # value number, argument number or Storage, how often written
    grads: list[tuple[Any, Output | None]]
    template: Any
    outputs: list[Output]
    fresh: list[int]  # value numbers that need memory of their own
    random: list[tuple[Any, int]]
    argument_cells: list[bool]
    cells: frozenset[Any]
    differentiable: Any = None
    scalars: list[Any] = field(default_factory=list)
    types: list[Any] = field(default_factory=list)
    where: device = CPU
    single: bool = False  # the result is one tensor
    pure: bool = False  # it changes nothing, so it may be interrupted anywhere
    panels: Panels | None = None


_functions: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def _after_fork() -> None:
    """A thread that the child does not have may hold a function's lock."""
    for f in _functions:
        f._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class CompiledFunction:
    """What ``st.compile`` returns: call it as the function it wraps."""

    _unwatched = True  # its counters are no reason to compile again

    def __init__(self, function: Callable[..., Any], fullgraph: bool = False, memory_budget: int | None = None) -> None:
        functools.update_wrapper(self, function)
        self._memory_budget = memory_budget
        self._function = function
        self._fullgraph = fullgraph
        self._entries: dict[Any, list[Entry]] = {}
        self._broken: set[Any] = set()
        self._captured: frozenset[Any] = frozenset()
        self._lock = threading.RLock()
        _functions.add(self)
        self.compilations = 0
        self.hits = 0

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        bound = CompiledFunction(self._function.__get__(instance, owner), self._fullgraph, self._memory_budget)
        try:
            instance.__dict__[self._function.__name__] = bound
        except (AttributeError, TypeError):
            pass
        return bound

    # -- the hot path ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _off.on or queue.trace is not None:
            return self._function(*args, **kwargs)
        tensors: list[Tensor] = []
        key: list[Any] = [mode.enabled, config.cpu, config.gemm]
        a: Any
        for a in args:
            if a.__class__ in SHORT:
                tensors.append(a)
                n = a._storage.node
                key.append((n.shape, n.dtype, a._steps, a._requires_grad, a._fn is None, a._storage.device.index))
            elif isinstance(a, STATIC):
                key.append((a.__class__, a))
            else:
                key.append(self._structure(a, tensors))
        if kwargs:
            for name, a in kwargs.items():
                key.append((name, self._structure(a, tensors)))
        if tensors:
            key.append(self._aliases(tensors))
        form = tuple(key)
        entries = self._entries.get(form)
        if entries is not None:
            for e in entries:
                if not e.guards.failed():
                    if e.pure:
                        return self._replay(e, tensors)
                    with uninterrupted():
                        return self._replay(e, tensors)
        if form in self._broken:
            return self._function(*args, **kwargs)
        return self._trace(form, args, kwargs, tensors)

    def _aliases(self, tensors: list[Tensor]) -> Any:
        """Which arguments share memory with each other or with what the function captures: () for none.

        A program knows its leaves by their memory, so a call that shares other memory is another program.
        """
        cells = [t._storage for t in tensors]
        if len(set(cells)) == len(cells) and self._captured.isdisjoint(cells):
            return ()
        first: dict[Storage, int] = {}
        return tuple([(first.setdefault(c, i), id(c) if c in self._captured else 0) for i, c in enumerate(cells)])

    def _structure(self, a: Any, tensors: list[Tensor]) -> Any:
        first = len(tensors)
        static: list[Any] = []
        shape = flatten(a, tensors, static)
        types = []
        for t in tensors[first:]:
            n = t._storage.node
            kind = None if t.__class__ in SHORT else t.__class__
            types.append((n.shape, n.dtype, t._steps, t._requires_grad, t._fn is None, t._storage.device.index, kind))
        return shape, tuple(types)

    def _replay(self, e: Entry, tensors: list[Tensor]) -> Any:
        # This is the loop that runs once a step: what would be small functions is written out.
        if queue.cells:
            queue.flush()
        inputs = []
        for kind, what in e.bindings:
            if kind == 0:
                inputs.append(tensors[what]._storage.node.arg)
            elif kind == 1:
                inputs.append(what.node.arg)
            elif kind == 3:
                inputs.append(what)
            else:
                inputs.append(what._grad._storage.node.arg)
        types = e.types
        outs: list[Any] = [None] * len(types)
        cells: list[Any] = [None] * len(types)
        kept: list[Any] = [None] * len(types)
        for leaf, out in e.grads:
            # A gradient that only its leaf refers to is written in place.
            old = leaf._grad
            if out is not None and out.own and old is not None and refcount(old) == 3 and old._fn is None:
                cell = old._storage
                if refcount(cell) == 3 and not old._steps and not cell.exposed and cell.node.op == "BUFFER":
                    b = cell.buffer
                    if b.nbytes == e.program.out_bytes[out.cell] and cell.node.shape == types[out.cell][0] and b not in inputs:
                        outs[out.cell], cells[out.cell], kept[out.cell] = b, cell, old
        old = cell = None
        with self._lock:
            for word, container, key, part in e.host:
                value = getattr(container, key) if part == -2 else container[key]
                word[()] = value if part < 0 else value[part]
            if e.panels is not None:
                e.panels.check()
            try:
                outs = e.program.run(inputs, e.scalars, outs)
            except AttributeError:
                if self._wait(e, tensors):
                    return self._replay(e, tensors)
                raise
            except ProgramFailed as failed:
                raise failed.seen from None
        self.hits += 1
        for j, where, count in e.writes:
            cell = tensors[where]._storage if where.__class__ is int else where
            b = outs[j]
            if b is not cell.buffer:
                if cell.exposed and cell.shared:
                    cell.buffer.overwrite(b, b.nbytes)
                else:
                    n = Node()
                    n.op, n.src, n.arg, n.origin, n._digest = "BUFFER", (), b, None, None
                    n.shape, n.dtype = types[j]
                    cell.node = n
                    cell.buffer = b
                    b.cell = weakref.ref(cell)
            cell.version += count
            cells[j] = cell
        for j in e.fresh:
            if cells[j] is None:
                cell = cells[j] = new_object(Storage)
                b = outs[j]
                n = Node()
                n.op, n.src, n.arg, n.origin, n._digest = "BUFFER", (), b, None, None
                n.shape, n.dtype = types[j]
                cell.node, cell.buffer, cell.version, cell.device = n, b, 0, e.where
                cell.history, cell.history_version, cell.error, cell.exposed = None, 0, None, False
                b.cell = weakref.ref(cell)
        for leaf, out in e.grads:
            if out is None:
                leaf._grad = None
            elif out.cell < 0 or kept[out.cell] is None:
                leaf._grad = _make(out, cells, tensors)
        for generator, used in e.random:
            generator.offset += used
        if e.single and e.differentiable is None:
            return _make(e.outputs[0], cells, tensors)
        results = [_make(out, cells, tensors) for out in e.outputs]
        if e.differentiable is not None:
            e.differentiable.attach(results, tensors, cells)
        return rebuild(e.template, results)

    @staticmethod
    def _wait(e: Entry, tensors: list[Tensor]) -> bool:
        """Compute what is not in memory yet: values pending in another thread.  Raises for one that failed."""
        cells = [tensors[what]._storage if kind == 0 else what for kind, what in e.bindings if kind < 2]
        waiting = [c for c in cells if c.pending]
        realize(waiting)
        return bool(waiting)

    # -- tracing ---------------------------------------------------------------------------------------

    def _trace(self, form: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        with self._lock:
            self._explain_miss(form)
            trace, result, error = self._run_python(args, kwargs)
            if error is not None:
                raise error
            if trace.broken:
                self._broken.add(form)
                return result
            capture = self._capture(trace, result, tensors)
            if capture.escaped:
                if capture.differentiable is not None:
                    capture.differentiable.stand_in(capture.results)
                trace.broken = capture.escaped
                self._broken.add(form)
                import warnings

                warnings.warn(f"{self.__name__} {capture.escaped}; it is not compiled", stacklevel=3)  # type: ignore[attr-defined]
                return result
            entry = capture.finish(args, kwargs)
            if not self._captured.issuperset(entry.cells):
                self._captured = self._captured | entry.cells
            if tensors:
                form = (*form[:-1], self._aliases(tensors))
            entries = self._entries.setdefault(form, [])
            entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                entries.pop(0)
            self.compilations += 1
            log("recompile", f"{self.__name__}: compiled entry {self.compilations} in {entry.program.compile_seconds * 1e3:.0f} ms")  # type: ignore[attr-defined]
            return result

    def _run_python(self, args: Any, kwargs: Any) -> tuple[Trace, Any, Exception | None]:
        queue.flush_all()  # a weight that another thread made is an input, not a part of the program
        trace = Trace(self.__name__, self._fullgraph)  # type: ignore[attr-defined]
        queue.trace = trace
        try:
            return trace, self._function(*args, **kwargs), None
        except Exception as e:
            if not trace.broken:
                queue.trace = None
                trace.undo()
            return trace, None, e
        finally:
            queue.trace = None

    def _capture(self, trace: Trace, result: Any, tensors: list[Tensor]) -> Capture:
        """The trace goes on: however much is pending by now, nothing of it may be computed yet."""
        queue.trace = trace
        try:
            return Capture(self, trace, result, tensors)
        finally:
            queue.trace = None

    def _explain_miss(self, form: Any) -> None:
        if "recompile" not in config.log or not self._entries:
            return
        same = self._entries.get(form)
        if same:
            log("recompile", f"{self.__name__}: {same[-1].guards.failed()}")  # type: ignore[attr-defined]
            return

        def distance(other: Any) -> int:
            return sum(x != y for x, y in zip(form, other)) + abs(len(form) - len(other))

        nearest = min(self._entries, key=distance)
        parts = [f"argument {i - 3}: {y!r} -> {x!r}" for i, (x, y) in enumerate(zip(form, nearest)) if x != y]
        if len(form) != len(nearest):
            parts.append(f"{len(nearest) - 3} arguments -> {len(form) - 3}")
        log("recompile", f"{self.__name__}: the call differs from the nearest one compiled in " + "; ".join(parts))  # type: ignore[attr-defined]

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The passes' results for these arguments, nothing run: ``.graph .kernels .source .program .launches``."""
        from ..inspect.show import Inspection

        tensors: list[Tensor] = []
        flatten((args, kwargs), tensors, [])
        with self._lock:
            trace, result, error = self._run_python(args, kwargs)
            if error is not None:
                raise error
            if trace.broken:
                raise RuntimeError(f"{trace.broken}, so there is no one program to show")
            capture = self._capture(trace, result, tensors)
            program = capture.program()
            trace.undo()
            for cell in capture.new_cells:
                cell.error = RuntimeError("this value was made by lower(), which runs nothing")
            queue.take()
        return Inspection(program)


def _host_word(node: Node, container: Any, key: Any, dtype: Any) -> tuple[Any, Any, Any, int]:
    """The 8 bytes that a host number is written to before each run, as a 0-d array, and its source:
    ``container[key][part]``; part -1 is ``container[key]``, -2 the attribute ``key``."""
    word = buffers.as_numpy(node.arg, dtype.np, ())
    if isinstance(key, tuple):
        return word, container, key[0], key[1]
    return word, container, key, -1 if isinstance(container, (dict, list)) else -2


def _make(out: Output, cells: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
    if out.given is not None:
        return tensors[out.given] if out.given.__class__ is int else out.given
    t = tensor_over(cells[out.cell], out.steps)
    if out.fn is not None:
        t._fn, t._index = out.fn, out.number
    return t


class Capture:
    """What a finished trace computes: roots, and how leaves and results are bound."""

    def __init__(self, owner: CompiledFunction, trace: Trace, result: Any, tensors: Sequence[Tensor]) -> None:
        self.owner, self.trace, self.tensors = owner, trace, tensors
        self.results: list[Tensor] = []
        self.template = describe(result, self.results)
        self.cells: dict[Storage, int] = {}
        argument_of = {t._storage: i for i, t in reversed(list(enumerate(tensors)))}
        self.argument_of = argument_of
        for cell in trace.writes:
            if cell.pending:
                self.cells.setdefault(cell, len(self.cells))
        for t, _ in trace.grads.items():
            if t._grad is not None and t._grad._storage.pending:
                self.cells.setdefault(t._grad._storage, len(self.cells))
        for t in self.results:
            if t._storage.pending:
                self.cells.setdefault(t._storage, len(self.cells))
        self.crosses = mode.enabled and crosses(self.results)
        self.differentiable = None if self.crosses else partition(self)
        self.where = next((c.device for c in self.cells), CPU)
        self.new_cells = [c for c in self.cells if c not in trace.writes]
        self.escaped = self._escaped()

    def _escaped(self) -> str:
        """Why a replay could not do what the function did: it left values where the trace cannot see, or two programs
        would be needed."""
        if self.crosses:
            return "sends gradients from one device to another"
        if any(c.device is not self.where for c in self.cells):
            found = sorted({str(c.device) for c in self.cells})
            return f"computes values on more than one device ({', '.join(found)})"
        alive = [c for c in queue.pending() if c not in self.cells]
        if alive:
            import gc

            known = weakref.WeakSet(alive)
            del alive
            gc.collect()
            alive = list(known)
        if alive:
            return f"keeps {len(alive)} tensors (such as {alive[0].node.op} {list(alive[0].node.shape)}) other than by returning them"
        return ""

    def is_state(self, c: Storage) -> bool:
        """Whether the cell was there before the call, so that a replay updates it."""
        return c in self.trace.writes and c not in self.trace.literals

    def program(self) -> Program:
        """Passes and code for the roots; remembers the canonical form."""
        roots = [c.node for c in self.cells]
        self.form = canonical(roots, self.where)
        slots = {n.arg: i for i, n in enumerate(self.form.leaves)}
        donated = [slots.get(c.buffer) if self.is_state(c) and c.buffer is not None else None for c in self.cells]
        seen: set[int] = set()
        for j, d in enumerate(donated):
            if d is not None and d in seen:
                donated[j] = None
            elif d is not None:
                seen.add(d)
        inputs = [(n.shape, n.dtype) for n in self.form.leaves]
        return build(self.form.roots(roots), donated, inputs, self.form.scalar_types, self.where, self.owner._memory_budget)

    def finish(self, args: Any, kwargs: Any) -> Entry:
        trace = self.trace
        outputs = [self._output(t) for t in self.results]
        grads = [(t, None if t._grad is None else self._output(t._grad)) for t in trace.grads]
        program = self.program()
        before = {t: trace.grads.get(t, t._grad) for t, had in trace.grads_seen.items() if had}
        grad_of = {g._storage: t for t, g in before.items()}
        bindings: list[tuple[int, Any]] = []
        captured: set[Storage] = set()
        for n in self.form.leaves:
            b = n.arg
            cell = b.cell() if b.cell is not None else None
            if cell is not None and cell in grad_of:
                bindings.append((4, grad_of[cell]))
            elif cell is not None and cell in self.argument_of:
                bindings.append((0, self.argument_of[cell]))
            elif cell is not None and cell not in trace.literals:
                bindings.append((1, cell))
                captured.add(cell)
            else:
                bindings.append((3, b))
        writes = [
            (j, self.argument_of.get(c, c), c.version - trace.writes[c][1]) for c, j in self.cells.items() if self.is_state(c)
        ]
        watched = guarding.collect(self.owner._function, args, kwargs, trace)
        watched.cells = tuple(dict.fromkeys([*captured, *[w for _, w, _ in writes if isinstance(w, Storage)]]))
        types = [(c.node.shape, c.node.dtype) for c in self.cells]
        leaves = [n.arg for n in self.form.leaves]
        entry = Entry(
            watched, program, bindings, [_host_word(*h) for h in trace.host], writes, grads, self.template, outputs,
            [j for c, j in self.cells.items() if not self.is_state(c)], list(trace.random.items()), [], frozenset(captured | watched.known),
            None, self.form.scalars, types, self.where, self.template[0] == "t",
            not (writes or grads or trace.random),
        )  # fmt: skip
        if program.panels:
            written = {c for _, c, _ in writes}
            panels = Panels(program, {i: c for i, (kind, c) in enumerate(bindings) if kind == 1 and c not in written})
            entry.panels = panels if panels else None
        program.bake(self.form.scalars)
        uses = [o.cell for o in [*outputs, *[g for _, g in grads if g is not None]]]
        for _, g in grads:
            if g is not None and g.cell >= 0 and not g.steps and uses.count(g.cell) == 1 and g.cell in entry.fresh:
                g.own = True
        self._run_first(program, leaves)
        entry.differentiable = bound(self, entry)
        return entry

    def _run_first(self, program: Program, leaves: Sequence[Any]) -> None:
        """The traced call's own values."""
        queue.take()
        try:
            with uninterrupted():
                outs = program.run(leaves, self.form.scalars)
                for (cell, _), out in zip(self.cells.items(), outs):
                    if cell.shared and out is not cell.buffer:
                        cell.buffer.overwrite(out, out.nbytes)
                        out = cell.buffer
                    cell.settle(out)
        except ProgramFailed as e:
            self.trace.undo()
            raise e.seen from None

    def _output(self, t: Tensor) -> Output:
        cell = t._storage
        for i, a in enumerate(self.tensors):
            if a is t:
                return Output(-1, (), i)
        if cell in self.cells:
            fn = t._fn if t._fn is not None and consumed(t._fn) else None
            return Output(self.cells[cell], t._steps, None, fn, t._index)
        return Output(-1, (), t)


def compile(
    function: Callable[..., Any] | None = None, *, fullgraph: bool = False, memory_budget: int | None = None, **options: Any
) -> Any:
    """Compile a function, a method or a Module (torch.compile).

    The first call with arguments of a new structure traces and compiles (milliseconds); later calls
    replay one native program.  New lengths reuse the kernels.  Python that looks at a tensor's value
    makes the call run operation by operation, with one warning; ``fullgraph=True`` raises
    :class:`~spiraltorch.errors.CompileError` instead.  ``memory_budget`` is how many bytes a call should allocate at
    most (temporaries and results): values are then computed again rather than kept, with the same bits; see
    ``f.lower(...).memory()``.  ``mode``, ``dynamic``, ``backend`` are accepted for
    torch's sake and ignored.  Raises TypeError for options that do not exist.
    """
    unknown = set(options) - {"mode", "dynamic", "backend", "options", "disable"}
    if unknown:
        raise TypeError(f"compile() got unexpected options {sorted(unknown)}")
    if function is None:
        return functools.partial(compile, fullgraph=fullgraph, memory_budget=memory_budget, **options)
    if options.get("disable"):
        return function
    if hasattr(function, "forward") and hasattr(function, "named_parameters"):
        from ..nn.compiled import compile_module

        return compile_module(function, fullgraph, memory_budget)
    return CompiledFunction(function, fullgraph, memory_budget)


__all__ = ["CompiledCall", "CompiledFunction", "Entry", "compile", "eager"]
