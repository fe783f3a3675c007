"""``st.explain``: what the launches of a program are, where they come from, what they cost, why they are apart.

In: a tensor that is not computed yet, or what ``f.lower(...)`` returned.  Out: an :class:`Explanation`.

    >>> import spiraltorch as st
    >>> x = st.zeros(4, 8)
    >>> report = st.explain((x @ x.T).softmax(-1).sum(0))
    >>> [launch.kind for launch in report.launches][0]
    'matmul'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import describe_origin
from ..ir.kernel import Gemm, Kernel
from ..ir.node import Node, origins, toposort
from .cost import Cost, count, launch_cost, readable
from .show import Inspection

if TYPE_CHECKING:
    from ..jit.plan import Step
    from ..jit.program import Lowered
    from ..tensor import Tensor

_KINDS = {"map": "pointwise", "row": "rows", "update": "update", "call": "library", "dot": "matmul"}
_ALONE = {
    "dot": "a matrix product begins a launch of its own and takes in what reads its result",
    "update": "a write into a part of a tensor is a launch of its own",
    "call": "a library kernel is a launch of its own",
}
MOST_REASONS = 4  # sentences shown for one launch


@dataclass(frozen=True)
class LaunchReport:
    """One launch.  results: what it stores.  lines: the user's lines it computes.  reasons: why what it
    computes is not part of an earlier launch.  instances: rows of arguments it runs over."""

    kind: str
    kernel: str
    instances: int
    results: tuple[str, ...]
    lines: tuple[str, ...]
    cost: Cost
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Every launch of a program; ``print`` it."""

    launches: tuple[LaunchReport, ...]
    kernels: int
    arena: int

    @property
    def cost(self) -> Cost:
        return sum((x.cost for x in self.launches), Cost())

    def __str__(self) -> str:
        c = self.cost
        head = (
            f"{len(self.launches)} launches of {self.kernels} kernels: "
            f"{readable(c.read)} read, {readable(c.written)} written, "
            f"{count(c.flops)} operations, {readable(self.arena)} of temporaries"
        )
        return "\n".join([head, *[_describe(k, x) for k, x in enumerate(self.launches, 1)]])

    __repr__ = __str__


def _describe(number: int, x: LaunchReport) -> str:
    many = f" x{x.instances}" if x.instances > 1 else ""
    c = x.cost
    moved = f"reads {readable(c.read)}, writes {readable(c.written)}, {count(c.flops)} operations"
    lines = [f"{number}. {x.kind}{many} {x.kernel}: {moved}", f"     makes {', '.join(x.results)}"]
    if x.lines:
        lines.append(f"     from {', '.join(x.lines)}")
    lines += [f"     apart: {reason}" for reason in x.reasons]
    return "\n".join(lines)


def explain(what: Any) -> Explanation:
    """Explain a pending tensor, or the result of ``f.lower(...)``.

    Computes nothing.  Raises ValueError for a tensor that already has its value, TypeError for anything else.
    """
    lowered = _lowered(what)
    steps: Sequence[Step] = lowered.steps
    number = {id(x.group): k for k, s in enumerate(steps, 1) for x in s.launches if x.group is not None}
    lines = lines_of(lowered)
    reports = tuple(_report(step, number, lines(step)) for step in steps)
    return Explanation(reports, len(lowered.kernels), lowered.schedule.arena)


def _lowered(what: Any) -> Lowered:
    from ..jit.program import Lowered
    from ..tensor import Tensor

    if isinstance(what, Inspection):
        return what.lowered
    if isinstance(what, Lowered):
        return what
    if isinstance(what, Tensor):
        return _of_tensor(what)
    raise TypeError(f"explain() takes a tensor or what f.lower(...) returned, not {type(what).__name__}")


def _of_tensor(t: Tensor) -> Lowered:
    from ..jit.eager import canonical
    from ..jit.program import lower

    node = t._storage.node
    if node.op == "BUFFER":
        raise ValueError("the tensor already has its value; explain it before it is looked at, or use f.lower(...)")
    return lower(canonical([node], t.device).roots([node]), [None])


def _report(step: Step, number: dict[int, int], lines: tuple[str, ...]) -> LaunchReport:
    k = step.kernel
    groups = [x.group for x in step.launches if x.group is not None]
    kind = _KINDS[groups[0].kind] if groups else "library" if not isinstance(k, (Kernel, Gemm)) else "copy"
    results = dict.fromkeys(f"{n.op} {n.dtype.name}{list(n.shape)}" for x in step.launches for n in x.outs)
    cost = sum((launch_cost(x) for x in step.launches), Cost())
    reasons: dict[str, None] = {}
    for g in groups:
        if g.kind in _ALONE:
            reasons[_ALONE[g.kind]] = None
        for stage in g.stages:
            for other, sentence in stage.refusals:
                if id(other) in number and other is not g:
                    reasons[
                        f"{stage.node.op} {list(stage.node.shape)} is not in launch {number[id(other)]}: {sentence}"
                    ] = None
    return LaunchReport(
        kind, k.key, len(step.launches), tuple(results), lines, cost, tuple(list(reasons)[:MOST_REASONS])
    )  # fmt: skip


def lines_of(lowered: Lowered) -> Callable[[Step], tuple[str, ...]]:
    """A function that gives the user's lines a step computes, in the order of the data."""
    origin = origins(toposort(lowered.simplified))
    boundaries = {s.node for g in lowered.groups for s in g.stages}

    def lines(step: Step) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for x in step.launches:
            for n in _inside(x.origins, boundaries):
                found[describe_origin(origin.get(n, n.origin))] = None
        found.pop("", None)
        return tuple(found)

    return lines


def _inside(results: Sequence[Node], boundaries: set[Node]) -> list[Node]:
    """What a launch computes: every node between its inputs and ``results``, operands first."""
    out: list[Node] = []
    seen: set[Node] = set()
    stack = [(n, False) for n in reversed(results)]
    while stack:
        n, ready = stack.pop()
        if ready:
            out.append(n)
        elif n not in seen:
            seen.add(n)
            stack.append((n, True))
            stack.extend((s, False) for s in reversed(n.src) if s not in boundaries)
    return out


__all__ = ["Explanation", "LaunchReport", "explain", "lines_of"]
