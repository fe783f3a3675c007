"""Run a program in every way and say what differs.

* each call alone, on torch's own operands in the same memory: value, type, shape, gradient, which results are views
  of what and how they lie, and what a write changes, against torch (one call's rounding, no drift);
* the whole program lazily, one operation at a time, compiled (first call and replay), on one thread, and on two in the
  smallest tasks: equal bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

import spiraltorch as st
from spiraltorch.dtypes import DType
from spiraltorch.runtime.tuning import Choice, using

from .oracles import truth
from .programs import Call, Program, TorchValues, fill, refs, run_torch, to_torch

# Differences that are meant: (kind, operator): what every element of the finding matches, and why.  Where torch is the one
# that is wrong, an oracle says so (oracles.py): the polynomials give what was never written for nan and nan for infinities,
# airy_ai is off by 3e-5 below -2, some Bessel functions by more than their type's rounding.
ACCEPTED = {
    ("value", "pow"): (
        r"^0.0 instead of nan",
        "torch computes x ** -0.5 as rsqrt, which gives nan for -inf; IEEE 754 says 0",
    ),
    **{("gradient", name): (r"instead of -?0.0 at", "for nan torch's vector code gives 0 and its scalar code the whole")
       for name in ("softshrink", "hardshrink", "hardtanh", "relu6")},
    ("gradient", "hardswish"): (r"nan instead of", "for nan torch's vector code gives nan and its scalar code a part"),
    **{("gradient", name): (r"instead of nan", "for nan torch's vector code gives nan and its scalar code the whole")
       for name in ("elu", "selu")},
    ("gradient", "nanmean"): (r"instead of nan", "of nothing but nan: torch multiplies the infinity of g / 0 by 0"),
    ("gradient", "norm"): (r"0.0 instead of nan", "at an element 0 where the norm is nan, torch multiplies 0 by nan"),
    ("gradient", "hardsigmoid"): (r": (-?\d+\.\d{6})\d* instead of \1", "torch's float64 multiplies by a float32 constant"),
    ("gradient", "celu"): (
        r": (-?\d+\.\d{6})\d* instead of \1|nan instead of", "as hardsigmoid; for nan torch's vector code gives nan alone"),
    ("gradient", "pow"): (r"-?inf instead of nan", "a sum of float16 over a broadcast axis, of which torch rounds each part first"),
    **{("gradient", name): (r"instead of nan", "the slope of |nan| is 0, as abs has it in torch too; its kernels of distances give nan")
       for name in ("pdist", "cdist", "dist")},
    ("gradient", "cumprod"): (r"nan instead of", "the product of a 0 and an infinity further on, which torch's rule for zeros leaves out"),
    ("write", "pow"): (r"0.0 instead of nan", "as its value"),
    ("strides", "ldexp"): (r"", "as pow, which torch composes it of"),
    ("gradient", "logit"): (r"^at v\d+: nan instead of 0.0", "for nan torch's vector code gives 0 and its scalar code nan"),
    ("gradient", "erfcx"): (
        r"nan instead of inf|0.0 instead of nan", "2 x overflows at the largest numbers, where torch keeps inf; at inf the slope is 0"),
    **{("value", name): (r"inf instead of nan", "of float16 torch's mean of an infinity and a number is nan")
       for name in ("std_mean", "var_mean")},
    ("refusal", "addbmm"): (r"doesn't match the broadcast shape", "in place, torch gives the input another shape"),
    ("gradient", "prod"): (r"instead of nan", "of one element the gradient is as it comes; torch divides nan by nan"),
    ("gradient", "cosine_similarity"): (r"inf instead of nan", "of nothing: float16 rounds the least length to 0 in torch"),
    ("gradient", "scatter_reduce"): (r"0.0 instead of nan", "as index_reduce"),
    ("gradient", "lgamma"): (r": -?\d{9,}\.\d* instead of -?\d{9,}", "beside a pole torch's tangent of pi x is off"),
    ("refusal", "lu_unpack"): (r"row exchanges for", "torch reads beyond the rows"),
    ("refusal", "scaled_dot_product_attention"): (r"key and value in positions", "torch reads beyond values that are fewer than the keys"),
    **{("value", name): (r"nan instead of|\d.0 instead of nan", "torch's largest difference passes over nan, its number of them does not")
       for name in ("cdist", "pdist")},
    ("value", "trapezoid"): (r"^0.0 instead of nan", "one place has no area; torch subtracts a nan from itself"),
    ("gradient", "addcdiv"): (r"-?inf instead of nan", "torch squares a divisor, and divides infinity by it"),
    ("gradient", "kl_div"): (r"^at v\d+: .* instead of nan", "at a target of 0 or below torch multiplies by its logarithm"),
    ("gradient", "polygamma"): (r"inf instead of -?\d|0.0 instead of nan", "the slope at a pole or at infinity, where torch cancels"),
    ("gradient", "index_reduce"): (r"0.0 instead of nan", "at an element that is not included, torch multiplies 0 by a share of nan"),
    ("gradient", "renorm"): (r"^at v\d+: nan instead of", "torch passes on what comes to a slice whose norm is nan"),
    ("value", "polygamma"): (r"inf instead of -?\d|0.0 instead of nan", "the value at a pole, for which torch has a large number"),
    ("refusal", "gradient"): (r"places for an axis", "with more places than elements torch's result is longer than the axis"),
    ("view", "einsum"): (r"shares memory with \[\]", "where axes of one operand only move, torch's result is a view; here it is a copy"),
    ("strides", "pow"): (r"", "the result of number ** tensor is row-major in torch, whatever the tensor"),
    ("value", "zeta"): (r"^0.0 instead of nan", "the sum of (q + k) ** -inf for q above 1, which is 0"),
    ("gradient", "zeta"): (r"instead of nan", "torch multiplies infinity by 0"),
    ("gradient", "digamma"): (r"inf instead of -?\d", "the slope at a pole, for which torch has a large number"),
    ("gradient", "copysign"): (r"instead of nan", "torch divides the result by the input, both infinite"),
    ("gradient", "gaussian_nll_loss"): (r"inf instead of nan", "torch's float16 squares eps to 0 and divides by it"),
    ("gradient", "poisson_nll_loss"): (r"instead of nan", "torch multiplies the nan of a logarithm that is masked by 0"),
    ("gradient", "logcumsumexp"): (r"0.0 instead of nan", "torch subtracts infinities; the slope of an exponential at -inf is 0"),
    **{("gradient", name): (r"instead of nan", "torch finds no element equal to nan, and shares by their number")
       for name in ("amax", "amin", "aminmax")},
    **{("gradient", name): (r"^at v\d+: nan instead of", "torch gives the slope at 0 for nan") for name in ("i1", "i1e")},
    **{
        ("value", name): (r"^\d+ instead of \d+ at", "of equal elements torch takes any; here it is the first in order")
        for name in ("kthvalue", "nanmedian", "topk")
    },
    ("gradient", "logdet"): (r": (nan|-?inf) instead of (nan|-?inf)", "of a singular matrix, whose logarithm is -inf"),
    ("value", "mode"): (r"instead of nan at|^\d+ instead of \d+ at", "torch sorts by < and leaves nan where it happens to be"),
}
CHOOSING = frozenset((
    "aminmax", "cummax", "cummin", "kthvalue", "max", "median", "min", "mode", "msort", "nanmedian", "nanquantile", "quantile",
    "sort", "topk",
))  # fmt: skip
PIECES = Choice(
    block_rows=16, block_bytes=512, serial_products=0, split_products=1 << 10, serial_elements=0, chunk_elements=1
)  # fmt: skip
RELATIVE = {"float64": 1e-9, "float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Finding:
    """kind: 'value', 'dtype', 'shape', 'gradient', 'view', 'strides', 'refusal' (an error where torch has none) or 'bits'."""

    kind: str
    where: str
    text: str
    each: tuple[str, ...] = ()  # of every element that differs

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}: {self.text}"


def accepted(f: Finding) -> bool:
    pattern, _ = ACCEPTED.get((f.kind, f.where), (None, ""))
    return pattern is not None and all([re.search(pattern, text) for text in f.each or (f.text,)])


def function(call: Call) -> Callable[..., Any]:
    """The call's operator as users reach it."""
    op = call.op
    if call.writes:
        return getattr(st.Tensor, op.name + "_")  # type: ignore[no-any-return]
    if op.where == ("special",):
        return getattr(st.special, op.name)  # type: ignore[no-any-return]
    if "" in op.where:
        return getattr(st, op.name)  # type: ignore[no-any-return]
    return getattr(st.nn.functional if "nn.functional" in op.where else st.Tensor, op.name)  # type: ignore[no-any-return]


