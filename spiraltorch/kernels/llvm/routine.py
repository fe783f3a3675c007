"""A function of LLVM IR written by hand, statement by statement.

    f = Routine(unit, "void", "fill", ("ptr %p", "i64 %n"))
    with f.loop("0", "%n") as i:
        f.store("i64", i, f.at("i64", "%p", i))
    text = f.text()

Variables are stack slots, which SROA turns into registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from ...ir.node import Node, make, toposort
from .math import expand
from .rows import Code, Unit, number, row


class Routine(Code):
    """Instructions of one function, with loops and conditions."""

    def __init__(self, unit: Unit, result: str, name: str, params: Sequence[str], linkage: str = "") -> None:
        super().__init__(unit, count())
        self._head = f"define {linkage}{' ' * bool(linkage)}{result} @{name}({', '.join(params)})"
        self._allocas: list[str] = []

    def text(self) -> str:
        """The function, whose last instruction the writer has given."""
        body = "\n".join(["entry:", *self._allocas, *self.lines])
        return f"{self._head} {self.unit.target.attributes} {{\n{body}\n}}\n"

    # ------------------------------------------------------------ values

    def var(self, ty: str, value: str) -> str:
        """A variable with a first value; the name is its address."""
        name = f"%x{next(self.counter)}"
        self._allocas.append(f"  {name} = alloca {ty}")
        self.store(ty, value, name)
        return name

    def array(self, ty: str, size: int) -> str:
        """Stack memory for ``size`` values."""
        name = f"%x{next(self.counter)}"
        self._allocas.append(f"  {name} = alloca [{size} x {ty}], align 64")
        return name

    def load(self, ty: str, pointer: str, align: int = 0) -> str:
        return self.let(f"load {ty}, ptr {pointer}" + (f", align {align}" if align else ""))

    def store(self, ty: str, value: str, pointer: str, align: int = 0) -> None:
        self.do(f"store {ty} {value}, ptr {pointer}" + (f", align {align}" if align else ""))

    def at(self, ty: str, pointer: str, index: str | int) -> str:
        """The address of element ``index``."""
        return self.let(f"getelementptr {ty}, ptr {pointer}, i64 {index}")

    def add(self, a: str | int, b: str | int) -> str:
        return self.let(f"add i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        return self.let(f"sub i64 {a}, {b}")

    def mul(self, a: str | int, b: str | int) -> str:
        return self.let(f"mul i64 {a}, {b}")

    def div(self, a: str | int, b: str | int) -> str:
        return self.let(f"udiv i64 {a}, {b}")

    def rem(self, a: str | int, b: str | int) -> str:
        return self.let(f"urem i64 {a}, {b}")

    def min(self, a: str | int, b: str | int) -> str:
        return self.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def test(self, how: str, a: str | int, b: str | int) -> str:
        """An i1: ``how`` is 'eq', 'ne', 'slt', ... of two i64."""
        return self.let(f"icmp {how} i64 {a}, {b}")

    def choose(self, cond: str, a: str | int, b: str | int) -> str:
        """``a`` if ``cond`` else ``b``, i64."""
        return self.let(f"select i1 {cond}, i64 {a}, i64 {b}")

    def any(self, conditions: Sequence[str]) -> str:
        """Whether one of several i1 holds."""
        found = conditions[0]
        for c in conditions[1:]:
            found = self.let(f"or i1 {found}, {c}")
        return found

    def evaluate(self, roots: Sequence[Node], known: dict[Node, str], lanes: int) -> list[str]:
        """Expressions of scalar rows, on vectors: ``known`` names the leaves' values."""
        names = dict(known)
        new: dict[Node, Node] = {}
        for n in toposort(roots):
            src = tuple([new[m] for m in n.src])
            new[n] = n if n in known else expand(n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype))
        for n in toposort([new[r] for r in roots]):
            if n.op == "CONST":
                names[n] = number(n.arg.value, n.dtype, lanes)
            elif n not in names:
                names[n] = row(self, n.op, n.dtype, [m.dtype for m in n.src], [names[m] for m in n.src], lanes)
        return [names[new[r]] for r in roots]

    # ------------------------------------------------------------ control

    @contextmanager
    def loop(self, start: str | int, end: str | int, step: str | int = 1) -> Iterator[str]:
        """``for i in range(start, end, step)``."""
        n = next(self.counter)
        i = self.var("i64", str(start))
        some = self.test("slt", start, end)
        self.do(f"br i1 {some}, label %loop{n}, label %after{n}")
        self.label(f"loop{n}")
        now = self.load("i64", i)
        yield now
        following = self.add(now, step)
        self.store("i64", following, i)
        again = self.test("slt", following, end)
        self.do(f"br i1 {again}, label %loop{n}, label %after{n}")
        self.label(f"after{n}")

    @contextmanager
    def when(self, cond: str) -> Iterator[None]:
        """``if cond``."""
        n = next(self.counter)
        self.do(f"br i1 {cond}, label %then{n}, label %after{n}")
        self.label(f"then{n}")
        yield
        self.do(f"br label %after{n}")
        self.label(f"after{n}")
