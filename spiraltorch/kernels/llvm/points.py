"""Expressions of a kernel at the points of its loops: where each value is computed, and how memory is read.

In: nodes over ``LOAD``, ``INDEX``, ``VALUE``, ``SCALAR``, ``CONST`` and basic rows.  Out: lines of LLVM IR.

The loops around a point are a stack of :class:`Scope`.  A node is written once, into the outermost
scope that knows all axes it depends on; inside that scope's loop body the inner loops follow, so
everything that does not change in a loop stands before it.  A node that depends on the lane axis
has one value per vector of the loop (``unroll`` of them side by side), any other node is a scalar.

    scope 0  function   %s = load slot          args, scalars, constants of scalars
    scope 1  row        %p = gep param, a0*s    one task
    scope 2  lane       <16 x float> x unroll   vectors of the lane axis
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ...dtypes import DType, bool_, int64
from ...ir.kernel import Access, Check, Coef, Param, Slot, Store
from ...ir.node import Node
from . import rows
from .lazy import Plan, Side, plan
from .rows import Code, Unit, memory, number, register, splat, vector

PHASE = 1 << 62  # the dependence of a load that must stay inside its phase


@dataclass
class Scope:
    """Code at one depth of the loops; ``axes`` is a bit set of the axes that begin here."""

    code: Code
    axes: int
    env: dict[Any, Any] = field(default_factory=dict)


def iota(element: str, lanes: int, start: int = 0) -> str:
    """A vector constant start, start + 1, ..."""
    return "<" + ", ".join([f"{element} {start + k}" for k in range(lanes)]) + ">"


class Points:
    """Writes expressions, loads and stores at the current point of the loops."""

    def __init__(
        self, unit: Unit, params: Sequence[Param], scalars: Sequence[DType], slots: int, lanes: int, args: str = "%args"
    ) -> None:
        self.unit = unit
        self.params = list(params)
        self.first_slot = len(params)
        self.scalars = scalars
        self.slots = slots
        self.lanes = lanes
        self.args = args
        self.counter: Iterator[int] = count()
        self.allocas: list[str] = []
        self.scopes = [Scope(self.code(), 0)]
        self.index: dict[int, str] = {}  # axis -> its scalar value (of lane 0 for the lane axis)
        self.results: dict[int, tuple[DType, list[str]]] = {}  # reductions done so far
        self.deps: dict[Node, int] = {}
        self.lane_axis = -1  # -1: no vectors at this point
        self.unroll = 1
        self.masks: list[str] | None = None
        self.left = ""  # in a masked tail: how many values there are

    # ------------------------------------------------------------ scopes

    def code(self) -> Code:
        return Code(self.unit, self.counter)

    def alloca(self, ty: str) -> str:
        """A variable of the function; SROA makes it a register."""
        name = f"%m{next(self.counter)}"
        self.allocas.append(f"  {name} = alloca {ty}")
        return name

    @property
    def here(self) -> Code:
        return self.scopes[-1].code

    def level(self, deps: int) -> int:
        for k in range(len(self.scopes) - 1, 0, -1):
            if self.scopes[k].axes & deps:
                return k
        return 0

    @property
    def lane_bit(self) -> int:
        return 1 << self.lane_axis if self.lane_axis >= 0 else 0

    def cached(self, level: int, key: Any, text: str) -> str:
        """``text``'s result in scope ``level``, written there once."""
        scope = self.scopes[level]
        name = scope.env.get(key)
        if name is None:
            name = scope.env[key] = scope.code.let(text)
        return str(name)

    # ------------------------------------------------------------ integers of the function

    def word(self, k: int, ty: str) -> str:
        """Word ``k`` of the argument array."""
        scope = self.scopes[0]
        if ("word", k) not in scope.env:
            p = scope.code.let(f"getelementptr i64, ptr {self.args}, i64 {k}")
            scope.env["word", k] = scope.code.let(f"load {ty}, ptr {p}, align 8")
        return str(scope.env["word", k])

    def slot(self, c: Coef) -> str:
        """The value of a coefficient, as an i64 operand."""
        return self.word(self.first_slot + c.index, "i64") if isinstance(c, Slot) else str(c)

    def times(self, level: int, value: str, c: Coef) -> str:
        if c == 1:
            return value
        return self.cached(level, ("*", value, c), f"mul i64 {value}, {self.slot(c)}")

    def lane_offsets(self, c: Coef, start: int) -> str:
        """The vector ``c * (start + lane)``, i64."""
        ty = vector("i64", self.lanes)
        first = iota("i64", self.lanes, start)
        if not isinstance(c, Slot):
            return "<" + ", ".join([f"i64 {c * (start + k)}" for k in range(self.lanes)]) + ">"
        env = self.scopes[0].env
        if ("lanes", c, start) not in env:
            code = self.scopes[0].code
            env["lanes", c, start] = code.let(f"mul {ty} {splat(code, self.slot(c), 'i64', self.lanes)}, {first}")
        return str(env["lanes", c, start])

    # ------------------------------------------------------------ addresses

    def walk(self, access: Access, key: tuple[Any, ...], start: str, step: str) -> tuple[str, int]:
        """Add the access' terms to ``start``, each in the scope where its axis begins.

        ``step`` is the instruction that adds: 'add i64' or 'getelementptr T, ptr'.
        """
        join = ", i64 " if step[0] == "g" else ", "
        value, level = start, 0
        done: tuple[Any, ...] = (*key, access.offset)
        if access.offset != 0:
            value = self.cached(0, done, f"{step} {value}{join}{self.slot(access.offset)}")
        for k, scope in enumerate(self.scopes):
            for axis, stride in access.terms:
                if scope.axes >> axis & 1 and stride != 0:
                    move = self.times(k, self.index[axis], stride)
                    done = (*done, axis, stride)
                    value = self.cached(k, done, f"{step} {value}{join}{move}")
                    level = k
        return value, level

    def pointer(self, param: int, access: Access) -> str:
        """The address of the access, at lane 0 of the first vector."""
        return self.place(param, access)[0]

    def place(self, param: int, access: Access) -> tuple[str, int]:
        """The address, and the scope it is known in."""
        ty = memory(self.params[param].dtype)
        return self.walk(access, ("p", param), self.word(param, "ptr"), f"getelementptr {ty}, ptr")

    def vector_pointer(self, base: str, ty: str, stride: Coef, u: int, code: Code) -> str:
        """``base`` moved to vector ``u`` of the unrolled loop."""
        if u == 0 or stride == 0:
            return base
        move = str(u * self.lanes)
        if stride != 1:
            move = self.cached(0, ("u", stride, u), f"mul i64 {self.slot(stride)}, {move}")
        return code.let(f"getelementptr {ty}, ptr {base}, i64 {move}")

    def zeros(self) -> str:
        """Memory to read instead where a guard is false."""
        self.unit.globals.setdefault("@zeros", "@zeros = internal constant [512 x i8] zeroinitializer, align 64")
        return "@zeros"

    # ------------------------------------------------------------ values

    def operand(self, n: Node, lane: bool) -> list[str]:
        """The values of a computed node; as vectors when ``lane``."""
        if n.op == "CONST":
            return [number(n.arg.value, n.dtype, self.lanes if lane else 1)] * (self.unroll if lane else 1)
        deps = self.deps[n]
        scope = self.scopes[self.level(deps)]
        values: list[str] = scope.env[n]
        if not lane or deps & self.lane_bit:
            return values
        if ("splat", n) not in scope.env:
            scope.env["splat", n] = splat(scope.code, values[0], register(n.dtype), self.lanes)
        return [scope.env["splat", n]] * self.unroll

    def compute(self, order: Sequence[Node], needed: Sequence[Node] | None = None) -> None:
        """Write every node of ``order`` (operands first) that is not there yet.

        Where it is said which of them are ``needed`` in any case, others may be skipped by vectors without use for them.
        """
        lazy = Plan() if needed is None or self.lane_axis < 0 else plan(order, needed, self._movable)
        self._compute(order, lazy, None)

    def _movable(self, n: Node) -> bool:
        """Whether ``n`` is arithmetic of this vector alone."""
        deps = self.deps.get(n, 0)
        inner = bool(deps & self.lane_bit) and self.level(deps) == len(self.scopes) - 1
        return inner and n.op not in ("LOAD", "INDEX", "VALUE", "SCALAR") and n not in self.scopes[-1].env

    def _compute(self, order: Sequence[Node], lazy: Plan, side: Side | None) -> None:
        for n in order:
            if n.op == "CONST" or lazy.owner.get(n) != side:
                continue
            deps = self.deps[n]
            scope = self.scopes[self.level(deps)]
            if n in scope.env:
                continue
            if (n, 1) in lazy.sides or (n, 2) in lazy.sides:
                scope.env[n] = self._either(n, lazy)
            else:
                scope.env[n] = self._value(n, scope.code, bool(deps & self.lane_bit))

    def _either(self, n: Node, lazy: Plan) -> list[str]:
        """A WHERE with operands behind branches, which vectors skip that have no lane for them."""
        code, ty, bits = self.here, register(n.dtype, self.lanes), vector("i1", self.lanes)
        condition = self.operand(n.src[0], True)
        sides = []
        for k in (1, 2):
            if (n, k) not in lazy.sides:
                sides.append(self.operand(n.src[k], True))
                continue
            every = splat(code, "true", "i1", self.lanes)
            wanted = condition if k == 1 else [code.let(f"xor {bits} {c}, {every}") for c in condition]
            some = wanted[0]
            for c in wanted[1:]:
                some = code.let(f"or {bits} {some}, {c}")
            results = [self.alloca(ty) for _ in condition]
            for r in results:
                code.do(f"store {ty} zeroinitializer, ptr {r}")
            some = code.call(f"@llvm.vector.reduce.or.{rows.mangled(bits)}", "i1", (bits, some))
            taken, after = f"taken{next(self.counter)}", f"after{next(self.counter)}"
            code.do(f"br i1 {some}, label %{taken}, label %{after}")
            code.label(taken)
            known = dict(self.scopes[-1].env)  # what is written behind the branch is known there alone
            self._compute(lazy.sides[n, k], lazy, (n, k))
            for value, r in zip(self.operand(n.src[k], True), results):
                code.do(f"store {ty} {value}, ptr {r}")
            self.scopes[-1].env = known
            code.do(f"br label %{after}")
            code.label(after)
            sides.append([code.let(f"load {ty}, ptr {r}") for r in results])
        return [code.select(c, a, b, ty, self.lanes) for c, a, b in zip(condition, *sides)]

    def _value(self, n: Node, code: Code, lane: bool) -> list[str]:
        if n.op == "LOAD":
            return self._lane_load(n, code) if lane else [self._scalar_load(n, code)]
        if n.op == "INDEX":
            return self._index(n.arg, code, lane)
        if n.op == "VALUE":
            return self.result(n, code)
        if n.op == "SCALAR":
            word = self.word(self.first_slot + self.slots + n.arg, memory(n.dtype))
            return [rows.from_memory(code, word, n.dtype, 1)]
        operands = [self.operand(s, lane) for s in n.src]
        types = [s.dtype for s in n.src]
        lanes = self.lanes if lane else 1
        if n.op == "SLOW":
            return [self._slow(n, code, list(a), lanes) for a in zip(*operands)]
        return [rows.row(code, n.op, n.dtype, types, a, lanes) for a in zip(*operands)]

    def result(self, n: Node, code: Code) -> list[str]:
        """The value of a reduction that was finished before this point."""
        dtype, values = self.results[n.arg]
        lanes = self.lanes if self._is_lane(n) else 1
        return [rows.cast(code, v, dtype, n.dtype, lanes) for v in values]

    def _index(self, access: Access, code: Code, lane: bool) -> list[str]:
        base, level = self.walk(access, ("i",), "0", "add i64")
        if not lane:
            return [base]
        ty = vector("i64", self.lanes)
        stride = access.stride(self.lane_axis)
        first = splat(self.scopes[level].code, base, "i64", self.lanes)
        return [code.let(f"add {ty} {first}, {self.lane_offsets(stride, u * self.lanes)}") for u in range(self.unroll)]

    def _slow(self, n: Node, code: Code, a: list[str], lanes: int) -> str:
        """``SLOW(fast, rare, operands...) name``: the fast value, but the helper's where ``rare``; branches on any."""
        ty, bits = register(n.dtype, lanes), vector("i1", lanes)
        fast, rare, *operands = a
        result = self.alloca(ty)
        code.do(f"store {ty} {fast}, ptr {result}")
        if lanes == 1:
            some = rare
        else:
            some = code.call(f"@llvm.vector.reduce.or.{rows.mangled(bits)}", "i1", (bits, rare))
        slow, done = f"slow{next(self.counter)}", f"done{next(self.counter)}"
        code.do(f"br i1 {some}, label %{slow}, label %{done}")
        code.label(slow)
        function = self.unit.helper(n.arg, lanes)
        if lanes == 1:
            code.do(f"store {ty} {code.let(f'call {ty} {function}({self._typed(operands, ty)})')}, ptr {result}")
        else:
            memory_of = [self.alloca(ty) for _ in a[1:]]
            code.do(f"store {ty} {fast}, ptr {memory_of[0]}")
            for v, p in zip(operands, memory_of[1:]):
                code.do(f"store {ty} {v}, ptr {p}")
            mask = code.let(f"bitcast {bits} {rare} to i{lanes}")
            code.do(f"call void {function}(i{lanes} {mask}, {self._typed(memory_of, 'ptr')})")
            code.do(f"store {ty} {code.let(f'load {ty}, ptr {memory_of[0]}')}, ptr {result}")
        code.do(f"br label %{done}")
        code.label(done)
        return code.let(f"load {ty}, ptr {result}")

    def _typed(self, values: Sequence[str], ty: str) -> str:
        return ", ".join([f"{ty} {v}" for v in values])

    # ------------------------------------------------------------ loads

    def _as_index(self, code: Code, value: str, dtype: DType, lanes: int) -> str:
        return rows.cast(code, value, dtype, int64, lanes)

    def _guard(self, n: Node) -> Node | None:
        return n.src[-1] if n.arg.guarded else None

    def _uniform_base(self, n: Node, code: Code) -> str:
        """The address with all run-time indices that are the same in every lane."""
        ty = memory(n.dtype)
        base = self.pointer(n.arg.param, n.arg.access)
        for s, c in zip(n.src, n.arg.dyn):
            if not self._is_lane(s):
                i = self._as_index(code, self.operand(s, False)[0], s.dtype, 1)
                i = i if c == 1 else code.let(f"mul i64 {i}, {self.slot(c)}")
                base = code.let(f"getelementptr {ty}, ptr {base}, i64 {i}")
        return base

    def _is_lane(self, n: Node) -> bool:
        return n.op != "CONST" and bool(self.deps[n] & self.lane_bit)

    def _scalar_load(self, n: Node, code: Code) -> str:
        base = self._uniform_base(n, code)
        guard = self._guard(n)
        if guard is not None:
            base = code.select(self.operand(guard, False)[0], base, self.zeros(), "ptr", 1)
        value = code.let(f"load {memory(n.dtype)}, ptr {base}, align {n.dtype.itemsize}")
        return rows.from_memory(code, value, n.dtype, 1)

    def _mask(self, code: Code, u: int, guard: str | None) -> str | None:
        """Which lanes of vector ``u`` take part: all (None), those of the tail, those that a guard allows."""
        tail = None if self.masks is None else self.masks[u]
        if guard is None or tail is None:
            return guard if tail is None else tail
        return code.let(f"and {vector('i1', self.lanes)} {tail}, {guard}")

    def _lane_load(self, n: Node, code: Code) -> list[str]:
        guard = self._guard(n)
        dyn = [(s, c) for s, c in zip(n.src, n.arg.dyn) if self._is_lane(s)]
        stride = n.arg.access.stride(self.lane_axis)
        base = self._uniform_base(n, code)
        lane_guard = guard is not None and self._is_lane(guard)
        if guard is not None and not lane_guard:
            base = code.select(self.operand(guard, False)[0], base, self.zeros(), "ptr", 1)
        out = []
        for u in range(self.unroll):
            mask = self._mask(code, u, self.operand(guard, True)[u] if guard is not None and lane_guard else None)
            p = self.vector_pointer(base, memory(n.dtype), stride, u, code)
            if not dyn and stride == 1:
                value = self._contiguous_load(code, p, n.dtype, mask)
            elif not dyn and stride == 0:
                value = self._one_for_all(code, p, n.dtype, mask)
            elif not dyn and isinstance(stride, int) and not lane_guard:
                value = self._spaced_load(code, p, n.dtype, stride)
            else:
                if guard is not None and not lane_guard:
                    uniform = splat(code, self.operand(guard, False)[0], "i1", self.lanes)
                    mask = self._mask(code, u, uniform)
                value = self._gather(n, code, p, dyn, stride, u, mask)
            out.append(self._as_register(n, code, value))
        return out

    def _as_register(self, n: Node, code: Code, value: str) -> str:
        return rows.from_memory(code, value, n.dtype, self.lanes)

    def _contiguous_load(self, code: Code, p: str, dtype: DType, mask: str | None) -> str:
        ty = memory(dtype, self.lanes)
        if mask is None:
            return code.let(f"load {ty}, ptr {p}, align {dtype.itemsize}")
        return code.call(
            f"@llvm.masked.load.{rows.mangled(ty)}.p0", ty,
            ("ptr", p), ("i32", str(dtype.itemsize)), (vector("i1", self.lanes), mask), (ty, "zeroinitializer"),
        )  # fmt: skip

    def first_of(self, code: Code, count: int, start: int, stop: str) -> str:
        """A mask of ``count`` lanes: which of start, start + 1, ... are below ``stop``, an i64."""
        below = splat(code, code.let(f"trunc i64 {stop} to i32"), "i32", count)
        return code.let(f"icmp slt {vector('i32', count)} {iota('i32', count, start)}, {below}")

    def _spaced_load(self, code: Code, p: str, dtype: DType, stride: int) -> str:
        """Every ``stride``-th element: whole vectors, of which the lanes are picked."""
        ty, lanes = memory(dtype, self.lanes), self.lanes
        span = (lanes - 1) * stride + 1
        value = "poison"
        for k in range(stride):
            start = min(k * lanes, span - lanes)
            mask = None
            if self.masks is not None:
                stop = code.let(f"add i64 {code.let(f'mul i64 {self.left}, {stride}')}, {1 - stride}")
                mask = self.first_of(code, lanes, start, stop)
            part = code.let(f"getelementptr {memory(dtype)}, ptr {p}, i64 {start}")
            loaded = self._contiguous_load(code, part, dtype, mask)
            first, last = -(-k * lanes // stride), -(-(k + 1) * lanes // stride)  # the lanes that lie in this part
            picks = [lanes + e * stride - start if first <= e < last else e for e in range(lanes)]
            which = ", ".join([f"i32 {e}" for e in picks])
            value = code.let(f"shufflevector {ty} {value}, {ty} {loaded}, <{lanes} x i32> <{which}>")
        return value

    def _one_for_all(self, code: Code, p: str, dtype: DType, mask: str | None) -> str:
        """One address, read where the guard of any lane allows it."""
        bits = vector("i1", self.lanes)
        assert mask is not None
        some = code.call(f"@llvm.vector.reduce.or.{rows.mangled(bits)}", "i1", (bits, mask))
        p = code.select(some, p, self.zeros(), "ptr", 1)
        value = code.let(f"load {memory(dtype)}, ptr {p}, align {dtype.itemsize}")
        ty = memory(dtype, self.lanes)
        return code.select(mask, splat(code, value, memory(dtype), self.lanes), "zeroinitializer", ty, self.lanes)

    def _gather(
        self, n: Node, code: Code, p: str, dyn: Sequence[tuple[Node, Coef]], stride: Coef, u: int, mask: str | None
    ) -> str:
        ty, wide = memory(n.dtype, self.lanes), vector("i64", self.lanes)
        offsets = self.lane_offsets(stride, 0) if stride != 0 else None
        for s, c in dyn:
            i = self._as_index(code, self.operand(s, True)[u], s.dtype, self.lanes)
            if c != 1:
                i = code.let(f"mul {wide} {i}, {splat(code, self.slot(c), 'i64', self.lanes)}")
            offsets = i if offsets is None else code.let(f"add {wide} {i}, {offsets}")
        pointers = code.let(f"getelementptr {memory(n.dtype)}, ptr {p}, {wide} {offsets}")
        return code.call(
            f"@llvm.masked.gather.{rows.mangled(ty)}.v{self.lanes}p0", ty,
            (vector("ptr", self.lanes), pointers), ("i32", str(n.dtype.itemsize)),
            (vector("i1", self.lanes), mask or "splat (i1 true)"), (ty, "zeroinitializer"),
        )  # fmt: skip

    # ------------------------------------------------------------ stores and checks

    def store(self, s: Store) -> None:
        """Write a store at this point; its value and guard are computed."""
        code = self.here
        dtype = self.params[s.param].dtype
        base = self.pointer(s.param, s.access)
        if self.lane_axis < 0:
            if s.guard is not None:
                base = code.select(self.operand(s.guard, False)[0], base, self._sink(), "ptr", 1)
            value = rows.to_memory(code, self.operand(s.value, False)[0], dtype, 1)
            return code.do(f"store {memory(dtype)} {value}, ptr {base}, align {dtype.itemsize}")
        stride = s.access.stride(self.lane_axis)
        values = self.operand(s.value, True)
        guards = [None] * self.unroll if s.guard is None else self.operand(s.guard, True)
        places = [self.vector_pointer(base, memory(dtype), stride, u, code) for u in range(self.unroll)]
        stored = [rows.to_memory(code, v, dtype, self.lanes) for v in values]
        if self.masks is None and self._store_vectors(s, list(zip(stored, places))):
            return None
        for u, (value, p) in enumerate(zip(stored, places)):
            self._lane_store(code, value, p, dtype, stride, self._mask(code, u, guards[u]))

    def _store_vectors(self, s: Store, vectors: list[tuple[str, str]]) -> bool:
        """Store whole vectors (value, pointer) in a way of the writer's own; False: there is none."""
        return False

    def interleaves(self, s: Store, axis: int, group: int) -> bool:
        """Whether a store's values along ``axis``, ``group`` of them, lie between those of neighbouring lanes."""
        return s.guard is None and s.access.stride(axis) == 1 and s.access.stride(self.lane_axis) == group

    def store_interleaved(self, s: Store, axis: int, members: Sequence[Sequence[str]]) -> None:
        """Store ``members[k][u]``, the values at k along ``axis``, as one run of memory."""
        code, group, dtype = self.here, len(members), self.params[s.param].dtype
        access = Access(s.access.offset, tuple([(a, c) for a, c in s.access.terms if a != axis]))
        base = self.pointer(s.param, access)
        for u in range(self.unroll):
            each = [rows.to_memory(code, m[u], dtype, self.lanes) for m in members]
            value, width = self._side_by_side(code, each, memory(dtype)), group * self.lanes
            p = self.vector_pointer(base, memory(dtype), group, u, code)
            mask = None
            if self.masks is not None:
                mask = self.first_of(code, width, 0, code.let(f"mul i64 {self.left}, {group}"))
            self.put(code, value, p, dtype, width, mask)

    def _side_by_side(self, code: Code, members: Sequence[str], element: str) -> str:
        """Vectors a, b, ... as one: a0 b0 ... a1 b1 ..."""
        ty, parts, width = vector(element, self.lanes), list(members), self.lanes
        while len(parts) > 1:  # first one after the other
            parts += ["poison"] * (len(parts) % 2)
            which = f"<{2 * width} x i32> {iota('i32', 2 * width)}"
            parts = [code.let(f"shufflevector {ty} {a}, {ty} {b}, {which}") for a, b in zip(parts[::2], parts[1::2])]
            width *= 2
            ty = vector(element, width)
        group = len(members)
        picks = ", ".join([f"i32 {e % group * self.lanes + e // group}" for e in range(group * self.lanes)])
        return code.let(f"shufflevector {ty} {parts[0]}, {ty} poison, <{group * self.lanes} x i32> <{picks}>")

    def _lane_store(self, code: Code, value: str, p: str, dtype: DType, stride: Coef, mask: str | None) -> None:
        ty, bits = memory(dtype, self.lanes), vector("i1", self.lanes)
        size = ("i32", str(dtype.itemsize))
        if stride != 1:
            offsets = f"{vector('i64', self.lanes)} {self.lane_offsets(stride, 0)}"
            pointers = code.let(f"getelementptr {memory(dtype)}, ptr {p}, {offsets}")
            name = f"@llvm.masked.scatter.{rows.mangled(ty)}.v{self.lanes}p0"
            where = (vector("ptr", self.lanes), pointers)
            self._do_call(code, name, (ty, value), where, size, (bits, mask or "splat (i1 true)"))
        else:
            self.put(code, value, p, dtype, self.lanes, mask)

    def put(self, code: Code, value: str, p: str, dtype: DType, lanes: int, mask: str | None) -> None:
        """Store a run of memory."""
        ty = memory(dtype, lanes)
        if mask is None:
            return code.do(f"store {ty} {value}, ptr {p}, align {dtype.itemsize}")
        size = ("i32", str(dtype.itemsize))
        name = f"@llvm.masked.store.{rows.mangled(ty)}.p0"
        self._do_call(code, name, (ty, value), ("ptr", p), size, (vector("i1", lanes), mask))

    def _do_call(self, code: Code, name: str, *operands: tuple[str, str]) -> None:
        code.declare(name, "void", *[t for t, _ in operands])
        code.do(f"call void {name}({', '.join([f'{t} {v}' for t, v in operands])})")

    def _sink(self) -> str:
        """Memory to write instead where a guard is false."""
        if "sink" not in self.scopes[0].env:
            self.scopes[0].env["sink"] = self.alloca("i64")
        return str(self.scopes[0].env["sink"])

    def check(self, c: Check) -> None:
        """Write the check's code to the status word if any active lane fails."""
        code = self.here
        status = self.word([p.mode for p in self.params].index("status"), "ptr")
        lane = self.lane_axis >= 0
        lanes = self.lanes if lane else 1
        for u, ok in enumerate(self.operand(c.cond, lane)):
            bad = rows.row(code, "NOT", bool_, (bool_,), (ok,), lanes)
            if lane:
                bits = vector("i1", self.lanes)
                bad = self._mask(code, u, bad) or bad
                bad = code.call(f"@llvm.vector.reduce.or.{rows.mangled(bits)}", "i1", (bits, bad))
            p = code.select(bad, status, self._sink(), "ptr", 1)
            code.do(f"store i64 {c.code}, ptr {p}, align 8")
