"""The connectionist temporal classification loss: labels of a sequence whose alignment is not known.

In: log probabilities [T, N, C], labels [N, S], the lengths of both.  Out: a loss a sample.  The sums over
alignments are a library routine (:mod:`spiraltorch.kernels.library.alignment`).

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> logs, labels = graph.param(0, (5, 2, 4), dtypes.float32), graph.param(1, (2, 3), dtypes.int64)
    >>> lengths = graph.param(2, (2,), dtypes.int64)
    >>> OPS["ctc_loss"].apply([logs, labels, lengths, lengths], {}).shape
    (2,)
"""

from __future__ import annotations

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .registry import op, raise_dtype

T = s.T
INF = float("inf")


def _padded(targets: Node, lengths: Node, classes: int, most: int) -> Node:
    """Labels [N, most], 0 beyond each sample's; of vectors that stand one after the other too.  Checked to be classes."""
    n = lengths.size
    shape = (n, most)
    place = graph.iota(shape, 1)
    if len(targets.shape) == 1:
        starts = graph.reshape(graph.scan(lengths, "add", 0) - lengths, (n, 1))
        nearest = lang.minimum(place + starts, max(targets.size - 1, 0))
        targets = graph.gather(targets, nearest, 0) if targets.size else graph.full(0, shape, dtypes.int64)
    else:
        targets = graph.slice_(targets, ((0, n, 1), (0, most, 1)))
    targets = lang.where(lang.lt(place, graph.reshape(lengths, (n, 1))), targets, 0)
    return graph.gather(graph.iota((classes,), 0), targets, 0)


def _operands(log_probs: Node, targets: Node, input_lengths: Node, target_lengths: Node, most: int | None) -> list[Node]:
    spans, sizes = (cast(t, dtypes.int64) for t in (input_lengths, target_lengths))
    width = targets.shape[-1] if most is None else most
    return [log_probs, _padded(cast(targets, dtypes.int64), sizes, log_probs.shape[2], width), spans, sizes]


def _ctc_grad(g: Node, out: Node, log_probs: Node, targets: Node, input_lengths: Node, target_lengths: Node, blank: int = 0,
              most: int | None = None) -> list[Node | None]:  # fmt: skip
    inputs = _operands(log_probs, targets, input_lengths, target_lengths, most)
    beginnings = _beginnings(inputs, blank)
    operands = (*inputs, beginnings, _total(beginnings, *inputs[2:]))
    found = graph.call("alignment.gradient", operands, log_probs.shape, log_probs.dtype, int(blank))
    up = graph.broadcast(graph.reshape(g, (1, log_probs.shape[1], 1)), found.shape)
    return [lang.where(lang.eq(up, 0), 0, found * up), None, None, None]  # of an infinite loss nobody asked for, found is nan


def _beginnings(inputs: list[Node], blank: int) -> Node:
    """The forward sums: where loss and gradient are computed in one go, they are the same node."""
    steps, samples, _ = inputs[0].shape
    return graph.call("alignment.forward", tuple(inputs), (samples, steps, 2 * inputs[1].shape[1] + 1), dtypes.float64, int(blank))


def _total(beginnings: Node, spans: Node, sizes: Node) -> Node:
    """-log of the probability of whole alignments, which end at the last label or at the blank behind it."""
    each = (spans.size, 1, 1)
    here = lang.eq(graph.iota(beginnings.shape, 1), graph.reshape(spans - 1, each))
    place, ends = graph.iota(beginnings.shape, 2), graph.reshape(sizes + sizes, each)
    last = [fold("max", lang.where(here & lang.eq(place, ends - k), beginnings, -INF), (1, 2)) for k in (0, 1)]
    high, low = lang.maximum(*last), lang.minimum(*last)
    total = lang.where(lang.eq(low, -INF), high, high + lang.log1p(lang.exp(low - high)))
    return lang.where(lang.eq(spans, 0), lang.where(lang.eq(sizes, 0), lang.full_like(total, -0.0), INF), -total)


def _lengths(*values: int) -> T:
    return T(*values, fill="ones", dtype=dtypes.int64)


@op("ctc_loss", acc=False, where=(), grad=_ctc_grad, saves="i", torch_name="nn.functional.ctc_loss", tolerance=1e-4, samples=s.calls(
    s.call(T(5, 2, 4), T(2, 3, fill="index", high=3), _lengths(2), _lengths(2), 3),
    s.call(T(7, 3, 5), T(3, 1, fill="index", high=4), T(3, fill="index", high=7), _lengths(3), 4),
    s.call(T(4, 2, 3), T(2, fill="index", high=2), T(2, fill="index", high=4), _lengths(2), 2, 1)))  # fmt: skip
def ctc_loss(log_probs: Node, targets: Node, input_lengths: Node, target_lengths: Node, blank: int = 0,
             most: int | None = None) -> Node:  # fmt: skip
    """-log of the probability of each sample's labels [N]: ``targets`` are [N, S] or one after the other, no sample's has
    more than ``most``.  (torch.nn.functional.ctc_loss)"""
    if log_probs.dtype not in (dtypes.float32, dtypes.float64):
        raise_dtype(ctc_loss, log_probs.dtype)
    if not log_probs.size:
        raise SpiralError("log_probs tensor must not be empty")
    if len(targets.shape) not in (1, 2):
        raise ShapeError(f"targets tensor should be 1 or 2 dimensional, but got {len(targets.shape)}")
    if not 0 <= blank < log_probs.shape[2]:
        raise SpiralError("blank must be in label range")
    inputs = _operands(log_probs, targets, input_lengths, target_lengths, most)
    return cast(_total(_beginnings(inputs, blank), *inputs[2:]), log_probs.dtype)


__all__ = ["ctc_loss"]
