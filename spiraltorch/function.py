"""Functions with a backward of the user's own, and a check of derivatives.

>>> import spiraltorch as st
>>> class Cube(st.autograd.Function):
...     @staticmethod
...     def forward(ctx, x):
...         ctx.save_for_backward(x)
...         return x * x * x
...     @staticmethod
...     def backward(ctx, grad):
...         (x,) = ctx.saved_tensors
...         return grad * 3 * x * x
>>> x = st.tensor(2.0, requires_grad=True)
>>> Cube.apply(x).backward()
>>> x.grad
tensor(12.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import dtypes
from .autograd import enable_grad, grad, no_grad
from .device import CPU
from .errors import SpiralError, VersionError, user_origin
from .ir import graph
from .storage import seen_writes
from .tape import Call, GradFn, Packed, WriteCall, _modified, mode
from .tensor import Tensor, from_node, tensor_over


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self) -> None:
        self.to_save: tuple[Any, ...] = ()
        self.dirty_tensors: tuple[Tensor, ...] = ()
        self.non_differentiable: tuple[Tensor, ...] = ()
        self.materialize_grads = True
        self.needs_input_grad: tuple[bool, ...] = ()
        self._step: _FunctionStep | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``saved_tensors``; writes to them in between are noticed."""
        self.to_save = tensors

    def mark_dirty(self, *args: Tensor) -> None:
        """Inputs that forward changed in place; it must return them."""
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Outputs that have no gradient."""
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that nothing depends on."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        step = self._step
        return self.to_save if step is None else step.saved_tensors

    saved_variables = saved_tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Accepted: there is no forward mode here."""

    def mark_shared_storage(self, *pairs: Any) -> None:
        """Accepted: what shares memory is known."""


class _UserCall(Call):
    """Says the name; the tape step below does the rest."""

    saves = ""

    def __init__(self, name: str) -> None:
        self.name = name


def _refuse_saved(tensors: Sequence[Any]) -> None:
    for i, t in enumerate(tensors):
        if t is not None and not isinstance(t, Tensor):
            raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}")


