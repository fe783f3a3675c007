"""st.compile: same results as eager, replays, guards, captured state, fallbacks, errors."""

from __future__ import annotations

import sys
import threading
import warnings

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.errors import CompileError
from spiraltorch.jit.program import counters

from ..helpers import Library, compare

m = Library(st)
SCALE = 2.0


def test_results_and_reuse():
    @st.compile
    def f(x, y):
        return (x @ y).relu().sum(-1), x * 2

    for _ in range(3):
        x, y = st.randn(5, 6), st.randn(6, 7)
        a, b = f(x, y)
        assert st.allclose(a, (x @ y).relu().sum(-1)) and st.equal(b, x * 2)
    assert f.compilations == 1 and f.hits == 2
    f(st.randn(3, 6), y)
    assert f.compilations == 2, "a new length is a new plan"


def test_new_lengths_compile_no_kernels():
    @st.compile
    def f(x):
        return x.softmax(-1)

    def look(n):
        x = st.randn(4, n)
        assert st.allclose(f(x), x.softmax(-1), atol=1e-6)

    look(33)
    before = counters["kernels"]
    for n in range(40):
        look(50 + 7 * n)
    assert counters["kernels"] == before


def test_captured_state_is_read_and_written():
    weight, count = st.ones(3), st.zeros(())

    @st.compile
    def f(x):
        weight.mul_(0.5)
        count.add_(1)
        return x * weight

    alias = weight[1:]
    for k in range(1, 5):
        assert f(st.ones(3)).tolist() == [0.5**k] * 3
        assert alias.tolist() == [0.5**k] * 2 and count.item() == k
        assert weight._version == k
    weight.fill_(8)
    assert f(st.ones(3)).tolist() == [4.0] * 3
    assert f.compilations == 1


def test_argument_is_written():
    @st.compile
    def f(x, y):
        x += y
        return x

    x = st.zeros(4)
    for k in range(1, 4):
        out = f(x, st.ones(4))
        assert out is x and x.tolist() == [k] * 4


def test_pending_reader_of_captured_state_keeps_the_old_value():
    w = st.ones(3)

    @st.compile
    def f():
        w.add_(1)

    f()
    before = w * 10
    f()
    assert before.tolist() == [20.0] * 3 and w.tolist() == [3.0] * 3


def test_shared_memory_is_written_through():
    a = np.ones(3, np.float32)
    w = st.from_numpy(a)

    @st.compile
    def f(x):
        w.add_(x.sum())

    for k in range(1, 4):
        f(st.ones(2))
        assert a.tolist() == [1 + 2 * k] * 3


def test_guards_closure_global_attribute():
    global SCALE
    factor = 3.0

    class Holder:
        shift = 0.0

    h = Holder()
    h.shift = 1.0

    @st.compile
    def f(x):
        return x * factor * SCALE + h.shift

    one = st.ones(2)
    assert f(one).tolist() == [7.0, 7.0]
    factor = 4.0
    assert f(one).tolist() == [9.0, 9.0]
    SCALE = 1.0
    assert f(one).tolist() == [5.0, 5.0]
    h.shift = -1.0
    assert f(one).tolist() == [3.0, 3.0]
    assert f.compilations == 4
    SCALE = 2.0
    factor, h.shift = 3.0, 1.0
    assert f(one).tolist() == [7.0, 7.0]
    assert f.compilations == 4, "an earlier entry fits again"


def test_attributes_the_code_does_not_mention_recompile_nothing():
    class Trainer:
        def __init__(self):
            self.epoch, self.scale, self.shift = 0, 2.0, 1.0

        def helper(self, x):
            return x + self.shift

        @st.compile
        def run(self, x):
            return self.helper(x * self.scale)

    t = Trainer()
    for k in range(3):
        t.epoch = k
        assert t.run(st.ones(1)).item() == 3.0
    assert t.run.compilations == 1
    t.shift = 5.0
    assert t.run(st.ones(1)).item() == 7.0


def test_captured_tensor_that_stops_requiring_grad():
    w = st.ones(2, requires_grad=True)

    @st.compile
    def f(x):
        return (x * w).sum()

    assert f(st.ones(2)).requires_grad
    w.requires_grad_(False)
    assert not f(st.ones(2)).requires_grad
    w.data = st.tensor([2.0, 3.0], dtype=st.float64)
    assert f(st.ones(2)).item() == 5.0


def test_names_of_attributes_are_no_globals():
    class Holder:
        def SCALE(self, x):
            return x * 2

    global SCALE
    h = Holder()

    @st.compile
    def f(x):
        return h.SCALE(x)

    before = SCALE
    f(st.ones(2))
    SCALE = 77.0
    try:
        assert f(st.ones(2)).tolist() == [2.0, 2.0] and f.compilations == 1
    finally:
        SCALE = before


def test_static_arguments_and_structures():
    @st.compile
    def f(items, *, scale, names=("a",)):
        return {"out": [v * scale for v in items["x"]], "n": len(names)}

    x = [st.ones(2), st.ones(3)]
    for scale in (2.0, 2.0, 3.0):
        out = f({"x": x}, scale=scale)
        assert out["out"][1].tolist() == [scale] * 3 and out["n"] == 1
    assert f.compilations == 2


