"""Backward: walks the tape and accumulates gradients (torch.autograd).

Gradients are recorded lazily like everything else, so they fuse, and with ``create_graph`` they are
themselves on the tape.  The steps that are walked are in :mod:`spiraltorch.tape`.

    >>> import spiraltorch as st
    >>> x = st.tensor(3.0, requires_grad=True)
    >>> st.autograd.grad(x * x, x)
    (tensor(6.),)
"""

from __future__ import annotations

import heapq
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .autograd_modes import (
    Setting,
    anomaly,
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
    set_multithreading_enabled,
)
from .dtypes import FLOAT
from .errors import SpiralError, describe_origin
from .ir.graph import full
from .storage import queue
from .tape import AccumulateGrad, GradFn, GradientEdge, edge_of, mode

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = [
    "backward", "detect_anomaly", "enable_grad", "grad", "inference_mode", "is_anomaly_check_nan_enabled", "is_anomaly_enabled",
    "is_grad_enabled", "is_inference_mode_enabled", "no_grad", "run_engine", "set_detect_anomaly", "set_grad_enabled",
    "set_multithreading_enabled",
]  # fmt: skip

# -- the engine -----------------------------------------------------------------------------------


def _watched(fn: GradFn, slots: Sequence[Tensor | None], create_graph: bool) -> list[Tensor | None]:
    """``fn.backward`` in anomaly mode.  Raises RuntimeError that names the forward line where nan comes up."""
    where = describe_origin(fn.origin)
    forward = f" The forward call was at {where}." if where else ""
    try:
        parts = fn.backward(slots, create_graph)
    except Exception as e:
        warnings.warn(f"Error detected in {fn.name()}.{forward}", stacklevel=2)
        raise e
    if anomaly.check_nan:
        for k, g in enumerate(parts):
            if g is not None and g.dtype.category >= FLOAT and bool(g.ne(g).any()):
                raise SpiralError(f"Function '{fn.name()}' returned nan values in its {k}th output.{forward}")
    return parts


def _default_grad(t: Tensor) -> Tensor:
    from .tensor import from_node

    if t.numel() != 1:
        raise SpiralError(f"grad can be implicitly created only for scalar outputs, got shape {list(t.shape)}")
    if t.dtype.is_complex:
        raise SpiralError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
    return from_node(full(1, tuple(t.shape), t.dtype), t.device)


def _start(roots: Sequence[Any], grads: Sequence[Any]) -> list[tuple[Any, Tensor]]:
    starts = []
    for i, (t, g) in enumerate(zip(roots, grads)):
        edge = _edge(t)
        if edge is None:
            raise SpiralError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if isinstance(t, GradientEdge):
            if g is None:
                raise SpiralError("the gradient at a GradientEdge must be given: only scalar tensors have one by default")
        elif g is None:
            g = _default_grad(t)
        else:
            _refuse_gradient(i, t, g)
            if g.dtype is not t.dtype:
                g = g.to(t.dtype)
        starts.append((edge, g))
    return starts


def _refuse_gradient(i: int, t: Tensor, g: Any) -> None:
    if not hasattr(g, "_storage"):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if tuple(g.shape) != tuple(t.shape):
        raise SpiralError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {list(g.shape)} and output[{i}] has a shape of {list(t.shape)}."
        )
    if g.dtype.is_complex != t.dtype.is_complex:
        raise SpiralError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
            f"dtype: grad_output[{i}] has a dtype of {g.dtype} and output[{i}] has a dtype of {t.dtype}."
        )
    if g._storage.device is not t._storage.device:
        raise SpiralError(f"invalid gradient at index {i} - expected device {t.device} but got {g.device}")


def reaches(walk: Any, t: Tensor) -> bool:
    """Whether a gradient of ``t`` is computed in the backward pass ``walk``, which :data:`mode` says."""
    roots, needed, targets = walk
    edge = edge_of(t)
    if needed is not None:
        return _key(edge) in targets or (isinstance(edge, tuple) and edge[0] in needed)
    seen: set[Any] = set()
    stack = [_edge(r) for r in roots]
    while stack:
        e = stack.pop()
        if e is not None and _key(e) not in seen:
            seen.add(_key(e))
            stack += e[0].edges if isinstance(e, tuple) else ()
    return _key(edge) in seen


