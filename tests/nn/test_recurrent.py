"""Recurrent networks, cells and packed sequences beside torch's: values, gradients, refusals; and what their kernels promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.utils import rnn as theirs

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import graph
from spiraltorch.jit.program import counters
from spiraltorch.kernels.library.routine import evaluate
from spiraltorch.ops import recurrent
from spiraltorch.tensor import from_node
from tests.nn.pairs import close, ours, pair

mine = st.nn.utils.rnn


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flat(result):
    """All tensors of (output, states)."""
    return [t for r in (result if isinstance(result, tuple) else (result,)) for t in (r if isinstance(r, tuple) else (r,))]


def compare(name, kwargs, x, states, lengths=None):
    """Outputs, states and every gradient of the layer ``name`` over 5 features, with 7 units."""
    layer, other = pair(name, 5, 7, **kwargs)
    assert repr(layer) == repr(other) and list(layer.state_dict()) == list(other.state_dict())
    given = [t.clone().requires_grad_() for t in (x, *states)]
    copies = [ours(t).requires_grad_() for t in given]
    results = []
    for net, lib, tensors in ((other, theirs, given), (layer, mine, copies)):
        first, hx = tensors[0], tuple(tensors[1:])
        if lengths is not None:
            first = lib.pack_padded_sequence(first, lengths, kwargs.get("batch_first", False), enforce_sorted=False)
        out = net(first, None if not hx else hx if name.startswith("LSTM") else hx[0])
        if lengths is not None:
            padded, counts = lib.pad_packed_sequence(out[0], padding_value=-1.0)
            assert counts.tolist() == lengths
            out = (padded, out[1])
        results.append(flat(out))
    wanted, got = results
    close(got, wanted)
    ups = [normal(*t.shape, seed=k) for k, t in enumerate(wanted)]
    torch.autograd.backward(wanted, ups)
    st.autograd.backward(got, [ours(u) for u in ups])
    close([t.grad for t in copies], [t.grad for t in given], 2e-5, 2e-5)
    close([p.grad for p in layer.parameters()], [p.grad for p in other.parameters()], 2e-5, 5e-5)


def initial(name, *shape):
    return [normal(*shape, seed=5 + k) for k in range(2 if name.startswith("LSTM") else 1)]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
class TestBesideTorch:
    def test_layers_and_directions(self, name):
        compare(name, {"num_layers": 2, "bidirectional": True, "batch_first": True}, normal(3, 6, 5), initial(name, 4, 3, 7))

    def test_unbatched_and_without_states(self, name):
        compare(name, {"num_layers": 2, "bias": False}, normal(6, 5), initial(name, 2, 7))
        compare(name, {}, normal(6, 3, 5), [])

    def test_packed(self, name):
        compare(name, {"num_layers": 2, "bidirectional": True}, normal(6, 3, 5), initial(name, 4, 3, 7), [3, 6, 1])
        compare(name, {"batch_first": True}, normal(4, 3, 5), [], [2, 3, 3, 1])

    def test_cell(self, name):
        compare(name + "Cell", {}, normal(3, 5), initial(name, 3, 7))
        compare(name + "Cell", {"bias": False}, normal(5), [])


def test_projection_and_relu():
    compare("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 3}, normal(4, 3, 5), [normal(4, 3, 3), normal(4, 3, 7)])
    compare("LSTM", {"proj_size": 3}, normal(6, 3, 5), [], [3, 6, 1])
    compare("RNN", {"nonlinearity": "relu", "bidirectional": True}, normal(6, 3, 5), [])
    compare("RNNCell", {"nonlinearity": "relu"}, normal(3, 5), [])


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_wide_and_narrow_types(name):
    x = normal(7, 3, 5)
    for dtype, tol in (("float64", 1e-9), ("bfloat16", 6e-2)):
        layer, other = pair(name, 5, 20, bidirectional=True)
        layer, other = layer.to(getattr(st, dtype)), other.to(getattr(torch, dtype))
        wanted = other(x.to(getattr(torch, dtype)))[0]
        got = layer(st.tensor(x.numpy()).to(getattr(st, dtype)))[0]
        assert got.dtype.name == dtype
        np.testing.assert_allclose(got.detach().double().numpy(), wanted.detach().double().numpy(), rtol=tol, atol=tol)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_second_derivatives(name, lengths):
    """Of a penalty on the gradient, which goes through the loop backwards; torch's own layer gives the same."""
    layer, other = pair(name, 4, 3)
    results = []
    for net, lib, pack, x in ((other, torch, theirs, normal(3, 2, 4)), (layer, st, mine, ours(normal(3, 2, 4)))):
        x.requires_grad_()
        out = net(x if lengths is None else pack.pack_padded_sequence(x, lengths))[0]
        out = out if lengths is None else out.data
        (g,) = lib.autograd.grad((out * out).sum(), x, create_graph=True)
        (g * g).sum().backward()
        results.append([x.grad, *[p.grad for p in net.parameters()]])
    close(results[1], results[0], 2e-5, 1e-5)


