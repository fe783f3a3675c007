"""Operands of a WHERE behind branches: which they are, and that no value depends on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import lang
from spiraltorch.ir.node import Node, make, toposort
from spiraltorch.kernels.llvm import lazy


def _long(x: Node, rows: int, start: float) -> Node:
    for k in range(rows):
        x = x * x + (start + k)
    return x


def test_what_one_operand_alone_reads_is_behind_a_branch() -> None:
    x = make("SCALAR", (), 0, (), dtypes.float64)
    near, far = _long(x, 40, 1.0), _long(x, 30, 1000.0)
    shared = x * 7.0
    out = lang.where(lang.lt(x, 1), near + shared, lang.where(lang.lt(x, 9), far, shared))
    found = lazy.plan(toposort([out]), [out], lambda n: n.op != "SCALAR")
    inner = out.src[2]
    assert set(found.sides) == {(out, 1), (out, 2), (inner, 1)}
    assert found.owner[far] == (inner, 1) and found.owner[near] == (out, 1) and shared not in found.owner
    assert not lazy.plan(toposort([out]), [out, near, far, inner], lambda n: n.op != "SCALAR").owner.get(far)
    few = lang.where(lang.lt(x, 1), _long(x, 9, 1.0), x)
    assert not lazy.plan(toposort([few]), [few], lambda n: n.op != "SCALAR").sides


@pytest.mark.parametrize("name", ["lgamma", "digamma", "special.bessel_y1", "special.airy_ai", "erfc"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_does_not_depend_on_its_neighbours(name: str, dtype: str) -> None:
    function = st
    for part in name.split("."):
        function = getattr(function, part)
    rng = np.random.default_rng(0)
    parts = [rng.uniform(a, b, 61).astype(dtype) for a, b in ((-9, -7), (-2, 0), (0, 1), (3, 7), (8, 50), (300, 400))]
    apart = np.concatenate([function(st.tensor(p)).numpy() for p in parts])
    order = rng.permutation(len(apart))
    mixed = function(st.tensor(np.concatenate(parts)[order])).numpy()
    np.testing.assert_array_equal(mixed, apart[order])
