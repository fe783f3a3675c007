"""The tape: what was computed from what, and how gradients flow back through it.

Every differentiable call makes one :class:`GradFn`, which holds a :class:`Call` (nodes in, nodes out,
and its vector-Jacobian product), edges to where its inputs came from, and the tensors its
derivative looks at.  Gradients are recorded lazily like everything else, so they fuse, and with
``create_graph`` they are themselves on the tape.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import SpiralError, VersionError, describe_origin
from .ir import graph
from .ir.node import Node
from .ops.gradients import vjp
from .ops.registry import Op
from .storage import Step, write_through

if TYPE_CHECKING:
    from .tensor import Tensor

_sequence = itertools.count()


class _Mode(threading.local):
    enabled = True
    inference = False


mode = _Mode()


def is_grad_enabled() -> bool:
    return mode.enabled


class set_grad_enabled:
    """Context manager, decorator and plain call that switches recording for backward (torch.set_grad_enabled)."""

    def __init__(self, enabled: bool) -> None:
        self.before = mode.enabled
        self.enabled = enabled
        mode.enabled = enabled

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self.before


class _GradMode:
    enabled = False

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self.before: list[bool] = []

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        if function is not None:
            cls.__init__(self)
            return self(function)
        return self

    def __enter__(self) -> None:
        self.before.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self.before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import functools

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Nothing inside is recorded for backward (torch.no_grad); also a decorator."""


class inference_mode(no_grad):
    """As :class:`no_grad`; tensors made inside are ordinary tensors here."""


class enable_grad(_GradMode):
    """Record inside, also within :class:`no_grad` (torch.enable_grad)."""

    enabled = True


class Call:
    """A differentiable function of nodes.  Subclasses say ``forward``; ``vjp`` differentiates it."""

    name = "Call"
    saves: str | None = "i"

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        raise NotImplementedError(type(self).__name__)

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        """Gradients for ``nodes``; ``outs`` are the saved outputs, equal in value to ``forward(nodes)``."""
        holes = placeholders(nodes)
        again = self.forward(holes)
        known = {a: o for a, o in zip(again, outs) if a is not o and o.op != "PARAM"}
        known.update({h: n for h, n in zip(holes, nodes) if h is not n})
        return vjp(again, holes, grads, known)

    def needs(self, wanted: Sequence[bool]) -> tuple[Sequence[bool], bool]:
        """Which inputs and whether the outputs must be saved when the inputs in ``wanted`` need gradients."""
        inputs = "i" in (self.saves or "")
        return [inputs] * len(wanted), "o" in (self.saves or "")


def placeholders(nodes: Sequence[Node]) -> list[Node]:
    """``nodes`` as distinct leaves, so that each position gets a gradient of its own and no peephole of the
    constructors looks through an input."""
    seen: set[Node] = set()
    out = []
    for i, n in enumerate(nodes):
        if n in seen or n.op not in ("BUFFER", "PARAM"):
            n = graph.param(("input", i), n.shape, n.dtype)
        seen.add(n)
        out.append(n)
    return out


