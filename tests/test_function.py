"""Functions with a backward of their own, beside torch's, and the checks of derivatives."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.function import Function, GradcheckError, gradcheck, gradgradcheck, once_differentiable

LIBS = [pytest.param(st, Function, once_differentiable, id="spiraltorch"),
        pytest.param(torch, torch.autograd.Function, torch.autograd.function.once_differentiable, id="torch")]  # fmt: skip
each_library = pytest.mark.parametrize(("lib", "Base", "once"), LIBS)


@each_library
def test_saved_inputs_and_outputs(lib: Any, Base: Any, once: Any) -> None:
    class Weighted(Base):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, power: int, unused: Any = None) -> Any:
            y = x.exp()
            assert not lib.is_grad_enabled()
            ctx.save_for_backward(x, y, w, None)
            ctx.power = power
            return y, (x * w) ** power

        @staticmethod
        def backward(ctx: Any, gy: Any, gz: Any) -> Any:
            x, y, w, nothing = ctx.saved_tensors
            assert nothing is None
            inner = gz * ctx.power * (x * w) ** (ctx.power - 1)
            return gy * y + inner * w, inner * x if ctx.needs_input_grad[1] else None, None, None

    for w_grad in (True, False):
        x, w = lib.tensor([0.5, -1.0], requires_grad=True), lib.tensor([2.0, 3.0], requires_grad=w_grad)
        y, z = Weighted.apply(x, w, 3)
        assert y.requires_grad and z.grad_fn is not None and "Weighted" in type(y.grad_fn).__name__ + y.grad_fn.name()
        (y.sum() + (z * 2).sum()).backward()
        a, b = torch.tensor([0.5, -1.0], requires_grad=True), torch.tensor([2.0, 3.0], requires_grad=True)
        (a.exp().sum() + ((a * b) ** 3 * 2).sum()).backward()
        np.testing.assert_allclose(x.grad.tolist(), a.grad.tolist(), rtol=1e-5)
        if w_grad:
            np.testing.assert_allclose(w.grad.tolist(), b.grad.tolist(), rtol=1e-5)
        else:
            assert w.grad is None
        with pytest.raises(RuntimeError, match="second time"):
            y.sum().backward()


@each_library
def test_setup_context_form(lib: Any, Base: Any, once: Any) -> None:
    class Times(Base):
        @staticmethod
        def forward(x: Any, k: float) -> Any:
            return x * k

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.k = inputs[1]

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.k * 10, None

    x = lib.ones(3, requires_grad=True)
    Times.apply(x, 2.0).sum().backward()
    assert x.grad.tolist() == [20.0] * 3


@each_library
def test_double_backward(lib: Any, Base: Any, once: Any) -> None:
    class Cube(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x * x
            ctx.save_for_backward(x)
            return y * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * g * x * x

    x = lib.tensor(2.0, requires_grad=True)
    (g,) = lib.autograd.grad(Cube.apply(x), x, create_graph=True)
    (h,) = lib.autograd.grad(g, x, create_graph=True)
    (i,) = lib.autograd.grad(h, x)
    assert (g.item(), h.item(), i.item()) == (12.0, 12.0, 6.0)

    class FromOutput(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    (g,) = lib.autograd.grad(FromOutput.apply(x), x, create_graph=True)
    (h,) = lib.autograd.grad(g, x)
    assert h.item() == pytest.approx(np.exp(2.0), rel=1e-6)


@each_library
def test_once_differentiable(lib: Any, Base: Any, once: Any) -> None:
    class Half(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x / 2

        @staticmethod
        @once
        def backward(ctx: Any, g: Any) -> Any:
            return g / 2

    x = lib.ones(2, requires_grad=True)
    Half.apply(x * 2).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
    weight = lib.ones(2, requires_grad=True)
    (g,) = lib.autograd.grad((Half.apply(x) * weight).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


@each_library
def test_grads_of_unused_outputs(lib: Any, Base: Any, once: Any) -> None:
    seen: list[Any] = []

    def function(materialize: bool) -> Any:
        class Two(Base):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.set_materialize_grads(materialize)
                return x * 1, x * 2

            @staticmethod
            def backward(ctx: Any, a: Any, b: Any) -> Any:
                seen.append((a, b))
                return b

        return Two

    x = lib.ones(2, requires_grad=True)
    for materialize in (True, False):
        function(materialize).apply(x)[1].sum().backward()
    assert seen[0][0].tolist() == [0.0, 0.0] and seen[1][0] is None and x.grad.tolist() == [2.0, 2.0]


@each_library
def test_non_differentiable_outputs_and_integers(lib: Any, Base: Any, once: Any) -> None:
    class Largest(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            at = x.argmax()
            mask = (x == x.max()).float()
            ctx.mark_non_differentiable(at, mask)
            ctx.save_for_backward(mask)
            return x.max(), at, mask

        @staticmethod
        def backward(ctx: Any, g: Any, *rest: Any) -> Any:
            return g * ctx.saved_tensors[0]

    x = lib.tensor([1.0, 5.0, 2.0], requires_grad=True)
    value, at, mask = Largest.apply(x)
    assert value.requires_grad and not at.requires_grad and not mask.requires_grad and at.item() == 1
    value.backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


@each_library
def test_in_place_on_marked_inputs(lib: Any, Base: Any, once: Any) -> None:
    class AddOne(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            x.add_(1)
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 5

    leaf = lib.ones(2, requires_grad=True)
    x = leaf * 2
    out = AddOne.apply(x)
    assert out is x and x.tolist() == [3.0, 3.0]
    (x * 2).sum().backward()
    assert leaf.grad.tolist() == [20.0, 20.0]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        AddOne.apply(leaf)


@each_library
def test_returned_input_and_no_grad(lib: Any, Base: Any, once: Any) -> None:
    class Reverse(Base):
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            ctx.scale = scale
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return -g * ctx.scale, None

    x = lib.ones(2, requires_grad=True)
    y = Reverse.apply(x, 3.0)
    y.sum().backward()
    assert x.grad.tolist() == [-3.0, -3.0] and y.grad_fn is not None and x.grad_fn is None
    with lib.no_grad():
        assert Reverse.apply(x * 2, 3.0).grad_fn is None
    assert not Reverse.apply(lib.ones(2), 3.0).requires_grad


@each_library
def test_saved_tensors_must_not_change(lib: Any, Base: Any, once: Any) -> None:
    class Keep(Base):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    x = lib.ones(2, requires_grad=True) * 1
    y = Keep.apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@each_library
def test_wrong_gradients_are_refused(lib: Any, Base: Any, once: Any) -> None:
    def function(result: Any) -> Any:
        class Wrong(Base):
            @staticmethod
            def forward(ctx: Any, x: Any, k: int) -> Any:
                return x * k

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                return result(g)

        return Wrong

    x = lib.ones(2, requires_grad=True)
    for result, match in (
        (lambda g: g, "incorrect number of gradients"), (lambda g: (g, g), "corresponding forward input was not a Variable"),
        (lambda g: (lib.ones(3), None), "invalid gradient at index 0"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=match):
            function(result).apply(x, 2).sum().backward()
    function(lambda g: (lib.ones(4, 2), None, None)).apply(x, 2).sum().backward()
    assert x.grad.tolist() == [4.0, 4.0]
    with pytest.raises(NotImplementedError):
        Base.apply(x)


def test_results_do_not_keep_each_other_alive() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x * x
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2 * ctx.saved_tensors[0]

    gc.disable()
    try:
        x = st.ones(2, requires_grad=True) * 1
        y = Square.apply(x)
        y.sum().backward(retain_graph=True)
        kept = weakref.ref(x), weakref.ref(y)
        del x, y
        assert kept[0]() is None and kept[1]() is None
    finally:
        gc.enable()


def test_function_in_compiled_code() -> None:
    class Clip(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.clamp(-1, 1)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * (x.abs() <= 1).to(g.dtype) * 7

    w = st.tensor([0.5, 3.0], requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        loss = (Clip.apply(w) * x).sum()
        loss.backward()
        return loss

    compiled = st.compile(step, fullgraph=True)
    for k in (2.0, 3.0):
        x = st.full((2,), k)
        assert compiled(x).item() == 1.5 * k and w.grad.tolist() == [7 * k, 0.0]
    assert compiled.compilations == 1


# -- gradcheck ---------------------------------------------------------------------------------------------


def doubles(*shape: int) -> st.Tensor:
    return st.tensor(np.random.default_rng(sum(shape)).standard_normal(shape), requires_grad=True)


def test_gradcheck_accepts_right_derivatives() -> None:
    assert gradcheck(lambda x: x.sin() * x, doubles(3))
    assert gradcheck(lambda x, y, k: (x @ y, (x * k).exp().sum()), [doubles(2, 3), doubles(3, 2), 0.5])
    assert gradgradcheck(lambda x: x**3, doubles(3))
    assert gradgradcheck(lambda x, y: (x * y).tanh().sum(), (doubles(3), doubles(3)))


def test_gradcheck_reports_wrong_derivatives() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0] * 2.1

    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0") as e:
        gradcheck(Wrong.apply, doubles(2))
    assert "numerical:" in str(e.value) and "analytical:" in str(e.value)
    assert not gradcheck(Wrong.apply, doubles(2), raise_exception=False)
    with pytest.raises(GradcheckError, match="not float64"):
        gradcheck(Wrong.apply, st.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="requires_grad=True"):
        gradcheck(lambda x: x, st.ones(2, dtype=st.float64))


def test_gradcheck_notices_a_backward_that_varies() -> None:
    calls: list[int] = []

    class Moody(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            calls.append(1)
            return g * (1 + 1e-9 * len(calls))

    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(Moody.apply, doubles(1))
