"""State dicts: a module's tensors by dotted name, out and in.

>>> import spiraltorch as st
>>> a, b = st.nn.Linear(2, 3), st.nn.Linear(2, 3)
>>> b.load_state_dict(a.state_dict())
<All keys matched successfully>
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ...autograd import no_grad
from ...errors import SpiralError
from ...tensor import Tensor
from ...utils.foreign import as_ours
from ..parameter import Parameter

if TYPE_CHECKING:
    from .module import Module

EXTRA = "_extra_state"


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What ``load_state_dict`` did not find in the dict, and what it found too much."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"

    __str__ = __repr__


def saved_members(module: Module) -> Iterator[tuple[str, Tensor | None]]:
    """The module's own parameters and persistent buffers."""
    yield from module._parameters.items()
    for name, b in module._buffers.items():
        if name not in module._non_persistent_buffers_set:
            yield name, b


def save_members(module: Module, destination: Any, prefix: str, keep_vars: bool) -> None:
    for name, t in saved_members(module):
        if t is not None:
            destination[prefix + name] = t if keep_vars else t.detach()
    if hasattr(module, "get_extra_state"):
        destination[prefix + EXTRA] = module.get_extra_state()


def state_dict(module: Module, destination: Any, prefix: str, keep_vars: bool) -> Any:
    if destination is None:
        destination = OrderedDict()
        destination._metadata = OrderedDict()
    metadata = {"version": module.state_version}
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix[:-1]] = metadata
    module._save_to_state_dict(destination, prefix, keep_vars)
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in module._state_dict_hooks.values():
        hook(module, destination, prefix, metadata)
    return destination


def load_members(
    module: Module,
    source: Any,
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """The module's own part of a load; collects what went wrong instead of raising."""
    assign = metadata.get("assign_to_params_buffers", False)
    for name, t in saved_members(module):
        if t is None:
            continue
        key = prefix + name
        if key not in source:
            missing.append(key)
            continue
        value = as_ours(source[key])
        if value is None:
            errors.append(
                f'While copying the parameter named "{key}", expected a Tensor or Tensor-like object from checkpoint but '
                f"received {type(source[key])}"
            )
        elif tuple(value.shape) != tuple(t.shape):
            errors.append(
                f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in current "
                f"model is {t.shape}."
            )
        else:
            _take(module, name, t, value, assign)
    key = prefix + EXTRA
    if hasattr(module, "set_extra_state"):
        if key in source:
            module.set_extra_state(source[key])
        else:
            missing.append(key)
    unexpected.extend(_unexpected(module, source, prefix))


def _take(module: Module, name: str, t: Tensor, value: Tensor, assign: bool) -> None:
    if assign:
        if isinstance(t, Parameter) and not isinstance(value, Parameter):
            value = Parameter(value, t._requires_grad)
        setattr(module, name, value)
        return
    with no_grad():
        t.copy_(value)  # type: ignore[attr-defined]


def _unexpected(module: Module, source: Any, prefix: str) -> list[str]:
    """Keys under ``prefix`` that neither this module nor a child of it answers for."""
    known = {name for name, _ in saved_members(module)}
    if hasattr(module, "set_extra_state"):
        known.add(EXTRA)
    found = []
    for key in source:
        if not key.startswith(prefix):
            continue
        first, dot, _ = key[len(prefix) :].partition(".")
        if not (first in module._modules if dot else first in known):
            found.append(key)
    return found


def load_state_dict(module: Module, source: Any, strict: bool, assign: bool) -> IncompatibleKeys:
    if not isinstance(source, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(source)}.")
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    metadata = getattr(source, "_metadata", None) or {}
    source = OrderedDict(source)

    def load(m: Module, part: Any, prefix: str) -> None:
        local = dict(metadata.get(prefix[:-1], {}))
        if assign:
            local["assign_to_params_buffers"] = True
        for hook, before in m._load_state_dict_hooks.values():
            if before:
                hook(m, part, prefix, local, True, missing, unexpected, errors)
        m._load_from_state_dict(part, prefix, local, True, missing, unexpected, errors)
        for name, child in m._modules.items():
            if child is not None:
                inner = f"{prefix}{name}."
                load(child, {k: v for k, v in part.items() if k.startswith(inner)}, inner)
        for hook, before in m._load_state_dict_hooks.values():
            if not before:
                hook(m, IncompatibleKeys(missing, unexpected))

    load(module, source, "")
    if strict:
        if unexpected:
            errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
        if missing:
            errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if errors:
        listed = "\n\t".join(errors)
        raise SpiralError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{listed}")
    return IncompatibleKeys(missing, unexpected)


def _quoted(keys: list[str]) -> str:
    return ", ".join([f'"{k}"' for k in keys])
