"""Arguments and results of torch's operators and ours, side by side.

In: torch's tensors in any nesting.  ``convert(args)`` gives the same as SpiralTorch's (same storage, same strides);
``compare(ours, theirs)`` says what differs of two results, or None:

    compare(st.ones(2), torch.ones(3))  ->  'float32[2] instead of float32[3]'
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import spiraltorch as st
from tests.ops.harness import close, from_torch

TOLERANCE = {"float32": 2e-5, "float64": 1e-7, "complex64": 2e-5, "complex128": 1e-7}
WIDE = {
    torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64, torch.complex64: torch.complex128,
}  # fmt: skip


def ours_of(t: torch.Tensor) -> st.Tensor:
    """The same values with the same place in the same storage as a SpiralTorch tensor."""
    grad, t = t.requires_grad, t.detach().resolve_conj().resolve_neg()
    count = t.untyped_storage().nbytes() // t.element_size()
    if t.is_contiguous() and count == t.numel():
        out = st.tensor(from_torch(t.clone()))  # a tensor that has been given to NumPy can't be resized any more
    else:
        flat = st.tensor(from_torch(torch.as_strided(t, (count,), (1,), 0).clone()))
        out = flat.as_strided(tuple(t.shape), t.stride(), t.storage_offset()).detach()
    return out.requires_grad_() if grad and not out.requires_grad else out


def convert(value: Any, place: Callable[[torch.Tensor], st.Tensor] = ours_of) -> Any:
    """torch's objects, in any nesting, as SpiralTorch's; tensors as ``place`` puts them."""
    if isinstance(value, torch.Tensor):
        return place(value)
    if isinstance(value, torch.Size):
        return st.Size(value)
    if isinstance(value, torch.dtype):
        return getattr(st, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return st.device(str(value))
    if isinstance(value, (torch.layout, torch.memory_format)):
        return getattr(st, str(value).removeprefix("torch."))
    if isinstance(value, torch.Generator):
        return None
    if isinstance(value, torch.nn.Module):
        return getattr(st.nn, type(value).__name__)()
    if isinstance(value, dict):
        return {k: convert(v, place) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*[convert(v) for v in (value.start, value.stop, value.step)])
    if isinstance(value, (list, tuple)):
        items = [convert(v, place) for v in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def aliased(value: Any) -> Any:
    """As :func:`convert`; tensors without gradients that share memory share it here too."""
    shared = Counter([_memory(t) for t in leaves(value)])
    flat: dict[Any, st.Tensor] = {}

    def place(t: torch.Tensor) -> st.Tensor:
        key = _memory(t)
        if shared[key] == 1 or t.requires_grad:
            return ours_of(t)
        if key not in flat:
            flat[key] = ours_of(torch.as_strided(t, (t.untyped_storage().nbytes() // t.element_size(),), (1,), 0))
        return flat[key].as_strided(tuple(t.shape), t.stride(), t.storage_offset())

    return convert(value, place)


def _memory(t: torch.Tensor) -> tuple[int, torch.dtype]:
    return t.untyped_storage().data_ptr(), t.dtype


def leaves(value: Any) -> list[Any]:
    """The tensors of either library in nested arguments or results, in order."""
    if isinstance(value, (torch.Tensor, st.Tensor)):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in leaves(v)] if isinstance(value, (list, tuple)) else []


def compare(ours: Any, theirs: Any, random: bool = False, relative: float = 0.0) -> str | None:
    """What differs between two results by more than their type's tolerance (or ``relative``), or None."""
    if isinstance(theirs, torch.Tensor):
        if theirs.dtype is torch.complex32:
            return "torch has complex32"
        if not isinstance(ours, st.Tensor):
            return f"a {type(ours).__name__} instead of a tensor"
        want = from_torch(theirs.resolve_conj().resolve_neg())
        if ours.dtype.name != str(theirs.dtype)[6:] or tuple(ours.shape) != tuple(theirs.shape):
            return f"{ours.dtype.name}{list(ours.shape)} instead of {str(theirs.dtype)[6:]}{list(theirs.shape)}"
        if random:
            return None
        got = np.asarray(ours.numpy(force=True))
        try:
            close("", got, want, max(relative, TOLERANCE.get(ours.dtype.name, 2e-5)))
        except AssertionError as e:
            return " ".join(str(e).split())[:600]
        return None
    if isinstance(theirs, (list, tuple)):
        if not isinstance(ours, (list, tuple)) or len(ours) != len(theirs):
            return f"{ours!r:.200} instead of {type(theirs).__name__} of {len(theirs)}"
        for name in getattr(type(theirs), "__match_args__", ()):
            if not hasattr(ours, name):
                return f"the result has no .{name}"
        found = [compare(a, b, random, relative) for a, b in zip(ours, theirs)]
        return next((f"[{i}] {f}" for i, f in enumerate(found) if f), None)
    if isinstance(theirs, torch.dtype):
        return None if ours is convert(theirs) else f"{ours} instead of {theirs}"
    if isinstance(theirs, float) and isinstance(ours, (float, int)):
        return None if np.isclose(ours, theirs, 1e-5, equal_nan=True) else f"{ours} instead of {theirs}"
    return None if type(ours) is type(theirs) and ours == theirs else f"{ours!r} instead of {theirs!r}"


def outcome(compute: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """(result, None) or (None, error)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return compute(), None
        except Exception as e:
            return None, e


def same_family(ours: BaseException, theirs: BaseException) -> bool:
    """Whether ``ours`` is an instance of the built-in class that ``theirs`` is of."""
    return isinstance(ours, next(c for c in type(theirs).__mro__ if c.__module__ == "builtins"))


def look(result: Any) -> Any:
    """Compute: errors in the values are raised now."""
    for t in leaves(result):
        if isinstance(t, st.Tensor):
            t.numpy(force=True)
    return result


def widened(value: Any) -> Any:
    """Tensors of floats below float64 as float64, in any nesting."""
    if isinstance(value, torch.Tensor) and value.dtype in WIDE:
        return value.detach().to(WIDE[value.dtype]).requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {k: widened(v) for k, v in value.items()}
    return type(value)([widened(v) for v in value]) if type(value) in (list, tuple) else value


def as_near(ours: Any, theirs: Any, compute: Callable[[], Any] | None) -> bool:
    """Whether results are about as far from ``compute()``, torch's in float64, as torch's."""
    mine, its = leaves(ours), leaves(theirs)
    if compute is None or [t.dtype.name for t in mine] != [str(t.dtype)[6:] for t in its]:
        return False
    exact, error = outcome(compute)
    true = leaves(exact)
    if error is not None or len(true) != len(its):
        return False
    for a, b, e in zip(mine, its, true):
        if WIDE.get(b.dtype) is not e.dtype or not e.shape == b.shape == tuple(a.shape):
            if compare(a, b):
                return False
            continue
        e = from_torch(e.resolve_conj())
        got, want = np.asarray(a.numpy(force=True)).astype(e.dtype), from_torch(b.resolve_conj()).astype(e.dtype)
        if not np.array_equal(np.isfinite(got), np.isfinite(want)):
            return False
        with np.errstate(all="ignore"):
            allowed = 4 * np.nanmax(np.abs(want - e), initial=0) + 2 * torch.finfo(b.dtype).eps * (1 + np.abs(e))
            if not np.all((np.abs(got - e) <= allowed) | ~np.isfinite(e) | ~np.isfinite(got)):
                return False
    return True


def detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {k: detached(v) for k, v in value.items()}
    return type(value)([detached(v) for v in value]) if type(value) in (list, tuple) else value
