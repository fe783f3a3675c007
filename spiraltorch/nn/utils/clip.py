"""Clipping gradients in place; nothing looks at a value, so it stays in a compiled step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...autograd import no_grad
from ...creation import tensor
from ...dispatch import call
from ...errors import SpiralError
from ...ops.registry import OPS
from ...tensor import Tensor

Tensors = Tensor | Iterable[Tensor]


def _grads(parameters: Tensors) -> list[Any]:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [g for g in [p.grad for p in listed] if g is not None]


def get_total_norm(
    tensors: Tensors, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of all elements of all tensors together."""
    listed: list[Any] = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not listed:
        return tensor(0.0)
    p = float(norm_type)
    with no_grad():
        norms = [t.norm(p) for t in listed]
        total = norms[0] if len(norms) == 1 else call(OPS["stack"], (norms,)).norm(p)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise SpiralError(
            f"The total norm of order {p} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To disable this error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return total  # type: ignore[no-any-return]


def clip_grads_with_norm_(
    parameters: Tensors, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale gradients so that, if ``total_norm`` is theirs, it becomes at most ``max_norm``."""
    with no_grad():
        share = (float(max_norm) / (total_norm + 1e-6)).clamp_max(1.0)  # type: ignore[operator]
        for g in _grads(parameters):
            g.mul_(share)


def clip_grad_norm_(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale gradients so that their common norm is at most ``max_norm``; returns the norm before."""
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_grads(listed), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(listed, max_norm, total)
    return total


def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Every element of every gradient moved into [-clip_value, clip_value]."""
    with no_grad():
        for g in _grads(parameters):
            g.clamp_(-float(clip_value), float(clip_value))
