"""Every pair of element types, as tensors, 0-d tensors and Python numbers, through every binary operator: torch's type or refusal.

Only types are looked at; nothing of ours is computed.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes

BINARY = (
    "add", "sub", "mul", "div", "true_divide", "floor_divide", "fmod", "remainder", "pow", "float_power", "atan2", "hypot",
    "logaddexp2", "maximum", "minimum", "fmax", "fmin", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
    "logical_or", "bitwise_and", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
    "copysign", "nextafter", "heaviside", "gcd", "xlogy", "isclose", "rsub", "clamp_min", "clamp_max",
    "special.xlog1py", "where", "dist",
)  # fmt: skip
INPLACE = tuple(n + "_" for n in BINARY if hasattr(torch.Tensor, n + "_"))
DUNDERS = (operator.sub, operator.truediv, operator.mod, operator.and_, operator.lt)  # the same records, and reflected
NUMBERS = (True, 2, 1.5, 1 + 2j)
TYPES = dtypes.ALL


@functools.cache
def tensors(module: Any, name: str, shape: tuple[int, ...]) -> Any:
    return module.ones(shape, dtype=getattr(module, name))


def looked_up(module: Any, name: str) -> Callable[..., Any]:
    at = module
    for part in name.split("."):
        at = getattr(at, part)
    if name == "where":
        condition = module.ones((1,), dtype=module.bool)
        return lambda a, b: module.where(condition, a, b)
    return at  # type: ignore[no-any-return]


def answer(compute: Callable[[], Any]) -> str | type[BaseException]:
    """The name of the result's type, or the built-in class of what is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = compute()
        except Exception as e:
            return next(c for c in type(e).__mro__ if c.__module__ == "builtins")
    return str(result.dtype).rpartition(".")[2]


def cases() -> list[tuple[str, Any]]:
    """(label, operands of a library's module) for every combination."""
    found = []
    for a in TYPES:
        for b in TYPES:
            for shapes in (((1,), (1,)), ((1,), ()), ((), (1,))):
                label = f"{a.name}{list(shapes[0])}, {b.name}{list(shapes[1])}"
                found.append((label, lambda m, a=a, b=b, s=shapes: (tensors(m, a.name, s[0]), tensors(m, b.name, s[1]))))
        for n in NUMBERS:
            found.append((f"{a.name}[1], {n}", lambda m, a=a, n=n: (tensors(m, a.name, (1,)), n)))
            found.append((f"{a.name}[], {n}", lambda m, a=a, n=n: (tensors(m, a.name, ()), n)))
            found.append((f"{n}, {a.name}[1]", lambda m, a=a, n=n: (n, tensors(m, a.name, (1,)))))
    return found


CASES = cases()


def differences(ours: Callable[..., Any], theirs: Callable[..., Any], in_place: bool = False) -> list[str]:
    found = []
    for label, operands in CASES:
        args = operands(torch)
        if in_place and not isinstance(args[0], torch.Tensor):
            continue
        mine = operands(st)
        if in_place:
            args, mine = (args[0].clone(), args[1]), (mine[0].clone(), mine[1])
        want = answer(lambda: theirs(*args))
        got = answer(lambda: ours(*mine))
        if not agree(got, want) and not known(want, args):
            found.append(f"({label}): {got}, torch {want}")
    return found


def agree(got: Any, want: Any) -> bool:
    """One type, or a refusal that catching torch's class catches."""
    if isinstance(want, type) and isinstance(got, type):
        return issubclass(got, want)
    return bool(got == want)


def known(want: Any, args: tuple[Any, ...]) -> bool:
    """What is meant to differ: uint16, uint32 and uint64 compute here where torch has no kernels for them, and there is
    no complex number of two float16."""
    types = {a.dtype for a in args if isinstance(a, torch.Tensor)}
    if want is NotImplementedError and types & {torch.uint16, torch.uint32, torch.uint64}:
        return True
    return torch.float16 in types and (any(t.is_complex for t in types) or any(isinstance(a, complex) for a in args))


@pytest.mark.parametrize("name", BINARY)
def test_function(name: str) -> None:
    found = differences(looked_up(st, name), looked_up(torch, name))
    assert not found, f"{len(found)} of {len(CASES)} differ: " + "; ".join(found[:5])


@pytest.mark.parametrize("name", INPLACE)
def test_in_place(name: str) -> None:
    found = differences(getattr(st.Tensor, name), getattr(torch.Tensor, name), in_place=True)
    assert not found, f"{len(found)} of {len(CASES)} differ: " + "; ".join(found[:5])


@pytest.mark.parametrize("function", DUNDERS, ids=[f.__name__ for f in DUNDERS])
def test_operator(function: Callable[[Any, Any], Any]) -> None:
    found = differences(function, function)
    assert not found, f"{len(found)} of {len(CASES)} differ: " + "; ".join(found[:5])
