"""Tensors on devices: every test runs on a simulated device, and on a real one where there is one (``-m gpu``).

A simulated device (ST_SIMULATE_CUDA) has host memory, and Triton's interpreter runs its kernels.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.config import config
from spiraltorch.jit import device_program, eager
from spiraltorch.nn import functional as F
from spiraltorch.runtime import devices
from spiraltorch.storage import queue

KINDS = ["simulated", pytest.param("real", marks=pytest.mark.gpu)]


@pytest.fixture(params=KINDS, autouse=True)
def gpu(request):
    """Two simulated devices, or the real ones; the programs that ran on them, by number of launches."""
    queue.flush()
    before = config.simulate_cuda
    config.simulate_cuda = 2 if request.param == "simulated" else 0
    st.manual_seed(0)
    yield request.param
    queue.flush()
    config.simulate_cuda = before


@pytest.fixture
def ran(monkeypatch):
    """Counts the programs that run on devices."""
    runs = []
    original = device_program.DeviceProgram.run

    def run(self, *args, **kwargs):
        runs.append(len(self.instances))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(device_program.DeviceProgram, "run", run)
    return runs


def close(a, b, tolerance=1e-5):
    assert a.dtype is b.dtype and a.shape == b.shape
    np.testing.assert_allclose(np.array(a.tolist()), np.array(b.tolist()), tolerance, tolerance)


# -- where tensors are ---------------------------------------------------------------------------------


def test_where_tensors_are():
    x = st.randn(2, 3)
    c = x.cuda()
    assert c.device == st.device("cuda", 0) and str(c.device) == "cuda:0" and c.is_cuda and c.get_device() == 0
    assert x.device == st.device("cpu") and not x.is_cuda and x.get_device() == -1
    assert c.cuda() is c and c.to("cuda") is c and c.to(0) is c and c.to(st.device("cuda:0")) is c and x.cpu() is x
    assert x.to(c).device is c.device and c.to("cpu", st.float64).dtype is st.float64
    for t in (c + 1, c[0], c.T, c.detach(), c.sum(), c.clone(), c > 0, c.to(st.int32), c.split(1)[0]):
        assert t.device is c.device
    assert (c.cpu().numpy() == x.numpy()).all()


@pytest.mark.parametrize("make", [
    lambda **k: st.zeros(2, 3, **k), lambda **k: st.full((2,), 3.0, **k), lambda **k: st.tensor([[1, 2]], **k),
    lambda **k: st.arange(5, **k), lambda **k: st.linspace(0, 1, 5, **k), lambda **k: st.eye(3, **k),
    lambda **k: st.rand(4, **k), lambda **k: st.randint(9, (4,), **k), lambda **k: st.randperm(6, **k),
    lambda **k: st.as_tensor(np.ones(3), **k), lambda **k: st.tensor(2.5, requires_grad=True, **k),
    lambda **k: st.nn.Linear(2, 3, **k).weight, lambda **k: st.tensor([1 + 2j], **k),
])  # fmt: skip
def test_constructors(make):
    st.manual_seed(3)
    expected = make()
    st.manual_seed(3)
    t = make(device="cuda")
    assert t.device.type == "cuda" and t.dtype is expected.dtype and t.requires_grad == expected.requires_grad
    assert t.tolist() == expected.tolist()


def test_made_like_another():
    c = st.ones(2, 3, dtype=st.float64, device="cuda")
    made = [
        st.zeros_like(c), st.ones_like(c), st.full_like(c, 2), st.empty_like(c), st.rand_like(c), st.randn_like(c),
        c.new_zeros(2), c.new_full((2,), 1.0), c.new_tensor([1.0]), c.bernoulli(),
    ]  # fmt: skip
    assert all(t.device is c.device and t.dtype is st.float64 for t in made)
    assert st.zeros_like(c, device="cpu").device.type == "cpu"
    assert all(f.device is c.device for f in (*c.nonzero(as_tuple=True), c.nonzero(), c[c > 0], st.multinomial(c, 2)))


def test_values_seen_from_the_host():
    c = st.tensor([1.5, -2.0], device="cuda")
    assert repr(c) == "tensor([ 1.5000, -2.0000], device='cuda:0')"
    assert repr(c * 2) == "tensor([ 3., -4.], device='cuda:0')" and c.sum().item() == -0.5 and bool(c[0] > 0)
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()"):
        c.numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(c)
    assert c.numpy(force=True).tolist() == [1.5, -2.0]
    with pytest.raises(TypeError, match="no host memory"):
        np.asarray(c._buffer())


def test_copies_and_pickles_stay_where_they_are():
    p = st.nn.Parameter(st.ones(2, device="cuda"))
    for other in (copy.deepcopy(p), pickle.loads(pickle.dumps(p)), copy.deepcopy(p.detach())):
        assert other.device is p.device and other.tolist() == [1, 1] and other.data_ptr() != p.data_ptr()


def test_cuda_namespace():
    assert st.cuda.is_available() and st.cuda.device_count() >= 1 and st.cuda.current_device() == 0
    c = st.ones(3, device="cuda") + 1
    st.cuda.synchronize()
    assert not c._storage.pending
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        st.zeros(1, device=f"cuda:{st.cuda.device_count()}")
    with pytest.raises(RuntimeError, match="Invalid device string: 'cuda:x'"):
        st.zeros(1, device="cuda:x")


def test_without_a_device(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda: 0)
    monkeypatch.setattr(devices, "_drivers", {})
    assert not st.cuda.is_available()
    with pytest.raises(RuntimeError, match="No CUDA GPUs are available"):
        st.zeros(2).cuda()


# -- what is computed there ----------------------------------------------------------------------------

CASES = {
    "chain": lambda x, w, i: ((x * 2 + 1).tanh() * x.exp()).clamp(-1, 1) - x.sigmoid(),
    "softmax": lambda x, w, i: x.softmax(-1),
    "cross entropy": lambda x, w, i: F.cross_entropy(x, i),
    "layer norm": lambda x, w, i: F.layer_norm(x, (6,), w[0], w[1]),
    "linear": lambda x, w, i: F.relu(F.linear(x, w, w.sum(1))),
    "column sum": lambda x, w, i: (x * x).sum(0),
    "statistics": lambda x, w, i: x.var(1) + x.amax(1) + x.logsumexp(1),
    "embedding": lambda x, w, i: F.embedding(i, w),
    "cat and pad": lambda x, w, i: F.pad(st.cat([x, w]), (1, 2)),
    "view": lambda x, w, i: x.T.reshape(3, 10)[1:, ::3].flip(0),
    "conv": lambda x, w, i: F.conv2d(x.reshape(1, 1, 5, 6), w[:, :4].reshape(-1, 1, 2, 2), stride=1),
    "cumsum": lambda x, w, i: x.cumsum(1),
    "index": lambda x, w, i: x[i % 5, [1]] + x[:, st.tensor([1, 2])].sum(),
    "index put": lambda x, w, i: x.index_add(0, i % 5, x * 2),
    "integers": lambda x, w, i: ((x * 10).to(st.int32) // 3 * 4) % 7,
    "half": lambda x, w, i: (x.bfloat16() * 3 + w[0].half()).float(),
    "float64": lambda x, w, i: (x.double() @ w.double().T).log1p().nan_to_num(),
}  # fmt: skip
SMOOTH = ("chain", "softmax", "cross entropy", "layer norm", "linear", "embedding", "cat and pad", "view", "conv", "cumsum", "index put")


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, ran):
    x, w, i = st.randn(5, 6), st.randn(4, 6), st.tensor([0, 3, 1, 2, 3])
    x.requires_grad_(), w.requires_grad_()
    results = []
    for where in ("cpu", "cuda"):
        a, b = (t.detach().to(where).requires_grad_() for t in (x, w))
        out = CASES[name](a, b, i.to(where))
        found = [out]
        if name in SMOOTH:
            found += [g for g in st.autograd.grad((out * out).sum(), [a, b], allow_unused=True) if g is not None]
        assert all(t.device.type == where for t in found)
        results.append([t.detach().cpu() for t in found])
    for a, b in zip(*results):
        close(a, b)
    assert ran


def test_zero_sizes_and_numbers():
    for where in ("cpu", "cuda"):
        e = st.zeros(0, 3, device=where)
        assert (e + 1).shape == (0, 3) and e.sum().item() == 0 and e.sum(0).tolist() == [0, 0, 0]
        assert (st.tensor(3.0, device=where) * 2).item() == 6 and e.cpu().shape == (0, 3)


@pytest.mark.parametrize("source", [st.float32, st.float64, st.float16, st.bfloat16, st.int8, st.int64, st.uint8, st.bool])
def test_conversions(source):
    x = st.tensor([0.0, 1.0, 2.5, 100.0]).to(source)
    for target in (st.float32, st.bfloat16, st.float16, st.int16, st.int64, st.bool):
        assert x.cuda().to(target).cpu().tolist() == x.to(target).tolist()


# -- transfers -----------------------------------------------------------------------------------------


def test_transfers_of_views():
    x = st.randn(4, 6)
    for view in (lambda t: t.T, lambda t: t[1:, ::2], lambda t: t.diagonal(), lambda t: t[None].expand(2, 4, 6)):
        close(view(x).cuda().cpu(), view(x), 0)
        close(view(x.cuda()).cpu(), view(x), 0)
        assert view(x.cuda()).cpu().is_contiguous()


def test_copy_between_devices():
    c, x = st.zeros(2, 3, device="cuda"), st.randn(2, 3)
    c.copy_(x)
    close(c.cpu(), x, 0)
    x.copy_(c * 2)
    close(x, (c * 2).cpu(), 0)
    c[0] = st.ones(3)
    c[:, 1] = 7
    assert c[0].tolist() == [1, 7, 1] and c[1, 1].item() == 7
    c.data = st.ones(2, 3)
    assert c.device.type == "cpu"


def test_a_transfer_sees_the_value_of_its_time():
    x = st.ones(3)
    array = x.numpy()
    c = x.cuda()
    x.add_(1)
    array[0] = 9
    assert c.tolist() == [1, 1, 1] and x.cuda().tolist() == [9, 2, 2]
    n = st.tensor(1.0)
    doubled = c * n
    n.add_(1)
    assert doubled.tolist() == [1, 1, 1]


def test_gradients_come_back():
    x = st.randn(3, requires_grad=True)
    scale = st.tensor(2.0, requires_grad=True)
    y = x.cuda()
    assert y.grad_fn.name() == "ToCopyBackward"
    (y * scale).sin().sum().backward()
    assert x.grad.device.type == scale.grad.device.type == "cpu"
    close(x.grad, 2 * (2 * x.detach()).cos())
    close(scale.grad, (x.detach() * (2 * x.detach()).cos()).sum())
    (g,) = st.autograd.grad((x.cuda() ** 3).sum(), x, create_graph=True)
    (second,) = st.autograd.grad(g.sum(), x)
    close(second, 6 * x.detach())


# -- refusals ------------------------------------------------------------------------------------------

APART = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"


@pytest.mark.parametrize("mix", [
    lambda c, x: c + x, lambda c, x: x + c, lambda c, x: x @ c, lambda c, x: st.cat([c, x]), lambda c, x: st.where(c > 0, c, x),
    lambda c, x: x.add_(c), lambda c, x: x * c.sum(), lambda c, x: x[0, 0].add_(c[0, 0]), lambda c, x: st.allclose(c, x),
    lambda c, x: F.embedding(st.tensor([0]), c),
])  # fmt: skip
def test_devices_do_not_mix(mix):
    with pytest.raises(RuntimeError, match=APART):
        mix(st.ones(2, 2, device="cuda"), st.ones(2, 2))


def test_numbers_of_the_host_mix():
    c, n = st.ones(2, device="cuda"), st.tensor(3.0)
    for t in (c * n, n - c, st.where(c > 0, c, n), c.add(n * 2)):
        assert t.device is c.device
    assert (c * n).tolist() == [3, 3] and c.add_(n).tolist() == [4, 4] and c[st.tensor(1)].item() == 4


def test_gradients_of_another_device_are_refused():
    c = st.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="expected device cuda:0 but got cpu"):
        (c * 2).backward(st.ones(2))
    with pytest.raises(RuntimeError, match="assigned grad has data located on a different device"):
        c.grad = st.ones(2)


def test_an_optimizer_whose_state_stayed_behind():
    p = st.nn.Parameter(st.ones(2))
    opt = st.optim.Adam([p])
    p.grad = st.ones(2)
    opt.step()
    p.grad = None
    p.data = p.data.cuda()
    p.grad = st.ones(2, device="cuda")
    with pytest.raises(RuntimeError, match=APART):
        opt.step()
        p.tolist()
        opt.state[p]["exp_avg"].tolist()
    queue.take()


# -- writes and checks ---------------------------------------------------------------------------------


def test_writes_are_seen_by_all_views():
    results = []
    for where in ("cpu", "cuda"):
        x = st.arange(12.0, device=where).reshape(3, 4)
        row, column = x[1], x[:, 2]
        row.mul_(10)
        column[:] = -1
        x[x > 40] = 5
        x[0, [0, 1]] = st.tensor([7.0, 8.0], device=where)
        x.T[3].zero_()
        results.append((x.tolist(), row.tolist(), column.tolist()))
    assert results[0] == results[1]


def test_memory_is_reused_in_place():
    x = st.ones(100, device="cuda") * 1
    at = x.data_ptr()
    for _ in range(3):
        x.add_(1)
        assert x[0].item() > 1 and x.data_ptr() == at


def test_an_index_out_of_range():
    table, wrong = st.ones(4, 2, device="cuda"), st.tensor([1, 4], device="cuda")
    good = table * 3
    taken = table[wrong]
    with pytest.raises(IndexError, match=r"index is not in \[0, 4\).*test_devices.py"):
        taken.tolist()
    assert good.sum().item() == 24
    with pytest.raises(RuntimeError, match="ZeroDivisionError.*test_devices.py"):
        (st.arange(3, device="cuda") // st.arange(3, device="cuda")).tolist()
    with pytest.raises(IndexError):
        table.index_add(0, wrong, st.ones(2, 2, device="cuda")).tolist()
    table[0] = table[wrong].sum(0)
    with pytest.raises(IndexError):
        table.tolist()
    assert table.tolist() == [[1, 1]] * 4


def test_a_routine_that_fails():
    with pytest.raises(RuntimeError):
        st.compile(lambda t, i: t.index_add_(0, i, t))(st.ones(3, device="cuda"), st.tensor([0, 5, 1], device="cuda"))


# -- the same random numbers ---------------------------------------------------------------------------


def test_random_numbers_are_the_cpus():
    draws = {
        "rand": lambda d: st.rand(50, device=d), "randint": lambda d: st.randint(100, (50,), device=d),
        "dropout": lambda d: F.dropout(st.ones(50, device=d)), "perm": lambda d: st.randperm(20, device=d),
        "uniform": lambda d: st.empty(50, device=d).uniform_(-1, 1),
    }  # fmt: skip
    for draw in draws.values():
        st.manual_seed(7)
        first = [draw("cpu").tolist() for _ in range(2)]
        st.manual_seed(7)
        assert [draw("cuda").tolist() for _ in range(2)] == first
    st.manual_seed(7)
    normal = st.randn(50)
    st.manual_seed(7)
    close(st.randn(50, device="cuda").cpu(), normal)


# -- training ------------------------------------------------------------------------------------------


class Net(st.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = st.nn.Linear(6, 16, bias=False), st.nn.BatchNorm1d(16), st.nn.Linear(16, 3)
        self.drop = st.nn.Dropout(0.25)

    def forward(self, x):
        return self.last(self.drop(F.gelu(self.norm(self.first(x)))))


@pytest.mark.parametrize("optimizer", [st.optim.Adam, lambda p: st.optim.SGD(p, lr=0.1, momentum=0.9)], ids=["adam", "sgd"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_training(compiled, optimizer, ran):
    st.manual_seed(1)
    start, x, y = Net(), st.randn(8, 6), st.randint(3, (8,))
    ends = []
    for where in ("cpu", "cuda"):
        net = copy.deepcopy(start).to(where)
        opt = optimizer(net.parameters())
        st.manual_seed(2)

        def step(a, b):
            opt.zero_grad()
            loss = F.cross_entropy(net(a), b)
            loss.backward()
            opt.step()
            return loss

        run = st.compile(step, fullgraph=True) if compiled else step
        losses = [run(x.to(where), y.to(where)).item() for _ in range(4)]
        if compiled:
            assert run.compilations <= 2 and run.hits >= 2
        state = net.state_dict()
        assert all(v.device.type == where for v in state.values())
        assert all(t.device.type == where for s in opt.state.values() for t in s.values())
        ends.append((losses, [v.cpu() for v in state.values()]))
    np.testing.assert_allclose(*[e[0] for e in ends], rtol=1e-4)
    for a, b in zip(ends[0][1], ends[1][1]):
        close(a, b, 1e-4)
    assert ran


def test_a_replay_is_one_program(ran):
    w = st.randn(4, 4, device="cuda")

    @st.compile(fullgraph=True)
    def f(x):
        return (x @ w).softmax(-1) * 2

    x = st.ones(2, 4, device="cuda")
    st.cuda.synchronize()
    for _ in range(3):
        ran.clear()
        out = f(x)
        assert out.device is w.device and len(ran) == 1
    assert f.compilations == 1 and f.hits == 2
    f(st.ones(2, 4, device="cuda").to("cpu").cuda())
    assert f.compilations == 1


def test_a_batch_of_the_host_goes_in_with_the_program():
    w = st.randn(4, device="cuda")

    @st.compile(fullgraph=True)
    def f(x, scale):
        return x.cuda() * w * scale

    for k in range(3):
        x = st.full((2, 4), float(k))
        out = f(x, st.tensor(2.0))
        close(out.cpu(), x * w.cpu() * 2)
    assert f.compilations == 1 and f.hits == 2


def test_a_function_compiled_for_each_device():
    f = st.compile(lambda x: x.exp().sum())
    x = st.randn(5)
    for _ in range(2):
        close(f(x), f(x.cuda()).cpu())
    assert f.compilations == 2 and f.hits == 2


def test_a_model_that_moves_is_compiled_again():
    net = st.nn.Linear(3, 2)
    f = st.compile(net)
    x = st.randn(4, 3)
    expected = f(x)
    net.cuda()
    close(f(x.cuda()).cpu(), expected)
    assert net.weight.device.type == "cuda"


def test_looking_at_a_device_breaks_a_trace():
    f = st.compile(lambda x: (x * 2).cpu() + 1)
    with pytest.warns(UserWarning, match="looks at a tensor's value"):
        assert f(st.ones(2, device="cuda")).tolist() == [3, 3]
    g = st.compile(lambda x: x.cpu() * 2)
    with pytest.warns(UserWarning, match="looks at a tensor's value"):
        assert [g(st.full((1,), k, device="cuda")).item() for k in (1.0, 2.0)] == [2, 4]


def test_two_devices_in_one_function_are_not_compiled():
    f = st.compile(lambda x, y: (x * 2, y * 3))
    with pytest.warns(UserWarning, match=r"more than one device \(cpu, cuda:0\)"):
        a, b = f(st.ones(2), st.ones(2, device="cuda"))
    assert a.tolist() == [2, 2] and b.tolist() == [3, 3] and b.device.type == "cuda"


def test_gradients_that_cross_devices_are_not_compiled():
    x, scale = st.randn(3, requires_grad=True), st.tensor(2.0, requires_grad=True)
    f = st.compile(lambda x, scale: (x.cuda() * scale).sum())
    with pytest.warns(UserWarning, match="sends gradients from one device to another"):
        f(x, scale).backward()
    f(x, scale).backward()
    assert x.grad.tolist() == [4, 4, 4] and x.grad.device.type == scale.grad.device.type == "cpu"
    close(scale.grad, 2 * x.detach().sum())
    with st.no_grad():
        assert f(x, scale).device.type == "cuda" and f.compilations == 1, "without gradients it is one program"


def test_programs_of_devices_can_be_read():
    c = st.ones(3, device="cuda")
    assert "1 launch" in str(st.explain(c * 2 + 1))
    shown = st.compile(lambda x: x.softmax(-1)).lower(c)
    assert shown.launches == 1 and "PARAM 0" in shown.graph


def test_a_compiled_check_leaves_the_state_alone():
    state = st.zeros(3, device="cuda")

    @st.compile(fullgraph=True)
    def f(i):
        state.add_(1)
        return state[i]

    assert f(st.tensor([0, 2], device="cuda")).tolist() == [1, 1]
    with pytest.raises(IndexError, match="not in"):
        f(st.tensor([0, 3], device="cuda"))
    assert state.tolist() == [1, 1, 1] and f(st.tensor([1, 1], device="cuda")).tolist() == [2, 2]


def test_compiled_gradients():
    w = st.randn(3, 3)
    grads = []
    for where in ("cpu", "cuda"):
        p = st.nn.Parameter(w.to(where))
        f = st.compile(lambda x, p=p: (x @ p).tanh().sum(1))
        for _ in range(2):
            f(st.ones(2, 3, device=where)).sum().backward()
        grads.append(p.grad.cpu())
    close(*grads)


def test_graphs_of_devices_are_kept_apart(ran):
    x, c = st.ones(3), st.ones(3, device="cuda")
    st.cuda.synchronize()
    ran.clear()
    a, b = x + 1, c + 1
    both = [r() for r in queue.cells if r() is not None]
    assert len(both) == 2
    assert a.tolist() == [2, 2, 2] and not b._storage.pending and len(ran) == 1 and b.tolist() == [2, 2, 2]
    keys = {p.__class__ for p in list(eager.programs.values())[-2:]}
    assert device_program.DeviceProgram in keys


def test_checkpoints_cross_devices(tmp_path):
    net = Net().cuda()
    st.save(net.state_dict(), tmp_path / "net")
    loaded = st.load(tmp_path / "net")
    assert all(v.device.type == "cpu" for v in loaded.values())
    other = Net().cuda()
    other.load_state_dict(loaded)
    close(other.first.weight.detach().cpu(), net.first.weight.detach().cpu(), 0)
    opt = st.optim.Adam(net.parameters())
    net(st.randn(4, 6, device="cuda")).sum().backward()
    opt.step()
    again = st.optim.Adam(other.parameters())
    again.load_state_dict({**opt.state_dict(), "state": {k: {n: t.cpu() for n, t in s.items()} for k, s in opt.state_dict()["state"].items()}})
    assert all(t.device.type == "cuda" for s in again.state.values() for t in s.values())


def test_initializers_write_where_the_parameter_is():
    p = st.empty(4, 5, device="cuda")
    for fill in (st.nn.init.orthogonal_, st.nn.init.kaiming_uniform_, st.nn.init.trunc_normal_, st.nn.init.ones_):
        fill(p)
        assert p.device.type == "cuda" and p.abs().sum().item() > 0


# -- several devices, other libraries ------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["simulated"], indirect=True)
def test_two_devices(gpu):
    a, b = st.ones(2, device="cuda:0"), st.ones(2, device="cuda:1")
    with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cuda:1!"):
        a + b
    moved = (a * 3).to("cuda:1")
    assert moved.device is b.device and (moved + b).tolist() == [4, 4]
    st.cuda.set_device(1)
    try:
        assert st.zeros(1, device="cuda").device is b.device and st.cuda.current_device() == 1
    finally:
        st.cuda.set_device(0)


@pytest.mark.parametrize("gpu", ["simulated"], indirect=True)
def test_simulated_memory_is_not_given_away(gpu):
    c = st.arange(3.0, device="cuda")
    assert c.__dlpack_device__() == (2, 0)
    for consumer in (np.from_dlpack, st.from_dlpack, lambda t: t.__dlpack__(dl_device=(1, 0), copy=False)):
        with pytest.raises((BufferError, RuntimeError, ValueError)):
            consumer(c)
    with pytest.raises(BufferError, match="simulated"):
        c.__dlpack__()
    import torch

    class HostCopy:
        def __dlpack__(self, **options):
            return c.__dlpack__(dl_device=(1, 0))

        def __dlpack_device__(self):
            return (1, 0)

    assert torch.from_dlpack(HostCopy()).tolist() == [0, 1, 2]


class TorchOnTheHost(devices.TorchDriver):
    """The driver for real devices with torch's CPU memory in their place: shows everything but the GPU."""

    simulated = True

    def __init__(self, index):
        super().__init__(index)
        self._name = "cpu"

    def active(self):
        return devices.nullcontext()

    def synchronize(self):
        pass


