"""Guards: what besides its arguments a traced function looked at, and whether it is still so.

Watched are: scalars, functions, modules and tensors in the function's closure and globals (and those
of functions it calls, and of its modules' methods), attributes of plain objects among them and among the
arguments, versions of modules, settings of optimizers, and which gradients were None.  Checking runs
no Python function per guard.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..tensor import Tensor

_SCALARS = (int, float, bool, str, bytes, type(None), complex)
_COMPARED = (*_SCALARS, tuple)  # by value; everything else by identity
_DEPTH = 3


@dataclass
class Guards:
    """values: (dict, key, expected, name).  closures: (cell, expected, name).  modules: (module, version).
    grads: (tensor, whether it had one).  truth: (dict, key, truth) of numbers that are data.
    cells: captured memory, which must be computed.  known: memory the function can reach other than by its
    arguments.  leaves: tensors among that, with requires_grad and memory.  names: every name in the code, so
    that attributes it does not mention (a counter of epochs) are not watched."""

    values: list[tuple[dict[Any, Any], Any, Any, str]] = field(default_factory=list)
    closures: list[tuple[Any, Any, str]] = field(default_factory=list)
    modules: list[tuple[Any, int]] = field(default_factory=list)
    grads: list[tuple[Tensor, bool]] = field(default_factory=list)
    truth: list[tuple[Any, Any, bool]] = field(default_factory=list)
    lists: list[tuple[list[Any], int]] = field(default_factory=list)
    cells: tuple[Any, ...] = ()
    known: set[Any] = field(default_factory=set)
    leaves: list[tuple[Tensor, bool, Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def failed(self) -> str:
        """'' if everything is as it was, else the sentence that says what changed."""
        for d, k, expected, name in self.values:
            now = d.get(k)
            if now is not expected and (
                now.__class__ is not expected.__class__ or not isinstance(now, _COMPARED) or now != expected
            ):
                return f"{name} changed from {_say(expected)} to {_say(now)}"
        for cell, expected, name in self.closures:
            now = cell.cell_contents
            if now is not expected and (
                now.__class__ is not expected.__class__ or not isinstance(now, _COMPARED) or now != expected
            ):
                return f"{name} changed from {_say(expected)} to {_say(now)}"
        for m, version in self.modules:
            if m._version != version:
                return f"{type(m).__name__} was changed (attribute, train/eval, parameter, or loaded state)"
        for t, wanted, cell in self.leaves:
            if t._requires_grad != wanted or t._storage is not cell:
                return f"a tensor of shape {list(t.shape)} got other memory or another requires_grad"
        for t, had in self.grads:
            if (t._grad is not None) != had:
                return f".grad of a tensor of shape {list(t.shape)} was {'a tensor' if had else 'None'} and is not now"
        for d, k, true in self.truth:
            if bool(d[k]) != true:
                return f"{k!r} changed from {'not ' if true else ''}zero to {d[k]!r}"
        for items, length in self.lists:
            if len(items) != length:
                return f"a list the function reads had {length} elements and has {len(items)}"
        for cell in self.cells:
            if cell.error is not None:
                return "a captured tensor could not be computed"
        return ""


def _say(v: Any) -> str:
    return repr(v) if isinstance(v, _COMPARED) else f"one {type(v).__name__}"


def collect(function: Callable[..., Any], args: Any, kwargs: Any, trace: Any) -> Guards:
    """Guards for one trace of ``function``."""
    g = Guards()
    _function(function, g, set(), set(), 0)  # once for the names, which say what of each object is watched
    g = Guards(names=g.names)
    seen: set[int] = set()
    data = {(id(c), k[0] if isinstance(k, tuple) else k) for _, c, k, _ in trace.host}
    _function(function, g, seen, data, 0)
    known, leaves = g.known, g.leaves
    g.known, g.leaves = set(), []  # arguments are no capture
    for a in [*args, *kwargs.values()]:
        _value(a, g, seen, data, 1)
    g.known, g.leaves = known, leaves
    g.grads = list(trace.grads_seen.items())
    return g


def _function(f: Any, g: Guards, seen: set[int], data: set[Any], depth: int) -> None:
    if isinstance(f, types.MethodType):
        _value(f.__self__, g, seen, data, depth)
        f = f.__func__
    f = getattr(f, "__wrapped__", f)
    if not isinstance(f, types.FunctionType) or id(f) in seen or depth > _DEPTH:
        return
    seen.add(id(f))
    code = f.__code__
    g.names |= _mentioned(code)
    for name in _names(code):
        if name in f.__globals__:
            value = f.__globals__[name]
            if _watched(value):
                g.values.append((f.__globals__, name, value, f"global {name}"))
                _value(value, g, seen, data, depth + 1)
    for name, cell in zip(code.co_freevars, f.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:
            continue
        if _watched(value):
            g.closures.append((cell, value, name))
            _value(value, g, seen, data, depth + 1)


def _methods(kind: type) -> list[types.FunctionType]:
    """What users wrote for a class of modules, but for how it is made."""
    found = [f for c in kind.__mro__ for name, f in vars(c).items() if name != "__init__"]
    return [f for f in found if isinstance(f, types.FunctionType) and not _ours(f)]


def _names(code: types.CodeType) -> set[str]:
    """Global names that the code reads (attribute names are not among them)."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            names |= _names(c)
    return names


