"""``st.save`` and ``st.load``, pickle and copies: everything comes back, damage is noticed, nothing is executed."""

from __future__ import annotations

import copy
import io
import os
import pickle
import zlib
from collections import OrderedDict

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.errors import SpiralError


def equal(a, b):
    if isinstance(a, st.Tensor):
        bits = a._values().tobytes() == b._values().tobytes()
        return (
            type(a) is type(b)
            and a.dtype is b.dtype
            and a.shape == b.shape
            and a.requires_grad == b.requires_grad
            and bits
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or a != a)


def everything():
    tensors = {d.name: st.tensor(np.arange(6).reshape(2, 3).astype(np.float32).astype(d.np)) for d in dtypes.ALL}
    x = st.arange(24.0).reshape(4, 6)
    return {
        "tensors": tensors,
        "views": [x.t(), x[1:, ::2], x[:1].expand(3, 6), x[2, 3], x[:0], st.tensor([float("nan"), float("inf"), -0.0])],
        "parameter": st.ones(2, requires_grad=True),
        "numbers": (1, 2.5, True, None, "text", float("inf"), -(2**70), "ü"),
        3: {"nested": [[], {}, ()]},
        ("a", 1): "tuple key",
    }


def test_everything_comes_back(tmp_path):
    path = tmp_path / "file.st"
    value = everything()
    st.save(value, path)
    assert equal(value, st.load(path))
    assert os.listdir(tmp_path) == ["file.st"], "no temporary file is left"
    st.save(st.ones(2), str(path))
    assert equal(st.ones(2), st.load(str(path)))


def test_pending_values_are_computed(tmp_path):
    x = st.randn(3, requires_grad=True)
    y = (x * 2).exp().detach()
    st.save({"y": y}, tmp_path / "f")
    assert st.equal(st.load(tmp_path / "f")["y"], y)


def test_loaded_tensors_share_what_the_saved_ones_shared(tmp_path):
    x, y = st.zeros(3), st.zeros(3)
    st.save([x, x[1:], x.view(3, 1).t(), y], tmp_path / "f")
    a, b, c, d = st.load(tmp_path / "f")
    a.add_(1)
    assert b.tolist() == [1, 1] and c.tolist() == [[1, 1, 1]] and a.tolist() == [1, 1, 1]
    assert x.tolist() == y.tolist() == d.tolist() == [0, 0, 0]


def test_more_than_tensors_and_numbers(tmp_path):
    value = [st.float32, st.Size([1, 2]), st.device("cpu"), 1 - 2j, OrderedDict(a=1), {"a": st.bool}]
    st.save(value, tmp_path / "f")
    assert equal(value, st.load(tmp_path / "f", map_location="cpu", weights_only=True))
    assert type(st.load(tmp_path / "f")[4]) is OrderedDict


def saved_by_torch(value, **options):
    import torch

    f = io.BytesIO()
    torch.save(value(torch), f, **options)
    f.seek(0)
    return f


def test_what_torch_saved():
    def value(m):
        x = m.arange(6.0).view(2, 3)
        whole = {"x": x, "row": x[1], "t": x.t(), "p": m.nn.Parameter(m.ones(2)), "u": m.ones(2, dtype=m.uint16), "z": m.ones(1) * 1j}
        return [whole, (m.float16, m.Size([2]), m.device("cpu"), {1}, 2.5, None, "a", 1j), m.ones(2).bfloat16(), m.ones(1).requires_grad_()]

    found = st.load(saved_by_torch(value))
    assert equal(found, value(st)) and found[0]["t"].stride() == (1, 3)
    found[0]["x"].zero_()
    assert found[0]["row"].tolist() == [0, 0, 0]
    state = st.load(saved_by_torch(lambda m: m.nn.Linear(2, 2).state_dict()))
    assert type(state) is OrderedDict and st.nn.Linear(2, 2).load_state_dict(state)


def test_of_what_torch_saved_only_data_is_loaded():
    for value in (lambda m: m.nn.Linear(2, 2), lambda m: print, lambda m: os.system):
        with pytest.raises(SpiralError, match="only tensors"):
            st.load(saved_by_torch(value))
    good = saved_by_torch(lambda m: m.ones(1000)).getvalue()
    for content in (good[:100], good[: len(good) // 2], good[:1500] + b"abc" + good[1503:]):
        with pytest.raises(SpiralError, match="damaged"):
            st.load(io.BytesIO(content))


def test_state_of_a_model(tmp_path):
    make = lambda: st.nn.Sequential(st.nn.Linear(3, 4), st.nn.BatchNorm1d(4), st.nn.Linear(4, 2))  # noqa: E731
    model, other = make(), make()
    model(st.randn(8, 3))
    st.save(model.state_dict(), tmp_path / "f")
    loaded = st.load(tmp_path / "f")
    other.load_state_dict(loaded)
    x = st.randn(5, 3)
    model.eval(), other.eval()
    assert st.equal(model(x), other(x))


def test_what_cannot_be_stored_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    st.save([1], path)
    for bad in (object(), {1, 2}, np.ones(2), lambda: 0, [st.ones(1), b"bytes"]):
        with pytest.raises(TypeError, match="stores tensors"):
            st.save(bad, path)
    with pytest.raises(IndexError):
        st.save([st.ones(2)[st.tensor([5])]], path)
    assert st.load(path) == [1] and os.listdir(tmp_path) == ["f"]
    with pytest.raises(OSError):
        st.save([1], tmp_path / "no folder" / "f")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "f"
    st.save({"x": st.arange(4.0), "n": [1, "a", None]}, path)
    good = path.read_bytes()
    cases = [good[:n] for n in range(0, len(good), 3)] + [good + b"x", b"", b"PK\x03\x04" + good, good[::-1]]
    for at in range(len(good)):
        cases.append(good[:at] + bytes([good[at] ^ 0x5A]) + good[at + 1 :])
    for content in cases:
        path.write_bytes(content)
        with pytest.raises(SpiralError, match="f: "):
            st.load(path)
    with pytest.raises(FileNotFoundError):
        st.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{}", b'{"value": 1, "sizes": []}', b'{"value": {"t": 0}, "sizes": []}', b'{"value": {"v": 1}, "sizes": [-8]}',
        b'{"value": {"t": 0, "dtype": "float32", "shape": [1000000000000], "grad": false}, "sizes": [4]}',
        b'{"value": {"t": 0, "dtype": "object", "shape": [1], "grad": false}, "sizes": [4]}',
        b'{"value": {"d": [[{"l": []}, {"v": 1}]]}, "sizes": [4]}', b'{"value": {"v": 1}, "sizes": "abcd"}', b"[" * 100000,
    ],
)  # fmt: skip
def test_made_up_headers_are_refused(tmp_path, header):
    path = tmp_path / "f"
    content = b"SPIRAL01" + len(header).to_bytes(8, "little") + header + b"\0" * 4
    path.write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
    with pytest.raises(SpiralError, match="damaged"):
        st.load(path)


def test_pickle_and_copies():
    for name, value in everything().items():
        assert equal(value, pickle.loads(pickle.dumps(value))), name
        assert equal(value, copy.deepcopy(value)), name
    x = st.nn.Parameter(st.randn(2))
    y = pickle.loads(pickle.dumps(x))
    assert type(y) is st.nn.Parameter and y.requires_grad and st.equal(x, y)
    shared = OrderedDict(a=x, b=x)
    twin = copy.deepcopy(shared)
    assert twin["a"] is twin["b"] and twin["a"] is not x
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(x * 2)