def apply(call: Call, values: dict[int, Any]) -> list[Any]:
    out = function(call)(*fill(call.args, values), **{k: fill(v, values) for k, v in call.kwargs.items()})
    return list(out) if isinstance(out, (list, tuple)) else [out]


def evaluate(p: Program, inputs: dict[int, Any], look: bool = False) -> list[Any]:
    """The program's results; with ``look`` every value is computed before the next call."""
    values = dict(inputs)
    for call in p.calls:
        outs = apply(call, values)
        if len(outs) != len(call.outs):
            raise ValueError(f"{call} has {len(outs)} results, torch has {len(call.outs)}")
        if look:
            for o in outs:
                o.numpy(force=True)
        values.update(zip(call.outs, outs))
    return [values[k] for k in p.results]


def ours(a: np.ndarray) -> Any:
    return st.from_numpy(a.copy(order="K"))


def differences(p: Program) -> list[Finding]:
    """Everything that differs; empty for a program that is computed right."""
    try:
        return _against_torch(p) or _between_modes(p)
    except Refused:
        return []


class Refused(Exception):
    """The program has a call that is refused where torch has a meaning for it."""


# -- each call against torch ------------------------------------------------------------------------------


def _against_torch(p: Program) -> list[Finding]:
    values = TorchValues({k: to_torch(a) for k, a in p.inputs.items()})
    for call in p.calls:
        given = mirrored(values)
        exact = run_torch(call.op, call.args, call.kwargs, _wide(values), call.writes)
        slope = None if call.writes else gradient_difference(call, values)
        want = run_torch(call.op, call.args, call.kwargs, values, call.writes)
        assert want is not None
        try:
            results = apply(call, given)
            got = [o.numpy(force=True) for o in results]
        except Exception as e:
            refusal = Finding("refusal", call.op.name, f"{type(e).__name__}: {e}")
            if accepted(refusal):
                raise Refused from None
            return [refusal]
        for k, (g, w) in enumerate(zip(got, want)):
            found = compare(g, from_torch(w), from_torch(exact[k]) if exact is not None else None, call, values, truth)
            if found is not None and not accepted(found):
                return [found]
        for found in (slope, _memory(call, given, values, results, want), _written(call, given, values)):
            if found is not None and not accepted(found):
                return [found]
        values.update(zip(call.outs, want))
    return []


