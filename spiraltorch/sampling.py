"""Random tensors: what users call, with generators, shapes and torch's refusals; the numbers are records in ``ops.random``.

In: a generator (the default one unless given) and a shape.  Out: a tensor; the generator's counter moves on by what
was taken, so the same seed gives the same numbers on every backend.

    >>> import spiraltorch as st
    >>> st.manual_seed(0) is st.default_generator, st.rand(2, 3).shape
    (True, torch.Size([2, 3]))
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import dtypes
from .creation import like, made, no_more, size_of, type_or
from .dtypes import DType
from .errors import SpiralError
from .ir import graph, lang
from .ops import random as bodies
from .ops.registry import Op, raise_dtype
from .random import Generator, default_generator
from .shapes import broadcast_shapes
from .storage import queue
from .tape import Call, mode
from .tensor import Tensor, attach, from_node
from .writes import write

__all__ = [
    "bernoulli", "binomial", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm",
]  # fmt: skip


def _generator(given: Any) -> Generator:
    if given is not None and not isinstance(given, Generator):
        raise TypeError(f"generator must be a Generator, not {type(given).__name__}")
    return default_generator if given is None else given


def draw(op: Op, shape: tuple[int, ...], generator: Generator | None, *args: Any, **kwargs: Any) -> Any:
    """The node of a random record; the generator moves on."""
    g = _generator(generator)
    return op.body(g.key_node(), g.take(bodies.words(shape)), shape, *args, **kwargs)


def _random(
    body: Op, *shape: Any, size: Any = (), generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **options: Any,
) -> Tensor:  # fmt: skip
    no_more(body.name, options)
    d = type_or(dtype, dtypes.get_default_dtype())
    wanted = size_of(shape or size)
    if d.is_complex:
        re, im = (draw(body, wanted, generator, dtype=d.to_real()) for _ in range(2))
        n = lang.complex_(re, im)
        return made(n * math.sqrt(0.5) if body is bodies.randn else n, device, requires_grad)
    return made(draw(body, wanted, generator, dtype=d), device, requires_grad)


def rand(*size: Any, **kwargs: Any) -> Tensor:
    """Uniform on [0, 1) (torch.rand)."""
    return _random(bodies.rand, *size, **kwargs)


def randn(*size: Any, **kwargs: Any) -> Tensor:
    """Standard normal; the parts of complex numbers have half the variance each (torch.randn)."""
    return _random(bodies.randn, *size, **kwargs)


def _drawn_like(name: str, input: Tensor, drawn: Callable[..., Tensor], kwargs: dict[str, Any]) -> Tensor:
    layout = {"memory_format": kwargs.pop("memory_format")} if "memory_format" in kwargs else {}
    return like(name, input, layout, partial(drawn, **{"dtype": input.dtype, "device": input.device, **kwargs}))


def rand_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Uniform on [0, 1) in the shape and type of ``input`` (torch.rand_like)."""
    return _drawn_like("rand_like", input, rand, kwargs)


