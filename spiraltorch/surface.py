"""The rest of torch's surface that is no operator's record: in-place basics, conversions, questions about types and
threads; and the methods that its neighbours (layouts, shapes, sampling, factories) give to Tensor."""

from __future__ import annotations

from math import e, inf, nan, pi
from typing import Any

import numpy as np

from . import autograd_graph, counts, dtypes, factories, interop, layouts, overrides, sampling, shapes, storages
from .creation import over_array, refuse_no_tensor, type_or
from .dispatch import call, view_call, view_of
from .dtypes import DType
from .errors import SpiralError
from .ir import graph
from .ir.node import cast
from .ops.registry import OPS
from .ops.registry import result_type as _result_type
from .outs import write_result
from .storage import Storage, computed_at_once
from .tape import mode
from .tensor import Tensor, from_node, tensor_over
from .writes import refuse_leaf_write, refuse_overlap, refuse_own_overlap, write

__all__ = [
    "adjoint", "allclose", "can_cast", "e", "equal", "finfo", "get_num_threads", "iinfo", "inf", "is_floating_point",
    "is_nonzero", "is_same_size", "is_tensor", "nan", "newaxis", "numel", "pi", "result_type", "set_num_threads",
]  # fmt: skip

newaxis = None


# -- questions -----------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def is_floating_point(input: Tensor) -> bool:
    refuse_no_tensor("is_floating_point", input)
    return input.dtype.is_floating_point


def numel(input: Tensor) -> int:
    return input.numel()


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not 0 (torch.is_nonzero).  Raises RuntimeError for more than one."""
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have one shape (torch.is_same_size)."""
    return tuple(input.shape) == tuple(other.shape)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have one shape and the same elements (torch.equal)."""
    refuse_no_tensor("equal", input)
    refuse_no_tensor("equal", other)
    return tuple(input.shape) == tuple(other.shape) and bool(call(OPS["all"], (call(OPS["eq"], (input, other)),)).item())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """``|input - other| <= atol + rtol * |other|`` everywhere (torch.allclose)."""
    if input.device is not other.device:
        from .transfer import apart

        raise apart(input.device, other.device)
    options = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    return bool(call(OPS["all"], (call(OPS["isclose"], (input, other), options),)).item())


def result_type(a: Any, b: Any) -> DType:
    """The type that arithmetic between the two gives (torch.result_type)."""
    return _result_type([a, b])


def can_cast(source: DType, target: DType) -> bool:
    """Whether a result of ``source`` may be written to ``target`` (torch.can_cast)."""
    if source.category > target.category:
        return False
    return not (target is dtypes.bool_ and source is not dtypes.bool_)


class _Limits:
    """What finfo and iinfo share: they say what they hold, and are equal for equal types."""

    dtype: str
    _shown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in self._shown]
        parts = [f"{name}={v}" if isinstance(v, int) else f"{name}={v:g}" for name, v in values]
        return f"{type(self).__name__}({', '.join(parts)}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.dtype == other.dtype  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.dtype))


class finfo(_Limits):
    """Limits of a floating type (torch.finfo)."""

    _shown = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")

    def __init__(self, dtype: DType | None = None) -> None:
        import ml_dtypes

        d = type_or(dtype, dtypes.get_default_dtype()).to_real()
        if not d.is_floating_point:
            raise TypeError(f"finfo() requires a floating point type, use iinfo() for {d.name}")
        self.dtype = d.name
        f = ml_dtypes.finfo(dtypes.BY_NAME[self.dtype].np)
        self.bits = int(f.bits)
        self.eps, self.max, self.min = float(f.eps), float(f.max), float(f.min)
        self.tiny = self.smallest_normal = float(f.tiny)
        self.resolution = float(f"1e-{f.precision}")


class iinfo(_Limits):
    """Limits of an integer type (torch.iinfo)."""

    _shown = ("min", "max")

    def __init__(self, dtype: DType) -> None:
        if type_or(dtype, None).kind not in "iu":
            raise TypeError(f"iinfo() requires an integer type, use finfo() for {dtype.name}")
        i = np.iinfo(dtype.np)
        self.bits, self.min, self.max, self.dtype = i.bits, int(i.min), int(i.max), dtype.name


def set_num_threads(n: int) -> None:
    """Threads that kernels run on; results do not depend on it (torch.set_num_threads)."""
    from .runtime.threads import set_num_threads as change

    change(n)


def get_num_threads() -> int:
    from .runtime.threads import get_num_threads as count

    return count()


# -- methods -------------------------------------------------------------------------------------------


def _written(value: Any) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = value(self, *args, **kwargs)
        if not isinstance(result, Tensor):
            result = from_node(cast(result, self.dtype), self.device)
        return write(self, result._read(), result, over=value is _fill)

    return method


def _fill(self: Tensor, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.ndim:
            raise SpiralError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
        return value.to(self.device, self.dtype).expand(tuple(self.shape))
    return graph.full(dtypes.fitting(value, self.dtype), tuple(self.shape), self.dtype)


def _zero(self: Tensor) -> Any:
    return graph.full(0, tuple(self.shape), self.dtype)


def _copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write ``src`` (which may broadcast) into this tensor."""
    from .creation import as_tensor

    if mode.enabled:
        refuse_leaf_write(self)
    src = as_tensor(src, device=self.device)
    refuse_own_overlap(self)
    refuse_overlap(self, (src,))
    if src.dtype is not self.dtype:
        src = src.to(self.dtype)
    if tuple(src.shape) != tuple(self.shape):
        src = src.expand(tuple(self.shape))
    write(self, src._read(), src, over=True)
    computed_at_once((src,), (self,))
    return self


