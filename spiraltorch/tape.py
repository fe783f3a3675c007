"""The tape's steps: what was computed from what, and how each step passes gradients on.

Every differentiable call makes one :class:`GradFn`, which holds a :class:`Call` (nodes in, nodes out,
and its vector-Jacobian product), edges to where its inputs came from, and the tensors its
derivative looks at.  :mod:`spiraltorch.autograd` walks the steps.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import again
from .device import CPU
from .dtypes import DType
from .errors import DtypeError, Origin, SpiralError, VersionError, describe_origin
from .ir import graph
from .ir.node import Node
from .ops.gradients import derivative_names, vjp
from .ops.registry import Op
from .storage import Step, apply_steps, queue, seen_writes, write_through

if TYPE_CHECKING:
    from .tensor import Tensor

_sequence = itertools.count()
_numbers = itertools.count()


class _Mode(threading.local):
    enabled = True
    packing: Any = None  # (pack, unpack) of saved tensors, in a ``with saved_tensors_hooks``
    walk: Any = None  # the backward pass in progress: its roots, the steps it needs, and the ends that were asked for


mode = _Mode()


class Call:
    """A differentiable function of nodes.  Subclasses say ``forward``; ``vjp`` differentiates it."""

    name = "Call"
    saves: str | None = "i"
    fixed: Sequence[int] = ()  # outputs that are no function of the inputs as far as gradients go
    undefined = False  # whether there are inputs without a derivative
    seen: dict[Any, Any] | None = None  # gradients that were recorded before, of a call that is kept

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        raise NotImplementedError(type(self).__name__)

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        """Gradients for ``nodes``; ``outs`` are the saved outputs, equal in value to ``forward(nodes)``."""
        holes = placeholders(nodes)
        again = self.forward(holes)
        known = {a: o for a, o in zip(again, outs) if a is not o and not _is_unsaved(o)}
        known.update({h: n for h, n in zip(holes, nodes) if h is not n})
        return vjp(again, holes, grads, known)

    def refuse(self, wanted: Sequence[bool]) -> None:
        """Raise where an input in ``wanted`` has no derivative."""

    def needs(self, wanted: Sequence[bool]) -> tuple[Sequence[bool], bool | Sequence[bool]]:
        """Which inputs and which outputs (all, none, or each said) must be saved when the inputs in ``wanted`` need
        gradients."""
        inputs = "i" in (self.saves or "")
        return [inputs] * len(wanted), "o" in (self.saves or "")


def placeholders(nodes: Sequence[Node]) -> list[Node]:
    """``nodes`` as distinct leaves, so that each position gets a gradient of its own and no peephole of the
    constructors looks through an input."""
    seen: set[Node] = set()
    out = []
    for i, n in enumerate(nodes):
        if n in seen or n.op not in ("BUFFER", "PARAM"):
            n = graph.param(("unsaved" if _is_unsaved(n) else "input", i), n.shape, n.dtype)
        seen.add(n)
        out.append(n)
    return out


def unsaved(i: int, shape: Sequence[int], dtype: DType) -> Node:
    """In the place of a value that no derivative looks at."""
    return graph.param(("unsaved", i), tuple(shape), dtype)


def _is_unsaved(n: Node) -> bool:
    return n.op == "PARAM" and isinstance(n.arg, tuple) and n.arg[0] == "unsaved"


def _zeros_where_none(found: Sequence[Node | None], nodes: Sequence[Node]) -> list[Node | None]:
    """As in torch, an operand that the result happens not to depend on (overwritten whole, times 0) is used in the graph."""
    return [graph.full(0, n.shape, n.dtype) if f is None and n.dtype.kind in "fc" else f for f, n in zip(found, nodes)]


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
    def fixed(self) -> Sequence[int]:  # type: ignore[override]
        return [self.op.results.index(name) for name in self.op.fixed] if self.op.fixed else ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.op.name.title().replace("_", "") + "Backward0"

    @property
    def undefined(self) -> bool:  # type: ignore[override]
        return bool(self.op.undefined)

    def refuse(self, wanted: Sequence[bool]) -> None:
        """Raise NotImplementedError where the gradient of an argument is wanted that has none (zeta's order)."""
        named = dict(zip(self.op.parameters, self.args)) | self.kwargs
        for name in self.op.undefined:
            if any([wanted[h] for h in holes_in(named.get(name))]):
                raise DtypeError(f"the derivative for '{self.op.name}: {name}' is not implemented.")

    def _bound(self, nodes: Sequence[Node]) -> tuple[list[Any], dict[str, Any]]:
        return [fill(a, nodes) for a in self.args], {k: fill(v, nodes) for k, v in self.kwargs.items()}

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        args, kwargs = self._bound(nodes)
        out = self.op.apply(args, kwargs)
        return list(out) if isinstance(out, (list, tuple)) else [out]

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        if self.op.grad is None:
            found = super().vjp(grads, outs, nodes)
        else:
            args, kwargs = self._bound(nodes)
            filled = [graph.full(0, o.shape, o.dtype) if g is None else g for g, o in zip(grads, outs)]
            found = self.op.gradients(filled, outs, args, kwargs)
        return _zeros_where_none(found, nodes)

    def needs(self, wanted: Sequence[bool]) -> tuple[Sequence[bool], bool | Sequence[bool]]:
        op = self.op
        if op.row is not None and op.saves is None and op.grad is None:
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
            return [h in held for h in range(len(wanted))], [name in saves for name in op.results]
        return ["i" in saves] * len(wanted), "o" in saves


class WriteCall(Call):
    """An in-place write of a value through a view: (cell, value) -> cell."""

    name = "CopySlices"
    saves = ""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        return [write_through(nodes[0], self.steps, nodes[1])]

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        if grads[0] is None:
            return [None, None]
        return _zeros_where_none(super().vjp(grads, outs, nodes) if self.steps else [None, grads[0]], nodes)


class ViewCall(Call):
    """A view of a tensor, or one made anew after its cell was written: tensor -> view."""

    saves = ""

    def __init__(self, steps: Sequence[Step], name: str = "AsStridedBackward0") -> None:
        self.steps = tuple(steps)
        self.name = name

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        return [apply_steps(nodes[0], self.steps)]


class VjpCall(Call):
    """The gradient of another call, as a function of what there is of (grads, outputs, inputs): for ``create_graph``.

    In each of the three lists True stands for a tensor; None and placeholders stand for themselves.
    """

    saves = "i"

    def __init__(self, inner: Call, *lists: Sequence[Any]) -> None:
        self.inner = inner
        self.lists = [[v if v is None or isinstance(v, Node) else True for v in values] for values in lists]
        self.live: list[int] = []

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.inner.name.replace("Backward0", "") + "BackwardBackward0"

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        supplied = iter(nodes)
        filled: list[list[Any]] = [[next(supplied) if v is True else v for v in values] for values in self.lists]
        found = self.inner.vjp(*filled)
        self.live = [i for i, f in enumerate(found) if f is not None]
        return [f for f in found if f is not None]


Edge = "tuple[GradFn, int] | Tensor | None"


class TapeNode:
    """What ``grad_fn`` and its ``next_functions`` are (torch.autograd.graph.Node)."""

    __slots__ = ()

    def name(self) -> str:
        raise NotImplementedError(type(self).__name__)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """Where the gradients of the operands go: (function, number of its output)."""
        raise NotImplementedError(type(self).__name__)

    @property
    def metadata(self) -> dict[Any, Any]:
        """Whatever a user wants to keep here."""
        return self._hooks("metadata")

    def register_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(grad_inputs, grad_outputs)`` after this step of backward; what it returns replaces the first."""
        return RemovableHandle(self._hooks("post"), hook)

    def register_prehook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(grad_outputs)`` before this step of backward; what it returns replaces them."""
        return RemovableHandle(self._hooks("pre"), hook)

    def _hooks(self, kind: str) -> dict[Any, Any]:
        raise NotImplementedError(type(self).__name__)


class GradFn(TapeNode):
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
        self.saved: list[Any] = [t if k else None for t, k in zip(inputs, keep)]
        self.versions = [t._storage.version for t in inputs]
        self.types = [(t.shape, t.dtype) for t in inputs]
        kept = [keep_out] * len(outputs) if isinstance(keep_out, bool) else [*keep_out, *[False] * len(outputs)]
        self.outs: list[tuple[Any, ...]] = [(o._storage if k else None, o._steps, o.shape, o.dtype) for o, k in zip(outputs, kept)]
        self.out_versions = [o._storage.version for o in outputs]
        self.hooks: dict[Any, dict[Any, Any]] = {}  # by the number of an output; "pre" and "post" are of the step itself
        self.retained: dict[int, weakref.ref[Tensor]] = {}
        self.origin: Origin | None = None
        self.freed = False
        if mode.packing is not None:
            self._pack(outputs)

    def _pack(self, outputs: Sequence[Tensor]) -> None:
        """Give what was saved to the user's hooks."""
        self.saved = [t if t is None else Packed(t) for t in self.saved]
        self.outs = [(None if o[0] is None else Packed(t.detach(), (self, i)), *o[1:]) for i, (o, t) in enumerate(zip(self.outs, outputs))]

    def _hooks(self, kind: str) -> dict[Any, Any]:
        return self.hooks.setdefault(kind, {})

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def name(self) -> str:
        """As torch names it: MulBackward0."""
        from .autograd_names import operator_name, view_name

        call = self.call
        ranks = [len(shape) for shape, _ in self.types]
        if isinstance(call, OpCall):
            return operator_name(call.op.name, [*call.args, *call.kwargs.values()], ranks)
        return view_name(call.name, ranks[0], len(self.outs[0][2])) if isinstance(call, ViewCall) else call.name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        return tuple([e if isinstance(e, tuple) else (None if e is None else accumulator(e), 0) for e in self.edges])

    def _inputs(self) -> list[Any]:
        """Saved tensors, checked, and placeholders for the others."""
        out: list[Any] = []
        for i, (t, version, (shape, dtype)) in enumerate(zip(self.saved, self.versions, self.types)):
            if t is None:
                out.append(unsaved(i, shape, dtype))
                continue
            if type(t) is Packed:
                out.append(t.unpack())
                continue
            if t._storage.version != version and seen_writes(t._storage, version):
                raise VersionError(_modified(self, shape, dtype, t._storage.version, version))
            out.append(t)
        return out

    def _outputs(self) -> list[Any]:
        """Saved outputs as tensors that came from here, checked, and placeholders for the others."""
        from .tensor import tensor_over

        out: list[Any] = []
        for i, ((cell, steps, shape, dtype), version) in enumerate(zip(self.outs, self.out_versions)):
            if cell is None:
                out.append(unsaved(-1 - i, shape, dtype))
                continue
            if type(cell) is Packed:
                out.append(cell.unpack())
                continue
            if cell.version != version and seen_writes(cell, version):
                raise VersionError(_modified(self, shape, dtype, cell.version, version))
            t = tensor_over(cell, steps)
            t._fn, t._index, t._seen = self, i, cell.history_version
            out.append(t)
        return out

    def backward(self, grads: Sequence[Tensor | None], create_graph: bool) -> list[Tensor | None]:
        """Gradients for the inputs, given those of the outputs."""
        from .tensor import from_node, record_call

        if self.freed:
            raise SpiralError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Specify retain_graph=True if you need to backward through the graph a "
                "second time."
            )
        lists = grads, self._outputs(), self._inputs()
        if create_graph:
            call = VjpCall(self.call, *lists)
            made = iter(record_call(call, [v for values in lists for v in values if v is not None and not isinstance(v, Node)]))
            found = [next(made) if i in call.live else None for i in range(len(self.edges))]
            return [None if e is None else f for f, e in zip(found, self.edges)]
        read: list[list[Any]] = [[v if v is None or isinstance(v, Node) else v._read() for v in values] for values in lists]
        nodes = self.call.vjp(*read) if queue.trace is not None else again.vjp(self.call, read, self.origin)
        for n in nodes:  # a gradient comes from the line whose operation it differentiates
            if n is not None and n.origin is None:
                n.origin = self.origin
        where = next((g._storage.device for g in grads if g is not None), CPU)
        return [None if n is None or e is None else from_node(n, where) for n, e in zip(nodes, self.edges)]

    def free(self) -> None:
        self.saved = [None] * len(self.saved)
        self.outs = [(None, (), shape, dtype) for _, _, shape, dtype in self.outs]
        keep, keep_out = self.call.needs([e is not None for e in self.edges])
        self.freed = any(keep) or (keep_out if isinstance(keep_out, bool) else any(keep_out))


