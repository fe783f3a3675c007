"""``import spiraltorch`` loads numpy and nothing heavy; compilers and peers come when they are needed."""

from __future__ import annotations

import json
import subprocess
import sys

import spiraltorch as st

HEAVY = {"torch", "triton", "scipy", "numba", "llvmlite", "jax", "sklearn", "matplotlib", "pandas", "rich"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh process that ran ``code``."""
    report = "import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_light():
    found = loaded_after("import spiraltorch")
    assert not found & HEAVY
    assert "numpy" in found


def test_recording_is_light():
    code = """
import spiraltorch as st
model = st.nn.Sequential(st.nn.Linear(4, 8), st.nn.ReLU(), st.nn.Linear(8, 2))
loss = st.nn.functional.cross_entropy(model(st.randn(5, 4)), st.tensor([0, 1, 0, 1, 1]))
loss.backward()
"""
    assert not loaded_after(code) & HEAVY


def test_computing_loads_the_compiler_and_no_peer():
    found = loaded_after(
        "import spiraltorch as st; print(((st.randn(8, 8) @ st.randn(8, 8)).softmax(-1)).sum().item())"
    )
    assert "llvmlite" in found
    assert not found & (HEAVY - {"llvmlite"})


def test_public_names():
    for name in st.__dict__:
        assert not name.startswith("__") or name.endswith("__")
    for name in (
        "Tensor",
        "tensor",
        "nn",
        "optim",
        "utils",
        "compile",
        "no_grad",
        "save",
        "load",
        "manual_seed",
        "autograd",
        "linalg",
    ):
        assert hasattr(st, name), name
    assert st.__version__.count(".") == 2


def test_submodules_import_on_their_own():
    """Each entry point can be the first thing a process imports."""
    names = [
        "spiraltorch.nn.functional",
        "spiraltorch.jit.compile",
        "spiraltorch.ops",
        "spiraltorch.ir.text",
        "spiraltorch.runtime.buffers",
    ]
    for name in names:
        assert not loaded_after(f"import {name}") & HEAVY
