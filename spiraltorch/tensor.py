"""The Tensor: a view of a :class:`~spiraltorch.storage.Storage`, with a place on the tape.

Nothing is computed when an operation is called; its node is recorded.  ``item``, ``numpy``, ``repr``,
``bool`` and friends realize.  Operators come from the records in :mod:`spiraltorch.ops`; see
:mod:`spiraltorch.dispatch`, which installs them here as methods.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .again import moved
from .autograd import backward
from .device import CPU, device
from .dtypes import DType
from .errors import SpiralError, user_origin
from .ir.node import Node, cast
from .size import Size
from .storage import (
    Apart,
    Step,
    Storage,
    apply_steps,
    contiguous_strides,
    is_marked,
    layout,
    queue,
    realize,
    seen_writes,
    write_through,
)
from .tape import Call, GradFn, ViewCall, mode

if TYPE_CHECKING:
    from .methods import Methods
else:
    Methods = object

# How C reads one element of a type, for those that it knows.
_NATIVE: dict[DType, Any] = {
    dtypes.bool_: ctypes.c_bool, dtypes.uint8: ctypes.c_uint8, dtypes.int8: ctypes.c_int8, dtypes.int16: ctypes.c_int16,
    dtypes.int32: ctypes.c_int32, dtypes.int64: ctypes.c_int64, dtypes.float32: ctypes.c_float, dtypes.float64: ctypes.c_double,
}  # fmt: skip


class Tensor(Methods):
    """An n-dimensional array on the lazy graph, with torch's methods.  Make one with ``st.tensor`` etc."""

    __slots__ = (
        "_storage", "_steps", "_cache", "_cached_from", "_requires_grad", "_fn", "_index", "_seen", "_detached",
        "_hooks", "_base", "_grad", "__weakref__", "__dict__",
    )  # fmt: skip
    _storage: Storage
    _steps: tuple[Step, ...]
    _cache: Any
    _cached_from: Node | None
    _requires_grad: bool
    _fn: Any
    _index: int
    _seen: int
    _detached: bool | Apart
    _hooks: Any
    _base: Tensor | None
    _grad: Tensor | None

    if TYPE_CHECKING:  # what the operators' records install, besides the stub's methods

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __add__
        __eq__ = __ne__ = __add__  # type: ignore[assignment]
        __matmul__ = __floordiv__ = __mod__ = __and__ = __or__ = __xor__ = __lt__ = __le__ = __gt__ = __ge__ = __add__

        def __neg__(self) -> Tensor: ...

        __invert__ = __neg__

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from .interop import legacy_new

        t = legacy_new(None, args, **kwargs)
        t.__class__ = cls
        return t

    # -- the graph ---------------------------------------------------------------------------------

    def _read(self) -> Node:
        """The node of this tensor's current value."""
        node = self._storage.node
        if not self._steps:
            return node
        if self._cached_from is not node:
            self._cached_from = node
            self._cache = moved(node, self._steps) if queue.trace is None else apply_steps(node, self._steps)
        return self._cache  # type: ignore[no-any-return]

    def _history(self) -> GradFn | None:
        """The tape step that made the current value; found anew after a write through an alias."""
        cell = self._storage
        if cell.history is not None and self._seen < cell.history_version and not self._detached:
            self._seen = cell.history_version
            if not self._steps:
                self._fn, self._index = cell.history
            else:
                if self._base is not None and "_one_of_many" in self.__dict__ and mode.enabled:
                    raise SpiralError(
                        f"Output 0 of {self._one_of_many} is a view and its base or another view of its base has been modified "
                        "inplace. This view is the output of a function that returns multiple views. Make the views again after the "
                        "write, or write out of place."
                    )
                base = tensor_over(cell, ())
                base._fn, base._index = cell.history
                base._seen = cell.history_version
                self._fn, self._index = GradFn(ViewCall(self._steps), [base], [self]), 0
        return self._fn  # type: ignore[no-any-return]

    @property
    def _tracked(self) -> bool:
        return self._requires_grad or self._fn is not None or self._storage.history is not None

    def _buffer(self) -> Any:
        """The computed memory of the whole cell."""
        cell = self._storage
        trace = queue.trace
        if trace is not None and cell not in trace.literals:
            trace.interrupted()
        if cell.node.op != "BUFFER" or cell.error is not None:
            realize([cell])
        return cell.node.arg

    # -- what it is --------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return _new_tuple(Size, self._read().shape)  # integers are known to be in it

    @property
    def dtype(self) -> DType:
        return self._read().dtype if self._steps else self._storage.node.dtype

    @property
    def device(self) -> device:
        return self._storage.device

    @property
    def ndim(self) -> int:
        return len(self._read().shape)

    def dim(self) -> int:
        return len(self._read().shape)

    def size(self, dim: int | None = None) -> Any:
        if dim is None:
            return self.shape
        from .ops.registry import wrap_dim

        return self._read().shape[wrap_dim(dim, self.ndim)]

    def numel(self) -> int:
        return math.prod(self._read().shape)

    nelement = numel

    def element_size(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.numel() * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def _layout(self) -> tuple[tuple[int, ...], int]:
        if not self._steps:
            return contiguous_strides(self._storage.node.shape), 0
        return layout(self._storage.node.shape, self._steps)

    def stride(self, dim: int | None = None) -> Any:
        strides = self._layout()[0]
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        return self._layout()[1]

    def data_ptr(self) -> int:
        """Address of the first element; realizes.  From then on the memory counts as seen by others, who may write there."""
        return int(self._buffer().export().buffer.ptr) + self.storage_offset() * self.dtype.itemsize

    @property
    def _version(self) -> int:
        return self._detached.version if type(self._detached) is Apart else seen_writes(self._storage)

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self.dtype.is_complex

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    # -- autograd ----------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or self._history() is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise SpiralError("requires_grad must be a bool")
        if self._history() is not None:
            raise SpiralError("you can only change requires_grad flags of leaf variables.")
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if requires_grad and not self.dtype.is_floating_point and not self.dtype.is_complex:
            raise SpiralError("only Tensors of floating point and complex dtype can require gradients")
        if not requires_grad and self._history() is not None:
            raise SpiralError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        self._requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient of a leaf, or None."""
        trace = queue.trace
        if trace is not None:
            trace.grad_read(self)
        return self._grad  # type: ignore[no-any-return]

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if value is self:
                raise SpiralError("can't assign Variable as its own grad")
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value._storage.device is not self._storage.device:
                raise SpiralError(
                    f"assigned grad has data located on a different device: the tensor is on {self.device}, the gradient on {value.device}"
                )
            if tuple(value.shape) != tuple(self.shape):
                raise SpiralError(
                    f"assigned grad has data of a different size: the tensor is {list(self.shape)}, the gradient {list(value.shape)}"
                )
            if value.dtype is not self.dtype:
                raise SpiralError(f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with dtype '{self.dtype}'")
        trace = queue.trace
        if trace is not None:
            trace.grad_write(self)
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    @property
    def grad_fn(self) -> GradFn | None:
        return self._history()

    @property
    def is_leaf(self) -> bool:
        return self._history() is None

    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Accumulate d self / d leaf into every leaf's ``.grad`` (torch.Tensor.backward)."""
        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory, off the tape."""
        t = tensor_over(self._storage, self._steps)
        t._detached = self._detached or True
        return t

    @property
    def data(self) -> Tensor:
        """The same memory, off the tape and behind its back: backward does not notice what is written here."""
        t = tensor_over(self._storage, self._steps)
        t._detached = Apart()
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        """From now on this tensor is over the memory of ``value``; who saw its own keeps it."""
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self.requires_grad and value.dtype.kind not in "fc":
            raise SpiralError("data set to a tensor that requires gradients must be floating point or complex dtype")
        cell = self._storage
        if queue.trace is not None and value.dtype is self.dtype and value.shape == self.shape and value._storage.device is cell.device:
            cell.set(write_through(cell.node, self._steps, value._read()))
            return
        self._storage, self._steps, self._cached_from = value._storage, value._steps, None
        self._seen = value._storage.history_version

    # -- values ------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A NumPy array over the same memory; with ``force`` a copy where that cannot be.

        Raises RuntimeError when the tensor requires grad, TypeError when it is on a device.
        """
        if self._storage.device is not CPU:
            if force:
                return self.detach().cpu().numpy()
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if self.requires_grad and not force:
            raise SpiralError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        for mark, bit in (("CONJ", "conjugate"), ("NEG", "negative")) if self._steps else ():
            if is_marked(self._steps, mark):
                if force:
                    return from_node(self._read()).numpy()
                raise SpiralError(
                    f"Can't call numpy() on Tensor that has {bit} bit set. Use tensor.resolve_{mark.lower()}().numpy() instead."
                )
        strides, offset = self._layout()
        buffer = self._buffer()
        if not self.numel():
            return np.empty(self.shape, self.dtype.np)
        size = self.dtype.itemsize
        self._storage.exposed = True
        whole = np.asarray(buffer.export()).view(self.dtype.np)
        return np.lib.stride_tricks.as_strided(whole[offset:], self.shape, [s * size for s in strides])

    def _values(self) -> np.ndarray:
        """The elements as a private NumPy array (nothing is exported)."""
        if self._steps and any([kind in ("CONJ", "NEG") for kind, _ in self._steps]):
            return from_node(self._read(), self.device)._values()
        cell = self._buffer()
        node = self._storage.node
        if not self._steps:
            return cell.view(node.dtype.np, tuple(node.shape))  # type: ignore[no-any-return]
        strides, offset = self._layout()
        size = self.dtype.itemsize
        whole: np.ndarray = cell.view(self.dtype.np, (node.nbytes // size,))
        return np.lib.stride_tricks.as_strided(whole[offset:], self.shape, [s * size for s in strides])

    def item(self) -> Any:
        """The only element as a Python number.  Raises RuntimeError for more than one."""
        shape = self._read().shape if self._steps else self._storage.node.shape
        if shape and math.prod(shape) != 1:
            raise SpiralError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        if self._steps and is_marked(self._steps, "NEG"):
            return self._values().item()
        buffer = self._buffer()
        dtype = self._storage.node.dtype
        native = _NATIVE.get(dtype)
        if native is not None and buffer.device is CPU:
            offset = self._layout()[1] * dtype.itemsize if self._steps else 0
            return native.from_address(buffer.ptr + offset).value
        return float(self._values().reshape(())) if dtype.kind == "f" else self._values().item()

    def tolist(self) -> Any:
        v = self._values()
        return (v.astype(np.float64) if self.dtype.kind == "f" else v).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self.numpy()
        return a.astype(dtype) if dtype is not None and a.dtype != dtype else (a.copy() if copy else a)

    def __bool__(self) -> bool:
        count = self.numel()
        if count != 1:
            raise SpiralError(f"Boolean value of Tensor with {'more than one value' if count else 'no values'} is ambiguous")
        return bool(self.item())

    def __int__(self) -> int:
        return int(self._real_item("int"))

    def __float__(self) -> float:
        return float(self._real_item("double"))

    def _real_item(self, kind: str) -> Any:
        value = self._only()
        if not isinstance(value, complex):
            return value
        if value.imag:
            raise SpiralError(f"value cannot be converted to type {kind} without overflow: {value} is no real number")
        return value.real

    def _only(self) -> Any:
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __complex__(self) -> complex:
        return complex(self._only())

    def __index__(self) -> int:
        if self.dtype.category > dtypes.INT or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        from .printing import format_tensor

        return format_tensor(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 and type(self) is Tensor else object.__format__(self, spec)

    def __getitem__(self, index: Any) -> Tensor:
        from .indexing import getitem

        return getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        from .indexing import setitem

        setitem(self, index, value)

    def __dlpack__(self, *, stream: Any = None, **kwargs: Any) -> Any:
        if self._storage.device is not CPU:
            from .transfer import export

            return export(self, stream, kwargs)
        return self.detach().numpy().__dlpack__(**{k: v for k, v in kwargs.items() if v is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        if self._storage.device is CPU:
            return (1, 0)
        from .transfer import dlpack_device

        return dlpack_device(self)

    # -- conversion --------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``; ``copy=True`` always copies."""
        from .creation import convert

        return convert(self, *args, **kwargs)

    def cpu(self) -> Tensor:
        return self.to(CPU)

    def cuda(self, device: Any = None) -> Tensor:
        """On a GPU: the current one, or ``device`` (a number, name or device)."""
        return self.to("cuda" if device is None else device)

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other.dtype)


_new = object.__new__
_new_tuple = tuple.__new__


def from_node(node: Node, where: device = CPU) -> Tensor:
    """A tensor with memory of its own whose value is ``node``."""
    t = _new(Tensor)
    t._storage = Storage(node, where)
    t._steps = ()
    t._requires_grad = False
    t._fn = None
    t._index = 0
    t._seen = 0
    t._detached = False
    t._hooks = None
    t._base = None
    t._grad = None
    return t  # type: ignore[no-any-return]


def tensor_over(cell: Storage, steps: Sequence[Step]) -> Tensor:
    """A tensor that views ``cell`` through ``steps``."""
    t = _new(Tensor)
    t._storage = cell
    t._steps = tuple(steps)
    t._cached_from = None
    t._requires_grad = False
    t._fn = None
    t._index = 0
    t._seen = 0
    t._detached = False
    t._hooks = None
    t._base = None
    t._grad = None
    return t  # type: ignore[no-any-return]


def record_call(call: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a call on tensors and put it on the tape if an input requires grad."""
    where = inputs[0]._storage.device if inputs else CPU
    outs = [from_node(n, where) for n in call.forward([t._read() for t in inputs])]
    attach(call, inputs, outs)
    return outs


def attach(call: Call, inputs: Sequence[Tensor], outs: Sequence[Tensor]) -> None:
    """Put ``call`` on the tape as what made ``outs``, if it is to be differentiated."""
    if not mode.enabled or not any(t._tracked and t.requires_grad for t in inputs):
        return
    outs = list(outs)
    live = [k for k, o in enumerate(outs) if o.dtype.kind in "fc" and k not in call.fixed]
    if not live:
        return
    fn = GradFn(call, inputs, outs)
    fn.origin = user_origin(2)
    for k, o in enumerate(outs):
        if k in live:
            o._fn, o._index = fn, k
            o._seen = o._storage.version


def add_grads(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two gradients; on the tape only in ``create_graph`` mode."""
    return a + b  # type: ignore[operator]


__all__ = ["Size", "Tensor", "add_grads", "attach", "cast", "from_node", "queue", "record_call", "tensor_over"]
