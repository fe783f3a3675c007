"""Compiled functions whose results require grad: their backward is part of what is compiled.

At trace time the tape is walked once with symbolic gradients.  What the backward graph needs from the
forward is saved where it was dear (a product, a reduction) and computed again where it was cheap;
the saved values become extra outputs of the program.  On the tape the whole call is one step, and its
backward graph is recorded like everything else, so it is found again by structure and fused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..autograd import run_engine
from ..errors import SpiralError
from ..ir import graph
from ..ir.node import Node, substitute, toposort
from ..ir.prims import MOVEMENT, ROWS
from ..storage import Storage
from ..tape import Call, GradFn, edge_of, mode
from ..tensor import Tensor, from_node

if TYPE_CHECKING:
    from .compile import Capture


class CompiledCall(Call):
    """The tape step of one call: gradients by substituting into the traced backward graph."""

    name = "CompiledBackward0"
    saves = "i"

    def __init__(
        self, template: Sequence[Node | None], mapping: dict[Node, Node], holes: Sequence[Node], error: Exception | None = None
    ) -> None:
        self.template, self.mapping, self.holes, self.error = list(template), mapping, list(holes), error

    def forward(self, nodes: Sequence[Node]) -> list[Node]:
        raise SpiralError("a compiled function's gradient cannot be differentiated again: compute it outside st.compile")

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        if self.error is not None:
            raise self.error
        mapping = dict(self.mapping)
        for hole, g in zip(self.holes, grads):
            mapping[hole] = graph.full(0, hole.shape, hole.dtype) if g is None else g
        live = [t for t in self.template if t is not None]
        found = iter(substitute(live, mapping))
        return [None if t is None else next(found) for t in self.template]


class Differentiable:
    """The backward of a capture: which results and inputs take part, its graph, what it saves; or the error that walking
    the tape raised, which a backward of the results is to raise."""

    def __init__(
        self, outs: list[int], inputs: list[Tensor], template: list[Node | None], holes: list[Node], error: Exception | None = None
    ) -> None:
        self.outs, self.inputs, self.template, self.holes, self.error = outs, inputs, template, holes, error
        self.saved: list[tuple[Node, Storage]] = []
        self.sources: list[tuple[Node, Any]] = []
        self.argument: list[int | None] = []

    def bind(self, capture: Capture, entry: Any) -> None:
        """Remember how each leaf of the backward graph is found at a later call."""
        bound = {n: b for n, b in zip(capture.form.leaves, entry.bindings)}
        numbers = capture.cells
        self.sources = [(n, ("saved", numbers[c])) for n, c in self.saved]
        for n in toposort([t for t in self.template if t is not None]):
            if n.op == "BUFFER" and n in bound:
                self.sources.append((n, bound[n]))
        index = {id(t): i for i, t in enumerate(capture.tensors)}
        self.argument = [index.get(id(t)) for t in self.inputs]

    def stand_in(self, results: Sequence[Any]) -> None:
        """Put the traced backward on the tape of a capture that is given up: tracing has used the results' own tape up."""
        self.sources, self.argument = [], [None] * len(self.inputs)
        self.attach(results, (), ())

    def attach(self, results: Sequence[Any], tensors: Sequence[Tensor], cells: Sequence[Storage]) -> None:
        """Put the call on the tape as what made ``results``."""
        mapping: dict[Node, Node] = {}
        for n, source in self.sources:
            if source[0] == "saved":
                mapping[n] = cells[source[1]].node
            elif source[0] == 0:
                mapping[n] = tensors[source[1]]._storage.node
            elif source[0] == 1:
                mapping[n] = source[1].node
        inputs = [t if a is None else tensors[a] for t, a in zip(self.inputs, self.argument)]
        outs = [results[k] for k in self.outs]
        for o in outs:
            o._fn = None
        fn = GradFn(CompiledCall(self.template, mapping, self.holes, self.error), inputs, outs)
        for k, o in enumerate(outs):
            o._fn, o._index, o._seen = fn, k, o._storage.version


class Dressed:
    """Results that are more than tensors that were computed: of a class of the user's, or leaves that require grad."""

    def __init__(self, results: Sequence[tuple[int, type, bool]], backward: Differentiable | None) -> None:
        self.results, self.backward = results, backward

    def attach(self, results: Sequence[Any], tensors: Sequence[Tensor], cells: Sequence[Storage]) -> None:
        """Put the call on the tape, and make of the tensors among ``results`` what the traced ones were."""
        if self.backward is not None:
            self.backward.attach(results, tensors, cells)
        for k, kind, is_leaf in self.results:
            results[k].__class__ = kind
            results[k]._requires_grad = is_leaf