def mirrored(values: TorchValues) -> dict[int, Any]:
    """The same values as our tensors, views of each other as torch's are."""
    bases: dict[Any, Any] = {}
    found = {}
    for k, v in values.items():
        memory = v.untyped_storage()
        key = memory.data_ptr(), v.dtype  # seen as numbers of another type it is memory of its own
        if key not in bases:
            count = memory.nbytes() // v.element_size()
            bases[key] = ours(from_torch(torch.as_strided(v.detach(), (count,), (1,), 0)))
        found[k] = bases[key].as_strided(tuple(v.shape), v.stride(), v.storage_offset())
    return found


def _memory(call: Call, given: dict[int, Any], values: TorchValues, got: list[Any], want: list[torch.Tensor]) -> Finding | None:
    """Which values the results share memory with, and how views lie."""
    used = refs([*call.args, *call.kwargs.values()])
    for k, (g, w) in enumerate(zip(got, want)):
        mine = [i for i in used if given[i]._storage is g._storage]
        theirs = [i for i in used if values[i].untyped_storage().data_ptr() == w.untyped_storage().data_ptr()]
        if mine != theirs:
            return Finding("view", call.op.name, f"result {k} shares memory with {mine} instead of {theirs}")
        strides = [tuple([s for n, s in zip(t.shape, t.stride()) if n > 1]) for t in (g, w)]
        if call.op.pointwise and strides[0] != strides[1]:
            return Finding("strides", call.op.name, f"{g.stride()} instead of {w.stride()}")
        if mine and (strides[0] != strides[1] or g.storage_offset() != w.storage_offset()):
            return Finding("view", call.op.name, f"strides {g.stride()} instead of {w.stride()}, offset {g.storage_offset()} "
                                                 f"instead of {w.storage_offset()}")  # fmt: skip
    return None


def _written(call: Call, given: dict[int, Any], values: TorchValues) -> Finding | None:
    """Whether every value is what it is in torch after a write (a rounding apart where it was written)."""
    if not call.writes:
        return None
    target = values[call.args[0].index]
    for k, v in values.items():
        if v.dtype != target.dtype:
            continue
        found = compare(given[k].numpy(force=True), from_torch(v), None, call, values)
        if found is not None:
            return Finding("write", call.op.name, f"v{k}: {found.text}", found.each)
    return None


