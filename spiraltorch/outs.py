"""torch's ``out=``: a function's results written into tensors that the caller has.

    st.add(x, y, out=z)               z holds the sum, converted to its type, and is returned
    st.max(x, 1, out=(values, at))    two results, two tensors

Raises RuntimeError where torch does: a type that the result can't be cast to, autograd in progress, memory that can't grow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from .autograd import no_grad
from .errors import DtypeError, ShapeError, SpiralError
from .ir.node import cast
from .ops.registry import Op, _flat
from .tape import mode
from .tensor import Tensor, from_node
from .writes import refuse_overlap, refuse_own_overlap, write


def write_result(target: Tensor, result: Tensor, name: str) -> Tensor:
    """``result`` written into ``target``, converted to its type."""
    refuse_cast(result, target, name)
    if tuple(result.shape) != tuple(target.shape):
        raise ShapeError(
            f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)} (in {name})"
        )
    if result.dtype is not target.dtype:
        result = result.to(target.dtype)
    return write(target, result._read(), result)


def refuse_cast(result: Tensor, target: Tensor, name: str) -> None:
    """Raise RuntimeError when numbers of ``result``'s category, or of its device, can't be stored in ``target``."""
    if result._storage.device is not target._storage.device:
        from .transfer import apart

        raise apart(target.device, result.device)
    if result.dtype.category > target.dtype.category:
        raise DtypeError(
            f"result type {result.dtype.name} can't be cast to the desired output type {target.dtype.name} (in {name})"
        )


Long = Callable[[Op, Sequence[Any], dict[str, Any]], Any]  # records an operator on positional and named arguments


def with_out(call: Long) -> Long:
    """``call`` with torch's ``out=`` argument."""

    def apply(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        out = kwargs.pop("out", None)
        if out is None:
            return call(op, args, kwargs)
        targets = list(out) if isinstance(out, (list, tuple)) else [out]
        _refuse(op.name, targets, _flat([*args, *kwargs.values()]))
        if op.out == "dtype" and kwargs.get("dtype") is None:
            kwargs["dtype"] = targets[0].dtype
        with no_grad():
            found = call(op, args, kwargs)
            several = isinstance(found, (list, tuple))
            results = list(found) if several else [found]
            if len(results) != len(targets):
                raise TypeError(f"{op.name}() has {len(results)} results, but out= has {len(targets)} tensors")
            for target, result in zip(targets, results):
                _check(op.name, target, result, exact=several or op.out != "cast")
            for target, result in zip(targets, results):
                _put(target, result, op.name)
        return type(found)(targets) if several else out

    return apply


def write_out(name: str, given: Sequence[Any], targets: Sequence[Any], results: Sequence[Tensor]) -> None:
    """What function ``name`` of the tensors ``given`` computed, put into ``targets`` of the same types."""
    _refuse(name, targets, given)
    with no_grad():
        for target, result in zip(targets, results, strict=True):
            _check(name, target, result, exact=True)
            _put(target, result, name)


#: these write while they read, so that not even one and the same memory will do
_APART = frozenset(("cat", "gather", "index_select", "kthvalue", "masked_select", "take"))


def _refuse(name: str, targets: Sequence[Any], given: Sequence[Any]) -> None:
    for t in targets:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(t).__name__}")
        refuse_own_overlap(t)
        refuse_overlap(t, given, name in _APART)
    if mode.enabled and any([isinstance(v, Tensor) and v.requires_grad for v in [*given, *targets]]):
        raise SpiralError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )


def _check(name: str, target: Tensor, result: Tensor, exact: bool) -> None:
    if exact and result.dtype is not target.dtype:
        raise SpiralError(
            f"Expected out tensor to have dtype {result.dtype.name}, but got {target.dtype.name} instead (in {name})"
        )
    refuse_cast(result, target, name)


def _put(target: Tensor, result: Tensor, name: str) -> None:
    if tuple(target.shape) == tuple(result.shape):
        write_result(target, result, name)
        return
    if target._storage.exposed and target.numel() < result.numel():
        raise SpiralError("Trying to resize storage that is not resizable")
    if target.numel():
        warnings.warn(
            f"An output with one or more elements was resized since it had shape {list(target.shape)}, which does not match "
            f"the required output shape {list(result.shape)}. Pass a tensor of that shape, or one without elements.",
            UserWarning,
            stacklevel=4,
        )
    target.data = from_node(cast(result._read(), target.dtype), target.device)
