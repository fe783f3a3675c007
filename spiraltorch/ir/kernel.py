"""The kernel tree: what one launch computes, for every backend.

A :class:`Kernel` walks *rows* (its parallel axes).  At each row it runs its *phases* in order.  A
phase walks its own inner axes, folds expressions into reductions and stores expressions.  A
reduction's result is a scalar of the row that later phases read with ``VALUE id``.  So softmax is
one kernel with three phases (max; sum of exp; store), and a pointwise kernel has one phase with no
inner axis.

Expressions are :class:`~spiraltorch.ir.node.Node` of shape ``()``: scalar rows of ``prims.ROWS``
over the leaves

    CONST   arg Bits                              SCALAR  arg i: run-time scalar argument i
    INDEX   arg Access: its value, int64          VALUE   arg id: a reduction of an earlier phase
    LOAD    arg Load; src = dynamic indices, then the guard if ``arg.guarded``

Nothing here is a size: axis sizes, strides and offsets are :class:`Slot` arguments, except that a
stride may be the static number 1 (contiguous) or absent (broadcast), and along the lanes 2 to 4 (every
second element).  One kernel therefore serves every length.  ``str(kernel)`` prints it, ``text.parse_kernel`` reads it back.

Native calling convention: ``void f(int64 *args, int64 lo, int64 hi)`` runs tasks lo..hi.  ``args``
holds 8-byte words: one pointer per param, then one int64 per slot, then one word per scalar (its
bits in the low bytes).  A task is one row (or the ``walked`` ones), or with ``lane == "row"`` a block of ``block`` values of
the last row axis.  Tasks are independent, so results do not depend on who runs which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..dtypes import DType
from .node import Node, toposort


@dataclass(frozen=True)
class Slot:
    """Run-time int64 argument number ``index``."""

    index: int

    def __repr__(self) -> str:
        return f"s{self.index}"


Coef = int | Slot


@dataclass(frozen=True)
class Access:
    """``offset + sum(axis_k * stride_k)``, in elements.  ``terms`` are (axis, stride), by axis."""

    offset: Coef = 0
    terms: tuple[tuple[int, Coef], ...] = ()

    def __repr__(self) -> str:
        parts = [] if self.offset == 0 else [repr(self.offset)]
        parts += [f"a{ax}" if c == 1 else f"a{ax}*{c!r}" for ax, c in self.terms]
        return "+".join(parts) or "0"

    def stride(self, axis: int) -> Coef:
        """The coefficient of ``axis``; 0 when the access does not move along it."""
        for ax, c in self.terms:
            if ax == axis:
                return c
        return 0


@dataclass(frozen=True)
class Load:
    """A read of ``param`` at ``access`` plus ``sum(src_k * dyn_k)`` for run-time indices src_k.

    Where the guard (last src, when ``guarded``) is false the memory is not touched and the value is 0.
    """

    param: int
    access: Access
    dyn: tuple[Coef, ...] = ()
    guarded: bool = False

    def __repr__(self) -> str:
        return f"p{self.param}[{self.access!r}" + "".join(f"; {d!r}" for d in self.dyn) + "]" + "?" * self.guarded


@dataclass(frozen=True)
class Reduce:
    """Fold ``expr`` over the phase's inner axes with 'add', 'mul', 'max' or 'min'."""

    id: int
    op: str
    expr: Node


@dataclass(frozen=True)
class Store:
    """Write ``value`` to ``param`` at ``access``; where ``guard`` is false nothing is written.

    With ``fold`` ('add') the element becomes the fold of the values of all rows that one task walks (see
    :class:`Kernel`), in the order that lane 'row' folds an axis in; ``access`` does not move along those rows.
    """

    param: int
    access: Access
    value: Node
    guard: Node | None = None
    fold: str = ""


@dataclass(frozen=True)
class Check:
    """Where ``cond`` is false, write ``code`` (not 0) to the 'status' param; the kernel goes on."""

    cond: Node
    code: int


@dataclass(frozen=True)
class Phase:
    """``axes`` are walked in row-major order; without axes the phase runs once a row."""

    axes: tuple[int, ...] = ()
    reduces: tuple[Reduce, ...] = ()
    stores: tuple[Store, ...] = ()
    checks: tuple[Check, ...] = ()

    def exprs(self) -> Iterator[Node]:
        for r in self.reduces:
            yield r.expr
        for s in self.stores:
            yield s.value
            if s.guard is not None:
                yield s.guard
        for c in self.checks:
            yield c.cond

    def replaced(self, new: Mapping[Node, Node]) -> Phase:
        """The phase with ``new[e]`` for each expression e."""
        stores = [replace(s, value=new[s.value], guard=None if s.guard is None else new[s.guard]) for s in self.stores]
        reduces = [replace(r, expr=new[r.expr]) for r in self.reduces]
        checks = [replace(c, cond=new[c.cond]) for c in self.checks]
        return Phase(self.axes, tuple(reduces), tuple(stores), tuple(checks))