def run_engine(
    tensors: Sequence[Any],
    grads: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    wanted: Sequence[Any] | None = None,
    ends: bool = False,
) -> dict[Any, Tensor]:
    """Walk the tape from ``tensors``.  Returns gradients by edge key of the leaves (or of ``wanted``, which with ``ends`` count as
    leaves too)."""
    from .tensor import add_grads

    pending: dict[GradFn, list[Tensor | None]] = {}
    heap: list[tuple[int, int, GradFn]] = []
    results: dict[Any, Tensor] = {}
    leaves: dict[Any, Tensor] = {}
    targets = {_key(_edge(t)) for t in wanted} if wanted is not None else None
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

    outer, mode.walk = mode.walk, (tensors, needed, targets)
    try:
        with Setting(create_graph):
            for edge, g in _start(tensors, grads):
                send(edge, g)
            while heap:
                fn = heapq.heappop(heap)[2]
                slots = pending.pop(fn)
                goes_on = needed is None or fn in needed
                if targets is not None and goes_on:  # what is returned is what came, before hooks, as in torch
                    results.update({(id(fn), k): g for k, g in enumerate(slots) if g is not None and (id(fn), k) in targets})
                if fn.hooks or fn.retained:
                    _call_hooks(fn, slots)
                if not goes_on:
                    results.update({(id(fn), k): g for k, g in enumerate(slots) if g is not None and (id(fn), k) in targets})  # type: ignore[operator]
                    continue
                if fn.call.undefined:
                    fn.call.refuse([_is_wanted(e, targets, needed) for e in fn.edges])
                parts = _watched(fn, slots, create_graph) if anomaly.enabled else fn.backward(slots, create_graph)
                if fn.hooks:
                    parts = around(fn.hooks.get("post"), parts, slots)
                for edge, part in zip(fn.edges, parts):
                    if part is not None:
                        send(edge, part)
                if not retain_graph:
                    fn.free()
            for key, leaf in leaves.items():
                if leaf._hooks:
                    results[key] = _hooked(leaf._hooks, results[key])
    finally:
        mode.walk = outer
    return results


def _call_hooks(fn: GradFn, slots: list[Tensor | None]) -> None:
    """The hooks of the tensors that ``fn`` made, those that keep gradients, and those before ``fn`` itself."""
    for index, g in enumerate(slots):
        if g is None:
            continue
        if index in fn.hooks:
            g = slots[index] = _hooked(fn.hooks[index], g)
        kept = fn.retained.get(index)
        t = kept() if kept is not None else None
        if t is not None:
            _accumulate(t, g, mode.enabled)
    for hook in list(fn.hooks.get("pre", {}).values()):
        changed = hook(tuple(slots))
        if changed is not None:
            slots[:] = changed if isinstance(changed, tuple) else (changed,)