@pytest.fixture
def through_torch(gpu, monkeypatch):
    """The driver of real devices; on the host where the device is simulated."""
    if gpu == "simulated":
        monkeypatch.setattr(devices, "_drivers", {(True, 0): TorchOnTheHost(0)})
    return devices.driver(st.device("cuda:0"))


def test_memory_of_torch(through_torch):
    x = st.randn(3, 4)
    c = x.cuda()
    assert isinstance(c._buffer().memory, through_torch.torch.Tensor)
    close((c @ c.T).softmax(-1).cpu(), (x @ x.T).softmax(-1))
    close(c.cumsum(0)[st.tensor([2])].cpu(), x.cumsum(0)[2:])
    assert c.clone().data_ptr() % 16 == 0 and st.zeros(0, device="cuda").cpu().shape == (0,)


def test_dlpack_shares_memory(through_torch):
    torch = through_torch.torch
    c = st.arange(6.0, device="cuda").reshape(2, 3)
    capsule = c.T[1:].__dlpack__()
    theirs = torch.utils.dlpack.from_dlpack(capsule)
    assert theirs.tolist() == c.T[1:].tolist() and theirs.stride() == c.T[1:].stride()
    c[0, 1] = 50
    theirs[1, 1] = 70
    through_torch.synchronize()
    assert theirs[0, 0].item() == 50 and c[1, 2].item() == 70 and (c * 2)[1, 2].item() == 140

    given = torch.arange(4.0, device=through_torch._name)
    ours = st.from_dlpack(given if given.is_cuda else _claimed(torch, given))
    assert ours.device == st.device("cuda:0") and ours.data_ptr() == given.data_ptr()
    given += 1
    assert ours.tolist() == [1, 2, 3, 4]
    ours.mul_(2)
    st.cuda.synchronize()
    assert given.tolist() == [2, 4, 6, 8]


def _claimed(torch, t):
    """A tensor of torch's host memory that says to all but torch that it is on device 0."""

    class Claimed(torch.Tensor):
        def __dlpack_device__(self):
            asks = sys._getframe(1).f_code.co_filename
            return (1, 0) if asks.endswith(os.path.join("torch", "utils", "dlpack.py")) else (2, 0)

    return t.as_subclass(Claimed)
