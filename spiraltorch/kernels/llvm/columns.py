"""Sums over the rows that one task walks, made while it walks them (``Store.fold``, ``Kernel.walked``).

In: a kernel of lane 'inner' whose stores fold.  Out: lines in the writer's code.

    task      out[c] = 0 and part[c] = 0 for every column c
    row       part[c] += value, beside what else the row computes
    8th row   out[c] += part[c]; part[c] = 0         (and after the last row)

That is the order in which lane 'row' folds an axis (chunks of CHUNK values, whose sums are added one by one), so a sum over
rows has the same bits whether it has a kernel of its own or not.  The parts are on the stack, which has room for MOST_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...dtypes import DType
from ...ir.kernel import MOST_COLUMNS, Access, Phase, Store
from .points import Scope
from .rows import memory, number

if TYPE_CHECKING:
    from .writer import Writer

CHUNK = 8  # rows whose values are added before their sum is added to the total


def _sums(writer: Writer) -> list[tuple[Phase, Store]]:
    return [(p, s) for p in writer.kernel.phases for s in p.stores if s.fold]


def begin(writer: Writer) -> None:
    """What a task does first."""
    for phase, s in _sums(writer):

        def clear(at: str, lanes: int, total: str, part: str, dtype: DType) -> None:
            for base in (total, part):
                p = writer.here.let(f"getelementptr {memory(dtype)}, ptr {base}, i64 {at}")
                writer.here.do(f"store {memory(dtype, lanes)} {number(0, dtype, lanes)}, ptr {p}, align {dtype.itemsize}")

        _columns(writer, phase, s, clear)


def add(writer: Writer, s: Store) -> None:
    """The values of a store at this point, added to its part."""
    code, dtype, axis = writer.here, writer.params[s.param].dtype, writer.lane_axis
    ty, first = memory(dtype, writer.lanes), writer.kernel.rows
    inner = Access(0, tuple([t for t in s.access.terms if t[0] >= first]))
    base = writer.walk(inner, ("part", s.param), _part(writer, s), f"getelementptr {memory(dtype)}, ptr")[0]
    for u, value in enumerate(writer.operand(s.value, True)):
        p = writer.vector_pointer(base, memory(dtype), s.access.stride(axis), u, code)
        mask = None if writer.masks is None else writer.masks[u]
        sum_ = writer.fold(s.fold, dtype, code.let(f"load {ty}, ptr {p}, align {dtype.itemsize}"), value, writer.lanes)
        writer.put(code, sum_, p, dtype, writer.lanes, mask)


def end_of_row(writer: Writer) -> None:
    """After every CHUNK rows, and after the last: parts are added to totals."""
    sums, kernel = _sums(writer), writer.kernel
    if not sums:
        return
    parent, row, count = writer.here, "0", "1"
    for axis in range(kernel.rows - kernel.walked, kernel.rows):
        row = parent.let(f"add i64 {parent.let(f'mul i64 {row}, {writer.size(axis)}')}, {writer.index[axis]}")
        count = parent.let(f"mul i64 {count}, {writer.size(axis)}")
    following = parent.let(f"add i64 {row}, 1")
    whole = parent.let(f"icmp eq i64 {parent.let(f'and i64 {following}, {CHUNK - 1}')}, 0")
    due = parent.let(f"or i1 {whole}, {parent.let(f'icmp eq i64 {following}, {count}')}")
    writer.scopes.append(Scope(writer.code(), 0))
    for phase, s in sums:

        def flush(at: str, lanes: int, total: str, part: str, dtype: DType, op: str = s.fold) -> None:
            code, ty = writer.here, memory(dtype, lanes)
            places = [code.let(f"getelementptr {memory(dtype)}, ptr {base}, i64 {at}") for base in (total, part)]
            old, new = [code.let(f"load {ty}, ptr {p}, align {dtype.itemsize}") for p in places]
            for value, p in zip((writer.fold(op, dtype, old, new, lanes), number(0, dtype, lanes)), places):
                code.do(f"store {ty} {value}, ptr {p}, align {dtype.itemsize}")

        _columns(writer, phase, s, flush)
    scope = writer.scopes.pop()
    k = next(writer.counter)
    parent.do(f"br i1 {due}, label %flush{k}, label %row{k}")
    parent.label(f"flush{k}")
    parent.lines += scope.code.lines
    parent.do(f"br label %row{k}")
    parent.label(f"row{k}")


def _part(writer: Writer, s: Store) -> str:
    """The address of a sum's part; there is room for a whole vector after the last column."""
    env, dtype = writer.scopes[0].env, writer.params[s.param].dtype
    if ("columns", s.param) not in env:
        env["columns", s.param] = writer.alloca(f"[{MOST_COLUMNS + writer.lanes} x {memory(dtype)}], align 64")
    return str(env["columns", s.param])


def _columns(writer: Writer, phase: Phase, s: Store, body: Callable[[str, int, str, str, DType], None]) -> None:
    """``body(position, lanes, total, part, type)`` for whole vectors of columns, then for single ones."""
    code, dtype, lanes = writer.here, writer.params[s.param].dtype, writer.lanes
    total = writer.pointer(s.param, Access(s.access.offset, tuple([t for t in s.access.terms if t[0] < writer.kernel.rows])))
    part, width = _part(writer, s), "1"
    for axis in phase.axes:
        width = code.let(f"mul i64 {width}, {writer.size(axis)}")
    whole = code.let(f"and i64 {width}, {-lanes}")
    writer.loop(0, "0", whole, lanes, lambda at: body(at, lanes, total, part, dtype))
    writer.loop(0, whole, width, 1, lambda at: body(at, 1, total, part, dtype))


__all__ = ["CHUNK", "add", "begin", "end_of_row"]
