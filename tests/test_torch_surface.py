"""The coverage page: its names are the installed torch's, and every sentence is about something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import torch_names
from tests.test_docs import generator


@pytest.fixture(scope="module")
def page() -> Any:
    return generator().torch_surface


def test_names_are_the_installed_torchs() -> None:
    assert json.loads(torch_names.FILE.read_text(encoding="utf-8")) == torch_names.names(), "run python -m tests.torch_names"


def test_differences_are_about_names_that_are_there(page: Any) -> None:
    stale = [full for full in page.DIFFERS if not page.has(*full.rpartition(".")[::2])]
    assert not stale, f"no longer there: {stale}"
