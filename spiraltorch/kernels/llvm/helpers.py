"""Functions that generated code calls on rare arguments, one lane at a time.

In: the (name, lanes) pairs that a :class:`~.rows.Unit` has collected.  Out: LLVM IR of

    T @name(T x)                                 a body of nodes, or the C library's function
    void @name_16(i16 lanes, ptr out, ptr x)     calls it for each lane whose bit is set
"""

from __future__ import annotations

from ...dtypes import float32, float64
from ...ir.node import make, toposort
from .math import HELPERS
from .points import Points
from .rows import Unit, register


def _arity(name: str) -> int:
    return 2 if name.startswith("fmod") else 1


def _element(name: str) -> str:
    return register(float32 if name in HELPERS or name == "fmodf" else float64)


def _scalar(unit: Unit, name: str) -> str:
    ty = _element(name)
    if name not in HELPERS:
        return f"declare {ty} @{name}({', '.join([ty] * _arity(name))})\n"
    x = make("SCALAR", (), 0, (), float32)
    body = HELPERS[name](x)
    points = Points(unit, (), (), 0, 1)
    points.scopes[0].env[x] = ["%x"]
    order = toposort([body])
    points.deps.update(dict.fromkeys(order, 0))
    points.compute(order)
    lines = "\n".join([*points.allocas, *points.here.lines])
    (result,) = points.operand(body, False)
    return f"define internal {ty} @{name}({ty} %x) {unit.target.attributes} {{\n{lines}\n  ret {ty} {result}\n}}\n"


def _lanes(unit: Unit, name: str, lanes: int) -> str:
    ty = _element(name)
    operands = [f"%x{k}" for k in range(_arity(name))]
    loads = "".join([f"  {x}p = getelementptr {ty}, ptr {x}, i64 %i\n  {x}v = load {ty}, ptr {x}p\n" for x in operands])
    arguments = ", ".join([f"{ty} {x}v" for x in operands])
    return f"""define internal void @{name}_{lanes}(i{lanes} %lanes, ptr %out, {", ".join([f"ptr {x}" for x in operands])}) noinline {unit.target.attributes} {{
entry:
  br label %lane
lane:
  %i = phi i64 [ 0, %entry ], [ %next, %after ]
  %left = phi i{lanes} [ %lanes, %entry ], [ %rest, %after ]
  %one = trunc i{lanes} %left to i1
  br i1 %one, label %call, label %after
call:
{loads}  %v = call {ty} @{name}({arguments})
  %p = getelementptr {ty}, ptr %out, i64 %i
  store {ty} %v, ptr %p
  br label %after
after:
  %next = add i64 %i, 1
  %rest = lshr i{lanes} %left, 1
  %more = icmp ne i{lanes} %rest, 0
  br i1 %more, label %lane, label %end
end:
  ret void
}}
"""  # noqa: E501


def helper_functions(unit: Unit) -> list[str]:
    """The text of every function that was asked for."""
    vectors = [_lanes(unit, name, lanes) for name, lanes in sorted(unit.helpers) if lanes > 1]
    return [_scalar(unit, name) for name in sorted({name for name, _ in unit.helpers})] + vectors
