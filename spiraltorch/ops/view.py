"""Operators whose result shares memory with their input.

Each is written once, as a function from the input's shape to movement steps: ('RESHAPE', shape),
('PERMUTE', order), ('EXPAND', shape), ('SLICE', ranges), ('WINDOW', (axis, size, stride, dilation)),
('DIAGONAL', (offset, a, b)).
The body applies the steps to a node; the tensor layer applies the same steps to a view's position in
its storage.  ``split``, ``chunk`` and ``unbind`` have several results: their step lists are in ``LISTS``.

    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["transpose"].view((2, 3), 0, 1)
    [('PERMUTE', (1, 0))]
    >>> OPS["select"].view((2, 3), 1, -1)
    [('SLICE', ((0, 2, 1), (2, 3, 1))), ('RESHAPE', (2,))]
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ShapeError
from ..ir import graph
from ..ir.node import Node, Shape
from . import samples as s
from .registry import op, wrap_dim

Step = tuple[str, Any]
Steps = list[Step]
T = s.T


def apply_steps(node: Node, steps: Sequence[Step]) -> Node:
    """``node`` moved by each step in turn."""
    for kind, arg in steps:
        node = _MOVES[kind](node, arg)
    return node


def _window(n: Node, arg: tuple[int, int, int, int]) -> Node:
    return graph.window(n, *arg)


def _diagonal(n: Node, arg: tuple[int, int, int]) -> Node:
    return graph.diagonal(n, *arg)


_MOVES: dict[str, Callable[[Node, Any], Node]] = {
    "RESHAPE": graph.reshape, "PERMUTE": graph.permute, "EXPAND": graph.expand, "SLICE": graph.slice_,
    "WINDOW": _window,
    "DIAGONAL": _diagonal,
}  # fmt: skip


def step_shape(shape: Shape, step: Step) -> Shape:
    """The shape that one step leads to."""
    kind, arg = step
    if kind == "PERMUTE":
        return tuple([shape[i] for i in arg])
    if kind == "SLICE":
        return tuple([graph.slice_length(r) for r in arg])
    if kind == "DIAGONAL":
        offset, a, b = arg
        rest = [s for i, s in enumerate(shape) if i not in (a, b)]
        return (*rest, graph.diagonal_length(shape[a], shape[b], offset))
    if kind == "WINDOW":
        axis, size, stride, dilation = arg
        count = (shape[axis] - dilation * (size - 1) - 1) // stride + 1
        return (*shape[:axis], count, *shape[axis + 1 :], size)
    return tuple(arg)


def _view_op(name: str, samples: Any, **fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the operator whose movement the decorated function (of the input's shape) says."""

    def register(steps: Callable[..., Any]) -> Callable[..., Any]:
        def body(input: Node, *args: Any, **kwargs: Any) -> Any:
            found = steps(input.shape, *args, **kwargs)
            if found and isinstance(found[0], list):
                return [apply_steps(input, one) for one in found]
            return apply_steps(input, found)

        parameters = list(inspect.signature(steps).parameters.values())
        parameters[0] = parameters[0].replace(name="input", annotation="Node")
        body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        body.__name__, body.__doc__ = name, steps.__doc__
        fields.setdefault("view", steps)
        op(name, acc=False, saves="", samples=samples, **fields)(body)
        return steps

    return register


LISTS: dict[str, Callable[..., list[Steps]]] = {}


