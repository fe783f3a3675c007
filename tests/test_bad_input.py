"""Bad input: torch's class of error or torch's result, at the user's line, and everything goes on afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.errors import OutOfMemoryError

from .helpers import Library, same, same_error

F = "nn.functional"

# -- refused when called: what torch refuses, with sizes in the message ------------------------------------

SHAPES = {
    "add": (lambda m: m.make(2, 3) + m.make(2, 4), "[2, 3]"),
    "add three": (lambda m: m.make(4, 1, 3) * m.make(5, 2), "[5, 2]"),
    "in place": (lambda m: m.make(3).add_(m.make(2, 3)), "[3]"),
    "matmul": (lambda m: m.make(2, 3) @ m.make(4, 5), "2x3 and 4x5"),
    "matmul batch": (lambda m: m.make(2, 3, 4) @ m.make(3, 4, 5), "[2, 3, 4] and [3, 4, 5]"),
    "matmul vector": (lambda m: m.make(3) @ m.make(4), "3"),
    "bmm": (lambda m: m.bmm(m.make(2, 3, 4), m.make(2, 3, 4)), "[2, 4] but got: [2, 3]"),
    "linear": (lambda m: m.nn.functional.linear(m.make(2, 3), m.make(5, 4)), "4"),
    "cat": (lambda m: m.cat([m.make(2, 3), m.make(2, 4)]), "4"),
    "stack": (lambda m: m.stack([m.make(2), m.make(3)]), "[3]"),
    "cat nothing": (lambda m: m.cat([]), ""),
    "view": (lambda m: m.make(2, 3).view(4, 2), "[4, 2]"),
    "reshape": (lambda m: m.make(2, 3).reshape(-1, 4), "size 6"),
    "expand": (lambda m: m.make(2, 3).expand(4, 3), ""),
    "split": (lambda m: m.make(5).split([2, 2]), "[2, 2]"),
    "where": (lambda m: m.where(m.make(2) > 0, m.make(3), m.make(3)), ""),
    "cross_entropy": (lambda m: m.nn.functional.cross_entropy(m.make(3, 4), m.tensor([0, 1])), "3"),
    "conv2d": (lambda m: m.nn.functional.conv2d(m.make(1, 3, 8, 8), m.make(4, 2, 3, 3)), ""),
    "conv2d small": (lambda m: m.nn.functional.conv2d(m.make(1, 1, 2, 2), m.make(1, 1, 3, 3)), ""),
    "layer_norm": (lambda m: m.nn.functional.layer_norm(m.make(2, 3), (4,)), "4"),
    "einsum": (lambda m: m.einsum("ij,jk->ik", m.make(2, 3), m.make(4, 5)), ""),
    "setitem": (lambda m: m.make(3, 3).__setitem__(0, m.make(4)), "4"),
    "copy_": (lambda m: m.make(3).copy_(m.make(4)), ""),
    "squeeze": (lambda m: m.make(2).unsqueeze(3), "3"),
    "permute": (lambda m: m.make(2, 3).permute(0), ""),
    "dim": (lambda m: m.make(2, 3).sum(2), "2"),
    "negative size": (lambda m: m.zeros(2, -1), "-1"),
    "mask": (lambda m: m.make(3)[m.tensor([True, False])], "[2]"),
    "len": (lambda m: len(m.tensor(1.0)), "0-d"),
    "iterate": (lambda m: list(m.tensor(1.0)), "0-d"),
    "bool": (lambda m: bool(m.make(2)), "ambiguous"),
    "item": (lambda m: m.make(2).item(), "2 elements"),
    "ragged": (lambda m: m.tensor([[1.0, 2.0], [3.0]]), ""),
    "index": (lambda m: m.make(3)[3], "size 3"),
    "index low": (lambda m: m.make(3)[-4], "size 3"),
    "too many": (lambda m: m.make(3)[0, 0], "dimension"),
    "select": (lambda m: m.make(3).select(0, 5), ""),
    "narrow": (lambda m: m.make(3).narrow(0, 1, 5), ""),
}  # fmt: skip

TYPES = {
    "matmul": lambda m: m.make(2, 2) @ m.make(2, 2, kind="i"),
    "matmul double": lambda m: m.make(2, 2) @ m.make(2, 2, kind="d"),
    "linear": lambda m: m.nn.functional.linear(m.make(2, 3), m.make(5, 3, kind="d")),
    "float index": lambda m: m.make(3)[m.tensor([0.0])],
    "index_select": lambda m: m.make(3).index_select(0, m.tensor([0.0])),
    "gather": lambda m: m.make(3).gather(0, m.tensor([0.0])),
    "bool minus": lambda m: m.make(2, kind="b") - m.make(2, kind="b"),
    "bool negated": lambda m: -m.make(2, kind="b"),
    "and": lambda m: m.make(2) & m.make(2),
    "mean": lambda m: m.make(2, kind="i").mean(),
    "softmax": lambda m: m.make(2, kind="i").softmax(0),
    "in place": lambda m: m.make(2, kind="i").add_(1.5),
    "in place bool": lambda m: m.make(2, kind="b").mul_(2),
    "cross_entropy": lambda m: m.nn.functional.cross_entropy(m.make(2, 3), m.tensor([0.0, 1.0])),
    "embedding": lambda m: m.nn.functional.embedding(m.tensor([0.0]), m.make(3, 2)),
    "where": lambda m: m.where(m.make(2), m.make(2), m.make(2)),
    "strings": lambda m: m.tensor(["a"]),
    "none": lambda m: m.tensor(None),
    "object": lambda m: m.tensor([object()]),
    "add string": lambda m: m.make(2) + "a",
    "add none": lambda m: m.make(2) + None,
    "mul list": lambda m: m.make(2) * [1, 2],
    "string index": lambda m: m.make(2)["a"],
    "numpy of grad": lambda m: m.make(2, grad=True).numpy(),
    "requires_grad": lambda m: m.make(2, kind="i").requires_grad_(),
    "dtype": lambda m: m.zeros(2, dtype="float32"),
    "factory": lambda m: m.zeros("a"),
    "keyword": lambda m: m.make(2).sum(axes=0),
    "option": lambda m: m.zeros(2, dtyp=m.float32),
    "option of randn": lambda m: m.randn(2, shape=3),
    "number in a list": lambda m: m.tensor([[1.0, "a"], [2.0, 3.0]]),
    "none in a list": lambda m: m.tensor([1, None]),
    "string": lambda m: m.tensor("a"),
    "dict": lambda m: m.tensor({"a": 1}),
    "float size": lambda m: m.zeros(2.5),
    "huge integer": lambda m: m.tensor([1 << 63]),
    "too large": lambda m: m.tensor([300], dtype=m.uint8),
    "too small": lambda m: m.tensor([-129], dtype=m.int8),
    "nan as integer": lambda m: m.tensor([float("nan")], dtype=m.int64),
    "fill": lambda m: m.full((2,), "a"),
    "eye": lambda m: m.eye(-1),
    "linspace": lambda m: m.linspace(0, 1, -1),
    "arange nan": lambda m: m.arange(0, float("nan")),
    "arange step": lambda m: m.arange(0, 3, -1),
    "stack number": lambda m: m.stack([m.make(2), 1.0]),
    "missing": lambda m: m.matmul(m.make(2, 2)),
    "from_numpy": lambda m: m.from_numpy([1, 2]),
    "cat number": lambda m: m.cat([m.make(2), 1.0]),
    "cat tensor": lambda m: m.cat(m.make(2)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_errors(name):
    program, words = SHAPES[name]
    same_error(program, words)


@pytest.mark.parametrize("name", TYPES)
def test_type_errors(name):
    same_error(TYPES[name])


def test_refused_sizes_leave_equal_ones_alone():
    x = st.ones(1, 1, 6, 10)
    for _ in range(2):
        with pytest.raises(TypeError, match="element of type float at position 1"):
            st.nn.functional.max_pool2d(x, 4, padding=(2, 2.0))
        assert st.nn.functional.max_pool2d(x, 4, padding=[2]).tolist() == [[[[1.0] * 3] * 2]]
        assert st.nn.functional.max_pool2d(x, 4, padding=st.tensor([2])).shape == (1, 1, 2, 3)


@pytest.mark.parametrize("call", [
    lambda x, n: x.broadcast_to((7, n)), lambda x, n: x.unflatten(1, (n, 1)), lambda x, n: x.repeat(1, 2).split([n, 3], 1)[0],
    lambda x, n: x.reshape(n, 1), lambda x, n: x.repeat(n, 2), lambda x, n: x.expand(n, 3),
])  # fmt: skip
def test_a_size_that_was_refused_is_no_size_in_later_calls(call):
    """3.0 is equal to 3: a node that had it as a size would be found in the place of the right one."""
    x = st.ones(1, 3)
    with pytest.raises(TypeError):
        call(x, 3.0)
    kept = call(x, 3)
    assert all([type(n) is int for n in kept.shape]) and kept.sum().item() > 0


@pytest.mark.parametrize("name", SHAPES)
def test_the_error_is_raised_at_the_users_line(name):
    program = SHAPES[name][0]
    try:
        program(Library(st))
    except Exception as e:
        frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == __file__]
        assert frames[-1].lineno == program.__code__.co_firstlineno
        return
    raise AssertionError("nothing was raised")


# -- indices that are looked at when the value is computed ---------------------------------------------------

LATE = {
    "getitem": lambda m, x: x[m.tensor([0, 5])],
    "getitem negative": lambda m, x: x[m.tensor([0, -5])],
    "getitem two": lambda m, x: x[m.tensor([0, 1]), m.tensor([0, 3])],
    "embedding": lambda m, x: m.nn.functional.embedding(m.tensor([0, 4]), x),
    "index_select": lambda m, x: x.index_select(1, m.tensor([3])),
    "gather": lambda m, x: x.gather(1, m.tensor([[0], [1], [2], [3]])),
    "scatter": lambda m, x: x.scatter(0, m.tensor([[4, 0, 0]]), m.make(1, 3)),
    "index_add": lambda m, x: x.index_add(0, m.tensor([4]), m.make(1, 3)),
    "cross_entropy": lambda m, x: m.nn.functional.cross_entropy(x, m.tensor([0, 1, 2, 3])),
    "nll_loss": lambda m, x: m.nn.functional.nll_loss(x, m.tensor([0, 1, 2, -1])),
}


@pytest.mark.parametrize("name", LATE)
def test_index_errors_name_the_line_of_the_operation(name):
    program = LATE[name]
    same_error(lambda m: program(m, m.make(4, 3)))
    m = Library(st)
    out = program(m, m.make(4, 3))
    with pytest.raises(IndexError) as caught:
        out.sum().item()
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)


def test_index_error_in_place_leaves_the_value():
    def program(m):
        x = m.make(4)
        try:
            x[m.tensor([1, 9])] = 0.0
            x.sum().item()
        except IndexError:
            return "refused"

    same(program)


def test_failed_value_poisons_nothing():
    x = st.arange(4.0)
    good = x * 2
    bad = x[st.tensor([1, 7])]
    after = bad * 3
    other = good + 1
    with pytest.raises(IndexError):
        after.tolist()
    assert other.tolist() == [1, 3, 5, 7] and good.tolist() == [0, 2, 4, 6]
    for t in (bad, after, bad, bad + x[:2]):
        with pytest.raises(IndexError, match="out of range"):
            t.tolist()
    assert x.tolist() == [0, 1, 2, 3] and (x + 1).sum().item() == 10


def test_failure_somebody_else_caused_is_not_reported_here():
    x = st.arange(4.0)
    bad = x[st.tensor([9])]
    good = x + 1
    assert good.tolist() == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        bad.item()


def test_several_failed_values_each_name_their_own_line():
    x = st.arange(4.0)
    first = x[st.tensor([9])]
    second = x.index_select(0, st.tensor([8]))
    good = x * 5
    line = first_line = test_several_failed_values_each_name_their_own_line.__code__.co_firstlineno + 2
    for t, at in ((second, line + 1), (first, first_line)):
        with pytest.raises(IndexError, match=f"test_bad_input.py:{at}"):
            t.item()
    assert good.sum().item() == 30


def test_failed_value_is_dropped_without_a_word():
    x = st.arange(4.0)
    bad = x[st.tensor([9])]
    del bad
    assert (x + 1).sum().item() == 10


def test_failure_in_backward_leaves_gradients_alone():
    w = st.ones(4, requires_grad=True)
    loss = (w[st.tensor([0, 9])] * 2).sum()
    loss.backward()
    with pytest.raises(IndexError):
        loss.item()
    w.grad = None
    (w * 3).sum().backward()
    assert w.grad.tolist() == [3.0] * 4


# -- nan and inf ---------------------------------------------------------------------------------------------

UNARY = "exp log sqrt rsqrt sin cos tan atan tanh erf sigmoid floor ceil round trunc abs sign reciprocal log1p expm1 isnan isinf isfinite square relu".split()
FOLDS = "sum prod amax amin argmax argmin mean var std logsumexp norm all any cumsum softmax log_softmax".split()


def special(m, *shape, kind="f"):
    values = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -1e-40, 3e38, np.nan, 7.0],
        np.float32 if kind == "f" else np.float64,
    )
    return m.tensor(values.reshape(shape or (3, 4)))


@pytest.mark.parametrize("name", UNARY)
def test_special_values_pointwise(name):
    same(lambda m: [getattr(m, name)(special(m)), getattr(m, name)(special(m, kind="d"))])


@pytest.mark.parametrize("name", FOLDS)
def test_special_values_folded(name):
    def program(m):
        x = special(m)
        out = [getattr(x, name)(d) for d in ((0, 1) if name != "norm" else ())]
        if name not in ("cumsum", "softmax", "log_softmax", "logsumexp", "argmax", "argmin"):
            out.append(getattr(x, name)())
        return out

    same(program)


def test_special_values_in_two_operands():
    def program(m):
        a = special(m, 12, 1)
        b = special(m, 1, 12)
        out = [a + b, a - b, a * b, a / b, a < b, a <= b, a == b, a != b, a >= b, m.maximum(a, b), m.minimum(a, b)]
        out += [m.atan2(a, b), a.clamp(-1, 1), m.where(a > b, a, b), a // b, m.fmod(a, b), a % b, a**b]
        return [*out, m.nn.functional.softplus(a)]

    same(program)


def test_nan_survives_optimization():
    """No rule may assume that numbers are finite: ``x * 0`` is nan where x is."""

    def program(m):
        x = special(m)
        return [
            x * 0,
            x - x,
            x / x,
            x + 0,
            0 - x,
            x * 1,
            x - 0,
            (x == x),
            (x != x),
            x.sum() - x.sum(),
            m.zeros(2, 3) @ special(m),
        ]

    same(program)


def test_integers_divided_by_zero():
    def program(m):
        a = m.tensor([7, -7, 0])
        return [a / 0, a.float() // 0, a.float() % 0, a / m.tensor([2, 0, 0])]

    same(program)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        st.tensor([1, 2]) // 0


@pytest.mark.parametrize("divide", ["//", "%", "fmod", "trunc"])
def test_integers_divided_by_zeros_of_a_tensor(divide):
    functions = {
        "//": lambda a, b: a // b, "%": lambda a, b: a % b, "fmod": st.fmod,
        "trunc": lambda a, b: st.div(a, b, rounding_mode="trunc"),
    }  # fmt: skip
    function, good, bad = functions[divide], st.tensor([2, -3, 5]), st.tensor([2, 0, 5])
    a = st.tensor([7, -7, 0])
    with pytest.raises(RuntimeError, match="ZeroDivisionError.*test_bad_input.py"):
        function(a, bad).tolist()
    assert function(a, good).tolist() == function(a, st.where(bad == 0, -3, bad)).tolist()
    compiled = st.compile(lambda a, b: (function(a, b), a + b))
    for _ in range(2):
        assert compiled(a, good)[0].tolist() == function(a, good).tolist()
        with pytest.raises(RuntimeError, match="ZeroDivisionError.*test_bad_input.py"):
            compiled(a, bad)[0].tolist()
    x = st.tensor([0, 1, 2])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        x.fmod_(bad).tolist() if divide == "fmod" else x.floor_divide_(bad).tolist()
    assert x.tolist() == [0, 1, 2]


# -- zero sizes and 0-d ----------------------------------------------------------------------------------------

EMPTY = {
    "sum": lambda m, x: [x.sum(), x.sum(0), x.sum(1), x.mean(), x.mean(1), x.prod(), x.all(), x.any(1), x.norm()],
    "var": lambda m, x: [x.var(), x.std(1)],
    "unary": lambda m, x: [x.exp(), -x, x.relu(), x > 0, x.long(), x.clone()],
    "binary": lambda m, x: [x + x, x * m.make(3), x + m.make(1, 1), m.where(x > 0, x, 1.0)],
    "matmul": lambda m, x: [x @ m.make(3, 2), x.t() @ m.make(0, 2), m.make(2, 0) @ x, m.make(0, 0) @ m.make(0, 4), m.make(0) @ m.make(0)],
    "views": lambda m, x: [x.t(), x.view(3, 0), x.reshape(0), x.unsqueeze(0), x[:, 1], x[0:0], x.expand(2, 0, 3), x.flatten()],
    "cat": lambda m, x: [m.cat([x, m.make(2, 3)]), m.cat([x, x]), m.stack([x, x]), m.cat([m.make(0), m.make(2, 2)])],
    "softmax": lambda m, x: [x.softmax(0), x.softmax(1), x.log_softmax(0), x.logsumexp(0)],
    "index": lambda m, x: [m.make(4)[m.tensor([], dtype=m.int64)], m.make(4, 2)[[]], m.make(4, 2)[m.make(4) > 9], x[:, m.tensor([0, 2])]],
    "norms": lambda m, x: [m.nn.functional.layer_norm(x, (3,)), m.nn.functional.cross_entropy(x, m.tensor([], dtype=m.int64))],
    "losses": lambda m, x: [m.nn.functional.mse_loss(x, x), m.nn.functional.l1_loss(x, x, reduction="sum")],
    "conv": lambda m, x: [m.nn.functional.conv2d(m.make(0, 2, 5, 5), m.make(3, 2, 3, 3)), m.nn.functional.linear(x, m.make(4, 3))],
    "write": lambda m, x: [x.add_(1), x.zero_(), x.fill_(3), x.copy_(m.make(3)), x.__setitem__(slice(0, 0), 1.0)],
    "questions": lambda m, x: [x.numel(), list(x.shape), x.tolist(), m.equal(x, x), len(x), x.nonzero()],
    "factories": lambda m, x: [m.zeros(0), m.arange(0), m.linspace(0, 1, 0), m.eye(0), m.full((0, 2), 1.0), m.tensor([]), m.tensor([[]])],
    "split": lambda m, x: [*x.split(2), *x.chunk(2, 1), *x.unbind(1)],
    "cumsum": lambda m, x: [x.cumsum(0), x.flip(0), x.roll(1, 0), x.tril()],
    "pad": lambda m, x: [m.nn.functional.pad(x, (1, 1)), m.nn.functional.pad(x, (0, 0, 1, 1), value=2.0)],
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_zero_sizes(name):
    same(lambda m: EMPTY[name](m, m.make(0, 3)))


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "amax", "amin"])
def test_folds_of_nothing_are_refused(name):
    same_error(lambda m: getattr(m.make(0, 3), name)())
    same_error(lambda m: getattr(m.make(0, 3), name)(0))


def test_zero_sizes_have_gradients():
    def program(m):
        x = m.make(0, 3, grad=True)
        w = m.make(3, 2, grad=True)
        ((x @ w).tanh().sum() + x.mean(0).sum() * 0 + x.exp().sum()).backward()
        return [x.grad, w.grad]

    same(program)


ZERO_D = {
    "arithmetic": lambda m, x: [x + 1, x * m.make(3), x.exp(), -x, x**2, x > 0, x.clamp(0, 1)],
    "folds": lambda m, x: [x.sum(), x.sum(0), x.mean(-1), x.amax(), x.argmax(), x.softmax(0), x.var(unbiased=False), x.cumsum(0), x.norm()],
    "views": lambda m, x: [x.view(1), x.reshape(1, 1), x.unsqueeze(0), x.squeeze(), x.t(), x.expand(3), x.flatten(), x.permute(()), x[None], x[...]],
    "index": lambda m, x: [x[True], x[False], m.make(3)[m.tensor(1)], m.make(3, 2)[m.tensor(0), m.tensor([0, 1])]],
    "python": lambda m, x: [float(x), int(x), bool(x), x.item(), x.tolist(), x.numel(), list(x.shape), list(x.stride()), x.dim()],
    "write": lambda m, x: [x.add_(1), x.fill_(2), x.copy_(m.tensor(4.0)), x.__setitem__((), 5.0), x],
    "combine": lambda m, x: [m.stack([x, x]), m.where(x > 0, x, m.make(2)), m.maximum(x, m.make(2))],
}  # fmt: skip


@pytest.mark.parametrize("name", ZERO_D)
def test_zero_dimensions(name):
    same(lambda m: ZERO_D[name](m, m.tensor(1.25)))


@pytest.mark.parametrize(
    "program",
    [
        lambda m: m.cat([m.tensor(1.0), m.tensor(2.0)]), lambda m: m.tensor(1.0)[0], lambda m: m.tensor(1.0).sum(1), lambda m: m.tensor(1.0).split(1),
        lambda m: m.tensor(1.0).unbind(), lambda m: m.tensor(1.0) @ m.make(2), lambda m: m.tensor(1.0).transpose(0, 1), lambda m: m.tensor(1.0).size(0),
    ],
)  # fmt: skip
def test_zero_dimensions_refused(program):
    same_error(program)


# -- NumPy arrays of every layout ------------------------------------------------------------------------------

BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
REVERSED = {"rows": BASE[::-1], "both": BASE[::-1, ::-2], "int": BASE.astype(np.int16)[:, ::-1]}
ARRAYS = {
    "transposed": BASE.T, "fortran": np.asfortranarray(BASE), "strided": BASE[1:, ::2],
    "broadcast": np.broadcast_to(BASE[0], (3, 6)), "0-d": np.array(2.5, np.float32), "empty": BASE[:0], "empty inside": BASE[:, :0],
    "bool": BASE > 3, "int": BASE.astype(np.int16)[:, ::2], "half": BASE.astype(np.float16).T, "double": BASE.astype(np.float64)[::3],
    "uint8": BASE.astype(np.uint8)[::2], "scalar": np.float64(1.5), "int scalar": np.int32(3),
    "field": np.array([(1.0, 2), (3.0, 4)], dtype=[("a", "f4"), ("b", "i4")])["b"], "complex part": (BASE + 2j * BASE).imag,
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_copied_whatever_their_layout(name):
    def program(m):
        a = ARRAYS[name].copy() if ARRAYS[name].ndim == 0 else ARRAYS[name]
        t = m.tensor(a)
        return [t, t + t, t.t() if t.ndim == 2 else t, m.tensor(a, dtype=m.float64)]

    same(program)


@pytest.mark.parametrize("name", [n for n in ARRAYS if isinstance(ARRAYS[n], np.ndarray) and n != "broadcast"])
def test_arrays_are_shared_or_refused(name):
    def program(m):
        a = ARRAYS[name].copy(order="K")
        t = m.from_numpy(a)
        t += 1 if t.dtype is not m.bool else True
        return [t, a.tolist(), t.sum()]

    same(program)


@pytest.mark.parametrize("name", REVERSED)
def test_reversed_arrays_are_refused_but_as_an_index(name):
    a = REVERSED[name]
    same_error(lambda m: m.tensor(a), "negative")
    assert st.tensor(a.copy()).tolist() == a.tolist()
    assert st.arange(4.0)[a[:, 0].argsort() % 4].tolist() == np.arange(4.0)[a[:, 0].argsort() % 4].tolist()
    same_error(lambda m: m.from_numpy(a), "negative")
    same_error(lambda m: m.as_tensor(a), "negative")


def test_shared_slices_of_arrays_of_either_order():
    def program(m):
        out = []
        for base in (
            BASE.copy(),
            np.asfortranarray(BASE),
            BASE.T.copy(),
            np.arange(120.0).reshape(4, 5, 6).transpose(2, 0, 1),
        ):
            for index in (
                (slice(None), slice(None, None, 4)),
                (slice(None, None, 3), slice(1, None, 3)),
                (slice(1, 3),),
                (slice(None), slice(1, 4, 2)),
                (2,),
                (slice(None), 1),
                (slice(0, 4, 3), slice(2, 3)),
            ):
                view = base[index]
                t = m.from_numpy(view).mul_(-1)
                out += [base.tolist(), list(t.stride()) if t.ndim > 1 and 1 not in t.shape else 0]
        return out

    same(program)


def test_arrays_as_operands_and_indices():
    def program(m):
        x = m.make(4, 6)
        rows = np.array([3, 0, 1, 0])[::2]
        y = x.clone()
        y[rows] = m.tensor(np.float32(2))
        return [
            x[rows],
            x[rows.tolist()],
            y,
            x[BASE > 3],
            x * np.float32(2),
            x + np.int64(1),
            x[np.int64(1)],
            x[np.array(2)],
        ]

    same(program)


def test_foreign_arrays_are_refused():
    same_error(lambda m: m.from_numpy(BASE.astype(">f4")), "byte order")
    same_error(lambda m: m.from_numpy(np.array([object()])), "can't convert")
    same_error(lambda m: m.from_numpy(np.array(["2020-01-01"], "M8[D]")), "can't convert")
    same_error(lambda m: m.tensor(np.array(["a"])), "can't convert")
    same_error(lambda m: m.tensor(BASE.astype(">f4")), "byte order")


# -- memory ------------------------------------------------------------------------------------------------------

HUGE = {
    "zeros": lambda m: m.zeros(1 << 45),
    "square": lambda m: m.ones(1 << 25, 1 << 25),
    "full": lambda m: m.full((1 << 30, 1 << 20), 2.0),
    "arange": lambda m: m.arange(1 << 45),
    "outer": lambda m: m.zeros(1 << 22, 1) @ m.zeros(1, 1 << 22),
    "broadcast": lambda m: m.zeros(1 << 22, 1) + m.zeros(1, 1 << 22),
    "repeat": lambda m: m.zeros(1 << 10).repeat(1 << 40),
    "copy of a view": lambda m: m.zeros(1).expand(1 << 45).clone(),
    "randn": lambda m: m.randn(1 << 45),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_allocations_are_refused_at_once(name):
    same_error(HUGE[name])
    m = Library(st)
    pending = m.make(3) * 2
    with pytest.raises(OutOfMemoryError, match="GiB|TiB|bytes") as caught:
        HUGE[name](m)
    assert isinstance(caught.value, MemoryError)
    lines = [f.lineno for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == __file__]
    assert lines[-1] == HUGE[name].__code__.co_firstlineno
    assert pending.sum().item() == pytest.approx(2 * Library(st).make(3).sum().item())


def test_huge_views_and_folds_of_them_cost_nothing():
    def program(m):
        x = m.ones(1).expand(1 << 40)
        return [x.numel(), x[5:8] + 1, x[:: 1 << 36].sum()]

    same(program)


def test_sizes_beyond_64_bits():
    for program in (lambda m: m.zeros(1 << 62, 1 << 62), lambda m: m.make(1).expand(1 << 62, 1 << 62) + 1):
        same_error(program)


# -- the kernel cache is only a cache ------------------------------------------------------------------------------

PROGRAM = """
import spiraltorch as st
x = st.arange(24, dtype=st.float32).reshape(4, 6)
y = ((x @ x.t()).softmax(-1) * 3 + x.sum(1)).tanh()
print(y.sum().item().hex(), x.cumsum(1).sum().item())
"""


def run_with_cache(folder: Path) -> str:
    env = {**os.environ, "ST_CACHE_DIR": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_broken_caches_cost_only_time(tmp_path):
    good = tmp_path / "good"
    expected = run_with_cache(good)
    entries = sorted(good.glob("*.o"))
    assert entries
    for k, path in enumerate(entries):
        content = path.read_bytes()
        path.write_bytes((content[: len(content) // 2], b"", content[:-9] + b"corrupted", b"x" * len(content))[k % 4])
    assert run_with_cache(good) == expected
    for path in entries:
        path.unlink()
        path.mkdir()
    assert run_with_cache(good) == expected


def test_unusable_cache_folders_cost_only_time(tmp_path):
    expected = run_with_cache(tmp_path / "good")
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    read_only = tmp_path / "read only"
    read_only.mkdir(mode=0o500)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for folder in (in_the_way, in_the_way / "below", read_only, open_to_all, Path("/proc/nowhere")):
        assert run_with_cache(folder) == expected
