"""A program: a list of operator calls on earlier values, drawn by Hypothesis.

Every call is one of an operator's samples in which a tensor is either the sample's own array (a new input of the
program) or an earlier value of the same rank and kind, so programs grow with the registry.  torch runs each
call while the program is drawn: what torch refuses is left out, so what is left must work.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch
from hypothesis import strategies

from spiraltorch import dtypes
from spiraltorch.dtypes import DType
from spiraltorch.ops.registry import OPS, Op

DTYPES = (dtypes.float32, dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int64)
MOST_ELEMENTS = 1 << 14
UNFIT = frozenset((
    "dropout", "rand", "randn", "uniform", "normal", "randint", "bernoulli", "randperm",  # random
    "svd", "linalg_svd", "linalg_eigh", "linalg_eig",  # vectors are defined up to a factor
    "lu_unpack",  # torch writes past its memory when there are more batches of pivots than of matrices
    "as_strided_scatter",  # torch passes its gradient where the part was replaced
))  # fmt: skip
# The sign of a nan is nobody's: IEEE 754 leaves it open and compilers change it; a determinant's comes of the pivots.
SIGN_READERS = frozenset(("signbit", "copysign", "slogdet", "linalg_slogdet"))
TORCH = {d: getattr(torch, d.name) for d in dtypes.ALL}


@dataclass(frozen=True)
class Ref:
    """Stands in a call's arguments for value number ``index``."""

    index: int

    def __repr__(self) -> str:
        return f"v{self.index}"


@dataclass(frozen=True)
class Call:
    """outs: the numbers of the results.  writes: whether it is the operator's in-place method, on the first argument."""

    op: Op
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: tuple[int, ...]
    writes: bool = False
    listed: bool = False  # one result, in a tuple

    def __str__(self) -> str:
        given = [spelled(a) for a in self.args] + [f"{k}={spelled(v)}" for k, v in self.kwargs.items()]
        name = f"m.Tensor.{self.op.name}_" if self.writes else where(self.op)
        outs = ", ".join(f"v{k}" for k in self.outs)
        return f"{outs}{',' if self.listed else ''} = {name}({', '.join(given)})"


@dataclass
class Program:
    """inputs: arrays by value number.  results: the values to compare, those that nothing uses and some others.

    As text it is Python for either library ``m``.
    """

    inputs: dict[int, np.ndarray] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    count: int = 0
    results: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = [f"v{k} = {literal(a)}" for k, a in self.inputs.items()]
        return "\n".join([*lines, *map(str, self.calls), "return " + "".join(f"v{k}, " for k in self.results).rstrip()])

    def new(self) -> int:
        self.count += 1
        return self.count - 1


def literal(a: np.ndarray) -> str:
    numbers = a.astype(np.float64) if a.dtype == ml_dtypes.bfloat16 else a
    if a.flags.c_contiguous:
        return f"m.tensor({numbers.tolist()}, dtype=m.{a.dtype.name})"
    order = list(np.argsort([-s for s in a.strides], kind="stable"))
    back = tuple([order.index(i) for i in range(a.ndim)])
    return f"m.tensor({numbers.transpose(order).tolist()}, dtype=m.{a.dtype.name}).permute({back})"


def spelled(a: Any) -> str:
    """An argument as Python text."""
    if isinstance(a, DType):
        return f"m.{a.name}"
    if isinstance(a, (list, tuple)):
        inner = ", ".join(map(spelled, a))
        return f"[{inner}]" if isinstance(a, list) else f"({inner}{',' if len(a) == 1 else ''})"
    return repr(a)


def where(op: Op) -> str:
    """The operator's full name, in which ``m`` is either library."""
    name = op.torch_name or op.name
    if op.where == ("special",):
        return f"m.special.{name}"
    if "" in op.where and hasattr(torch, name):
        return f"m.{name}"
    return f"m.nn.functional.{name}" if "nn.functional" in op.where else f"m.Tensor.{name}"