def _list_op(name: str, samples: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As :func:`_view_op` for several results: the record's ``view`` is None and ``LISTS`` has the movement."""

    def register(pieces: Callable[..., list[Steps]]) -> Callable[..., Any]:
        LISTS[name] = pieces
        return _view_op(name, samples, view=None)(pieces)

    return register


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """``(2, 3)`` and ``((2, 3),)`` are the same request."""
    while len(sizes) == 1 and not isinstance(sizes[0], int) and hasattr(sizes[0], "__iter__"):
        sizes = tuple(sizes[0])
    return tuple([int(n) for n in sizes])


def _all(shape: Shape) -> list[graph.Range]:
    return [(0, n, 1) for n in shape]


def _reshaped(new: Shape, old: Shape) -> Steps:
    return [] if new == old else [("RESHAPE", new)]


# -- shapes ---------------------------------------------------------------------------------------


def infer_shape(shape: Shape, sizes: tuple[int, ...]) -> Shape:
    """``sizes`` with its -1 found from the number of elements.  Raises RuntimeError where they do not fit."""
    total, known = math.prod(shape), 1
    unknown = None
    for i, n in enumerate(sizes):
        if n == -1:
            if unknown is not None:
                raise ShapeError("only one dimension can be inferred")
            unknown = i
        elif n < 0:
            raise ShapeError(f"invalid shape dimension {n} at index {i} of shape {list(sizes)}")
        else:
            known *= n
    if unknown is None:
        if known != total:
            raise ShapeError(f"shape '{list(sizes)}' is invalid for input of size {total}")
        return sizes
    if known == 0 and total == 0:
        raise ShapeError(
            f"cannot reshape tensor of 0 elements into shape {list(sizes)} because the unspecified dimension size -1 "
            "can be any value and is ambiguous"
        )
    if known == 0 or total % known:
        raise ShapeError(f"shape '{list(sizes)}' is invalid for input of size {total}")
    return sizes[:unknown] + (total // known,) + sizes[unknown + 1 :]


_RESHAPE = s.calls(
    s.call(T(2, 6), 3, 4), s.call(T(2, 6), -1), s.call(T(2, 6), (4, -1)), s.call(T(), 1, 1), s.call(T(1), ()),
    s.call(T(0, 3), 3, 0), s.call(T(0, 3), 2, 3, -1),
)  # fmt: skip


@_view_op("view", _RESHAPE, where=("Tensor",))
def view(shape: Shape, *size: Any) -> Steps:
    """The same memory with another shape; one size may be -1.  Raises RuntimeError where strides do not allow
    it: use reshape.  (torch.Tensor.view)"""
    return _reshaped(infer_shape(shape, sizes_of(size)), shape)


@_view_op("reshape", _RESHAPE)
def reshape(input: Shape, *shape: Any) -> Steps:
    """The same elements in another shape, a view where strides allow it; one size may be -1.  (torch.reshape)"""
    return _reshaped(infer_shape(input, sizes_of(shape)), input)


@_view_op(
    "flatten",
    s.calls(s.call(T(2, 3, 4)), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), 0, -2), s.call(T()), s.call(T(0, 3))),
)
def flatten(shape: Shape, start_dim: int = 0, end_dim: int = -1) -> Steps:
    """Axes ``start_dim`` to ``end_dim`` as one; 0-d becomes 1-d.  (torch.flatten)"""
    first, last = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if first > last:
        raise ShapeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return _reshaped(shape[:first] + (math.prod(shape[first : last + 1]),) + shape[last + 1 :], shape)


@_view_op("unflatten", s.calls(s.call(T(2, 6), 1, (2, 3)), s.call(T(2, 6), -1, (-1, 2)), s.call(T(0), 0, (0, 2))))
def unflatten(shape: Shape, dim: int, sizes: Sequence[int]) -> Steps:
    """Axis ``dim`` as several of ``sizes``; one may be -1.  (torch.unflatten)"""
    axis = wrap_dim(dim, len(shape))
    if not len(sizes):
        raise ShapeError("unflatten: sizes must be non-empty")
    wanted = tuple(sizes)
    if -1 not in wanted and math.prod(wanted) != shape[axis]:
        raise ShapeError(
            f"unflatten: Provided sizes {list(wanted)} don't multiply up to the size of dim {axis} ({shape[axis]}) "
            "in the input tensor"
        )
    return _reshaped(shape[:axis] + infer_shape((shape[axis],), wanted) + shape[axis + 1 :], shape)


@_view_op("squeeze", s.calls(s.call(T(1, 2, 1)), s.call(T(1, 2, 1), 0), s.call(T(1, 2, 1), 1),
    s.call(T(1, 2, 1), (0, -1)),
    s.call(T()), s.call(T(), 0)))  # fmt: skip
def squeeze(shape: Shape, dim: int | Sequence[int] | None = None) -> Steps:
    """Without its axes of size 1: all, or those in ``dim``.  (torch.squeeze)"""
    rank = len(shape)
    chosen = range(rank) if dim is None else [wrap_dim(d, rank) for d in ([dim] if isinstance(dim, int) else dim)]
    return _reshaped(tuple([n for i, n in enumerate(shape) if n != 1 or i not in chosen]), shape)


