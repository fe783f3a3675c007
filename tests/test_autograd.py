"""Autograd against torch: tape, engine, modes, hooks, higher derivatives, and that laziness shows nowhere."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.config import config
from spiraltorch.ir.node import live_nodes
from spiraltorch.jit.eager import clear_programs

from .helpers import Library, compare, same, same_error, values

# -- leaves and accumulation ---------------------------------------------------------------------------


def test_leaves_and_flags():
    def program(m):
        a, b = m.make(3, grad=True), m.make(3)
        c = a * b
        d = b + 1
        e = c.detach()
        f = a.clone().requires_grad_()
        with m.no_grad():
            g = a * 2
        out = []
        for t in (a, b, c, d, e, f, g, a[1:], c[1:], e[0], g.requires_grad_()):
            out.append([t.requires_grad, t.is_leaf, t.grad_fn is None])
        return out

    same(program)


def test_gradients_accumulate():
    def program(m):
        a = m.make(3, grad=True)
        (a * 2).sum().backward()
        first = a.grad.clone()
        (a * a).sum().backward()
        second = a.grad.clone()
        a.grad = None
        (a * 3).sum().backward()
        a.grad.zero_()
        (a * 5).sum().backward()
        return [first, second, a.grad, a.grad.requires_grad]

    same(program)


def test_accumulation_keeps_the_gradient_tensor():
    def program(m):
        a = m.make(3, grad=True)
        (a * 2).sum().backward()
        kept = a.grad
        (a * 3).sum().backward()
        return [kept, kept is a.grad]

    same(program)


def test_same_tensor_twice_and_diamonds():
    def program(m):
        a = m.make(4, grad=True)
        b = a * a + a
        c = (b * b).sum() + (b + a * b).sum() + m.cat([a, a, b]).sum()
        c.backward()
        return [c, a.grad]

    same(program)


def test_equal_values_have_gradients_of_their_own():
    """Recording finds common subexpressions by value; the tape must not."""

    def program(m):
        a = m.ones(3, requires_grad=True)
        b = m.ones(3, requires_grad=True)
        c, d = a * 2, b * 2
        (c * 3 + d * 5).sum().backward()
        e, f = m.zeros(2, 2, requires_grad=True), m.zeros(2, 2, requires_grad=True)
        ((e + 1) @ (f + 1) + e * f).sum().backward()
        g = m.full((2,), 4.0).requires_grad_()
        h = m.full((2,), 4.0).requires_grad_()
        (first,) = m.autograd.grad((g * h).sum(), g)
        return [a.grad, b.grad, e.grad, f.grad, first, h.grad is None]

    same(program)


def test_recorded_twice_is_two_steps():
    def program(m):
        a = m.make(3, grad=True)
        x, y = a.exp(), a.exp()
        x.retain_grad()
        y.retain_grad()
        (x * 2 + y * 3).sum().backward()
        return [x.grad, y.grad, a.grad]

    same(program)


BROADCAST = {
    "row": ((3, 4), (4,)), "column": ((3, 4), (3, 1)), "scalar": ((3, 4), ()), "outer": ((3, 1), (1, 4)), "rank": ((2, 3, 4), (3, 1)),
    "zero size": ((0, 3), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("name", BROADCAST)
def test_broadcasting_gradients(name):
    def program(m):
        a, b = m.make(*BROADCAST[name][0], grad=True), m.make(*BROADCAST[name][1], grad=True)
        (a * b + a / (b * b + 1) - m.maximum(a, b)).sum().backward()
        return [a.grad, b.grad]

    same(program)


def test_mixed_types_get_gradients_of_their_type():
    def program(m):
        a = m.make(3, grad=True)
        b = m.make(3, kind="d", grad=True)
        c = m.make(3, kind="i")
        half = m.make(3).bfloat16().requires_grad_()
        (a * b + a * c + half.float() * a).sum().backward()
        return [a.grad, b.grad, half.grad]

    same(program, rtol=1e-2)


def test_integer_inputs():
    def program(m):
        i = m.make(4, kind="i")
        a = m.make(4, grad=True)
        out = (a * i).sum()
        out.backward()
        return [
            out,
            a.grad,
            i.grad is None,
            (i + 1).requires_grad,
            a.argmax().requires_grad,
            (a > 0).requires_grad,
            a.long().requires_grad,
        ]

    same(program)
    same_error(lambda m: m.make(4, kind="i").requires_grad_(), "floating point")
    same_error(lambda m: m.tensor([1, 2], requires_grad=True), "floating point")


# -- backward: arguments and refusals ------------------------------------------------------------------


def test_non_scalar_backward():
    same_error(lambda m: (m.make(3, grad=True) * 2).backward(), "scalar outputs")
    same_error(lambda m: (m.make(3, grad=True) * 2).backward(m.make(4)), "shape")
    same_error(lambda m: m.make(3).sum().backward(), "does not require grad")
    same_error(lambda m: m.autograd.grad(m.make(1, grad=True) * 2, m.make(1)), "require grad")

    def program(m):
        a = m.make(3, grad=True)
        (a * 2).backward(m.tensor([1.0, 2.0, 3.0]))
        b = m.make(1, 1, grad=True)
        (b * 3).backward()
        c = m.make(2, grad=True)
        m.autograd.backward([c.sum(), c * 2], [None, m.ones(2)])
        return [a.grad, b.grad, c.grad]

    same(program)


def test_backward_of_a_leaf():
    def program(m):
        a = m.tensor(2.0, requires_grad=True)
        a.backward()
        a.backward(m.tensor(3.0))
        return a.grad

    same(program)


def test_retain_graph():
    def program(m):
        a = m.make(3, grad=True)
        loss = a.exp().sum()
        loss.backward(retain_graph=True)
        once = a.grad.clone()
        loss.backward()
        return [once, a.grad]

    same(program)


FREED = {
    "exp": lambda a: a.exp().sum(), "product": lambda a: (a * a).sum(), "matmul": lambda a: (a @ a.t()).sum(),
    "softmax": lambda a: a.softmax(-1)[0, 0], "chain": lambda a: ((a * 2).tanh() + 1).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", FREED)
def test_freed_graph(name):
    def program(m):
        loss = FREED[name](m.make(3, 3, grad=True))
        loss.backward()
        loss.backward()

    same_error(program, "backward through the graph a second time")


def test_linear_steps_keep_nothing_and_can_run_again():
    def program(m):
        a = m.make(3, grad=True)
        loss = (a + 1).sum()
        loss.backward()
        loss.backward()
        return a.grad

    same(program)


def test_grad_returns_and_leaves_alone():
    def program(m):
        a, b, c = m.make(3, grad=True), m.make(3, grad=True), m.make(3, grad=True)
        mid = a * b
        out = (mid * a).sum()
        got = m.autograd.grad(out, [a, mid, b], retain_graph=True)
        (single,) = m.autograd.grad(out, a, retain_graph=True)
        unused = m.autograd.grad(out, [a, c], allow_unused=True, retain_graph=True)
        zeros = m.autograd.grad(out, [c, a], materialize_grads=True, retain_graph=True)
        (weighted,) = m.autograd.grad(mid, a, grad_outputs=m.tensor([1.0, 2.0, 3.0]), retain_graph=True)
        several = m.autograd.grad([mid, out], [b], [m.ones(3), m.tensor(2.0)])
        return [*got, single, unused[0], unused[1] is None, *zeros, weighted, *several, a.grad is None]

    same(program)
    same_error(lambda m: m.autograd.grad(m.make(2, grad=True).sum(), m.make(2, grad=True)), "allow_unused")
    same_error(
        lambda m: m.autograd.grad(m.make(2, grad=True) * 2, m.make(2, grad=True), grad_outputs=m.ones(3)), "shape"
    )


def test_grad_with_respect_to_itself_and_outputs_of_many():
    def program(m):
        a = m.make(4, 3, grad=True)
        b = a * 2
        top, rest = b.split([1, 3])
        out = (top * rest).sum()
        (own,) = m.autograd.grad(out, out, retain_graph=True)
        return [own, *m.autograd.grad(out, [top, rest, b, a])]

    same(program)


def test_backward_inputs():
    def program(m):
        a, b = m.make(3, grad=True), m.make(3, grad=True)
        (a * b).sum().backward(inputs=[a])
        return [a.grad, b.grad is None]

    same(program)


def test_requires_grad_rules():
    def program(m):
        a = m.make(3)
        out = [a.requires_grad_() is a, a.requires_grad]
        a.requires_grad = False
        b = (a * 2).requires_grad
        a.requires_grad_(True)
        return [*out, b, (a * 2).requires_grad]

    same(program)
    same_error(lambda m: (m.make(3, grad=True) * 2).requires_grad_(False), "leaf")

    def assign(m):
        a = m.make(3, grad=True)
        a.grad = m.make(4)

    same_error(assign, "size")

    def assign_number(m):
        m.make(3, grad=True).grad = 1.0

    same_error(assign_number, "")


def test_gradients_share_no_memory_with_what_was_given():
    def program(m):
        g = m.tensor([1.0, 2.0, 3.0])
        a, b, c = m.make(3, grad=True), m.make(3, grad=True), m.make(3, grad=True)
        held = m.tensor([4.0, 5.0, 6.0])
        c.register_hook(lambda _: held)
        a.backward(g)
        (b + 1).backward(g)
        c.sum().backward()
        for t in (a, b, c):
            t.grad.mul_(10)
            t.grad.numpy()[0] = -1
        return [g, held, a.grad, b.grad, c.grad]

    same(program)


def test_an_operator_that_returns_its_operand_makes_no_second_owner():
    def program(m):
        a = m.make(3)
        copies = [
            m.cat([a]),
            a.roll(0, 0),
            a.repeat(1),
            m.nn.functional.pad(a, (0, 0)),
            a.clone(),
            a.index_select(0, m.arange(3)),
        ]
        for k, c in enumerate(copies):
            c.numpy()[0] = k
            c.mul_(2)
        return [a, *copies]

    same(program)


# -- higher derivatives --------------------------------------------------------------------------------


def layer_norm(m, x, weight, bias):
    """Spelled out for torch, whose third derivative of layer_norm treats the standard deviation as constant."""
    if m.m is st:
        return m.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred * centred).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


FUNCTIONS = {
    "tanh": lambda m, a: a.tanh(),
    "exp": lambda m, a: (a * 0.5).exp(),
    "log": lambda m, a: (a * a + 1).log(),
    "sqrt": lambda m, a: (a * a + 1).sqrt(),
    "pow": lambda m, a: (a * a + 0.5) ** 1.5,
    "pow tensor": lambda m, a: (a * a + 1) ** a,
    "div": lambda m, a: a / (a * a + 2),
    "sigmoid": lambda m, a: a.sigmoid(),
    "sin cos": lambda m, a: a.sin() * a.cos(),
    "matmul": lambda m, a: a @ a.t() @ a,
    "softmax": lambda m, a: a.softmax(-1) * a,
    "log_softmax": lambda m, a: a.log_softmax(0) * a,
    "logsumexp": lambda m, a: a.logsumexp(1),
    "layer_norm": lambda m, a: layer_norm(m, a, a[0], a[1]),
    "conv": lambda m, a: m.nn.functional.conv1d(a.reshape(1, 2, 6), a[:2, :2].reshape(2, 2, 1).expand(2, 2, 3), padding=1),
    "conv2d": lambda m, a: m.nn.functional.conv2d(a.reshape(1, 1, 3, 4), a[:2, :2].reshape(1, 1, 2, 2)),
    "gelu": lambda m, a: m.nn.functional.gelu(a),
    "softplus": lambda m, a: m.nn.functional.softplus(a),
    "cross_entropy": lambda m, a: m.nn.functional.cross_entropy(a, m.tensor([0, 2, 3])),
    "mean var": lambda m, a: a.var(1) * a.mean(1),
    "prod": lambda m, a: a.prod(1),
    "norm": lambda m, a: a.norm(dim=1) * a[:, 0],
    "cumsum": lambda m, a: (a * a).cumsum(1) * a,
    "index": lambda m, a: (a * a)[m.tensor([0, 0, 2])] * a,
    "where": lambda m, a: m.where(a > 0, a * a * a, a * a),
    "cat": lambda m, a: m.cat([a * a, a.exp()], 1).tanh(),
    "max": lambda m, a: (a * a * a).amax(1),
    "einsum": lambda m, a: m.einsum("ij,kj,kl->il", a, a, a),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_and_triple_backward(name):
    def program(m):
        a = m.make(3, 4, kind="d", grad=True)
        w = m.make(3, 4, kind="d")
        out = FUNCTIONS[name](m, a)
        seed = m.make(*out.shape, kind="d")
        (first,) = m.autograd.grad((out * seed).sum(), a, create_graph=True)
        (second,) = m.autograd.grad((first * w).sum(), a, create_graph=True)
        (third,) = m.autograd.grad((second * first).sum(), a, allow_unused=True, materialize_grads=True)
        return [out, first, second, third]

    same(program, rtol=1e-6, atol=1e-8)


def test_gradient_penalty_step():
    def program(m):
        w = m.make(4, 4, grad=True)
        x = m.make(5, 4, grad=True)
        out = (x @ w).tanh().sum()
        (g,) = m.autograd.grad(out, x, create_graph=True)
        ((g.norm(dim=1) - 1) ** 2).mean().backward()
        return [w.grad, x.grad, g.requires_grad]

    same(program, rtol=1e-4)


def test_create_graph_in_backward():
    def program(m):
        a = m.make(3, grad=True)
        (a**3).sum().backward(create_graph=True)
        g = a.grad
        a.grad = None
        (g * g).sum().backward()
        return [g.requires_grad, a.grad]

    with pytest.warns(UserWarning):  # torch's about the reference cycle
        same(program)


def test_without_create_graph_the_gradient_is_plain():
    def program(m):
        a = m.make(3, grad=True)
        (g,) = m.autograd.grad((a**3).sum(), a)
        return [g.requires_grad, g.is_leaf]

    same(program)


def test_forward_state_of_a_double_backward_is_checked():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 1
        (g,) = m.autograd.grad((b * b * b).sum(), a, create_graph=True)
        b.mul_(2)
        g.sum().backward()

    same_error(program, "modified by an inplace operation")


# -- hooks ---------------------------------------------------------------------------------------------


def test_tensor_hooks():
    def program(m):
        a = m.make(3, grad=True)
        seen = []
        b = a * 2
        handle = b.register_hook(lambda g: g * 10)
        b.register_hook(lambda g: seen.append(g.clone()))
        c = b * 3
        c.register_hook(lambda g: None)
        a.register_hook(lambda g: g + 1)
        c.sum().backward(retain_graph=True)
        first = a.grad.clone()
        handle.remove()
        c.sum().backward()
        return [first, a.grad, seen]

    same(program)
    same_error(lambda m: m.make(3).register_hook(lambda g: g), "doesn't require")


def test_hook_sees_the_whole_gradient_once():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 1
        calls = []
        b.register_hook(lambda g: calls.append(values(g).copy()))
        a.register_hook(lambda g: calls.append(values(g).copy()))
        (b * 2 + b * b).sum().backward()
        (a * 2 + a * 3).sum().backward()
        return [len(calls), [c.tolist() for c in calls]]

    same(program)


def test_hook_with_the_same_function_twice_and_remove_twice():
    def program(m):
        a = m.make(3, grad=True)

        def double(g):
            return g * 2

        first, second = a.register_hook(double), a.register_hook(double)
        first.remove()
        first.remove()
        a.sum().backward()
        once = a.grad.clone()
        second.remove()
        a.grad = None
        a.sum().backward()
        return [once, a.grad]

    same(program)


def test_hooks_change_what_grad_returns():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 2
        b.register_hook(lambda g: g * 10)
        a.register_hook(lambda g: g - 1)
        out = (b * b).sum()
        return [*m.autograd.grad(out, b, retain_graph=True), *m.autograd.grad(out, a)]

    same(program)


def test_hook_that_raises_leaves_a_usable_state():
    def program(m):
        a = m.make(3, grad=True)
        handle = a.register_hook(lambda g: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            (a * 2).sum().backward()
        handle.remove()
        (a * 2).sum().backward()
        return [a.grad, m.is_grad_enabled()]

    same(program)


def test_retain_grad():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 2
        b.retain_grad()
        b.retain_grad()
        a.retain_grad()
        c = b * b
        c.sum().backward()
        return [a.grad, b.grad, b.retains_grad, a.retains_grad, c.retains_grad]

    same(program)
    same_error(lambda m: m.make(3).retain_grad(), "retain_grad")


# -- modes ---------------------------------------------------------------------------------------------


def test_modes_as_context_and_decorator():
    def program(m):
        a = m.make(3, grad=True)
        flags = []

        @m.no_grad()
        def off(x):
            flags.append(m.is_grad_enabled())
            return x * 2

        @m.no_grad
        def bare(x):
            return x * 2

        @m.enable_grad()
        def on(x):
            return x * 2

        @m.set_grad_enabled(False)
        def switched(x):
            return x * 2

        @m.inference_mode()
        def inference(x):
            return m.is_grad_enabled()

        @m.no_grad()
        def numbers(x):
            for _ in range(2):
                yield (x * 2).requires_grad

        out = [
            off(a).requires_grad,
            bare(a).requires_grad,
            on(a).requires_grad,
            switched(a).requires_grad,
            m.is_grad_enabled(),
        ]
        out.append(inference(a))
        for flag in numbers(a):
            out += [flag, m.is_grad_enabled()]
        with m.no_grad():
            out.append((a * 2).requires_grad)
            with m.enable_grad():
                out.append((a * 2).requires_grad)
            out.append(on(a).requires_grad)
            with m.set_grad_enabled(True):
                out.append((a * 2).requires_grad)
            out.append((a * 2).requires_grad)
        out.append(m.is_grad_enabled())
        m.set_grad_enabled(False)
        out.append((a * 2).requires_grad)
        m.set_grad_enabled(True)
        out.append((a * 2).requires_grad)
        with m.inference_mode(False):
            out.append(m.is_grad_enabled())
        return out + flags

    same(program)


def test_modes_survive_exceptions_and_recursion():
    def program(m):
        guard = m.no_grad()
        try:
            with guard:
                raise KeyError
        except KeyError:
            pass
        out = [m.is_grad_enabled()]

        @m.no_grad()
        def nested(n):
            return nested(n - 1) if n else m.is_grad_enabled()

        return [*out, nested(3), m.is_grad_enabled()]

    same(program)


def test_detach():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 2
        c = b.detach()
        d = (b + c * 3).sum()
        d.backward()
        e = a * 4
        e.detach_()
        return [a.grad, c.requires_grad, c.grad_fn is None, e.requires_grad, c.data_ptr() == b.data_ptr()]

    same(program)


# -- in-place writes and views -------------------------------------------------------------------------


def test_in_place_steps_are_differentiable():
    def program(m):
        a = m.make(4, grad=True)
        b = a * 1
        b.mul_(a)
        b += 1
        b[1:3] = a[:2] * 5
        b.clamp_(-1, 4)
        b.exp_()
        b.sum().backward()
        return [b, a.grad, b._version]

    same(program)


def test_views_of_leaves():
    def program(m):
        a = m.make(4, 3, grad=True)
        row, col, flat = a[1], a[:, 0], a.view(12)
        (row * 2).sum().backward()
        (col * a[1:, 1].sum()).sum().backward()
        flat[2:5].pow(2).sum().backward()
        with m.no_grad():
            a[0] = 7.0
            row.mul_(0)
        return [a, a.grad, row.requires_grad, row.is_leaf, a.is_leaf, a._version]

    same(program)


def test_leaf_updated_in_no_grad_is_used_with_its_new_value():
    def program(m):
        a = m.make(3, grad=True)
        losses = []
        for _ in range(4):
            loss = (a * a).sum()
            losses.append(loss.detach().clone())
            a.grad = None
            loss.backward()
            with m.no_grad():
                a -= 0.1 * a.grad
        return [a, losses]

    same(program)


def test_leaf_changed_between_forward_and_backward():
    def program(m):
        a = m.make(3, grad=True)
        loss = (a * a).sum()
        with m.no_grad():
            a.mul_(2)
        loss.backward()

    same_error(program, "modified by an inplace operation")

    def allowed(m):
        a = m.make(3, grad=True)
        loss = (a * 3).sum()
        with m.no_grad():
            a.mul_(2)
        loss.backward()
        return a.grad

    same(allowed)


def test_data_changes_unseen():
    def program(m):
        a = m.make(3, grad=True)
        a.data.mul_(2)
        b = a.sum()
        a.data = m.ones(3)
        b.backward()
        return [a, a.grad]

    same(program)


# -- gradients through structure -----------------------------------------------------------------------

STRUCTURE = {
    "index": lambda m, a: a[m.tensor([0, 2, 2, 1])],
    "index pair": lambda m, a: a[m.tensor([0, 2, 2]), m.tensor([1, 1, 1])],
    "mask": lambda m, a: a[a > 0],
    "slice": lambda m, a: a[1:, ::2],
    "cat": lambda m, a: m.cat([a, a * 2, a[:1]]),
    "stack": lambda m, a: m.stack([a, a.exp()], 1),
    "split": lambda m, a: [p * k for k, p in enumerate(a.split(2, 1))][1],
    "unbind": lambda m, a: a.unbind(0)[2] * a.unbind(1)[0].sum(),
    "where": lambda m, a: m.where(a > 0, a, a * a),
    "gather": lambda m, a: a.gather(1, m.tensor([[0, 0], [3, 1], [2, 2]])),
    "scatter": lambda m, a: m.zeros(3, 4).scatter(1, m.tensor([[0, 1], [3, 1], [2, 0]]), a[:, :2]),
    "scatter_add": lambda m, a: a.scatter_add(1, m.tensor([[0, 0], [3, 1], [2, 2]]), a[:, 2:]),
    "index_select": lambda m, a: a.index_select(1, m.tensor([3, 3, 0])),
    "index_add": lambda m, a: a.index_add(0, m.tensor([0, 0]), a[1:]),
    "masked_fill": lambda m, a: a.masked_fill(a > 0.5, 3.0),
    "flip roll": lambda m, a: a.flip(1) * a.roll(1, 0),
    "pad": lambda m, a: m.nn.functional.pad(a, (1, 2, 0, 1)),
    "tril": lambda m, a: a.tril(),
    "repeat": lambda m, a: a.repeat(2, 1),
    "expand": lambda m, a: a[:, :1].expand(3, 5),
    "unfold": lambda m, a: a.unfold(1, 2, 1),
    "diagonal": lambda m, a: a.diagonal(),
    "max": lambda m, a: a.max(1)[0] * m.make(3),
    "amin": lambda m, a: a.amin(0) * m.make(4),
    "cumsum": lambda m, a: a.cumsum(1),
    "einsum": lambda m, a: m.einsum("ij,kj->ik", a, a * 2),
    "embedding": lambda m, a: m.nn.functional.embedding(m.tensor([[0, 2], [2, 1]]), a),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURE)
def test_gradient_through(name):
    def program(m):
        a = m.make(3, 4, grad=True)
        out = STRUCTURE[name](m, a)
        (out * m.make(*out.shape)).sum().backward()
        return [out, a.grad]

    same(program)


# -- lazy is unobservable ------------------------------------------------------------------------------


def network(m, look):
    w1, w2 = m.make(6, 8, grad=True), m.make(8, 3, grad=True)
    x, y = m.make(5, 6), m.make(5, kind="i", low=0, high=2)
    kept = []
    for _ in range(3):
        h = (x @ w1).tanh()
        look(h)
        out = (h @ w2).softmax(-1)
        look(out)
        loss = m.nn.functional.nll_loss((out + 1e-6).log(), y) + (w1 * w1).sum() * 0.01
        look(loss)
        w1.grad = w2.grad = None
        loss.backward()
        look(w1.grad)
        with m.no_grad():
            w1 -= 0.3 * w1.grad
            look(w1)
            w2 -= 0.3 * w2.grad
        kept.append(loss.detach())
    return [kept, w1, w2, w1.grad, w2.grad]


def test_training_with_and_without_looking():
    same(lambda m: network(m, lambda t: None), rtol=1e-4)
    same(lambda m: network(m, lambda t: values(t.sum())), rtol=1e-4)


def test_pointwise_gradients_have_the_same_bits_however_often_one_looks():
    def run(look):
        m = Library(st)
        a, b = m.make(40, 7, grad=True), m.make(7, grad=True)
        c = (a * b).tanh()
        look(c)
        d = c.exp() * a - b / (c * c + 1)
        look(d)
        d.backward(m.make(40, 7))
        look(a.grad)
        return values([c, d, a.grad])

    plain, looked = run(lambda t: None), run(lambda t: t.detach().numpy())
    for p, q in zip(plain, looked):
        assert np.array_equal(p.view(np.int32), q.view(np.int32))


def test_flush_between_forward_and_backward():
    def program(m):
        a = m.make(4, 4, grad=True)
        b = (a @ a).relu()
        first = b.sum().item()
        c = (b * a).logsumexp(1)
        second = c.sum().item()
        c.sum().backward()
        third = a.grad.sum().item()
        (a * 2).sum().backward()
        return [first, second, third, a.grad]

    same(program)


def test_small_queue_changes_nothing(monkeypatch):
    plain = values(network(Library(st), lambda t: None))
    monkeypatch.setattr(config, "queue_nodes", 3)
    small = values(network(Library(st), lambda t: None))
    for p, q in zip(plain[1:], small[1:]):
        np.testing.assert_allclose(p, q, rtol=1e-6)


def test_deep_chains():
    limit = sys.getrecursionlimit()
    n = 3000
    assert limit < n

    def program(m):
        a = m.make(3, grad=True)
        x = a
        for _ in range(n):
            x = x * 1.0001 + 0.0001
        x.sum().backward()
        b = m.make(3, grad=True)
        y = b * 1
        for _ in range(n):
            y.mul_(1.0001)
        y.sum().backward()
        return [x, a.grad, y, b.grad]

    same(program, rtol=1e-3)


def test_deep_chain_is_freed_without_recursion():
    clear_programs()
    gc.collect()
    before = live_nodes()
    x = st.ones(3, requires_grad=True)
    for _ in range(6000):
        x = (x + 1).view(3)
    del x
    clear_programs()
    gc.collect()
    assert live_nodes() <= before + 10


def test_wide_sums():
    def program(m):
        a = m.make(5, grad=True)
        total = a * 0
        for k in range(300):
            total = total + a[k % 5] * k
        total.sum().backward()
        return [total, a.grad]

    same(program, rtol=1e-4, atol=1e-3)


def test_helper_sees_wrong_gradients():
    with pytest.raises(AssertionError):
        compare(st.ones(2), torch.ones(2) * 2)


@pytest.mark.parametrize("write", [
    lambda m, x, y: x.slice_scatter(y), lambda m, x, y: x[:1].select_scatter(y[0], 0, 0),
    lambda m, x, y: (x * 1).copy_(y), lambda m, x, y: (x * 1).fill_(y.sum()), lambda m, x, y: (x * 1).zero_().copy_(y),
    lambda m, x, y: m.m.fill(x, y.sum()), lambda m, x, y: x**0 + y, lambda m, x, y: m.m.addmm(x, y, y, beta=0),
], ids=range(8))  # fmt: skip
def test_what_is_overwritten_whole_is_used_and_gets_zeros(write):
    def program(m):
        x, y = m.make(3, 3, grad=True), m.make(3, 3, grad=True)
        return list(m.m.autograd.grad(write(m, x, y).sum(), (x, y)))

    same(program)


@pytest.mark.parametrize("compiled", [False, True])
def test_overwritten_by_an_index_write_of_everything(compiled):
    def program(x, y):
        z = x * 1
        z[:] = y
        return st.autograd.grad((z * y).sum(), (x, y))

    x, y = st.ones(3, requires_grad=True), st.full((3,), 2.0, requires_grad=True)
    got = (st.compile(program) if compiled else program)(x, y)
    assert [g.tolist() for g in got] == [[0, 0, 0], [4, 4, 4]]