def test_grad_mode_and_requires_grad_are_part_of_the_key():
    w = st.ones(3, requires_grad=True)

    @st.compile
    def f(x):
        return (x * w).sum()

    assert f(st.ones(3)).requires_grad
    with st.no_grad():
        assert not f(st.ones(3)).requires_grad
    assert f.compilations == 2


def test_backward_of_compiled_outputs():
    rng = np.random.default_rng(0)
    w = st.tensor(rng.standard_normal((6, 4)).astype("f"), requires_grad=True)

    def plain(x):
        h = (x @ w).tanh()
        return h.softmax(-1), (h * h).mean()

    f = st.compile(plain)
    for _ in range(3):
        x = st.tensor(rng.standard_normal((5, 6)).astype("f"), requires_grad=True)
        a, b = f(x)
        (a[:, 0].sum() * 2 + b).backward()
        got = [x.grad, w.grad]
        x.grad = w.grad = None
        a, b = plain(x)
        (a[:, 0].sum() * 2 + b).backward()
        for g, e in zip(got, [x.grad, w.grad]):
            np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-4, atol=1e-6)
        x.grad = w.grad = None
    assert f.compilations == 1 and f.hits == 2


def test_whole_step_with_gradients():
    def make():
        rng = np.random.default_rng(1)
        w = st.tensor(rng.standard_normal((4, 3)).astype("f"), requires_grad=True)

        def step(x, y):
            w.grad = None
            loss = st.nn.functional.cross_entropy(x @ w, y)
            loss.backward()
            with st.no_grad():
                w.sub_(w.grad * 0.1)
            return loss

        return w, step

    (we, eager), (wc, plain) = make(), make()
    compiled = st.compile(plain)
    rng = np.random.default_rng(2)
    for _ in range(5):
        x, y = st.tensor(rng.standard_normal((8, 4)).astype("f")), st.tensor(rng.integers(0, 3, 8))
        a, b = eager(x, y), compiled(x, y)
        assert a.item() == b.item()
        assert st.equal(we.detach(), wc.detach()) and st.equal(we.grad, wc.grad), "bit for bit"
    kept = wc.grad
    values = kept.tolist()
    compiled(x, y)
    assert kept.tolist() == values, "a gradient somebody kept is not overwritten"
    assert compiled.compilations == 1


def test_gradients_accumulate_when_not_reset():
    w = st.ones(3, requires_grad=True)

    @st.compile
    def f(x):
        (x * w).sum().backward()

    for k in range(1, 5):
        f(st.ones(3))
        assert w.grad.tolist() == [k] * 3
    assert f.compilations == 2, "one trace for no gradient yet, one for a gradient to add to"


def test_random_numbers_go_on():
    @st.compile
    def f():
        return st.rand(1000), st.randn(10)

    st.manual_seed(7)
    compiled = [f() for _ in range(3)]
    st.manual_seed(7)
    eager = [(st.rand(1000), st.randn(10)) for _ in range(3)]
    for (a, b), (c, d) in zip(compiled, eager):
        assert st.equal(a, c) and st.equal(b, d)
    assert not st.equal(compiled[0][0], compiled[1][0])


def test_literals_are_fresh_every_time():
    @st.compile
    def f(x):
        t = st.tensor([1.0, 2.0])
        t.add_(x)
        return t

    assert [f(st.ones(2)).tolist() for _ in range(3)] == [[2.0, 3.0]] * 3


def test_looking_at_an_argument_is_seen():
    @st.compile
    def f(x):
        return x * 2 if x.item() > 0 else x * 3

    with pytest.warns(UserWarning, match="looks at a tensor's value"):
        assert f(st.tensor(1.0)).item() == 2
    assert f(st.tensor(-1.0)).item() == -3

    @st.compile(fullgraph=True)
    def g(x):
        return x * st.tensor([2.0, 4.0])[1].item()

    assert g(st.tensor(3.0)).item() == 12, "what the function makes of constants is a constant"


