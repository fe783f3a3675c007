"""Run a program in every way and say what differs.

* each call alone, on torch's own operands: value, type and shape against torch (one call's rounding, no drift);
* the whole program lazily, one operation at a time, and compiled (first call and replay): equal bits.
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

from .programs import Call, Program, TorchValues, fill, run_torch, to_torch

# Differences that are meant: (kind, operator): what the finding's text matches, and why.
ACCEPTED = {
    ("value", "pow"): (
        r"^0.0 instead of nan",
        "torch computes x ** -0.5 as rsqrt, which gives nan for -inf; IEEE 754 says 0",
    ),
    ("refusal", "take_along_dim"): (r"^CheckFailed: index out of range", "torch wraps such an index around"),
    **{
        ("value", name): (r"^\d+ instead of \d+ at", "of equal elements torch takes any; here it is the first in order")
        for name in ("kthvalue", "topk")
    },
}
RELATIVE = {"float64": 1e-9, "float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Finding:
    """kind: 'value', 'dtype', 'shape', 'refusal' (an error where torch has none) or 'bits'."""

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}: {self.text}"


def accepted(f: Finding) -> bool:
    pattern, _ = ACCEPTED.get((f.kind, f.where), (None, ""))
    return pattern is not None and re.search(pattern, f.text) is not None


def function(call: Call) -> Callable[..., Any]:
    """The call's operator as users reach it."""
    op = call.op
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
                o.numpy()
        values.update(zip(call.outs, outs))
    return [values[k] for k in p.results]


def ours(a: np.ndarray) -> Any:
    return st.from_numpy(a.copy())


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
        want = run_torch(call.op, call.args, call.kwargs, values)
        assert want is not None
        given = {k: ours(from_torch(v)) for k, v in values.items()}
        try:
            got = [o.numpy() for o in apply(call, given)]
        except Exception as e:
            refusal = Finding("refusal", call.op.name, f"{type(e).__name__}: {e}")
            if accepted(refusal):
                raise Refused from None
            return [refusal]
        exact = run_torch(call.op, call.args, call.kwargs, _wide(values))
        for k, (g, w) in enumerate(zip(got, want)):
            found = compare(g, from_torch(w), from_torch(exact[k]) if exact is not None else None, call, values)
            if found is not None and not accepted(found):
                return [found]
        values.update(zip(call.outs, want))
    return []


def from_torch(t: torch.Tensor) -> np.ndarray:
    t = t.detach()
    return t.float().numpy().astype(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else np.array(t.numpy())


def _wide(values: TorchValues) -> TorchValues:
    return TorchValues({k: v.double() if v.is_floating_point() else v for k, v in values.items()})


def compare(
    got: np.ndarray, want: np.ndarray, exact: np.ndarray | None, call: Call, values: TorchValues
) -> Finding | None:
    """None, or how ``got`` differs from torch's ``want``; ``exact`` is torch's result in float64.

    An error up to four times torch's own is allowed, and one that is small beside the result or the operands.
    """
    name = call.op.name
    if got.dtype != want.dtype:
        return Finding("dtype", name, f"{got.dtype} instead of {want.dtype}")
    if got.shape != want.shape:
        return Finding("shape", name, f"{list(got.shape)} instead of {list(want.shape)}")
    if want.dtype.kind in "iub":
        wrong = got != want
        return Finding("value", name, _example(got, want, wrong)) if wrong.any() else None
    relative = RELATIVE.get(want.dtype.name, 1e-5)
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
    return None if same.all() else Finding("value", name, _example(got, want, ~same))


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
    given = [ours(a) for a in p.inputs.values()]
    modes: dict[str, Callable[[], list[Any]]] = {
        "one operation at a time": lambda: evaluate(p, {k: ours(a) for k, a in p.inputs.items()}, look=True),
        "compiled": lambda: compiled(*given),
        "replayed": lambda: compiled(*given),
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


def _bits(tensors: list[Any]) -> list[np.ndarray]:
    return [np.ascontiguousarray(t.numpy()) for t in tensors]


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = (v.reshape(-1).view(np.uint8).reshape(v.size, v.itemsize) for v in (a, b))
    return np.asarray((x != y).any(1).reshape(a.shape))


def _same_but_for_nan(a: np.ndarray, b: np.ndarray) -> bool:
    """Which nan it is, is not said; everything else must have the same bits."""
    both = np.isnan(a) & np.isnan(b) if a.dtype.kind not in "iub" else np.zeros(a.shape, bool)
    return bool(np.all(~_unequal(a, b) | both))
