"""``lower``, ``explain``, ``profile`` and ``dump``: what they show is what runs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.inspect import cost, show
from spiraltorch.ir import text
from spiraltorch.jit import program

ROOT = Path(__file__).parent.parent.parent
Golden = Callable[[str, str], None]


def here() -> str:
    """``file:line`` of the caller."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return f"{__file__}:{frame.f_back.f_lineno}"


def softmax(x: st.Tensor) -> st.Tensor:
    return x.softmax(-1)


# -- lower ----------------------------------------------------------------------------------------------


def test_lower_shows_every_pass(golden: Golden) -> None:
    shown = st.compile(softmax).lower(st.zeros(4, 8))
    assert shown.launches == 1 and len(shown.kernels) == 1
    assert text.format_graph(text.parse_graph(shown.graph)) == shown.graph
    assert text.parse_kernel(str(shown.kernels[0])) == shown.kernels[0]
    golden("softmax_graph", shown.graph)
    golden("softmax_kernel", str(shown.kernels[0]))
    golden("softmax_source", shown.source)
    golden("softmax_plan", shown.program)


def test_lower_runs_nothing() -> None:
    w, x = st.zeros(3), st.ones(3)
    w.numpy(), x.numpy()

    def f(x: st.Tensor) -> st.Tensor:
        w.add_(x)
        return w * 2

    before = program.counters["launches"]
    shown = st.compile(f).lower(x)
    assert shown.launches > 0 and program.counters["launches"] == before
    assert w.tolist() == [0, 0, 0]


def test_source_is_python_that_runs() -> None:
    (kernel,) = st.compile(lambda x, y: x * y + 1).lower(st.zeros(5), st.zeros(5)).kernels
    namespace: dict[str, object] = {}
    exec(st.inspect.source(kernel), namespace)
    function = namespace[kernel.key]
    assert callable(function)
    x, y, out = np.arange(5, dtype=np.float32), np.full(5, 3, np.float32), np.zeros(5, np.float32)
    function(*_arguments(function, {"x": x, "y": y, "out": out}, 5))
    assert out.tolist() == (x * y + 1).tolist()


def _arguments(function: Callable[..., object], arrays: dict[str, np.ndarray], size: int) -> list[object]:
    """By name: arrays, a size for every other integer; the kernel has one run-time scalar, 1."""
    names = list(inspect.signature(function).parameters)
    return [arrays[n] if n in arrays else np.float32(1) if n.startswith("scalar") else size for n in names]


@pytest.mark.parametrize("spelling", ["numba", "llvm", "triton", "ir"])
def test_source_in_every_spelling(spelling: str) -> None:
    shown = st.compile(lambda x, y: (x @ y).relu().sum(0)).lower(st.zeros(8, 8), st.zeros(8, 8))
    assert len(shown.kernels) >= 2
    for kernel in shown.kernels:
        assert len(st.inspect.source(kernel, spelling).splitlines()) > 3


def test_source_refuses_other_spellings() -> None:
    (kernel,) = st.compile(softmax).lower(st.zeros(2, 3)).kernels
    with pytest.raises(ValueError, match="cobol"):
        st.inspect.source(kernel, "cobol")


def test_text_shows_as_itself() -> None:
    assert repr(show.Text("a\nb")) == "a\nb"


# -- explain --------------------------------------------------------------------------------------------


def test_explain_names_lines_costs_and_reasons() -> None:
    x = st.ones(64, 32)
    w = st.ones(32, 32)
    x.numpy(), w.numpy()
    product, first = x @ w, here()
    y, second = product.tanh().softmax(-1), here()
    total, third = y.sum(0), here()
    report = st.explain(total)
    matmul, rows, columns = report.launches
    assert matmul.kind == "matmul" and first in matmul.lines
    assert rows.kind == "rows" and rows.lines == (second,)
    assert columns.lines[-1] == third
    assert matmul.cost.read == x.numel() * 4 + w.numel() * 4
    assert matmul.cost.flops >= 2 * 64 * 32 * 32
    assert any("launch" in reason for reason in columns.reasons), columns.reasons
    assert "3 launches" in str(report) and first in str(report)
    assert total.shape == (32,)


