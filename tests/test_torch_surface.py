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


def test_every_missing_name_says_what_to_use(page: Any) -> None:
    silent = [f"{e.space}.{e.name}" for space in page.NAMES for e in page.entries(space) if e.status == "missing" and not e.sentence]
    assert not silent, silent


#: percent of torch's documented names that have to be there
LEAST = {
    "torch": 90, "torch.Tensor": 90, "torch.nn.functional": 95, "torch.linalg": 95, "torch.fft": 95, "torch.special": 95,
}  # fmt: skip


@pytest.mark.parametrize("space", LEAST)
def test_enough_is_there(page: Any, space: str) -> None:
    assert page.share(page.entries(space)) >= LEAST[space]