class Hole:
    """Marks where the ``index``-th tensor argument goes in a call's argument template."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def fill(template: Any, nodes: Sequence[Any]) -> Any:
    if type(template) is Hole:
        return nodes[template.index]
    if type(template) in (list, tuple):
        return type(template)([fill(t, nodes) for t in template])
    return template


def holes_in(template: Any) -> list[int]:
    """Indices of the tensor arguments in a template."""
    if type(template) is Hole:
        return [template.index]
    if type(template) in (list, tuple):
        return [h for t in template for h in holes_in(t)]
    return []


class OpCall(Call):
    """An operator's record applied to arguments."""

    __slots__ = ("op", "args", "kwargs")

    def __init__(self, op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.op, self.args, self.kwargs = op, args, kwargs

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.op.name.title().replace("_", "") + "Backward0"

    def _bound(self, nodes: Sequence[Node]) -> tuple[list[Any], dict[str, Any]]:
        return [fill(a, nodes) for a in self.args], {k: fill(v, nodes) for k, v in self.kwargs.items()}

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        args, kwargs = self._bound(nodes)
        out = self.op.apply(args, kwargs)
        return list(out) if isinstance(out, (list, tuple)) else [out]

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        if self.op.grad is None:
            return super().vjp(grads, outs, nodes)
        args, kwargs = self._bound(nodes)
        filled = [graph.full(0, o.shape, o.dtype) if g is None else g for g, o in zip(grads, outs)]
        return self.op.gradients(filled, outs, args, kwargs)

    def needs(self, wanted: Sequence[bool]) -> tuple[Sequence[bool], bool]:
        op = self.op
        if op.row is not None and op.saves is None and op.grad is None:
            from .ops.gradients import derivative_names

            places = {a.index: k for k, a in enumerate(self.args) if type(a) is Hole}
            rules = derivative_names(op.row)
            names: set[str] = set()
            for hole, k in places.items():
                if wanted[hole] and k < len(rules):
                    names |= rules[k]
            return [h in places and "abc"[places[h]] in names for h in range(len(wanted))], "out" in names
        saves = "i" if op.saves is None else op.saves
        if isinstance(saves, tuple):
            named = dict(zip(op.parameters, self.args)) | self.kwargs
            held = {h for name in saves for h in holes_in(named.get(name))}
            return [h in held for h in range(len(wanted))], False
        return ["i" in saves] * len(wanted), "o" in saves


class WriteCall(Call):
    """An in-place write of a value through a view: (cell, value) -> cell."""

    name = "CopySlices"
    saves = ""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        return [write_through(nodes[0], self.steps, nodes[1])]


class ViewCall(Call):
    """A view of a tensor, or one made anew after its cell was written: tensor -> view."""

    saves = ""

    def __init__(self, steps: Sequence[Step], name: str = "AsStridedBackward0") -> None:
        self.steps = tuple(steps)
        self.name = name

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        from .storage import apply_steps

        return [apply_steps(nodes[0], self.steps)]


class VjpCall(Call):
    """The gradient of another call, as a function of (grads, outputs, inputs): for ``create_graph``."""

    saves = "i"

    def __init__(self, inner: Call, grads: Sequence[bool], outs: int) -> None:
        self.inner, self.given, self.outs = inner, tuple(grads), outs
        self.live: list[int] = []

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.inner.name.replace("Backward0", "") + "BackwardBackward0"

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        k = sum(self.given)
        supplied = iter(nodes[:k])
        grads = [next(supplied) if given else None for given in self.given]
        found = self.inner.vjp(grads, nodes[k : k + self.outs], nodes[k + self.outs :])
        self.live = [i for i, f in enumerate(found) if f is not None]
        return [f for f in found if f is not None]


Edge = "tuple[GradFn, int] | Tensor | None"


class GradFn:
    """One step of the tape (a tensor's ``grad_fn``)."""

    __slots__ = (
        "call", "edges", "saved", "versions", "types", "outs", "out_versions", "sequence", "hooks", "origin", "freed",
        "retained", "__weakref__",
    )  # fmt: skip

    def __init__(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.call = call
        self.sequence = next(_sequence)
        self.edges = [edge_of(t) for t in inputs]
        keep, keep_out = call.needs([e is not None for e in self.edges])
        self.saved: list[Tensor | None] = [t if k else None for t, k in zip(inputs, keep)]
        self.versions = [t._storage.version for t in inputs]
        self.types = [(t.shape, t.dtype) for t in inputs]
        self.outs = [(o._storage if keep_out else None, o._steps, o.shape, o.dtype) for o in outputs]
        self.out_versions = [o._storage.version for o in outputs]
        self.hooks: dict[int, list[Callable[..., Any]]] = {}
        self.retained: dict[int, weakref.ref[Tensor]] = {}
        self.origin = None
        self.freed = False

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def name(self) -> str:
        return self.call.name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        return tuple([e if isinstance(e, tuple) else (e, 0) for e in self.edges])

    def _inputs(self) -> list[Any]:
        """Saved tensors, checked, and placeholders for the others."""
        out: list[Any] = []
        for i, (t, version, (shape, dtype)) in enumerate(zip(self.saved, self.versions, self.types)):
            if t is None:
                out.append(graph.param(("unsaved", i), tuple(shape), dtype))
                continue
            if t._storage.version != version:
                raise VersionError(_modified(self, shape, dtype, t._storage.version, version))
            out.append(t)
        return out

    def _outputs(self) -> list[Any]:
        out: list[Any] = []
        for i, ((cell, steps, shape, dtype), version) in enumerate(zip(self.outs, self.out_versions)):
            if cell is None:
                out.append(graph.param(("unsaved out", i), tuple(shape), dtype))
                continue
            if cell.version != version:
                raise VersionError(_modified(self, shape, dtype, cell.version, version))
            out.append((cell, steps))
        return out

    def backward(self, grads: Sequence[Tensor | None], create_graph: bool) -> list[Tensor | None]:
        """Gradients for the inputs, given those of the outputs."""
        from .tensor import from_node, record_call, tensor_over

        if self.freed:
            raise SpiralError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Specify retain_graph=True if you need to backward through the graph a "
                "second time."
            )
        ins, outs = self._inputs(), self._outputs()
        out_nodes = [o if isinstance(o, Node) else tensor_over(*o)._read() for o in outs]
        in_nodes = [t if isinstance(t, Node) else t._read() for t in ins]
        if not create_graph:
            found = self.call.vjp([None if g is None else g._read() for g in grads], out_nodes, in_nodes)
            for f in found:  # a gradient comes from the line whose operation it differentiates
                if f is not None and f.origin is None:
                    f.origin = self.origin
            return [None if f is None or e is None else from_node(f) for f, e in zip(found, self.edges)]
        inner = VjpCall(self.call, [g is not None for g in grads], len(outs))
        live = [g for g in grads if g is not None]
        out_tensors = []
        for k, o in enumerate(outs):
            t = from_node(o) if isinstance(o, Node) else tensor_over(*o)
            if not isinstance(o, Node):
                t._fn, t._index = self, k
            out_tensors.append(t)
        in_tensors = [from_node(t) if isinstance(t, Node) else t for t in ins]
        results = iter(record_call(inner, [*live, *out_tensors, *in_tensors]))
        spread: list[Tensor | None] = [None] * len(ins)
        for i in inner.live:
            spread[i] = next(results)
        return [s if e is not None else None for s, e in zip(spread, self.edges)]

    def free(self) -> None:
        self.saved = [None] * len(self.saved)
        self.outs = [(None, (), shape, dtype) for _, _, shape, dtype in self.outs]
        keep, keep_out = self.call.needs([e is not None for e in self.edges])
        self.freed = any(keep) or keep_out


def _modified(fn: GradFn, shape: Any, dtype: Any, now: int, then: int) -> str:
    where = describe_origin(fn.origin)
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{dtype.name} {list(shape)}], which is an argument or the output of {fn.name()}, is at version {now}; "
        f"expected version {then} instead." + (f" The operation was recorded at {where}." if where else "")
    )