@dataclass(frozen=True)
class Param:
    """A pointer argument.  mode: 'in', 'out', 'inout' (read and written at the same index only) or
    'status' (one int64 that :class:`Check` writes).  Params never overlap."""

    dtype: DType
    mode: str = "in"


@dataclass(frozen=True)
class Kernel:
    """axes: the size slot of each axis, row axes first.  rows: how many of them are row axes.

    lane: which axis runs in vector lanes: 'row' (the last row axis; every reduction is then per lane)
    or 'inner' (the last axis of each phase).  block: values of the lane axis in one task (lane 'row').

    group > 1 (lane 'row', no inner axes): the last row axis has exactly this many values, and lanes run along the
    row axis before it; what is stored side by side for a group is interleaved in registers.

    walked (lane 'inner'): one task walks the last so many row axes in order, so that a store may fold over them.
    """

    axes: tuple[Slot, ...]
    rows: int
    lane: str
    block: int
    params: tuple[Param, ...]
    scalars: tuple[DType, ...]
    slots: int
    phases: tuple[Phase, ...]
    group: int = 1
    walked: int = 0

    @property
    def lane_row(self) -> int:
        """Lane 'row': the row axis along which lanes run."""
        return self.rows - 1 - (self.group > 1)

    def tasks(self, ints: Sequence[int]) -> int:
        """How many tasks there are, given the slots' values."""
        n = 1
        for k in range(self.rows - self.walked if self.lane == "inner" else self.lane_row + 1):
            size = ints[self.axes[k].index]
            if self.lane == "row" and k == self.lane_row:
                size = -(-size // self.block)
            n *= size
        return n

    def nodes(self) -> list[Node]:
        return toposort([e for p in self.phases for e in p.exprs()])

    @cached_property
    def key(self) -> str:
        """A name made of the kernel's structure, the same in every process."""
        import hashlib

        return "k" + hashlib.blake2b(str(self).encode(), digest_size=10).hexdigest()

    def __str__(self) -> str:
        from .text import format_kernel

        return format_kernel(self)


@dataclass(frozen=True)
class Bound:
    """A coordinate of an operand's element, ``offset + sum(b_j * batch_j) + I(i) + K(k)``, and the ``size`` it
    must be below, from 0.  ``outer`` and ``inner`` as of :class:`Operand`."""

    outer: Coef | str
    inner: Coef | str
    size: Slot
    batch: tuple[Coef, ...] = ()
    offset: Coef = 0


MOST_BOUNDS = 3  # of one operand
MOST_COLUMNS = 1 << 14  # elements that a store of one task may fold to


@dataclass(frozen=True)
class Operand:
    """One side of a :class:`Gemm`: element (b.., i, k) of ``param`` at
    ``offset + sum(b_j * batch_j) + I(i) + K(k)``, in elements.

    ``outer`` and ``inner`` say I and K: a :class:`Coef` is a stride (1 is static), a str 'p3' names
    the param that holds an int64 table of offsets.  The element is cast to the Gemm's ``acc`` type.
    Where one of the ``bounds`` does not hold the memory is not touched and the element is 0: padding.
    """

    param: int
    outer: Coef | str
    inner: Coef | str
    batch: tuple[Coef, ...] = ()
    offset: Coef = 0
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True)
class Gemm:
    """``acc[b.., m, n] = sum_k a(b.., m, k) * b(b.., n, k)``, then ``epilogue`` at every (b.., m, n).

    axes: the size slots of the batch axes, then m, n; ``depth`` is the slot of k.  The epilogue is a
    phase with no inner axes whose expressions see ``VALUE 0`` as the sum; its accesses use the axes
    above, so it fuses bias, activation and residual.  Partial sums are added in the order of k, in
    steps that do not depend on threads.

    window: n is (.., i, j) and k is (.., 3, 3), and b at (i, j) and (k, l) depends on i + k and j + l: the slots of the
    sizes of i and j.  A backend may then use Winograd's products, unless they are 0.
    """

    axes: tuple[Slot, ...]
    depth: Slot
    a: Operand
    b: Operand
    acc: DType
    params: tuple[Param, ...]
    scalars: tuple[DType, ...]
    slots: int
    epilogue: Phase
    window: tuple[Slot, Slot] | None = None

    @cached_property
    def key(self) -> str:
        import hashlib

        return "g" + hashlib.blake2b(str(self).encode(), digest_size=10).hexdigest()

    def __str__(self) -> str:
        from .text import format_gemm

        return format_gemm(self)

    def nodes(self) -> list[Node]:
        return toposort(list(self.epilogue.exprs()))