def _converter(d: DType) -> Any:
    def convert(self: Tensor, memory_format: Any = layouts.preserve_format) -> Tensor:
        return self.to(d, memory_format=memory_format)

    convert.__name__ = d.name
    convert.__doc__ = f"This tensor as {d.name}."
    return convert


def _shaped_like(name: str) -> Any:
    def method(self: Tensor, other: Tensor) -> Tensor:
        return view_call(OPS[name], (self, tuple(other.shape)), {})  # type: ignore[no-any-return]

    return method


def _transposed(self: Tensor) -> Tensor:
    return self.permute(*reversed(range(self.ndim)))


def _matrix_transposed(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise SpiralError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return self.transpose(-2, -1)


def _adjoint(self: Tensor) -> Tensor:
    """The last two axes exchanged, complex numbers conjugated (torch.adjoint)."""
    t = _matrix_transposed(self)
    return t.conj() if self.dtype.is_complex else t


def _hermitian(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        raise SpiralError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor. For batches of matrices, "
            "consider using tensor.mH"
        )
    return _adjoint(self) if self.ndim else self


def adjoint(input: Tensor) -> Tensor:
    """The last two axes exchanged, complex numbers conjugated (torch.adjoint)."""
    if input.ndim < 2:
        raise SpiralError(f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor.")
    return _adjoint(input)


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of this tensor's type as torch spells it, or this tensor as ``dtype``, which may be a name or a class like
    ``st.LongTensor`` (torch.Tensor.type)."""
    if isinstance(dtype, interop.TypedTensor):
        dtype = dtype.dtype
    if dtype is None:
        return f"torch.{interop.TYPE_NAMES[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        short = dtype.rpartition(".")[2].removesuffix("Tensor")
        found = [name for name, word in interop.TYPE_NAMES.items() if word == short]
        if not found:
            raise ValueError(f"invalid type: {dtype!r}")
        dtype = dtypes.BY_NAME[found[0]]
    return self.to(type_or(dtype, None))


def _device_number(self: Tensor) -> int:
    """The index of a GPU, -1 for the CPU (torch.Tensor.get_device)."""
    return -1 if self.device.type == "cpu" else int(self.device.index or 0)


def _as_subclass(self: Tensor, cls: type) -> Tensor:
    """This tensor's data as an instance of a subclass of Tensor (torch.Tensor.as_subclass)."""
    t = view_of(self, (), "alias")
    t.__class__ = cls
    return t  # type: ignore[no-any-return]


def _memory(self: Storage) -> int:
    """The address of the first byte (torch.UntypedStorage.data_ptr); realizes."""
    return tensor_over(self, ()).data_ptr()


def _bytes(self: Storage) -> int:
    """How many bytes there are (torch.UntypedStorage.nbytes)."""
    return self.node.nbytes


def _itself(self: Tensor, *args: Any) -> Tensor:
    """This tensor: host memory is one kind here."""
    return self


def _no_axes(self: Tensor) -> int:
    """0: no axes of a dense tensor are stored by index."""
    return 0


def _never(self: Tensor, *args: Any) -> bool:
    """False: there is no such tensor here."""
    return False


def _layout(self: Tensor) -> Any:
    return layouts.strided


def _is_cpu(self: Tensor) -> bool:
    return self.device.type == "cpu"


def _is_cuda(self: Tensor) -> bool:
    return self.device.type == "cuda"


def _apply_(self: Tensor, function: Any) -> Tensor:
    """Each element replaced by a Python function of it (torch.Tensor.apply_); looks at the values."""
    values = np.array(self._values())
    flat = values.reshape(-1)
    for i, v in enumerate(flat.tolist()):
        flat[i] = function(v)
    return self.copy_(over_array(values))  # type: ignore[no-any-return]


def _map_(self: Tensor, other: Tensor, function: Any) -> Tensor:
    """Each element replaced by a Python function of it and the other tensor's (torch.Tensor.map_); looks at the values."""
    values, others = np.array(self._values()), np.broadcast_to(other._values(), tuple(self.shape)).reshape(-1).tolist()
    flat = values.reshape(-1)
    for i, (v, o) in enumerate(zip(flat.tolist(), others)):
        flat[i] = function(v, o)
    return self.copy_(over_array(values))  # type: ignore[no-any-return]


def _polygamma(self: Tensor, n: int) -> Tensor:
    """The ``n``-th derivative of digamma (torch.Tensor.polygamma)."""
    return call(OPS["polygamma"], (n, self))  # type: ignore[no-any-return]


def _polygamma_(self: Tensor, n: int) -> Tensor:
    """:func:`polygamma` written into this tensor (torch.Tensor.polygamma_)."""
    return write_result(self, _polygamma(self, n), "polygamma_")


def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor's elements where ``condition`` is true, else those of ``other`` (torch.Tensor.where)."""
    return call(OPS["where"], (condition, self, other))  # type: ignore[no-any-return]


_NEVER = (
    "is_quantized is_sparse is_sparse_csr is_meta is_mps is_xla is_xpu is_ipu is_mtia is_maia is_vulkan is_mkldnn is_nested"
).split()

_METHODS: dict[str, Any] = {
    "view_as": _shaped_like("view"), "reshape_as": _shaped_like("reshape"), "equal": equal, "allclose": allclose,
    "where": _where, "polygamma": _polygamma,
    "T": property(_transposed), "mT": property(_matrix_transposed), "H": property(_hermitian), "mH": property(_adjoint),
    "adjoint": adjoint, "type": _type, "get_device": _device_number, "as_subclass": _as_subclass, "pin_memory": _itself,
    "share_memory_": _itself, "to_dense": _itself, "dense_dim": Tensor.dim, "sparse_dim": _no_axes,
    "is_pinned": _never, "is_shared": _never, "is_inference": _never,
    "is_same_size": is_same_size, "is_nonzero": is_nonzero, "layout": property(_layout),
    "is_cpu": property(_is_cpu), "is_cuda": property(_is_cuda),
    **{name: property(_never) for name in _NEVER},
    "apply_": _apply_, "map_": _map_,
    "ndimension": Tensor.dim, "const_data_ptr": Tensor.data_ptr, "record_stream": _itself,
}  # fmt: skip


def install_methods(space: dict[str, Any]) -> None:
    """Put the methods of this module and its neighbours onto Tensor, and torch's in-place functions into ``space``."""
    written = {"fill_": _written(_fill), "zero_": _written(_zero), "copy_": _copy_, "polygamma_": _polygamma_}
    neighbours = [m.METHODS for m in (autograd_graph, layouts, shapes, counts, sampling, factories, interop, storages, overrides)]
    for methods in (written, _METHODS, *neighbours):
        for name, method in methods.items():
            setattr(Tensor, name, method)
    for name, ask in {"data_ptr": _memory, "nbytes": _bytes, "size": _bytes, "__len__": _bytes}.items():
        setattr(Storage, name, ask)
    for name, d in {
        "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "bfloat16": dtypes.bfloat16,
        "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "bool": dtypes.bool_, "byte": dtypes.uint8,
        "char": dtypes.int8, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128,
    }.items():  # fmt: skip
        setattr(Tensor, name, _converter(d))
    for name, typed in factories.OUT.items():
        space[name] = factories.into(space[name], typed)
    space.update(positive=shapes.positive, conj_physical=shapes.conj_physical)
    for name, copying in shapes.COPIES.items():
        space.setdefault(name, copying)
    for name in overrides.ASKING:
        space[name] = overrides.asking(name, space[name])
    for name in _INPLACE_FUNCTIONS:
        if hasattr(Tensor, name):
            space.setdefault(name, getattr(Tensor, name))


#: what torch has as functions too
_INPLACE_FUNCTIONS = (
    "abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_ asinh_ atan_ atanh_ ceil_ "
    "celu_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ deg2rad_ detach detach_ erf_ erfc_ exp2_ exp_ expm1_ "
    "fill_ fix_ floor_ frac_ gcd_ i0_ index_put_ lcm_ ldexp_ log10_ log1p_ log2_ log_ logit_ nan_to_num_ neg_ negative_ "
    "rad2deg_ reciprocal_ relu_ resize_as_ round_ rsqrt_ selu_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ "
    "threshold_ trunc_ xlogy_ zero_ get_device is_inference is_signed is_complex"
).split()
