"""Optimizers beside torch's: values and state over several steps, state dicts both ways, compiled steps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

SHAPES = [(4, 3), (5,), ()]
STEPS = 6
SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
]
IDS = [name + "".join([f"-{k}={v}" for k, v in kw.items()]) for name, kw in SETTINGS]


def start(dtype: Any = np.float32) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(0)
    values = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in SHAPES]
    return [st.nn.Parameter(st.tensor(v)) for v in values], [
        torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values
    ]


def gradients(step: int, dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(step + 1)
    return [np.asarray(rng.standard_normal(s)).astype(dtype) for s in SHAPES]


def advance(mine: Any, theirs: Any, ps: Any, qs: Any, steps: range, dtype: Any = np.float32) -> None:
    for k in steps:
        for p, q, g in zip(ps, qs, gradients(k, dtype)):
            p.grad, q.grad = st.tensor(g), torch.from_numpy(g.copy())
        mine.step()
        theirs.step()


def same(a: Any, b: Any, tol: float = 1e-6) -> None:
    np.testing.assert_allclose(
        a.detach()._values().astype(np.float64), b.detach().double().numpy(), rtol=10 * tol, atol=tol
    )


def same_state(mine: Any, theirs: Any, tol: float = 1e-6) -> None:
    a, b = mine.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert list(a["state"]) == list(b["state"])
    for k, s in b["state"].items():
        assert list(a["state"][k]) == list(s)
        for name, value in s.items():
            assert a["state"][k][name].dtype.name == str(value.dtype).removeprefix("torch.")
            same(a["state"][k][name], value, tol)


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps(name: str, settings: dict[str, Any], dtype: Any) -> None:
    ps, qs = start(dtype)
    mine, theirs = getattr(st.optim, name)(ps, **settings), getattr(torch.optim, name)(qs, foreach=False, **settings)
    theirs.param_groups[0]["foreach"] = None
    tol = 1e-6 if dtype is np.float32 else 1e-14
    for k in range(STEPS):
        advance(mine, theirs, ps, qs, range(k, k + 1), dtype)
        for p, q in zip(ps, qs):
            same(p, q, tol)
    same_state(mine, theirs, tol)
    assert all(type(p) is st.nn.Parameter and p.requires_grad and p.grad_fn is None for p in ps)


@pytest.mark.parametrize(("name", "settings"), SETTINGS[2:9:2])
def test_16_bit_parameters(name: str, settings: dict[str, Any]) -> None:
    for d, e in ((st.float16, torch.float16), (st.bfloat16, torch.bfloat16)):
        ps, qs = start()
        ps = [st.nn.Parameter(p.detach().to(d)) for p in ps]
        qs = [torch.nn.Parameter(q.detach().to(e)) for q in qs]
        mine, theirs = getattr(st.optim, name)(ps, **settings), getattr(torch.optim, name)(qs, **settings)
        for k in range(3):
            for p, q, g in zip(ps, qs, gradients(k)):
                p.grad, q.grad = st.tensor(g).to(d), torch.from_numpy(g).to(e)
            mine.step()
            theirs.step()
        for p, q in zip(ps, qs):
            assert p.dtype is d
            same(p, q, 2e-3 if d is st.float16 else 2e-2)
            assert all(v.dtype is (st.float32 if k == "step" else d) for k, v in mine.state[p].items() if k != "fresh")


def test_changed_settings_take_effect() -> None:
    ps, qs = start()
    mine, theirs = st.optim.Adam(ps), torch.optim.Adam(qs)
    advance(mine, theirs, ps, qs, range(2))
    for group in (mine.param_groups[0], theirs.param_groups[0]):
        group.update(lr=0.1, betas=(0.3, 0.6), eps=1e-2, weight_decay=0.3)
    advance(mine, theirs, ps, qs, range(2, 4))
    for p, q in zip(ps, qs):
        same(p, q)


def test_groups_have_settings_of_their_own() -> None:
    ps, qs = start()
    mine = st.optim.SGD([{"params": ps[:1], "lr": 0.5}, {"params": ps[1]}], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD([{"params": qs[:1], "lr": 0.5}, {"params": qs[1]}], lr=0.1, momentum=0.9)
    for opt, all_ in ((mine, ps), (theirs, qs)):
        opt.add_param_group({"params": [all_[2]], "weight_decay": 0.1})
    advance(mine, theirs, ps, qs, range(3))
    for p, q in zip(ps, qs):
        same(p, q)
    same_state(mine, theirs)
    assert repr(mine) == repr(theirs)


def test_tensor_learning_rate() -> None:
    ps, qs = start()
    mine, theirs = st.optim.Adam(ps, lr=st.tensor(0.1)), torch.optim.Adam(qs, lr=torch.tensor(0.1))
    advance(mine, theirs, ps, qs, range(2))
    for p, q in zip(ps, qs):
        same(p, q)
    with pytest.raises(ValueError, match="1-element"):
        st.optim.SGD(ps, lr=st.ones(2))


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
def test_state_dicts_go_both_ways(name: str, settings: dict[str, Any]) -> None:
    ps, qs = start()
    mine, theirs = getattr(st.optim, name)(ps, **settings), getattr(torch.optim, name)(qs, **settings)
    advance(mine, theirs, ps, qs, range(3))
    # torch's state here, and ours there: both go on as if nothing had happened
    ps2 = [st.nn.Parameter(st.tensor(q.detach().numpy())) for q in qs]
    qs2 = [torch.nn.Parameter(torch.from_numpy(np.array(p.detach()._values()))) for p in ps]
    mine2, theirs2 = getattr(st.optim, name)(ps2, lr=9.0), getattr(torch.optim, name)(qs2, lr=9.0)
    mine2.load_state_dict(theirs.state_dict())
    state = mine.state_dict()
    state["state"] = {
        k: {n: torch.from_numpy(np.array(v._values())) for n, v in s.items()} for k, s in state["state"].items()
    }
    theirs2.load_state_dict(state)
    advance(mine, theirs, ps, qs, range(3, 6))
    advance(mine2, theirs2, ps2, qs2, range(3, 6))
    for p, q, p2, q2 in zip(ps, qs, ps2, qs2):
        same(p, q), same(p2, q), same(p, q2)
    assert mine2.param_groups[0]["lr"] == settings["lr"]


def test_loaded_state_is_a_copy_in_the_parameters_type() -> None:
    ps, qs = start()
    mine, theirs = st.optim.Adam(ps), torch.optim.Adam(qs)
    advance(mine, theirs, ps, qs, range(2))
    other = st.optim.Adam([st.nn.Parameter(p.detach().double()) for p in ps])
    other.load_state_dict(mine.state_dict())
    state = other.state_dict()["state"][0]
    assert state["exp_avg"].dtype is st.float64 and state["step"].dtype is st.float32
    before = state["exp_avg"].tolist()
    advance(mine, theirs, ps, qs, range(2, 3))
    assert state["exp_avg"].tolist() == before
    with pytest.raises(ValueError, match="different number of parameter groups"):
        other.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size"):
        st.optim.Adam(ps[:1]).load_state_dict(mine.state_dict())


def test_save_and_load_file(tmp_path: Any) -> None:
    ps, qs = start()
    mine, theirs = st.optim.Adam(ps), torch.optim.Adam(qs)
    advance(mine, theirs, ps, qs, range(2))
    st.save(mine.state_dict(), tmp_path / "opt.st")
    other = st.optim.Adam(ps, lr=1.0)
    other.load_state_dict(st.load(tmp_path / "opt.st"))
    same_state(other, theirs)


def test_copies_and_pickles() -> None:
    ps, qs = start()
    mine, theirs = st.optim.SGD(ps, lr=0.1, momentum=0.9), torch.optim.SGD(qs, lr=0.1, momentum=0.9)
    advance(mine, theirs, ps, qs, range(2))
    for clone in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        own = clone.param_groups[0]["params"]
        assert own[0] is not ps[0] and set(map(id, clone.state)) == set(map(id, own))
        for p, q in zip(own, ps):
            assert (p == q).all()
        same_state(clone, theirs)


def test_zero_grad_closure_and_unused_parameters() -> None:
    ps, _ = start()
    opt = st.optim.SGD(ps, lr=0.1)

    def closure() -> Any:
        opt.zero_grad()
        loss = (ps[0] * 2).sum()
        loss.backward()
        return loss

    before = [p.tolist() for p in ps]
    wanted = (ps[0] * 2).sum().item()
    assert opt.step(closure).item() == wanted
    assert ps[0].tolist() != before[0] and ps[1].tolist() == before[1] and ps[1] not in opt.state
    opt.zero_grad(set_to_none=False)
    assert ps[0].grad.tolist() == [[0.0] * 3] * 4 and ps[1].grad is None
    opt.zero_grad()
    assert ps[0].grad is None


def test_refusals() -> None:
    p = st.nn.Parameter(st.ones(2))
    for build, match in (
        (lambda: st.optim.SGD([p], lr=-1.0), "Invalid learning rate: -1.0"),
        (lambda: st.optim.SGD([p], momentum=-1.0), "Invalid momentum value"),
        (lambda: st.optim.SGD([p], weight_decay=-1.0), "Invalid weight_decay value"),
        (lambda: st.optim.SGD([p], nesterov=True), "Nesterov momentum requires"),
        (lambda: st.optim.Adam([p], betas=(0.9, 1.0)), "Invalid beta parameter at index 1: 1.0"),
        (lambda: st.optim.Adam([p], eps=-1.0), "Invalid epsilon value"),
        (lambda: st.optim.Adam([]), "empty parameter list"),
        (lambda: st.optim.Adam([p * 2]), "non-leaf"),
        (lambda: st.optim.Adam([{"params": [p]}, {"params": [p]}]), "more than one parameter group"),
    ):
        with pytest.raises(ValueError, match=match):
            build()
    for build, match in (
        (lambda: st.optim.SGD(p), "iterable of Tensors"), (lambda: st.optim.SGD([3]), "can only optimize Tensors"),
        (lambda: st.optim.SGD([{"params": {p}}]), "ordered collections"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=match):
            build()


def test_named_parameters() -> None:
    m = st.nn.Linear(2, 1)
    opt = st.optim.SGD(m.named_parameters(), lr=0.1)
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"] and opt.param_groups[0]["params"][1] is m.bias
    opt.load_state_dict(opt.state_dict())
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]


# -- in compiled steps ---------------------------------------------------------------------------------------


def training(seed: int, name: str, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    st.manual_seed(seed)
    m = st.nn.Sequential(st.nn.Linear(6, 8), st.nn.ReLU(), st.nn.BatchNorm1d(8), st.nn.Linear(8, 3))
    opt = getattr(st.optim, name)(m.parameters(), **settings)

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = st.nn.functional.cross_entropy(m(x), y)
        loss.backward()
        opt.step()
        return loss

    return m, opt, step


@pytest.mark.parametrize(
    ("name", "settings"), [SETTINGS[k] for k in (0, 2, 3, 7, 10)], ids=[IDS[k] for k in (0, 2, 3, 7, 10)]
)
def test_compiled_step_is_the_eager_one(name: str, settings: dict[str, Any]) -> None:
    a, opt_a, eager = training(0, name, settings)
    b, opt_b, step = training(0, name, settings)
    compiled = st.compile(step, fullgraph=True)
    x, y = st.randn(7, 6), st.randint(0, 3, (7,))
    for k in range(5):
        if k == 2:  # a schedule's work: data, not a new program
            for group in (opt_a.param_groups[0], opt_b.param_groups[0]):
                group["lr"] *= 0.3
                if "betas" in group:
                    group["betas"] = (0.7, 0.8)
        assert eager(x, y).item() == compiled(x, y).item()
    for p, q in zip(a.parameters(), b.parameters()):
        assert (p == q).all()
    for u, v in zip(opt_a.state_dict()["state"].values(), opt_b.state_dict()["state"].values()):
        assert all((u[n] == v[n]).all() for n in u)
    assert compiled.compilations == 1 and compiled.hits == 4


def test_loaded_state_is_seen_by_a_compiled_step() -> None:
    a, opt_a, eager = training(0, "Adam", {"lr": 0.01})
    b, opt_b, step = training(0, "Adam", {"lr": 0.01})
    compiled = st.compile(step)
    x, y = st.randn(7, 6), st.randint(0, 3, (7,))
    for opt, m, run in ((opt_a, a, eager), (opt_b, b, compiled)):
        run(x, y)
        saved, weights = copy.deepcopy(opt.state_dict()), copy.deepcopy(m.state_dict())
        run(x, y), run(x, y)
        opt.load_state_dict(saved)
        m.load_state_dict(weights)
        run(x, y)
    for p, q in zip(a.parameters(), b.parameters()):
        assert (p == q).all()


def test_an_uncompiled_loop_updates_by_one_program() -> None:
    ps, qs = start()
    mine, theirs = st.optim.Adam(ps), torch.optim.Adam(qs)
    advance(mine, theirs, ps, qs, range(4))
    mine.param_groups[0]["lr"] = 0.1
    ps[1].grad = None
    mine.step()
    mine.step()
    assert mine._program.compilations == 2 and mine._program.hits == 4
    with st.no_grad():
        st.nn.ParameterList(ps).double()
    ps[0].grad = st.ones(4, 3, dtype=st.float64)
    mine.load_state_dict(mine.state_dict())
    before = ps[0].detach().clone()
    mine.step()
    assert ps[0].dtype is st.float64 and (ps[0] != before).all() and mine.state[ps[0]]["exp_avg"].dtype is st.float64


def test_schedule_beside_the_optimizer_recompiles_nothing() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = st.nn.Linear(3, 2)
            self.opt = st.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
            self.schedule = st.optim.lr_scheduler.OneCycleLR(self.opt, max_lr=0.1, total_steps=20)

        @st.compile
        def step(self, x: Any) -> Any:
            self.opt.zero_grad()
            loss = self.model(x).square().mean()
            loss.backward()
            st.nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.opt.step()
            return loss

    t = Trainer()
    losses = []
    for _ in range(5):
        losses.append(t.step(st.ones(4, 3)).item())
        t.schedule.step()
    assert t.step.compilations == 1 and losses[-1] < losses[0]


def test_updates_merge_into_few_launches() -> None:
    _, opt, step = training(0, "AdamW", {"lr": 0.01})
    x, y = st.randn(7, 6), st.randint(0, 3, (7,))

    def without() -> Any:
        opt.zero_grad()
        loss = st.nn.functional.cross_entropy(m(x), y)
        loss.backward()
        return loss

    m = _
    st.compile(step)(x, y)
    launches = st.compile(step).lower(x, y).launches
    assert launches <= st.compile(without).lower().launches + 4
