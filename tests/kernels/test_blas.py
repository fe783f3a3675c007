"""LAPACK's results do not depend on how many threads BLAS has, and its number of threads is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.kernels.library import blas


def threads() -> list[int]:
    return [library.get() for library in blas.libraries()]


@contextmanager
def blas_threads(n: int) -> Iterator[list[int]]:
    before = threads()
    assert len(before) == 2, "NumPy's or SciPy's BLAS was not found"
    for library in blas.libraries():
        library.set(n)
    try:
        yield [n] * len(before)
    finally:
        for library, old in zip(blas.libraries(), before):
            library.set(old)


@pytest.mark.parametrize("name", ["inv", "qr", "eigh", "svdvals", "cholesky", "det", "pinv", "solve", "lu", "lstsq", "eig"])
def test_bits_for_any_number_of_threads(name: str) -> None:
    a = np.random.default_rng(0).standard_normal((300, 300))
    a = a @ a.T + 300 * np.eye(300) if name in ("eigh", "cholesky") else a
    found = []
    for n in (1, 2, 4):
        with blas_threads(n) as many:
            x = st.tensor(a)
            out = getattr(st.linalg, name)(*[x, x[:, :200]] if name in ("solve", "lstsq") else [x])
            found.append(b"".join(t.numpy().tobytes() for t in (out if isinstance(out, tuple) else [out])))
            assert threads() == many
    assert found[0] == found[1] == found[2]


def test_many_threads_inside_at_once() -> None:
    meet = threading.Barrier(4)

    def work(k: int) -> list[int]:
        with blas.one_thread:
            meet.wait(20)
            if k % 2:
                st.linalg.inv(st.eye(3)).tolist()
            seen = threads()
            meet.wait(20)
            return seen

    with blas_threads(2) as many, ThreadPoolExecutor(4) as workers:
        assert list(workers.map(work, range(4))) == [[1, 1]] * 4
        assert not blas.one_thread.inside and threads() == many


def test_taken_back_after_an_error() -> None:
    with blas_threads(2) as many:
        with pytest.raises(st.linalg.LinAlgError):
            st.linalg.inv(st.zeros(3, 3)).tolist()
        assert threads() == many