def _saved(name: str) -> property:
    """What a step looks at, by torch's names (``_saved_self``)."""

    def get(self: GradFn) -> Any:
        call = self.call
        if isinstance(call, OpCall):
            if name == "result":
                return self._outputs()[0]
            named = dict(zip(call.op.parameters, call.args)) | call.kwargs
            key = call.op.parameters[0] if name == "self" else name
            if key in named:
                value = named[key]
                return self._inputs()[value.index] if type(value) is Hole else value
        raise AttributeError(f"'{self.name()}' object has no attribute '_saved_{name}'")

    return property(get)


for _name in ("self", "other", "result", "exponent", "dim", "weight", "input", "bias", "mask", "index", "target"):
    setattr(GradFn, f"_saved_{_name}", _saved(_name))  # properties: a __getattr__ would slow every attribute down


def _modified(fn: GradFn, shape: Any, dtype: Any, now: int, then: int) -> str:
    where = describe_origin(fn.origin)
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{dtype.name} {list(shape)}], which is an argument or the output of {fn.name()}, is at version {now}; "
        f"expected version {then} instead." + (f" The operation was recorded at {where}." if where else "")
    )


class Packed:
    """What a user's hook made of a saved tensor (torch.autograd.graph.saved_tensors_hooks), and where that came from."""

    __slots__ = ("value", "back", "edge")

    def __init__(self, t: Tensor, edge: Any = None) -> None:
        pack, self.back = mode.packing
        self.edge = edge_of(t) if edge is None else edge
        mode.packing = None  # what the hook computes is not packed
        try:
            self.value = pack(t)
        finally:
            mode.packing = pack, self.back

    def unpack(self) -> Tensor:
        """The tensor, on the tape where the saved one was."""
        from .tensor import Tensor, tensor_over

        found = self.back(self.value)
        if not isinstance(found, Tensor):
            raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(found).__name__}")
        t = tensor_over(found._storage, found._steps)
        t._detached = True
        if isinstance(self.edge, tuple):
            t._fn, t._index = self.edge
        elif self.edge is not None:
            t._fn = GradFn(ViewCall(()), [self.edge], [t])
        return t


