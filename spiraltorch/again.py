"""Calls that were seen before: recorded as one node each, spelled out when their program is compiled.

In: a call of an operator, a view's movement steps, or a step of backward, with operands whose shapes and types are known.
Out: APPLY nodes (one a result) with the operands as sources, or None when the call was not seen yet; then it goes the
long way once, which checks the arguments and finds the results' shapes and types, and is remembered.

    y = x.softmax(-1)      # the first time: MAX, SUB, EXP, ... over x
    y = x.softmax(-1)      # from then on: APPLY softmax over x; jit/eager.py spells it out for a new program

What is remembered follows from the key alone: operator, shapes and types of tensors, and every other argument with
its type.  Numbers that change at every call would be a program each, so few of them are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import dtypes
from .dtypes import DType
from .errors import Origin
from .ir.node import Node, Shape
from .ops.view import Step, apply_steps

FEW = 4  # different other arguments that an operator is remembered with, for tensors of the same shapes and types
MOST = 1 << 14  # calls that are remembered; then all are forgotten

Spell = Callable[[Sequence[Node]], Sequence[Node | None]]
_new = object.__new__
_PLAIN = frozenset((int, bool, str, type(None), DType, complex, type(Ellipsis)))


class Applied:
    """``arg`` of an APPLY node: result ``index`` of what ``spell`` makes of the operands."""

    __slots__ = ("spell", "index", "shape", "dtype", "name")

    def __init__(self, spell: Spell, index: int, like: Node, name: str) -> None:
        self.spell, self.index, self.shape, self.dtype, self.name = spell, index, like.shape, like.dtype, name

    def __repr__(self) -> str:
        return f"{self.name}.{self.index}" if self.index else self.name

    def spelled(self, nodes: Sequence[Node]) -> Node:
        """The result as nodes that the passes know."""
        n = self.spell(nodes)[self.index]
        assert n is not None
        return n

    def node(self, src: tuple[Node, ...], origin: Origin | None) -> Node:
        """The call, over these operands."""
        n = _new(Node)
        n.op = "APPLY"
        n.src = src
        n.arg = self
        n.shape = self.shape
        n.dtype = self.dtype
        n.origin = origin
        n._digest = None
        return n


class Seen:
    """One call: ``call`` for the tape, and its results.  ``pack`` makes what the user gets of a list of tensors; None
    when there is one result."""

    __slots__ = ("call", "results", "pack")

    def __init__(self, call: Any, results: list[Applied], pack: Any) -> None:
        self.call, self.results, self.pack = call, results, pack


class Memory(dict[Any, Any]):
    """Key to what is remembered."""

    def __init__(self) -> None:
        self.counts: dict[Any, int] = {}

    def learn(self, key: tuple[Any, ...], family: Any, seen: Any) -> None:
        """Remember, unless the ``family`` of calls that differ in their other arguments alone has enough."""
        count = self.counts.get(family, 0)
        if count >= FEW:
            return
        if len(self) >= MOST:
            self.clear()
            self.counts.clear()
        self.counts[family] = count + 1
        self[key] = seen


calls = Memory()  # of Seen
views = Memory()  # of the steps that a view operator takes, or of lists of them
indices = Memory()  # of the steps that a basic index takes
_moves: dict[Any, Applied] = {}


def describe(value: Any, key: list[Any], tensors: list[Any], short: set[type]) -> bool:
    """Append what a call's result may depend on of ``value``, and its tensors; False when that is not known."""
    kind = value.__class__
    if kind in short:
        n = value._read() if value._steps else value._storage.node
        if n.op == "CONST":
            return False
        tensors.append(value)
        key += n.shape, n.dtype
    elif kind in _PLAIN:
        key += kind, value
    elif kind is float:
        key += (kind, value) if value else (kind, str(value))  # 0.0 is not -0.0
    elif kind is tuple or kind is list:
        key += kind, len(value)
        for v in value:
            if not describe(v, key, tensors, short):
                return False
    else:
        return False
    return True


