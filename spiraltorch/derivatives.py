"""Derivatives of functions rather than of recorded tensors (torch.autograd.functional).

In: a function of tensors and where to differentiate it.  Out: products with its Jacobian or Hessian, or the matrices.

    >>> import spiraltorch as st
    >>> st.autograd.functional.jacobian(lambda x: x * x, st.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .autograd import enable_grad, grad
from .creation import ones_like, zeros, zeros_like
from .errors import SpiralError
from .tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = tuple[Tensor, ...]


def _tuple(value: Any, what: str) -> tuple[Tensors, bool]:
    """(tensors, whether they came in a tuple).  Raises TypeError for anything else."""
    many = isinstance(value, tuple)
    found = tuple(value) if many else (value,)
    for i, t in enumerate(found):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"The {what} must be either a Tensor or a tuple of Tensors but the value at index {i} has type {type(t).__name__}."
            )
    return found, many


def _leaves(inputs: Tensors, create_graph: bool) -> Tensors:
    """Inputs to differentiate by: on the caller's tape with ``create_graph``, else on none."""
    if create_graph:
        return tuple([t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs])  # type: ignore[attr-defined]
    return tuple([t.detach().requires_grad_() for t in inputs])


def _called(func: Callable[..., Any], inputs: Tensors, what: str) -> tuple[Tensors, bool]:
    return _tuple(func(*inputs), f"outputs of the user-provided function given to {what}")


def _given(v: Any, like: Tensors, name: str, of: str) -> Tensors:
    """The vector of a product; ones for a function of one number when there is none.  Raises RuntimeError for shapes."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise SpiralError(
                f"The vector {name} can only be None if the {of} of the user-provided function is a single Tensor with a single "
                "element."
            )
        return (ones_like(like[0]),)
    found, _ = _tuple(v, name)
    if len(found) != len(like):
        raise SpiralError(f"{name} is a tuple of invalid length: should be {len(like)} but got {len(found)}.")
    for i, (a, b) in enumerate(zip(found, like)):
        if a.shape != b.shape:
            raise SpiralError(f"{name} has invalid size: entry {i} should be {list(b.shape)} but got {list(a.shape)}.")
    return found


def _gradients(outs: Sequence[Tensor], ins: Tensors, seeds: Sequence[Any] | None, create_graph: bool, strict: bool) -> Tensors:
    """Gradients by ``ins``, zeros where nothing depends on one (an error with ``strict``)."""
    live = [(o, None if seeds is None else s) for o, s in zip(outs, seeds or [None] * len(outs)) if o.requires_grad]
    if strict and len(live) < len(outs):
        raise SpiralError("An output of the user-provided function is independent of the input. This is not allowed in strict mode.")
    if not live:
        return tuple([zeros_like(t) for t in ins])
    found = grad([o for o, _ in live], ins, None if seeds is None else [s for _, s in live], True, create_graph, allow_unused=True)
    if strict and any(g is None for g in found):
        raise SpiralError("The output of the user-provided function is independent of an input. This is not allowed in strict mode.")
    return tuple([zeros_like(t) if g is None else g for g, t in zip(found, ins)])


def _out(values: Sequence[Tensor], many: bool, create_graph: bool) -> Any:
    kept = tuple(values) if create_graph else tuple([v.detach() for v in values])
    return kept if many else kept[0]


@enable_grad()
def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, v @ Jacobian) of ``func`` at ``inputs`` (torch.autograd.functional.vjp)."""
    given, many = _tuple(inputs, "inputs given to vjp")
    ins = _leaves(given, create_graph)
    outs, several = _called(func, ins, "vjp")
    found = _gradients(outs, ins, _given(v, outs, "v", "output"), create_graph, strict)
    return _out(outs, several, create_graph), _out(found, many, create_graph)


@enable_grad()
def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, Jacobian @ v) of ``func`` at ``inputs``, by two backward passes (torch.autograd.functional.jvp)."""
    given, _ = _tuple(inputs, "inputs given to jvp")
    ins = _leaves(given, create_graph)
    along = _given(v, ins, "v", "input")
    outs, several = _called(func, ins, "jvp")
    seeds = tuple([zeros_like(o).requires_grad_() for o in outs])
    back = _gradients(outs, ins, seeds, True, strict)
    found = _gradients(back, seeds, along, create_graph, False)
    return _out(outs, several, create_graph), _out(found, several, create_graph)


@enable_grad()
def jacobian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """d outputs / d inputs, of shape outputs + inputs, one pass an element (torch.autograd.functional.jacobian)."""
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')
    if vectorize and strict:
        raise SpiralError("torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together.")
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError('strategy="forward-mode" needs vectorize=True; or leave the strategy at "reverse-mode"')
    given, many = _tuple(inputs, "inputs given to jacobian")
    ins = _leaves(given, create_graph)
    outs, several = _called(func, ins, "jacobian")
    rows = []
    for o in outs:
        parts: list[list[Tensor]] = [[] for _ in ins]
        for one in o.reshape(-1):  # type: ignore[attr-defined]
            for part, g in zip(parts, _gradients([one], ins, None, create_graph, strict)):
                part.append(g)
        rows.append([_stacked(part, (*o.shape, *t.shape), t) for part, t in zip(parts, ins)])
    table = [_out(row, many, create_graph) for row in rows]
    return tuple(table) if several else table[0]


def _stacked(parts: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
    from .dispatch import call
    from .ops.registry import OPS

    if not parts:
        return zeros(shape, dtype=like.dtype)  # type: ignore[no-any-return]
    return call(OPS["stack"], (parts,)).reshape(shape)  # type: ignore[no-any-return]


def _scalar(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``func`` with its result checked to be one number."""

    def checked(*ins: Tensor) -> Tensor:
        out = func(*ins)
        if not isinstance(out, Tensor):
            raise SpiralError(f"The function given to {name} should return a single Tensor")
        if out.numel() != 1:
            raise SpiralError(f"The Tensor returned by the function given to {name} should contain a single element")
        return out.reshape(())  # type: ignore[attr-defined, no-any-return]

    return checked


def hessian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """Second derivatives of a function that gives one number (torch.autograd.functional.hessian)."""
    _, many = _tuple(inputs, "inputs given to hessian")
    scalar = _scalar(func, "hessian")

    def first(*ins: Tensor) -> Any:
        found = jacobian(scalar, ins, create_graph=True, strict=strict)
        return found if many else found[0]

    return jacobian(first, inputs, create_graph=create_graph, strict=strict)


@enable_grad()
def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, v @ Hessian) of a function that gives one number (torch.autograd.functional.vhp)."""
    given, many = _tuple(inputs, "inputs given to vhp")
    ins = _leaves(given, create_graph)
    along = _given(v, ins, "v", "input")
    out = _scalar(func, "vhp")(*ins)
    first = _gradients([out], ins, None, True, strict)
    found = _gradients(first, ins, along, create_graph, strict)
    return _out([out], False, create_graph), _out(found, many, create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, Hessian @ v): the Hessian is symmetric, so this is :func:`vhp` (torch.autograd.functional.hvp)."""
    return vhp(func, inputs, v, create_graph, strict)
