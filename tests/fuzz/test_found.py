"""What fuzzing found, as scripts in ``found/``: equal to torch in value and gradient, and in bits however it is run."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from fuzz.compare import RELATIVE
from fuzz.programs import literal
from fuzz.scripts import TEMPLATE

FOUND = sorted((Path(__file__).parent / "found").glob("*.py"))


def values(tensors: Any) -> list[np.ndarray]:
    return [t.detach().double().numpy() for t in tensors]


def gradients(m: Any, program: Callable[..., Any], inputs: Any) -> list[Any]:
    """Of the sum of the results, at the inputs that are floats; None where nothing depends on one."""
    leaves = [x.requires_grad_() if x.is_floating_point() else x for x in inputs(m)]
    outs = [o for o in program(m, *[x.clone() for x in leaves]) if o.requires_grad]
    wanted = [x for x in leaves if x.requires_grad]
    if not outs or not wanted:
        return []
    found = m.autograd.grad(outs, wanted, [m.ones_like(o) for o in outs], allow_unused=True)
    return [m.zeros_like(x) if g is None else g for g, x in zip(found, wanted)]


@pytest.mark.parametrize("path", FOUND, ids=[p.stem for p in FOUND])
def test_found(path: Path) -> None:
    script = runpy.run_path(str(path))
    program, inputs = script["program"], script["inputs"]
    want, got = (program(m, *inputs(m)) for m in (torch, st))
    relative = max([RELATIVE.get(str(w.dtype).split(".")[-1], 0.0) for w in want])
    for w, g in zip(want, got, strict=True):
        assert str(w.dtype).split(".")[-1] == g.dtype.name and tuple(w.shape) == tuple(g.shape)
    for w, g in zip(values(want), values(got)):
        np.testing.assert_allclose(g, w, rtol=relative, atol=relative * np.abs(w[np.isfinite(w)]).max(initial=0))
    compiled = st.compile(lambda *given: program(st, *given))
    for _ in range(2):
        for a, b in zip(values(got), values(compiled(*inputs(st)))):
            assert np.array_equal(a, b, equal_nan=True)
    for w, g in zip(values(gradients(torch, program, inputs)), values(gradients(st, program, inputs)), strict=True):
        np.testing.assert_allclose(g, w, rtol=relative, atol=relative * np.abs(w[np.isfinite(w)]).max(initial=0))


@pytest.mark.parametrize("a", [np.float32([[1, np.nan], [np.inf, 4]]), np.arange(6.0).reshape(2, 3).T, np.array(True)])
def test_arrays_are_spelled_as_they_are(a: np.ndarray) -> None:
    given = {"m": st, "nan": np.nan, "inf": np.inf}
    t = eval(literal(a), given)
    assert np.array_equal(t.numpy(), a, equal_nan=True) and t.numpy().dtype == a.dtype
    assert t.stride() == tuple([s // a.itemsize for s in a.strides])


def test_a_script_runs_alone() -> None:
    text = TEMPLATE.format(
        title="value in neg", seed=0, inputs="    v0 = m.tensor([1.0, nan])", names="v0", results="v0,", calls="    v1 = m.neg(v0)\n    return v1,"
    )
    space: dict[str, Any] = {"__name__": "script"}
    exec(text, space)
    (out,) = space["program"](st, *space["inputs"](st))
    assert np.array_equal(out.numpy(), np.float32([-1, np.nan]), equal_nan=True)
