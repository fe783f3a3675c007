"""What happens on the tape, case by case: values, types, shapes, flags and refusals are torch's.

A case is a few statements over ``m`` (the library), ``A`` (its autograd), ``F`` (its nn.functional) and ``t(*shape)``, which makes
a leaf of the same numbers on both sides.  ``r(...)`` records results, ``e(function)`` what a call gives or raises.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

KINDS = (NotImplementedError, IndexError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError)


class Run:
    """One library runs one case; ``seen`` is what it recorded."""

    def __init__(self, library: Any, case: str) -> None:
        self.m, self.seen, self.messages = library, [], []
        names = {"m": library, "A": library.autograd, "F": library.nn.functional, "t": self.t, "r": self.r, "e": self.e}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(case, names)
        finally:
            library.set_grad_enabled(True)

    def t(self, *shape: int, g: bool = True, dt: str = "float32", seed: int = 0) -> Any:
        numbers = np.random.default_rng(seed + sum(shape)).uniform(0.2, 1.5, shape)
        x = self.m.tensor(numbers.tolist(), dtype=getattr(self.m, dt))
        return x.requires_grad_() if g else x

    def r(self, *values: Any) -> None:
        self.seen += [self.plain(v) for v in values]

    def e(self, function: Any) -> None:
        try:
            found = function()
        except Exception as e:
            self.seen.append(next((k.__name__ for k in KINDS if isinstance(e, k)), type(e).__name__))
            self.messages.append(str(e))
        else:
            self.r(["fine", found])

    def plain(self, x: Any) -> Any:
        if isinstance(x, (torch.Tensor, st.Tensor)):
            flags = x.requires_grad, x.is_leaf, x.grad_fn is None
            return np.array(x.detach().tolist()), str(x.dtype).rpartition(".")[2], tuple(x.shape), *flags
        if isinstance(x, (list, tuple)):
            return [self.plain(v) for v in x]
        return x if isinstance(x, (bool, int, float, str, type(None))) else type(x).__name__


def agree(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all([agree(a, b) for a, b in zip(ours, theirs)])
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return ours.shape == theirs.shape and np.allclose(ours, theirs, 1e-4, 1e-5, equal_nan=True)
    return type(ours) is type(theirs) and bool(ours == theirs)


CASES = {
    "data has a version of its own": """
        p = t(3); y = (p * p).sum(); p.data.mul_(2); y.backward(); r(p.grad, p._version)
        d = p.data; d.add_(1); v = d[:2]; v.mul_(2); d.detach().add_(1); r(d._version, v._version, p._version, p)
        x = t(3); y = x.exp(); y.data.mul_(2); y.sum().backward(); r(x.grad)
        x = m.zeros(4); d = x.data; x.add_(1); r(x._version, d._version)""",
    "writes that are seen, and not": """
        p = t(3); y = (p * p).sum(); p.data.mul_(2); y.backward(retain_graph=True)
        with m.no_grad(): p.mul_(2)
        e(y.backward); r(p._version)
        y = (p * p).sum(); p.data.mul_(2); p.detach().mul_(2); e(y.backward); r(p._version)""",
    "steps of an optimizer by data": """
        p = t(3)
        for _ in range(3):
            (p * p).sum().backward(); p.data -= 0.1 * p.grad; p.grad = None
        r(p, p._version)""",
    "what is written to data has no history elsewhere": """
        p, w = t(3), t(3, seed=1)
        p.data.copy_(w); r(p); p.data[0] = w[1]; r(p); (p * p).sum().backward(); r(p.grad, w.grad)
        d = p.data; d.copy_(w); r(p, d); (d * d).sum().backward(); r(w.grad)""",
    "nor what is written to a detached tensor": """
        p, w = t(3, g=False), t(3, seed=1)
        d = p.detach(); d.mul_(w); d.mul_(2); d[0] = w[1]; r(d); (d * d).sum().backward(); r(w.grad)
        d.detach_(); d.zero_(); r(d, p)""",
    "refused arguments of backward": """
        x, z = t(3), t(3, g=False); y = x + x; s = y.sum()
        e(lambda: y.backward([m.ones(3)])); e(lambda: s.backward(1.0)); e(lambda: s.backward(inputs=[])); e(lambda: s.backward(inputs=[z]))
        e(lambda: A.backward([y, y], [m.ones(3)])); e(lambda: A.backward(1.0)); e(lambda: A.backward([None])); e(lambda: A.backward([]))
        e(lambda: A.grad("a", x)); e(lambda: A.grad(s, "a")); e(lambda: A.grad(s, [1])); e(lambda: A.grad([1.0], x)); e(lambda: A.grad(s, []))
        e(lambda: A.grad(s, x, 1.0)); e(lambda: A.grad(s, x, [1.0])); e(lambda: A.grad([y, y], x, [m.ones(3)]))
        e(lambda: A.grad(s, [x, t(2)], materialize_grads=True, allow_unused=False)); e(lambda: A.grad(s, x, only_inputs=True))
        (x * 2).backward(m.ones(3, dtype=m.int64)); r(x.grad)""",
    "refused gradients and flags": """
        x = t(3); y = x * 2
        e(lambda: setattr(x, 'grad', m.ones(3, dtype=m.float64))); e(lambda: setattr(x, 'grad', x)); e(lambda: setattr(x, 'grad', 1.0))
        e(lambda: setattr(y, 'requires_grad', True)); e(lambda: setattr(m.ones(3), 'requires_grad', 1))
        e(lambda: x[0].detach_()); e(lambda: y.view(3).detach_()); e(lambda: y.detach_()); e(lambda: m.set_grad_enabled(1))""",
    "batched gradients": """
        x, z = t(3), t(3, seed=2); y = x * z * x
        r(A.grad([y, x * 2], [x, z], [m.eye(3), m.ones(3, 3)], is_grads_batched=True, retain_graph=True))
        r(A.grad(y, x, m.eye(3), is_grads_batched=True, create_graph=True)); e(lambda: A.grad(y, x, m.ones(0, 3), is_grads_batched=True))
        e(lambda: A.grad(y, x, m.ones(3), is_grads_batched=True)); e(lambda: A.grad(y, x, m.ones(2, 2), is_grads_batched=True))
        e(lambda: A.grad(y.sum(), x, is_grads_batched=True))""",
    "zeros in place of unused gradients are on the tape": """
        x, z = t(3), t(3); r(A.grad((x * x).sum(), [x, z], materialize_grads=True, create_graph=True))""",
    "gradients that are kept": """
        x = t(3); y = x * 2; y.retain_grad(); s = (y * y).sum(); r(A.grad(s, x, retain_graph=True), y.grad); r(A.grad(s, y), y.grad)
        x = t(3); y = x * 2; y.retain_grad(); (y * y).sum().backward(inputs=[x]); r(y.grad, x.grad)
        x = t(3); y = x * 2; (y * y).sum().backward(inputs=[y, x]); r(y.grad, y.retains_grad, x.grad)
        x = t(3); y = x * 2; y.retain_grad(); y.mul_(3); (y * y).sum().backward(); r(y.grad, x.grad, y.retains_grad)
        x = t(3); y = x * 2; y.register_hook(lambda g: g * 10); y.retain_grad(); y.register_hook(lambda g: g + 1)
        (y * y).sum().backward(); r(x.grad)""",
    "hooks that return what does not fit": """
        for wrong in (m.ones(2), m.ones(3, dtype=m.float64), 1.0, (m.ones(3),)):
            x = t(3); x.register_hook(lambda g: wrong); e(lambda: (x * x).sum().backward()); r(x.grad)
            x = t(3); y = x * x; y.register_hook(lambda g: wrong); e(lambda: y.sum().backward()); r(x.grad)
        x = t(3); x.register_post_accumulate_grad_hook(lambda p: 3); e(lambda: (x * x).sum().backward())""",
    "hooks and what grad returns": """
        x = t(3); y = x * x; y.register_hook(lambda g: g * 3); r(A.grad((y * 2).sum(), [y, x], retain_graph=True))
        r(A.grad((y * 2).sum(), [y]))""",
    "hooks of steps": """
        x = t(3); y = x.exp(); seen = []
        h = y.grad_fn.register_hook(lambda gi, go: seen.append((len(gi), gi[0].clone(), go[0].clone())))
        (y * 2).sum().backward(retain_graph=True); h.remove(); (y * 2).sum().backward(); r(seen, x.grad)
        x = t(3); y = x.exp(); y.grad_fn.register_prehook(lambda go: (go[0] * 5,)); y.grad_fn.register_hook(lambda gi, go: (gi[0] + 1,))
        y.sum().backward(); r(x.grad)
        x = t(3); end = x.expand_as(x).grad_fn.next_functions[0][0]; seen = []
        end.register_hook(lambda *a: seen.append("post")); end.register_prehook(lambda g: seen.append("pre"))
        y = x * x; y.grad_fn.metadata["a"] = 1; y.sum().backward(); r(seen, x.grad, y.grad_fn.metadata["a"])
        r(y.grad_fn.next_functions[0][0] is end, isinstance(end, A.graph.Node), isinstance(y.grad_fn, A.graph.Node))""",
    "edges of the graph": """
        x = t(3); y = x * x; edge = A.graph.get_gradient_edge(y); r(edge.output_nr, edge.node is y.grad_fn)
        r(A.grad((y * 2).sum(), edge, retain_graph=True)); r(A.grad([edge], [x], [m.ones(3)]))
        edge = A.graph.get_gradient_edge(x); r(edge.node.name(), edge.output_nr); e(lambda: A.graph.get_gradient_edge(m.ones(3)))
        r(A.grad((x * 2).sum(), edge), x.max(0)[0].output_nr, x[1:]._is_view(), x._is_view())""",
    "saved tensors by hooks": """
        x = t(3); seen = []
        with A.graph.saved_tensors_hooks(lambda v: seen.append("pack") or v, lambda v: seen.append("unpack") or v): y = (x * x).sum()
        y.backward(); r(x.grad, sorted(seen))
        x = t(3)
        with A.graph.saved_tensors_hooks(lambda v: v.detach().numpy(), lambda v: m.from_numpy(v) * 2): y = x.exp().sum()
        y.backward(); r(x.grad)
        x = t(3)
        with A.graph.save_on_cpu(): y = (x * x).exp().sum()
        g, = A.grad(y, x, create_graph=True); g.sum().backward(); r(g, x.grad)
        x = t(3)
        with A.graph.allow_mutation_on_saved_tensors(): a = x.clone(); b = a * a; a.sin_(); b.sum().backward()
        r(x.grad)
        def nested():
            with A.graph.disable_saved_tensors_hooks("no"), A.graph.saved_tensors_hooks(lambda v: v, lambda v: v): pass
        e(nested)""",
    "saved tensors of functions by hooks": """
        class Square(A.Function):
            @staticmethod
            def forward(ctx, x): y = x * x; ctx.save_for_backward(x, y); return y
            @staticmethod
            def backward(ctx, g): x, y = ctx.saved_tensors; return g * 2 * x + 0 * y
        x = t(3)
        with A.graph.saved_tensors_hooks(lambda v: v.detach() * 2, lambda v: v): y = Square.apply(x).sum()
        y.backward(); r(x.grad)""",
    "hooks of several tensors": """
        x, z, u = t(3), t(3), t(3); seen = []
        h = A.graph.register_multi_grad_hook((x, z, u), lambda gs: seen.append([g if g is None else g.clone() for g in gs]))
        (x * z).sum().backward(); (x * u).sum().backward(inputs=[x]); h.remove(); (x * z).sum().backward(); r(seen)
        seen = []; A.graph.register_multi_grad_hook((x, z), lambda g: seen.append(1), mode="any"); (x * z).sum().backward(); r(seen)""",
    "generators and modes": """
        seen = []
        @m.no_grad()
        def steps():
            try:
                while True:
                    try: yield m.is_grad_enabled()
                    except KeyError: seen.append(m.is_grad_enabled()); yield "caught"
            finally: seen.append(m.is_grad_enabled())
        it = steps(); r(next(it), it.throw(KeyError("a")), m.is_grad_enabled()); it.close(); r(seen, m.is_grad_enabled(), list(steps.__name__))""",
    "what forward leaves is on grad_fn": """
        class Times(A.Function):
            @staticmethod
            def forward(ctx, x, k=2): ctx.k = k; ctx.save_for_backward(x); return x * k, 3, None
            @staticmethod
            def backward(ctx, *gs): seen.append((len(gs), gs[1:])); return gs[0] * ctx.k, None
        seen = []; x = t(3); y, n, _ = Times.apply(x, 3); r(y.grad_fn.k, y.grad_fn.saved_tensors, len(y.grad_fn.next_functions), n)
        y.sum().backward(); r(x.grad, seen); r(Times.apply(x, k=5)[0])""",
    "functions that are refused": """
        class Fn(A.Function):
            @staticmethod
            def forward(ctx, x, what):
                if what == "saved": ctx.save_for_backward(x, 3)
                if what == "dirty": x.mul_(2); ctx.mark_dirty(x)
                if what == "list": return [x * 2]
                return x * 2
            @staticmethod
            def backward(ctx, g): return 1.0, None
        for what in ("saved", "dirty", "list", "fine"): e(lambda: Fn.apply(t(3) * 1, what))
        e(lambda: Fn.apply(t(3), "number").sum().backward()); e(lambda: Fn()(t(3)))
        class Vjp(A.Function):
            @staticmethod
            def forward(ctx, x): return x * 2
            @staticmethod
            def vjp(ctx, g): return g * 2
        x = t(3); Vjp.apply(x).sum().backward(); r(x.grad)
        class Both(Vjp):
            @staticmethod
            def backward(ctx, g): return g * 2
        e(lambda: Both.apply(x).sum().backward())""",
    "functions that write to views, and views of functions": """
        class Twice(A.Function):
            @staticmethod
            def forward(ctx, x): x.mul_(2); ctx.mark_dirty(x); return x
            @staticmethod
            def backward(ctx, g): return g * 2
        x = t(4); y = x * 1; v = y[:2]; Twice.apply(v); r(y, v); (y * y).sum().backward(); r(x.grad)
        class Flat(A.Function):
            @staticmethod
            def forward(ctx, x): return x.view(-1)
            @staticmethod
            def backward(ctx, g): return g.view(2, 2)
        e(lambda: Flat.apply(t(2, 2) * 1).add_(1))""",
    "data that can't be": """
        p = t(3); e(lambda: p.set_(m.ones(3))); e(lambda: setattr(p, 'data', 3.0)); e(lambda: setattr(p, 'data', m.ones(3, dtype=m.int64)))
        p.data = m.ones(5); r(p); (p * 2).sum().backward(); r(p.grad)""",
}


CASES |= {
    "names of steps": """
        x, w, b = t(3, 3), t(3, 3, seed=3), t(3)
        for y in (x @ w, x @ b, b @ b, x[None] @ w, F.linear(x, w), F.linear(x, w, b), F.linear(x[None], w, b), x / w, x / 2, x**2, x**w,
                  x.sum(), x.sum(0), x.mean(), x.mean(0), x.max(), x.max(0)[0], x[0], x[:, 0], x[1:], x[None], x[m.tensor([0])], x.reshape(9),
                  x.flatten(), x.view(9), x.T, x.swapaxes(0, 1), x.movedim(0, 1), x.narrow(0, 0, 1), x.expand(2, 3, 3), x.double(), x.norm(),
                  x.clamp(0, 1), x.relu(), x.softmax(0), F.layer_norm(x, (3,)), F.cross_entropy(x, m.tensor([0, 1, 2])), x.chunk(3)[0],
                  m.linalg.det(x), x.unbind(0)[0], F.conv1d(x[None], t(1, 3, 2)), x.exp(), m.cat([x, x]), x.squeeze(), x % w, x.clone()):
            r(y.grad_fn.name(), repr(y).rpartition("grad_fn")[2])""",
    "views that come together": """
        x = t(4, 3); y = x * 1
        for change in (lambda: y.chunk(2)[0].add_(1), lambda: y.chunk(2)[0][0].add_(1), lambda: y.split(2)[0].view(-1).mul_(2),
                       lambda: y.split([1, 3])[1].t().zero_(), lambda: y.unbind(0)[0][1:].add_(1), lambda: x.chunk(2)[0][0].add_(1),
                       lambda: y.tensor_split(2)[0].add_(1), lambda: [row.mul_(2) for row in y]): e(change)
        z, w = t(4, 3, g=False), t(1); r(z.chunk(2)[0][0].add_(1))
        e(lambda: z.chunk(2)[0].add_(w)); e(lambda: z.chunk(2)[0][0].add_(w)); r(z)""",
    "views that come together and a base that changes": """
        x = t(2, 3); y = x * 1; a, b = y.unbind(0); c = a * 2; y.add_(1); e(lambda: a.sum().backward()); c.sum().backward(); r(x.grad)
        z, w = t(4, 3, g=False), t(1); a, b = z.chunk(2); z.mul_(w); e(lambda: a.sum().backward()); r(w.grad)""",
    "what is drawn has slope 0": """
        x = t(3); m.normal(x, x).sum().backward(); r(x.grad); y = t(3)
        (m.bernoulli(y / 2) * 0 + m.poisson(y) * 0 + m.normal(y, 1.0) * 0).sum().backward(); r(y.grad)""",
    "inference mode": """
        with m.inference_mode():
            with m.inference_mode(False): r(m.is_grad_enabled(), m.is_inference_mode_enabled())
            r(m.is_grad_enabled(), m.is_inference_mode_enabled())
        r(m.inference_mode(lambda: m.is_inference_mode_enabled())(), m.inference_mode()(lambda: m.is_inference_mode_enabled())())
        r(m.is_inference_mode_enabled(), isinstance(m.ones(1), A.Variable))""",
    "arguments of functional and gradcheck": """
        J, x = A.functional.jacobian, t(3, g=False); e(lambda: J(lambda x, y: x * y, [x, x])); e(lambda: J(lambda x: [x * 2, x], x))
        e(lambda: J(lambda x: x * x, x, strategy="forward-mode")); e(lambda: J(lambda x: x * x, x, vectorize=True, strict=True))
        r(J(lambda x: x * x, x, vectorize=True, strategy="forward-mode"))
        x = t(3, dt="float64"); r(A.gradcheck(lambda x: x * x, (x,), fast_mode=True, check_undefined_grad=False, masked=False))
        r(A.gradgradcheck(lambda x: x**3, (x,), gen_non_contig_grad_outputs=True, fast_mode=True))
        e(lambda: A.gradcheck(lambda x: x * x, (x,), check_forward_ad=False, check_backward_ad=False))""",
    "copies of tensors with hooks": """
        import copy
        x = t(3); end = (x * 2).grad_fn.next_functions[0][0]; end.register_hook(lambda *a: None); x.register_hook(lambda g: g * 2)
        y = copy.deepcopy(x); (y * y).sum().backward(); r(y.grad, x.grad)""",
    "checkpoints": """
        cp = m.utils.checkpoint.checkpoint
        lin = m.nn.Linear(3, 3)
        with m.no_grad(): lin.weight.fill_(0.3); lin.bias.fill_(0.1)
        for again in (True, False):
            x = t(2, 3); y = cp(lambda x: lin(x).tanh().exp(), x, use_reentrant=again); y.sum().backward(); r(y, x.grad, lin.weight.grad)
        x = t(3); y = cp(lambda x: cp(lambda z: z.exp().sin(), x.cos(), use_reentrant=False) * x, x, use_reentrant=False)
        g, = A.grad(y.sum(), x, create_graph=True); g.sum().backward(); r(g, x.grad)
        x = t(3); y = cp(lambda x: x.exp().sin(), x, use_reentrant=False).sum()
        y.backward(retain_graph=True); y.backward(); r(x.grad); e(y.backward)
        e(lambda: cp(lambda x, k=1: x, x, use_reentrant=True, k=3))
        with m.no_grad(): r(cp(lambda x: x.exp(), x, use_reentrant=False))""",
    "checkpoints with random numbers": """
        for again in (True, False):
            x = t(100); y = m.utils.checkpoint.checkpoint(lambda x: F.dropout(x * x, 0.5), x, use_reentrant=again); y.sum().backward()
            r(((x.grad != 0) == (y != 0)).all().item())""",
    "checkpoints in a row": """
        seq = m.nn.Sequential(m.nn.Sigmoid(), m.nn.Tanh(), m.nn.Softplus(), m.nn.ReLU()); x = t(3)
        for n, again in ((2, False), (3, True)):
            y = m.utils.checkpoint.checkpoint_sequential(seq, n, x, use_reentrant=again); y.sum().backward(); r(y, x.grad)""",
    "checkpoints that do something else": """
        x = t(3); runs = []
        def other(x): runs.append(1); return x.exp().sin() if len(runs) == 1 else x * 1
        e(lambda: m.utils.checkpoint.checkpoint(other, x, use_reentrant=False).sum().backward())""",
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = "\n".join([line[8:] for line in CASES[name].strip("\n").splitlines()])
    theirs, ours = Run(torch, case), Run(st, case)
    for k, (a, b) in enumerate(zip(ours.seen, theirs.seen)):
        assert agree(a, b), f"{k}: {a} instead of {b}; {ours.messages} and {theirs.messages}"
    assert len(ours.seen) == len(theirs.seen)


def test_writes_through_data_are_remembered_in_bounded_memory():
    """A loop that writes both ways, as one does that clamps after each step of an optimizer, keeps no list of all it did."""
    from spiraltorch.storage import _unseen

    p = st.ones(3)
    for _ in range(1000):
        p.add_(1)
        p.data.mul_(1)
    assert p._version == 1000
    assert len(_unseen[p._storage].runs) <= 256
    w = st.ones(3, requires_grad=True)
    y = (w * p).sum()
    p.data.mul_(2)
    y.backward()
    z = (w * p).sum()
    p.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
