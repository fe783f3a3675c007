"""Backward: walks the tape and accumulates gradients (torch.autograd).

Gradients are recorded lazily like everything else, so they fuse, and with ``create_graph`` they are
themselves on the tape.  The steps that are walked are in :mod:`spiraltorch.tape`.

    >>> import spiraltorch as st
    >>> x = st.tensor(3.0, requires_grad=True)
    >>> st.autograd.grad(x * x, x)
    (tensor(6.),)
"""

from __future__ import annotations

import functools
import heapq
import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .dtypes import FLOAT
from .errors import SpiralError, describe_origin
from .ir import graph
from .storage import queue
from .tape import GradFn, edge_of, mode

if TYPE_CHECKING:
    from .tensor import Tensor


def is_grad_enabled() -> bool:
    return mode.enabled


# -- modes ----------------------------------------------------------------------------------------


class _Setting:
    """The grad mode inside a ``with`` block or a decorated function."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        enabled = self.enabled
        if inspect.isgeneratorfunction(function):
            return _around_generator(function, enabled)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _Setting(enabled):
                return function(*args, **kwargs)

        return wrapped


def _around_generator(function: Callable[..., Any], enabled: bool) -> Callable[..., Any]:
    """The mode holds while the generator runs, not while its user does."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        steps, sent = function(*args, **kwargs), None
        while True:
            try:
                with _Setting(enabled):
                    value = steps.send(sent)
            except StopIteration as end:
                return end.value
            sent = yield value

    return wrapped


class no_grad(_Setting):
    """Nothing inside is recorded for backward (torch.no_grad); also a decorator, with or without parentheses."""

    _enabled = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else _Setting(cls._enabled)(function)

    def __init__(self, function: None = None) -> None:
        super().__init__(self._enabled)


class enable_grad(no_grad):
    """Record inside, also within :class:`no_grad` (torch.enable_grad)."""

    _enabled = True


class inference_mode(_Setting):
    """As :class:`no_grad` (torch.inference_mode); tensors made inside are ordinary tensors here."""

    def __new__(cls, mode: Any = True) -> Any:
        return _Setting(False)(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)

    def __enter__(self) -> None:
        super().__enter__()
        _inference.depth += not self.enabled

    def __exit__(self, *exc: Any) -> None:
        super().__exit__()
        _inference.depth -= not self.enabled


class _Inference(threading.local):
    depth = 0


_inference = _Inference()


def is_inference_mode_enabled() -> bool:
    return _inference.depth > 0


class set_grad_enabled(_Setting):
    """Plain call, context manager and decorator that switches recording for backward (torch.set_grad_enabled)."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        super().__enter__()

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self._before[0]

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.__exit__()
        return super().__call__(function)


class _Anomaly(threading.local):
    enabled = False
    check_nan = True


_anomaly = _Anomaly()


class set_detect_anomaly:
    """Plain call and context manager: backward names the forward line of a step that fails or gives nan
    (torch.autograd.set_detect_anomaly).  Looks at every gradient, so it is slow."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = _anomaly.enabled, _anomaly.check_nan
        _anomaly.enabled, _anomaly.check_nan = mode, check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        _anomaly.enabled, _anomaly.check_nan = self._before


