"""torch's switches of the process, and its functions of symbolic numbers: what they mean where results are always
deterministic, float32 products exact to their type, and sizes plain integers.

    >>> import spiraltorch as st
    >>> st.are_deterministic_algorithms_enabled(), st.get_float32_matmul_precision(), st.sym_max(2, 3)
    (True, 'highest', 3)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import dtypes
from .device import CPU, device, place
from .errors import SpiralError
from .storages import UntypedStorage
from .tensor import Tensor

__all__ = [
    "are_deterministic_algorithms_enabled", "compiled_with_cxx11_abi", "cond", "get_default_device",
    "get_deterministic_debug_mode",
    "get_float32_matmul_precision", "get_num_interop_threads", "is_deterministic_algorithms_warn_only_enabled", "is_storage",
    "is_warn_always_enabled", "set_default_device", "set_default_tensor_type", "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_flush_denormal", "set_num_interop_threads", "set_warn_always", "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min",
    "sym_not", "sym_sum", "to_dlpack", "typename", "use_deterministic_algorithms", "while_loop",
]  # fmt: skip


def are_deterministic_algorithms_enabled() -> bool:
    """True: every algorithm here is deterministic (torch.are_deterministic_algorithms_enabled)."""
    return True


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing to do: results are the same in every run, on any number of threads (torch.use_deterministic_algorithms)."""


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """False: there is nothing to warn about (torch.is_deterministic_algorithms_warn_only_enabled)."""
    return False


def get_deterministic_debug_mode() -> int:
    """2, torch's number for 'error' (torch.get_deterministic_debug_mode)."""
    return 2


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """Nothing to do, as in :func:`use_deterministic_algorithms` (torch.set_deterministic_debug_mode)."""
    if debug_mode not in (0, 1, 2, "default", "warn", "error"):
        raise SpiralError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode!r}")


def get_default_device() -> device:
    """The host: tensors are made there unless ``device=`` says otherwise (torch.get_default_device)."""
    return CPU


def set_default_device(device: Any) -> None:
    """Accepts the host alone, where tensors are made unless ``device=`` says otherwise (torch.set_default_device).

    Raises RuntimeError for another device: pass it to the functions that make tensors, or use ``x.to(device)``.
    """
    if device is not None and place(device) is not CPU:
        raise SpiralError(f"the default device is the cpu; pass device={str(device)!r} where tensors are made, or use x.to()")


def get_float32_matmul_precision() -> str:
    """'highest': products of float32 are computed in float32 (torch.get_float32_matmul_precision)."""
    return "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Accepted; products stay as exact as float32 is (torch.set_float32_matmul_precision)."""


def get_num_interop_threads() -> int:
    """1: operations run one after the other, each on all threads (torch.get_num_interop_threads)."""
    return 1


def set_num_interop_threads(n: int) -> None:
    """Accepted; see :func:`get_num_interop_threads` (torch.set_num_interop_threads)."""
    if n <= 0:
        raise SpiralError("Expected positive number of threads")


def set_flush_denormal(mode: bool) -> bool:
    """False: denormal numbers are kept (torch.set_flush_denormal)."""
    return False


def set_warn_always(b: bool) -> None:
    """Accepted; Python's ``warnings`` filters decide here (torch.set_warn_always)."""


def is_warn_always_enabled() -> bool:
    """False (torch.is_warn_always_enabled)."""
    return False


def compiled_with_cxx11_abi() -> bool:
    """True: nothing here was compiled with another (torch.compiled_with_cxx11_abi)."""
    return True


def set_default_tensor_type(t: Any) -> None:
    """The default floating type by a tensor type or its name, as old code says it (torch.set_default_tensor_type)."""
    words = {"FloatTensor": dtypes.float32, "DoubleTensor": dtypes.float64, "HalfTensor": dtypes.float16, "BFloat16Tensor": dtypes.bfloat16}
    name = getattr(t, "__name__", str(t)).rpartition(".")[2]
    if name not in words:
        raise TypeError(f"only floating-point types are supported as the default type, got {t!r}")
    dtypes.set_default_dtype(words[name])


def typename(obj: Any, /) -> str:
    """The full name of an object's type, 'torch.FloatTensor' for a tensor (torch.typename)."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = obj if isinstance(obj, type) or callable(obj) else type(obj)
    module = getattr(kind, "__module__", "")
    return kind.__qualname__ if module in ("", "builtins") else f"{module}.{kind.__qualname__}"


def is_storage(obj: Any, /) -> bool:
    """Whether this is a tensor's storage (torch.is_storage)."""
    return isinstance(obj, UntypedStorage)


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule over the tensor's memory (torch.to_dlpack)."""
    return tensor.__dlpack__()


# -- control flow and numbers ---------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Any = ()) -> Any:
    """``true_fn(*operands)`` if ``pred``, else ``false_fn(*operands)``; looks at ``pred`` (torch.cond)."""
    return true_fn(*operands) if bool(pred) else false_fn(*operands)


def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Any) -> Any:
    """``body_fn`` applied while ``cond_fn`` holds; looks at each condition (torch.while_loop)."""
    while bool(cond_fn(*carried_inputs)):
        carried_inputs = body_fn(*carried_inputs)
    return carried_inputs


def sym_float(a: Any) -> float:
    """``float(a)``: sizes are plain numbers here (torch.sym_float)."""
    return float(a)


def sym_int(a: Any) -> int:
    """``a`` rounded towards 0 (torch.sym_int)."""
    return math.trunc(a)


def sym_not(a: Any) -> bool:
    """``not a`` (torch.sym_not)."""
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger number, a float if one is (torch.sym_max)."""
    return float(max(a, b)) if isinstance(a, float) or isinstance(b, float) else max(a, b)


def sym_min(a: Any, b: Any) -> Any:
    """The smaller number, a float if one is (torch.sym_min)."""
    return float(min(a, b)) if isinstance(a, float) or isinstance(b, float) else min(a, b)


def sym_sum(args: Any) -> Any:
    """The sum of numbers (torch.sym_sum)."""
    return sum(args)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """``t if b else f`` (torch.sym_ite)."""
    return t if b else f