def key_of(name: str, args: Sequence[Any], kwargs: dict[str, Any], tensors: list[Any], short: set[type]) -> tuple[Any, ...] | None:
    """The key of a call, whose tensors are appended to ``tensors``; None for arguments that are not plain."""
    key = [name, dtypes._default]
    for a in args:
        kind = a.__class__
        if kind in short:  # as in describe, for what nearly every call has
            n = a._read() if a._steps else a._storage.node
            if n.op == "CONST":
                return None
            tensors.append(a)
            key += n.shape, n.dtype
        elif kind is int:
            key += kind, a
        elif not describe(a, key, tensors, short):
            return None
    for k, a in kwargs.items():
        key.append(k)
        if not describe(a, key, tensors, short):
            return None
    return tuple(key)


def family(name: str, nodes: Sequence[Node]) -> Any:
    """What calls have in common that differ in their other arguments alone."""
    return (name, *[(n.shape, n.dtype) for n in nodes])


def moved(n: Node, steps: tuple[Step, ...]) -> Node:
    """``n`` moved by ``steps``: as one node, when that was done before to a node of this shape and type."""
    key = steps, n.shape, n.dtype
    known = _moves.get(key)
    if known is not None:
        return known.node((n,), None)
    made = apply_steps(n, steps)
    if made is not n:
        if len(_moves) >= MOST:
            _moves.clear()
        _moves[key] = Applied(lambda nodes: [apply_steps(nodes[0], steps)], 0, made, "view")
    return made


def key_of_index(shape: Shape, index: Any) -> tuple[Any, ...] | None:
    """The key of ``x[index]`` with an index of plain integers, slices, None and ``...``; None for any other."""
    key: list[Any] = [shape]
    for i in index if index.__class__ is tuple else (index,):
        kind = i.__class__
        if kind is slice:
            for v in (i.start, i.stop, i.step):
                if v is not None and v.__class__ is not int:
                    return None
            key.append((i.start, i.stop, i.step))
        elif kind is int or i is None or i is Ellipsis:
            key.append(i)
        else:
            return None
    return tuple(key)


def kept(call: Any) -> Any:
    """A call that is used for many steps of the tape: its gradients are remembered."""
    call.seen = {}
    return call


def vjp(call: Any, lists: Sequence[Sequence[Node | None]], origin: Origin | None) -> list[Node | None]:
    """``call.vjp(*lists)``; one node a gradient when this call was differentiated before with such operands.

    Only calls that are kept say ``seen``: others are made anew for each step of the tape.
    """
    if call.seen is None:
        return call.vjp(*lists)  # type: ignore[no-any-return]
    key: list[Any] = []
    src: list[Node] = []
    for values in lists:
        for n in values:
            if n is None:
                key.append(None)
            elif n.op == "PARAM":
                key += "unsaved", n.shape, n.dtype
            elif n.op == "CONST":
                if not n.arg.static:
                    return call.vjp(*lists)  # type: ignore[no-any-return]
                key += n.arg, n.dtype
            else:
                key += n.shape, n.dtype
                src.append(n)
    known = call.seen.get(tuple(key))
    if known is not None:
        operands = tuple(src)
        return [None if a is None else a.node(operands, origin) for a in known]
    found: list[Node | None] = call.vjp(*lists)
    if len(call.seen) < MOST:
        form = [[n if n is None or n.op in ("PARAM", "CONST") else True for n in values] for values in lists]

        def spell(nodes: Sequence[Node]) -> Sequence[Node | None]:
            supplied = iter(nodes)
            return call.vjp(*[[next(supplied) if n is True else n for n in values] for values in form])  # type: ignore[no-any-return]

        call.seen[tuple(key)] = [None if n is None else Applied(spell, i, n, call.name) for i, n in enumerate(found)]
    return found