class _FunctionStep(GradFn):
    """One ``apply`` on the tape."""

    __slots__ = ("function", "ctx", "inputs_given", "kept", "places", "__dict__")

    def __init__(
        self, function: type[Function], ctx: FunctionCtx, given: Sequence[Any], results: Sequence[Any]
    ) -> None:
        outputs = [o for o in results if isinstance(o, Tensor)]
        self.places = [isinstance(o, Tensor) for o in results]
        super().__init__(
            _UserCall(function.__name__ + "Backward"), [t for t in given if isinstance(t, Tensor)], outputs
        )
        self.function, self.ctx = function, ctx
        self.__dict__ = ctx.__dict__  # in torch the context is the step
        self.inputs_given = [isinstance(t, Tensor) for t in given]
        self.origin: Any = user_origin(3)

    def keep(self, outputs: Sequence[Tensor]) -> None:
        """Hold on to what was saved; outputs by their memory, since they hold this step."""
        self.kept: Any = []
        for t in self.ctx.to_save:
            number = next((k for k, o in enumerate(outputs) if o is t), None)
            if t is not None and mode.packing is not None:
                self.kept.append((Packed(t if number is None else t.detach(), None if number is None else (self, number)), None, 0, 0))
            elif t is None or number is None:
                self.kept.append((t, None, 0, 0 if t is None else t._storage.version))
            else:
                self.kept.append((t._storage, t._steps, number, t._storage.version))
        self.ctx.to_save = ()

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        if self.freed:
            raise SpiralError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they "
                "have already been freed). Specify retain_graph=True if you need to backward through the graph a "
                "second time."
            )
        out: list[Tensor | None] = []
        for what, steps, number, version in self.kept:
            if what is None:
                out.append(None)
                continue
            if type(what) is Packed:
                out.append(what.unpack())
                continue
            cell = what._storage if steps is None else what
            t = what if steps is None else tensor_over(cell, steps)
            if cell.version != version and seen_writes(cell, version):
                raise VersionError(_modified(self, t.shape, t.dtype, cell.version, version))
            if steps is not None:
                t._fn, t._index, t._seen = self, number, cell.history_version
            out.append(t)
        return tuple(out)

    def backward(self, grads: Sequence[Tensor | None], create_graph: bool) -> list[Tensor | None]:
        ctx = self.ctx
        given = list(grads)
        if ctx.materialize_grads:
            shapes = [(tuple(shape), dtype) for _, _, shape, dtype in self.outs]
            where = next((g.device for g in given if g is not None), CPU)
            given = [from_node(graph.full(0, *s), where) if g is None else g for g, s in zip(given, shapes)]
        supplied = iter(given)
        given = [next(supplied) if is_tensor else None for is_tensor in self.places]
        ctx._step = self  # only meanwhile: a lasting reference would be a cycle
        try:
            found = self.function._backward()(ctx, *given)
        finally:
            ctx._step = None
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        count = len(self.inputs_given)
        if len(results) > count and all(r is None for r in results[count:]):
            results = results[:count]
        if len(results) != count:
            raise SpiralError(
                f"function {self.name()} returned an incorrect number of gradients (expected {count}, got {len(results)})"
            )
        for i, (r, is_tensor) in enumerate(zip(results, self.inputs_given)):
            if r is not None and not is_tensor:
                raise SpiralError(
                    f"function {self.name()} returned a gradient different from None at position {i + 1}, but the "
                    "corresponding forward input was not a Variable"
                )
        of_tensors = [r for r, is_tensor in zip(results, self.inputs_given) if is_tensor]
        return [None if e is None else self._fitting(i, r) for i, (e, r) in enumerate(zip(self.edges, of_tensors))]

    def _fitting(self, i: int, g: Any) -> Tensor | None:
        """A gradient summed to its input's shape and converted to its type."""
        if g is None:
            return None
        if not isinstance(g, Tensor):
            raise SpiralError(f"expected Variable or None (got {type(g).__name__})")
        shape, dtype = self.types[i]
        if tuple(g.shape) != tuple(shape):
            lead = g.ndim - len(shape)
            if lead < 0 or any(a != b and b != 1 for a, b in zip(g.shape[lead:], shape)):
                raise SpiralError(
                    f"Function {self.name()} returned an invalid gradient at index {i} - got {list(g.shape)} but expected "
                    f"shape compatible with {list(shape)}"
                )
            axes = [*range(lead), *[lead + k for k, (a, b) in enumerate(zip(g.shape[lead:], shape)) if a != b]]
            g = g.sum(axes, keepdim=True).reshape(tuple(shape))
        return g if g.dtype is dtype else g.to(dtype)

    def free(self) -> None:
        self.freed = bool(self.kept)
        self.kept = []


