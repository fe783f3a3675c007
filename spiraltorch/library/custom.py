"""``custom_op``: a user's function as an operator with shapes, gradient, fusion and a place in compiled programs.

In: a scalar function, an array function or a ``@triton.jit`` kernel.  Out: a :class:`CustomOp`, called on tensors.

    a scalar function     its source is read as rows of the graph (:mod:`.translate`): inlined into kernels, differentiated;
                          what can't be read runs as a native Numba loop over the elements
    an array function     ``shape=`` says its result's shape; called once with NumPy arrays over the operands' memory
    a Triton kernel       ``grid=`` says how many programs; on a CPU they run in Triton's interpreter
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dispatch import call
from ..dtypes import DType
from ..errors import SpiralError
from ..function import Function
from ..ir import graph, lang
from ..ir.node import Node
from ..kernels.library.routine import ROUTINES, Routine
from ..ops.registry import Op
from ..tensor import Tensor
from .translate import Untranslatable, translate

_numbers = itertools.count()
_TASK = 1024  # elements of one task of a native loop


class CustomOp:
    """A user's operator.  ``fused`` says whether it is part of its neighbours' kernels, and ``reason`` why not."""

    def __init__(self, name: str, record: Op, reason: str = "") -> None:
        self.name, self.record, self.reason = name, record, reason
        self._function: type[Function] | None = None
        self.__doc__, self.__name__ = record.doc, name

    @property
    def fused(self) -> bool:
        return not self.reason

    def __repr__(self) -> str:
        return f"<custom op {self.name}{self.record.signature}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            tracked = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
            if tracked and self.reason:
                raise SpiralError(
                    f"custom op {self.name} has no gradient: it is not fused because {self.reason}. Say grad= or register_autograd."
                )
            return call(self.record, args, kwargs)
        bound = self.record.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._function.apply(*bound.args, *bound.kwargs.values())

    def register_autograd(self, backward: Callable[..., Any], /, *, setup_context: Callable[..., Any] | None = None) -> None:
        """The gradient: ``setup_context(ctx, inputs, output)`` keeps what ``backward(ctx, grad)`` needs, which gives one
        gradient, or None, for each argument (torch.library.register_autograd)."""
        record = self.record

        def forward(*args: Any) -> Any:
            return call(record, args)

        def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if setup_context is not None:
                setup_context(ctx, inputs, output)

        fields = {"forward": staticmethod(forward), "setup_context": staticmethod(setup), "backward": staticmethod(backward)}
        self._function = type(self.name.replace("::", "_"), (Function,), fields)


def custom_op(
    name: str, function: Any = None, *, shape: Callable[..., Any] | None = None, dtype: DType | None = None,
    grad: Callable[..., Any] | None = None, grid: Callable[..., Any] | None = None, sizes: Callable[..., Any] | None = None,
    constants: dict[str, Any] | None = None, mutates_args: Sequence[str] = (),
) -> Any:  # fmt: skip
    """Make an operator of a function; use as a decorator (torch.library.custom_op).

    name: ``"namespace::name"``.  A function without ``shape`` and ``grid`` is one of numbers: operands broadcast and
    integers become floats.  shape: ``shape(*shapes of the tensors) -> shape`` of the result of an array function
    (of a kernel: the first tensor's unless said).  dtype: the result's type (None: the first tensor's).  grad:
    ``grad(g, out, *args) -> one gradient or None for each argument``, in ``st`` operations.  A Triton kernel gets pointers
    of the tensors and of the result, then ``sizes(*shapes)`` (None: the number of elements of the result), then
    ``constants``; ``grid(*shapes) -> programs`` along each axis.

    Raises TypeError for what is no function, NotImplementedError for ``mutates_args``.
    """
    if function is None:

        def decorate(f: Any) -> CustomOp:
            return custom_op(
                name, f, shape=shape, dtype=dtype, grad=grad, grid=grid, sizes=sizes, constants=constants, mutates_args=mutates_args
            )  # type: ignore[no-any-return]

        return decorate
    if mutates_args:
        raise NotImplementedError(f"custom op {name}: writing to arguments is not supported, give the result back instead")
    if grid is not None:
        made = _kernel(name, function, shape, dtype, grid, sizes, dict(constants or {}))
    elif not callable(function):
        raise TypeError(f"custom op {name}: expected a function, got {type(function).__name__}")
    elif shape is not None:
        made = _array(name, function, shape, dtype)
    else:
        made = _scalar(name, function)
    if grad is not None:
        _give_gradient(made, grad)
    return made


def _give_gradient(made: CustomOp, grad: Callable[..., Any]) -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(output, *[a for a in inputs if isinstance(a, Tensor)])
        ctx.template = [None if isinstance(a, Tensor) else a for a in inputs]
        ctx.places = [isinstance(a, Tensor) for a in inputs]

    def backward(ctx: Any, g: Any) -> Any:
        out, *tensors = ctx.saved_tensors
        supply = iter(tensors)
        return grad(g, out, *[next(supply) if t else a for a, t in zip(ctx.template, ctx.places)])

    made.register_autograd(backward, setup_context=setup)


def _record(name: str, body: Callable[..., Any], like: Callable[..., Any], **fields: Any) -> Op:
    """An operator's record that is in no namespace, with the user's parameter names and text."""
    parameters = [p.replace(annotation="Any") for p in inspect.signature(like).parameters.values()]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Op(name, body, where=(), doc=inspect.getdoc(like) or "", **fields)


def _routine(name: str, value: Callable[..., Any], **fields: Any) -> str:
    """Register a library routine under a name of its own: a second definition does not meet the first one's code."""
    unique = f"custom.{name.replace('::', '_')}.{next(_numbers)}"
    ROUTINES[unique] = Routine(unique, value, **fields)
    return unique


# -- functions of numbers -------------------------------------------------------------------------------


def _scalar(name: str, function: Any) -> CustomOp:
    plain = getattr(function, "py_func", function)
    count = len(inspect.signature(plain).parameters)
    try:
        body = translate(plain)
        body(*[graph.param(i, (), lang.dtypes.float32) for i in range(count)])
    except Untranslatable as e:
        if plain is function:
            raise TypeError(f"custom op {name}: {e}; put @numba.njit on it to have it called for each element") from None
        return CustomOp(name, _record(name, _per_element(name, function, count), plain, operands=count, promote="float", kinds="f"), str(e))
    return CustomOp(name, _record(name, body, plain, operands=count, promote="float", kinds="f"))


def _per_element(name: str, function: Any, count: int) -> Callable[..., Node]:
    letters = [f"a{i}" for i in range(count)]
    text = (
        f"def loops({', '.join(letters)}, out, n, lo, hi):\n"
        f"    for i in range(lo * {_TASK}, min(hi * {_TASK}, n)):\n"
        f"        out[i] = one({', '.join([f'{a}[i]' for a in letters])})\n"
    )

    def value(static: Any, *arrays: np.ndarray) -> np.ndarray:
        return np.vectorize(function.py_func, otypes=[arrays[0].dtype])(*arrays) if arrays[0].size else arrays[0].copy()

    def loops(kernel: Any) -> Callable[..., None]:
        space: dict[str, Any] = {"one": function}
        exec(text, space)
        return space["loops"]  # type: ignore[no-any-return]

    def sizes(n: Node) -> list[int]:
        return [n.size]

    def tasks(kernel: Any, ints: Sequence[int]) -> tuple[int, int]:
        return max(1, -(-ints[0] // _TASK)), 1

    routine = _routine(name, value, sizes=sizes, numba=loops, tasks=tasks)

    def body(*operands: Any) -> Node:
        like = next(o for o in operands if isinstance(o, Node))
        shape = lang.shapes_broadcast([o.shape for o in operands if isinstance(o, Node)])
        nodes = [graph.broadcast(lang.lift(o, like), shape) for o in operands]
        return graph.call(routine, tuple(nodes), shape, like.dtype)

    return body


# -- functions of arrays, and kernels -------------------------------------------------------------------


def _whole(
    name: str, like: Callable[..., Any], value: Callable[..., Any], shape: Callable[..., Any] | None, dtype: DType | None,
    parameters: Any = None,
) -> CustomOp:  # fmt: skip
    """An operator that is one library call: ``value(numbers, *arrays)`` with None for the tensors in ``numbers``."""
    routine = _routine(name, value, fails=True)

    def body(*args: Any) -> Node:
        nodes = [a for a in args if isinstance(a, Node)]
        if not nodes:
            raise TypeError(f"{name}() needs a tensor")
        shapes = [n.shape for n in nodes]
        out = tuple([int(n) for n in (shapes[0] if shape is None else shape(*shapes))])
        numbers = tuple([None if isinstance(a, Node) else a for a in args])
        return graph.call(routine, tuple(nodes), out, dtype or nodes[0].dtype, *numbers)

    record = _record(name, body, like if parameters is None else parameters, acc=False)
    record.doc = record.doc or inspect.getdoc(like) or ""
    return CustomOp(name, record, "it is called as a whole")


def _array(name: str, function: Any, shape: Callable[..., Any], dtype: DType | None) -> CustomOp:
    def value(numbers: tuple[Any, ...], *arrays: np.ndarray) -> Any:
        supply = iter(arrays)
        return function(*[next(supply) if n is None else n for n in numbers])

    return _whole(name, getattr(function, "py_func", function), value, shape, dtype)


def _kernel(
    name: str, kernel: Any, shape: Callable[..., Any] | None, dtype: DType | None, grid: Callable[..., Any],
    sizes: Callable[..., Any] | None, constants: dict[str, Any],
) -> CustomOp:  # fmt: skip
    if not hasattr(kernel, "fn"):
        raise TypeError(f"custom op {name}: grid= is for a function under @triton.jit, got {type(kernel).__name__}")
    plain = kernel.fn

    def value(numbers: tuple[Any, ...], *arrays: np.ndarray) -> np.ndarray:
        from ..kernels.triton.interpreter import run_function

        shapes = [a.shape for a in arrays]
        found = tuple(shapes[0] if shape is None else shape(*shapes))
        out = np.empty(found, arrays[0].dtype if dtype is None else dtype.np)
        ints = [math.prod(found)] if sizes is None else list(sizes(*shapes))
        programs = grid(*shapes)
        if out.size:
            run_function(plain, tuple(programs), [*arrays, out], ints, constants)
        return out

    def parameters(*tensors: Any) -> None: ...

    return _whole(name, plain, value, shape, dtype, parameters)


__all__ = ["CustomOp", "custom_op"]
