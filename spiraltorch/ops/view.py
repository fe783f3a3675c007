"""Operators whose result shares memory with their input.

Each is written once, as a function from the input's shape to movement steps: ('RESHAPE', shape),
('PERMUTE', order), ('EXPAND', shape), ('SLICE', ranges), ('WINDOW', (axis, size, stride, dilation)),
('DIAGONAL', (offset, a, b)), ('STRIDED', (sizes, strides, offset)) over the flat elements, ('BITCAST', (type, new type)),
('AS_REAL', None), ('AS_COMPLEX', None); ('CONJ', None) and ('NEG', None) for memory that holds the conjugates or negatives.
The body applies the steps to a node; the tensor layer applies the same steps to a view's position in
its storage.  ``split``, ``chunk`` and ``unbind`` have several results: their step lists are in ``LISTS``.

    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["transpose"].view((2, 3), 0, 1)
    [('PERMUTE', (1, 0))]
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, Shape, cast, const
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


def _strided(n: Node, arg: tuple[Shape, Shape, int]) -> Node:
    sizes, strides, offset = arg
    place = const(offset, dtypes.int64) if not sizes else graph.full(offset, sizes, dtypes.int64)
    for axis, stride in enumerate(strides):
        place = place + graph.iota(sizes, axis) * stride
    return graph.gather(graph.reshape(n, (n.size,)), place, 0)


def _bitcast(n: Node, arg: tuple[DType, DType]) -> Node:
    """The bytes of the last axis read as another type; little-endian, as every machine here is."""
    dtype = arg[1]
    have, want = n.dtype.itemsize, dtype.itemsize
    if have == want:
        return _as_bits(_bits_of(n), dtype)
    bits = _bits_of(n)
    if have > want:
        wide = graph.expand(graph.reshape(bits, (*bits.shape, 1)), (*bits.shape, have // want))
        moved = lang.row("SHR", wide, cast(graph.iota(wide.shape, len(bits.shape)), bits.dtype) * (8 * want))
        return _as_bits(graph.reshape(cast(moved, _UNSIGNED[want]), (*n.shape[:-1], n.shape[-1] * (have // want))), dtype)
    apart = cast(graph.reshape(bits, (*n.shape[:-1], n.shape[-1] // (want // have), want // have)), _UNSIGNED[want])
    placed = lang.row("SHL", apart, cast(graph.iota(apart.shape, len(apart.shape) - 1), apart.dtype) * (8 * have))
    return _as_bits(graph.reduce(placed, "add", (len(apart.shape) - 1,)), dtype)


_UNSIGNED = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def _bits_of(n: Node) -> Node:
    return cast(n, dtypes.uint8) if n.dtype is dtypes.bool_ else lang.bitcast(n, _UNSIGNED[n.dtype.itemsize])


def _as_bits(n: Node, dtype: DType) -> Node:
    return cast(n, dtype) if dtype is dtypes.bool_ else lang.bitcast(n, dtype)


def _as_real(n: Node, arg: None) -> Node:
    if n.dtype.kind != "c":
        raise SpiralError(f"view_as_real is only supported for complex tensors, not {n.dtype.name}")
    return graph.as_real(n)


def _as_complex(n: Node, arg: None) -> Node:
    if n.dtype.kind != "f" or n.dtype.itemsize < 4:
        raise SpiralError(f"view_as_complex is only supported for floating point tensors, but got a tensor of {n.dtype.name}")
    if not n.shape or n.shape[-1] != 2:
        raise ShapeError(f"Tensor must have a last dimension of size 2, but its shape is {list(n.shape)}")
    return graph.as_complex(n)


def _conjugates(n: Node, arg: None) -> Node:
    return lang.conj(n)


def _negatives(n: Node, arg: None) -> Node:
    return -n


_MOVES: dict[str, Callable[[Node, Any], Node]] = {
    "RESHAPE": graph.reshape, "PERMUTE": graph.permute, "EXPAND": graph.expand, "SLICE": graph.slice_,
    "WINDOW": _window,
    "DIAGONAL": _diagonal, "STRIDED": _strided, "BITCAST": _bitcast,
    "AS_REAL": _as_real, "AS_COMPLEX": _as_complex, "CONJ": _conjugates, "NEG": _negatives,
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
    if kind == "STRIDED":
        return tuple(arg[0])
    if kind == "BITCAST":
        have, want = (d.itemsize for d in arg)
        return shape if have == want else (*shape[:-1], shape[-1] * have // want)
    if kind == "AS_REAL":
        return (*shape, 2)
    if kind == "AS_COMPLEX":
        return shape[:-1]
    if kind in ("CONJ", "NEG"):
        return shape
    return tuple(arg)


def write_through(node: Node, steps: Sequence[Step], value: Node) -> Node:
    """The cell's new value after ``value`` is written to the view at ``steps``.

    Raises RuntimeError where several elements of the view are one memory location (torch refuses too).
    """
    if not steps:
        return value
    if not value.size:
        return node
    kind, arg = steps[0]
    inner = write_through(apply_steps(node, steps[:1]), steps[1:], value) if len(steps) > 1 else value
    if kind == "RESHAPE":
        return graph.reshape(inner, node.shape)
    if kind == "PERMUTE":
        inverse = [0] * len(arg)
        for i, k in enumerate(arg):
            inverse[k] = i
        return graph.permute(inner, tuple(inverse))
    if kind == "SLICE":
        return graph.update(node, arg, inner)
    if kind == "EXPAND" and arg == node.shape:
        return inner
    if kind == "EXPAND" and inner.op == "EXPAND" and inner.src[0].size == 1:  # one value for all of them
        return graph.expand(graph.reshape(inner.src[0], (1,) * len(node.shape)), node.shape)
    if kind == "DIAGONAL":
        return graph.set_diagonal(node, inner, *arg)
    if kind == "AS_REAL":
        return graph.as_complex(inner)
    if kind == "AS_COMPLEX":
        return graph.as_real(inner)
    if kind == "BITCAST":
        return apply_steps(inner, [("BITCAST", arg[::-1])])
    if kind in ("CONJ", "NEG"):
        return apply_steps(inner, steps[:1])
    if kind == "WINDOW" or (kind == "STRIDED" and not any([n > 1 and t == 0 for n, t in zip(*arg[:2])])):
        place = apply_steps(graph.reshape(graph.iota((node.size,), 0), node.shape), steps[:1])
        flat = graph.reshape(node, (node.size,))
        moved = graph.scatter(flat, graph.reshape(place, (place.size,)), graph.reshape(inner, (place.size,)), 0, "set")
        return graph.reshape(moved, node.shape)
    raise SpiralError(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory "
        "location. Please clone() the tensor before performing the operation."
    )


def view_op(name: str, samples: Any, **fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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
        op(name, acc=False, saves="", kinds="buifc", samples=samples, **fields)(body)
        return steps

    return register


LISTS: dict[str, Callable[..., list[Steps]]] = {}


def list_op(name: str, samples: Any, **fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As :func:`view_op` for several results: the record's ``view`` is None and ``LISTS`` has the movement."""

    def register(pieces: Callable[..., list[Steps]]) -> Callable[..., Any]:
        LISTS[name] = pieces
        return view_op(name, samples, view=None, **fields)(pieces)

    return register


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """``(2, 3)`` and ``((2, 3),)`` are the same request.  Raises TypeError for what is no integer."""
    while len(sizes) == 1 and not isinstance(sizes[0], (int, str)) and hasattr(sizes[0], "__iter__"):
        sizes = tuple(sizes[0])
    return tuple([operator.index(n) for n in sizes])


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