def bound(capture: Capture, entry: Any) -> Differentiable | Dressed | None:
    """What a replay does with its results, and was done with those of the traced call; None when nothing is to be done."""
    d = capture.differentiable
    more = [
        (k, type(t), t._requires_grad) for k, t in enumerate(capture.results)
        if entry.outputs[k].given is None and (type(t) is not Tensor or t._requires_grad)
    ]  # fmt: skip
    if d is not None:
        d.bind(capture, entry)
        d.attach(capture.results, capture.tensors, list(capture.cells))
    return Dressed(more, d) if more else d


def _steps(fn: GradFn) -> Iterator[GradFn]:
    """The step and all before it."""
    seen = {fn}
    stack = [fn]
    while stack:
        f = stack.pop()
        yield f
        before = {e[0] for e in f.edges if isinstance(e, tuple)} - seen
        seen |= before
        stack.extend(before)


def consumed(fn: GradFn) -> bool:
    """Whether backward has gone through here: something that this step or one before it saved is freed."""
    return any(f.freed for f in _steps(fn))


def crosses(results: Sequence[Tensor]) -> bool:
    """Whether a gradient of ``results`` goes from one device to another, which no one program can do."""
    from ..transfer import ToCopy

    return any(getattr(f, "function", None) is ToCopy for t in results if t._fn is not None for f in _steps(t._fn))


def partition(capture: Capture) -> Differentiable | None:
    """The backward of a traced function, or None when no result requires grad.

    Adds the values to save to the capture's cells.
    """
    given = [t for t in capture.tensors if t._storage not in capture.trace.writes]
    outs = [k for k, t in enumerate(capture.results) if t._fn is not None and not consumed(t._fn) and not any([t is g for g in given])]
    if not outs or not mode.enabled:
        return None
    roots = [capture.results[k] for k in outs]
    leaves = _ends(roots, given)
    holes = [graph.param(("grad", k), tuple(t.shape), t.dtype) for k, t in zip(outs, roots)]
    from ..storage import queue

    before = queue.trace
    queue.trace = capture.trace
    grads: dict[Any, Tensor] = {}
    error = None
    try:
        starts = [from_node(h, t.device) for h, t in zip(holes, roots)]
        grads = run_engine(roots, starts, retain_graph=False, create_graph=False, wanted=leaves, ends=True)
    except Exception as e:
        error = e.with_traceback(None)
        for t in roots:
            t._fn = None  # what the tape holds is not kept: attach() puts the call there
    finally:
        queue.trace = before
    from ..autograd import _key

    found = [grads.get(_key(edge_of(t))) for t in leaves]
    template = [None if g is None else g._read() for g in found]
    d = Differentiable(outs, leaves, template, holes, error)
    d.saved = _save(d, capture)
    return d


def _ends(roots: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Where the function's part of the tape ends: arguments, whatever they were made of, and leaves that it found itself."""
    from ..autograd import _key

    arguments = {_key(edge_of(t)): t for t in reversed(given) if t.requires_grad}
    found: dict[int, Tensor] = {}
    seen: set[GradFn] = set()
    stack: list[Any] = [edge_of(t) for t in roots]
    while stack:
        e = stack.pop()
        if e is None:
            continue
        end = arguments.get(_key(e), None if isinstance(e, tuple) else e)
        if end is not None:
            found[id(end)] = end
        elif e[0] not in seen:
            seen.add(e[0])
            stack.extend(e[0].edges)
    return list(found.values())


def _save(d: Differentiable, capture: Capture) -> list[tuple[Node, Storage]]:
    """Forward values that the backward graph reads and that were dear to make."""
    live = [t for t in d.template if t is not None]
    holes = set(d.holes)
    late: set[Node] = set()
    order = toposort(live)
    for n in order:
        if n in holes or any(s in late for s in n.src):
            late.add(n)
    where = capture.results[d.outs[0]].device
    wanted: dict[Node, None] = {}
    stack = [s for n in order if n in late for s in n.src if s not in late]
    seen: set[Node] = set()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if n.op in ("BUFFER", "CONST", "IOTA"):
            continue
        if (n.op in ROWS and _cheap(n)) or n.op in MOVEMENT or n.op == "COPY":
            stack.extend(n.src)
        else:
            wanted[n] = None
    saved = []
    for n in wanted:
        t = from_node(n, where)
        capture.cells.setdefault(t._storage, len(capture.cells))
        saved.append((n, t._storage))
    return saved


def _cheap(n: Node) -> bool:
    from .stages import weight

    return weight(n.op) <= 4