class Function:
    """Base of functions with a backward of their own (torch.autograd.Function).

    ``forward(ctx, *args)`` computes, or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``
    beside it; ``backward(ctx, *grads)`` gives one gradient, or None, for each argument.  Call ``apply``.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    #: torch's other name of ``backward``
    vjp = backward

    @classmethod
    def _backward(cls) -> Callable[..., Any]:
        if cls.vjp is Function.vjp:
            return cls.backward
        if cls.backward is not Function.backward:
            raise SpiralError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only implement one of them."
            )
        return cls.vjp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise SpiralError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function with "
            "static forward method, and call its apply()."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward off the tape and put the whole on it as one step."""
        ctx = FunctionCtx()
        tracked = mode.enabled and any(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx.needs_input_grad = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
        with no_grad():
            if cls.setup_context is Function.setup_context:
                found = cls.forward(ctx, *args, **kwargs)
            else:
                bound = inspect.signature(cls.forward).bind(*args, **kwargs)
                bound.apply_defaults()
                args = bound.args
                found = cls.forward(*args, **bound.kwargs)
                cls.setup_context(ctx, args, found)
        _refuse_saved(ctx.to_save)
        several = isinstance(found, tuple)
        if any([not any([d is o for o in (found if several else [found])]) for d in ctx.dirty_tensors]):
            raise SpiralError(
                "Some elements marked as dirty during the forward method were not returned as output. The inputs that are modified "
                "inplace must all be outputs of the Function."
            )
        outs = [_as_output(o, args, ctx) for o in (found if several else [found])]
        if tracked:
            _tape(cls, ctx, args, found if several else [found], outs)
        return tuple(outs) if several else outs[0]


def _as_output(value: Any, args: Sequence[Any], ctx: FunctionCtx) -> Any:
    """A result that is an argument is given back as another tensor over the same memory."""
    if any(value is a for a in args) and not any(value is d for d in ctx.dirty_tensors) and isinstance(value, Tensor):
        value = tensor_over(value._storage, value._steps)
        value._base = next(a for a in args if isinstance(a, Tensor) and a._storage is value._storage)
    return value


def _tape(
    cls: type[Function], ctx: FunctionCtx, args: Sequence[Any], found: Sequence[Any], outs: Sequence[Any]
) -> None:
    for t in ctx.dirty_tensors:
        if t._fn is None and t._requires_grad:
            raise SpiralError("a leaf Variable that requires grad is being used in an in-place operation.")
    step = _FunctionStep(cls, ctx, args, outs)
    step.keep([f for f in found if isinstance(f, Tensor)])
    excluded = {id(t) for t in ctx.non_differentiable}
    k = 0
    for f, o in zip(found, outs):
        if not isinstance(o, Tensor):
            continue
        if id(f) not in excluded and o.dtype.kind in "fc":
            if any(o is d for d in ctx.dirty_tensors):
                if o._steps:
                    _write_view(o, step, k)
                    k += 1
                    continue
                o._storage.history, o._storage.history_version = (step, k), o._storage.version
            elif o._base is not None and any([isinstance(a, Tensor) and a._storage is o._storage for a in args]):
                o.__dict__["_one_of_many"] = cls.__name__
            o._fn, o._index, o._seen = step, k, o._storage.version
            o._detached = False
        k += 1


def _write_view(view: Tensor, step: _FunctionStep, number: int) -> None:
    """The history of the memory under ``view``, which forward changed in place."""
    from .writes import _base

    base, cell = _base(view), view._storage
    value = from_node(view._read(), cell.device)
    value._fn, value._index = step, number
    cell.history, cell.history_version = (GradFn(WriteCall(view._steps), [base, value], [base]), 0), cell.version


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a ``backward`` whose result is no function on the tape: differentiating it again raises."""

    @functools.wraps(backward)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        recording = mode.enabled
        with no_grad():
            found = backward(ctx, *grads)
        if not recording or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return found
        several = isinstance(found, (tuple, list))
        results = [r if r is None else _Refusal.apply(r, *grads) for r in (found if several else [found])]
        return tuple(results) if several else results[0]

    return wrapper


class _Refusal(Function):
    """Identity that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *parents: Any) -> Tensor:
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise SpiralError("trying to differentiate twice a function that was marked with @once_differentiable")


# -- checking derivatives ----------------------------------------------------------------------------------


class GradcheckError(RuntimeError):
    """A backward disagrees with central differences."""


def _outputs(func: Callable[..., Any], inputs: Sequence[Any], parts: bool = True) -> list[Tensor]:
    """The results that have derivatives; complex ones as their real and imaginary ``parts`` on a last axis."""
    found = func(*inputs)
    several = found if isinstance(found, (tuple, list)) else [found]
    live = [o for o in several if isinstance(o, Tensor) and o.dtype.kind in "fc"]
    return [o.view_as_real() if parts and o.dtype.is_complex else o for o in live]


def _reals(a: np.ndarray) -> np.ndarray:
    """The numbers that differences are taken over, flat in float64."""
    wide = np.array(a, np.complex128 if a.dtype.kind == "c" else np.float64)
    return wide.reshape(-1).view(np.float64)


def _numerical(func: Callable[..., Any], inputs: Sequence[Any], which: int, eps: float) -> list[np.ndarray]:
    """d outputs / d inputs[which], each [elements of the input, elements of the output]."""
    x = inputs[which]
    start = _reals(x._values())
    columns: list[list[np.ndarray]] = []
    for i in range(start.size):
        sides = []
        for step in (eps, -eps):
            moved = start.copy()
            moved[i] += step
            args = list(inputs)
            args[which] = _tensor_of(moved.view(np.complex128) if x.dtype.is_complex else moved, x)
            with no_grad():
                sides.append([np.array(o._values(), np.float64).reshape(-1) for o in _outputs(func, args)])
        columns.append([(up - down) / (2 * eps) for up, down in zip(*sides)])
    count = len(columns[0]) if columns else 0
    return [np.stack([c[k] for c in columns]) for k in range(count)]