def test_gradients_are_explained_by_the_line_they_differentiate() -> None:
    w = st.ones(4, 4, requires_grad=True)
    x = st.ones(4, 4)
    y, line = (x * w).exp(), here()
    y.sum().backward()
    assert w.grad is not None
    report = st.explain(w.grad)
    assert line in {where for launch in report.launches for where in launch.lines}


def test_explain_refuses_what_it_cannot_explain() -> None:
    x = st.ones(3)
    x.numpy()
    with pytest.raises(ValueError, match="already has its value"):
        st.explain(x)
    with pytest.raises(TypeError, match="int"):
        st.explain(3)


@pytest.mark.parametrize(
    ("make", "read", "written"),
    [
        (lambda x: x * 2, 4096, 4096),
        (lambda x: x.softmax(-1), 4096, 4096),
        (lambda x: x[:, :8] + 1, 1024, 1024),
        (lambda x: x.sum(1), 4096, 128),
        (lambda x: x[0] + x, 4096, 4096),
    ],
    ids=["pointwise", "softmax", "slice", "sum", "broadcast"],
)
def test_bytes_are_what_must_be_moved(make: Callable[[st.Tensor], st.Tensor], read: int, written: int) -> None:
    x = st.ones(32, 32)
    x.numpy()
    found = st.explain(make(x)).cost
    assert (found.read, found.written) == (read, written)


def test_flops_are_counted_per_element_and_per_row() -> None:
    x = st.ones(32, 64)
    x.numpy()
    assert st.explain(x * 2 + 1).cost.flops == 2 * 32 * 64
    per_row = st.explain(x.sum(1) * 2).cost.flops
    assert per_row == 32 * 64 + 32


def test_numbers_for_people() -> None:
    assert [cost.readable(n) for n in (0, 1023, 1 << 20, 3 << 30)] == ["0 B", "1023 B", "1.0 MiB", "3.0 GiB"]
    assert [cost.count(n) for n in (7, 1500, 2_000_000, 10**12)] == ["7", "1.5 k", "2.0 M", "1000.0 G"]


# -- profile --------------------------------------------------------------------------------------------


def test_profile_times_every_launch_and_changes_nothing() -> None:
    f = st.compile(lambda x: (x @ x.T).softmax(-1).sum(0))
    x = st.randn(128, 64)
    want = f(x).numpy()
    launches = f.lower(x).launches
    with st.profile() as p:
        for _ in range(3):
            got = f(x)
    assert (got.numpy() == want).all()
    assert len(p.rows) == launches and all(r.calls == 3 for r in p.rows)
    assert 0 < p.seconds < 10 and p.peak > 0
    assert [r.seconds for r in p.rows] == sorted((r.seconds for r in p.rows), reverse=True)
    assert all(r.kernel in str(p) for r in p.rows)
    assert program.observer is None
    f(x)
    assert all(r.calls == 3 for r in p.rows)


def test_profile_reports_a_failed_check() -> None:
    x, i = st.ones(4), st.tensor([9])
    with st.profile(), pytest.raises(IndexError):
        x[i].numpy()
    assert program.observer is None


# -- dump and log -----------------------------------------------------------------------------------------


def test_dump_writes_every_pass(tmp_path: Path) -> None:
    shown = st.compile(softmax).lower(st.zeros(4, 8))
    folder = st.inspect.dump(shown.lowered, tmp_path)
    assert folder == st.inspect.dump(shown.lowered, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    files = {p.name: p.read_text() for p in folder.iterdir()}
    assert set(files) == {"1-graph.txt", "2-simplified.txt", "3-kernels.txt", "4-source.py", "5-plan.txt"}
    assert files["1-graph.txt"].strip() == shown.graph
    compile(files["4-source.py"], "source", "exec")


def test_environment_switches_dump_and_log(tmp_path: Path) -> None:
    code = "import spiraltorch as st; st.compile(lambda x: x.softmax(-1))(st.ones(2, 3))"
    env = os.environ | {"ST_DUMP": str(tmp_path), "ST_LOG": "kernels,source"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "[kernels] program of 1 launches" in done.stderr and "def k" in done.stderr
    assert any(p.name == "4-source.py" for p in tmp_path.rglob("*"))