def test_data_dependent_python_falls_back_with_one_warning():
    @st.compile
    def f(x):
        if (x.sum() > 0).item():
            return x * 2
        return x - 1

    with pytest.warns(UserWarning, match="looks at a tensor's value at .*test_compile.py"):
        assert f(st.ones(2)).tolist() == [2.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(-st.ones(2)).tolist() == [-2.0, -2.0]
        assert f(st.ones(2)).tolist() == [2.0, 2.0]


def test_fullgraph_raises_at_the_line():
    @st.compile(fullgraph=True)
    def f(x):
        return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(CompileError, match="test_compile.py"):
        f(st.ones(2))
    assert (st.ones(2) + 1).tolist() == [2.0, 2.0], "recording goes on after the error"


def test_escaping_values_are_not_replayed_stale():
    kept = []

    @st.compile
    def f(x):
        kept.append(x * 3)
        return x + 1

    with pytest.warns(UserWarning, match="other than by returning them"):
        f(st.ones(2))
    f(st.ones(2) * 2)
    assert [k.tolist() for k in kept] == [[3.0, 3.0], [6.0, 6.0]]


def test_exception_in_the_function_leaves_state_alone():
    w = st.ones(2)

    @st.compile
    def f(x, fail):
        w.add_(1)
        if fail:
            raise KeyError("no")
        return w * x

    with pytest.raises(KeyError):
        f(st.ones(2), True)
    assert w.tolist() == [1.0, 1.0]
    assert f(st.ones(2), False).tolist() == [2.0, 2.0]


def test_bad_index_inside_a_program_changes_nothing():
    table = st.arange(6, dtype=st.float32).reshape(3, 2)
    total = st.zeros(2)

    @st.compile
    def f(i):
        rows = st.nn.functional.embedding(i, table)
        total.add_(rows.sum(0))
        return rows

    f(st.tensor([0, 2]))
    assert total.tolist() == [4.0, 6.0]
    with pytest.raises(IndexError, match="out of range.*test_compile.py"):
        f(st.tensor([0, 3]))
    assert total.tolist() == [4.0, 6.0]
    f(st.tensor([1, 1]))
    assert total.tolist() == [8.0, 12.0]


def test_replay_runs_few_python_functions():
    weights = [st.randn(16, 16) for _ in range(30)]

    @st.compile
    def f(x):
        for w in weights:
            x = (x @ w).tanh()
        return x

    x = st.randn(4, 16)
    f(x), f(x)
    calls = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        f(x)
    finally:
        sys.setprofile(None)
    assert len(calls) < 40, calls


def test_methods_and_eager_context():
    class Model:
        def __init__(self):
            self.w = st.ones(2)

        @st.compile
        def forward(self, x):
            return x * self.w

    a = Model()
    assert a.forward(st.ones(2)).tolist() == [1.0, 1.0]
    a.w = st.ones(2) * 5
    assert a.forward(st.ones(2)).tolist() == [5.0, 5.0]
    hits = a.forward.hits
    with st.eager():
        assert a.forward(st.ones(2)).tolist() == [5.0, 5.0]
    assert a.forward.hits == hits


def test_lower_shows_and_changes_nothing():
    w = st.ones(3)

    @st.compile
    def f(x):
        w.add_(1)
        return (x * w).softmax(-1)

    low = f.lower(st.ones(2, 3))
    assert w.tolist() == [1.0, 1.0, 1.0]
    assert low.launches >= 1 and "EXP" in str(low.graph) and "phase" in str(low.kernels)
    assert "def " in str(low.source) and str(low.program)
    assert f(st.ones(2, 3)).shape == (2, 3) and w.tolist() == [2.0, 2.0, 2.0]


def test_eight_threads_running_programs_at_once():
    def job(seed):
        rng = np.random.default_rng(seed)
        w = st.tensor(rng.standard_normal((64, 64)).astype("f"))
        f = st.compile(lambda x: ((x @ w).tanh() @ w).softmax(-1) * (seed + 1))
        x = st.tensor(rng.standard_normal((32, 64)).astype("f"))
        return [f(x).numpy().copy() for _ in range(10)][-1]

    alone = [job(s) for s in range(8)]
    together: dict[int, np.ndarray] = {}

    def run(s):
        together[s] = job(s)

    threads = [threading.Thread(target=run, args=(s,)) for s in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for s in range(8):
        assert np.array_equal(alone[s], together[s])


def test_one_compiled_function_from_many_threads():
    @st.compile
    def f(x):
        return (x * x).sum(-1)

    errors = []

    def run(k):
        try:
            for n in range(1, 20):
                x = st.full((4, n), float(k))
                assert f(x).tolist() == [k * k * n] * 4
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors


def test_recompile_log_names_what_changed(capsys):
    st.set_log("recompile")
    try:
        factor = 1.0

        @st.compile
        def f(x):
            return x * factor

        f(st.ones(2))
        f(st.ones(3))
        factor = 2.0
        f(st.ones(3))
    finally:
        st.set_log("")
    text = capsys.readouterr().err
    assert "argument 0" in text and "factor changed from 1.0 to 2.0" in text


def test_compare_helper_sees_differences():
    import torch

    with pytest.raises(AssertionError):
        compare(st.ones(2), torch.zeros(2))


GAIN = 2.0


class Scaled(st.nn.Module):
    def forward(self, x):
        return self.scale(x)

    def scale(self, x):
        return x * GAIN


def test_globals_of_a_modules_methods_are_watched(monkeypatch):
    model = st.nn.Sequential(Scaled(), st.nn.Identity())
    step = st.compile(lambda x: model(x))
    assert step(st.ones(2)).tolist() == [2, 2] and step(st.ones(2)).tolist() == [2, 2]
    monkeypatch.setitem(globals(), "GAIN", 3.0)
    assert step(st.ones(2)).tolist() == [3, 3]
    assert step.compilations == 2
