"""Every operator's record against torch: values, shapes, types and gradients, over its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from spiraltorch import dtypes
from spiraltorch.dtypes import DType
from spiraltorch.ops import OPS
from spiraltorch.ops.registry import Op
from spiraltorch.ops.samples import Sample
from tests.ops import harness
from tests.ops.harness import DTYPES, REFUSALS, Bound, close, from_torch, to_torch

RANDOM = {name for name, o in OPS.items() if "key" in o.parameters}
#: vectors of these are defined but for a factor, which LAPACKs choose in their own ways: see tests/ops/test_linalg.py
UP_TO_A_FACTOR = {"linalg_svd", "svd", "linalg_eigh", "linalg_eig", "linalg_eigvals"}
COMPARED = [o for name, o in OPS.items() if name not in RANDOM | UP_TO_A_FACTOR]
NAMES = [o.name for o in COMPARED]


def describe(op: Op, sample: Sample) -> str:
    def short(a: Any) -> str:
        return f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a)

    parts = [str([short(x) for x in a]) if isinstance(a, list) else short(a) for a in sample.args]
    return f"{op.name}({', '.join(parts + [f'{k}={short(v)}' for k, v in sample.kwargs.items()])})"


def asked(op: Op, sample: Sample) -> tuple[Any, Any, list[torch.Tensor]] | None:
    """torch's arguments and outputs; None where torch refuses the sample (an operator may accept more)."""
    args, kwargs = to_torch(list(sample.args)), {k: to_torch(v) for k, v in sample.kwargs.items()}
    try:
        return args, kwargs, harness.theirs(op, args, kwargs)
    except REFUSALS:
        return None


def is_empty(sample: Sample) -> bool:
    return any(isinstance(a, np.ndarray) and not a.size for a in sample.args)


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_record_is_complete(op: Op) -> None:
    assert op.samples is not None and op.samples(dtypes.float32), f"{op.name} has no samples"
    page = op.doc.rpartition("(torch.")[2]
    assert page.endswith(")"), f"{op.name}'s docstring names no torch page"
    target: Any = torch
    for part in page[:-1].split("."):
        target = getattr(target, part)


@pytest.mark.parametrize("op", COMPARED, ids=NAMES)
def test_torch_accepts_a_sample(op: Op) -> None:
    assert any(asked(op, s) for s in op.samples(dtypes.float32)) or any(asked(op, s) for s in op.samples(dtypes.int64))


@pytest.mark.parametrize("dtype", DTYPES, ids=[d.name for d in DTYPES])
@pytest.mark.parametrize("op", COMPARED, ids=NAMES)
def test_values(op: Op, dtype: DType) -> None:
    for sample in op.samples(dtype):
        found = asked(op, sample)
        if found is None:
            continue
        name = describe(op, sample)
        try:
            got = harness.ours(op, Bound(sample))
        except REFUSALS:
            if is_empty(sample):
                continue  # torch looks at an empty tensor's type no further
            raise
        want = [from_torch(t) for t in found[2]]
        assert len(got) == len(want), name
        for g, w in zip(got, want):
            close(name, g, w, op.tolerance)


FLOATS = [d for d in DTYPES if d.kind == "f"]


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for v in value for t in tensors_of(v)] if isinstance(value, (list, tuple)) else []


#: torch.vander fails in backward, and as_strided_scatter passes the gradient where the part was replaced: these are
#: in tests/ops/test_shapes.py
WRONG_IN_TORCH = {"as_strided_scatter", "vander"}
DIFFERENTIABLE = [o for o in COMPARED if harness.has_gradient(o) and o.name not in WRONG_IN_TORCH]


def drawn_for(out: torch.Tensor, rng: np.random.Generator) -> np.ndarray | None:
    """A gradient for an output; None for one without."""
    if out.is_complex():
        return np.asarray(rng.normal(size=tuple(out.shape)) + 1j * rng.normal(size=tuple(out.shape))).astype(np.complex64)
    return np.asarray(rng.normal(size=tuple(out.shape))).astype(np.float32) if out.is_floating_point() else None


@pytest.mark.parametrize("dtype", FLOATS, ids=[d.name for d in FLOATS])
@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=[o.name for o in DIFFERENTIABLE])
def test_gradients(op: Op, dtype: DType) -> None:
    rng = np.random.default_rng(3)
    compared = 0
    for sample in op.samples(dtype):
        if not sample.grad:
            continue
        args, kwargs = to_torch(list(sample.args)), {k: to_torch(v) for k, v in sample.kwargs.items()}
        leaves = [t for v in (*args, *kwargs.values()) for t in tensors_of(v)]
        for t in leaves:
            t.requires_grad_(t.is_floating_point() or t.is_complex())
        try:
            outs = harness.theirs(op, args, kwargs)
            cotangents = [drawn_for(o, rng) for o in outs]
            drawn = [
                None if c is None else c.astype(from_torch(o).dtype)
                for c, o in zip(cotangents, outs)
            ]
            live = [(o, to_torch(c)) for o, c in zip(outs, drawn) if c is not None and o.requires_grad]
            if not live:
                continue
            for t in leaves:
                if t.requires_grad:
                    t.retain_grad()
            torch.autograd.backward([o for o, _ in live], [c for _, c in live])
        except REFUSALS:
            continue
        name = f"gradient of {describe(op, sample)}"
        bound = Bound(sample)
        try:
            values = harness.ours(op, bound)
        except REFUSALS:
            if is_empty(sample):
                continue  # torch looks at an empty tensor's type no further
            raise
        got = harness.our_gradients(op, bound, values, [c if o.requires_grad else None for c, o in zip(drawn, outs)])
        for k, (t, g) in enumerate(zip(leaves, got)):
            if not t.requires_grad:
                continue
            want = (
                np.zeros(tuple(t.shape), bound.leaves[bound.nodes[k]].dtype) if t.grad is None else from_torch(t.grad)
            )
            if t.grad is None and g is None:
                continue
            if g is None:
                g = np.zeros_like(want)
            close(f"{name}, tensor {k}", g, want, max(op.tolerance, 1e-5))
            compared += 1
    assert compared or dtype not in (dtypes.float32, dtypes.float64), f"no gradient of {op.name} was compared"
