"""How many launches and kernels things take: fusion is gated on counts, never on time."""

from __future__ import annotations

import pytest

import spiraltorch as st
from spiraltorch.ir.kernel import Gemm
from spiraltorch.jit.program import counters

F = st.nn.functional


def launches(f, *args):
    return f.lower(*args).launches


def test_softmax_is_one_kernel():
    x = st.randn(8, 33)
    for f in (lambda x: x.softmax(-1), lambda x: x.log_softmax(-1), lambda x: x.softmax(0)):
        assert launches(st.compile(f), x) == 1


def test_gelu_of_affine_is_one_kernel():
    x, w, b = st.randn(8, 33), st.randn(33), st.randn(33)
    assert launches(st.compile(lambda x, w, b: F.gelu(x * w + b)), x, w, b) == 1
    assert launches(st.compile(lambda x, w, b: F.gelu(x * w + b, approximate="tanh")), x, w, b) == 1


def test_layer_norm_forward_one_backward_two():
    x, w, b = st.randn(16, 24, requires_grad=True), st.ones(24, requires_grad=True), st.zeros(24, requires_grad=True)
    g = st.randn(16, 24)
    with st.no_grad():
        assert launches(st.compile(lambda x: F.layer_norm(x, (24,), w, b)), x) == 1

    @st.compile
    def both(x, g):
        out = F.layer_norm(x, (24,), w, b)
        x.grad = w.grad = b.grad = None
        out.backward(g)
        return out

    assert launches(both, x, g) == 2  # all that walks rows, and the sums over them


def test_cross_entropy_forward_and_backward_two():
    x = st.randn(16, 10, requires_grad=True)
    y = st.randint(0, 10, (16,))

    @st.compile
    def f(x, y):
        x.grad = None
        loss = F.cross_entropy(x, y)
        loss.backward()
        return loss

    assert launches(f, x, y) <= 2


def mlp(depth=3, width=512, inputs=784, classes=10):
    sizes = [inputs] + [width] * (depth - 1) + [classes]
    layers = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layers.append(st.nn.Linear(a, b))
        if i < depth - 1:
            layers.append(st.nn.ReLU())
    return st.nn.Sequential(*layers)


def training_step(model, optimizer):
    @st.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD"])
def test_optimizer_over_all_parameters_two_launches(kind):
    params = [st.nn.Parameter(st.randn(*s)) for s in [(8, 4), (8,), (3, 8), (3,), (5, 5, 5)]]
    optimizer = getattr(st.optim, kind)(params, lr=0.1, **({"momentum": 0.9} if kind == "SGD" else {}))
    for p in params:
        p.grad = st.randn(*p.shape)
    optimizer.step()
    for p in params:
        p.grad = st.tensor(p.grad.tolist())

    @st.compile
    def f():
        optimizer.step()

    assert launches(f) <= 2


def test_mlp_training_step():
    model = mlp()
    step = training_step(model, st.optim.Adam(model.parameters(), lr=1e-3))
    low = step.lower(st.randn(64, 784), st.randint(0, 10, (64,)))
    gemms = sum(isinstance(s.kernel, Gemm) for s in low.lowered.steps)
    assert gemms == 8, "three forward, three weight and two input gradients"
    assert low.launches <= 20


def test_deep_model_compiles_the_kernels_of_a_shallow_one():
    def compiled(depth):
        model = mlp(depth, 32, 32, 10)
        step = training_step(model, st.optim.Adam(model.parameters(), lr=1e-3))
        low = step.lower(st.randn(8, 32), st.randint(0, 10, (8,)))
        return {k.key for k in low.kernels}

    assert compiled(50) == compiled(3)


def test_changed_learning_rate_recompiles_nothing():
    model = mlp(2, 16, 8, 4)
    optimizer = st.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = training_step(model, optimizer)
    scheduler = st.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x, y = st.randn(4, 8), st.randint(0, 4, (4,))
    for _ in range(3):
        step(x, y)
        scheduler.step()
    done = step.compilations, counters["programs"]
    for _ in range(5):
        step(x, y)
        scheduler.step()
    assert (step.compilations, counters["programs"]) == done
    assert step.compilations == 1