def _mentioned(code: types.CodeType) -> set[str]:
    """Every name in the code, attributes included."""
    names = set(code.co_names)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            names |= _mentioned(c)
        elif isinstance(c, str):  # getattr(x, "name")
            names.add(c)
    return names


def _watched(value: Any) -> bool:
    if isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)) or hasattr(value, "compilations"):
        return False  # modules and classes are taken as they are; a compiled function guards itself
    return not _ours(value)


def _ours(value: Any) -> bool:
    """Functions of this package do not change under a program."""
    return isinstance(value, types.FunctionType) and (value.__module__ or "").partition(".")[0] == __package__.partition(".")[0]


def _value(v: Any, g: Guards, seen: set[int], data: set[Any], depth: int) -> None:
    if isinstance(v, Tensor):
        g.known.add(v._storage)
        g.leaves.append((v, v._requires_grad, v._storage))
        return
    if isinstance(v, _SCALARS) or id(v) in seen or depth > _DEPTH:
        return
    if isinstance(v, (types.FunctionType, types.MethodType)):
        _function(v, g, seen, data, depth)
        return
    seen.add(id(v))
    if hasattr(v, "named_modules") and hasattr(v, "_version"):
        for m in v.modules():
            g.modules.append((m, m._version))
            for written in _methods(type(m)):
                _function(written, g, seen, data, depth + 1)
            for t in [*m._parameters.values(), *m._buffers.values()]:
                _value(t, g, seen, data, depth)
        return
    if hasattr(v, "param_groups") and hasattr(v, "state"):
        for group in v.param_groups:
            _settings(group, g, data)
            g.lists.append((group["params"], len(group["params"])))
            for t in [*group["params"], *[x for p in group["params"] for x in v.state.get(p, {}).values()]]:
                _value(t, g, seen, data, depth)
        if hasattr(v, "_version"):
            g.modules.append((v, v._version))
        return
    if getattr(v, "_unwatched", False):
        return
    if isinstance(v, dict):
        for k, x in v.items():
            _watch_item(v, k, x, g, seen, data, depth)
        return
    if isinstance(v, (list, tuple)):
        if isinstance(v, list):
            g.lists.append((v, len(v)))
        for x in v:
            _value(x, g, seen, data, depth + 1)
        return
    attributes = getattr(v, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(v, (types.ModuleType, type)):
        for name in sorted(g.names):
            method = getattr(type(v), name, None)
            if isinstance(method, types.FunctionType) and not _ours(method):
                _function(method, g, seen, data, depth + 1)
        for k, x in [(k, x) for k, x in attributes.items() if k in g.names]:
            _watch_item(attributes, k, x, g, seen, data, depth)


def _watch_item(d: dict[Any, Any], k: Any, x: Any, g: Guards, seen: set[int], data: set[Any], depth: int) -> None:
    if isinstance(x, _SCALARS) or isinstance(x, Tensor):
        g.values.append((d, k, x, str(k)))
    if not isinstance(x, _SCALARS):
        _value(x, g, seen, data, depth + 1)


def _settings(group: dict[Any, Any], g: Guards, data: set[Any]) -> None:
    for k, x in group.items():
        if k == "params":
            continue
        if (id(group), k) in data:
            if isinstance(x, (int, float)):
                g.truth.append((group, k, bool(x)))
        elif isinstance(x, (*_SCALARS, tuple)):
            g.values.append((group, k, x, f"the optimizer's {k}"))