def randn_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Standard normal in the shape and type of ``input`` (torch.randn_like)."""
    return _drawn_like("randn_like", input, randn, kwargs)


def randint(
    low: Any = None, high: Any = None, size: Any = None, *, generator: Any = None, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, **options: Any,
) -> Tensor:  # fmt: skip
    """Integers from ``low`` (default 0) up to ``high``, without it (torch.randint).  Raises RuntimeError when empty."""
    if size is None:
        low, high, size = None, low, high
    if not isinstance(size, (tuple, list)) or high is None:
        raise TypeError(f"randint() takes an upper bound and a tuple of sizes, not high={high!r} and size={size!r}")
    low = 0 if low is None else low
    no_more("randint", options)
    d = type_or(dtype, dtypes.int64)
    if d.is_complex:
        raise SpiralError("check_random_bounds handles only integral, floating-point and boolean types")
    _refuse_bounds(low, high, d)
    node = draw(bodies.randint, size_of(size), generator, low=int(low), high=int(high), dtype=d)
    return made(node, device, requires_grad)


def _refuse_bounds(low: Any, high: Any, d: DType) -> None:
    """Raise TypeError for bounds that are no integers, RuntimeError for such that ``d`` cannot hold."""
    for v in (low, high):
        if isinstance(v, float):
            raise TypeError(f"the bounds must be int, not float ({v})")
    least, most = (0, 1) if d.kind == "b" else (np.iinfo(d.np).min, np.iinfo(d.np).max) if d.kind in "iu" else (None, None)
    if least is not None and most is not None:
        if int(low) < least:
            raise SpiralError(f"from is out of bounds for {d.name}")
        if int(high) - 1 > most:
            raise SpiralError(f"to - 1 is out of bounds for {d.name}")


def randint_like(input: Tensor, low: int, high: int | None = None, **kwargs: Any) -> Tensor:
    """:func:`randint` in the shape and type of ``input`` (torch.randint_like)."""
    if high is None:
        low, high = 0, low
    return _drawn_like("randint_like", input, partial(randint, low, high), kwargs)


def randperm(
    n: int, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **options: Any
) -> Tensor:
    """A random permutation of 0 .. n - 1 (torch.randperm)."""
    no_more("randperm", options)
    g, n = _generator(generator), operator.index(n)
    d = type_or(dtype, dtypes.int64)
    dtypes.fitting(max(n - 1, 0), d)
    node = bodies.randperm.body(g.key_node(), g.take(bodies.words((max(0, int(n)),))), int(n), dtype=d)
    return made(node, device, requires_grad)


def _made_of(t: Tensor, node: Any) -> Tensor:
    return _drawn([t], from_node(node, t.device))


class _Drawn(Call):
    """What was drawn with such chances: its slope in them is 0, as in torch."""

    saves = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def vjp(self, grads: Sequence[Any], outs: Sequence[Any], nodes: Sequence[Any]) -> list[Any]:
        return [graph.full(0, n.shape, n.dtype) for n in nodes]


def _drawn(given: list[Tensor], t: Tensor) -> Tensor:
    if mode.enabled and any([p._tracked for p in given]):
        attach(_Drawn("RandomBackward0"), given, [t])
    return t


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None, **options: Any) -> Tensor:
    """Normal with ``mean`` and ``std``, numbers or tensors (torch.normal)."""
    device, grad = options.pop("device", None), options.pop("requires_grad", False)
    no_more("normal", options)
    given = [v for v in (mean, std) if isinstance(v, Tensor)]
    if size is None:
        if not given:
            raise TypeError("normal() missing a size: mean and std are numbers")
        size = broadcast_shapes(*[v.shape for v in given])
        device = device or given[0].device
        dtype = dtype or given[0].dtype
    if isinstance(std, Tensor) and queue.trace is None and std.numel() and bool((std < 0).any()):
        raise SpiralError("normal expects all elements of std >= 0.0")
    parts = [v._read() if isinstance(v, Tensor) else v for v in (mean, std)]
    d = type_or(dtype, dtypes.get_default_dtype())
    if d.is_complex:
        return (randn(tuple(size), generator=generator, dtype=d, device=device) * std + mean).requires_grad_(grad)  # type: ignore[no-any-return]
    return _drawn(given, made(draw(bodies.normal, size_of((tuple(size),)), generator, *parts, dtype=d), device, grad))


def bernoulli(input: Tensor, p: Any = None, *, generator: Any = None) -> Tensor:
    """1 with the chance that ``input`` (or ``p``) says, else 0, in the type of ``input`` (torch.bernoulli).

    Raises RuntimeError for chances outside [0, 1].
    """
    if p is None:
        _refuse(input, bodies.bernoulli)
        if queue.trace is None and input.numel() and not bool(((input >= 0) & (input <= 1)).all()):
            raise SpiralError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    chance = input if p is None else p
    chance = chance._read() if isinstance(chance, Tensor) else chance
    return _made_of(input, draw(bodies.bernoulli, tuple(input.shape), generator, chance, dtype=input.dtype))


def _refuse(input: Tensor, op: Op) -> None:
    if input.dtype.kind != "f":
        raise_dtype(op, input.dtype)


def poisson(input: Tensor, generator: Any = None) -> Tensor:
    """Poisson counts with the means in ``input`` (torch.poisson).  Raises RuntimeError for negative means."""
    if queue.trace is None and input.numel() and bool((input < 0).any()):
        raise SpiralError("invalid Poisson rate, expected rate to be non-negative")
    return _made_of(input, draw(bodies.poisson, tuple(input.shape), generator, input._read()))


def binomial(count: Tensor, prob: Tensor, generator: Any = None) -> Tensor:
    """How many of ``count`` trials succeed, each with chance ``prob`` (torch.binomial)."""
    shape = tuple(broadcast_shapes(count.shape, prob.shape))
    return _drawn([prob], from_node(draw(bodies.binomial, shape, generator, count._read(), prob._read()), count.device))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with chances proportional to the last axis (torch.multinomial).

    Raises RuntimeError for weights that are negative, not finite or all 0.
    """
    if input.ndim not in (1, 2):
        raise SpiralError("prob_dist must be 1 or 2 dim")
    _refuse(input, bodies.multinomial)
    if num_samples <= 0:
        raise SpiralError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.shape[-1]:
        raise SpiralError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if queue.trace is None and input.numel():
        p = input.detach()
        if not bool(((p >= 0) & (p < float("inf"))).all()):
            raise SpiralError("probability tensor contains either `inf`, `nan` or element < 0")
        if not bool((p.sum(-1) > 0).all()):
            raise SpiralError("invalid multinomial distribution (sum of probabilities <= 0)")
    shape = (*input.shape[:-1], int(num_samples))
    words = shape if replacement else tuple(input.shape)
    g = _generator(generator)
    node = bodies.multinomial.body(g.key_node(), g.take(bodies.words(words)), shape, input._read(), replacement)
    return _made_of(input, node)


