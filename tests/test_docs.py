"""The documentation is true: its Python runs, its links lead somewhere, its generated parts are current."""

from __future__ import annotations

import re
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]


def blocks(text: str) -> list[tuple[int, str]]:
    """(first line's number, code) of every ```python block."""
    found = []
    for m in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found.append((text.count("\n", 0, m.start(1)), m.group(1)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_runs(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, code in blocks(page.read_text(encoding="utf-8")):
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_there_is_python_to_run() -> None:
    counts = {name: len(blocks(page.read_text(encoding="utf-8"))) for name, page in zip(NAMES, PAGES)}
    assert counts["README.md"] >= 2 and counts["docs/index.md"] >= 3 and counts["docs/errors.md"] >= 4, counts


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def generator() -> Any:
    spec = util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_current() -> None:
    g = generator()
    stale = [page for page in g.PAGES if g.filled(page) != (ROOT / "docs" / page).read_text(encoding="utf-8")]
    assert not stale, f"{', '.join(stale)} differ from the records; `make docs` writes them"