def around(hooks: dict[int, Callable[..., Any]] | None, parts: list[Tensor | None], slots: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients that a step gives, after the hooks behind it."""
    for hook in list((hooks or {}).values()):
        changed = hook(tuple(parts), tuple(slots))
        if changed is not None:
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(parts):
                raise SpiralError(f"hook returned {len(changed)} gradients, expected {len(parts)}")
            parts = list(changed)
    return parts


def _hooked(hooks: dict[int, Callable[..., Any]], g: Tensor) -> Tensor:
    from .tensor import Tensor

    for hook in list(hooks.values()):
        changed = hook(g)
        if changed is None:
            continue
        name = getattr(hook, "__name__", type(hook).__name__)
        if not isinstance(changed, Tensor):
            raise TypeError(f"expected Variable, but hook '{name}' returned '{type(changed).__name__}'")
        for what, a, b in (("type", g.dtype, changed.dtype), ("size", tuple(g.shape), tuple(changed.shape))):
            if a != b:
                raise SpiralError(f"hook '{name}' has changed the {what} of value (was {a} got {b})")
        g = changed
    return g


def _is_wanted(edge: Any, targets: set[Any] | None, needed: set[GradFn] | None) -> bool:
    """Whether a gradient that leaves along ``edge`` goes anywhere."""
    if edge is None or targets is None or needed is None:
        return edge is not None
    return _key(edge) in targets or (isinstance(edge, tuple) and edge[0] in needed)


def _key(edge: Any) -> Any:
    return (id(edge[0]), edge[1]) if isinstance(edge, tuple) else id(edge)


def _edge(t: Any) -> Any:
    """:func:`edge_of` a tensor or a GradientEdge."""
    if not isinstance(t, GradientEdge):
        return edge_of(t)
    return t.node.variable if isinstance(t.node, AccumulateGrad) else (t.node, t.output_nr)


def _ancestors(tensors: Sequence[Any], targets: set[Any], ends: bool) -> set[GradFn]:
    """The steps that lie between ``tensors`` and the targets; with ``ends`` none that made a target."""
    state: dict[GradFn, bool] = {}
    for t in tensors:
        edge = _edge(t)
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


# -- backward and grad ----------------------------------------------------------------------------


def _is_end(x: Any) -> bool:
    """Whether ``x`` is a tensor or an edge (asked without an import, at every backward)."""
    return hasattr(x, "_storage") or isinstance(x, GradientEdge)


def _roots(x: Any) -> list[Any]:
    """Outputs as a list.  Raises TypeError for what is none, AssertionError for what is in it and no tensor."""
    if _is_end(x):
        return [x]
    found = list(x)
    for t in found:
        if not _is_end(t):
            raise AssertionError(f"expected outputs to be Tensors or GradientEdges, but got {type(t).__name__}")
    return found


def _inputs(x: Any, where: str) -> list[Any]:
    """Inputs as a list.  Raises RuntimeError for what is no tensor, and where there is none."""
    found = [x] if _is_end(x) else list(x)
    if not found:
        raise SpiralError(f"`inputs` argument to `{where}()` cannot be empty.")
    for t in found:
        if not _is_end(t):
            raise SpiralError(f"all inputs have to be Tensors or GradientEdges, but got {type(t).__name__}")
    return found


def _grads(given: Any, count: int) -> list[Any]:
    """One gradient, or None, for each of ``count`` outputs.  Raises RuntimeError for another number of them."""
    found = [None] * count if given is None else [given] if hasattr(given, "_storage") else list(given)
    if len(found) < count:
        raise SpiralError(f"got {count} tensors and {len(found)} gradients")
    return found[:count]


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Accumulate gradients of ``tensors`` into the leaves' ``.grad`` (torch.autograd.backward).

    Raises RuntimeError where shapes, numbers of gradients or types do not fit, TypeError for what is no tensor.
    """
    roots = [tensors] if hasattr(tensors, "_storage") else _roots(tensors)
    grads = [None] * len(roots) if grad_tensors is None else _grads(grad_tensors, len(roots))
    retain = create_graph if retain_graph is None else retain_graph
    wanted = None
    if inputs is None:
        leaves = _leaves(roots)
    else:
        wanted = _inputs(inputs, "backward")
        for t in wanted:
            if not isinstance(t, GradientEdge):
                retain_grad(t)
        leaves = list({id(e): e for e in [_edge(t) for t in wanted] if not isinstance(e, tuple)}.values())
    results = run_engine(roots, grads, retain, create_graph, wanted)
    for leaf in leaves:
        g = results.get(id(leaf))
        if g is None:
            continue
        more = leaf.__dict__
        hooks = more.get("_accumulator") if more else None
        for hook in list(hooks["pre"].values()) if hooks else ():
            changed = hook((g,))
            g = g if changed is None else changed[0] if isinstance(changed, tuple) else changed
        if leaf._hooks or any([g is given for given in grads]):
            g = _owned(g, create_graph)
        _accumulate(leaf, g, create_graph)
        if not more:
            continue
        for hook in list(more.get("_accumulated", {}).values()):
            found = hook(leaf)
            if found is not None:
                raise TypeError(f"expected None, but the hook after accumulation returned '{type(found).__name__}'")
        for hook in list(hooks["post"].values()) if hooks else ():
            hook((), (g,))


def retain_grad(t: Tensor) -> None:
    """Keep the gradient of a tensor that is no leaf in its ``.grad`` (torch.Tensor.retain_grad)."""
    fn = t._history()
    if fn is not None:
        fn.retained[t._index] = weakref.ref(t)
    elif not t._requires_grad:
        raise SpiralError("can't retain_grad on Tensor that has requires_grad=False")


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
    elif create_graph or queue.trace is not None or not leaf.is_leaf:
        leaf.grad = add_grads(have, g)
    else:
        with no_grad():
            have.add_(g)  # type: ignore[attr-defined]


def _leaves(roots: Sequence[Any]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    seen: set[GradFn] = set()
    stack: list[Any] = [_edge(t) for t in roots]
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
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``outputs`` with respect to ``inputs`` (torch.autograd.grad).

    With ``is_grads_batched`` each of ``grad_outputs`` holds several on its first axis, and so does each result: one pass each.
    Raises RuntimeError when an input was not used and ``allow_unused`` is not set.
    """
    from .tensor import from_node

    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    if not only_inputs:
        warnings.warn("only_inputs argument is deprecated and is ignored now (defaults to True).", FutureWarning, stacklevel=2)
    roots, wanted = _roots(outputs), _inputs(inputs, "grad")
    given = _grads(grad_outputs, len(roots))
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        return _batched(roots, wanted, given, retain, create_graph, allow_unused, materialize_grads)
    if any(_edge(t) is None for t in wanted):
        raise SpiralError("One of the differentiated Tensors does not require grad")
    results = run_engine(roots, given, retain, create_graph, wanted)
    out: list[Tensor | None] = []
    for i, t in enumerate(wanted):
        g = results.get(_key(_edge(t)))
        if g is None and materialize_grads:
            g = from_node(full(0, tuple(t.shape), t.dtype), t.device)
            g._requires_grad = create_graph
        elif g is None and not allow_unused:
            raise SpiralError(
                f"The differentiated Tensor at index {i} appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        out.append(g)
    return tuple(out)


def _batched(
    roots: list[Any], wanted: list[Any], given: list[Any], retain: bool, create_graph: bool, unused: bool | None, materialize: bool
) -> tuple[Tensor | None, ...]:
    """:func:`grad` once for each gradient along the first axis of ``given``, stacked."""
    from .dispatch import call
    from .ops.registry import OPS

    for i, (t, g) in enumerate(zip(roots, given)):
        if g is None or not g.ndim:
            raise ValueError(f"is_grads_batched=True needs a batch of gradients for output {i}, got {g}")
        if tuple(g.shape[1:]) != tuple(t.shape):
            raise SpiralError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension. The sizes of "
                f"the remaining dimensions are expected to match the shape of corresponding output, but a mismatch was detected: "
                f"grad_output[{i}] has a shape of {list(g.shape)} and output[{i}] has a shape of {list(t.shape)}."
            )
    if not given[0].shape[0]:
        raise IndexError("is_grads_batched=True needs at least one gradient in a batch")
    rows = []
    for k in range(given[0].shape[0]):
        last = k == given[0].shape[0] - 1
        rows.append(grad(roots, wanted, [g[k] for g in given], retain or not last, create_graph, True, unused, False, materialize))
    return tuple([None if column[0] is None else call(OPS["stack"], (list(column),)) for column in zip(*rows)])


def __getattr__(name: str) -> Any:
    """``autograd.functional`` is loaded when it is first asked for."""
    if name == "functional":
        from . import derivatives

        return derivatives
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
