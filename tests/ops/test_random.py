"""Random operators: ranges, moments, types, and that key and counter alone decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.dtypes import DType
from spiraltorch.ops import OPS
from spiraltorch.ops.random import words
from spiraltorch.ops.samples import Sample
from tests.helpers import same_error
from tests.ops import harness
from tests.ops.harness import Bound

SIZE = 40_000


def drawn(name: str, *args: Any, key: int = 5, counter: int = 0, **kwargs: Any) -> np.ndarray:
    sample = Sample((np.array(key, np.uint64), np.array(counter, np.uint64), *args), kwargs)
    return harness.ours(OPS[name], Bound(sample))[0]


@pytest.mark.parametrize("name", [n for n, o in OPS.items() if "counter" in o.parameters and "query" not in o.parameters])
def test_samples_have_the_shape_and_type_asked_for(name: str) -> None:
    for sample in OPS[name].samples(dtypes.float32):
        bound = Bound(sample)
        (first,) = harness.ours(OPS[name], bound)
        assert np.array_equal(first, harness.ours(OPS[name], bound)[0])
        if name in ("dropout", "alpha_dropout", "rrelu", "gumbel_softmax"):
            assert first.shape == sample.args[0].shape
        elif name == "randperm":
            assert first.shape == (sample.args[2],)
        else:
            assert first.shape == sample.args[2]
        if "dtype" in sample.kwargs:
            assert first.dtype == sample.kwargs["dtype"].np


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=[d.name for d in dtypes.FLOATS])
def test_rand_is_uniform_below_one(dtype: DType) -> None:
    x = drawn("rand", (SIZE,), dtype=dtype).astype(np.float64)
    assert x.min() >= 0 and x.max() < 1
    assert stats.kstest(x, "uniform").statistic < {1: 0.01, 2: 0.01}.get(dtype.itemsize, 0.01)
    if dtype is dtypes.float64:
        assert (x * 2**53 % 1 == 0).all() and (x * 2**32 % 1 != 0).any()


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=[d.name for d in dtypes.FLOATS])
def test_randn_is_normal(dtype: DType) -> None:
    x = drawn("randn", (SIZE,), dtype=dtype).astype(np.float64)
    assert np.isfinite(x).all()
    assert stats.kstest(x, "norm").statistic < 0.01
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.02


def test_keys_and_counters_decide() -> None:
    x = drawn("rand", (100,))
    assert np.array_equal(x[10:], drawn("rand", (90,), counter=10))
    assert not np.array_equal(x, drawn("rand", (100,), key=6))
    assert words((4, 5)) == 20 and words(()) == 1


def test_the_two_numbers_of_a_normal_one_are_independent() -> None:
    """Radius and angle come from streams of their own: neither predicts the other."""
    x, u = drawn("randn", (SIZE,)), drawn("rand", (SIZE,))
    assert abs(np.corrcoef(np.sign(x), u)[0, 1]) < 0.02
    assert np.corrcoef(np.abs(x), u)[0, 1] > 0.4  # u is what the radius was made of


def test_randint() -> None:
    x = drawn("randint", (SIZE,), -3, 5)
    assert x.dtype == np.int64 and x.min() == -3 and x.max() == 4
    assert stats.chisquare(np.bincount(x + 3)).pvalue > 1e-4
    wide = drawn("randint", (SIZE,), -(1 << 60), 1 << 60)
    assert wide.min() < -(1 << 59) and wide.max() > 1 << 59 and (wide % 2).mean() == pytest.approx(0.5, abs=0.02)


def test_bernoulli_and_dropout() -> None:
    assert drawn("bernoulli", (SIZE,), 0.3).mean() == pytest.approx(0.3, abs=0.01)
    assert drawn("bernoulli", (100,), 0.0).sum() == 0 and drawn("bernoulli", (100,), 1.0).sum() == 100
    p = np.linspace(0, 1, SIZE, dtype=np.float32)
    assert np.corrcoef(drawn("bernoulli", (SIZE,), p), p)[0, 1] > 0.5
    x = np.ones(SIZE, np.float32)
    for rate in (0.0, 0.25, 1.0):
        sample = Sample((x, np.array(1, np.uint64), np.array(0, np.uint64), rate))
        out = harness.ours(OPS["dropout"], Bound(sample))[0]
        assert set(np.unique(out)) <= {np.float32(0), np.float32(1 / (1 - rate)) if rate < 1 else np.float32(0)}
        assert (out == 0).mean() == pytest.approx(rate, abs=0.01)


def test_dropout_gradient_is_its_mask() -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    bound = Bound(Sample((x, np.array(1, np.uint64), np.array(0, np.uint64), 0.5)))
    values = harness.ours(OPS["dropout"], bound)
    g = np.arange(1000, dtype=np.float32)
    dx, dkey, dcounter = harness.our_gradients(OPS["dropout"], bound, values, [g])
    assert dkey is None and dcounter is None
    np.testing.assert_array_equal(dx, np.where(values[0] == 0, 0, 2 * g))


def test_uniform_and_normal_parameters() -> None:
    x = drawn("uniform", (SIZE,), -2.0, 3.0)
    assert x.min() >= -2 and x.max() < 3 and x.mean() == pytest.approx(0.5, abs=0.03)
    mean, std = np.array([0, 100], np.float32), np.array([1, 5], np.float32)
    y = drawn("normal", (SIZE, 2), mean, std)
    np.testing.assert_allclose(y.mean(0), [0, 100], atol=0.15)
    np.testing.assert_allclose(y.std(0), [1, 5], rtol=0.03)


def test_randperm_is_a_permutation() -> None:
    p = drawn("randperm", 1000)
    assert p.dtype == np.int64 and np.array_equal(np.sort(p), np.arange(1000))
    assert abs(np.corrcoef(p, np.arange(1000))[0, 1]) < 0.1


@pytest.mark.parametrize(
    "name, args",
    [("randint", ((3,), 5, 5)), ("bernoulli", ((3,), 1.5)), ("normal", ((3,), 0.0, -1.0)), ("randperm", (-1,))],
)
def test_refusals(name: str, args: Any) -> None:
    with pytest.raises(RuntimeError):
        drawn(name, *args)


DISTRIBUTIONS: dict[str, tuple[str, Any, Any]] = {
    "exponential": ("exponential", (2.0,), stats.expon(scale=0.5)), "cauchy": ("cauchy", (1.0, 3.0), stats.cauchy(1.0, 3.0)),
    "log_normal": ("log_normal", (0.5, 0.75), stats.lognorm(0.75, scale=np.exp(0.5))), "uniform": ("uniform", (-2.0, 5.0), stats.uniform(-2, 7)),
    "normal": ("normal", (3.0, 2.0), stats.norm(3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_continuous_distributions(name: str) -> None:
    op, parameters, law = DISTRIBUTIONS[name]
    x = drawn(op, (SIZE,), *parameters, dtype=dtypes.float64)
    assert stats.kstest(x, law.cdf).pvalue > 1e-3


def counts_follow(x: np.ndarray, law: Any) -> None:
    """Chi-squared over values that are expected at least 10 times, the rest together."""
    values = np.arange(int(law.ppf(1e-6)), int(law.ppf(1 - 1e-6)) + 1)
    expected = law.pmf(values) * x.size
    kept = values[expected >= 10]
    observed = np.array([(x == v).sum() for v in kept])
    expected = law.pmf(kept) * x.size
    rest = x.size - expected.sum()
    observed, expected = np.append(observed, x.size - observed.sum()), np.append(expected, rest)
    assert stats.chisquare(observed[expected > 5], expected[expected > 5] * observed[expected > 5].sum() / expected[expected > 5].sum()).pvalue > 1e-3


def test_geometric_counts() -> None:
    counts_follow(drawn("geometric", (SIZE,), 0.3, dtype=dtypes.float64), stats.geom(0.3))


N = 3000


@pytest.mark.parametrize("rate", [0.3, 4.0, 12.0, 300.0])
def test_poisson_counts(rate: float) -> None:
    t = st.poisson(st.full((10 * N,), rate, dtype=st.float64), st.Generator().manual_seed(1))
    counts_follow(t.numpy(), stats.poisson(rate))


@pytest.mark.parametrize(("n", "p"), [(7, 0.4), (40, 0.9), (500, 0.3), (10_000, 0.002), (2000, 0.75)])
def test_binomial_counts(n: int, p: float) -> None:
    t = st.binomial(st.full((10 * N,), float(n), dtype=st.float64), st.tensor(p, dtype=st.float64), st.Generator().manual_seed(2))
    counts_follow(t.numpy(), stats.binom(n, p))


def test_edges_of_counts() -> None:
    g = st.Generator()
    assert st.poisson(st.zeros(3), g).tolist() == [0, 0, 0]
    assert st.binomial(st.tensor([5.0, 5.0, 0.0]), st.tensor([0.0, 1.0, 0.5]), g).tolist() == [0, 5, 0]


@pytest.mark.parametrize("op", ["poisson", "binomial"])
def test_native_samplers_give_the_definitions_numbers(op: str) -> None:
    shape = (40,)
    given = [np.linspace(0, 60, 40)] if op == "poisson" else [np.full(40, 30.0), np.linspace(0, 1, 40)]
    want = drawn(op, shape, *given, key=77, counter=5)
    g = st.Generator()
    g.key, g.offset = 77, 5
    assert getattr(st, op)(*[st.tensor(a) for a in given], g).tolist() == want.tolist()


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_by_weight(replacement: bool) -> None:
    weights = st.tensor([1.0, 0.0, 3.0, 6.0])
    g = st.Generator().manual_seed(3)
    if replacement:
        found = st.multinomial(weights, 10_000, True, generator=g).numpy()
        observed = np.bincount(found, minlength=4)[[0, 2, 3]]
    else:
        found = st.multinomial(weights.expand(10_000, 4), 2, generator=g).numpy()
        assert (found[:, 0] != found[:, 1]).all()
        observed = np.bincount(found[:, 0], minlength=4)[[0, 2, 3]]
    assert not (found == 1).any() and stats.chisquare(observed, [1000, 3000, 6000]).pvalue > 1e-3


@pytest.mark.parametrize(
    "refused",
    [
        lambda m: m.multinomial(m.tensor([-1.0, 2.0]), 1), lambda m: m.multinomial(m.zeros(3), 1), lambda m: m.multinomial(m.ones(2), 3),
        lambda m: m.multinomial(m.ones(2, dtype=m.int64), 1), lambda m: m.multinomial(m.ones(2), 0),
        lambda m: m.bernoulli(m.tensor([1.5])), lambda m: m.bernoulli(m.ones(2, dtype=m.int64)), lambda m: m.poisson(m.tensor([-1.0])),
        lambda m: m.empty(2).exponential_(-1.0), lambda m: m.empty(2).geometric_(0.0), lambda m: m.empty(2).cauchy_(0.0, -1.0),
        lambda m: m.empty(2).uniform_(2.0, 1.0), lambda m: m.empty(2, dtype=m.int64).normal_(), lambda m: m.empty(2).random_(5, 5),
        lambda m: m.empty(2).bernoulli_(2.0), lambda m: m.normal(0.0, -1.0, (2,)), lambda m: m.randint(3, 3, (2,)), lambda m: m.randperm(-1),
        lambda m: m.rand(2, dtype=m.int64), lambda m: m.normal(m.zeros(2), m.zeros(3)), lambda m: m.ones(2, requires_grad=True).normal_(),
    ],
)  # fmt: skip
def test_public_refusals(refused: Any) -> None:
    same_error(refused)


def test_random_in_place_has_the_range_of_the_type() -> None:
    st.manual_seed(0)
    assert set(st.empty(200, dtype=st.bool).random_().tolist()) == {False, True}
    x = st.empty(2000, dtype=st.int8).random_()
    assert int(x.min()) >= 0 and int(x.max()) > 120
    assert set(st.empty(100).random_(2, 5).tolist()) == {2, 3, 4} and set(st.empty(100).random_(3).tolist()) == {0, 1, 2}
    assert st.randint_like(x, 4).dtype is st.int8 and float(st.normal(st.tensor([5.0]), st.tensor([0.0]))) == 5.0