@pytest.mark.parametrize("kind", recurrent.CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernels_do_what_their_definition_says(kind, dtype):
    """Every element of both flat results, packed and walked from the end, for several tasks of sequences."""
    cell, units, sizes = recurrent.CELLS[kind], 48, [11, 11, 9, 2]
    rows, batch = sum(sizes), sizes[0]
    rng = np.random.default_rng(3)

    def draw(*shape):
        return (rng.standard_normal(shape) * 0.3).astype(dtype)

    states = [draw(batch, units) for _ in range(1 + cell.memory)]
    weight, offsets = draw(cell.gates * units, units), np.cumsum([0, *sizes])
    given = [draw(rows, cell.gates * units), weight, draw(cell.gates * units), *states, offsets, draw(rows, units), *[draw(batch, units) for _ in states]]
    leaves = [graph.param(i, a.shape, dtypes.from_numpy_dtype(a.dtype)) for i, a in enumerate(given)]

    def calls(x, w, b, *more):
        first, ups = more[: len(states) + 1], more[len(states) + 1 :]
        size = sum([a * b for a, b in recurrent.forward_parts(kind, rows, batch, units).values()])
        forward = graph.call(
            "recurrent.forward", (x, recurrent.panels(graph.permute(w, (1, 0))), b, *first), (size,), x.dtype, kind, True
        )
        size = sum([a * b for a, b in recurrent.backward_parts(kind, rows, batch, units).values()])
        inputs = (x, recurrent.panels(w), b, *first, *ups, forward)
        return forward, graph.call("recurrent.backward", inputs, (size,), x.dtype, kind, True)

    got = [from_node(n).numpy() for n in calls(*[st.tensor(a)._read() for a in given])]
    wide = [a.astype(np.float64) if a.dtype == dtype else a for a in given]
    first = evaluate(calls(*leaves)[0], [wide[0], _panels(weight.T), *wide[2 : 4 + len(states)]])
    second = evaluate(calls(*leaves)[1], [wide[0], _panels(weight), *wide[2:], first])
    for a, b in zip(got, (first, second)):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def _panels(matrix):
    width = 32 if matrix.shape[1] % 32 == 0 else 16
    return matrix.reshape(matrix.shape[0], -1, width).transpose(1, 0, 2).astype(np.float64)


def test_bits_do_not_depend_on_threads_or_compilation():
    net = st.nn.LSTM(6, 20, bidirectional=True)
    x, before, seen = st.tensor(normal(5, 19, 6).numpy()), st.get_num_threads(), []

    def step(x):
        for p in net.parameters():
            p.grad = None
        out, (h, c) = net(x)
        ((out * out).mean() + (h * c).sum()).backward()
        return out.detach(), *[p.grad for p in net.parameters()]

    try:
        for threads in (1, 2, 4):
            st.set_num_threads(threads)
            for f in (step, st.compile(step, fullgraph=True)):
                seen.append([t.numpy().tobytes() for t in f(x)])
    finally:
        st.set_num_threads(before)
    assert all(s == seen[0] for s in seen)


def test_new_lengths_compile_nothing():
    net = st.nn.GRU(6, 16)

    def run(steps, batch):
        net.zero_grad()
        out, _ = net(st.ones(steps, batch, 6))
        out.sum().backward()
        net.weight_hh_l0.grad.numpy()

    for _ in range(2):  # the first one also draws the weights
        run(9, 10)
    before = counters["kernels"]
    run(13, 7)
    assert counters["kernels"] == before


def test_dropout_between_layers():
    net = st.nn.LSTM(4, 16, num_layers=2, dropout=1.0)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    x = st.tensor(normal(3, 2, 4).numpy())
    alone = st.lstm(
        st.zeros(3, 2, 16), (st.zeros(1, 2, 16),) * 2, [weights[f"{n}_l1"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")],
        True, 1, 0.0, True, False, False,
    )[0]  # fmt: skip
    np.testing.assert_array_equal(net(x)[0].detach().numpy(), alone.numpy())
    assert not np.array_equal(net.eval()(x)[0].detach().numpy(), alone.numpy())


def test_the_same_refusals():
    bad = [
        (lambda lib: lib.nn.LSTM(4, 3, proj_size=3), ValueError),
        (lambda lib: lib.nn.GRU(4, 3, proj_size=1), ValueError),
        (lambda lib: lib.nn.RNN(4, 3, nonlinearity="gelu"), ValueError),
        (lambda lib: lib.nn.GRU(0, 3), ValueError),
        (lambda lib: lib.nn.GRU(4, 3, dropout=1.5), ValueError),
        (lambda lib: lib.nn.GRU(4.0, 3), TypeError),
        (lambda lib: lib.nn.GRU(4, 3)(lib.ones(2, 2, 2, 4)), ValueError),
        (lambda lib: lib.nn.GRU(4, 3)(lib.ones(2, 2, 5)), RuntimeError),
        (lambda lib: lib.nn.GRU(4, 3)(lib.ones(2, 2, 4, dtype=lib.float64)), ValueError),
        (lambda lib: lib.nn.GRU(4, 3)(lib.ones(2, 2, 4), lib.ones(1, 3, 3)), RuntimeError),
        (lambda lib: lib.nn.LSTM(4, 3)(lib.ones(2, 4), (lib.ones(1, 1, 3),) * 2), RuntimeError),
        (lambda lib: lib.nn.GRU(4, 3)(lib.ones(0, 2, 4)), RuntimeError),
        (lambda lib: lib.nn.LSTMCell(4, 3)(lib.ones(2, 5)), RuntimeError),
        (lambda lib: lib.nn.GRUCell(4, 3)(lib.ones(2, 4), lib.ones(3, 3)), RuntimeError),
        (lambda lib: lib.nn.GRUCell(4, 3)(lib.ones(2, 2, 4)), ValueError),
        (lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.ones(3, 2), [1, 2]), RuntimeError),
        (lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.ones(3, 2), [1]), RuntimeError),
        (lambda lib: lib.nn.utils.rnn.pack_padded_sequence(lib.ones(3, 2), [1, 0]), RuntimeError),
        (lambda lib: lib.gru(lib.ones(2, 2, 4), lib.ones(1, 2, 3), [], True, 1, 0.0, False, False, False), RuntimeError),
    ]  # fmt: skip
    for call, error in bad:
        for lib in (torch, st):
            with pytest.raises(error):
                call(lib)
    with pytest.raises(RuntimeError, match="more than the input"):  # torch reads past the memory
        mine.pack_padded_sequence(st.ones(3, 2), [4, 1])
    with pytest.warns(UserWarning, match="dropout"):
        st.nn.LSTM(4, 3, dropout=0.5)


def test_first_weights_are_drawn_as_torch_draws():
    w = st.nn.LSTM(50, 100).weight_ih_l0.detach().numpy()
    assert abs(w).max() <= 0.1 and abs(w).max() > 0.099 and abs(w.std() - 0.1 / 3**0.5) < 1e-3


def test_sequences_of_different_lengths():
    sequences = [normal(n, 2, seed=n) for n in (2, 5, 3)]
    copies = [ours(s) for s in sequences]
    for kwargs in ({}, {"batch_first": True, "padding_value": -2.0}, {"padding_side": "left"}):
        close(mine.pad_sequence(copies, **kwargs), theirs.pad_sequence(sequences, **kwargs))
    a, b = mine.pack_sequence(copies, enforce_sorted=False), theirs.pack_sequence(sequences, enforce_sorted=False)
    close(list(a), list(b))
    close(mine.pad_packed_sequence(a, True, 0.5, 7), theirs.pad_packed_sequence(b, True, 0.5, 7))
    close(mine.unpack_sequence(a), theirs.unpack_sequence(b))
    assert a.double().data.dtype is st.float64 and not a.is_cuda and a.to(st.float32) is a
    with pytest.raises(ValueError, match="total_length"):
        mine.pad_packed_sequence(a, total_length=2)
    x = ours(normal(4, 2, 3)).requires_grad_()
    packed = mine.pack_padded_sequence(x, st.tensor([4, 1]))
    packed.data.sum().backward()
    assert x.grad.numpy()[:, :, 0].tolist() == [[1, 1], [1, 0], [1, 0], [1, 0]]
