"""Nested arguments and results: what is a tensor, what is static, and how a result is put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..tensor import Tensor

STATIC = (int, float, bool, str, bytes, type(None), complex)


@dataclass
class Output:
    """How a result's tensor is made again: from value ``cell`` of the run through ``steps``, or ``given``."""

    cell: int
    steps: tuple[Any, ...] = ()
    given: Any = None
    fn: Any = None
    number: int = 0
    own: bool = False  # nothing else is made from the value


def flatten(value: Any, tensors: list[Tensor], static: list[Any]) -> Any:
    """Structure of nested arguments: tensors go to ``tensors``, everything else into the result and ``static``."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return "t"
    if isinstance(value, (list, tuple)):
        return (type(value), *[flatten(v, tensors, static) for v in value])
    if isinstance(value, dict):
        return (dict, tuple(value), *[flatten(v, tensors, static) for v in value.values()])
    if isinstance(value, STATIC):
        return ("s", type(value), value)
    static.append(value)
    return ("o", id(value))


def rebuild(template: Any, outputs: Sequence[Any]) -> Any:
    """The inverse of :func:`describe`."""
    kind = template[0]
    if kind == "t":
        return outputs[template[1]]
    if kind == "v":
        return template[1]
    if kind == "d":
        return {k: rebuild(v, outputs) for k, v in template[1]}
    made = [rebuild(v, outputs) for v in template[2]]
    return template[1](*made) if hasattr(template[1], "_fields") else template[1](made)


def describe(value: Any, found: list[Tensor]) -> Any:
    """A result's structure with its tensors numbered."""
    if isinstance(value, Tensor):
        found.append(value)
        return ("t", len(found) - 1)
    if isinstance(value, (list, tuple)):
        return ("l", type(value), [describe(v, found) for v in value])
    if isinstance(value, dict):
        return ("d", [(k, describe(v, found)) for k, v in value.items()])
    return ("v", value)
