"""Tables that are read by number: embeddings, bags of them, and one-hot rows.

In: int64 or int32 numbers and a table [rows, features].  Out: rows of the table, or sums, means and maxima of several.  A
number that is no row raises when the value is looked at.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> at, table = graph.param(0, (2, 3), dtypes.int64), graph.param(1, (10, 4), dtypes.float32)
    >>> OPS["embedding"].apply([at, table], {}).shape, OPS["embedding_bag"].apply([at, table], {}).shape
    ((2, 3, 4), (2, 4))
"""

from __future__ import annotations

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .gradients import vjp
from .registry import op

T = s.T


def _numbers(name: str, index: Node) -> Node:
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise SpiralError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            f"{index.dtype.name} instead (while checking arguments for {name})"
        )
    return cast(index, dtypes.int64)


def _by_frequency(gradient: Node, index: Node) -> Node:
    """The gradient of each row over how often it is named."""
    at = graph.reshape(index, (index.size,))
    ones = graph.full(1, at.shape, gradient.dtype.acc)
    times = graph.scatter_add(graph.full(0, gradient.shape[:1], ones.dtype), at, ones, 0)
    return gradient / graph.reshape(cast(lang.maximum(times, 1), gradient.dtype), (times.size, 1))


def _embedding_grad(g: Node, out: Node, input: Node, weight: Node, padding_idx: int | None = None,
                    max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                    sparse: bool = False) -> list[Node | None]:  # fmt: skip
    at = graph.reshape(cast(input, dtypes.int64), (input.size,))
    rows = graph.reshape(cast(g, g.dtype.acc), (input.size, weight.shape[1]))
    if padding_idx is not None:
        skipped = lang.eq(graph.reshape(at, (input.size, 1)), padding_idx % weight.shape[0])
        rows = lang.where(skipped, 0, rows)
    found = graph.scatter_add(graph.full(0, weight.shape, rows.dtype), at, rows, 0)
    return [None, _by_frequency(found, at) if scale_grad_by_freq else found]


@op("embedding", kinds="buifc", acc=False, saves=("input",), grad=_embedding_grad, where=(),
    torch_name="nn.functional.embedding", samples=s.calls(
    s.call(T(2, 3, fill="index", high=5), T(5, 4)), s.call(T(7, fill="index", high=5), T(5, 4), 2),
    s.call(T(7, fill="index", high=5), T(5, 4), padding_idx=-1), s.call(T(fill="index", high=5), T(5, 4)),
    s.call(T(0, fill="index", high=5), T(5, 4)),
    s.call(T(2, 9, fill="index", high=5), T(5, 1), 2, scale_grad_by_freq=True)))  # fmt: skip