# -- in place -------------------------------------------------------------------------------------------


def _written(op: Op, parameters: tuple[str, ...], defaults: tuple[Any, ...], check: Callable[..., None] | None = None) -> Any:
    """``x.name_(...)``: numbers of ``op`` written over the tensor."""

    def method(self: Tensor, *args: Any, generator: Any = None, **kwargs: Any) -> Tensor:
        if len(args) > len(parameters) or any(k not in parameters for k in kwargs):
            raise TypeError(f"{op.name}_() takes {', '.join(parameters)}, got {args} and {kwargs}")
        given = dict(zip(parameters, defaults)) | dict(zip(parameters, args)) | kwargs
        if any(v is _MISSING for v in given.values()):
            raise TypeError(f"{op.name}_() missing required argument ({', '.join(parameters)})")
        if check is not None:
            check(**given)
        values = [given[p]._read() if isinstance(given[p], Tensor) else given[p] for p in parameters]
        if op is bodies.normal and self.dtype.is_complex:
            node = normal(given["mean"], given["std"], self.shape, generator=generator, dtype=self.dtype, device=self.device)._read()
        else:
            node = draw(op, tuple(self.shape), generator, *values, dtype=self.dtype)
        return write(self, node, from_node(node, self.device))

    method.__name__ = method.__qualname__ = op.name + "_"
    method.__doc__ = f"Written over with: {op.doc}"
    return method


_MISSING = object()


def _check_uniform(a: float, b: float) -> None:
    if a > b:
        raise SpiralError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")


def _uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None, **names: Any) -> Tensor:
    """Written over with uniform numbers in [from, to) (torch.Tensor.uniform_)."""
    a, b = names.pop("from", a), names.pop("to", b)
    if names:
        raise TypeError(f"uniform_() got unexpected keyword arguments {sorted(names)}")
    _check_uniform(a, b)
    node = draw(bodies.uniform, tuple(self.shape), generator, a, b, dtype=self.dtype)
    return write(self, node, from_node(node, self.device))


def _random_(self: Tensor, low: Any = None, high: Any = None, *, generator: Any = None, **names: Any) -> Tensor:
    """Written over with integers in [from, to); without limits over what the type holds (torch.Tensor.random_)."""
    low, high = names.pop("from", low), names.pop("to", high)
    if names:
        raise TypeError(f"random_() got unexpected keyword arguments {sorted(names)}")
    if high is None:
        low, high = 0, (_largest(self.dtype) + 1 if low is None else low)
    _refuse_bounds(low, high, self.dtype)
    node = draw(bodies.randint, tuple(self.shape), generator, low=int(low), high=int(high), dtype=self.dtype)
    return write(self, node, from_node(node, self.device))


def _largest(d: DType) -> int:
    """The largest integer that ``random_`` gives: all below are exact in the type."""
    if d.kind == "f":
        return {"float64": 1 << 53, "float32": 1 << 24, "float16": 1 << 11, "bfloat16": 1 << 8}[d.name]
    return 1 if d.kind == "b" else (1 << (d.bits - (d.kind == "i"))) - 1


def _bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Written over with 1 with chance ``p``, else 0 (torch.Tensor.bernoulli_)."""
    chance = p._read() if isinstance(p, Tensor) else p
    node = draw(bodies.bernoulli, tuple(self.shape), generator, chance, dtype=self.dtype)
    return write(self, node, from_node(node, self.device))


METHODS: dict[str, Any] = {
    "uniform_": _uniform_, "random_": _random_, "bernoulli_": _bernoulli_, "bernoulli": bernoulli, "multinomial": multinomial,
    "normal_": _written(bodies.normal, ("mean", "std"), (0.0, 1.0)),
    "exponential_": _written(bodies.exponential, ("lambd",), (1.0,)),
    "geometric_": _written(bodies.geometric, ("p",), (_MISSING,)),
    "cauchy_": _written(bodies.cauchy, ("median", "sigma"), (0.0, 1.0)),
    "log_normal_": _written(bodies.log_normal, ("mean", "std"), (1.0, 2.0)),
}  # fmt: skip
