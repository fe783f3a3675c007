"""How a tensor lies in its storage: strides, memory formats, reinterpreted bytes, and tensors that are re-pointed.

In: tensors.  Out: views of their cells through other movement steps, or the same tensor over other memory.

    >>> import spiraltorch as st
    >>> x = st.arange(6.0)
    >>> x.as_strided((2, 2), (2, 1)).stride(), x.view(st.int32).data_ptr() == x.data_ptr()
    ((2, 1), True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .dispatch import call, view_call, view_of
from .dtypes import DType
from .errors import ShapeError, SpiralError
from .ir import graph
from .ir.node import Node
from .ops.gradients import vjp
from .ops.parts import as_strided_steps
from .ops.rearrange import pad_any
from .ops.registry import OPS, Op
from .ordering import by_strides, is_channels_last, laid, turn
from .storage import Step, Storage, apply_steps, contiguous_strides, is_marked
from .tape import Call, ViewCall, mode
from .tensor import Tensor, attach, from_node, tensor_over
from .writes import is_dense, refuse_leaf_write


class memory_format:
    """An order of the axes in memory (torch.memory_format)."""

    def __init__(self, name: str, order: tuple[int, ...] = ()) -> None:
        self.name, self.order = name, order  # order: axes from the slowest to the fastest

    def __repr__(self) -> str:
        return f"spiraltorch.{self.name}"


class layout(memory_format):
    """How elements are kept (torch.layout): ``strided`` is the only way here."""


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last", (0, 2, 3, 1))
channels_last_3d = memory_format("channels_last_3d", (0, 2, 3, 4, 1))


def _strides_of(shape: Sequence[int], order: Sequence[int]) -> list[int]:
    """Strides of a dense tensor whose axes lie in ``order``."""
    strides = [0] * len(shape)
    for axis, stride in zip(order, contiguous_strides(tuple([shape[a] for a in order]))):
        strides[axis] = stride
    return strides


def axes_in_memory(x: Tensor) -> tuple[int, ...]:
    """The axes from the slowest to the fastest, as torch orders them in a new tensor like ``x``."""
    return by_strides(x.shape, [x.stride()])


def new_like(x: Tensor, format: memory_format, make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """``make(shape)``, a new tensor, with the shape of ``x`` in the order of ``format`` (preserve_format: that of ``x``)."""
    if format is preserve_format and x._steps:
        return _new_lying(tuple(x.shape), axes_in_memory(x), make)
    return new_in(tuple(x.shape), format, make)


def new_in(shape: tuple[int, ...], format: memory_format, make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """``make(shape)``, a new tensor, in the order of ``format``."""
    if format.order and len(format.order) != len(shape):
        raise SpiralError(f"required rank {len(format.order)} tensor to use {format.name} format")
    return _new_lying(shape, format.order, make)


def _new_lying(shape: tuple[int, ...], order: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    if not order or order == tuple(range(len(shape))):
        return make(shape)
    return laid(make(tuple([shape[a] for a in order])), order)


def is_contiguous(self: Tensor, memory_format: memory_format = contiguous_format) -> bool:
    """Whether the elements lie row after row, or as ``memory_format`` says (torch.Tensor.is_contiguous)."""
    order = memory_format.order
    if not order:
        if not self._steps or self.numel() == 0:
            return True
        order = tuple(range(self.ndim))
    elif len(order) != self.ndim:
        return False
    return all(n == 1 or s == e for n, s, e in zip(self.shape, self.stride(), _strides_of(self.shape, order)))


def contiguous(self: Tensor, memory_format: memory_format = contiguous_format) -> Tensor:
    """This tensor if its memory is row-major (or as ``memory_format`` says), else a copy that is."""
    if is_contiguous(self, memory_format):
        return self
    order = memory_format.order
    if not order:
        return call(OPS["clone"], (self,))  # type: ignore[no-any-return]
    return _copy_in(self, memory_format)


def _copy_in(x: Tensor, format: memory_format) -> Tensor:
    """A copy with its axes in the order of ``format``."""
    copied = call(OPS["clone"], (x,))
    order = format.order
    if order and len(order) != x.ndim:
        raise SpiralError(f"required rank {len(order)} tensor to use {format.name} format")
    if order:
        turn([copied], 0, order)
    return copied  # type: ignore[no-any-return]


def formatted(x: Tensor, format: memory_format) -> Tensor:
    """``x.to(memory_format=format)``: itself where torch takes it to have that format."""
    if format is preserve_format:
        return x
    lies = x.ndim in (4, 5) and is_channels_last(x.shape, x.stride())
    return x if lies == bool(format.order) and len(format.order) in (0, x.ndim) else _copy_in(x, format)


def as_leaf(g: Tensor, leaf: Tensor, create_graph: bool) -> Tensor:
    """A gradient that lies as its leaf does, or row by row where the leaf has gaps, as torch's ``.grad``."""
    dense = bool(leaf._steps) and is_dense(leaf)
    order = axes_in_memory(leaf) if dense else tuple(range(leaf.ndim))
    if not g._steps and order == tuple(range(leaf.ndim)) or (is_dense(g) and g.stride() == leaf.stride()):
        return g
    g = call(OPS["clone"], (g,)) if create_graph else from_node(g._read(), g.device)
    if order != tuple(range(leaf.ndim)):
        turn([g], 0, order)
    return g