@_view_op("unsqueeze", s.calls(s.call(T(2, 3), 0), s.call(T(2, 3), -1), s.call(T(2, 3), 1), s.call(T(), 0)))
def unsqueeze(shape: Shape, dim: int) -> Steps:
    """With a new axis of size 1 at ``dim``.  (torch.unsqueeze)"""
    axis = wrap_dim(dim, len(shape) + 1)
    return [("RESHAPE", shape[:axis] + (1,) + shape[axis:])]


# -- orders ---------------------------------------------------------------------------------------


def _permuted(order: Sequence[int]) -> Steps:
    return [] if list(order) == list(range(len(order))) else [("PERMUTE", tuple(order))]


@_view_op(
    "transpose", s.calls(s.call(T(2, 3), 0, 1), s.call(T(2, 3, 4), -1, 0), s.call(T(2, 3), 1, 1), s.call(T(), 0, -1))
)
def transpose(shape: Shape, dim0: int, dim1: int) -> Steps:
    """With two axes exchanged.  (torch.transpose)"""
    a, b = wrap_dim(dim0, len(shape)), wrap_dim(dim1, len(shape))
    order = list(range(len(shape)))
    if order:
        order[a], order[b] = b, a
    return _permuted(order)


@_view_op("t", s.calls(s.call(T(2, 3)), s.call(T(3)), s.call(T()), s.call(T(0, 3))))
def t(shape: Shape) -> Steps:
    """A matrix transposed; vectors and 0-d as they are.  (torch.t)"""
    if len(shape) > 2:
        raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but self is {len(shape)}D")
    return _permuted(range(len(shape))[::-1])


@_view_op(
    "permute",
    s.calls(s.call(T(2, 3, 4), 2, 0, 1), s.call(T(2, 3, 4), (0, -1, 1)), s.call(T(), ()), s.call(T(0, 3), 1, 0)),
)
def permute(shape: Shape, *dims: Any) -> Steps:
    """With its axes in the order ``dims``.  (torch.permute)"""
    wanted = sizes_of(dims)
    if len(wanted) != len(shape):
        raise ShapeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {len(shape)} is not equal to len(dims) = {len(wanted)}"
        )
    order = [wrap_dim(d, len(shape)) for d in wanted]
    if len(set(order)) != len(order):
        raise ShapeError("permute(): duplicate dims are not allowed.")
    return _permuted(order)


@_view_op("movedim", s.calls(s.call(T(2, 3, 4), 0, -1), s.call(T(2, 3, 4), (0, 1), (1, 2)), s.call(T(2, 3), 1, 0)))
def movedim(shape: Shape, source: int | Sequence[int], destination: int | Sequence[int]) -> Steps:
    """With axes ``source`` moved to ``destination``; the others keep their order.  (torch.movedim)"""
    rank = len(shape)
    given = [[d] if isinstance(d, int) else list(d) for d in (source, destination)]
    if len(given[0]) != len(given[1]):
        raise ShapeError(
            f"movedim: Invalid source or destination dims: source ({given[0]} dims) should contain the same number of "
            f"dims as destination ({given[1]} dims)"
        )
    src, dst = ([wrap_dim(d, rank) for d in dims] for dims in given)
    for name, dims, said in (("source", src, given[0]), ("destination", dst, given[1])):
        if len(set(dims)) != len(dims):
            raise ShapeError(f"movedim: repeated dim in `{name}` ({said})")
    if not rank:
        return []
    rest = iter([i for i in range(rank) if i not in src])
    at = dict(zip(dst, src))
    return _permuted([at[i] if i in at else next(rest) for i in range(rank)])


# -- repeats without copying ----------------------------------------------------------------------


