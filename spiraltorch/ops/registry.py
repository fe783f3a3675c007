"""One record per operator: everything the library says about it is said here.

In: a body, written on nodes with :mod:`spiraltorch.ir.lang`.  Out: an :class:`Op` in ``OPS`` that the
tensor methods, the ``st.*`` and ``nn.functional`` names, the tape, the tests and the docs read.

    @op("lerp", operands=2, where=("", "Tensor"), samples=samples.binary)
    def lerp(input, end, weight):
        '''``input + weight * (end - input)``  (torch.lerp)'''
        return input + weight * (end - input)

The body gets a Node where the caller passed a tensor.  Before it runs, the first ``operands``
arguments are promoted as ``promote`` says, and 16-bit floats are computed in float32.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import FLOAT, DType
from ..errors import DtypeError, ShapeError, SpiralError
from ..ir import lang
from ..ir.node import Node, cast, const

_NUMBERS = (int, float, complex, bool, np.generic)


@dataclass(eq=False)
class Op:
    """An operator's record.

    name: torch's.  body: its meaning on nodes.  promote: 'arith' (common type of the operands), 'float'
    (and integers become the default float), '' (types stay).  acc: compute 16-bit floats in float32; 'double': compute
    them and float32 in float64.  exact: the body for float64 operands, where it needs other steps than one that is rounded.
    row: the scalar row when the body, called with operands alone, is just that row (for the kinds the row has).
    grad: gradient rule ``(g, out, *args) -> one node per tensor argument``; None differentiates the body.  Of complex
    arguments and results a rule sees the conjugates, so that ``g * f'(x)`` is right for them too.
    saves: what backward looks at, of 'i' inputs and 'o' output, or the names of parameters and results (None: found
    from the row, or 'i').  view: function from (shape, args) to movement steps, for operators whose result shares
    memory.  where: namespaces it appears in ('' is ``st``).  inplace: whether ``name_`` exists; 'exact':
    and only for tensors of the result's type.
    samples: calls that tests, docs and fuzzing use, for an element type (see :mod:`.samples`).
    kinds: of the promoted type, what is accepted ('buif'); complex arguments always need 'c'.  tolerance: relative error
    allowed against torch in float32.  differentiable: False where the result is a step function or no function of tensors.
    aliases: torch's other names of it, in the same namespaces and in place too; with a dot, in that namespace alone.
    refuses: names of types that are not accepted although their kind is; or a function of the operands as they were
    passed, which raises.
    numbers: which operands may be Python numbers, 'both', 'second' or 'none' (None: not said).  results: names of the
    results of a call that has several.  fixed: those of them that never require grad.
    typed: the operand of whose type the result is, whatever the type it is computed in, or a function of the operands by name
    that says the type.
    undefined: those of the tensor arguments that have no derivative here and in torch: backward raises where one is wanted.
    out: whether a tensor given as ``out=`` may be of another type than the result
    ('cast') or not ('exact'), or says the type to compute in ('dtype').
    unrounded: 16-bit floats meet a number, or a 0-d tensor as second operand, in float32: it is not rounded to their type.
    fitting: whether numbers beside the first operand that the common type cannot hold are refused.
    pointwise: whether results lie in memory as the tensors they are made of (None: where operands are promoted).
    lies: how results of others lie where that is not row by row: 'input', in the order of the axes of the first tensor; with
    channels last where 'images' or the filter lie so, or the 'sequences', or the 'filter' of sequences alone; by 'columns', as
    LAPACK's matrices, or the names of such results.
    """

    name: str
    body: Callable[..., Any]
    operands: int = 0
    promote: str = ""
    acc: bool | str = True
    exact: Callable[..., Any] | None = None
    row: str | None = None
    grad: Callable[..., Sequence[Node | None]] | None = None
    saves: str | tuple[str, ...] | None = None
    view: Callable[..., Any] | None = None
    where: tuple[str, ...] = ("", "Tensor")
    inplace: bool | str = False
    samples: Callable[[Any], list[Any]] | None = None
    kinds: str = "buif"
    tolerance: float = 1e-5
    differentiable: bool = True
    aliases: tuple[str, ...] = ()
    numbers: str | None = None
    refuses: tuple[str, ...] | Callable[..., None] = ()
    results: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    typed: str | Callable[[dict[str, Any]], DType] = ""
    out: str = "cast"
    torch_name: str | None = None
    doc: str = ""
    unrounded: bool = False
    fitting: bool = False
    pointwise: bool | None = None
    lies: str | tuple[str, ...] = ""
    signature: inspect.Signature = field(init=False)
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.signature = inspect.signature(self.body)
        self.parameters = tuple(self.signature.parameters)
        self.doc = self.doc or inspect.getdoc(self.body) or ""
        if self.pointwise is None:
            self.pointwise = bool(self.operands) and self.view is None

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"

    def apply(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The output node(s) for arguments in which tensors are nodes."""
        try:
            wanted = self._wanted(args, kwargs) if self.typed else None
            if self.promote or callable(self.refuses):
                args, kwargs = self._operands_first(args, kwargs)
                if callable(self.refuses):
                    self.refuses(*args[: self.operands])
                args = promote(self, args) if self.promote else args
            narrow = _narrowest(self, [*args, *kwargs.values()])
            if narrow is None or not self.acc:
                out = (self.exact or self.body)(*args, **kwargs)
                return out if wanted is None else _settled(out, wanted)
            wide = self.wide(narrow)
            out = self.body(*_widen(args, wide), **{k: _widen_one(v, wide) for k, v in kwargs.items()})
            return _narrow(out, wide, narrow) if wanted is None else _settled(out, wanted)
        except ValueError as e:
            if e.args and isinstance(e.args[0], int):
                raise ShapeError(_broadcast_message(args, e.args[0])) from None
            raise

    def wide(self, d: DType) -> DType:
        """The type that a float is computed in."""
        return dtypes.float64 if self.acc == "double" else d.acc

    def _wanted(self, args: Sequence[Any], kwargs: dict[str, Any]) -> DType:
        """The type of the result, where ``typed`` says it."""
        named = dict(zip(self.parameters, args)) | kwargs
        return self.typed(named) if callable(self.typed) else named[self.typed].dtype  # type: ignore[no-any-return]

    def _operands_first(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Operands that were passed by name, put in their place, so that promotion sees them."""
        args, kwargs = list(args), dict(kwargs)
        while len(args) < self.operands and any(p in kwargs for p in self.parameters[len(args) : self.operands]):
            name = self.parameters[len(args)]
            args.append(kwargs.pop(name) if name in kwargs else self.signature.parameters[name].default)
        return args, kwargs

    def gradients(
        self, g: Sequence[Node | None], outs: Sequence[Node], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> list[Node | None]:
        """The explicit rule applied; one entry per tensor argument, of its shape and type.

        The rule sees what the body sees: promoted operands, 16-bit floats in float32.  What it returns is
        summed over the axes that the argument was broadcast along.
        """
        assert self.grad is not None
        before = _named_nodes(self, args, kwargs)
        if self.promote:
            args, kwargs = self._operands_first(args, kwargs)
            args = promote(self, args)
        if self.typed:  # the rule computes in the type that the body computes in
            common = result_type([a for a in args[: self.operands] if isinstance(a, Node)])
            g, outs = [None if n is None else cast(n, common) for n in g], [cast(n, common) for n in outs]
        narrow = _narrowest(self, [*args, *kwargs.values(), *outs])
        if narrow is not None and self.acc:
            wide = self.wide(narrow)
            args, g, outs = _widen(args, wide), _widen(g, wide), _widen(outs, wide)
            kwargs = {k: _widen_one(v, wide) for k, v in kwargs.items()}
        kwargs = {k: kwargs[k] for k in sorted(kwargs, key=self.parameters.index)}
        if any([n.dtype.kind == "c" for n in (*before.values(), *outs)]):
            args, kwargs, outs = _conjugate(args), {k: _conjugate(v) for k, v in kwargs.items()}, _conjugate(outs)
        single = len(outs) == 1
        found = self.grad(g[0] if single else g, outs[0] if single else outs, *args, **kwargs)
        by_name = dict(zip(_named_nodes(self, args, kwargs), found, strict=True))
        out: list[Node | None] = []
        for name, n in before.items():  # a number that became a constant is not in here: it has no gradient
            f = by_name[name]
            keep = f is not None and n.dtype.kind in "fc"
            out.append(cast(lang.unbroadcast(f, n.shape), n.dtype) if keep else None)
        return out


def _settled(out: Node, wanted: DType) -> Node:
    """The result in the type that it is to have.  Raises RuntimeError for one of a lower category."""
    if out.dtype.category > wanted.category:
        raise SpiralError(f"result type {out.dtype.name} can't be cast to the desired output type {wanted.name}")
    return cast(out, wanted)


def _named_nodes(record: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[Any, Node]:
    """The tensor arguments in call order, by parameter name (and position in a list)."""
    names = list(record.parameters)
    out: dict[Any, Node] = {}
    for i, a in [*enumerate(args), *kwargs.items()]:
        name = i if isinstance(i, str) else names[i] if i < len(names) else i
        for k, x in enumerate(a if isinstance(a, (list, tuple)) else [a]):
            if isinstance(x, Node):
                out[name, k] = x
    return out


class Results(tuple[Any, ...]):
    """Several results with names, as torch's return types: ``values, indices = x.max(1)``, ``x.max(1).values``."""

    __slots__ = ()
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = [f"{n}={v!r}" for n, v in zip(self.names, self)]
        return f"torch.return_types.{type(self).__name__}(\n" + ",\n".join(parts) + ")"

    def __reduce__(self) -> Any:
        return _named, (type(self).__name__, self.names, tuple(self))


@functools.cache
def result_class(name: str, names: tuple[str, ...]) -> type[Results]:
    """The class of operator ``name``'s results, made from an iterable of them."""
    members = {n: property(operator.itemgetter(k)) for k, n in enumerate(names)}
    return type(name, (Results,), {"__slots__": (), "names": names, **members})


def _named(name: str, names: tuple[str, ...], values: tuple[Any, ...]) -> Results:
    return result_class(name, names)(values)


OPS: dict[str, Op] = {}


def op(name: str, **fields: Any) -> Callable[[Callable[..., Any]], Op]:
    """Register the decorated body as operator ``name``.  Raises ValueError when the name is taken."""

    def register(body: Callable[..., Any]) -> Op:
        if name in OPS:
            raise ValueError(f"operator {name} is registered already")
        record = Op(name, body, **fields)
        OPS[name] = record
        return record

    return register


def _flat(args: Sequence[Any]) -> list[Any]:
    out: list[Any] = []
    for a in args:
        if isinstance(a, (list, tuple)):
            out.extend(a)
        else:
            out.append(a)
    return out


def _narrowest(record: Op, args: Sequence[Any]) -> DType | None:
    """The first float among the arguments that is not computed in its own type.

    Raises where the record takes no complex numbers.
    """
    found = None
    for a in _flat(args):
        if isinstance(a, Node):
            if a.dtype.kind == "c" and "c" not in record.kinds:
                raise_dtype(record, a.dtype)
            if a.dtype.kind == "f" and found is None and record.wide(a.dtype) is not a.dtype:
                found = a.dtype
    return found


def _widen_one(a: Any, wide: DType) -> Any:
    if isinstance(a, Node):
        return cast(a, wide) if a.dtype.kind == "f" and a.dtype.itemsize < wide.itemsize else a
    if isinstance(a, (list, tuple)) and any(isinstance(x, Node) for x in a):
        return [_widen_one(x, wide) for x in a]
    return a


def _conjugate(a: Any) -> Any:
    """What a gradient rule, written for real numbers, looks at where its operator is analytic: conjugates."""
    if isinstance(a, Node):
        return lang.conj(a)
    if isinstance(a, complex):
        return a.conjugate()
    if isinstance(a, (list, tuple)):
        return [_conjugate(x) for x in a]
    return a


def _widen(args: Sequence[Any], wide: DType) -> list[Any]:
    return [_widen_one(a, wide) for a in args]


def _narrow(out: Any, wide: DType, narrow: DType) -> Any:
    if isinstance(out, (list, tuple)):
        return type(out)([_narrow(o, wide, narrow) for o in out])
    return cast(out, narrow) if out.dtype is wide else out


def result_type(operands: Sequence[Any]) -> DType:
    """torch.result_type over nodes (or anything with shape and dtype) and Python numbers.

    Tensors with dimensions decide; 0-d tensors count only with a higher category, numbers only with a
    category above both.
    """
    best: list[DType | None] = [None, None, None]  # with dimensions, 0-d, numbers
    for a in operands:
        if isinstance(a, _NUMBERS):
            k, d = 2, dtypes.of_python(a)
        else:
            k, d = (0 if a.shape else 1), a.dtype
        seen = best[k]
        best[k] = d if seen is None else dtypes.promote_types(seen, d)
    dim, zero, number = best
    result = _beside(dim, _beside(zero, number))
    assert result is not None
    return result


def _beside(high: DType | None, low: DType | None) -> DType | None:
    """``high``, unless ``low`` is of a higher category: of ``low`` only the category counts."""
    if high is None or low is None:
        return low if high is None else high
    if low.category <= high.category:
        return high
    if high.category == FLOAT:
        return dtypes.complex128 if high is dtypes.float64 else dtypes.complex64
    return dtypes.promote_types(high, low) if high is dtypes.bool_ else low


def promote(record: Op, args: Sequence[Any]) -> list[Any]:
    """``args`` with the operands converted to their common type; numbers become constants."""
    k = record.operands
    operands = args[:k]
    common = result_type([a for a in operands if a is not None])
    if record.promote == "float" and common.category < FLOAT:
        common = dtypes.get_default_dtype()
    if common.kind not in record.kinds or (isinstance(record.refuses, tuple) and common.name in record.refuses):
        raise_dtype(record, common)
    narrow = record.unrounded and common.acc is not common
    out: list[Any] = []
    for i, a in enumerate(operands):
        scalar = not isinstance(a, Node) or (i and not a.shape)
        d = common.acc if narrow and scalar and (i or record.acc) else common
        if a is None:
            out.append(None)
        elif isinstance(a, Node):
            out.append(cast(a, d))
        else:
            out.append(const(dtypes.fitting(a, d) if record.fitting and i else a, d, static=False))
    out.extend(args[k:])
    return out


def raise_dtype(record: Op, d: DType) -> None:
    """Refuse ``d`` with torch's class and wording."""
    hint = "take x.real, x.imag or x.abs()" if d.is_complex else "convert first, e.g. x.float()"
    raise DtypeError(f'"{record.name}" not implemented for {d.name!r}; {hint}')


def of_one_type(first: Node, *others: Node | None) -> None:
    """Raise RuntimeError unless the others have the first one's type."""
    for t in others:
        if t is not None and t.dtype is not first.dtype:
            raise SpiralError(f"expected scalar type {first.dtype.name} but found {t.dtype.name}")


def no_bools(*operands: Node | None) -> None:
    """Raise RuntimeError where a difference would be taken of bools."""
    if any([t is not None and t.dtype is dtypes.bool_ for t in operands]):
        raise SpiralError("Subtraction, the `-` operator, with a bool tensor is not supported; use ^ or logical_xor()")


def _broadcast_message(args: Sequence[Any], axis: int) -> str:
    shapes = [a.shape for a in _flat(args) if isinstance(a, Node) and a.shape]
    rank = max(map(len, shapes))
    for i, first in enumerate(shapes):
        for second in shapes[i + 1 :]:
            for ax in range(rank):
                p = first[ax - rank + len(first)] if ax - rank + len(first) >= 0 else 1
                q = second[ax - rank + len(second)] if ax - rank + len(second) >= 0 else 1
                if p != q and 1 not in (p, q):
                    return (
                        f"The size of tensor a ({p}) must match the size of tensor b ({q}) at non-singleton "
                        f"dimension {ax}; the shapes are {list(first)} and {list(second)}"
                    )
    return f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast (dimension {axis})"


def wrap_dim(dim: int, rank: int) -> int:
    """``dim`` counted from the front.  Raises IndexError in torch's words when out of range."""
    limit = max(rank, 1)
    if not -limit <= dim < limit:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})")
    return dim % limit


def wrap_dims(dim: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted axes; None or () is all of them.  Raises RuntimeError when one appears twice."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(rank))
    dims = [wrap_dim(d, rank) for d in ((dim,) if isinstance(dim, int) else dim)]
    if len(set(dims)) != len(dims):
        raise ShapeError(f"dim {dims} appears multiple times in the list of dims")
    return tuple(sorted(dims)) if rank else ()


__all__ = [
    "OPS", "Op", "lang", "no_bools", "of_one_type", "op", "promote", "raise_dtype", "result_class", "result_type", "wrap_dim",
    "wrap_dims",
]  # fmt: skip
