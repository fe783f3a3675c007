"""The rest of torch's surface that is no operator's record: in-place basics, conversions, random
factories, questions about types and threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes, layouts, shapes
from .creation import full, made, no_more, ones, over_array, size_of, type_or, zeros
from .dispatch import call, view_call
from .dtypes import DType
from .errors import SpiralError
from .ir import graph
from .ir.node import cast
from .ops import random as bodies
from .ops.registry import OPS
from .ops.registry import result_type as _result_type
from .random import Generator, default_generator
from .storage import computed_at_once
from .tape import mode
from .tensor import Tensor, from_node
from .writes import refuse_leaf_write, write

__all__ = ["allclose", "equal"]


# -- random --------------------------------------------------------------------------------------------


def _draw(op: Any, shape: tuple[int, ...], generator: Generator | None, **kwargs: Any) -> Any:
    g = generator or default_generator
    return op.body(g.key_node(), g.take(bodies.words(shape)), shape, **kwargs)


def _random(
    body: Any, *shape: Any, size: Any = (), generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **options: Any,
) -> Tensor:  # fmt: skip
    no_more(body.name, options)
    d = type_or(dtype, dtypes.get_default_dtype())
    return made(_draw(body, size_of(shape or size), generator, dtype=d), device, requires_grad)


def rand(*size: Any, **kwargs: Any) -> Tensor:
    """Uniform on [0, 1) (torch.rand)."""
    return _random(bodies.rand, *size, **kwargs)


def randn(*size: Any, **kwargs: Any) -> Tensor:
    """Standard normal (torch.randn)."""
    return _random(bodies.randn, *size, **kwargs)


def rand_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Uniform on [0, 1) in the shape and type of ``input`` (torch.rand_like)."""
    return rand(tuple(input.shape), **{"dtype": input.dtype, **kwargs})


def randn_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Standard normal in the shape and type of ``input`` (torch.randn_like)."""
    return randn(tuple(input.shape), **{"dtype": input.dtype, **kwargs})


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = None, device: Any = None, **options: Any
) -> Tensor:
    """Integers from ``low`` (default 0) up to ``high``, without it (torch.randint).  Raises RuntimeError when empty."""
    if size is None:
        low, high, size = 0, low, high
    no_more("randint", options)
    d = type_or(dtype, dtypes.int64)
    return made(_draw(bodies.randint, size_of(size), generator, low=int(low), high=int(high), dtype=d), device)


def randperm(n: int, *, generator: Any = None, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """A random permutation of 0 .. n - 1 (torch.randperm)."""
    no_more("randperm", options)
    return made(_permutation(int(n), generator, dtype), device)


def _permutation(n: int, generator: Generator | None, dtype: DType | None) -> Any:
    g = generator or default_generator
    return cast(bodies.randperm.body(g.key_node(), g.take(bodies.words((n,))), n), type_or(dtype, dtypes.int64))


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None, **options: Any) -> Tensor:
    """Normal with ``mean`` and ``std``, numbers or tensors (torch.normal)."""
    no_more("normal", options)
    if size is None:
        shapes = [tuple(v.shape) for v in (mean, std) if isinstance(v, Tensor)]
        size = np.broadcast_shapes(*shapes)
    return randn(tuple(size), generator=generator, dtype=dtype) * std + mean  # type: ignore[operator, no-any-return]


def bernoulli(input: Tensor, *, generator: Any = None) -> Tensor:
    """1 with the probability that ``input`` says, else 0 (torch.bernoulli)."""
    return (rand(tuple(input.shape), generator=generator) < input).to(input.dtype)  # type: ignore[operator, no-any-return]


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with probabilities proportional to the last axis (torch.multinomial)."""
    p = input._values().astype(np.float64)
    if (p < 0).any() or not np.isfinite(p).all():
        raise SpiralError("probability tensor contains either `inf`, `nan` or element < 0")
    rows = p.reshape(-1, p.shape[-1])
    if (rows.sum(-1) <= 0).any():
        raise SpiralError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement and ((rows > 0).sum(-1) < num_samples).any():
        raise SpiralError("invalid multinomial distribution (with replacement=False, not enough non-negative category to sample)")
    if replacement:
        u = rand(rows.shape[0], num_samples, generator=generator, dtype=dtypes.float64)._values()
        edges = np.cumsum(rows / rows.sum(-1, keepdims=True), -1)
        out = np.stack([np.minimum(np.searchsorted(e, v, "right"), rows.shape[1] - 1) for e, v in zip(edges, u)])
    else:
        # Exponential races: the smallest keys are a draw without replacement (Efraimidis and Spirakis, 2006).
        u = rand(*rows.shape, generator=generator, dtype=dtypes.float64)._values()
        with np.errstate(divide="ignore"):
            keys = np.where(rows > 0, -np.log1p(-u) / rows, np.inf)
        out = np.argsort(keys, -1, kind="stable")[:, :num_samples]
    return over_array(np.ascontiguousarray(out.reshape(*p.shape[:-1], num_samples)).astype(np.int64))


# -- questions -----------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def is_floating_point(input: Tensor) -> bool:
    return input.dtype.is_floating_point


