"""One immutable, interned ``Node(op, src, arg)`` with its type.

Graph and kernel level share this class.  A graph node has a shape; a kernel node is a value at one
point of an iteration space and has shape ``()``.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import node
    >>> x = node.const(2.0, dtypes.float32)
    >>> node.scalar("ADD", x, x) is node.scalar("ADD", x, x)
    True

Two nodes that say the same are the same object, so ``is`` compares structure and a dict keyed by
nodes is common-subexpression elimination.  Constants compare by type and bits (0.0 is not -0.0, 1
is not True).  ``origin`` (the user's line that made it first) is for messages, not identity.
"""

from __future__ import annotations

import hashlib
import struct
from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # what WeakValueDictionary uses
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from ..dtypes import DType, bool_, int64
from ..errors import Origin
from . import prims

Shape = tuple[int, ...]


_new = object.__new__


class Node:
    """``op`` names a row of :mod:`prims`; ``src`` are its operands; ``arg`` is static data."""

    __slots__ = ("op", "src", "arg", "shape", "dtype", "origin", "_digest", "__weakref__")
    op: str
    src: tuple[Node, ...]
    arg: Any
    shape: Shape
    dtype: DType
    origin: Origin | None
    _digest: str | None

    if TYPE_CHECKING:  # spiraltorch.ir.lang gives nodes Python's operators

        def __add__(self, other: Any) -> Node: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __and__ = __or__ = __xor__ = __add__

        def __neg__(self) -> Node: ...

        __invert__ = __neg__

    def __repr__(self) -> str:
        from .text import format_node

        return format_node(self)

    def __reduce__(self) -> Any:
        return make, (self.op, self.src, self.arg, self.shape, self.dtype)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


# Keys hold the operands' addresses, not the operands, and nothing is called when a node dies: both would cost more than
# the look-up.  An entry whose node is dead matches nothing (a live node keeps its operands, so their addresses are
# theirs alone) and goes with the next sweep.
_table: dict[Any, ref[Node]] = {}
_FEW = 1 << 12
_sweep_at = _FEW


def make(op: str, src: tuple[Node, ...], arg: Any, shape: Shape, dtype: DType) -> Node:
    """The one node with this operation, operands, static argument and type."""
    count = len(src)
    key: Any
    if count == 2:
        key = op, id(src[0]), id(src[1]), arg, shape, dtype
    elif count == 1:
        key = op, id(src[0]), arg, shape, dtype
    elif op == "BUFFER":  # a dead entry must not keep memory
        key = op, id(arg), shape, dtype
    else:
        key = op, *map(id, src), arg, shape, dtype
    r = _table.get(key)
    if r is not None:
        n = r()
        if n is not None:
            return n
    for size in shape:
        if type(size) is not int:  # 2.0 and True are equal to integers: the node would be found in their place
            return make(op, src, arg, tuple([index(s) * 1 for s in shape]), dtype)
    n = _new(Node)
    n.op = op
    n.src = src
    n.arg = arg
    n.shape = shape
    n.dtype = dtype
    n.origin = n._digest = None
    mine = ref(n)
    while (r := _table.setdefault(key, mine)) is not mine:  # another thread was faster, or an old node died
        other = r()
        if other is not None:
            return other
        _remove_dead_weakref(_table, key)
    if len(_table) > _sweep_at:
        _sweep()
    return n


def _sweep() -> None:
    """Drop the entries of dead nodes."""
    global _sweep_at
    for key, r in _table.copy().items():  # a list of the items could meet another thread, or a finalizer
        if r() is None:
            _remove_dead_weakref(_table, key)  # looked at and removed in one step, whatever other threads do
    _sweep_at = max(_FEW, 2 * len(_table))


def live_nodes() -> int:
    """How many nodes exist (for tests of leaks)."""
    before = -1
    while before != len(_table):  # a dead entry's argument may be what keeps another node (a stage's Read)
        before = len(_table)
        _sweep()
    return before


class Bits:
    """A constant's value, compared by its bits: ``nan == nan``, ``0.0 != -0.0``, ``1 != 1.0``.

    ``static`` is False for a number the user's Python computed: the structural key of a program
    then holds a slot and not the value, so that a changing factor is data, not a new program.
    """

    __slots__ = ("value", "key", "static")

    def __init__(self, value: Any, static: bool = True) -> None:
        self.value = value
        self.static = static
        if isinstance(value, float):
            self.key: Any = ("f", struct.pack("<d", value), static)
        elif isinstance(value, complex):
            self.key = ("c", struct.pack("<dd", value.real, value.imag), static)
        else:
            self.key = (type(value).__name__, value, static)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bits) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.value)


def _rounded(value: Any, dtype: DType) -> Any:
    with np.errstate(over="ignore"):  # infinity, which is what rounding says
        return dtype.np.type(value)