def torch_function(op: Op) -> Any:
    found: Any = torch
    for part in where(op).split(".")[1:]:
        found = getattr(found, part)
    return found


def fill(template: Any, values: Any) -> Any:
    """``template`` with values in place of its references."""
    if isinstance(template, Ref):
        return values[template.index]
    if isinstance(template, DType):
        return values.dtype(template) if hasattr(values, "dtype") else template
    if isinstance(template, (list, tuple)):
        return type(template)([fill(t, values) for t in template])
    return template


def to_torch(a: np.ndarray) -> torch.Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(a.copy(order="K"))


class TorchValues(dict[int, torch.Tensor]):
    """Values by number; element types are torch's."""

    def dtype(self, d: DType) -> torch.dtype:
        return TORCH[d]


@functools.cache
def samples(dtype: DType) -> list[tuple[Op, tuple[Any, ...], dict[str, Any]]]:
    """Every (op, args, kwargs) with at least one array that users can call with ``dtype``."""
    found = []
    for op in OPS.values():
        if not op.where or op.name in UNFIT or op.samples is None or dtype.kind not in op.kinds:
            continue
        for s in op.samples(dtype):
            arrays = _arrays([*s.args, *s.kwargs.values()])
            if arrays and sum(a.size for a in arrays) <= 1024:
                found.append((op, s.args, s.kwargs))
    return found


def _arrays(values: Sequence[Any]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for v in values:
        if isinstance(v, np.ndarray):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            found += _arrays(v)
    return found


def turned(a: np.ndarray, how: int) -> np.ndarray:
    """The same numbers, now and then in memory by columns or with the first axis, or the second, as the fastest."""
    if a.ndim < 2 or how > 2:
        return a
    order = [range(a.ndim)[::-1], [*range(1, a.ndim), 0], [0, *range(2, a.ndim), 1]][how]
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


class _Drawing:
    """A program while it is drawn, with torch's values."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.program = Program()
        self.values = TorchValues()

    def operand(self, a: Any, new: dict[int, np.ndarray]) -> Any:
        if isinstance(a, np.ndarray):
            t = to_torch(a)
            fits = [k for k, v in self.values.items() if v.ndim == t.ndim and v.dtype == t.dtype]
            pick = self.draw(strategies.integers(0, len(fits)))
            if pick:
                return Ref(fits[-pick])  # the latest first, so that chains are long
            k = self.program.count + len(new)
            new[k] = turned(a, self.draw(strategies.integers(0, 8)))
            return Ref(k)
        if isinstance(a, (list, tuple)):
            return type(a)([self.operand(x, new) for x in a])
        return a

    def step(self, dtype: DType) -> None:
        table = samples(dtype)
        op, args, kwargs = table[self.draw(strategies.integers(0, len(table) - 1))]
        new: dict[int, np.ndarray] = {}
        args = tuple([self.operand(a, new) for a in args])
        kwargs = {k: self.operand(a, new) for k, a in kwargs.items()}
        values = TorchValues({**self.values, **{k: to_torch(a) for k, a in new.items()}})
        writes = can_write(op, args) and self.draw(strategies.integers(0, 3)) == 3
        if undefined(op, args, kwargs, values, writes):
            return
        outs, listed = torch_outs(op, args, kwargs, values, writes)
        if outs is None or not all(0 < o.numel() <= MOST_ELEMENTS for o in outs):
            return
        p = self.program
        p.inputs.update(new)
        p.count += len(new)
        numbers = tuple([p.new() for _ in outs])
        p.calls.append(Call(op, args, kwargs, numbers, writes, listed))
        self.values = values
        self.values.update(zip(numbers, outs))


def undefined(op: Op, args: Any, kwargs: Any, values: TorchValues, writes: bool) -> bool:
    """Whether the call's results, or their gradients, are nobody's to say, or torch's own are wrong."""
    given = [values[k] for k in refs([*args, *kwargs.values()])]
    if op.name in SIGN_READERS and any(t.isnan().any() for t in given):
        return True
    if writes and overlaps_itself(given[0]):
        return True  # the order of writes
    if writes and op.name == "masked_scatter" and given[0].untyped_storage().data_ptr() == given[-1].untyped_storage().data_ptr():
        return True  # what is read may have been written
    if op.name == "corrcoef" and given[0].dim() == 2 and given[0].numel():  # of equal numbers: the rounding of their mean
        return bool((given[0].amax(1) == given[0].amin(1)).any())
    if op.name in ("lu", "linalg_lu", "linalg_lu_factor") and not given[0].isfinite().all():  # which row a nan is the pivot of
        return True
    if op.name in ("qr", "linalg_qr"):  # the gradient divides by R
        return not given[0].isfinite().all() or bool((torch.linalg.matrix_rank(given[0].double()) < min(given[0].shape[-2:])).any())
    if op.name == "interpolate" and kwargs.get("antialias"):  # of a result one wide torch repeats the first row
        outs = run_torch(op, args, kwargs, values)
        return outs is None or outs[0].shape[-1] == 1
    return False


def overlaps_itself(t: torch.Tensor) -> bool:
    """Whether two elements lie in one place, as ``as_strided`` makes them."""
    places = np.zeros(1, np.int64)
    for n, stride in zip(t.shape, t.stride()):
        places = (places[:, None] + np.arange(n) * stride).reshape(-1)
    return len(np.unique(places)) < t.numel()


def can_write(op: Op, args: tuple[Any, ...]) -> bool:
    """Whether torch has the operator's in-place method for a call with these arguments."""
    return bool(op.inplace) and bool(args) and isinstance(args[0], Ref) and hasattr(torch.Tensor, op.name + "_")


def run_torch(op: Op, args: Any, kwargs: Any, values: TorchValues, writes: bool = False) -> list[torch.Tensor] | None:
    """torch's results, or None where torch refuses."""
    return torch_outs(op, args, kwargs, values, writes)[0]


def torch_outs(op: Op, args: Any, kwargs: Any, values: TorchValues, writes: bool) -> tuple[list[torch.Tensor] | None, bool]:
    """torch's results, or None where torch refuses; and whether one came in a tuple."""
    try:
        function = getattr(torch.Tensor, op.name + "_") if writes else torch_function(op)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = function(*fill(args, values), **{k: fill(v, values) for k, v in kwargs.items()})
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError, AttributeError):
        return None, False
    several = isinstance(out, (list, tuple))
    outs = list(out) if several else [out]
    fits = all(isinstance(o, torch.Tensor) and not o.is_complex() for o in outs)
    return outs if fits else None, several and len(outs) == 1