@view_op("view", _RESHAPE, where=("Tensor",))
def view(shape: Shape, *size: Any) -> Steps:
    """The same memory with another shape; one size may be -1.  Raises RuntimeError where strides do not allow
    it: use reshape.  (torch.Tensor.view)"""
    return _reshaped(infer_shape(shape, sizes_of(size)), shape)


@view_op("reshape", _RESHAPE)
def reshape(input: Shape, *shape: Any) -> Steps:
    """The same elements in another shape, a view where strides allow it; one size may be -1.  (torch.reshape)"""
    return _reshaped(infer_shape(input, sizes_of(shape)), input)


@view_op("ravel", s.calls(s.call(T(2, 3)), s.call(T()), s.call(T(0, 3)), s.call(T(4))))
def ravel(shape: Shape) -> Steps:
    """All axes as one, a view of contiguous memory.  (torch.ravel)"""
    return _reshaped((math.prod(shape),), shape)


@view_op(
    "flatten",
    s.calls(s.call(T(2, 3, 4)), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), 0, -2), s.call(T()), s.call(T(0, 3))),
)
def flatten(shape: Shape, start_dim: int = 0, end_dim: int = -1) -> Steps:
    """Axes ``start_dim`` to ``end_dim`` as one; 0-d becomes 1-d.  (torch.flatten)"""
    first, last = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if first > last:
        raise ShapeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return _reshaped(shape[:first] + (math.prod(shape[first : last + 1]),) + shape[last + 1 :], shape)


@view_op("unflatten", s.calls(s.call(T(2, 6), 1, (2, 3)), s.call(T(2, 6), -1, (-1, 2)), s.call(T(0), 0, (0, 2))))
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


@view_op("squeeze", s.calls(s.call(T(1, 2, 1)), s.call(T(1, 2, 1), 0), s.call(T(1, 2, 1), 1),
    s.call(T(1, 2, 1), (0, -1)),
    s.call(T()), s.call(T(), 0)))  # fmt: skip
def squeeze(shape: Shape, dim: int | Sequence[int] | None = None) -> Steps:
    """Without its axes of size 1: all, or those in ``dim``.  (torch.squeeze)"""
    rank = len(shape)
    chosen = range(rank) if dim is None else [wrap_dim(d, rank) for d in ([dim] if isinstance(dim, int) else dim)]
    return _reshaped(tuple([n for i, n in enumerate(shape) if n != 1 or i not in chosen]), shape)