def expand_steps(shape: Shape, wanted: tuple[int, ...]) -> Steps:
    lead = len(wanted) - len(shape)
    if lead < 0:
        raise ShapeError(
            f"expand(size={list(wanted)}): the number of sizes provided ({len(wanted)}) must be greater or equal to "
            f"the number of dimensions in the tensor ({len(shape)})"
        )
    full = []
    for i, n in enumerate(wanted):
        have = shape[i - lead] if i >= lead else 1
        if n == -1 and i < lead:
            raise ShapeError(
                f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {i}"
            )
        if n not in (-1, have) and have != 1:
            raise ShapeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({have}) at non-singleton "
                f"dimension {i}.  Target sizes: {list(wanted)}.  Tensor sizes: {list(shape)}"
            )
        full.append(have if n == -1 else n)
    steps = _reshaped((1,) * lead + shape, shape) if shape else []
    return steps if (1,) * lead + shape == tuple(full) else [*steps, ("EXPAND", tuple(full))]


_EXPAND = s.calls(
    s.call(T(2, 1), (2, 3)), s.call(T(2, 1), (4, -1, 3)), s.call(T(), (2, 3)), s.call(T(3), (3,)), s.call(T(1), (0,)),
    s.call(T(1, 3), (1, 1, 3)), s.call(T(), ()),
)  # fmt: skip


@_view_op("expand", s.more(_EXPAND, s.calls(s.call(T(2, 1), -1, 3))), where=("Tensor",))
def expand(shape: Shape, *size: Any) -> Steps:
    """Size-1 axes repeated to ``size`` and new axes in front; -1 keeps a size.  (torch.Tensor.expand)"""
    return expand_steps(shape, sizes_of(size))


@_view_op("broadcast_to", s.calls(s.call(T(2, 1), (2, 3)), s.call(T(3), (2, 3)), s.call(T(), (4,))))
def broadcast_to(input: Shape, shape: Sequence[int]) -> Steps:
    """Size-1 axes repeated to ``shape`` and new axes in front.  (torch.broadcast_to)"""
    return expand_steps(input, tuple(shape))


@_view_op("expand_as", s.calls(s.call(T(2, 1), T(2, 3)), s.call(T(), T(4)), s.call(T(3), T(2, 3))), where=("Tensor",))
def expand_as(shape: Shape, other: Any) -> Steps:
    """Expanded to the shape of ``other``.  (torch.Tensor.expand_as)"""
    return expand_steps(shape, tuple(other.shape))


# -- parts ----------------------------------------------------------------------------------------


def cut(shape: Shape, axis: int, start: int, stop: int, step: int = 1) -> Steps:
    """``start:stop:step`` along ``axis``, all of the others."""
    ranges = _all(shape)
    ranges[axis] = (start, stop, step)
    return [] if ranges == _all(shape) else [("SLICE", tuple(ranges))]


@_view_op("select", s.calls(s.call(T(2, 3), 0, 1), s.call(T(2, 3, 4), -1, -2), s.call(T(3), 0, 0)))
def select(shape: Shape, dim: int, index: int) -> Steps:
    """Position ``index`` along ``dim``, which disappears.  (torch.select)"""
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis = wrap_dim(dim, len(shape))
    n = shape[axis]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {axis}")
    index %= n
    return [*cut(shape, axis, index, index + 1), ("RESHAPE", shape[:axis] + shape[axis + 1 :])]


@_view_op("narrow", s.calls(s.call(T(5, 3), 0, 1, 3), s.call(T(2, 3), -1, -2, 2), s.call(T(2, 3), 0, 2, 0)))
def narrow(shape: Shape, dim: int, start: int, length: int) -> Steps:
    """``length`` positions from ``start`` on along ``dim``.  (torch.narrow)"""
    if not shape:
        raise ShapeError("narrow() cannot be applied to a 0-dim tensor.")
    axis = wrap_dim(dim, len(shape))
    n, start = shape[axis], int(start)
    if length < 0:
        raise ShapeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start += n if start < 0 else 0
    if start + length > n:
        raise ShapeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return cut(shape, axis, start, start + length)


@_view_op("slice", s.calls(s.call(T(5, 3), 0, 1, 4), s.call(T(5, 3), 0, -3), s.call(T(7), 0, 1, None, 2),
    s.call(T(5), 0, 4, 2),
    s.call(T(5), 0, 0, 99, 3)), where=())  # fmt: skip