@strategies.composite
def programs(draw: Any) -> Program:
    """Programs of 5 to 30 calls (fewer where torch refuses some)."""
    d = _Drawing(draw)
    dtype = draw(strategies.sampled_from(DTYPES))
    for _ in range(draw(strategies.integers(5, 30))):
        d.step(dtype)
    p = d.program
    used = {k for c in p.calls for k in refs([*c.args, *c.kwargs.values()])}
    made = [k for c in p.calls for k in c.outs]
    p.results = tuple([k for k in made if k not in used or draw(strategies.integers(0, 4)) == 4])
    return p


def refs(values: Sequence[Any]) -> list[int]:
    found: list[int] = []
    for v in values:
        if isinstance(v, Ref):
            found.append(v.index)
        elif isinstance(v, (list, tuple)):
            found += refs(v)
    return found


def without(p: Program, k: int) -> Program | None:
    """``p`` less call ``k``, or None where a later call reads its result."""
    calls = p.calls[:k] + p.calls[k + 1 :]
    used = {i for c in calls for i in refs([*c.args, *c.kwargs.values()])}
    if used & set(p.calls[k].outs):
        return None
    made = {i for c in calls for i in c.outs}
    inputs = {i: a for i, a in p.inputs.items() if i in used}
    results = tuple([i for i in p.results if i in made] or [i for c in calls[-1:] for i in c.outs])
    return Program(inputs, calls, p.count, results)