def numel(input: Tensor) -> int:
    return input.numel()


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have one shape and the same elements (torch.equal)."""
    return tuple(input.shape) == tuple(other.shape) and bool(call(OPS["all"], (call(OPS["eq"], (input, other)),)).item())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """``|input - other| <= atol + rtol * |other|`` everywhere (torch.allclose)."""
    return bool(np.allclose(input._values(), other._values(), rtol, atol, equal_nan))


def result_type(a: Any, b: Any) -> DType:
    """The type that arithmetic between the two gives (torch.result_type)."""
    return _result_type([a, b])


def can_cast(source: DType, target: DType) -> bool:
    """Whether a result of ``source`` may be written to ``target`` (torch.can_cast)."""
    if source.category > target.category:
        return False
    return not (target is dtypes.bool_ and source is not dtypes.bool_)


class finfo:
    """Limits of a floating type (torch.finfo)."""

    def __init__(self, dtype: DType | None = None) -> None:
        import ml_dtypes

        d = type_or(dtype, dtypes.get_default_dtype())
        if not d.is_floating_point:
            raise TypeError(f"finfo() requires a floating point type, use iinfo() for {d.name}")
        self.dtype = d.name
        f = ml_dtypes.finfo(dtypes.BY_NAME[self.dtype].np)
        self.bits = int(f.bits)
        self.eps, self.max, self.min = float(f.eps), float(f.max), float(f.min)
        self.tiny = self.smallest_normal = float(f.tiny)
        self.resolution = float(f"1e-{f.precision}")


class iinfo:
    """Limits of an integer type (torch.iinfo)."""

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
        return write(self, result._read(), result)

    return method


def _fill(self: Tensor, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.ndim:
            raise SpiralError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
        return value.to(self.dtype).expand(tuple(self.shape))
    return graph.full(value, tuple(self.shape), self.dtype)


def _zero(self: Tensor) -> Any:
    return graph.full(0, tuple(self.shape), self.dtype)


def _copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write ``src`` (which may broadcast) into this tensor."""
    from .creation import as_tensor

    if mode.enabled:
        refuse_leaf_write(self)
    src = as_tensor(src)
    if src.dtype is not self.dtype:
        src = src.to(self.dtype)
    if tuple(src.shape) != tuple(self.shape):
        src = src.expand(tuple(self.shape))
    write(self, src._read(), src)
    computed_at_once((src,), (self,))
    return self


def _uniform(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Any:
    node = _draw(bodies.rand, tuple(self.shape), generator, dtype=self.dtype)
    return from_node(node) * (high - low) + low  # type: ignore[operator]


def _normal(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
    return from_node(_draw(bodies.randn, tuple(self.shape), generator, dtype=self.dtype)) * std + mean  # type: ignore[operator]


def _bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Any:
    u = rand(tuple(self.shape), generator=generator)
    return (u < p).to(self.dtype)  # type: ignore[operator]


def _converter(d: DType) -> Any:
    def convert(self: Tensor) -> Tensor:
        return self.to(d)

    convert.__name__ = d.name
    convert.__doc__ = f"This tensor as {d.name}."
    return convert


def _shaped_like(name: str) -> Any:
    def method(self: Tensor, other: Tensor) -> Tensor:
        return view_call(OPS[name], (self, tuple(other.shape)), {})  # type: ignore[no-any-return]

    return method


def _new(factory: Any) -> Any:
    def method(self: Tensor, *size: Any, **kwargs: Any) -> Tensor:
        kwargs.setdefault("dtype", self.dtype)
        return factory(*size, **kwargs)  # type: ignore[no-any-return]

    return method


def _transposed(self: Tensor) -> Tensor:
    return self.permute(*reversed(range(self.ndim)))


def _matrix_transposed(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise SpiralError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return self.transpose(-2, -1)


def _new_tensor(self: Tensor, data: Any, **kwargs: Any) -> Tensor:
    from .creation import tensor

    return tensor(data, **{"dtype": self.dtype, **kwargs})


def install_methods() -> None:
    """Put the methods of this module onto Tensor."""
    for name, method in {
        "fill_": _written(_fill), "zero_": _written(_zero), "copy_": _copy_, "uniform_": _written(_uniform),
        "normal_": _written(_normal), "bernoulli_": _written(_bernoulli_),
        "view_as": _shaped_like("view"), "reshape_as": _shaped_like("reshape"),
        "new_zeros": _new(zeros), "new_ones": _new(ones), "new_empty": _new(zeros), "new_full": _new(full),
        "new_tensor": _new_tensor, "equal": equal, "allclose": allclose, "bernoulli": bernoulli, "multinomial": multinomial,
        "T": property(_transposed), "mT": property(_matrix_transposed),
    }.items():  # fmt: skip
        setattr(Tensor, name, method)
    for name, method in {**layouts.METHODS, **shapes.METHODS}.items():
        setattr(Tensor, name, method)
    for name, d in {
        "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "bfloat16": dtypes.bfloat16,
        "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "bool": dtypes.bool_,
    }.items():  # fmt: skip
        setattr(Tensor, name, _converter(d))

