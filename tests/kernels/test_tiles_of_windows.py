"""Windows of 3 x 3 by Winograd's products against the reference interpreter, exactly.

Values are small integers: what the products compute with them are quarters that float32 holds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_windows import Windows, check, whole

from spiraltorch.dtypes import DType, bfloat16, float16, float32
from spiraltorch.ir import text
from spiraltorch.ir.kernel import Access, Gemm, Operand, Param, Phase, Slot, Store
from spiraltorch.ir.node import Node, make
from spiraltorch.kernels.llvm import winograd
from spiraltorch.kernels.llvm.target import host


def gemm(w: Windows, dtype: DType, batched: bool) -> Gemm:
    """Filters times windows of a batch, or of one image; slots 10, 11: the image of results."""
    params = [Param(dtype), Param(dtype), *[Param(text.BY_NAME["int64"])] * 6, Param(float32, "out")]
    value: Node = make("VALUE", (), 0, (), float32)
    terms = ((0, Slot(4)), (1, Slot(2)), (2, 1))
    access = Access(0, terms if batched else ((0, Slot(2)), (1, 1)))
    store = Store(8, access, make("NEG", (value,), None, (), float32))
    b = w.operand(True, 1)
    axes = (Slot(0), Slot(1), Slot(2)) if batched else (Slot(1), Slot(2))
    return Gemm(
        axes, Slot(3), Operand(0, Slot(3), 1), b if batched else replace(b, batch=()), float32, tuple(params), (), 12,
        Phase((), (), (store,)), (Slot(10), Slot(11)),
    )  # fmt: skip


def run(w: Windows, filters: int, images: int, dtype: DType = float32) -> None:
    n, k = math.prod(w.out), 9 * w.channels
    rng = np.random.default_rng(0)
    data = [whole(rng, filters * k, dtype), whole(rng, images * w.channels * math.prod(w.space), dtype)]
    ints = [images, filters, n, k, filters * n, *w.ints(), *w.out]
    check(gemm(w, dtype, images > 1), [*data, *w.arrays(), np.zeros(images * filters * n, np.float32)], ints, 8)


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("space", [(7, 9), (10, 33), (4, 70), (13, 5), (3, 3)], ids=str)
def test_images_of_any_size(space: tuple[int, int], pad: int) -> None:
    run(Windows(5, space, (3, 3), 1, pad), 19, 2)


@pytest.mark.parametrize(("filters", "channels"), [(1, 1), (14, 8), (33, 21), (70, 3)])
def test_filters_and_channels(filters: int, channels: int) -> None:
    run(Windows(channels, (12, 11), (3, 3), 1, 1), filters, 3)


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=lambda d: d.name)
def test_narrow_elements(dtype: DType) -> None:
    run(Windows(6, (9, 20), (3, 3), 1, 1), 17, 2, dtype)


def test_a_task_is_a_part_of_a_line() -> None:
    run(Windows(2, (5, 1201), (3, 3), 1, 1), 3, 1)


def test_rows_of_many_channels_are_cut() -> None:
    w = Windows(700, (4, 4), (3, 3), 1, 1)
    assert winograd.cut(130, 700, 4, 4, 1, host(), float32, 1)["m_blocks"] > 1
    run(w, 130, 2)


def test_elements_that_are_apart() -> None:
    """Columns of the data are two elements apart, so vectors are gathered."""
    w = Windows(3, (9, 12), (3, 3), 1, 1)
    arrays = w.arrays()
    rng = np.random.default_rng(1)
    data = [whole(rng, 7 * 27, float32), whole(rng, 4 * 3 * 9 * 12, float32)]
    n, (stride, start, *rest) = math.prod(w.out), w.ints()
    ints = [2, 7, n, 27, 7 * n, 2 * stride, 2 * start, *rest, *w.out]
    tables = [arrays[0] * 2, arrays[1] * 2, *arrays[2:]]
    check(gemm(w, float32, True), [*data, *tables, np.zeros(2 * 7 * n, np.float32)], ints, 8)
