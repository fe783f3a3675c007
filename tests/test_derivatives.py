"""autograd.functional against torch, and what anomaly mode says."""

from __future__ import annotations

from typing import Any

import pytest

import spiraltorch as st
from tests.helpers import same, same_error


def two(m: Any) -> Any:
    def f(x: Any, y: Any) -> Any:
        return (x.sin() * y).sum(1), x[0] ** 2

    return f


def one(m: Any) -> Any:
    def f(x: Any, y: Any) -> Any:
        return (x**3 * y).sum()

    return f


def alone(x: Any) -> Any:
    return (x**3).exp().sum()


PROGRAMS: dict[str, Any] = {
    "vjp": lambda m, F: F.vjp(two(m), (m.make(2, 3), m.make(2, 3)), (m.make(2), m.make(3))),
    "vjp of a number": lambda m, F: F.vjp(alone, m.make(3)),
    "jvp": lambda m, F: F.jvp(two(m), (m.make(2, 3), m.make(2, 3)), (m.make(2, 3), m.make(2, 3))),
    "jvp of one": lambda m, F: F.jvp(lambda x: x * x, m.make(1)),
    "jacobian": lambda m, F: F.jacobian(two(m), (m.make(2, 3), m.make(2, 3))),
    "jacobian unused": lambda m, F: F.jacobian(lambda x, y: x * 2, (m.make(2), m.make(1))),
    "hessian": lambda m, F: F.hessian(one(m), (m.make(2), m.make(2))), "hessian of one": lambda m, F: F.hessian(alone, m.make(2, 2)),
    "vhp": lambda m, F: F.vhp(one(m), (m.make(2), m.make(2)), (m.make(2), m.make(2))), "hvp": lambda m, F: F.hvp(alone, m.make(3), m.make(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_functional(name: str) -> None:
    def program(m: Any) -> Any:
        found = PROGRAMS[name](m, m.autograd.functional)
        return list(found) if isinstance(found, tuple) else found

    same(program, rtol=1e-4, atol=1e-5)


def test_jacobian_on_the_tape() -> None:
    def program(m: Any) -> Any:
        x = m.make(3, grad=True)
        m.autograd.functional.jacobian(lambda v: v**3, x, create_graph=True).sum().backward()
        return x.grad

    same(program)


@pytest.mark.parametrize(
    "refused",
    [
        lambda m, F: F.vjp(lambda x: x, m.make(2)), lambda m, F: F.vjp(lambda x: x, m.make(2), m.make(3)), lambda m, F: F.vjp(lambda x: 3, m.make(2)),
        lambda m, F: F.hessian(lambda x: x, m.make(2)), lambda m, F: F.jacobian(lambda x: x, 3.0), lambda m, F: F.jacobian(lambda x, y: x, (m.make(2), m.make(2)), strict=True),
    ],
)  # fmt: skip
def test_refusals(refused: Any) -> None:
    same_error(lambda m: refused(m, m.autograd.functional))


def test_anomaly_mode_names_the_forward_line() -> None:
    def program(m: Any) -> None:
        x = m.tensor([-1.0], requires_grad=True)
        with m.autograd.detect_anomaly():
            y = x.sqrt()  # here
            (y * 0).sum().backward()

    with pytest.warns(UserWarning):
        same_error(program, "SqrtBackward0")
    x = st.tensor([-1.0], requires_grad=True)
    with st.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match=r"nan values in its 0th output.*test_derivatives.py"):
        (x.sqrt() * 0).sum().backward()
    assert not st.is_anomaly_enabled()
    (x.sqrt() * 0).sum().backward()


def test_anomaly_without_nan_check_and_failing_backward() -> None:
    class Fails(st.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise KeyError("mine")

    x = st.tensor([-1.0], requires_grad=True)
    with st.autograd.detect_anomaly(check_nan=False):
        (x.sqrt() * 0).sum().backward()
        with pytest.warns(UserWarning, match="Error detected in FailsBackward"), pytest.raises(KeyError):
            Fails.apply(x).sum().backward()


def test_hooks_after_accumulation_and_inference_mode() -> None:
    def program(m: Any) -> Any:
        x, seen = m.tensor([1.0, 2.0], requires_grad=True), []
        handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
        (x * 3).sum().backward()
        handle.remove()
        (x * 3).sum().backward()
        with m.inference_mode():
            inside = m.is_inference_mode_enabled(), (x * 2).requires_grad
        return [seen, inside, m.is_inference_mode_enabled()]

    same(program)
    same_error(lambda m: m.tensor([1.0]).register_post_accumulate_grad_hook(print))
