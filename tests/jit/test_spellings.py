"""Every kernel of real training steps in every spelling: reference, LLVM, Numba, interpreted Triton; and
compiled for sm_90 and gfx942 without a device, with 128-bit loads where memory is contiguous."""

from __future__ import annotations

import re

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.ir import text
from spiraltorch.ir.kernel import Gemm, Kernel
from spiraltorch.jit.interpret import run_lowered, run_reference
from spiraltorch.kernels import triton
from spiraltorch.kernels.numba import run as run_numba

F = st.nn.functional


def digits_step():
    st.manual_seed(0)
    model = st.nn.Sequential(
        st.nn.Conv2d(1, 4, 3, padding=1), st.nn.BatchNorm2d(4), st.nn.ReLU(), st.nn.MaxPool2d(2),
        st.nn.Conv2d(4, 6, 3, padding=1), st.nn.BatchNorm2d(6), st.nn.ReLU(), st.nn.MaxPool2d(2), st.nn.Flatten(),
        st.nn.Linear(24, 10),
    )  # fmt: skip
    return _step(model), (st.randn(6, 1, 8, 8), st.randint(0, 10, (6,)))


def mlp_step():
    st.manual_seed(0)
    model = st.nn.Sequential(st.nn.Linear(48, 32), st.nn.ReLU(), st.nn.Linear(32, 32), st.nn.ReLU(), st.nn.Linear(32, 10))
    return _step(model), (st.randn(16, 48), st.randint(0, 10, (16,)))


def _step(model):
    optimizer = st.optim.Adam(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def softmax():
    return lambda x: x.softmax(-1), (st.randn(16, 64),)


def layer_norm(rows=16):
    w, b = st.ones(64, requires_grad=True), st.zeros(64, requires_grad=True)
    x, g = st.randn(rows, 64, requires_grad=True), st.randn(rows, 64)

    def both(g):
        x.grad = w.grad = b.grad = None
        out = F.layer_norm(x, (64,), w, b)
        out.backward(g)
        return out

    return both, (g,)


def layer_norm_of_many_rows():
    return layer_norm(512)


def cross_entropy():
    x = st.randn(16, 64, requires_grad=True)

    def both(y):
        x.grad = None
        loss = F.cross_entropy(x, y)
        loss.backward()
        return loss

    return both, (st.randint(0, 64, (16,)),)


PROGRAMS = {
    "digits": digits_step, "mlp": mlp_step, "softmax": softmax, "layer_norm": layer_norm, "cross_entropy": cross_entropy,
    "layer_norm_of_many_rows": layer_norm_of_many_rows,
}  # fmt: skip


@pytest.fixture(scope="module", params=PROGRAMS)
def captured(request):
    """(name, passes' result, input arrays, scalars, outputs of the reference interpreter)."""
    function, args = PROGRAMS[request.param]()
    [a.tolist() for a in args]
    f = st.compile(function)
    f(*args)
    (entries,) = f._entries.values()
    entry = entries[0]
    rng = np.random.default_rng(0)
    program = entry.program
    arrays = []
    for shape, d in program.inputs:
        n = int(np.prod(shape))
        arrays.append((rng.uniform(0.1, 1, n) if d.kind == "f" else rng.integers(1, 6, n)).astype(d.np))
    scalars = [d.np.type(v) for v, d in zip(entry.scalars, program.scalar_types)]
    expected = run_lowered(program.lowered, arrays, scalars)
    return request.param, program, arrays, scalars, expected


def check(found, expected, tolerance):
    for f, e in zip(found, expected):
        np.testing.assert_allclose(np.asarray(f, np.float64), np.asarray(e, np.float64), rtol=tolerance, atol=tolerance * 0.1)


def test_llvm(captured):
    from spiraltorch.runtime import buffers

    _, program, arrays, scalars, expected = captured
    inputs = []
    for a in arrays:
        b = buffers.allocate(a.nbytes)
        buffers.as_numpy(b, a.dtype, a.shape)[...] = a
        inputs.append(b)
    outs = program.run(inputs, scalars)
    found = [buffers.as_numpy(b, e.dtype, e.shape) for b, e in zip(outs, expected)]
    check(found, expected, 3e-4)


def test_numba(captured):
    name, program, arrays, scalars, expected = captured

    def runner(kernel, views, ints, numbers):
        if isinstance(kernel, (Kernel, Gemm)):
            run_numba(kernel, views, ints, numbers, jit=False)
        else:
            run_reference(kernel, views, ints, numbers)

    check(run_lowered(program.lowered, arrays, scalars, runner), expected, 3e-4)


def test_interpreted_triton(captured):
    _, program, arrays, scalars, expected = captured

    def runner(kernel, views, ints, numbers):
        if isinstance(kernel, (Kernel, Gemm)):
            triton.interpret(kernel, views, ints, numbers)
        else:
            run_reference(kernel, views, ints, numbers)

    check(run_lowered(program.lowered, arrays, scalars, runner), expected, 3e-4)


def test_text_round_trip(captured):
    for kernel in captured[1].lowered.kernels:
        parse = text.parse_kernel if isinstance(kernel, Kernel) else text.parse_gemm
        assert parse(str(kernel)) == kernel


def test_graph_round_trip(captured):
    graph = captured[1].lowered.simplified
    assert text.parse_graph(text.format_graph(graph)) == graph


@pytest.mark.parametrize("target", ["cuda:90", "hip:gfx942"])
def test_compiles_without_a_device(captured, target):
    name, program, *_ = captured
    wide = 0
    for kernel in program.lowered.kernels:
        if not isinstance(kernel, (Kernel, Gemm)):
            continue
        code = triton.compile(kernel, target).asm
        if target.startswith("cuda"):
            assert code["cubin"]
            wide += bool(re.search(r"(?:ld|st)\.global\S*\.v4", code["ptx"]))
        else:
            assert code["hsaco"]
            wide += bool(re.search(r"(?:global|buffer)_(?:load|store)_(?:dwordx4|b128)", code["amdgcn"]))
    assert wide >= (1 if name in ("softmax", "cross_entropy") else 2), "contiguous main paths move 128 bits at once"
