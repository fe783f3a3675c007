"""Data sets, samplers and loaders: the same batches as torch's where no randomness is involved."""

from __future__ import annotations

import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.utils import data as ours

theirs = torch.utils.data
Pair = namedtuple("Pair", ["x", "y"])


def plain(value: Any) -> Any:
    """A batch as nested Python values with types by name."""
    if isinstance(value, (st.Tensor, torch.Tensor)):
        return (str(value.dtype).rpartition(".")[2], value.tolist())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [plain(v) for v in value])
    return value


class Samples:
    """Whatever a function gives for a number."""

    def __init__(self, n: int, make: Any) -> None:
        self.n, self.make = n, make

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        return self.make(i)


KINDS = {
    "numbers": lambda lib: lambda i: (i, i / 2, i % 2 == 0),
    "tensors": lambda lib: lambda i: {"x": lib.full((2,), float(i)), "name": f"n{i}"},
    "arrays": lambda lib: lambda i: [np.full(3, i, np.int32), np.float32(i)],
    "named": lambda lib: lambda i: Pair(lib.tensor(i), (i, [float(i)])),
    "text": lambda lib: lambda i: (b"b", "s" * i),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"batch_size": 4, "drop_last": True}, {"batch_size": None}])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_torchs(kind: str, options: dict[str, Any], workers: int) -> None:
    a = ours.DataLoader(Samples(10, KINDS[kind](st)), **options, num_workers=workers)
    b = theirs.DataLoader(Samples(10, KINDS[kind](torch)), **options)
    assert len(a) == len(b)
    for _ in range(2):
        assert [plain(x) for x in a] == [plain(x) for x in b]


@pytest.mark.parametrize("workers", [0, 3])
def test_tensor_dataset(workers: int) -> None:
    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10)
    a, b = ours.TensorDataset(st.tensor(x), st.tensor(y)), theirs.TensorDataset(torch.tensor(x), torch.tensor(y))
    assert len(a) == 10 and plain(a[3]) == plain(b[3]) and plain(a[2:5]) == plain(b[2:5])
    for options in (
        {"batch_size": 3},
        {"batch_size": 4, "drop_last": True},
        {"batch_sampler": [[0, 5], [9], [-1, 2]]},
        {"sampler": [4, 2, 2]},
    ):
        got = [plain(z) for z in ours.DataLoader(a, **options, num_workers=workers)]
        assert got == [plain(z) for z in theirs.DataLoader(b, **options)]
    batch = next(iter(ours.DataLoader(a, batch_size=4)))
    batch[0].zero_()
    assert a.tensors[0][1].tolist() == [2.0, 3.0]
    with pytest.raises(AssertionError, match="Size mismatch"):
        ours.TensorDataset(st.ones(2), st.ones(3))


def test_tensor_batches_are_not_made_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    d = ours.TensorDataset(st.arange(1000.0).reshape(500, 2), st.arange(500))
    monkeypatch.setattr(ours.TensorDataset, "__getitem__", None)
    batches = list(ours.DataLoader(d, batch_size=100, shuffle=True))
    assert len(batches) == 5 and all((a[:, 0] == 2 * b).all().item() for a, b in batches)
    with pytest.raises(IndexError):
        d.__getitems__([500])


def test_batches_of_tensors_that_require_grad() -> None:
    x = st.ones(4, 2, requires_grad=True)
    for (b,) in ours.DataLoader(ours.TensorDataset(x), batch_sampler=[[0, 1], [1]]):
        b.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0], [0.0, 0.0]]


def test_shuffle_is_a_seeded_permutation() -> None:
    d = ours.TensorDataset(st.arange(50))

    def run(seed: int, **options: Any) -> list[int]:
        loader = ours.DataLoader(d, 8, shuffle=True, generator=st.Generator().manual_seed(seed), **options)
        return [i for (b,) in loader for i in b.tolist()]

    assert sorted(run(1)) == list(range(50)) != run(1)
    assert run(1) == run(1) == run(1, num_workers=3) and run(1) != run(2)
    st.manual_seed(5)
    loader = ours.DataLoader(d, 50, shuffle=True)
    first, second = ([b.tolist() for (b,) in loader] for _ in range(2))
    assert first != second


def test_samplers() -> None:
    d = range(7)
    assert list(ours.SequentialSampler(d)) == list(range(7))
    for options in (
        {},
        {"num_samples": 3},
        {"num_samples": 17},
        {"replacement": True},
        {"replacement": True, "num_samples": 30},
    ):
        s, t = ours.RandomSampler(d, **options), theirs.RandomSampler(d, **options)
        got = list(s)
        assert len(got) == len(s) == len(t) and set(got) <= set(d)
        if not options.get("replacement"):
            assert len(set(got[:7])) == min(7, len(got))
    assert sorted(ours.SubsetRandomSampler([3, 5, 9])) == [3, 5, 9]
    drawn = list(ours.WeightedRandomSampler([0.0, 1.0, 3.0], 400))
    assert set(drawn) == {1, 2} and 240 < drawn.count(2) < 360
    assert sorted(ours.WeightedRandomSampler([1.0, 1.0, 3.0], 3, replacement=False)) == [0, 1, 2]
    for drop in (False, True):
        a, b = (lib.BatchSampler(lib.SequentialSampler(d), 3, drop) for lib in (ours, theirs))
        assert list(a) == list(b) and len(a) == len(b)
    for build in (
        lambda lib: lib.BatchSampler(d, 0, False), lambda lib: lib.BatchSampler(d, 2, 1), lambda lib: lib.RandomSampler(d, num_samples=-1),
        lambda lib: lib.WeightedRandomSampler([1.0], 0), lambda lib: lib.WeightedRandomSampler([[1.0]], 1),
    ):  # fmt: skip
        with pytest.raises(ValueError) as a:
            build(ours)
        with pytest.raises(ValueError) as b:
            build(theirs)
        assert str(a.value).split(",")[0] == str(b.value).split(",")[0]


