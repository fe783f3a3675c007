"""Convolutions and max pools of sizes that fill several tiles, against torch in float64, with all gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spiraltorch as st

# input, weight, stride, padding, dilation, groups
CONVOLUTIONS = {
    "lines shorter than a vector": ((3, 20, 7, 7), (33, 20, 3, 3), 1, 1, 1, 1),
    "lines across vectors": ((2, 16, 21, 37), (17, 16, 3, 3), 1, 1, 1, 1),
    "two steps of k": ((1, 64, 13, 13), (20, 64, 3, 3), 1, 1, 1, 1),
    "no padding": ((2, 8, 19, 21), (12, 8, 5, 5), 1, 0, 1, 1),
    "more padding than window": ((2, 3, 9, 9), (4, 3, 2, 2), 1, (3, 4), 1, 1),
    "stride": ((2, 8, 17, 34), (9, 8, 3, 3), 2, 1, 1, 1),
    "uneven stride": ((2, 5, 17, 34), (9, 5, 5, 4), (3, 2), (1, 0), 1, 1),
    "rows left over by the stride": ((1, 4, 18, 20), (6, 4, 3, 3), 3, 0, 1, 1),
    "windows side by side": ((2, 3, 16, 24), (10, 3, 4, 4), 4, 0, 1, 1),
    "gaps between windows": ((2, 6, 15, 18), (8, 6, 1, 2), (2, 3), (0, 1), 1, 1),
    "stride and groups": ((2, 8, 16, 16), (12, 2, 3, 3), 2, 1, 1, 4),
    "side by side in groups": ((2, 8, 16, 16), (12, 2, 2, 2), 2, 0, 1, 4),
    "dilation": ((2, 6, 20, 20), (5, 6, 3, 3), 1, 2, 2, 1),
    "stride and dilation": ((2, 6, 20, 20), (5, 6, 3, 3), 2, 2, 2, 1),
    "a filter a channel": ((2, 20, 15, 33), (20, 1, 3, 3), 1, 1, 1, 20),
    "two filters a channel": ((2, 6, 15, 33), (12, 1, 3, 3), 1, 1, 1, 6),
    "a filter a channel, stride": ((2, 6, 15, 33), (6, 1, 5, 5), 2, 2, 1, 6),
    "a large filter a channel": ((1, 4, 12, 12), (4, 1, 7, 7), 1, 3, 1, 4),
    "points": ((2, 40, 10, 10), (24, 40, 1, 1), 1, 0, 1, 1),
}


def both_ways(function, arrays, lib, dtype):
    """The result and every gradient, as float64, for an incoming gradient that all libraries share."""
    tensors = [lib.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    out = function(*tensors)
    up = np.cos(np.arange(np.prod(out.shape), dtype=np.float64)).reshape(tuple(out.shape))
    out.backward(lib.tensor(up.astype(dtype)))
    return [np.asarray(v.detach().numpy(), np.float64) for v in (out, *[t.grad for t in tensors])]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name):
    shape, filters, *form = CONVOLUTIONS[name]
    rng = np.random.default_rng(len(name))
    arrays = [rng.standard_normal(s) for s in (shape, filters, filters[:1])]
    want = both_ways(lambda x, w, b: torch.nn.functional.conv2d(x, w, b, *form), arrays, torch, "d")
    got = both_ways(lambda x, w, b: st.nn.functional.conv2d(x, w, b, *form), arrays, st, "f")
    plain = both_ways(lambda x, w, b: torch.nn.functional.conv2d(x, w, b, *form), arrays, torch, "f")
    for g, w, p in zip(got, want, plain):
        scale = np.abs(w).max()
        assert np.abs(g - w).max() <= max(4 * np.abs(p - w).max(), 1e-6 * scale), "as exact as torch's float32"


@pytest.mark.parametrize("dtype", [st.float16, st.bfloat16])
@pytest.mark.parametrize("groups", [1, 6])
def test_16_bit_convolution_rounds_once(dtype, groups):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 9, 20)).astype("f"), rng.standard_normal((6, 6 // groups, 3, 3)).astype("f")
    x, w = [st.tensor(a).to(dtype) for a in (x, w)]
    got = st.nn.functional.conv2d(x, w, None, 1, 1, 1, groups)
    wide = st.nn.functional.conv2d(x.float(), w.float(), None, 1, 1, 1, groups)
    assert got.dtype is dtype and st.equal(got, wide.to(dtype))


# input, then max_pool2d's arguments
POOLS = {
    "by two": ((3, 5, 14, 28), (2,)), "by three": ((2, 3, 12, 75), (3,)), "by four": ((2, 4, 16, 40), (4,)),
    "a rest": ((2, 3, 7, 9), (2,)), "overlapping": ((2, 4, 17, 38), (3, 2, 1)), "padded": ((1, 2, 40, 66), (2, 2, 1)),
    "apart": ((2, 3, 9, 11), (2, 3)), "large": ((1, 2, 40, 66), (6,)), "wide": ((2, 3, 9, 70), ((3, 2),)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_max_pool(name):
    shape, form = POOLS[name]
    rng = np.random.default_rng(len(name))
    x = np.round(rng.standard_normal(shape) * 4)  # with ties
    x[0, 0, 1, 1] = np.nan
    want = both_ways(lambda x: torch.nn.functional.max_pool2d(x, *form), [x], torch, "f")
    got = both_ways(lambda x: st.nn.functional.max_pool2d(x, *form), [x], st, "f")
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-6)
    indices = st.nn.functional.max_pool2d(st.tensor(x), *form, return_indices=True)[1]
    expected = torch.nn.functional.max_pool2d(torch.tensor(x), *form, return_indices=True)[1]
    np.testing.assert_array_equal(indices.numpy(), expected.numpy())
