"""Programs kept on disk: the passes do not run again, and nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.config import config
from spiraltorch.ir import graph, lang
from spiraltorch.jit import layout, program
from spiraltorch.kernels.library.routine import routine
from spiraltorch.runtime import cache


@pytest.fixture(autouse=True)
def objects(empty_cache):
    return empty_cache


@pytest.fixture
def passes(monkeypatch):
    """How often the passes ran."""
    ran = []
    lower = program.lower
    monkeypatch.setattr(program, "lower", lambda *args: ran.append(1) or lower(*args))
    return ran


def step_of(rows=64):
    """A training step that compiles by itself, of enough operations to be kept: products, a lookup, an optimizer."""
    st.manual_seed(0)
    table, layer = st.nn.Embedding(20, 16), st.nn.Linear(16, 20)
    optimizer = st.optim.Adam([*table.parameters(), *layer.parameters()])

    def step(x, y):
        optimizer.zero_grad()
        loss = st.nn.functional.cross_entropy(layer(table(x).tanh()), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    rng = np.random.default_rng(0)
    return st.compile(step), *[st.tensor(rng.integers(0, 20, rows)) for _ in range(2)]


def run(count=3):
    step, x, y = step_of()
    return [step(x, y).item() for _ in range(count)]


def test_a_second_process_runs_no_passes(passes):
    first = run()
    before = len(passes)
    assert before
    step, x, y = step_of()
    eager = len(passes)  # weights are drawn by programs that are too small to be kept
    assert [step(x, y).item() for _ in range(3)] == first
    assert len(passes) == eager


def test_an_error_names_the_line_of_this_program(passes):
    run()
    step, x, _ = step_of()
    ran = len(passes)
    wrong = st.tensor(np.full(64, 21))
    with pytest.raises(IndexError, match=r"test_layout\.py"):
        step(wrong, x).item()
    assert len(passes) > ran  # only now: somebody asked which operation it was
    assert np.isfinite(step(x, x).item())


def test_kernels_that_are_gone_are_made_again(objects, monkeypatch):
    monkeypatch.setattr(cache, "_addresses", {})
    first = run()
    kept = {}
    for path in objects.folder.iterdir():
        data = path.read_bytes()
        if b'"kernels"' not in data:
            path.unlink()
        kept[path.name] = data
    assert len(kept) > len(list(objects.folder.iterdir())) > 0
    monkeypatch.setattr(cache, "_addresses", {})
    assert run() == first


def test_a_spoilt_file_costs_time_alone(objects, passes):
    first = run()
    before = len(passes)
    for path in objects.folder.iterdir():
        if b'"kernels"' in (data := path.read_bytes()):
            path.write_bytes(data[:-3])
    assert run() == first
    assert len(passes) > before


def test_what_was_kept_can_be_looked_at(passes):
    run()
    step, x, y = step_of()
    step(x, y)
    with st.profile() as p:
        step(x, y)
    assert "test_layout.py" in str(p)
    assert step.lower(x, y).kernels


def chain(value=0.5, n=50, kind=dtypes.float32, static=True):
    x = graph.param(0, (8,), kind)
    for _ in range(n):
        x = lang.tanh(x) * graph.full(value, x.shape, kind, static)
    return [x]


def test_names_say_what_passes_look_at(monkeypatch):
    name = layout.name_of(chain(), [None], None, 1)
    assert name == layout.name_of(chain(), [None], None, 1)
    others = [
        layout.name_of(chain(0.25), [None], None, 1), layout.name_of(chain(0.0), [None], None, 1),
        layout.name_of(chain(-0.0), [None], None, 1), layout.name_of(chain(kind=dtypes.float64), [None], None, 1),
        layout.name_of(chain(), [0], None, 1), layout.name_of(chain(), [None], 1000, 1),
        layout.name_of(chain(), [None], None, 2), layout.name_of(chain() * 2, [None] * 2, None, 1),
    ]  # fmt: skip
    before = st.get_num_threads()
    try:
        st.set_num_threads(before + 1)
        others.append(layout.name_of(chain(), [None], None, 1))
    finally:
        st.set_num_threads(before)
    assert None not in others and len({name, *others}) == len(others) + 1
    assert layout.name_of(chain(n=2), [None], None, 1) is None
    monkeypatch.setattr(config, "verify", True)
    assert layout.name_of(chain(), [None], None, 1) is None


def test_a_users_own_routine_is_not_kept():
    @routine("tests.mirrored")
    def mirrored(static, a):
        return a[::-1]

    (n,) = chain()
    for name, kept in (("tests.mirrored", False), ("scanning.scan", True)):
        call = graph.call(name, (n,), (8,), dtypes.float32)
        assert (layout.name_of([call], [None], None, 1) is not None) == kept


def test_what_is_on_disk_is_plain_data(objects):
    """Read back it is what was written, and it is text that cannot do anything."""
    made = layout.Layout(
        ["key", layout.Library("sorting.sort", (layout.Param(dtypes.float32), layout.Param(dtypes.bool_, "out")), (1, (2.5, None)))],
        [layout.Row(1, [[3, "status", layout.Table([(2, 4), (3, 1)]), -5]], [7], 1, True, False, True)],
        [(0, 0, 1, 2, 64)], [(0, 0, 3, 1)], [(0, 0, 2, 1, 4096)], [None, 2], 128,
    )  # fmt: skip
    layout.save("program of a test", made)
    assert layout.load("program of a test") == made
    assert objects.get("program of a test").startswith(b"{")
    objects.put("program of a test", b"\x80\x04nonsense")
    assert layout.load("program of a test") is None and objects.get("program of a test") is None


def test_unused_inputs_are_counted(passes):
    """The words of two programs of one graph differ where one of them has an input more: outputs come after the inputs."""
    values = [np.linspace(-1, 1, 8, dtype=np.float32), np.full(8, 7, np.float32)]
    buffers = [st.tensor(v.tolist())._buffer() for v in values]
    found = []
    for count in (1, 2):
        inputs = [((8,), dtypes.float32)] * count
        (out,) = program.build(chain(), [None], inputs, []).run(buffers[:count])
        found.append(out.view(np.float32, (8,)).copy())
    assert found[0].tobytes() == found[1].tobytes() and len(passes) == 2
    assert buffers[1].view(np.float32, (8,)).tolist() == [7] * 8
