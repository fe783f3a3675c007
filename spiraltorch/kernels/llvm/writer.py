"""The loops of one kernel: tasks, phases, vectors and their tail, reductions.

In: a kernel.  Out: the text of its function.

Shape of the code, for lane 'inner' (softmax) and lane 'row' (pointwise, column sums):

    row loop                                row loop (a block of the lane axis)
      phase: inner axes, scalar loops         phase: inner axes, scalar loops, the last in chunks
        lane loop: vectors, masked tail         lane loop: vectors, masked tail
                                                  the chunk, a scalar loop

A vector has ``lanes`` values (the vector width over 32 bits, more or less for kernels of only
narrower or only wider types); the main loop holds ``unroll`` vectors side by side.

Reductions have fixed trees, so their bits depend on the lengths of the inner axes alone.  Lane
'inner' keeps ``lanes * unroll`` partial results, folded at the end.  Lane 'row' keeps one result a
lane in an array of ``block`` values on the stack, to which each chunk of the last inner axis is added; a few rows side
by side stream from memory faster than one column.  float32 sums are added in two levels in both, which
keeps the error of a long sum small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ...dtypes import DType, float32
from ...ir.kernel import Access, Kernel, Phase, Reduce, Store
from ...ir.node import Node, toposort
from ..reference import identity
from . import columns, rows
from .ahead import ahead, fetch
from .columns import CHUNK
from .invariant import row_invariant
from .math import expand_kernel
from .points import PHASE, Points, Scope, iota
from .rows import Code, Unit, memory, number, register, vector
from .stash import place, stash
from .stream import fence, store_either, streams
from .target import Target

LEVEL = 64  # steps of a sum's inner level for lane 'inner'
LIGHT = 8  # nodes of a phase whose chunks are written out for lane 'row'

_FOLD = {"add": "ADD", "mul": "MUL", "max": "MAX", "min": "MIN"}


def lane_count(kernel: Kernel, target: Target) -> int:
    """Values in one vector: the registers' width over the kernel's usual element width.

    A fold's partial results are part of its meaning, so a kernel that folds has as many lanes whatever
    else is fused with it: the width over 32 bits.
    """
    if any(p.reduces for p in kernel.phases):
        return max(2, target.vector_bits // 32)
    widths = {n.dtype.acc.bits for n in kernel.nodes() if n.op not in ("INDEX", "CONST", "SCALAR")}
    widths |= {p.dtype.bits for p in kernel.params if p.mode != "status"}
    widest, narrowest = max(widths, default=32), min(widths, default=32)
    bits = widest if widest < 32 else narrowest if narrowest > 32 else 32
    return max(2, target.vector_bits // bits)


def _weight(n: Node) -> int:
    """Instructions of one vector, about."""
    if n.op in ("CONST", "SCALAR", "VALUE"):
        return 0
    # No CPU divides vectors of 64-bit integers.
    return 64 if n.op in ("IDIV", "REM") and n.dtype.bits == 64 else max(1, n.dtype.bits // 32)


class _Level:
    """The inner level of the two in which float32 sums are added: variables set to 0 at the begin of
    a chunk and added to the totals at its end.  Other reductions have one level."""

    def __init__(
        self, writer: Writer, reduces: Sequence[Reduce], totals: dict[int, list[str]], lanes: int, unroll: int
    ) -> None:
        self.writer = writer
        self.sums = [r for r in reduces if r.op == "add" and r.expr.dtype.acc is float32] if lanes > 1 else []
        self.totals = totals
        self.lanes = lanes
        self.variables = dict(totals) if self.sums else {}
        for r in self.sums:
            self.variables[r.id] = writer.variables(r, lanes, unroll)
        self.active = False

    def begin(self) -> None:
        for r in self.sums:
            self.writer.clear(r, self.variables[r.id], self.lanes)

    def fold(self) -> None:
        code = self.writer.here
        ty = register(float32, self.lanes)
        for r in self.sums:
            for v, total in zip(self.variables[r.id], self.totals[r.id]):
                a, b = [code.let(f"load {ty}, ptr {p}") for p in (total, v)]
                code.do(f"store {ty} {code.let(f'fadd {ty} {a}, {b}')}, ptr {total}")


class Writer(Points):
    """Writes one kernel."""

    def __init__(self, unit: Unit, kernel: Kernel, name: str) -> None:
        given = kernel.params
        kernel, kept = stash(kernel)
        self.kernel = expand_kernel(kernel)
        super().__init__(unit, given, kernel.scalars, kernel.slots, lane_count(self.kernel, unit.target))
        self.params += kernel.params[len(given) :]
        self.kept = {k.param: k for k in kept}
        self.name = name
        self.by_row = kernel.lane == "row"
        self.stored = {s.param for p in kernel.phases for s in p.stores}
        self.arrays: dict[int, tuple[DType, str]] = {}  # lane 'row': a reduction's results, one a lane
        self.ahead = ahead(self.kernel)
        self.streaming: list[str] = []  # when stores bypass the cache
        self.start = self.end = ""
        self.lane_values = 1 << kernel.lane_row if self.by_row else 0
        self.invariant = [] if self.by_row else row_invariant(self.kernel)

    def text(self) -> str:
        code = self.here
        code.do("%any = icmp slt i64 %lo, %hi")
        code.do("br i1 %any, label %start, label %end")
        code.label("start")
        self._rows()
        fence(code, self.streaming)
        code.label("end")
        code.do("ret void")
        body = "\n".join(["entry:", *self.allocas, *code.lines])
        head = f"define void @{self.name}(ptr noalias %args, i64 %lo, i64 %hi)"
        return f"{head} {self.unit.target.attributes} {{\n{body}\n}}\n"

    # ------------------------------------------------------------ loops

    def size(self, axis: int) -> str:
        return self.slot(self.kernel.axes[axis])

    def loop(self, axes: int, start: str, end: str, step: int, body: Callable[[str], object]) -> None:
        """``for i in range(start, end, step): body(i)`` in a scope where ``axes`` begin.

        A ``body`` that returns an i64 operand says the step itself.
        """
        parent = self.here
        variable = self.alloca("i64")
        scope = Scope(self.code(), axes)
        self.scopes.append(scope)
        i = scope.code.let(f"load i64, ptr {variable}")
        own_step = body(i)
        self.scopes.pop()
        inside, after = f"loop{next(self.counter)}", f"after{next(self.counter)}"
        following = scope.code.let(f"add nsw i64 {i}, {own_step or step}")
        scope.code.do(f"store i64 {following}, ptr {variable}")
        again = scope.code.let(f"icmp slt i64 {following}, {end}")
        scope.code.do(f"br i1 {again}, label %{inside}, label %{after}")
        parent.do(f"store i64 {start}, ptr {variable}")
        some = parent.let(f"icmp slt i64 {start}, {end}")
        parent.do(f"br i1 {some}, label %{inside}, label %{after}")
        parent.label(inside)
        parent.lines += scope.code.lines
        parent.label(after)

    def pointer(self, param: int, access: Access) -> str:
        """The address of the access; of a value that is kept, on the stack or in the row of a result."""
        return super().pointer(param, access) if param not in self.kept else place(self, self.kept[param])

    def _rows(self) -> None:
        """The loop over tasks: an odometer of the row axes (the last digit counts blocks for lane 'row')."""
        code = self.here
        rank = self.kernel.lane_row + 1 if self.by_row else self.kernel.rows - self.kernel.walked
        sizes = [self.size(k) for k in range(rank)]
        if self.by_row:
            up = code.let(f"add i64 {sizes[-1]}, {self.kernel.block - 1}")
            sizes[-1] = code.let(f"udiv i64 {up}, {self.kernel.block}")
        digits = [self.alloca("i64") for _ in range(rank)]
        rest = "%lo"
        for k in reversed(range(rank)):
            digit = code.let(f"urem i64 {rest}, {sizes[k]}") if k else rest
            rest = code.let(f"udiv i64 {rest}, {sizes[k]}") if k else rest
            code.do(f"store i64 {digit}, ptr {digits[k]}")
        for phase in self.invariant:  # what is the same at every row is folded once a call
            self._inner_phase(phase)
        axes = (1 << (rank - 1 if self.by_row else rank)) - 1
        self.loop(axes, "%lo", "%hi", 1, partial(self._task, digits, sizes))

    def _task(self, digits: list[str], sizes: list[str], _: str) -> None:
        code = self.here
        now = [code.let(f"load i64, ptr {d}") for d in digits]
        self.index.update(enumerate(now))
        if self.by_row:
            self._block(now[-1])
        else:
            columns.begin(self)
            self.nest(tuple(range(len(digits), self.kernel.rows)), self._walked_row)
        carry = "true"
        for k in reversed(range(len(digits))):
            up = code.let(f"add i64 {now[k]}, {code.let(f'zext i1 {carry} to i64')}")
            carry = code.let(f"icmp eq i64 {up}, {sizes[k]}")
            code.do(f"store i64 {code.select(carry, '0', up, 'i64', 1)}, ptr {digits[k]}")

    def _walked_row(self) -> None:
        for phase in self.kernel.phases:
            if phase not in self.invariant:
                self._inner_phase(phase)
        columns.end_of_row(self)

    def _lane_loop(
        self, axis: int, start: str, end: str, unroll: int, body: Callable[[], None], level: _Level | None = None
    ) -> None:
        """The vectors of one axis: ``unroll`` whole ones at a time, then masked ones one by one.

        With a ``level``, the whole ones run in chunks between its ``begin`` and ``fold``.
        """
        code = self.here
        step = self.lanes * unroll
        length = end if start == "0" else code.let(f"sub i64 {end}, {start}")
        whole = code.let(f"and i64 {length}, {-step}")
        middle = whole if start == "0" else code.let(f"add i64 {start}, {whole}")
        self.lane_axis = axis

        def main(i: str) -> None:
            self.index[axis], self.unroll, self.masks = i, unroll, None
            body()

        def chunk(i: str) -> None:
            assert level is not None
            self.unroll = unroll
            level.begin()
            self.loop(1 << axis, i, self._least(i, step * LEVEL, middle), step, main)
            level.fold()

        def tail(i: str) -> None:
            # Fewer than lanes * unroll values are left, so a narrow integer counts them.
            self.index[axis], self.unroll = i, 1
            element = f"i{max(8, self.unit.target.vector_bits // self.lanes)}"
            ty = vector(element, self.lanes)
            left = whole_left = self.here.let(f"sub i64 {end}, {i}")
            if element != "i64":
                left = self.here.let(f"trunc i64 {left} to {element}")
            count = rows.splat(self.here, left, element, self.lanes)
            self.masks, self.left = [self.here.let(f"icmp ult {ty} {iota(element, self.lanes)}, {count}")], whole_left
            body()

        if level is None:
            self.loop(1 << axis, start, middle, step, main)
        else:
            self.loop(0, start, middle, step * LEVEL, chunk)
            level.active = False
        self.loop(1 << axis, middle, end, self.lanes, tail)
        self.lane_axis, self.unroll, self.masks = -1, 1, None

    def _least(self, start: str, step: int, limit: str) -> str:
        """The end of a chunk."""
        end = self.here.let(f"add i64 {start}, {step}")
        return self.here.select(self.here.let(f"icmp slt i64 {end}, {limit}"), end, limit, "i64", 1)

    # ------------------------------------------------------------ phases

    def _order(self, phase: Phase) -> list[Node]:
        """The phase's nodes, operands first; records what each depends on."""
        order = toposort(phase.exprs())
        for n in order:
            deps = 0
            for s in n.src:
                deps |= self.deps[s]
            if n.op in ("LOAD", "INDEX"):
                access = n.arg.access if n.op == "LOAD" else n.arg
                for axis, stride in access.terms:
                    if stride != 0:
                        deps |= 1 << axis
            if n.op == "LOAD" and (phase.axes or n.arg.param in self.stored):
                # It must not move above the test for an empty axis, or above an earlier phase's store.
                deps |= PHASE
            if n.op == "VALUE":
                # Written after the phase that made it, so not in an outer scope.
                deps = PHASE | self.lane_values
            self.deps[n] = deps
        return order

    def _unroll(self, order: list[Node], reducing: bool) -> int:
        """Vectors side by side: enough to hide latency, few enough for registers and compile time."""
        weight = sum([_weight(n) for n in order])
        # A fold's partial results are part of its meaning: their number must not depend on what else is fused.
        return 2 if reducing or weight <= 48 or weight >= 256 else 1

    def _guarded(self, phase: Phase, axes: tuple[int, ...], body: Callable[[], None]) -> None:
        """``body`` in the phase's scope, which is skipped when one of its axes is empty."""
        parent = self.here
        self.scopes.append(Scope(self.code(), PHASE))
        body()
        scope = self.scopes.pop()
        if not axes:
            parent.lines += scope.code.lines
            return
        inside, after = f"phase{next(self.counter)}", f"after{next(self.counter)}"
        some = "true"
        for axis in axes:
            more = self.cached(0, ("some", axis), f"icmp sgt i64 {self.size(axis)}, 0")
            some = more if some == "true" else self.cached(0, ("and", some, more), f"and i1 {some}, {more}")
        parent.do(f"br i1 {some}, label %{inside}, label %{after}")
        parent.label(inside)
        parent.lines += scope.code.lines
        parent.do(f"br label %{after}")
        parent.label(after)

    def nest(self, axes: tuple[int, ...], body: Callable[[], None]) -> None:
        """Scalar loops over ``axes``, outermost first."""
        if not axes:
            return body()

        def inside(i: str) -> None:
            self.index[axes[0]] = i
            self.nest(axes[1:], body)

        self.loop(1 << axes[0], "0", self.size(axes[0]), 1, inside)

    def _point(self, phase: Phase, order: list[Node], accumulators: dict[int, list[str]]) -> None:
        """All that the phase does at one point."""
        if self.kernel.group > 1:
            return self._group_point(phase, order)
        self.compute(order, list(phase.exprs()))
        fetch(self, self.ahead.get(phase, ()))
        for r in phase.reduces:
            self._accumulate(r, accumulators[r.id])
        for s in phase.stores:
            if s.fold:
                columns.add(self, s)
            else:
                self.store(s)
        for c in phase.checks:
            self.check(c)

    def _store_vectors(self, s: Store, vectors: list[tuple[str, str]]) -> bool:
        flag = streams(self, s)
        if flag is not None:
            dtype = self.params[s.param].dtype
            store_either(self, self.here, flag, vectors, memory(dtype, self.lanes), dtype.itemsize)
        return flag is not None

    def _group_point(self, phase: Phase, order: list[Node]) -> None:
        """A point for every value of the last row axis; their results are stored side by side."""
        axis = self.kernel.rows - 1
        values: dict[Store, list[list[str]]] = {s: [] for s in phase.stores}
        for k in range(self.kernel.group):
            self.index[axis] = str(k)
            self.scopes.append(Scope(self.code(), 1 << axis))
            self.compute(order)
            for s, members in values.items():
                if self.interleaves(s, axis, self.kernel.group):
                    members.append(self.operand(s.value, True))
                else:
                    self.store(s)
            for c in phase.checks:
                self.check(c)
            scope = self.scopes.pop()
            self.here.lines += scope.code.lines
        for s, members in values.items():
            if members:
                self.store_interleaved(s, axis, members)

    def _inner_phase(self, phase: Phase) -> None:
        order = self._order(phase)
        unroll = self._unroll(order, bool(phase.reduces)) if phase.axes else 1
        lanes = self.lanes if phase.axes else 1
        totals = {r.id: self._start(r, lanes, unroll) for r in phase.reduces}
        level = _Level(self, phase.reduces, totals, lanes, unroll)

        def point() -> None:
            self._point(phase, order, level.variables if level.active else totals)

        def lane_loop() -> None:
            axis = phase.axes[-1]
            level.active = bool(level.variables)
            self._lane_loop(axis, "0", self.size(axis), unroll, point, level if level.active else None)

        body = partial(self.nest, phase.axes[:-1], lane_loop) if phase.axes else point
        self._guarded(phase, phase.axes, body)
        for r in phase.reduces:
            self.results[r.id] = r.expr.dtype, [self._finish(r, totals[r.id], lanes)]

    def _block(self, block: str) -> None:
        """One task of lane 'row': its block of the last row axis."""
        code = self.here
        self.start = code.let(f"mul i64 {block}, {self.kernel.block}")
        self.end = self._least(self.start, self.kernel.block, self.size(self.kernel.lane_row))
        for phase in self.kernel.phases:
            self._row_phase(phase)

    def _row_phase(self, phase: Phase) -> None:
        order = self._order(phase)
        unroll = self._unroll(order, bool(phase.axes))
        lane_loop = partial(self._lane_loop, self.kernel.lane_row, self.start, self.end, unroll)
        for r in phase.reduces:
            acc = r.expr.dtype.acc
            self.arrays[r.id] = acc, self.alloca(f"[{self.kernel.block + self.lanes} x {memory(acc)}], align 64")
        if phase.reduces:
            self._clear(phase)

        def vectors(steps: Callable[[Callable[[], None]], None]) -> None:
            """One vector a lane: fold what ``steps`` walks, then add it to the arrays."""
            variables = {r.id: self._start(r, self.lanes, self.unroll) for r in phase.reduces}
            steps(partial(self._point, phase, order, variables))
            for r in phase.reduces:
                self._fold_into_array(r, variables[r.id])

        def chunk(i: str) -> None:
            axis = phase.axes[-1]
            end = self._least(i, CHUNK, self.size(axis))

            def steps(body: Callable[[], None]) -> None:
                def step(k: str) -> None:
                    self.index[axis] = k
                    body()

                self.loop(1 << axis, i, end, 1, step)

            lane_loop(partial(vectors, steps))

        def whole_chunk(i: str) -> None:
            lane_loop(partial(vectors, partial(self._side_by_side_rows, phase.axes[-1], i)))

        def chunks() -> None:
            size, whole = self.size(phase.axes[-1]), "0"
            if len(order) <= LIGHT:
                whole = self.here.let(f"and i64 {size}, {-CHUNK}")
                self.loop(0, "0", whole, CHUNK, whole_chunk)
            self.loop(0, whole, size, CHUNK, chunk)

        if phase.axes:
            self._guarded(phase, phase.axes, partial(self.nest, phase.axes[:-1], chunks))
        else:
            self._guarded(phase, (), partial(lane_loop, partial(vectors, lambda body: body())))

    def _side_by_side_rows(self, axis: int, start: str, body: Callable[[], None]) -> None:
        """``body`` at CHUNK values of ``axis``, written out: each of these rows is then a stream of its own, which is fetched ahead."""
        for k in range(CHUNK):
            self.scopes.append(Scope(self.code(), 1 << axis))
            self.index[axis] = self.here.let(f"add i64 {start}, {k}")
            body()
            scope = self.scopes.pop()
            self.here.lines += scope.code.lines

    # ------------------------------------------------------------ results a lane, kept in arrays

    def _array(self, reduction: int, code: Code, u: int) -> tuple[DType, str]:
        """Type and address of vector ``u`` of a reduction's array."""
        acc, array = self.arrays[reduction]
        lane = self.kernel.rows - 1
        at = self.cached(self.level(1 << lane), "at", f"sub i64 {self.index[lane]}, {self.start}")
        p = code.let(f"getelementptr {memory(acc)}, ptr {array}, i64 {at}")
        return acc, code.let(f"getelementptr {memory(acc)}, ptr {p}, i64 {u * self.lanes}")

    def _load_array(self, code: Code, acc: DType, p: str) -> str:
        align = min(64, acc.itemsize * self.lanes)
        value = code.let(f"load {memory(acc, self.lanes)}, ptr {p}, align {align}")
        return rows.from_memory(code, value, acc, self.lanes)

    def _store_array(self, acc: DType, value: str, p: str) -> None:
        align = min(64, acc.itemsize * self.lanes)
        stored = rows.to_memory(self.here, value, acc, self.lanes)
        self.here.do(f"store {memory(acc, self.lanes)} {stored}, ptr {p}, align {align}")

    def _clear(self, phase: Phase) -> None:
        """Set the arrays to the identity; they have room for a whole last vector."""
        length = self.here.let(f"sub i64 {self.end}, {self.start}")

        def vector_at(i: str) -> None:
            for r in phase.reduces:
                acc, array = self.arrays[r.id]
                p = self.here.let(f"getelementptr {memory(acc)}, ptr {array}, i64 {i}")
                self._store_array(acc, number(identity(r.op, acc), acc, self.lanes), p)

        self.loop(0, "0", length, self.lanes, vector_at)

    def _fold_into_array(self, r: Reduce, variables: list[str]) -> None:
        for u, v in enumerate(variables):
            acc, p = self._array(r.id, self.here, u)
            old = self._load_array(self.here, acc, p)
            new = self.here.let(f"load {register(acc, self.lanes)}, ptr {v}")
            self._store_array(acc, self.fold(r.op, acc, old, new, self.lanes), p)

    def result(self, n: Node, code: Code) -> list[str]:
        if n.arg not in self.arrays:
            return super().result(n, code)
        out = []
        for u in range(self.unroll):
            acc, p = self._array(n.arg, code, u)
            out.append(rows.cast(code, self._load_array(code, acc, p), acc, n.dtype, self.lanes))
        return out

    # ------------------------------------------------------------ reductions

    def variables(self, r: Reduce, lanes: int, unroll: int) -> list[str]:
        return [self.alloca(register(r.expr.dtype.acc, lanes)) for _ in range(unroll)]

    def clear(self, r: Reduce, variables: list[str], lanes: int) -> None:
        """Set partial results to the identity."""
        acc = r.expr.dtype.acc
        for v in variables:
            self.here.do(f"store {register(acc, lanes)} {number(identity(r.op, acc), acc, lanes)}, ptr {v}")

    def _start(self, r: Reduce, lanes: int, unroll: int) -> list[str]:
        variables = self.variables(r, lanes, unroll)
        self.clear(r, variables, lanes)
        return variables

    def fold(self, op: str, dtype: DType, a: str, b: str, lanes: int) -> str:
        return rows.row(self.here, _FOLD[op], dtype, (dtype, dtype), (a, b), lanes)

    def _accumulate(self, r: Reduce, variables: list[str]) -> None:
        acc = r.expr.dtype.acc
        lane = self.lane_axis >= 0
        lanes = self.lanes if lane else 1
        ty = register(acc, lanes)
        for u, value in enumerate(self.operand(r.expr, lane)):
            old = self.here.let(f"load {ty}, ptr {variables[u]}")
            new = self.fold(r.op, acc, old, value, lanes)
            if self.masks is not None and not self.by_row:
                new = self.here.select(self.masks[u], new, old, ty, lanes)
            self.here.do(f"store {ty} {new}, ptr {variables[u]}")

    def _finish(self, r: Reduce, variables: list[str], lanes: int) -> str:
        """Fold the partial results: neighbouring vectors, then halves of the vector."""
        acc = r.expr.dtype.acc
        ty = register(acc, lanes)
        values = [self.here.let(f"load {ty}, ptr {v}") for v in variables]
        while len(values) > 1:
            values = [self.fold(r.op, acc, a, b, lanes) for a, b in zip(values[::2], values[1::2])]
        (value,) = values
        while lanes > 1:
            ty, lanes = register(acc, lanes), lanes // 2
            low, high = [self._part(value, ty, start, lanes) for start in (0, lanes)]
            value = self.fold(r.op, acc, low, high, lanes)
        return value if acc is r.expr.dtype else rows.round16(self.here, value, r.expr.dtype, 1)

    def _part(self, value: str, ty: str, start: int, lanes: int) -> str:
        if lanes == 1:
            return self.here.let(f"extractelement {ty} {value}, i64 {start}")
        which = f"<{lanes} x i32> {iota('i32', lanes, start)}"
        return self.here.let(f"shufflevector {ty} {value}, {ty} poison, {which}")