def slice_(shape: Shape, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Steps:
    """``start:end:step`` along ``dim``, as Python slices; ``step`` is positive.  (torch.Tensor.__getitem__)"""
    if step <= 0:
        raise ValueError("step must be greater than zero")
    axis = wrap_dim(dim, len(shape))
    first, last, _ = slice(start, end, step).indices(shape[axis])
    return cut(shape, axis, first, max(first, last), step)


def _lengths(shape: Shape, axis: int, size: int | Sequence[int]) -> list[int]:
    n = shape[axis]
    if isinstance(size, int):
        if size < 0:
            raise ShapeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0 and n:
            raise ShapeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        return [min(size, n - at) for at in range(0, n, size)] if n else [0]
    if sum(size) != n or any(k < 0 for k in size):
        raise ShapeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {axis}), "
            f"but got split_sizes={list(size)}"
        )
    return list(size)


def _pieces(shape: Shape, axis: int, lengths: Sequence[int]) -> list[Steps]:
    out, at = [], 0
    for n in lengths:
        out.append(cut(shape, axis, at, at + n))
        at += n
    return out


@_list_op("split", s.calls(s.call(T(5, 3), 2), s.call(T(5, 3), [1, 4]), s.call(T(2, 6), 2, -1), s.call(T(0), 2)))
def split(shape: Shape, split_size_or_sections: int | Sequence[int], dim: int = 0) -> list[Steps]:
    """Parts along ``dim``: of one size (the last may be smaller), or of the sizes listed.  (torch.split)"""
    if not shape:
        raise ShapeError("split expects at least a 1-dimensional tensor")
    axis = wrap_dim(dim, len(shape))
    return _pieces(shape, axis, _lengths(shape, axis, split_size_or_sections))


@_list_op("chunk", s.calls(s.call(T(5, 3), 2), s.call(T(5, 3), 4), s.call(T(2, 6), 3, 1), s.call(T(0), 3)))
def chunk(shape: Shape, chunks: int, dim: int = 0) -> list[Steps]:
    """At most ``chunks`` parts of equal size (the last may be smaller) along ``dim``.  (torch.chunk)"""
    if chunks <= 0:
        raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if not shape:
        raise ShapeError("chunk expects at least a 1-dimensional tensor")
    axis = wrap_dim(dim, len(shape))
    n = shape[axis]
    return _pieces(shape, axis, _lengths(shape, axis, -(-n // chunks)) if n else [0] * chunks)


@_list_op("unbind", s.calls(s.call(T(2, 3)), s.call(T(2, 3), -1), s.call(T(4))))
def unbind(shape: Shape, dim: int = 0) -> list[Steps]:
    """Every position along ``dim``, which disappears.  (torch.unbind)"""
    axis = wrap_dim(dim, len(shape))
    if not shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return [select(shape, axis, i) for i in range(shape[axis])]


@_view_op("diagonal", s.calls(s.call(T(3, 4)), s.call(T(3, 4), 1), s.call(T(3, 4), -1), s.call(T(3, 4), 9),
    s.call(T(2, 3, 4), 0, 0, 2),
    s.call(T(2, 3, 4), -1, -1, 0)))  # fmt: skip
def diagonal(shape: Shape, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Steps:
    """The elements at ``(i, i + offset)`` of axes ``dim1`` and ``dim2``, as a new last axis.  (torch.diagonal)"""
    rank = len(shape)
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise ShapeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return [("DIAGONAL", (int(offset), a, b))]


@_view_op("unfold", s.calls(s.call(T(7), 0, 3, 2), s.call(T(2, 6), 1, 2, 2), s.call(T(5, 3), -2, 2, 1),
    s.call(T(), 0, 1, 1)),
    where=("Tensor",))  # fmt: skip
def unfold(shape: Shape, dimension: int, size: int, step: int) -> Steps:
    """Windows of ``size`` every ``step`` along ``dimension``, each a new last axis.  (torch.Tensor.unfold)"""
    axis = wrap_dim(dimension, len(shape))
    lead: Steps = [] if shape else [("RESHAPE", (1,))]
    n = shape[axis] if shape else 1
    if size < 0:
        raise ShapeError(f"size is {size} but must be >= 0")
    if size > n:
        raise ShapeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if step <= 0:
        raise ShapeError(f"step is {step} but must be > 0")
    if not shape:
        return lead  # its one window is the element
    return [("WINDOW", (axis, size, step, 1))]