class detect_anomaly:
    """:func:`set_detect_anomaly` inside a ``with`` block (torch.autograd.detect_anomaly)."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self._inner = set_detect_anomaly(True, self.check_nan)

    def __exit__(self, *exc: Any) -> None:
        self._inner.__exit__()


def is_anomaly_enabled() -> bool:
    return _anomaly.enabled


def is_anomaly_check_nan_enabled() -> bool:
    return _anomaly.check_nan


def _watched(fn: GradFn, slots: Sequence[Tensor | None], create_graph: bool) -> list[Tensor | None]:
    """``fn.backward`` in anomaly mode.  Raises RuntimeError that names the forward line where nan comes up."""
    where = describe_origin(fn.origin)
    forward = f" The forward call was at {where}." if where else ""
    try:
        parts = fn.backward(slots, create_graph)
    except Exception as e:
        warnings.warn(f"Error detected in {fn.name()}.{forward}", stacklevel=2)
        raise e
    if _anomaly.check_nan:
        for k, g in enumerate(parts):
            if g is not None and g.dtype.category >= FLOAT and bool(g.ne(g).any()):
                raise SpiralError(f"Function '{fn.name()}' returned nan values in its {k}th output.{forward}")
    return parts


# -- the engine -----------------------------------------------------------------------------------


def _default_grad(t: Tensor) -> Tensor:
    from .tensor import from_node

    if t.numel() != 1:
        raise SpiralError(f"grad can be implicitly created only for scalar outputs, got shape {list(t.shape)}")
    if t.dtype.is_complex:
        raise SpiralError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
    return from_node(graph.full(1, tuple(t.shape), t.dtype), t.device)


def _start(tensors: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[tuple[Any, Tensor]]:
    starts = []
    for t, g in zip(tensors, grads):
        edge = edge_of(t)
        if edge is None:
            raise SpiralError("element 0 of tensors does not require grad and does not have a grad_fn")
        if g is None:
            g = _default_grad(t)
        elif tuple(g.shape) != tuple(t.shape):
            raise SpiralError(
                f"Mismatch in shape: grad_output[0] has a shape of {list(g.shape)} and output[0] has a shape of "
                f"{list(t.shape)}."
            )
        elif g.dtype.is_complex != t.dtype.is_complex:
            raise SpiralError(
                "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
                f"dtype: grad_output[0] has a dtype of {g.dtype} and output[0] has a dtype of {t.dtype}."
            )
        elif g._storage.device is not t._storage.device:
            raise SpiralError(f"invalid gradient at index 0 - expected device {t.device} but got {g.device}")
        starts.append((edge, g))
    return starts


def run_engine(
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    wanted: Sequence[Tensor] | None = None,
    ends: bool = False,
) -> dict[Any, Tensor]:
    """Walk the tape from ``tensors``.  Returns gradients by edge key of the leaves (or of ``wanted``, which with ``ends`` count as
    leaves too)."""
    from .tensor import add_grads

    pending: dict[GradFn, list[Tensor | None]] = {}
    heap: list[tuple[int, int, GradFn]] = []
    results: dict[Any, Tensor] = {}
    leaves: dict[Any, Tensor] = {}
    targets = {_key(edge_of(t)) for t in wanted} if wanted is not None else None
    needed = _ancestors(tensors, targets, ends) if targets is not None else None

    def send(edge: Any, g: Tensor) -> None:
        if edge is None:
            return
        key = _key(edge)
        if not isinstance(edge, tuple):
            if targets is None or key in targets:
                leaves[key] = edge
                results[key] = add_grads(results[key], g) if key in results else g
            return
        fn, index = edge
        slots = pending.get(fn)
        if slots is None:
            if needed is not None and fn not in needed and key not in targets:  # type: ignore[operator]
                return
            slots = pending[fn] = [None] * len(fn.outs)
            heapq.heappush(heap, (-fn.sequence, id(fn), fn))
        have = slots[index]
        slots[index] = g if have is None else add_grads(have, g)

    with _Setting(create_graph):
        for edge, g in _start(tensors, grads):
            send(edge, g)
        while heap:
            fn = heapq.heappop(heap)[2]
            slots = pending.pop(fn)
            for index, given in enumerate(slots):
                if given is None:
                    continue
                g = given
                if index in fn.hooks:
                    g = slots[index] = _hooked(fn.hooks[index], g)
                if targets is not None and (id(fn), index) in targets:
                    results[id(fn), index] = g
                elif targets is None and index in fn.retained:
                    t = fn.retained[index]()
                    if t is not None:
                        t.grad = g if t.grad is None else add_grads(t.grad, g)
            if needed is not None and fn not in needed:
                continue
            if fn.call.undefined:
                fn.call.refuse([_is_wanted(e, targets, needed) for e in fn.edges])
            parts = _watched(fn, slots, create_graph) if _anomaly.enabled else fn.backward(slots, create_graph)
            for edge, part in zip(fn.edges, parts):
                if part is not None:
                    send(edge, part)
            if not retain_graph:
                fn.free()
        for key, leaf in leaves.items():
            if leaf._hooks:
                results[key] = _hooked(leaf._hooks, results[key])
    return results


def _hooked(hooks: dict[int, Callable[..., Any]], g: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        changed = hook(g)
        if changed is not None:
            g = changed
    return g


def _is_wanted(edge: Any, targets: set[Any] | None, needed: set[GradFn] | None) -> bool:
    """Whether a gradient that leaves along ``edge`` goes anywhere."""
    if edge is None or targets is None or needed is None:
        return edge is not None
    return _key(edge) in targets or (isinstance(edge, tuple) and edge[0] in needed)


def _key(edge: Any) -> Any:
    return (id(edge[0]), edge[1]) if isinstance(edge, tuple) else id(edge)


def _ancestors(tensors: Sequence[Tensor], targets: set[Any], ends: bool) -> set[GradFn]:
    """The steps that lie between ``tensors`` and the targets; with ``ends`` none that made a target."""
    state: dict[GradFn, bool] = {}
    for t in tensors:
        edge = edge_of(t)
        stack = [(edge[0], False)] if isinstance(edge, tuple) and not (ends and _key(edge) in targets) else []
        while stack:
            fn, ready = stack.pop()
            if not ready:
                if fn in state:
                    continue
                state[fn] = False
                stack.append((fn, True))
                stack.extend([(e[0], False) for e in fn.edges if isinstance(e, tuple) and not (ends and _key(e) in targets)])
            else:
                state[fn] = any(
                    e is not None and (_key(e) in targets or (isinstance(e, tuple) and state.get(e[0], False)))
                    for e in fn.edges
                )
    return {fn for fn, reach in state.items() if reach}


def _sequence_of(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Accumulate gradients of ``tensors`` into the leaves' ``.grad`` (torch.autograd.backward)."""
    roots = _sequence_of(tensors)
    grads = _sequence_of(grad_tensors) if grad_tensors is not None else [None] * len(roots)
    retain = create_graph if retain_graph is None else retain_graph
    leaves: dict[int, Tensor] = {}
    wanted = None if inputs is None else _sequence_of(inputs)
    for leaf in wanted if wanted is not None else _leaves(roots):
        leaves[id(leaf)] = leaf
    results = run_engine(roots, grads, retain, create_graph, wanted)
    for leaf in leaves.values():
        g = results.get(_key(edge_of(leaf)))
        if g is None:
            continue
        if leaf._hooks or any([g is given for given in grads]):
            g = _owned(g, create_graph)
        _accumulate(leaf, g, create_graph)
        for hook in list(leaf.__dict__.get("_accumulated", {}).values()):
            hook(leaf)


