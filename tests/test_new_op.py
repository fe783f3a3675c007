"""``spiraltorch new-op``: what it writes works as it stands, and it overwrites nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spiraltorch.__main__ import main

ROOT = Path(__file__).parent.parent


def checkout(folder: Path) -> Path:
    """A copy with what the new operator's own tests need."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "spiraltorch", folder / "spiraltorch", ignore=ignore)
    (folder / "tests" / "ops").mkdir(parents=True)
    for name in ("tests/__init__.py", "tests/ops/harness.py", "tests/ops/recurrent.py", "tests/ops/test_records.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "docs").mkdir()
    return folder


def test_a_new_operator_passes_its_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = checkout(tmp_path)
    assert main(["new-op", "softly", "--root", str(root)]) == 0
    assert "spiraltorch/ops/softly.py" in capsys.readouterr().out
    environment = {**os.environ, "PYTHONPATH": str(root)}
    page = (root / "docs/softly.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert subprocess.run([sys.executable, "-c", page], cwd=root, env=environment).returncode == 0
    tests = ["tests/ops/test_softly.py", "tests/ops/test_records.py", "-k", "softly and not float16", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout
    assert main(["new-op", "softly", "--root", str(root)]) == 1


@pytest.mark.parametrize("name", ["Soft", "2d", "lambda", "relu"])
def test_bad_names_write_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spiraltorch" / "ops").mkdir(parents=True)
    (tmp_path / "spiraltorch" / "ops" / "__init__.py").write_text("from . import (\n    view,\n)\n")
    assert main(["new-op", name, "--root", str(tmp_path)]) == 1 and name in capsys.readouterr().err
    assert len(list(tmp_path.rglob("*.py"))) == 1


def test_elsewhere_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-op", "softly", "--root", str(tmp_path)]) == 1 and "no checkout" in capsys.readouterr().err
