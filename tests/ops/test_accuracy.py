"""Special functions against mpmath: 2 units in the last place in float32, 4 in float64 (``tests/ops/accuracy.py``)."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.ops import accuracy


@pytest.mark.parametrize("name", accuracy.CASES)
def test_error(name: str) -> None:
    for dtype, bound in (("float32", 2.0), ("float64", 4.0)):
        found, arrays, got, want = accuracy.errors(name, accuracy.CASES[name], dtype, 10)
        worst = int(found.argmax())
        assert found[worst] <= bound, f"{name} of {[float(a[worst]) for a in arrays]}: {got[worst]!r} is {found[worst]} ulp off"


def _incomplete_gamma(a: float, x: float) -> tuple[mp.mpf, mp.mpf]:
    """(lower, upper), regularized, by the series of positive terms."""
    with mp.workdps(360):
        a, x = mp.mpf(a), mp.mpf(x)
        term = total = mp.mpf(1)
        k = 0
        while k < x or term > total * mp.mpf(10) ** -345:
            k += 1
            term = term * x / (a + k)
            total += term
        lower = mp.exp(a * mp.log(x) - x - mp.loggamma(a + 1)) * total
        return lower, 1 - lower


def test_incomplete_gamma_functions() -> None:
    """2 units in float32 and 4 in float64, far into the tails: the exponent is computed in two floats."""
    rng = np.random.default_rng(2)
    a = 10 ** rng.uniform(-6, 3, 90)
    x = np.where(rng.random(90) < 0.5, a * (1 + rng.normal(size=90) / np.sqrt(a + 1)), 10 ** rng.uniform(-6, 3, 90))
    x = np.abs(x) + 1e-9
    for kind, unit in (("float32", 2.0**-23), ("float64", 2.0**-52)):
        first, second = a.astype(kind), x.astype(kind)
        got = [f(st.tensor(first), st.tensor(second)).numpy() for f in (st.igamma, st.igammac)]
        for k in range(len(a)):
            for g, want in zip(got, _incomplete_gamma(float(first[k]), float(second[k]))):
                if want < (1e-30 if kind == "float32" else 1e-290):
                    continue
                error = abs((mp.mpf(float(g[k])) - want) / want) / unit
                bound = 2 if kind == "float32" else 4
                assert error <= bound, f"{kind} at {first[k]!r}, {second[k]!r}: {g[k]!r} is {float(error):.1f} units off"


def test_incomplete_gamma_functions_of_numbers_out_of_the_ordinary() -> None:
    a = st.tensor([8.653997, 1e12, 1e300, 1e-310, 9.0, 0.3, 1e155], dtype=st.float64)
    x = st.tensor([2.689425e38, 1e12, 1e300, 1.0, 800.0, 1e-300, 1.0], dtype=st.float64)
    lower = st.igamma(a, x).numpy()
    np.testing.assert_allclose(lower, [1, 0.50000013298, 0.5, 1, 1, 1.11424251e-90, 0], rtol=1e-6)
    np.testing.assert_allclose(st.igammac(a, x).numpy()[[0, 1, 5, 6]], [0, 0.49999986702, 1, 1], rtol=1e-6)


def test_logarithm_of_a_share_at_a_turn() -> None:
    x = st.tensor([-0.6, 0.6, -1.0], dtype=st.float64)
    want = [float(mp.log(mp.ncdf(v))) for v in (mp.mpf(float(v)) for v in x.numpy())]
    np.testing.assert_allclose(st.special.log_ndtr(x).numpy(), want, rtol=1e-15)


def test_far_values_that_were_nan_or_infinite() -> None:
    assert st.special.erfcx(st.tensor([-27.44], dtype=st.float64)).item() == float("inf")
    np.testing.assert_allclose(st.polygamma(1, st.tensor([-1.906422e-19], dtype=st.float64)).item(), 2.7514e37, rtol=1e-4)


def test_complex_functions_beside_their_zeros_and_on_the_axes() -> None:
    """Where parts cancel, or one is 0 and the other infinite."""
    z = np.array([-0.99998986380905571 - 1.0000013972241443j, 0.5 - 0.8660254037j, 0.999999454818299 - 2.5845375625446697e-13j])
    for name, exact in (("log1p", lambda v: mp.log(1 + v)), ("log", mp.log), ("atanh", mp.atanh), ("acosh", mp.acosh)):
        want = np.array([complex(exact(mp.mpc(v))) for v in z.tolist()])
        np.testing.assert_allclose(getattr(st, name)(st.tensor(z)).numpy(), want, rtol=2e-15, err_msg=name)
    inf = float("inf")
    axes = np.array([complex(0, inf), complex(inf, 0), complex(0, 1e3), complex(0, 0)])
    for name in ("sin", "sinh", "cosh", "asin", "acos", "asinh", "acosh", "atan", "atanh", "exp", "log10"):
        got, want = (getattr(m, name)(m.tensor(axes)).numpy() for m in (st, torch))
        for part in ("real", "imag"):
            g, w = getattr(got, part), getattr(want, part)
            np.testing.assert_allclose(g[~np.isnan(w)], w[~np.isnan(w)], rtol=1e-14, err_msg=f"{name} {part}")


def test_incomplete_gamma_functions_differentiate_twice() -> None:
    a = st.tensor([0.3, 1.0, 4.5, 30.0], dtype=st.float64)
    x = st.tensor([0.7, 2.0, 3.0, 28.0], dtype=st.float64).requires_grad_()
    for f in (st.igamma, st.igammac):
        assert st.autograd.gradcheck(lambda t, f=f: f(a, t), [x]) and st.autograd.gradgradcheck(lambda t, f=f: f(a, t), [x])


def test_airy_function_of_many_turns() -> None:
    """Far to the left its phase is a product of which float64 keeps the head: what is rounded off is turned by as well."""
    x = np.array([-30.0, -1234.5, -1e5, -1e8, -1e10])
    got = st.special.airy_ai(st.tensor(x)).numpy()
    want = [float(mp.airyai(mp.mpf(v))) if v > -1e6 else float(_airy_far(mp.mpf(v))) for v in x]
    np.testing.assert_allclose(got, want, rtol=1e-13)
    far = np.array([-1e20, -3e38, -1e100])
    assert (np.abs(st.special.airy_ai(st.tensor(far)).numpy()) <= np.abs(far) ** -0.25).all()


def _airy_far(x: mp.mpf) -> mp.mpf:
    """Two terms of the expansion for large negative numbers (DLMF 9.7.9)."""
    with mp.workdps(60):
        z = 2 * (-x) ** mp.mpf("1.5") / 3
        first, second = mp.cos(z - mp.pi / 4), 5 * mp.sin(z - mp.pi / 4) / (72 * z)
        return (first + second) / (mp.sqrt(mp.pi) * (-x) ** mp.mpf("0.25"))