def edge_of(t: Tensor) -> Any:
    """Where a gradient of ``t`` goes: (grad function, output number), the leaf itself, or None."""
    fn = t._history()
    if fn is not None:
        return fn, t._index
    return t if t._requires_grad else None


# -- the engine -----------------------------------------------------------------------------------


def _default_grad(t: Tensor) -> Tensor:
    from .tensor import from_node

    if t.numel() != 1:
        raise SpiralError(f"grad can be implicitly created only for scalar outputs, got shape {list(t.shape)}")
    return from_node(graph.full(1, tuple(t.shape), t.dtype))


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
        starts.append((edge, g))
    return starts


def run_engine(
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    wanted: Sequence[Tensor] | None = None,
) -> dict[Any, Tensor]:
    """Walk the tape from ``tensors``.  Returns gradients by edge key of the leaves (or of ``wanted``)."""
    from .tensor import add_grads

    pending: dict[GradFn, list[Tensor | None]] = {}
    heap: list[tuple[int, int, GradFn]] = []
    results: dict[Any, Tensor] = {}
    leaves: dict[Any, Tensor] = {}
    targets = {_key(edge_of(t)) for t in wanted} if wanted is not None else None
    needed = _ancestors(tensors, targets) if targets is not None else None

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

    with set_grad(create_graph):
        for edge, g in _start(tensors, grads):
            send(edge, g)
        while heap:
            fn = heapq.heappop(heap)[2]
            slots = pending.pop(fn)
            for index, g in enumerate(slots):
                if g is None:
                    continue
                for hook in fn.hooks.get(index, ()):
                    g = slots[index] = _hooked(hook, g)
                if targets is not None and (id(fn), index) in targets:
                    results[id(fn), index] = g
                elif targets is None and index in fn.retained:
                    t = fn.retained[index]()
                    if t is not None:
                        t.grad = g if t.grad is None else add_grads(t.grad, g)
            if needed is not None and fn not in needed:
                continue
            for edge, part in zip(fn.edges, fn.backward(slots, create_graph)):
                if part is not None:
                    send(edge, part)
            if not retain_graph:
                fn.free()
        for key, leaf in leaves.items():
            for hook in leaf._hooks or ():
                results[key] = _hooked(hook, results[key])
    return results


def _hooked(hook: Callable[..., Any], g: Tensor) -> Tensor:
    changed = hook(g)
    return g if changed is None else changed


def _key(edge: Any) -> Any:
    return (id(edge[0]), edge[1]) if isinstance(edge, tuple) else id(edge)


def _ancestors(tensors: Sequence[Tensor], targets: set[Any]) -> set[GradFn]:
    """The steps that lie between ``tensors`` and the targets."""
    state: dict[GradFn, bool] = {}
    for t in tensors:
        edge = edge_of(t)
        stack = [(edge[0], False)] if isinstance(edge, tuple) else []
        while stack:
            fn, ready = stack.pop()
            if not ready:
                if fn in state:
                    continue
                state[fn] = False
                stack.append((fn, True))
                stack.extend([(e[0], False) for e in fn.edges if isinstance(e, tuple)])
            else:
                state[fn] = any(
                    e is not None and (_key(e) in targets or (isinstance(e, tuple) and state.get(e[0], False)))
                    for e in fn.edges
                )
    return {fn for fn, reach in state.items() if reach}


class set_grad:
    """Grad mode for the engine: on only when the gradients are to be differentiable."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.before = mode.enabled
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self.before


def _sequence_of(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Accumulate gradients of ``tensors`` into the leaves' ``.grad`` (torch.autograd.backward)."""
    from .tensor import add_grads

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
        if not create_graph:
            g = g.detach() if g._fn is not None else g
        leaf.grad = g if leaf.grad is None else add_grads(leaf.grad, g)


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
            g = from_node(graph.full(0, tuple(t.shape), t.dtype))
        elif g is None and not allow_unused:
            raise SpiralError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
        out.append(g)
    return tuple(out)
