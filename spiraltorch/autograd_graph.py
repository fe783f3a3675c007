"""The recorded graph as users see it: hooks, edges, and what is done with saved tensors (torch.autograd.graph).

    >>> import spiraltorch as st
    >>> x = st.tensor(3.0, requires_grad=True)
    >>> with st.autograd.graph.saved_tensors_hooks(lambda t: t.detach() * 2, lambda t: t):
    ...     y = x * x
    >>> st.autograd.grad(y, x)
    (tensor(12.),)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from .autograd import reaches, retain_grad
from .device import CPU
from .errors import SpiralError
from .tape import GradientEdge, RemovableHandle, accumulator, edge_of, mode
from .tape import TapeNode as Node
from .tensor import Tensor, from_node

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge", "increment_version",
    "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Where the gradient of ``tensor`` goes (torch.autograd.graph.get_gradient_edge).  Raises RuntimeError where it has none."""
    edge = edge_of(tensor)
    if edge is None:
        raise SpiralError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(*edge) if isinstance(edge, tuple) else GradientEdge(accumulator(edge), 0)


def increment_version(tensor: Any) -> None:
    """Count a write that was not seen to one or several tensors (torch.autograd.graph.increment_version)."""
    for t in [tensor] if isinstance(tensor, Tensor) else tensor:
        t._storage.version += 1


class saved_tensors_hooks:
    """Inside the ``with`` block backward keeps ``pack_hook(t)`` in place of a tensor that it looks at, and gets it back by
    ``unpack_hook`` (torch.autograd.graph.saved_tensors_hooks)."""

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if _disabled.words:
            raise SpiralError(_disabled.words[-1])
        self._before = mode.packing
        mode.packing = self.pack_hook, self.unpack_hook

    def __exit__(self, *exc: Any) -> None:
        mode.packing = self._before


class save_on_cpu(saved_tensors_hooks):
    """Inside the ``with`` block tensors are kept for backward in host memory (torch.autograd.graph.save_on_cpu)."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: (t.device, t.detach().to(CPU)), lambda kept: kept[1].to(kept[0]))


class allow_mutation_on_saved_tensors(saved_tensors_hooks):
    """Inside the ``with`` block backward sees saved tensors as they were, whatever is written to them afterwards
    (torch.autograd.graph.allow_mutation_on_saved_tensors)."""

    def __init__(self) -> None:
        super().__init__(lambda t: from_node(t._read(), t.device), lambda kept: kept)


class _Disabled(threading.local):
    def __init__(self) -> None:
        self.words: list[str] = []


_disabled = _Disabled()


class disable_saved_tensors_hooks:
    """Inside the ``with`` block :class:`saved_tensors_hooks` raises RuntimeError with this message
    (torch.autograd.graph.disable_saved_tensors_hooks)."""

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __enter__(self) -> None:
        if mode.packing is not None:
            raise SpiralError(self.error_message)
        _disabled.words.append(self.error_message)

    def __exit__(self, *exc: Any) -> None:
        _disabled.words.pop()


class _Handles:
    """Several hooks that go together."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        for h in self.handles:
            h.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., Any], *, mode: str = "all") -> _Handles:
    """Call ``fn`` with the gradients of all ``tensors`` (None for those without one) when the last of them is there, or with
    ``mode="any"`` with the first; once a backward pass (torch.autograd.graph.register_multi_grad_hook)."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    passes: list[Any] = [None, 0, []]  # the pass in progress, how many gradients are to come, those that came
    lock = threading.Lock()

    def hook(i: int, g: Tensor) -> None:
        from .tape import mode as state

        with lock:
            walk = state.walk
            if passes[0] is not walk:
                passes[:] = walk, sum([reaches(walk, t) for t in tensors]), [None] * len(tensors)
                first = True
            else:
                first = False
            passes[1] -= 1
            passes[2][i] = g
            grads = list(passes[2])
            last = passes[1] == 0
        if mode == "any" and first:
            fn(g)
        elif mode == "all" and last:
            fn(grads)

    return _Handles([_register_hook(t, lambda g, i=i: hook(i, g)) for i, t in enumerate(tensors)])  # type: ignore[misc]


# -- methods of tensors -----------------------------------------------------------------------------------


def _retains_grad(self: Tensor) -> bool:
    """Whether a tensor that is no leaf keeps its gradient (torch.Tensor.retains_grad)."""
    fn = self._history()
    kept = fn.retained.get(self._index) if fn is not None else None
    return kept is not None and kept() is self


def _register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call ``hook`` with this tensor's gradient; what it returns replaces the gradient (torch.Tensor.register_hook)."""
    if not self.requires_grad:
        raise SpiralError("cannot register a hook on a tensor that doesn't require gradient")
    fn = self._history()
    if fn is not None:
        return RemovableHandle(fn.hooks.setdefault(self._index, {}), hook)
    if self._hooks is None:
        self._hooks = {}
    return RemovableHandle(self._hooks, hook)


def _post_accumulate(self: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    """Call ``hook`` with this leaf when its gradient was accumulated (torch.Tensor.register_post_accumulate_grad_hook)."""
    if not self._requires_grad or self._history() is not None:
        raise SpiralError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return RemovableHandle(self.__dict__.setdefault("_accumulated", {}), hook)


def _detach_(self: Tensor) -> Tensor:
    """This tensor itself off the tape (torch.Tensor.detach_).  Raises RuntimeError for a view."""
    if self._base is not None:
        raise SpiralError("Can't detach views in-place. Use detach() instead.")
    self._fn, self._index, self._requires_grad, self._detached = None, 0, False, self._detached or True
    return self


def _is_view(self: Tensor) -> bool:
    """Whether this is a view of another tensor that gradients go through (torch.Tensor._is_view)."""
    return self._base is not None


def _output_nr(self: Tensor) -> int:
    """Which output of ``grad_fn`` this is (torch.Tensor.output_nr)."""
    return 0 if self._history() is None else self._index


METHODS: dict[str, Any] = {
    "retain_grad": retain_grad, "retains_grad": property(_retains_grad), "register_hook": _register_hook,
    "register_post_accumulate_grad_hook": _post_accumulate, "detach_": _detach_, "_is_view": _is_view, "output_nr": property(_output_nr),
}  # fmt: skip
