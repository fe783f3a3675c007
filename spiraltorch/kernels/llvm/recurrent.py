"""Recurrent layers: the loop over time with the product of the state and the gates' arithmetic, forward and backward.

In: how the operands of the CALL lie (:mod:`spiraltorch.kernels.library.recurrent`).  Out: LLVM IR of a module with the
function ``void name(i64* args, i64 lo, i64 hi, i8* scratch)``.

Sequences do not meet, so a task takes some of them through all steps.  For the step's rows of these sequences:

    forward                                          backward, last step first
      kept   = h @ W.T          (panels of W)          d gates, dh, dc = cell backward (dh + d out, dc, kept)
      h, c, kept = cell(x gates, kept + bias, h, c)    dh (+)= d gates @ W

The final states' places in the result hold the states on the way (backward: the first states' gradients).  What a cell
does is said in nodes (:mod:`spiraltorch.ir.cells`); a vector holds neighbouring units of a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dtypes import DType
from ...ir.cells import CELLS, backward_parts, forward_parts
from ...ir.node import Node, make
from .micro import product
from .routine import Routine
from .rows import Unit, register, vector
from .target import Target

SIZES = ("rows", "batch", "steps", "units", "panel", "block")


def operands(kind: str, forward: bool) -> dict[str, int]:
    """The names of the CALL's operands, and how many axes they have."""
    states = ("h", "c") if CELLS[kind].memory else ("h",)
    found = {"x": 2, "weight": 3, "bias": 1, **dict.fromkeys(states, 2), "offsets": 1}
    return found if forward else {**found, "d out": 2, **{f"d {s}": 2 for s in states}, "work": 1}


class _Writer(Routine):
    def __init__(self, unit: Unit, name: str, dtype: DType, kind: str, reverse: bool, forward: bool) -> None:
        super().__init__(unit, "void", name, ("ptr %args", "i64 %lo", "i64 %hi", "ptr noalias %scratch"))
        self.dtype, self.kind, self.cell, self.reverse = dtype, kind, CELLS[kind], reverse
        self.lanes = unit.target.vector_bits // dtype.bits
        self.one = register(dtype)
        self.ty = vector(self.one, self.lanes)
        self.states = ("h", "c") if self.cell.memory else ("h",)
        given = operands(kind, forward)
        first = len(given) + 1
        self.n = {s: self._word(first + i) for i, s in enumerate(SIZES)}
        self.base, self.strides = {}, {}
        at = first + len(SIZES)
        for i, (o, axes) in enumerate(given.items()):
            element = "i64" if o == "offsets" else self.one
            self.base[o] = self.at(element, self.load("ptr", self.at("i64", "%args", i)), self._word(at))
            self.strides[o] = [self._word(at + 1 + k) for k in range(axes)]
            at += 1 + axes
        self.result = self.load("ptr", self.at("i64", "%args", len(given)))

    def _word(self, at: int) -> str:
        return self.load("i64", self.at("i64", "%args", at))

    def places(self, base: str, parts: dict[str, tuple[int, int]]) -> dict[str, str]:
        """Where the parts of a flat result lie, whose shapes are those of 1 row, 2 sequences and 1 unit."""
        found, at = {}, base
        for name, (rows, columns) in parts.items():
            found[name] = at
            count = self.n["rows"] if rows == 1 else self.n["batch"]
            at = self.at(self.one, at, self.mul(self.mul(count, self.n["units"]), columns))
        return found

    def row(self, base: str, row: str, stride: str) -> str:
        return self.at(self.one, base, self.mul(row, stride))

    def get(self, base: str, at: str) -> str:
        return self.load(self.ty, self.at(self.one, base, at), self.dtype.itemsize)

    def put(self, value: str, base: str, at: str) -> None:
        self.store(self.ty, value, self.at(self.one, base, at), self.dtype.itemsize)

    def blocks(self, row: str, count: int) -> list[str]:
        """The beginnings of ``count`` blocks of units."""
        return [self.at(self.one, row, self.mul(self.n["units"], k)) for k in range(count)]

    def write(self) -> str:
        with self.loop("%lo", "%hi") as task:
            first = self.mul(task, self.n["block"])
            count = self.min(self.sub(self.n["batch"], first), self.n["block"])
            self.start(first, count)
            with self.loop(0, self.n["steps"]) as step:
                t = self.sub(self.sub(self.n["steps"], 1), step) if self.backwards else step
                begin, end = (self.load("i64", self.at("i64", self.base["offsets"], i)) for i in (t, self.add(t, 1)))
                left = self.sub(self.sub(end, begin), first)
                active = self.min(self.let(f"call i64 @llvm.smax.i64(i64 {left}, i64 0)"), count)
                self.step(first, self.add(begin, first), active)
        self.do("ret void")
        return self.text()

    @property
    def backwards(self) -> bool:
        """Whether the steps are walked from the last to the first."""
        raise NotImplementedError

    def start(self, first: str, count: str) -> None:
        raise NotImplementedError

    def step(self, first: str, row: str, active: str) -> None:
        raise NotImplementedError

    def set_states(self, first: str, count: str, source: str) -> None:
        """The states of a block of sequences, from the operands named ``source`` + state."""
        for s in self.states:
            with self.loop(0, count) as i:
                sequence = self.add(first, i)
                given = self.row(self.base[source + s], sequence, self.strides[source + s][0])
                to = self.row(self.at_state[s], sequence, self.n["units"])
                with self.loop(0, self.n["units"], self.lanes) as j:
                    self.put(self.get(given, j), to, j)

    def product(self, m: str, n: str, k: str, a: str, lda: str, c: str, ldc: str, add: bool) -> None:
        """``C (+)= A @ weight``, whose columns lie in panels of width ``panel``."""
        panel = self.n["panel"]
        with self.loop(0, n, panel) as j:
            b = self.at(self.one, self.base["weight"], self.mul(self.div(j, panel), self.strides["weight"][0]))
            self.do(
                f"call void @product_along(i64 {m}, i64 {panel}, i64 {k}, ptr {a}, i64 {lda}, ptr {b}, "
                f"i64 {self.strides['weight'][1]}, ptr {self.at(self.one, c, j)}, i64 {ldc}, i1 {str(add).lower()})"
            )

    def leaves(self, values: Sequence[str]) -> tuple[list[Node], dict[Node, str]]:
        """Leaves of an expression, and the vectors that they stand for."""
        nodes = [make("SCALAR", (), i, (), self.dtype) for i in range(len(values))]
        return nodes, dict(zip(nodes, values))

    at_state: dict[str, str]


