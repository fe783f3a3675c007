"""Fixtures for every test: golden texts, an empty cache, and ``gpu`` tests only where there is a device.

A run of the tests has a cache of compiled programs for itself, which its processes share: what ran on this
machine before changes no count.  ``ST_CACHE_DIR`` names one to keep.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spiraltorch.runtime.cache import Objects

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config: pytest.Config) -> None:
    if "ST_CACHE_DIR" not in os.environ:  # the first process of a run; the others inherit it
        folder = os.environ["ST_CACHE_DIR"] = tempfile.mkdtemp(prefix="spiraltorch-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write golden texts instead of comparing with them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = {item for item in items if item.get_closest_marker("gpu")}
    if marked and not _has_device():
        config.hook.pytest_deselected(items=list(marked))
        items[:] = [item for item in items if item not in marked]


@functools.cache
def _has_device() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """No kernel and no plan on disk, whichever tests ran before."""
    from spiraltorch.runtime import cache

    empty = cache.Objects(tmp_path / "cache")
    monkeypatch.setattr(cache, "objects", empty)
    return empty


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: ``text`` must be what ``tests/golden/name.txt`` says; ``--accept`` writes it."""
    accept = request.config.getoption("--accept")

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        text = text.rstrip("\n") + "\n"
        if accept:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        assert path.exists(), f"{path.name} does not exist; pytest --accept writes it"
        assert text == path.read_text(encoding="utf-8"), f"{path.name} differs; pytest --accept takes the new text"

    return check