def test_eager_step_finds_its_program_again():
    model = mlp(2, 16, 8, 4)
    optimizer = st.optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    x, y = st.randn(4, 8), st.randint(0, 4, (4,))
    for k in range(3):
        step(x * (0.1 + k), y)
    before = counters["programs"]
    for k in range(5):
        step(x * (0.37 * k + 0.11), y)
    assert counters["programs"] == before


def test_replay_of_mlp_step_runs_few_python_functions():
    import sys

    model = mlp()
    step = training_step(model, st.optim.Adam(model.parameters(), lr=1e-3))
    x, y = st.randn(64, 784), st.randint(0, 10, (64,))
    step(x, y), step(x, y)
    calls = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        step(x, y)
    finally:
        sys.setprofile(None)
    assert len(calls) < 40, calls


def test_concatenation_is_written_in_place():
    parts = [st.randn(3, 4) for _ in range(5)]
    low = st.compile(lambda: st.cat([p * 2 for p in parts])).lower()
    assert low.launches == 1, "five regions of one kernel, one launch"


def test_views_cost_nothing():
    x = st.randn(4, 6, 5)
    f = st.compile(lambda x: x.permute(2, 0, 1).reshape(5, 24).t().clone())
    assert launches(f, x) == 1


def test_epilogue_that_asks_for_its_position():
    """A mask by position after a product keeps the product's axes apart."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 5)).astype("f"), rng.standard_normal((5, 4)).astype("f")
    out = st.compile(lambda a, b: st.tril(a @ b, -1) * 2)(st.tensor(a), st.tensor(b))
    np.testing.assert_allclose(out.numpy(), np.tril(a @ b, -1) * 2, rtol=1e-5)


def test_an_operand_that_stands_still_along_some_batch_axes():
    """Batch axes that the result walks as one stay apart where an expanded operand does not."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4, 5)).astype("f"), rng.standard_normal((2, 1, 5, 6)).astype("f")
    f = st.compile(lambda a, b: a @ b.expand(2, 3, 5, 6))
    assert f.lower(st.tensor(a), st.tensor(b)).launches == 1
    np.testing.assert_allclose(f(st.tensor(a), st.tensor(b)).numpy(), a @ b, rtol=1e-5)


def test_each_group_is_lowered_once(empty_cache, monkeypatch):
    """Finding out what may be written in place costs no second lowering."""
    from spiraltorch.jit import plan

    seen = []
    lower = plan.Planner._lower
    monkeypatch.setattr(plan.Planner, "_lower", lambda self, g, stored: seen.append(g) or lower(self, g, stored))
    model = st.nn.Sequential(*[st.nn.Linear(3, 3) for _ in range(4)])
    optimizer = st.optim.Adam(model.parameters())

    @st.compile
    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    step(st.randn(2, 3))
    assert seen and len(seen) == len(set(seen))


def test_a_residual_block_at_inference_is_a_launch_for_each_convolution():
    """Padding, normalisation, activation and the sum are part of the products."""
    conv = [st.nn.Conv2d(20, 20, 3, padding=1, bias=False) for _ in range(2)]
    norm = [st.nn.BatchNorm2d(20).eval() for _ in range(2)]

    def block(x):
        inner = F.relu(norm[0](conv[0](x)))
        return F.relu(norm[1](conv[1](inner)) + x)

    with st.no_grad():
        lowered = st.compile(block).lower(st.randn(2, 20, 12, 12))
    assert lowered.launches == 2 and all(isinstance(k, Gemm) for k in lowered.kernels)


def test_a_max_pool_and_its_gradient_are_one_kernel_each():
    x, g = st.randn(2, 3, 8, 12, requires_grad=True), st.randn(2, 3, 4, 6)

    @st.compile
    def both(x, g):
        x.grad = None
        out = F.max_pool2d(F.relu(x), 2)
        out.backward(g)
        return out

    lowered = both.lower(x, g)
    assert lowered.launches == 2
    assert [k.group for k in lowered.kernels] == [1, 2], "the gradient's lanes run along windows"