def clone(input: Tensor, *, memory_format: memory_format = preserve_format) -> Tensor:
    """The same values in memory of their own, in the order of ``memory_format`` (torch.clone)."""
    if memory_format is preserve_format:
        return kept_order(OPS["clone"], input)
    return _copy_in(input, memory_format)


def kept_order(op: Op, x: Tensor, *args: Any) -> Tensor:
    """A copy of ``x`` through ``op``, whose axes lie in memory as those of ``x``."""
    copied: Tensor = call(op, (x, *args))
    order = axes_in_memory(x) if x._steps else ()
    if order != tuple(range(len(order))) and x.numel():
        turn([copied], 0, order)
    return copied


def dim_order(self: Tensor, *, ambiguity_check: bool = False) -> tuple[int, ...]:
    """Axes from the slowest in memory to the fastest (torch.Tensor.dim_order)."""
    strides = self.stride()
    return tuple(sorted(range(self.ndim), key=lambda a: -strides[a]))


def view(self: Tensor, *shape: Any, size: Any = None, dtype: DType | None = None) -> Tensor:
    """The same memory with another shape, or its bytes as another type (torch.Tensor.view)."""
    if shape and isinstance(shape[0], DType):
        dtype = shape[0]
    if dtype is None:
        if not shape and size is None:
            raise TypeError("view() needs a size or a dtype")
        return view_call(OPS["view"], (self, *(shape or (size,))), {})  # type: ignore[no-any-return]
    return _reinterpreted(self, dtype)


def _reinterpreted(x: Tensor, dtype: DType) -> Tensor:
    have, want = x.dtype.itemsize, dtype.itemsize
    if dtype is x.dtype:
        return view_of(x, (), "view")
    if is_marked(x._steps, "CONJ"):
        raise SpiralError("torch.Tensor.view is not supported for conjugate view tensors when converting to a different dtype.")
    if x.dtype.is_complex or dtype.is_complex:
        raise SpiralError(f"view({dtype.name}) of {x.dtype.name}: use view_as_real or view_as_complex")
    words = f"to view {x.dtype.name} as {dtype.name} (different element sizes)"
    if have != want and not x.ndim:
        raise SpiralError(f"self.dim() cannot be 0 {words}")
    if have != want and x.stride()[-1] != 1 and x.numel():
        raise SpiralError(f"self.stride(-1) must be 1 {words}, but got {x.stride()[-1]}")
    if have < want:
        times = want // have
        if x.shape[-1] % times:
            raise SpiralError(f"self.size(-1) must be divisible by {times} {words}, but got {x.shape[-1]}")
        if x.storage_offset() % times:
            raise SpiralError(f"self.storage_offset() must be divisible by {times} {words}, but got {x.storage_offset()}")
        for axis, stride in enumerate(x.stride()[:-1]):
            if stride % times:
                raise SpiralError(f"self.stride({axis}) must be divisible by {times} {words}, but got {stride}")
    t = tensor_over(x._storage, (*x._steps, ("BITCAST", (x.dtype, dtype))))  # no derivative goes through bytes
    t._base, t._detached = x if x._base is None else x._base, x._detached or True
    return t


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """The storage under ``input`` with other sizes, strides and offset, all in elements (torch.as_strided).

    Raises RuntimeError for negative strides and for what lies outside the storage.
    """
    cell = input._storage
    if any(kind == "BITCAST" for kind, _ in input._steps):
        raise SpiralError("as_strided of reinterpreted bytes is not supported; clone() the tensor first")
    offset = input.storage_offset() if storage_offset is None else int(storage_offset)
    sizes, strides = (tuple([int(n) for n in v]) for v in (size, stride))
    steps = as_strided_steps(cell.node.size, sizes, strides, offset)
    steps += [(mark, None) for mark in ("CONJ", "NEG") if is_marked(input._steps, mark)]
    t = tensor_over(cell, steps)
    t._base = input if input._base is None else input._base
    t._detached, t._seen = input._detached, cell.history_version
    if mode.enabled and input._tracked:
        attach(_StridedCall(cell.node, input._steps, steps) if input._steps else ViewCall(steps, "AsStridedBackward0"), [input], [t])
    return t


