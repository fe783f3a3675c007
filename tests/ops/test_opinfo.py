"""A small part of what ``python -m tests.ops.opinfo`` compares: two of torch's own samples of each operator named here.

The names are those that agree on all samples and error cases in all types; two types are enough here.
"""

from __future__ import annotations

import pytest

from tests.ops import opinfo

AGREE = (
    "add", "true_divide", "float_power", "copysign", "heaviside", "xlogy", "erfc", "lgamma", "special.log_ndtr", "acosh",
    "frexp", "isclose", "sum", "amax", "aminmax", "logsumexp", "trapezoid", "clamp",
)  # fmt: skip


@pytest.mark.parametrize("name", AGREE)
def test_on_torchs_samples(name: str) -> None:
    for info in opinfo.chosen([name]):
        report = opinfo.check(info, ("float32", "int64"), limit=2, forms=1)
        assert not report.missing and report.compared, report.line()
        assert not report.differences, f"{report.line()}\n{report.differences[0]}"


@pytest.mark.parametrize("name", ["prod", "nn.functional.mish", "linalg.solve", "sinc"])
def test_second_gradients_on_torchs_samples(name: str) -> None:
    for info in opinfo.chosen([name]):
        report = opinfo.check(info, ("float64",), limit=0, forms=0, second=2)
        assert report.compared and not report.differences, f"{report.line()}\n{report.differences}"
