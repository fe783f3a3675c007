"""Sequential, lists and dicts of modules and parameters, beside torch's."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

import spiraltorch as st

LIBS = [st, torch]


def both(build: Any) -> tuple[Any, Any]:
    return build(st.nn), build(torch.nn)


def test_sequential() -> None:
    for m in both(lambda nn: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))):
        assert len(m) == 3 and m[-1] is m[2] and [type(x).__name__ for x in m[1:]] == ["ReLU", "Linear"]
        m.append(type(m[1])())
        assert len(m) == 4
        m.insert(1, type(m[1])())
        assert list(m._modules) == ["0", "1", "2", "3", "4"]
        del m[1]
        assert list(m._modules) == ["0", "1", "2", "3"]
        assert type(m.pop(-1)).__name__ == "ReLU" and len(m) == 3
        m[1] = type(m[1])(inplace=True)
        assert m[1].inplace
        del m[1:]
        m.extend([type(m[0])(3, 3)])
        with pytest.raises(IndexError, match="out of range"):
            _ = m[5]
    x = st.ones(4, 2)
    m = st.nn.Sequential(OrderedDict(a=st.nn.Linear(2, 3), b=st.nn.ReLU()))
    assert list(m.state_dict()) == ["a.weight", "a.bias"] and m(x).shape == (4, 3)
    assert repr(m) == repr(torch.nn.Sequential(OrderedDict(a=torch.nn.Linear(2, 3), b=torch.nn.ReLU())))
    assert len(m + m) == 4 and list((m + m)._modules) == ["0", "1", "2", "3"]


def test_module_list() -> None:
    for m in both(lambda nn: nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])):
        linear = type(m[0])
        m += [linear(1, 1)]
        m.insert(0, linear(5, 5))
        assert m[0].in_features == 5 and len(m) == 5 and m[1] in m
        del m[0]
        del m[1:3]
        assert [x.in_features for x in m] == [2, 1] and list(m._modules) == ["0", "1"]
        assert m.pop(0).in_features == 2 and len(m + m) == 2
        with pytest.raises(TypeError):
            m.extend(3)
    a, b = both(lambda nn: nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)] + [nn.ReLU()]))
    assert repr(a) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict())
    a, b = both(lambda nn: nn.ModuleList())
    assert repr(a) == repr(b)
    with pytest.raises(NotImplementedError):
        a(1)


def test_module_dict() -> None:
    for m in both(lambda nn: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()})):
        m["c"] = type(m["b"])()
        m.update([("d", type(m["b"])())])
        m.update({"a": type(m["a"])(3, 3)})
        assert list(m) == ["a", "b", "c", "d"] == list(m.keys()) and "c" in m and len(m) == 4
        assert m["a"].in_features == 3 and type(m.pop("b")).__name__ == "ReLU"
        del m["c"]
        assert [k for k, _ in m.items()] == ["a", "d"] and len(list(m.values())) == 2
        m.clear()
        assert len(m) == 0
        with pytest.raises(TypeError):
            m.update(3)
    a, b = both(lambda nn: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()}))
    assert repr(a) == repr(b) and list(a.state_dict()) == list(b.state_dict())


@pytest.mark.parametrize("lib", LIBS, ids=["spiraltorch", "torch"])
def test_parameter_list(lib: Any) -> None:
    p = lib.nn.ParameterList([lib.nn.Parameter(lib.ones(2)), lib.ones(3), 5])
    assert len(p) == 3 and isinstance(p[1], lib.nn.Parameter) and p[2] == 5 and p[-1] == 5
    p.append(lib.zeros(1))
    p += [lib.zeros(4)]
    p[0] = lib.nn.Parameter(lib.zeros(7))
    assert [x for x in p if isinstance(x, int)] == [5] and p[0].shape == (7,) and len(p[1:3]) == 2
    assert list(p.state_dict()) == ["0", "1", "3", "4"] and len(list(p.parameters())) == 4
    with pytest.raises(IndexError):
        _ = p[9]
    with pytest.raises(TypeError):
        p.extend(3)
    with pytest.raises(RuntimeError, match="should not be called"):
        p(1)


@pytest.mark.parametrize("lib", LIBS, ids=["spiraltorch", "torch"])
def test_parameter_dict(lib: Any) -> None:
    p = lib.nn.ParameterDict({"a": lib.nn.Parameter(lib.ones(2)), "b": lib.ones(3)})
    p["c"] = lib.zeros(1)
    p.update({"a": lib.nn.Parameter(lib.zeros(7))})
    assert set(p.keys()) == {"a", "b", "c"} and "b" in p and len(p) == 3 and p["a"].shape == (7,)
    del p["b"]
    assert list(p.state_dict()) == ["a", "c"] and [k for k, _ in p.items()] == ["a", "c"]
    with pytest.raises(AttributeError):
        _ = p["nothing"]


def test_parameter_reprs() -> None:
    a, b = (lib.nn.ParameterList([lib.nn.Parameter(lib.ones(2, 3)), lib.ones(3), 5]) for lib in LIBS)
    assert repr(a) == repr(b)
    a, b = (lib.nn.ParameterList() for lib in LIBS)
    assert repr(a) == repr(b)