def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy of ``input`` with ``src`` where sizes, strides and offset lead in its storage, all in elements; the copy lies as
    ``input`` does, in a copy of its storage (torch.as_strided_scatter).

    Raises RuntimeError where ``src`` has another shape than ``size``, and for what lies outside the storage.
    """
    if not input._steps:
        return call(OPS["as_strided_scatter"], (input, src, size, stride, storage_offset))  # type: ignore[no-any-return]
    sizes, offset = tuple([int(n) for n in size]), input.storage_offset()
    if tuple(src.shape) != sizes:
        raise ShapeError(f"expected src to have a size equal to the slice of self: src is {list(src.shape)}, the slice {list(sizes)}")
    whole = clone(as_strided(input, (input._storage.node.size,), (1,), 0))
    as_strided(whole, sizes, stride, offset if storage_offset is None else storage_offset).copy_(src)
    return as_strided(whole, tuple(input.shape), input.stride(), offset)


class _StridedCall(Call):
    """as_strided of a view of a cell.  As in torch the gradient is that of the view: what the result reads elsewhere in
    the cell counts as data, and elements of the view at one place share what comes to that place."""

    name, saves = "AsStridedBackward0", ""

    def __init__(self, cell: Node, given: Sequence[Step], steps: Sequence[Step]) -> None:
        self.shape, self.dtype, self.given, self.steps = cell.shape, cell.dtype, tuple(given), tuple(steps)

    def vjp(self, grads: Sequence[Node | None], outs: Sequence[Node], nodes: Sequence[Node]) -> list[Node | None]:
        if grads[0] is None:
            return [None]
        cell = graph.param(("cell", 0), self.shape, self.dtype)
        (whole,) = vjp([apply_steps(cell, self.steps)], [cell], [grads[0]])
        view = apply_steps(cell, self.given)
        (readers,) = vjp([view], [cell], [graph.full(1, view.shape, self.dtype)])
        assert whole is not None and readers is not None
        return [apply_steps(whole, self.given) / apply_steps(readers, self.given)]


# -- the tensor itself is changed --------------------------------------------------------------------


def _moved(name: str) -> Callable[..., Tensor]:
    """``x.name_(...)`` for a view operator: ``x`` itself becomes the view."""
    make_view = as_strided if name == "as_strided" else None
    record = {"swapdims": "transpose"}.get(name, name)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if mode.enabled:
            refuse_leaf_write(self)
        v = make_view(self, *args, **kwargs) if make_view else view_call(OPS[record], (self, *args), kwargs)
        self._steps, self._cached_from = v._steps, None
        if v._fn is not None:
            self._fn, self._index, self._seen = v._fn, v._index, v._seen
        return self

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"This tensor itself as :func:`{name}` of it (torch.Tensor.{name}_)."
    return method


def _repointed(self: Tensor, cell: Storage, steps: Sequence[Any]) -> Tensor:
    self._storage, self._steps, self._cached_from = cell, tuple(steps), None
    return self


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another size over the same storage, which grows (with zeros) when it is too small (torch.Tensor.resize_).

    Raises RuntimeError for tensors that require grad.
    """
    from .creation import size_of

    if self.requires_grad:
        raise SpiralError("cannot resize variables that require grad")
    shape = size_of(sizes)
    cell, count = self._storage, math.prod(shape)
    offset = self.storage_offset()
    short = offset + count - cell.node.size
    if short > 0:  # aliases keep the old memory
        flat = pad_any(graph.reshape(cell.node, (cell.node.size,)), [(0, short, 0)])
        cell = Storage(flat if offset else graph.reshape(flat, shape), cell.device)
        if not offset:
            return _repointed(self, cell, ())
    if not offset and count == cell.node.size:
        return _repointed(self, cell, () if shape == cell.node.shape else (("RESHAPE", shape),))
    total = cell.node.size
    return _repointed(
        self, cell, (("RESHAPE", (total,)), ("SLICE", ((offset, offset + count, 1),)), ("RESHAPE", shape))
    )


def resize_as_(self: Tensor, other: Tensor, memory_format: Any = None) -> Tensor:
    """:func:`resize_` to the shape of ``other`` (torch.Tensor.resize_as_)."""
    return resize_(self, tuple(other.shape))


def set_(
    self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None
) -> Tensor:
    """This tensor over the storage of ``source``, or empty without one (torch.Tensor.set_)."""
    from .creation import zeros
    from .writes import refuse_leaf_write

    if mode.enabled:
        refuse_leaf_write(self)
    if source is None:
        source = zeros(0, dtype=self.dtype)
    cell = source._storage if isinstance(source, Tensor) else source._cell
    if cell.node.dtype is not self.dtype:
        raise SpiralError(
            f"Could not set tensor of type {cell.node.dtype.name} to a tensor of type {self.dtype.name}"
        )
    if size is None:
        return _repointed(self, cell, source._steps if isinstance(source, Tensor) else (("RESHAPE", (cell.node.size,)),))
    shape = tuple(size)
    strides = contiguous_strides(shape) if stride is None else tuple(stride)
    return _repointed(self, cell, as_strided_steps(cell.node.size, shape, strides, int(storage_offset)))


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both see the same memory in the same way (torch.Tensor.is_set_to)."""
    same = self._storage is tensor._storage and self.shape == tensor.shape
    return same and self._layout() == tensor._layout()


METHODS: dict[str, Any] = {
    "is_contiguous": is_contiguous, "contiguous": contiguous, "clone": clone, "dim_order": dim_order, "view": view,
    "as_strided": as_strided, "as_strided_scatter": as_strided_scatter,
    "resize_": resize_, "resize_as_": resize_as_, "set_": set_, "is_set_to": is_set_to,
} | {
    name + "_": _moved(name)
    for name in ("as_strided", "squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims")
}  # fmt: skip
