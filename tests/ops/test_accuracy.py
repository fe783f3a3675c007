"""Special functions against mpmath: 2 units in the last place in float32, 4 in float64 (``tests/ops/accuracy.py``)."""

from __future__ import annotations

import pytest

from tests.ops import accuracy


@pytest.mark.parametrize("name", accuracy.CASES)
def test_error(name: str) -> None:
    for dtype, bound in (("float32", 2.0), ("float64", 4.0)):
        found, arrays, got, want = accuracy.errors(name, accuracy.CASES[name], dtype, 10)
        worst = int(found.argmax())
        assert found[worst] <= bound, f"{name} of {[float(a[worst]) for a in arrays]}: {got[worst]!r} is {found[worst]} ulp off"