@view_op("unsqueeze", s.calls(s.call(T(2, 3), 0), s.call(T(2, 3), -1), s.call(T(2, 3), 1), s.call(T(), 0)))
def unsqueeze(shape: Shape, dim: int) -> Steps:
    """With a new axis of size 1 at ``dim``.  (torch.unsqueeze)"""
    axis = wrap_dim(dim, len(shape) + 1)
    return [("RESHAPE", shape[:axis] + (1,) + shape[axis:])]


_RANKS = s.calls(s.call(T()), s.call(T(3)), s.call(T(2, 3)), s.call(T(2, 3, 4)), s.call(T(1, 2, 3, 4)), s.call(T(0)))


@view_op("atleast_1d", _RANKS, where=())
def atleast_1d(shape: Shape) -> Steps:
    """0-d as 1-d, others as they are.  (torch.atleast_1d)"""
    return _reshaped(shape or (1,), shape)


@view_op("atleast_2d", _RANKS, where=())
def atleast_2d(shape: Shape) -> Steps:
    """With axes of size 1 put in front up to two.  (torch.atleast_2d)"""
    return _reshaped((1,) * (2 - len(shape)) + shape, shape)


@view_op("atleast_3d", _RANKS, where=())
def atleast_3d(shape: Shape) -> Steps:
    """A vector as the middle axis of three, a matrix as the first two.  (torch.atleast_3d)"""
    return _reshaped({0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}.get(len(shape), shape), shape)


# -- orders ---------------------------------------------------------------------------------------


def _permuted(order: Sequence[int]) -> Steps:
    return [] if list(order) == list(range(len(order))) else [("PERMUTE", tuple(order))]


@view_op(
    "transpose",
    s.calls(s.call(T(2, 3), 0, 1), s.call(T(2, 3, 4), -1, 0), s.call(T(2, 3), 1, 1), s.call(T(), 0, -1)),
    aliases=("swapdims",),
)
def transpose(shape: Shape, dim0: int, dim1: int) -> Steps:
    """With two axes exchanged.  (torch.transpose)"""
    a, b = wrap_dim(dim0, len(shape)), wrap_dim(dim1, len(shape))
    order = list(range(len(shape)))
    if order:
        order[a], order[b] = b, a
    return _permuted(order)


@view_op("swapaxes", s.calls(s.call(T(2, 3), 0, 1), s.call(T(2, 3, 4), -1, 0), s.call(T(), 0, 0)))
def swapaxes(shape: Shape, axis0: int, axis1: int) -> Steps:
    """With two axes exchanged.  (torch.swapaxes)"""
    return transpose(shape, axis0, axis1)  # type: ignore[no-any-return]


@view_op("t", s.calls(s.call(T(2, 3)), s.call(T(3)), s.call(T()), s.call(T(0, 3))))
def t(shape: Shape) -> Steps:
    """A matrix transposed; vectors and 0-d as they are.  (torch.t)"""
    if len(shape) > 2:
        raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but self is {len(shape)}D")
    return _permuted(range(len(shape))[::-1])


@view_op(
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


@view_op(
    "movedim",
    s.calls(s.call(T(2, 3, 4), 0, -1), s.call(T(2, 3, 4), (0, 1), (1, 2)), s.call(T(2, 3), 1, 0)),
    aliases=("moveaxis",),
)
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
    ones = (1,) * lead + shape
    if ones == tuple(full):
        return _reshaped(ones, shape)
    return [*(_reshaped(ones, shape) if shape else []), ("EXPAND", tuple(full))]


_EXPAND = s.calls(
    s.call(T(2, 1), (2, 3)), s.call(T(2, 1), (4, -1, 3)), s.call(T(), (2, 3)), s.call(T(3), (3,)), s.call(T(1), (0,)),
    s.call(T(1, 3), (1, 1, 3)), s.call(T(), ()), s.call(T(), (1,)),
)  # fmt: skip


@view_op("expand", s.more(_EXPAND, s.calls(s.call(T(2, 1), -1, 3))), where=("Tensor",))
def expand(shape: Shape, *size: Any) -> Steps:
    """Size-1 axes repeated to ``size`` and new axes in front; -1 keeps a size.  (torch.Tensor.expand)"""
    return expand_steps(shape, sizes_of(size))


@view_op("broadcast_to", s.calls(s.call(T(2, 1), (2, 3)), s.call(T(3), (2, 3)), s.call(T(), (4,))))
def broadcast_to(input: Shape, shape: Sequence[int]) -> Steps:
    """Size-1 axes repeated to ``shape`` and new axes in front.  (torch.broadcast_to)"""
    return expand_steps(input, tuple(shape))


@view_op("expand_as", s.calls(s.call(T(2, 1), T(2, 3)), s.call(T(), T(4)), s.call(T(3), T(2, 3))), where=("Tensor",))
def expand_as(shape: Shape, other: Any) -> Steps:
    """Expanded to the shape of ``other``.  (torch.Tensor.expand_as)"""
    return expand_steps(shape, tuple(other.shape))
