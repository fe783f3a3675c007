"""A module's call when it has hooks: arguments and results pass through them, forward and backward.

Backward hooks need to know when the gradients at the module's inputs and outputs are there, so these pass
through an identity on the tape (:class:`Gate`) whose backward calls back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...function import Function
from ...tensor import Tensor

if TYPE_CHECKING:
    from .module import Module

Gradients = tuple[Tensor | None, ...]


class Gate(Function):
    """Identity; ``called`` sees the gradients on their way back and may change them."""

    @staticmethod
    def forward(ctx: Any, called: Callable[[Gradients], Gradients], *tensors: Tensor) -> Any:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        ctx.called = called
        return tuple([t.detach() for t in tensors])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # type: ignore[override]
        return (None, *ctx.called(grads))


class _BackwardHooks:
    """One call's gradients at the module's outputs and inputs."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: Gradients = ()
        self.has_inputs = False

    def inputs(self, args: Sequence[Any]) -> list[Any]:
        out, self.positions = _gated(args, self._at_inputs)
        self.has_inputs = bool(self.positions)
        self.count = len(args)
        return out

    def outputs(self, result: Any) -> Any:
        several = isinstance(result, (tuple, list))
        found, positions = _gated(list(result) if several else [result], self._at_outputs)
        if not positions:
            return result
        return type(result)(found) if several else found[0]

    def _at_outputs(self, grads: Gradients) -> Gradients:
        for hook in self.module._backward_pre_hooks.values():
            changed = hook(self.module, grads)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        self.grad_output = grads
        if not self.has_inputs:
            self._call((None,) * self.count)
        return grads

    def _at_inputs(self, grads: Gradients) -> Gradients:
        everywhere: list[Tensor | None] = [None] * self.count
        for at, g in zip(self.positions, grads):
            everywhere[at] = g
        found = self._call(tuple(everywhere))
        return tuple([found[at] for at in self.positions])

    def _call(self, grads: Gradients) -> Gradients:
        for hook in self.module._backward_hooks.values():
            changed = hook(self.module, grads, self.grad_output)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        return grads


def _gated(values: Sequence[Any], called: Any) -> tuple[list[Any], list[int]]:
    """``values`` with the tensors that require grad behind one gate, and where these are."""
    out = list(values)
    positions = [i for i, v in enumerate(out) if isinstance(v, Tensor) and v.requires_grad]
    if positions:
        for i, t in zip(positions, Gate.apply(called, *[out[i] for i in positions])):
            out[i] = t
    return out, positions


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` with every kind of hook around it."""
    called: set[int] = set()
    try:
        return _call(module, args, kwargs, called)
    except Exception:
        for number, (hook, with_kwargs, always) in list(module._forward_hooks.items()):
            if always and number not in called:
                hook(module, args, kwargs, None) if with_kwargs else hook(module, args, None)
        raise


def _call(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], called: set[int]) -> Any:
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    back = _BackwardHooks(module) if module._backward_hooks or module._backward_pre_hooks else None
    if back is not None:
        args = tuple(back.inputs(args))
    result = module.forward(*args, **kwargs)
    for number, (hook, with_kwargs, _) in list(module._forward_hooks.items()):
        called.add(number)
        changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
        if changed is not None:
            result = changed
    return result if back is None else back.outputs(result)