class _Forward(_Writer):
    @property
    def backwards(self) -> bool:
        return self.reverse

    def start(self, first: str, count: str) -> None:
        self.to = self.places(self.result, forward_parts(self.kind, 1, 2, 1))
        self.at_state = {s: self.to[s] for s in self.states}
        self.set_states(first, count, "")

    def step(self, first: str, row: str, active: str) -> None:
        cell, units = self.cell, self.n["units"]
        state = {s: self.row(at, first, units) for s, at in self.at_state.items()}
        width = self.mul(units, cell.kept)
        kept = self.row(self.to["kept"], row, width)
        self.product(active, self.mul(units, cell.gates), units, state["h"], units, kept, width, False)
        with self.loop(0, active) as i:
            now = self.add(row, i)
            x = self.blocks(self.row(self.base["x"], now, self.strides["x"][0]), cell.gates)
            gates = self.blocks(self.row(kept, i, width), cell.kept)
            bias = self.blocks(self.base["bias"], cell.gates)
            at = {s: self.row(p, i, units) for s, p in state.items()}
            to = {o: self.row(self.to[o], now, units) for o in ("out", *[f"before {s}" for s in self.states])}
            with self.loop(0, units, self.lanes) as j:
                old = [self.get(at[s], j) for s in self.states]
                values = [self.get(p, j) for p in (*x, *gates[: cell.gates], *bias)] + old
                nodes, known = self.leaves(values)
                g = cell.gates
                sums = [a + b for a, b in zip(nodes[g : 2 * g], nodes[2 * g : 3 * g])]
                h, c, keep = cell.forward(nodes[:g], sums, nodes[3 * g], nodes[-1])
                new = self.evaluate([h, *([c] if cell.memory else []), *keep], known, self.lanes)
                self.put(new[0], to["out"], j)
                for s, was, is_ in zip(self.states, old, new):
                    self.put(was, to[f"before {s}"], j)
                    self.put(is_, at[s], j)
                for value, p in zip(new[len(self.states) :], gates):
                    self.put(value, p, j)


class _Backward(_Writer):
    @property
    def backwards(self) -> bool:
        return not self.reverse

    def start(self, first: str, count: str) -> None:
        shapes = forward_parts(self.kind, 1, 2, 1)
        self.saved = self.places(self.base["work"], shapes)
        self.to = self.places(self.result, backward_parts(self.kind, 1, 2, 1))
        self.at_state = {s: self.to[s] for s in self.states}
        self.set_states(first, count, "d ")

    def step(self, first: str, row: str, active: str) -> None:
        cell, units = self.cell, self.n["units"]
        state = {s: self.row(at, first, units) for s, at in self.at_state.items()}
        width = self.mul(units, cell.kept)
        grads = self.row(self.to["gates"], row, width)
        beyond = False
        with self.loop(0, active) as i:
            now = self.add(row, i)
            kept = self.blocks(self.row(self.saved["kept"], now, width), cell.kept)
            before = [self.row(self.saved[f"before {s}"], now, units) for s in self.states]
            up = self.row(self.base["d out"], now, self.strides["d out"][0])
            to = self.blocks(self.row(grads, i, width), cell.kept)
            at = {s: self.row(p, i, units) for s, p in state.items()}
            with self.loop(0, units, self.lanes) as j:
                values = [self.get(p, j) for p in (*kept, *before, up, *at.values())]
                nodes, known = self.leaves(values)
                k, s = cell.kept, len(self.states)
                dh = nodes[k + s] + nodes[k + s + 1]
                found, past, dc = cell.backward(nodes[:k], nodes[k], nodes[k + s - 1], dh, nodes[-1])
                beyond = past is not None
                roots = [*found, *([] if past is None else [past]), *([dc] if cell.memory else [])]
                new = self.evaluate(roots, known, self.lanes)
                for value, p in zip(new, to):
                    self.put(value, p, j)
                if past is not None:
                    self.put(new[k], at["h"], j)
                if cell.memory:
                    self.put(new[-1], at["c"], j)
        self.product(active, units, self.mul(units, cell.gates), grads, width, state["h"], units, beyond)


def emit(target: Target, name: str, dtype: DType, kind: str, reverse: bool, forward: bool) -> str:
    """The module with the one function ``name``."""
    unit = Unit(target)
    writer = (_Forward if forward else _Backward)(unit, name, dtype, kind, reverse, forward)
    functions = [*product(unit, dtype, writer.lanes, "along"), writer.write()]
    return "\n".join([*unit.globals.values(), "", *functions])


__all__ = ["SIZES", "emit", "operands"]