def test_subset_split_concat_stack() -> None:
    d = ours.TensorDataset(st.arange(10), st.arange(10) * 2)
    s = ours.Subset(d, [7, 1, 4])
    assert (
        len(s) == 3 and s[0][0].item() == 7 and plain(s[[0, 2]]) == ("tuple", [("int64", [7, 4]), ("int64", [14, 8])])
    )
    assert [b[0].tolist() for b in ours.DataLoader(s, batch_size=2)] == [[7, 1], [4]]
    for lengths, sizes in (([7, 3], [7, 3]), ([0.5, 0.25, 0.25], [6, 2, 2])):
        parts = ours.random_split(d, lengths, generator=st.Generator().manual_seed(0))
        assert [len(p) for p in parts] == sizes == [len(p) for p in theirs.random_split(range(10), lengths)]
        assert sorted(i for p in parts for i in p.indices) == list(range(10))
        again = ours.random_split(d, lengths, generator=st.Generator().manual_seed(0))
        assert [p.indices for p in parts] == [p.indices for p in again]
    with pytest.raises(ValueError, match="Sum of input lengths"):
        ours.random_split(d, [1, 2])
    c = d + ours.TensorDataset(st.arange(3), st.arange(3))
    assert len(c) == 13 and c[-1][0].item() == 2 and c[9][1].item() == 18 and c[10][0].item() == 0
    both = ours.StackDataset(a=[1, 2, 3], b="xyz")
    assert len(both) == 3 and both[1] == {"a": 2, "b": "y"} and ours.StackDataset([1], [2])[0] == (1, 2)


def test_iterable_dataset() -> None:
    class Stream(ours.IterableDataset):
        def __iter__(self) -> Any:
            return iter([st.tensor(i) for i in range(5)])

    assert [b.tolist() for b in ours.DataLoader(Stream(), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in ours.DataLoader(Stream(), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    assert [b.item() for b in ours.DataLoader(Stream(), batch_size=None)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="IterableDataset"):
        ours.DataLoader(Stream(), shuffle=True)


def test_collate_functions() -> None:
    d = Samples(4, lambda i: i)
    assert list(ours.DataLoader(d, 3, collate_fn=lambda batch: batch)) == [[0, 1, 2], [3]]
    t = ours.TensorDataset(st.arange(4), st.arange(4))
    got = list(ours.DataLoader(t, 3, collate_fn=lambda batch: [(a.item(), b.item()) for a, b in batch]))
    assert got == [[(0, 0), (1, 1), (2, 2)], [(3, 3)]]
    with pytest.raises(TypeError, match="must contain tensors"):
        ours.default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        ours.default_collate([[1], [1, 2]])
    assert plain(ours.default_convert({"a": np.ones(2)})) == {"a": ("float64", [1.0, 1.0])}


def test_options_exclude_each_other() -> None:
    d = range(4)
    for options in (
        {"sampler": [1], "shuffle": True}, {"batch_sampler": [[1]], "batch_size": 2}, {"batch_size": None, "drop_last": True},
        {"num_workers": -1}, {"prefetch_factor": 2}, {"timeout": -1},
    ):  # fmt: skip
        messages = []
        for lib in (ours, theirs):
            with pytest.raises(ValueError) as e:
                lib.DataLoader(d, **options)
            messages.append(str(e.value)[:40])
        assert messages[0] == messages[1]


def test_workers_raise_where_the_batch_would_be_and_stop() -> None:
    def make(i: int) -> Any:
        if i == 5:
            raise KeyError("five")
        return i

    started: list[int] = []
    loader = ours.DataLoader(Samples(8, make), 2, num_workers=2, worker_init_fn=started.append)
    seen = []
    with pytest.raises(KeyError, match="five"):
        for b in loader:
            seen.append(b.tolist())
    assert seen == [[0, 1], [2, 3]] and started and set(started) <= {0, 1}
    for _ in ours.DataLoader(Samples(100, lambda i: i), 2, num_workers=2):
        break
    assert sum(t.name.startswith("spiraltorch-loader") and t.is_alive() for t in threading.enumerate()) <= 4


def test_training_from_a_loader() -> None:
    st.manual_seed(0)
    x = st.randn(64, 4)
    y = (x[:, 0] > 0).long()
    m = st.nn.Linear(4, 2)
    opt = st.optim.SGD(m.parameters(), lr=0.5)
    for _ in range(15):
        for a, b in ours.DataLoader(ours.TensorDataset(x, y), 16, shuffle=True, num_workers=1):
            opt.zero_grad()
            st.nn.functional.cross_entropy(m(a), b).backward()
            opt.step()
    assert (m(x).argmax(1) == y).float().mean().item() > 0.9
