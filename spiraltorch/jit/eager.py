"""Eager mode: pending cells become one program, found again by structure.

In: cells whose nodes are pending.  Out: the cells hold buffers.  The graph's leaves become numbered
inputs and numbers that Python computed become run-time scalars; what is left is the key, so the
second step of a training loop runs the program of the first.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fast
from ..config import config, log
from ..device import CPU, device
from ..dtypes import DType
from ..errors import Origin, VerifyError
from ..ir import graph
from ..ir.node import Node, make, origins, toposort
from ..ir.prims import MOVEMENT, ROWS
from ..ops.view import apply_steps
from ..runtime import buffers
from ..runtime.interrupts import uninterrupted
from ..storage import Storage
from . import program as program_module
from .program import CheckFailed, DividedByZero, Program, ProgramFailed, build, indexed_size, located

MOST_PROGRAMS = 2048
programs: OrderedDict[Any, Program] = OrderedDict()
fast.connect(programs=programs)


@dataclass
class Canonical:
    """A graph as structure and data: ``key`` is equal for equal structure; leaves and scalars differ.  ``where`` it
    is computed."""

    key: Any
    where: device
    order: list[Node]
    leaves: list[Node]
    scalars: list[Any]
    scalar_types: list[DType]

    def roots(self, nodes: Sequence[Node]) -> list[Node]:
        """The graph over PARAM leaves."""
        slot = {n: i for i, n in enumerate(self.leaves)}
        memo: dict[Node, Node] = {}
        where = origins(self.order)
        count = 0
        for n in self.order:
            if n in slot:
                new = graph.param(slot[n], n.shape, n.dtype)
            elif n.op == "PARAM":
                raise VerifyError(f"a placeholder without a value is left in the graph: {n}")
            elif n.op == "CONST" and not n.arg.static:
                new = graph.param(("s", count), (), n.dtype)
                count += 1
            elif n.op == "APPLY":
                new = spelled(n, [memo[s] for s in n.src])
            else:
                new = _over(n, tuple([memo[s] for s in n.src]))
            if n.op in _CHECKED:
                new.origin = where[n]
            elif new.origin is None:
                new.origin = n.origin
            memo[n] = new
        return [memo[n] for n in nodes]


def _over(n: Node, src: tuple[Node, ...]) -> Node:
    """``n`` with other operands; a movement of what was one node may have become less."""
    if src == n.src:
        return n
    if n.op in MOVEMENT:
        return graph.pad(src[0], n.arg) if n.op == "PAD" else apply_steps(src[0], [(n.op, n.arg)])
    return make(n.op, src, n.arg, n.shape, n.dtype)


_CHECKED = frozenset(("GATHER", "SCATTER", "CALL"))  # may fail, at the user's line


def spelled(n: Node, operands: Sequence[Node]) -> Node:
    """An APPLY node over these operands, as nodes that the passes know."""
    new: Node = n.arg.spelled(operands)
    seen = set(operands)
    stack = [new]
    while stack:
        m = stack.pop()
        if m not in seen:
            seen.add(m)
            stack += m.src
            if m.op in _CHECKED:
                m.origin = n.origin
    return new


def spell_out(roots: Sequence[Node]) -> list[Node]:
    """``roots`` without APPLY nodes."""
    memo: dict[Node, Node] = {}
    for n in toposort(roots):
        src = tuple([memo[s] for s in n.src])
        if n.op == "APPLY":
            memo[n] = spelled(n, src)
        else:
            memo[n] = _over(n, src)
        if memo[n].origin is None:
            memo[n].origin = n.origin
    return [memo[n] for n in roots]


def canonical(roots: Sequence[Node], where: device = CPU) -> Canonical:
    """Number the nodes; the key says everything but which buffers and which lifted numbers.

    Every look at a value comes through here, so the topological order and the key are made in one walk.  The key is
    flat: a row says how many operands it has, and its shape follows from theirs.  Raises RuntimeError when a leaf is
    on another device; one on the CPU may be an operand anywhere.
    """
    if fast.walk is not None and (found := fast.walk(list(roots), where)) is not None:
        key, last, order, leaves, scalars, types = found
        key += -1, config.cpu, config.gemm, where.index, *last
        return Canonical(tuple(key), where, order, leaves, scalars, types)
    ids: dict[Node, int] = {}
    key = []
    leaves, scalars, types = [], [], []

    def visit(n: Node, again: Callable[[Node, Any], None]) -> None:  # itself, handed on: a closure over itself would be a cycle
        src = n.src
        for s in src:
            if s not in ids:
                again(s, again)
        op = n.op
        if op in ROWS:
            if n.arg is None and len(src) == 2:
                key.extend((op, n.dtype, ids[src[0]], ids[src[1]]))
            else:
                key.extend((op, n.dtype, n.arg, *[ids[s] for s in src]))
        elif op == "APPLY":
            key.extend((n.arg, *[ids[s] for s in src]))
        elif op == "BUFFER":
            key.extend((0, n.shape, n.dtype))
            leaves.append(n)
            place = n.arg.device
            if place is not where and place is not CPU:
                from ..transfer import apart

                raise apart(place, where)
        elif op == "CONST" and not n.arg.static:
            key.extend((1, n.dtype))
            scalars.append(n.arg.value)
            types.append(n.dtype)
        elif op == "CONST":
            key.extend((op, n.arg.key, n.dtype))
        else:
            key.extend((op, n.arg, n.shape, n.dtype, len(src), *[ids[s] for s in src]))
        ids[n] = len(ids)

    try:
        for r in roots:
            if r not in ids:
                visit(r, visit)
    except RecursionError:  # a long chain: its nodes in an order in which nothing is left to descend to
        for n in toposort(roots):
            if n not in ids:
                visit(n, visit)
    key += -1, config.cpu, config.gemm, where.index, *[ids[r] for r in roots]
    return Canonical(tuple(key), where, list(ids), leaves, scalars, types)


def find_program(c: Canonical, roots: Sequence[Node], donated: Sequence[int | None]) -> Program:
    """The program for a graph, from the cache or made now."""
    key = (c.key, *donated)
    program = programs.get(key)
    if program is not None:
        programs.move_to_end(key)
        return program
    program = build(c.roots(roots), donated, [(n.shape, n.dtype) for n in c.leaves], c.scalar_types, c.where)
    programs[key] = program
    if len(programs) > MOST_PROGRAMS:
        programs.popitem(last=False)
    return program


def may_overwrite(cells: Sequence[Storage], c: Canonical) -> list[int | None]:
    """For each cell, the leaf whose memory its new value may take over: its own old buffer, if nothing
    outside this graph still refers to it."""
    if not any([cell.buffer is not None for cell in cells]):
        return [None] * len(cells)
    slots = {n.arg: i for i, n in enumerate(c.leaves)}
    edges: dict[Node, int] = {}
    out: list[int | None] = []
    for cell in cells:
        slot = slots.get(cell.buffer) if cell.buffer is not None else None
        if slot is None:
            out.append(None)
            continue
        if not edges:
            for n in c.order:
                for s in n.src:
                    if s.op == "BUFFER":
                        edges[s] = edges.get(s, 0) + 1
        leaf = s = c.leaves[slot]  # the loop's variable may still be it, so it always is
        # References we know of: order, leaves, edges' key, these variables, and the call's argument.
        mine = edges.get(leaf, 0) + (1 if leaf in edges else 0) + 5
        out.append(slot if sys.getrefcount(leaf) <= mine else None)
    return out


def compute(cells: list[Storage]) -> None:
    """Give every cell its value.

    A failed check marks the new values that depend on it, which raise whenever they are looked at.  Memory
    that was to be overwritten by such a value keeps what it held, and the error is raised here.
    """
    if fast.look is not None and program_module.observer is None:
        done = fast.look(cells)
        if done is True:
            return
        if done is not False:
            _failed_in(cells, cells[0].device, done[0].failed(*done[1:]))
            return
    cells = [c for c in cells if c.node.op != "BUFFER" and c.error is None]
    if not cells:
        return
    where = cells[0].device
    if len(cells) > 1 and (elsewhere := [c for c in cells if c.device is not where]):  # a program belongs to one device
        compute([c for c in cells if c.device is where])
        compute(elsewhere)
        return
    roots = [c.node for c in cells]
    form = canonical(roots, where)
    donated = may_overwrite(cells, form)
    program = find_program(form, roots, donated)
    if "launch" in config.log:
        log("launch", f"{program.launches} launches for {len(cells)} values")
    inputs = [n.arg for n in form.leaves]
    try:
        if any([c.buffer is not None for c in cells]):
            with uninterrupted():  # what was overwritten must be known to be
                _run(program, inputs, form.scalars, cells)
        else:
            _run(program, inputs, form.scalars, cells)
    except ProgramFailed as e:
        _failed_in(cells, where, e)


def _failed_in(cells: list[Storage], where: device, failed: ProgramFailed) -> None:
    """Operations that were recorded as one node are blamed one by one."""
    for cell, n in zip(cells, spell_out([c.node for c in cells])):
        cell.node = n
    _after_failure(cells, canonical([c.node for c in cells], where), failed)


def _run(program: Program, inputs: list[Any], scalars: Sequence[Any], cells: Sequence[Storage]) -> None:
    for cell, out in zip(cells, program.run(inputs, scalars)):
        if cell.buffer is not None and out is not cell.buffer and cell.shared:
            cell.buffer.overwrite(out, cell.node.nbytes)
            out = cell.buffer
        cell.settle(out)


def _after_failure(cells: list[Storage], form: Canonical, failed: ProgramFailed) -> None:
    """Mark or put back the cells that depend on the failure, and compute the others."""
    bad, error = _blame(form, failed)
    restored = False
    for cell in [c for c in cells if c.node in bad]:
        if cell.buffer is None:
            cell.error = error
        else:
            cell.settle(cell.buffer)
            restored = True
    compute(cells)
    if restored:
        raise error


def _blame(form: Canonical, failed: ProgramFailed) -> tuple[set[Node], Exception]:
    """(the first operation that fails and all that depend on it, its error).

    The program knows the graph that was compiled, not this one; so the operands themselves are looked at.
    """
    where = origins(form.order)
    for n in form.order:
        error = _failure(n, where[n], form.where)
        if error is not None:
            break
    else:
        return set(form.order), failed
    bad = {n}
    for m in form.order:
        if any([s in bad for s in m.src]):
            bad.add(m)
    return bad, error


def _failure(n: Node, origin: Origin | None, where: device) -> Exception | None:
    """The error of one operation, whose operands are good."""
    from ..kernels.library.routine import evaluate, find

    if n.op in ("GATHER", "SCATTER"):
        index = _value(n.src[1], where)
        if index.size and (index.min() < 0 or index.max() >= indexed_size(n)):
            return CheckFailed(n, origin)
    if n.op == "COPY" and n.arg == "not zero" and not _value(n.src[0], where).all():
        return DividedByZero(origin)
    if n.op == "CALL" and find(n.arg[0]).fails:
        try:
            evaluate(n, [_value(s, where) for s in n.src])
        except Exception as e:
            return located(e, origin)
    return None


def _value(n: Node, where: device) -> np.ndarray:
    """A node's value."""
    b = n.arg
    if n.op != "BUFFER":
        form = canonical([n], where)
        (b,) = find_program(form, [n], [None]).run([leaf.arg for leaf in form.leaves], form.scalars)
    return b.view(n.dtype.np, n.shape)  # type: ignore[no-any-return]


def clear_programs() -> None:
    """Forget every cached program (tests and memory pressure)."""
    programs.clear()


def cached_programs() -> int:
    return len(programs)


__all__ = ["Canonical", "buffers", "cached_programs", "canonical", "clear_programs", "compute", "find_program"]