def _owned(g: Tensor, create_graph: bool) -> Tensor:
    """A gradient that somebody else may hold, in memory of its own."""
    from .tensor import from_node

    return g.clone() if create_graph else from_node(g._read(), g.device)  # type: ignore[attr-defined, no-any-return]


def _accumulate(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """Add to ``leaf.grad``: in place, so that whoever holds it sees the sum, unless it is on the tape or traced."""
    from .tensor import add_grads

    have = leaf.grad
    if have is None:
        if leaf._steps or g._steps:
            from .layouts import as_leaf

            g = as_leaf(g, leaf, create_graph)
        leaf.grad = g
    elif create_graph or queue.trace is not None:
        leaf.grad = add_grads(have, g)
    else:
        with no_grad():
            have.add_(g)  # type: ignore[attr-defined]


def _leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    seen: set[GradFn] = set()
    stack: list[Any] = [edge_of(t) for t in roots]
    while stack:
        e = stack.pop()
        if isinstance(e, tuple):
            if e[0] not in seen:
                seen.add(e[0])
                stack.extend(e[0].edges)
        elif e is not None:
            found[id(e)] = e
    return list(found.values())


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``outputs`` with respect to ``inputs`` (torch.autograd.grad).

    Raises RuntimeError when an input was not used and ``allow_unused`` is not set.
    """
    from .tensor import from_node

    roots, wanted = _sequence_of(outputs), _sequence_of(inputs)
    given = _sequence_of(grad_outputs) if grad_outputs is not None else [None] * len(roots)
    retain = create_graph if retain_graph is None else retain_graph
    if any(edge_of(t) is None for t in wanted):
        raise SpiralError("One of the differentiated Tensors does not require grad")
    results = run_engine(roots, given, retain, create_graph, wanted)
    out: list[Tensor | None] = []
    for t in wanted:
        g = results.get(_key(edge_of(t)))
        if g is None and materialize_grads:
            g = from_node(graph.full(0, tuple(t.shape), t.dtype), t.device)
        elif g is None and not allow_unused:
            raise SpiralError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        out.append(g)
    return tuple(out)
