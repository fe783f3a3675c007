"""Schedules beside torch's: the same rates, exactly, also for several groups, resumed, and chained."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import spiraltorch as st

STEPS = 24
SCHEDULES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 4, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 9}),
    ("LambdaLR", {"lr_lambda": lambda k: 0.95**k}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": STEPS}),
    (
        "OneCycleLR",
        {"max_lr": [0.8, 0.4], "epochs": 4, "steps_per_epoch": 6, "anneal_strategy": "linear", "three_phase": True},
    ),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": STEPS, "cycle_momentum": False, "pct_start": 0.5}),
]


def optimizer(lib: Any, kind: str = "SGD") -> Any:
    ps = [lib.zeros(2, requires_grad=True), lib.zeros(3, requires_grad=True)]
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    return getattr(lib.optim, kind)([{"params": [ps[0]]}, {"params": [ps[1]], "lr": 0.02}], lr=0.5, **extra)


def schedule(lib: Any, name: str, opt: Any, kwargs: dict[str, Any], **more: Any) -> Any:
    return getattr(lib.optim.lr_scheduler, name)(opt, **kwargs, **more)


def trajectory(lib: Any, name: str, kwargs: dict[str, Any], kind: str = "SGD") -> list[Any]:
    opt = optimizer(lib, kind)
    s = schedule(lib, name, opt, kwargs)
    out = []
    for _ in range(STEPS - 1):
        out.append(
            (
                [g["lr"] for g in opt.param_groups],
                s.get_last_lr(),
                [g.get("momentum", g.get("betas")) for g in opt.param_groups],
            )
        )
        opt.step()
        s.step()
    return out


@pytest.mark.parametrize(("name", "kwargs"), SCHEDULES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_rates(name: str, kwargs: dict[str, Any], kind: str) -> None:
    assert trajectory(st, name, kwargs, kind) == trajectory(torch, name, kwargs, kind)


@pytest.mark.parametrize(("name", "kwargs"), SCHEDULES)
def test_resumed_from_state(name: str, kwargs: dict[str, Any]) -> None:
    opt = optimizer(st)
    s = schedule(st, name, opt, kwargs)
    for _ in range(6):
        opt.step()
        s.step()
    state, saved = s.state_dict(), opt.state_dict()
    other = optimizer(st)
    t = schedule(st, name, other, kwargs)
    other.load_state_dict(saved)
    t.load_state_dict(state)
    for _ in range(6):
        for o, x in ((opt, s), (other, t)):
            o.step()
            x.step()
        assert s.get_last_lr() == t.get_last_lr() == [g["lr"] for g in other.param_groups]


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR", "ExponentialLR"])
def test_resumed_at_an_epoch(name: str) -> None:
    kwargs = dict(SCHEDULES[[n for n, _ in SCHEDULES].index(name)][1])
    rates = []
    for lib in (st, torch):
        opt = optimizer(lib)
        with pytest.raises(KeyError, match="initial_lr"):
            schedule(lib, name, opt, kwargs, last_epoch=4)
        for g in opt.param_groups:
            g["initial_lr"] = g["lr"]
        s = schedule(lib, name, opt, kwargs, last_epoch=4)
        opt.step()
        s.step()
        rates.append(s.get_last_lr())
    assert rates[0] == rates[1]


def test_two_schedules_on_one_optimizer() -> None:
    rates = []
    for lib in (st, torch):
        opt = optimizer(lib)
        both = [schedule(lib, "ExponentialLR", opt, {"gamma": 0.9}), schedule(lib, "StepLR", opt, {"step_size": 2})]
        for _ in range(5):
            opt.step()
            for s in both:
                s.step()
        rates.append([g["lr"] for g in opt.param_groups])
    assert rates[0] == rates[1]


def test_sequence() -> None:
    rates = []
    for lib in (st, torch):
        opt = optimizer(lib)
        parts = [
            schedule(lib, "LinearLR", opt, {"start_factor": 0.1, "total_iters": 4}),
            schedule(lib, "CosineAnnealingLR", opt, {"T_max": 6}),
            schedule(lib, "StepLR", opt, {"step_size": 2}),
        ]
        s = lib.optim.lr_scheduler.SequentialLR(opt, parts, [4, 10])
        seen = [s.get_last_lr()]
        for _ in range(15):
            opt.step()
            s.step()
            seen.append(s.get_last_lr())
        rates.append(seen)
    assert rates[0] == rates[1]
    with pytest.raises(ValueError, match="one more than the number of milestone"):
        st.optim.lr_scheduler.SequentialLR(opt_of(parts := [schedule(st, "LinearLR", optimizer(st), {})]), parts, [3])


def opt_of(parts: Any) -> Any:
    return parts[0].optimizer


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_reduce_on_plateau(mode: str, threshold_mode: str) -> None:
    metrics = [
        3.0,
        2.0,
        2.0,
        1.99999,
        2.5,
        2.0,
        2.0,
        2.0,
        1.0,
        1.0,
        1.0,
        5.0,
        5.0,
        5.0,
        5.0,
        5.0,
        5.0,
        float("nan"),
        5.0,
        5.0,
    ]
    rates = []
    for lib in (st, torch):
        opt = optimizer(lib)
        s = lib.optim.lr_scheduler.ReduceLROnPlateau(
            opt,
            mode,
            factor=0.5,
            patience=1,
            threshold=1e-3,
            threshold_mode=threshold_mode,
            cooldown=1,
            min_lr=[0.05, 0.001],
        )
        seen = []
        for v in metrics:
            opt.step()
            s.step(lib.tensor(v))
            seen.append((s.get_last_lr(), s.num_bad_epochs, s.best))
        rates.append(seen)
    assert rates[0] == rates[1]
    with pytest.raises(ValueError, match="Factor"):
        st.optim.lr_scheduler.ReduceLROnPlateau(optimizer(st), factor=1.0)
    with pytest.raises(ValueError, match="unknown"):
        st.optim.lr_scheduler.ReduceLROnPlateau(optimizer(st), "wrong")


def test_lambda_lists_and_callables_with_state() -> None:
    class Decay:
        rate = 0.5

        def __init__(self) -> None:
            self.rate = 0.5

        def __call__(self, k: int) -> float:
            return self.rate**k

    opt = optimizer(st)
    s = st.optim.lr_scheduler.LambdaLR(opt, [Decay(), lambda k: 1.0])
    s.lr_lambdas[0].rate = 0.25
    other = st.optim.lr_scheduler.LambdaLR(optimizer(st), [Decay(), lambda k: 1.0])
    other.load_state_dict(s.state_dict())
    assert other.lr_lambdas[0].rate == 0.25
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas"):
        st.optim.lr_scheduler.LambdaLR(opt, [Decay()])


def test_tensor_rates_stay_tensors() -> None:
    p = st.zeros(2, requires_grad=True)
    rate = st.tensor(0.5)
    opt = st.optim.SGD([p], lr=rate)
    s = st.optim.lr_scheduler.StepLR(opt, 1)
    opt.step()
    s.step()
    assert opt.param_groups[0]["lr"] is rate and rate.item() == pytest.approx(0.05)


def test_order_is_warned_about() -> None:
    opt = optimizer(st)
    s = st.optim.lr_scheduler.StepLR(opt, 2)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        s.step()
    opt = optimizer(st)
    s = st.optim.lr_scheduler.StepLR(opt, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.step()
        s.step()
        s.step()


def test_refusals() -> None:
    opt = optimizer(st)
    with pytest.raises(TypeError, match="is not an Optimizer"):
        st.optim.lr_scheduler.StepLR(3, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="total_steps OR"):
        st.optim.lr_scheduler.OneCycleLR(opt, 0.1)
    with pytest.raises(ValueError, match="Expected positive integer total_steps"):
        st.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=-1)
    with pytest.raises(ValueError, match="Starting multiplicative factor"):
        st.optim.lr_scheduler.LinearLR(opt, start_factor=2.0)
    s = st.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=2)
    opt.step()
    s.step()
    with pytest.raises(ValueError, match="Tried to step"):
        for _ in range(3):
            s.step()
