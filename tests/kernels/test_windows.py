"""Products of windows, whose padding is bounds, and kernels with short last axes: generated code, exactly.

Values are small integers, so every order of summation gives the same float32 numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from test_gemm import run as run_gemm
from test_llvm import TARGETS
from test_llvm import run as run_kernel

from spiraltorch.dtypes import DType, bfloat16, float32, float64, int8
from spiraltorch.ir import text
from spiraltorch.ir.kernel import Access, Bound, Gemm, Kernel, Operand, Param, Phase, Slot, Store
from spiraltorch.ir.node import make
from spiraltorch.kernels import reference
from spiraltorch.kernels.llvm import target
from spiraltorch.runtime import threads

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def whole(rng: np.random.Generator, size: int, dtype: DType) -> Array:
    return rng.integers(-4, 5, size).astype(dtype.np)


def table(*walk: tuple[int, int]) -> Array:
    """Offsets of a walk over axes (size, stride), outermost first."""
    total = np.zeros(1, np.int64)
    for size, stride in walk:
        total = (total[:, None] + np.arange(size) * stride).reshape(-1)
    return total


class Windows:
    """Images [N, C, *space] under a filter of ``kernel``: the tables and bounds that read their windows."""

    def __init__(self, channels: int, space: tuple[int, ...], kernel: tuple[int, ...], stride: int, pad: int) -> None:
        self.channels, self.space, self.kernel, self.stride, self.pad = channels, space, kernel, stride, pad
        self.out = tuple([(n + 2 * pad - k) // stride + 1 for n, k in zip(space, kernel)])
        self.steps = [math.prod(space[i + 1 :]) for i in range(len(space))]

    def pixels(self, coordinate: int | None = None) -> Array:
        """The walk over positions of the result: offsets, or one coordinate."""
        steps = self.steps if coordinate is None else [int(i == coordinate) for i in range(len(self.space))]
        return table(*[(n, self.stride * s) for n, s in zip(self.out, steps)])

    def cells(self, coordinate: int | None = None) -> Array:
        """The walk over channels and places of the window."""
        steps = self.steps if coordinate is None else [int(i == coordinate) for i in range(len(self.space))]
        apart = math.prod(self.space) if coordinate is None else 0
        return table((self.channels, apart), *list(zip(self.kernel, steps)))

    def operand(self, across: bool, first: int) -> Operand:
        """Windows with pixels across and cells along k, or turned.  Params from ``first``: data, pixels, cells, then
        both for each bound; slots 5: a batch's stride; 6: where the first window starts; 7: -pad; 8..: sizes."""

        def pair(k: int) -> tuple[str, str]:
            names = f"p{first + 1 + 2 * k}", f"p{first + 2 + 2 * k}"
            return names if across else (names[1], names[0])

        bounds = [Bound(*pair(1 + i), Slot(8 + i), (), Slot(7)) for i in range(len(self.space))]
        return Operand(first, *pair(0), (Slot(5),), Slot(6), tuple(bounds))

    def arrays(self) -> list[Array]:
        found = [self.pixels(), self.cells()]
        for i in range(len(self.space)):
            found += [self.pixels(i), self.cells(i)]
        return found

    def ints(self) -> list[int]:
        start = -self.pad * sum(self.steps)
        return [self.channels * math.prod(self.space), start, -self.pad, *self.space]


def check(g: Gemm, arrays: list[Array], ints: list[int], out: int) -> None:
    assert text.parse_gemm(str(g)) == g
    want = [a.copy() for a in arrays]
    reference.run_gemm(g, want, ints)
    for count in (1, 3):
        threads.set_num_threads(count)
        arrays[out][:] = 77
        run_gemm(g, arrays, ints)
        np.testing.assert_array_equal(arrays[out], want[out])


GEOMETRIES = [
    Windows(3, (20, 37), (3, 3), 1, 1), Windows(2, (33, 33), (3, 3), 1, 0), Windows(5, (7, 7), (3, 3), 1, 1),
    Windows(2, (19, 40), (3, 2), 2, 1), Windows(40, (12, 12), (3, 3), 1, 2), Windows(3, (90,), (5,), 1, 2),
    Windows(3, (70,), (4,), 3, 3), Windows(2, (6, 7, 17), (2, 3, 3), 1, 1), Windows(1, (24, 24), (1, 1), 2, 0),
    Windows(2, (3, 3), (3, 3), 1, 4), Windows(3, (41, 79), (7, 7), 2, 3), Windows(17, (14, 30), (1, 1), 2, 0),
]  # fmt: skip


