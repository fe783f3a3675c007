"""Generated Triton kernels on a real device, against NumPy."""

import numpy as np
import pytest
from kernel_cases import case_id, column_sum, gemm, layer_norm, pointwise, small_cases, softmax
from ml_dtypes import bfloat16

from spiraltorch.kernels.triton import launcher

pytestmark = pytest.mark.gpu


def on_device(case):
    """Run ``case`` on the current device and bring its arrays back."""
    import torch

    held = [torch.from_numpy(a.view(np.uint8)).cuda() for a in case.arrays]
    launcher.launch(case.kernel, [t.data_ptr() for t in held], case.ints, case.scalars)
    torch.cuda.synchronize()
    return [t.cpu().numpy().view(a.dtype) for t, a in zip(held, case.arrays)]


def large_cases():
    rng = np.random.default_rng(2)
    return [
        pointwise(rng, 300, 5000), pointwise(rng, 3000, 40), softmax(rng, 200, 1000), softmax(rng, 20, 20001),
        layer_norm(rng, 100, 4096), column_sum(rng, 3, 2000, 300), gemm(rng, bfloat16, np.float32, 2, 300, 500, 700),
        gemm(rng, np.float32, np.float32, 1, 257, 129, 65), gemm(rng, np.int32, np.int32, 1, 70, 80, 90),
    ]  # fmt: skip


@pytest.mark.parametrize("case", small_cases() + large_cases(), ids=case_id)
def test_on_device(case):
    case.check(on_device(case), rtol=max(case.rtol, 1e-5) if case.rtol else None)


def test_the_same_bits_every_time():
    case = column_sum(np.random.default_rng(3), 2, 4000, 100)
    first, second = on_device(case), on_device(case)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))