def _tensor_of(values: np.ndarray, like: Tensor) -> Tensor:
    """``values`` as a tensor of the type and shape of ``like``, on its device."""
    from .creation import over_array

    return over_array(np.ascontiguousarray(values.astype(like.dtype.np)).reshape(like.shape), like.device)


def _analytical(output: Tensor, x: Tensor) -> np.ndarray:
    """d output / d x by backward, one row of the transposed result an element of the output."""
    rows = []
    count = x.numel() * (1 + x.dtype.is_complex)
    for i in range(output.numel()):
        seed = np.zeros(output.numel())
        seed[i] = 1
        (g,) = grad(
            output, x, _tensor_of(seed, output), retain_graph=True, allow_unused=True
        )
        rows.append(np.zeros(count) if g is None else _reals(g._values()))
    return np.stack(rows, 1) if rows else np.zeros((count, 0))


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare backward with central differences at ``inputs``, which should be float64 (torch.autograd.gradcheck).

    The whole Jacobians are always compared, whatever ``fast_mode`` says; there is no forward mode to check, and gradients in
    batches are one pass each.

    Raises GradcheckError with both Jacobians where they differ, or returns False without ``raise_exception``.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if not checked:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True."
        )
    with enable_grad():
        outputs = _outputs(func, inputs)
        problem = _first_problem(func, inputs, checked, outputs, eps, atol, rtol, nondet_tol)
    if problem and raise_exception:
        raise GradcheckError(problem)
    return not problem


def _first_problem(
    func: Callable[..., Any],
    inputs: list[Any],
    checked: list[int],
    outputs: list[Tensor],
    eps: float,
    atol: float,
    rtol: float,
    nondet: float,
) -> str:
    for i in checked:
        numerical = _numerical(func, inputs, i, eps)
        for k, o in enumerate(outputs):
            if not o.requires_grad:
                continue
            analytical = _analytical(o, inputs[i])
            expected = numerical[k] if numerical else np.zeros_like(analytical)
            if not np.allclose(analytical, expected, rtol, atol):
                note = (
                    ""
                    if inputs[i].dtype.to_real() is dtypes.float64
                    else " (the input is not float64, which central differences need)"
                )
                worst = np.unravel_index(np.argmax(np.abs(analytical - expected)), expected.shape)
                return (
                    f"Jacobian mismatch for output {k} with respect to input {i}{note}, largest at input element "
                    f"{int(worst[0])}, output element {int(worst[1])}:\nnumerical:{expected}\nanalytical:{analytical}\n"
                )
            again = _analytical(o, inputs[i])
            if np.abs(again - analytical).max(initial=0.0) > nondet:
                return (
                    f"Backward is not reentrant: with the same input it gives different values (output {k}, input {i})"
                )
    return ""


def gradgradcheck(
    func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, gen_non_contig_grad_outputs: bool = False,
    check_rev_over_rev: bool = True, check_fwd_over_rev: bool = False, **options: Any,
) -> bool:  # fmt: skip
    """:func:`gradcheck` of the gradient itself, with its options (torch.autograd.gradgradcheck)."""
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        draw = np.random.default_rng(0)
        grad_outputs = []
        for o in _outputs(func, inputs, parts=False):
            seed = draw.standard_normal(o.numel() * (1 + o.dtype.is_complex))
            grad_outputs.append(_tensor_of(seed.view(np.complex128) if o.dtype.is_complex else seed, o))
    seeds = [
        g.detach().requires_grad_() for g in ([grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs)
    ]

    def gradients(*args: Any) -> Any:
        own, given = list(args[: len(inputs)]), args[len(inputs) :]
        wanted = [
            i for i, x in enumerate(own) if isinstance(x, Tensor) and (x.requires_grad or inputs[i].requires_grad)
        ]
        for i in wanted:
            if not own[i].requires_grad:
                own[i] = own[i].requires_grad_()
        with enable_grad():
            outs = _outputs(func, own, parts=False)
            return grad(
                outs,
                [own[i] for i in wanted],
                list(given),
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

    return gradcheck(gradients, [*inputs, *seeds], **options)