def embedding(input: Node, weight: Node, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Node:  # fmt: skip
    """Row ``weight[i]`` for each index ``i`` of ``input``; row ``padding_idx`` gets no gradient, others theirs over how
    often they come if ``scale_grad_by_freq``; gradients are dense.  (torch.nn.functional.embedding)"""
    if len(weight.shape) != 2:
        raise ShapeError("'weight' must be 2-D")
    at = _numbers("embedding", input)
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise AssertionError("Padding_idx must be within num_embeddings")
    return graph.gather(weight, at, 0)


# -- bags -------------------------------------------------------------------------------------------------


def _bags(offsets: Node, count: int, closed: bool) -> tuple[Node, int]:
    """(the bag of each of ``count`` places, how many bags): bag k begins at ``offsets[k]``; the last offset ends the last
    bag if ``closed``.  Places before the first one, and offsets that fall, are in no bag."""
    bags = offsets.size - int(closed)
    before = graph.pad(graph.slice_(offsets, ((0, max(offsets.size - 1, 0), 1),)), ((min(1, offsets.size), 0, 0),))
    starts = lang.where(lang.lt(offsets, before), -1, offsets)
    marks = graph.scatter_add(graph.full(0, (count + 1,), dtypes.int64), starts, graph.full(1, offsets.shape, dtypes.int64), 0)
    return graph.slice_(graph.scan(marks, "add", 0), ((0, count, 1),)) - 1, bags


def _embedding_bag_grad(g: Node, out: Node, input: Node, weight: Node, offsets: Node | None = None,
                        per_sample_weights: Node | None = None, mode: str = "mean", scale_grad_by_freq: bool = False,
                        include_last_offset: bool = False, padding_idx: int | None = None) -> list[Node | None]:  # fmt: skip
    own = [t for t in (input, weight, offsets, per_sample_weights) if t is not None]
    again = embedding_bag.body(input, weight, offsets, per_sample_weights, mode, False, include_last_offset, padding_idx)
    found = vjp([again], own, [g])
    if scale_grad_by_freq and found[1] is not None:
        found[1] = _by_frequency(found[1], cast(input, dtypes.int64))
    return found


@op("embedding_bag", acc=False, where=(), torch_name="embedding_bag", grad=_embedding_bag_grad, samples=s.calls(
    s.call(T(2, 3, fill="index", high=5), T(5, 4)), s.call(T(2, 3, fill="index", high=5), T(5, 4), None, T(2, 3), "sum"),
    s.call(T(4, 6, fill="index", high=9), T(9, 2), mode="max"), s.call(T(4, 6, fill="index", high=3), T(3, 1), padding_idx=-1),
    s.call(T(4, 6, fill="index", high=3), T(3, 4), mode="max", padding_idx=0), s.call(T(0, 3, fill="index", high=5), T(5, 4)),
    s.call(T(9, fill="index", high=4), T(4, 3), T(1, fill="index", high=1), mode="sum")))  # fmt: skip
def embedding_bag(input: Node, weight: Node, offsets: Node | None = None, per_sample_weights: Node | None = None,
                  mode: str = "mean", scale_grad_by_freq: bool = False, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Node:  # fmt: skip
    """The sum, mean or maximum of the rows ``weight[i]`` for the numbers in each row of ``input``, or from each offset of a
    flat ``input`` to the next; ``padding_idx`` does not count, empty bags are 0.  (torch.nn.functional.embedding_bag)"""
    at = _numbers("embedding_bag", input)
    if weight.dtype.kind != "f":
        raise SpiralError(f"Expected 'weight' to be Half, BFloat16, Float or Double; but got {weight.dtype.name} (embedding_bag)")
    if per_sample_weights is not None and per_sample_weights.dtype is not weight.dtype:
        raise SpiralError(
            f"Expected 'weight' to have the same type as 'per_sample_weights'; but {weight.dtype.name} does not equal "
            f"{per_sample_weights.dtype.name} (embedding_bag)"
        )
    table, features = weight.shape
    if padding_idx is not None and not -table <= padding_idx < table:
        raise SpiralError(f"padding_idx must be within the number of embeddings, -{table} through {table - 1}, but got {padding_idx}")
    wide = weight.dtype.acc
    rows = cast(graph.gather(weight, at, 0), wide)
    if per_sample_weights is not None:
        rows = rows * graph.reshape(cast(per_sample_weights, wide), (*at.shape, 1))
    counts = None if padding_idx is None else graph.reshape(lang.ne(at, padding_idx % table), (*at.shape, 1))
    nothing = float("-inf") if mode == "max" else 0
    rows = rows if counts is None else lang.where(counts, rows, nothing)
    ones = graph.full(1, (*at.shape, 1), wide) if counts is None else cast(counts, wide)
    how = "max" if mode == "max" else "add"
    if offsets is None:
        found, size = fold(how, rows, 1), fold("add", ones, 1)
    else:
        bag, bags = _bags(cast(offsets, dtypes.int64), at.size, include_last_offset)
        room = bags + int(include_last_offset)  # what follows the last offset
        found = graph.scatter(graph.full(nothing, (room, features), wide), bag, rows, 0, how)
        size = graph.scatter_add(graph.full(0, (room, 1), wide), bag, ones, 0)
        if room > bags:
            found, size = (graph.slice_(n, ((0, bags, 1), (0, n.shape[1], 1))) for n in (found, size))
    if mode == "mean":
        found = found / lang.maximum(size, 1)
    if mode == "max":
        found = lang.where(lang.eq(size, 0), 0, found)
    return cast(found, weight.dtype)


# -- one-hot ----------------------------------------------------------------------------------------------


@op("one_hot", acc=False, differentiable=False, where=(), torch_name="nn.functional.one_hot", samples=s.calls(
    s.call(T(2, 3, fill="index", high=4), 4), s.call(T(fill="index", high=4), 5),
    s.call(T(0, fill="index", high=4), 3)))  # fmt: skip
def one_hot(tensor: Node, num_classes: int = -1) -> Node:
    """int64 rows of 0 with a 1 at each class number, 0 to ``num_classes`` - 1, along a new last axis.
    (torch.nn.functional.one_hot)"""
    if tensor.dtype is not dtypes.int64:
        raise SpiralError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes < 1:
        raise SpiralError("Class values must be smaller than num_classes, which has to be positive.")
    shape = (*tensor.shape, num_classes)
    inside = graph.gather(graph.iota((num_classes,), 0), tensor, 0)  # itself, checked
    classes = graph.reshape(inside, (*tensor.shape, 1))
    return cast(lang.eq(graph.expand(classes, shape), graph.iota(shape, len(tensor.shape))), dtypes.int64)


__all__ = ["embedding", "embedding_bag", "one_hot"]
