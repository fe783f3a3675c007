"""Measured choices: the file, which of them is used, and that none changes a bit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.__main__ import main
from spiraltorch.inspect import tune
from spiraltorch.ir import graph, lang
from spiraltorch.jit.program import build
from spiraltorch.kernels.llvm.gemm import blocks
from spiraltorch.kernels.llvm.gemm_core import Shape
from spiraltorch.runtime import buffers, tuning
from spiraltorch.runtime.tuning import LIMITS, WORDS, Choice, Entry

HERE = "avx512 L1 32K L2 1024K"


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's file, which is not there yet; the machine is ``HERE``."""
    path = tmp_path / "folder" / "tuning.json"
    monkeypatch.setattr(tuning, "user_file", lambda: path)
    monkeypatch.setattr(tuning, "machine", lambda: HERE)
    tuning._measured.cache_clear()
    yield path
    tuning._measured.cache_clear()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tuning.json"
    first = Entry(Choice(block_rows=128), ({"word": "block_rows", "microseconds": {"128": 1.5}},))
    tuning.write(path, HERE, first)
    second = Entry(Choice(chunk_elements=1 << 12))
    tuning.write(path, "neon L1 64K L2 512K", second)
    assert tuning.parse(path.read_text()) == {HERE: first, "neon L1 64K L2 512K": second}
    assert tuning.read(path, HERE) == first
    assert [p.name for p in path.parent.iterdir()] == ["tuning.json"]  # nothing else is left behind
    tuning.write(path, HERE, second)
    assert tuning.read(path, HERE) == second


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tuning.json"
    tuning.write(path, HERE, Entry(Choice()))
    before = path.read_text()

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(tuning.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tuning.write(path, HERE, Entry(Choice(block_rows=64)))
    assert path.read_text() == before and [p.name for p in tmp_path.iterdir()] == ["tuning.json"]


SPOILT = {
    "cut": '{"format": 1, "machi', "list": "[]", "bytes": "\x00\xff", "format": '{"format": 2, "machines": {}}',
    "word": json.dumps({"format": 1, "machines": {HERE: {"choice": {"speed": 3}}}}),
    "text": json.dumps({"format": 1, "machines": {HERE: {"choice": {"block_rows": "many"}}}}),
    "bool": json.dumps({"format": 1, "machines": {HERE: {"choice": {"direct_panels": True}}}}),
    "large": json.dumps({"format": 1, "machines": {HERE: {"choice": {"block_rows": 1 << 20}}}}),
    "measured": json.dumps({"format": 1, "machines": {HERE: {"choice": {}, "measured": 3}}}),
    "deep": "[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_file_costs_a_warning(kind: str, own_file: Path) -> None:
    own_file.parent.mkdir()
    own_file.write_bytes(SPOILT[kind].encode("latin-1"))
    with pytest.warns(RuntimeWarning, match="left out of account.*spiraltorch tune"):
        choice = tuning.chosen()
    package = tuning.read(tuning.PACKAGE_FILE, HERE)
    assert package is not None and choice == package.choice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuning.chosen() == choice  # one warning a process
    tuning.write(own_file, HERE, Entry(Choice(block_rows=32)))
    assert tuning.read(own_file, HERE) == Entry(Choice(block_rows=32))


def test_the_users_file_comes_first(own_file: Path) -> None:
    package = tuning.read(tuning.PACKAGE_FILE, HERE)
    assert package is not None and tuning.chosen() == package.choice
    other = replace(package.choice, block_rows=48)
    tuning.write(own_file, HERE, Entry(other))
    tuning._measured.cache_clear()
    assert tuning.chosen() == other
    with tuning.using(Choice(block_rows=96)):
        assert tuning.chosen().block_rows == 96
    assert tuning.chosen() == other


def test_the_package_knows_two_classes_of_machines() -> None:
    entries = tuning.parse(tuning.PACKAGE_FILE.read_text())
    assert {name.split()[0] for name in entries} >= {"avx2", "avx512"}
    for entry in entries.values():
        assert {m["word"] for m in entry.measured} == set(WORDS) == set(LIMITS) == set(asdict(entry.choice))
        for word in WORDS:  # the choice is among the candidates that were measured
            assert all(str(getattr(entry.choice, word)) in m["microseconds"] for m in entry.measured if m["word"] == word)


def test_a_machine_takes_the_entry_of_the_most_similar_one() -> None:
    entries = {name: Entry(Choice(block_rows=rows)) for name, rows in (
        ("avx512 L1 32K L2 1024K", 64), ("avx512 L1 48K L2 2048K", 65), ("avx2 L1 32K L2 256K", 66),
    )}  # fmt: skip
    for name, rows in (("avx512 L1 48K L2 1280K", 64), ("avx512 L1 48K L2 2048K", 65), ("avx2 L1 ? L2 ?", 66)):
        found = tuning._nearest(entries, name)
        assert found is not None and found.choice.block_rows == rows
    assert tuning._nearest(entries, "neon L1 64K L2 512K") is None


def test_sizes_of_caches(tmp_path: Path) -> None:
    for k, words in enumerate((("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "x"))):
        (tmp_path / f"index{k}").mkdir()
        for name, word in zip(("level", "type", "size"), words):
            (tmp_path / f"index{k}" / name).write_text(word + "\n")
    assert tuning._cache_sizes(tmp_path) == ("48K", "2048K")
    assert tuning._cache_sizes(tmp_path / "none") == ("?", "?")


def _result(m: int, n: int, k: int, turned: bool) -> bytes:
    rng = np.random.default_rng(m)
    shapes = [(m, k), (n, k) if turned else (k, n), (n,)]
    x, w, b = [graph.param(i, s, st.float32) for i, s in enumerate(shapes)]
    dot = graph.dot(x, w, contract_a=(1,), contract_b=(1 if turned else 0,))
    program = build([lang.exp(-(dot * dot)) + b], [None], [(s, st.float32) for s in shapes], [])
    given = [buffers.from_numpy(rng.standard_normal(s).astype(np.float32))[0] for s in shapes]
    (out,) = program.run(given)
    return out.view(np.float32, (m, n)).tobytes()


@pytest.mark.parametrize("m,n,k", [(1, 300, 900), (5, 70, 400), (33, 70, 40), (200, 450, 800), (600, 40, 500)])
def test_bits_do_not_depend_on_choices(m: int, n: int, k: int) -> None:
    low, high = ([Choice(**{w: LIMITS[w][side] for w in WORDS})] for side in (0, 1))
    some = [Choice(block_rows=r, block_bytes=b, direct_panels=d) for r, b, d in ((16, 1024, 0), (100, 3072, 1), (512, 512, 64))]
    for turned in (False, True):
        seen = set()
        for choice in (Choice(), *low, *high, *some):
            with tuning.using(choice):
                seen.add(_result(m, n, k, turned))
        assert len(seen) == 1


def test_choices_are_used() -> None:
    shape = Shape(16, 14, 2, (1, 2, 4, 8, 14))
    for rows, width in ((28, 1024), (112, 2048), (512, 512)):
        with tuning.using(Choice(block_rows=rows, block_bytes=width)):
            b = blocks(2000, 2000, 500, 1, shape, 4, 1)
        assert rows / 2 < b.mc <= rows and width / 2 < 4 * b.nc <= width
    with tuning.using(Choice(serial_products=1 << 20)):
        assert blocks(100, 100, 100, 1, shape, 4, 2).n_blocks == 1
    with tuning.using(Choice(serial_products=1 << 10, split_products=1 << 40)):
        b = blocks(100, 100, 100, 1, shape, 4, 2)
        assert b.m_blocks * b.n_blocks == 2
    with tuning.using(Choice(serial_products=1 << 10, split_products=1 << 10)):
        b = blocks(100, 100, 100, 1, shape, 4, 2)
        assert b.m_blocks * b.n_blocks == 4


def test_the_command_measures_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = tune.Workload("x + x of 4096 float32", ((4096,),), lambda x: x + x)
    questions = (tune.Question("chunk_elements", (1 << 10, 1 << 14), (small,)),)
    monkeypatch.setattr(tune, "QUESTIONS", questions)
    path = tmp_path / "tuning.json"
    assert main(["tune", "--seconds", "0.01", "--output", str(path)]) == 0
    entry = tuning.read(path, tuning.machine())
    assert entry is not None and entry.choice.chunk_elements in (1 << 10, 1 << 14)
    (record,) = entry.measured
    assert record["word"] == "chunk_elements" and record["work"].startswith(small.note)
    assert set(record["microseconds"]) == {"1024", "16384"} and all(t > 0 for t in record["microseconds"].values())
    assert "chunk_elements = " in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert main(["tune", "--seconds", "0.01", "--output", str(tmp_path / "file" / "tuning.json")]) == 1
    assert "could not be written" in capsys.readouterr().err
