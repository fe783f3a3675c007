"""Types: promotion, result types, casts, limits and defaults equal torch's for every pair."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes

from .helpers import same, same_error, values

NAMES = [d.name for d in dtypes.ALL]
REAL = [d.name for d in dtypes.ALL if not d.is_complex]
PAIRS = list(itertools.product(NAMES, NAMES))
NUMBERS: dict[str, Any] = {"True": True, "2": 2, "1.5": 1.5, "1j": 1j}


def name_of(result: Any) -> str:
    return str(getattr(result, "dtype", result)).rpartition(".")[2]


def outcome(program: Any, module: Any) -> str:
    """The name of the type that comes out, 'refused', or 'missing' where torch has no kernel or no such type here."""
    try:
        found = name_of(program(module))
        return "missing" if found == "complex32" else found
    except (RuntimeError, TypeError) as e:
        return "missing" if "not implemented for" in str(e) and module is torch else "refused"


def differs(program: Any) -> str:
    """What comes out and what torch says, where these are not the same."""
    ours, theirs = outcome(program, st), outcome(program, torch)
    return "" if theirs in ("missing", ours) else f"{ours}, torch {theirs}"


def agree(program: Any) -> None:
    assert not differs(program)


def make(m: Any, name: str, *shape: int) -> Any:
    return m.ones(shape, dtype=getattr(m, name))


@pytest.mark.parametrize("a", NAMES)
def test_promote_types(a):
    for b in NAMES:
        agree(lambda m: m.promote_types(getattr(m, a), getattr(m, b)))
        agree(lambda m: str(m.can_cast(getattr(m, a), getattr(m, b))))


@pytest.mark.parametrize("a", NAMES)
def test_result_type(a):
    for b in NAMES:
        for left, right in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
            agree(lambda m: m.result_type(make(m, a, *left), make(m, b, *right)))
    for number in NUMBERS.values():
        for shape in ((2,), ()):
            agree(lambda m: m.result_type(make(m, a, *shape), number))
            agree(lambda m: m.result_type(number, make(m, a, *shape)))


def test_result_type_of_numbers():
    for a, b in itertools.product(NUMBERS.values(), NUMBERS.values()):
        agree(lambda m: m.result_type(a, b))


OPERATORS = {
    "add": operator.add, "mul": operator.mul, "true_divide": operator.truediv, "floor_divide": operator.floordiv, "eq": operator.eq,
    "pow": operator.pow, "sub": operator.sub, "remainder": operator.mod, "lt": operator.lt,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_binary_operators(name):
    compute = OPERATORS[name]
    wrong = []
    for a, b in itertools.product(REAL, REAL):
        if name == "sub" and (a == "bool") != (b == "bool"):
            continue  # torch refuses every bool, here it is refused beside another
        for left, right in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
            program = lambda m: compute(make(m, a, *left), make(m, b, *right))  # noqa: E731
            if differs(program):
                wrong.append(f"{a}{list(left)} {name} {b}{list(right)}: {differs(program)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", OPERATORS)
def test_binary_operators_with_numbers(name):
    compute = OPERATORS[name]
    wrong = []
    for a, (text, number) in itertools.product(REAL, list(NUMBERS.items())[:3]):
        if name == "sub" and (a == "bool") != (number is True):
            continue
        for swapped in (False, True):
            program = lambda m: compute(number, make(m, a, 2)) if swapped else compute(make(m, a, 2), number)  # noqa: E731
            if differs(program):
                wrong.append(f"{a} {name} {text} {swapped}: {differs(program)}")
    assert not wrong, "\n".join(wrong)


IN_PLACE = {"add_": lambda a, b: a.add_(b), "mul_": lambda a, b: a.mul_(b), "div_": lambda a, b: a.div_(b), "copy_": lambda a, b: a.copy_(b),
            "sub_": lambda a, b: a.sub_(b), "pow_": lambda a, b: a.pow_(b), "fill_": lambda a, b: a.fill_(b.sum())}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_results_must_fit(name):
    wrong = []
    for a, b in itertools.product(REAL, REAL):
        if name == "sub_" and b == "bool" != a:
            continue
        program = lambda m: IN_PLACE[name](make(m, a, 2), make(m, b, 2))  # noqa: E731
        if differs(program):
            wrong.append(f"{a} {name} {b}: {differs(program)}")
    assert not wrong, "\n".join(wrong)


# -- casts ---------------------------------------------------------------------------------------------------

SAMPLES = [0.0, 1.0, -1.0, 2.5, -3.75, 100.0, 126.49, 0.1, 1e-3, 255.0, 12.0, -0.0, 0.5, 1.5, 33.3, 7.0]


def source(name: str) -> Any:
    """Values that every type holds somehow: non-negative ones for unsigned types, where torch leaves -1.0 to the machine."""
    d = dtypes.BY_NAME[name]
    data = np.array([v for v in SAMPLES if v >= 0 or d.is_signed], np.float64)
    return data.astype(np.float32).astype(d.np) if d in (dtypes.bfloat16, dtypes.float16) else data.astype(d.np)


def to_torch(a: np.ndarray) -> torch.Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.astype(np.float32)).bfloat16()
    return torch.from_numpy(a.copy())


@pytest.mark.parametrize("a", REAL)
def test_casts(a):
    x = source(a)
    ours, theirs = st.tensor(x), to_torch(x)
    for b in REAL:
        if dtypes.BY_NAME[b].kind == "u" and (x.astype(np.float64) < 0).any() and dtypes.BY_NAME[a].kind == "f":
            continue  # a negative float as an unsigned number is whatever the machine gives
        if dtypes.BY_NAME[b] is dtypes.int8 and dtypes.BY_NAME[a].kind == "f":
            ours_b, theirs_b = ours.clamp(-128, 127), theirs.clamp(-128, 127)
        else:
            ours_b, theirs_b = ours, theirs
        got, expected = ours_b.to(getattr(st, b)), theirs_b.to(getattr(torch, b))
        assert name_of(got) == name_of(expected) == b
        assert np.array_equal(values(got), values(expected)), f"{a} -> {b}"


def test_casts_of_special_floats():
    def program(m):
        x = m.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, 3.4e38, 65504.0, 65520.0, 1e-8])
        y = m.tensor([1e308, -1e308, 1e-320, 5e-324, 1.00000001, float("nan")], dtype=m.float64)
        out = [
            x.bool(),
            y.bool(),
            x.double(),
            y.float(),
            x.half().float(),
            x.bfloat16().float(),
            y.half().float(),
            y.bfloat16().float(),
        ]
        return [*out, x.half().double(), x.bfloat16().half().float(), x.half().bool()]

    same(program, rtol=0, atol=0)


def test_16_bit_floats_round_to_nearest_even():
    grid = np.linspace(-70000, 70000, 5001).astype(np.float32)
    fine = (1 + np.arange(4096) / 2**20).astype(np.float32)
    for x in (grid, fine, fine * 1e-6, fine * 3e-39):
        for name in ("half", "bfloat16"):
            ours, theirs = getattr(st.tensor(x), name)().float(), getattr(torch.tensor(x), name)().float()
            assert np.array_equal(ours.numpy().view(np.int32), theirs.numpy().view(np.int32))


def test_integers_wrap():
    def program(m):
        out = []
        for d, top in ((m.uint8, 255), (m.int8, 127), (m.int16, 32767), (m.int32, 2**31 - 1), (m.int64, 2**63 - 1)):
            x = m.tensor([top, 0, 1, top // 2], dtype=d)
            out += [x + 1, x * x, x - 2, -x, x * 3 + x, x.sum(), x.cumsum(0), x.prod()]
        big = m.tensor([300, -1, 70000, 2**40 + 5])
        return [
            *out,
            big.to(m.uint8),
            big.to(m.int8),
            big.to(m.int16),
            big.to(m.int32),
            big.bool(),
            big.float(),
            big.double(),
        ]

    same(program, rtol=0, atol=0)


@pytest.mark.parametrize("fold", ["sum", "prod", "cumsum", "mean", "amax", "argmax", "all", "any"])
def test_types_of_folds(fold):
    dim = (0,) if fold == "cumsum" else ()
    for a in REAL:
        if fold in ("argmax",) and a == "bool":
            continue
        agree(lambda m: getattr(make(m, a, 3), fold)(*dim))
    for a, b in itertools.product(["bool", "uint8", "int32", "float16", "float32", "float64"], repeat=2):
        if fold in ("sum", "prod", "cumsum", "mean"):
            agree(lambda m: getattr(make(m, a, 3), fold)(*dim, dtype=getattr(m, b)))


@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "sqrt",
        "sin",
        "tanh",
        "sigmoid",
        "reciprocal",
        "neg",
        "abs",
        "floor",
        "round",
        "sign",
        "relu",
        "square",
        "logical_not",
        "isnan",
    ],
)
def test_types_of_unary_operators(name):
    wrong = []
    for a in REAL:
        program = lambda m: getattr(make(m, a, 3), name)()  # noqa: E731
        if differs(program):
            wrong.append(f"{name} of {a}: {differs(program)}")
    assert not wrong, "\n".join(wrong)


# -- limits and defaults -----------------------------------------------------------------------------------------


def test_limits():
    for name in ("float16", "bfloat16", "float32", "float64"):
        ours, theirs = st.finfo(getattr(st, name)), torch.finfo(getattr(torch, name))
        for part in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
            assert getattr(ours, part) == getattr(theirs, part), (name, part)
    for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"):
        ours, theirs = st.iinfo(getattr(st, name)), torch.iinfo(getattr(torch, name))
        for part in ("bits", "max", "min", "dtype"):
            assert getattr(ours, part) == getattr(theirs, part), (name, part)
    assert st.finfo().dtype == "float32"
    same_error(lambda m: m.finfo(m.int32))
    same_error(lambda m: m.iinfo(m.float32))


def test_default_type():
    def program(m):
        out = [str(m.get_default_dtype()).rpartition(".")[2]]
        try:
            m.set_default_dtype(m.float64)
            x = m.tensor([1, 2, 3])
            out += [
                m.tensor(1.5),
                m.tensor([1, 2.5]),
                m.zeros(2),
                m.ones(2),
                x / 2,
                x.sqrt(),
                x * 1.5,
                m.arange(0, 1, 0.25),
                m.linspace(0, 1, 3),
            ]
            out += [
                m.eye(2),
                x + m.tensor(2.0),
                m.full((2,), 1.5),
                m.tensor(1j),
                m.result_type(1.5, 2),
                x.float() * 1.5,
            ]
            m.set_default_dtype(m.float16)
            out += [m.zeros(1), m.tensor(0.1), x * 1.5]
        finally:
            m.set_default_dtype(m.float32)
        return [str(o).rpartition(".")[2] if "dtype" in type(o).__name__.lower() else o for o in out]

    same(program, rtol=1e-12)
    same_error(lambda m: m.set_default_dtype(m.int64), "floating")
    same_error(lambda m: m.set_default_dtype("float64"), "")


def test_aliases_and_questions():
    def program(m):
        x = m.tensor([1.5])
        names = [name_of(getattr(m, n)) for n in ("float", "double", "half", "int", "long", "short")]
        flags = [
            [getattr(m, n).is_floating_point, getattr(m, n).is_complex, getattr(m, n).is_signed, getattr(m, n).itemsize]
            for n in NAMES
        ]
        methods = [
            x.double(),
            x.half().float(),
            x.int(),
            x.long(),
            x.short(),
            x.bool(),
            x.to(m.uint8),
            x.type_as(m.tensor([1])),
            x.to(x),
            x.to("cpu"),
        ]
        return [
            names,
            flags,
            methods,
            x.to(m.float32) is x,
            x.float() is x,
            x.to(m.float32, copy=True) is x,
            x.element_size(),
            x.nbytes,
        ]

    same(program)


def test_types_pickle_and_copy_as_themselves():
    import copy
    import pickle

    for d in dtypes.ALL:
        assert pickle.loads(pickle.dumps(d)) is d and copy.deepcopy(d) is d and copy.copy(d) is d
        assert eval(repr(d), {"spiraltorch": st}) is d