def _coerce(value: Any, dtype: DType) -> Any:
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind in "iu":
        value = int(value)
        if not dtype.is_signed:
            return value & ((1 << dtype.bits) - 1)
        half = 1 << (dtype.bits - 1)
        return (value + half) % (2 * half) - half
    if dtype.kind == "c":
        return complex(_rounded(value, dtype))
    v = float(value)
    if dtype.itemsize == 8 or -60000.0 < v < 60000.0:
        return float(dtype.np.type(v)) if dtype.itemsize < 8 else v
    return float(_rounded(v, dtype))


# Values that rewrite rules look at; they are never lifted out of a program.
_SPECIAL = frozenset((0, 1, -1, 2, -2, 0.5, 3, float("inf"), float("-inf")))


def const(value: Any, dtype: DType, static: bool = True) -> Node:
    """A 0-d constant, rounded to ``dtype``; it broadcasts against every shape."""
    if not static and value.__class__ is int and not -1 << 63 <= value < 1 << 64:
        raise OverflowError("int too big to convert: Python integers beyond 64 bits are no elements")
    v = _coerce(value, dtype)
    if dtype.kind == "c" and not static and v not in _SPECIAL:  # only real numbers are data of a program
        part = dtype.to_real()
        return make("COMPLEX", (const(v.real, part, False), const(v.imag, part, False)), None, (), dtype)
    if not static and (dtype.kind not in "f" or v != v or v in _SPECIAL):
        static = True
    return make("CONST", (), Bits(v, static), (), dtype)


def is_const(n: Node, value: Any = None) -> bool:
    """Whether ``n`` is a constant (equal to ``value`` when one is given; -0.0 is not 0)."""
    if n.op != "CONST":
        return False
    if value is None:
        return True
    v = n.arg.value
    return bool(v == value) and str(v)[0:1] != "-" if value == 0 else bool(v == value)


def scalar(op: str, *src: Node, dtype: DType | None = None, arg: Any = None) -> Node:
    """A scalar row applied elementwise.  Operands have one shape, or are 0-d and broadcast."""
    row = prims.ROWS[op]
    shape: Shape = ()
    for s in src:
        if s.shape:
            shape = s.shape
            break
    else:
        shape = ()
    if dtype is None:
        dtype = bool_ if row.result == "bool" else src[-1].dtype
    return make(op, src, arg, shape, dtype)


def cast(n: Node, dtype: DType) -> Node:
    """``n`` converted to ``dtype`` (a constant is folded, the same type is ``n`` itself)."""
    if n.dtype is dtype:
        return n
    if n.op == "CONST" and not (n.dtype.kind in "fc" and dtype.kind in "iu"):
        value = n.arg.value
        return const(value.real if isinstance(value, complex) and dtype.kind in "uif" else value, dtype, n.arg.static)
    return make("CAST", (n,), None, n.shape, dtype)


def index_const(value: int) -> Node:
    return const(value, int64)


def toposort(roots: Iterable[Node]) -> list[Node]:
    """Every node reachable from ``roots``, operands before users; iterative, so depth is no limit."""
    order: list[Node] = []
    seen: set[Node] = set()
    done: set[Node] = set()
    stack = list(roots)
    stack.reverse()
    while stack:
        n = stack[-1]
        if n in done:
            stack.pop()
            continue
        if n in seen:
            stack.pop()
            done.add(n)
            order.append(n)
            continue
        seen.add(n)
        for s in reversed(n.src):
            if s not in seen:
                stack.append(s)
    return order


def origins(order: Sequence[Node]) -> dict[Node, Any]:
    """The user's line of every node of a topological order.

    Only an operator's result carries the line; what lies inside its body belongs to the value it leads to.
    """
    found: dict[Node, Any] = {}
    for n in reversed(order):
        found[n] = n.origin or found.get(n)
        for s in n.src:
            if s not in found:
                found[s] = s.origin or found[n]
    return found


def substitute(roots: Iterable[Node], mapping: dict[Node, Node]) -> list[Node]:
    """``roots`` with nodes replaced; nothing below a replaced node is visited twice."""
    memo = dict(mapping)
    out = []
    for root in roots:
        for n in toposort([root]):
            if n in memo:
                continue
            src = tuple([memo[s] for s in n.src])
            memo[n] = n if src == n.src else make(n.op, src, n.arg, n.shape, n.dtype)
        out.append(memo[root])
    return out


def walk(root: Node) -> Iterator[Node]:
    return iter(toposort([root]))


def digest(n: Node) -> str:
    """A structural hash that is the same in every process (buffers count by type alone)."""
    for m in toposort([n]):
        if m._digest is None:
            arg = "" if m.op == "BUFFER" else repr(m.arg)
            text = f"{m.op}|{arg}|{m.shape}|{m.dtype.name}|" + ",".join([str(s._digest) for s in m.src])
            m._digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return str(n._digest)