class AccumulateGrad(TapeNode):
    """The end of a graph: a gradient is added to ``variable.grad``."""

    __slots__ = ("variable", "__weakref__")

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def __repr__(self) -> str:
        return "<AccumulateGrad>"

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        return ()

    def _hooks(self, kind: str) -> dict[Any, Any]:
        kept: dict[str, dict[Any, Any]] = self.variable.__dict__.setdefault("_accumulator", {"pre": {}, "post": {}, "metadata": {}})
        return kept[kind]


def accumulator(leaf: Tensor) -> AccumulateGrad:
    """The one end of graphs at ``leaf``."""
    kept = leaf.__dict__.get("_end")
    found = None if kept is None else kept()
    if found is None:
        found = AccumulateGrad(leaf)
        leaf.__dict__["_end"] = weakref.ref(found)
    return found


class GradientEdge(NamedTuple):
    """A place in the graph that gradients go to: the ``output_nr``-th output of ``node`` (torch.autograd.graph.GradientEdge)."""

    node: Any
    output_nr: int
    ownership_token: Any = None


def edge_of(t: Tensor) -> Any:
    """Where a gradient of ``t`` goes: (grad function, output number), the leaf itself, or None."""
    fn = t._history()
    if fn is not None:
        return fn, t._index
    return t if t._requires_grad else None


class RemovableHandle:
    """Takes a hook out again with ``remove()``; also a context manager."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self.id = hooks, next(_numbers)
        hooks[self.id] = hook

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()