def from_torch(t: torch.Tensor) -> np.ndarray:
    t = t.detach()
    return t.float().numpy().astype(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else np.array(t.numpy(force=True))


def _wide(values: TorchValues) -> TorchValues:
    """Copies, of floats in float64."""
    return TorchValues({k: v.detach().double().clone() if v.is_floating_point() else v.clone() for k, v in values.items()})


def gradient_difference(call: Call, values: TorchValues) -> Finding | None:
    """How the gradients at the call's floats differ from torch's, for cotangents that a generator gives."""
    used = sorted(set(refs([*call.args, *call.kwargs.values()])))
    floats = [k for k in used if values[k].is_floating_point()]
    if call.op.name in CHOOSING and any(len(np.unique(from_torch(values[k].float()))) < values[k].numel() for k in floats):
        return None  # the gradient goes to the one of equal elements that was chosen
    found = _torch_gradients(call, values, used, floats)
    if found is None:
        return None
    want, cotangents = found
    wide = _torch_gradients(call, _wide(values), used, floats)
    mine = {k: ours(from_torch(values[k])) for k in used}
    for k in floats:
        mine[k].requires_grad_()
    try:
        outs = [(o, ours(c)) for o, c in zip(apply(call, mine), cotangents) if c is not None]
        if not all(o.requires_grad for o, _ in outs):
            return Finding("gradient", call.op.name, "the result does not require grad")
        got = st.autograd.grad([o for o, _ in outs], [mine[k] for k in floats], [c for _, c in outs], allow_unused=True)
    except Exception as e:
        return Finding("gradient", call.op.name, f"{type(e).__name__}: {e}")
    for i, k in enumerate(floats):
        zeros = np.zeros(tuple(values[k].shape), from_torch(values[k]).dtype)
        g, w = (zeros if t is None else t for t in (None if got[i] is None else got[i].numpy(), want[i]))
        exact = None if wide is None or wide[0][i] is None else wide[0][i]
        differs = compare(g, w, exact, call, values, slopes=True)
        if differs is not None:
            return Finding("gradient", call.op.name, f"at v{k}: {differs.text}", tuple([f"at v{k}: {e}" for e in differs.each]))
    return None


def _torch_gradients(call: Call, values: TorchValues, used: list[int], floats: list[int]) -> Any:
    """(gradients, cotangents) as arrays, None for what has none; None where nothing has."""
    leaves = TorchValues({k: values[k].detach().clone().requires_grad_(k in floats) for k in used})
    outs = run_torch(call.op, call.args, call.kwargs, leaves)
    if outs is None or not any(o.requires_grad for o in outs):
        return None
    rng = np.random.default_rng(7)
    draws = [torch.from_numpy(np.asarray(rng.normal(size=tuple(o.shape)))).to(o.dtype) if o.requires_grad else None for o in outs]
    live = [(o, d) for o, d in zip(outs, draws) if d is not None]
    try:
        found = torch.autograd.grad([o for o, _ in live], [leaves[k] for k in floats], [d for _, d in live], allow_unused=True)
    except RuntimeError:
        return None
    return [None if g is None else from_torch(g) for g in found], [None if d is None else from_torch(d) for d in draws]


def compare(
    got: np.ndarray, want: np.ndarray, exact: np.ndarray | None, call: Call, values: TorchValues,
    oracle: Callable[[Call, TorchValues], np.ndarray | None] | None = None, slopes: bool = False,
) -> Finding | None:  # fmt: skip
    """None, or how ``got`` differs from torch's ``want``; ``exact`` is torch's result in float64, and ``oracle`` knows better.

    An error up to four times torch's own is allowed, and one that is small beside the result or the operands.  Whether a
    slope at infinities is infinite or nan (``slopes``) is how a chain rule's products are ordered, and nobody's to say.
    """
    name = call.op.name
    if got.dtype != want.dtype:
        return Finding("dtype", name, f"{got.dtype} instead of {want.dtype}")
    if got.shape != want.shape:
        return Finding("shape", name, f"{list(got.shape)} instead of {list(want.shape)}")
    if want.dtype.kind in "iub":
        wrong = got != want
        return _differing(name, got, want, wrong) if wrong.any() else None
    computed = [v.name for v in call.kwargs.values() if isinstance(v, DType)]  # dtype=float32 of float64 operands
    relative = max([RELATIVE.get(d, 1e-5) for d in (want.dtype.name, *computed)])
    if want.dtype == np.float32:
        relative = max(relative, call.op.tolerance)
    g, w = got.astype(np.float64), want.astype(np.float64)
    e = w if exact is None or exact.shape != want.shape else exact.astype(np.float64)
    finite = np.isfinite(w) & np.isfinite(g) & np.isfinite(e)
    scale = max(
        [_largest(w), *[_largest(from_torch(v).astype(np.float64)) for v in values.values() if v.is_floating_point()]]
    )
    with np.errstate(all="ignore"):
        slack = 4 * np.where(finite, np.abs(w - e), 0).max(initial=0)
        near = np.abs(g - e) <= slack + relative * (np.abs(e) + scale)
        most = float(ml_dtypes.finfo(want.dtype).max)
        edge = np.isinf(w) != np.isinf(g)  # one of them rounded just over the largest number
        near |= edge & (np.where(np.isinf(w), np.abs(g), np.abs(w)) > 0.9 * most)
    # Where torch's vector code gives nan, its float64 may know better.
    same = np.where(finite, near, _alike(g, w) | _alike(g, e) | near)
    if slopes and not all([values[k].isfinite().all() for k in refs([*call.args, *call.kwargs.values()])]):
        same |= edge & (np.isnan(w) | np.isnan(g))
    right = None if same.all() or oracle is None else oracle(call, values)
    if right is not None and right.shape == want.shape:
        with np.errstate(all="ignore"):
            rounded = right.astype(want.dtype).astype(np.float64)
            same |= _alike(g, rounded) | (np.abs(g - rounded) <= relative * np.abs(rounded) + float(ml_dtypes.finfo(want.dtype).tiny))
    return None if same.all() else _differing(name, got, want, ~same)


def _differing(name: str, got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> Finding:
    each = [f"{got[at]} instead of {want[at]} at {list(at)}" for at in map(tuple, np.argwhere(wrong).tolist())]
    return Finding("value", name, f"{each[0]}, {len(each)} of {wrong.size} differ", tuple(each))


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _largest(a: np.ndarray) -> float:
    finite = np.abs(a[np.isfinite(a)])
    return float(finite.max(initial=0))


def _example(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{got[at]} instead of {want[at]} at {list(at)}, {int(wrong.sum())} of {wrong.size} differ"


# -- one mode against another ---------------------------------------------------------------------------


def _between_modes(p: Program) -> list[Finding]:
    order = list(p.inputs)
    first = _bits(evaluate(p, {k: ours(a) for k, a in p.inputs.items()}))
    compiled = st.compile(lambda *given: evaluate(p, dict(zip(order, given))))
    in_pieces = st.compile(lambda *given: evaluate(p, dict(zip(order, given))))
    modes: dict[str, Callable[[], list[Any]]] = {
        "one operation at a time": lambda: evaluate(p, {k: ours(a) for k, a in p.inputs.items()}, look=True),
        "compiled": lambda: compiled(*[ours(a) for a in p.inputs.values()]),
        "replayed": lambda: compiled(*[ours(a) for a in p.inputs.values()]),
        "one thread": lambda: _on_threads(1, compiled, p),
        "two threads": lambda: _on_threads(2, in_pieces, p),
    }
    for name, run in modes.items():
        try:
            found = _bits(run())
        except Exception as e:
            return [Finding("refusal", name, f"{type(e).__name__}: {e}")]
        for k, a, b in zip(p.results, first, found):
            if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
                if a.dtype != b.dtype or a.shape != b.shape:
                    return [Finding("shape", name, f"v{k}: {b.dtype}{b.shape} instead of {a.dtype}{a.shape}")]
                if not _same_but_for_nan(a, b):
                    return [Finding("bits", name, f"v{k}: {_example(b, a, _unequal(a, b))}")]
    return []


def _on_threads(n: int, compiled: Callable[..., Any], p: Program) -> list[Any]:
    """What ``compiled`` gives on ``n`` threads; kernels that it makes now are cut into the smallest tasks."""
    before = st.get_num_threads()
    st.set_num_threads(n)
    try:
        with using(PIECES):
            return list(compiled(*[ours(a) for a in p.inputs.values()]))
    finally:
        st.set_num_threads(before)


def _bits(tensors: list[Any]) -> list[np.ndarray]:
    return [np.ascontiguousarray(t.numpy(force=True)) for t in tensors]


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = (v.reshape(-1).view(np.uint8).reshape(v.size, v.itemsize) for v in (a, b))
    return np.asarray((x != y).any(1).reshape(a.shape))


def _same_but_for_nan(a: np.ndarray, b: np.ndarray) -> bool:
    """Which nan it is, is not said; everything else must have the same bits."""
    both = np.isnan(a) & np.isnan(b) if a.dtype.kind not in "iub" else np.zeros(a.shape, bool)
    return bool(np.all(~_unequal(a, b) | both))
