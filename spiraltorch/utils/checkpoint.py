"""Forward passes that keep nothing for backward and run again then (torch.utils.checkpoint).

    >>> import spiraltorch as st
    >>> x = st.tensor(0.0, requires_grad=True)
    >>> st.utils.checkpoint.checkpoint(lambda x: x.exp() * 2, x, use_reentrant=False).backward()
    >>> x.grad
    tensor(2.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from ..autograd import backward, enable_grad
from ..autograd_graph import saved_tensors_hooks
from ..errors import SpiralError
from ..function import Function
from ..random import get_rng_state, set_rng_state
from ..storage import queue, realize
from ..tape import mode
from ..tensor import Tensor

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


class CheckpointError(RuntimeError):
    """Running a function again did other things than its first run."""


def noop_context_fn() -> tuple[Any, Any]:
    """Two contexts that do nothing, for forward and for running it again (torch.utils.checkpoint.noop_context_fn)."""
    return nullcontext(), nullcontext()


class _Again:
    """A call that can be run again with the random numbers that it had."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], preserve: bool) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.state = get_rng_state() if preserve and queue.trace is None else None

    def run(self, args: Sequence[Any]) -> Any:
        now = None if self.state is None else get_rng_state()
        try:
            if self.state is not None:
                set_rng_state(self.state)
            with enable_grad():
                return self.function(*args, **self.kwargs)
        finally:
            if now is not None:
                set_rng_state(now)


class _Frame:
    """What a checkpointed call would have saved: numbers, until backward asks for the first of them."""

    def __init__(self, again: _Again, around: Any, early_stop: bool) -> None:
        self.again, self.around, self.early_stop = again, around, early_stop
        self.count = 0
        self.found: dict[int, Tensor] = {}

    def pack(self, t: Tensor) -> int:
        self.count += 1
        return self.count - 1

    def unpack(self, number: int) -> Tensor:
        if number not in self.found:
            seen: list[Tensor] = []
            with self.around, saved_tensors_hooks(lambda t: seen.append(t.detach()), _never):
                self.again.run(self.again.args)
            if len(seen) < self.count or (len(seen) > self.count and not self.early_stop):
                raise CheckpointError(
                    "A different number of tensors was saved during the original forward and recomputation.\nNumber of tensors "
                    f"saved during forward: {self.count}\nNumber of tensors saved during recomputation: {len(seen)}."
                )
            self.found = dict(enumerate(seen))
        return self.found.pop(number)


def _never(kept: Any) -> Tensor:
    raise CheckpointError("backward went through a function while it was run again")


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)`` that keeps no intermediate values for backward and is run again there.

    With ``use_reentrant`` it is one step on the tape, whose backward is a backward pass of its own: then one of ``args`` must
    require grad.  Raises CheckpointError where the second run saves fewer tensors than the first, or without ``early_stop`` more.
    """
    again = _Again(function, args, kwargs, preserve_rng_state)
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn:
            raise ValueError("Passing `context_fn` is only supported when use_reentrant=False.")
        if not any([isinstance(a, Tensor) and a.requires_grad for a in args]):
            warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", UserWarning, stacklevel=2)
        return _Reentrant.apply(again, *args)
    first, second = context_fn()
    if not mode.enabled:
        with first:
            return function(*args, **kwargs)
    frame = _Frame(again, second, early_stop)
    with first, saved_tensors_hooks(frame.pack, frame.unpack):
        found = function(*args, **kwargs)
    if queue.trace is None:  # computed now, so that the values between are not kept until backward
        realize([t._storage for t in (found if isinstance(found, (tuple, list)) else [found]) if isinstance(t, Tensor)])
    return found


class _Reentrant(Function):
    @staticmethod
    def forward(ctx: Any, again: _Again, *args: Any) -> Any:  # type: ignore[override]
        ctx.again = again
        ctx.save_for_backward(*[a if isinstance(a, Tensor) else None for a in args])
        return again.function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        args = [a if t is None else t.detach().requires_grad_(t.requires_grad) for t, a in zip(ctx.saved_tensors, ctx.again.args)]
        found = ctx.again.run(args)
        outs = [(o, g) for o, g in zip(found if isinstance(found, tuple) else (found,), grads) if isinstance(o, Tensor) and o.requires_grad]
        if not outs:
            raise SpiralError("none of output has requires_grad=True, this checkpoint() is not necessary")
        backward([o for o, _ in outs], [g for _, g in outs])
        return (None, *[a.grad if isinstance(a, Tensor) else None for a in args])


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:
    """A Sequential, or a list of functions, in ``segments`` parts that are each checkpointed but the last
    (torch.utils.checkpoint.checkpoint_sequential)."""
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(steps) // segments

    def part(start: int, end: int) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for f in steps[start:end]:
                x = f(x)
            return x

        return run

    end = 0
    for start in range(0, size * (segments - 1), size or 1):
        end = start + size
        input = checkpoint(part(start, end), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return part(end, len(steps))(input)