SOME = (*GEOMETRIES[:2], GEOMETRIES[3])
TYPED = [(w, float32, float32) for w in GEOMETRIES] + [(w, d, d.acc) for w in SOME for d in (bfloat16, float64)]
TYPED += [(w, bfloat16, bfloat16) for w in SOME]


@pytest.mark.parametrize(("w", "dtype", "acc"), TYPED, ids=lambda v: getattr(v, "name", "") or f"{v.space}s{v.stride}p{v.pad}")
def test_filters_times_windows(w: Windows, dtype: DType, acc: DType) -> None:
    rng, images, filters = np.random.default_rng(0), 2, 19
    n, k = math.prod(w.out), w.channels * math.prod(w.kernel)
    params = [Param(dtype), Param(dtype), *[Param(text.BY_NAME["int64"])] * (2 + 2 * len(w.space)), Param(acc, "out")]
    out = len(params) - 1
    store = Store(out, Access(0, ((0, Slot(4)), (1, Slot(2)), (2, 1))), make("VALUE", (), 0, (), acc))
    g = Gemm(
        (Slot(0), Slot(1), Slot(2)), Slot(3), Operand(0, Slot(3), 1), w.operand(True, 1), acc, tuple(params), (),
        8 + len(w.space), Phase((), (), (store,)),
    )  # fmt: skip
    arrays = [whole(rng, filters * k, dtype), whole(rng, images * w.channels * math.prod(w.space), dtype), *w.arrays()]
    check(g, [*arrays, np.zeros(images * filters * n, acc.np)], [images, filters, n, k, filters * n, *w.ints()], out)


@pytest.mark.parametrize("w", GEOMETRIES, ids=lambda w: f"{w.space}{w.kernel}s{w.stride}p{w.pad}")
def test_gradients_times_windows(w: Windows) -> None:
    """k runs over pixels: both sides are read along it."""
    rng, filters = np.random.default_rng(1), 17
    n, k = w.channels * math.prod(w.kernel), math.prod(w.out)
    params = [Param(float32), Param(float32), *[Param(text.BY_NAME["int64"])] * (2 + 2 * len(w.space)), Param(float32, "out")]
    out = len(params) - 1
    store = Store(out, Access(0, ((0, Slot(4)), (1, Slot(2)), (2, 1))), make("VALUE", (), 0, (), float32))
    g = Gemm(
        (Slot(0), Slot(1), Slot(2)), Slot(3), Operand(0, Slot(3), 1), w.operand(False, 1), float32, tuple(params), (),
        8 + len(w.space), Phase((), (), (store,)),
    )  # fmt: skip
    arrays = [whole(rng, filters * k, float32), whole(rng, w.channels * math.prod(w.space), float32), *w.arrays()]
    check(g, [*arrays, np.zeros(filters * n, np.float32)], [1, filters, n, k, filters * n, *w.ints()], out)


SHORT = [(2, d, TARGETS[0]) for d in (float64, bfloat16, int8)] + [(n, float32, t) for n in (2, 3, 4) for t in TARGETS]


@pytest.mark.parametrize(("group", "dtype", "machine"), SHORT, ids=lambda v: str(getattr(v, "name", v)))
def test_short_last_axis(group: int, dtype: DType, machine: target.Target) -> None:
    """Every second (third, fourth) element read, and written between its neighbours."""
    spec = f"""
kernel rows=3 lane=row block=40 group={group} axes=(s0, s1, s2) params=(in {dtype.name}, in {dtype.name}, out {dtype.name}) scalars=() slots=6
  phase ()
    %0 = LOAD p0[a0*s3+a1*{group}+a2] : {dtype.name}
    %1 = LOAD p1[a0*s4+a1] : {dtype.name}
    %2 = ADD(%0, %1) : {dtype.name}
    store p2[a0*s5+a1*{group}+a2] = %2
"""
    k = text.parse_kernel(spec)
    assert isinstance(k, Kernel) and text.parse_kernel(str(k)) == k
    rng = np.random.default_rng(group)
    for columns in (1, 7, 16, 33, 64, 150):
        rows, wide = 3, columns * group
        arrays = [whole(rng, rows * wide, dtype), whole(rng, rows * columns, dtype), np.zeros(rows * wide, dtype.np)]
        ints = [rows, columns, group, wide, columns, wide]
        want = [a.copy() for a in arrays]
        reference.run_kernel(k, want, ints)
        run_kernel(k, arrays, ints, machine=machine)
        np.testing.assert_array_equal(arrays[2].astype(np.float64), want[2].astype(np.float64))
