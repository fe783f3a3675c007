"""What holds for the project as a whole: what an import costs, who imports whom, how large files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.determinism import digest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spiraltorch"
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "triton", "scipy", "numba", "llvmlite", "jax", "matplotlib", "sklearn")

# What a layer may import when it is itself imported, besides itself.  The names are folders or files of the package.
BASE = {"dtypes", "device", "config", "errors"}
LAYERS = {
    "dtypes": {"errors"},
    "config": set(),
    "errors": set(),
    "device": BASE,
    "ir": BASE,
    "runtime": BASE | {"ir"},
    "kernels": BASE | {"ir", "runtime"},
    "ops": BASE | {"ir"},
}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light() -> None:
    found = run(f"import sys, spiraltorch; print([m for m in {HEAVY} if m in sys.modules])")
    assert found == "[]"


def test_import_adds_few_modules_to_numpys() -> None:
    """What importing costs is gated on the number of modules; the time is in docs/performance.md."""
    code = "import sys, numpy, ml_dtypes; before = len(sys.modules); import spiraltorch; print(len(sys.modules) - before)"
    assert int(run(code)) < 200


def imported(path: Path) -> set[str]:
    """The package's parts that a file imports at its top level."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        names = [statement.module] if statement.module else [a.name for a in statement.names]
        for name in names:
            if statement.level:
                found.add([*parts[: len(parts) - statement.level], *name.split(".")][0])
            elif name.split(".")[0] == "spiraltorch":
                found.add(name.split(".")[1])
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    files = [p for p in SOURCES if p.relative_to(PACKAGE).with_suffix("").parts[0] == layer]
    assert files
    for path in files:
        wrong = imported(path) - LAYERS[layer] - {layer}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}, which lie above it"


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert not silent, silent


def test_files_are_of_a_size_one_can_read() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := p.read_text(encoding="utf-8").count("\n")) > 700}
    assert not long, long


def test_nothing_is_left_to_do() -> None:
    files = [
        *SOURCES,
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "fuzz").rglob("*.py"),
    ]
    words = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + 'Error("not yet')
    found = [f"{p.relative_to(ROOT)}: {w}" for p in files for w in words if w in p.read_text(encoding="utf-8")]
    assert not found, found


def test_library_is_apache_licensed() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# -- the tools run ------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_demo_meets_its_goals() -> None:
    said = command("examples/digits.py", "--epochs", "6")
    assert "bit-identical" in said and "compiled" in said


def test_fuzzing_finds_nothing() -> None:
    assert " 0 findings" in command("-m", "fuzz", "--seconds", "300", "--programs", "150", "--seed", "1")


@pytest.mark.parametrize("name", ["mlp", "layernorm_fwd_bwd", "embedding_bwd", "sdpa_fwd_bwd", "cnn_train"])
def test_workloads_have_the_same_bits_on_any_number_of_threads(name: str) -> None:
    assert len({digest(name, threads) for threads in (1, 2, 4)}) == 1


def test_benchmarks_run_and_agree() -> None:
    chosen = ("--only", "mlp_small,softmax,record", "--frameworks", "spiraltorch,torch", "--threads", "1")
    said = command("-m", "benchmarks", "--quick", *chosen)
    assert "mlp_small" in said and "failed" not in said and "differ" not in said
