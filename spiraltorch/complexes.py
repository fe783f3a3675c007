"""Complex tensors as users handle them: parts that share memory, conjugates, questions.

In: tensors.  Out: tensors; ``real`` and ``imag`` are views, so that writing to ``x.imag`` changes ``x``.
"""

from __future__ import annotations

from typing import Any

from .dispatch import call, view_of
from .errors import SpiralError
from .ops.complex import part_steps
from .ops.registry import OPS
from .tensor import Tensor
from .writes import write


def real(input: Tensor) -> Tensor:
    """The real part, a view of the same memory; a real tensor is its own (torch.real)."""
    return view_of(input, part_steps(tuple(input.shape), 0), "real") if input.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part, a view of the same memory (torch.imag).  Raises RuntimeError for real tensors."""
    if not input.dtype.is_complex:
        raise SpiralError("imag is not implemented for tensors with non-complex dtypes.")
    return view_of(input, part_steps(tuple(input.shape), 1), "imag")


def conj(input: Tensor) -> Tensor:
    """``real - i imag``, computed (torch makes a lazy view); a real tensor is its own (torch.conj)."""
    return call(OPS["conj"], (input,)) if input.dtype.is_complex else input  # type: ignore[no-any-return]


def resolve_conj(input: Tensor) -> Tensor:
    """``input``: conjugates are computed here, not marked (torch.resolve_conj)."""
    return input


def resolve_neg(input: Tensor) -> Tensor:
    """``input``: negatives are computed here, not marked (torch.resolve_neg)."""
    return input


def is_conj(input: Tensor) -> bool:
    """False: conjugates are computed here, not marked (torch.is_conj)."""
    return False


def is_neg(input: Tensor) -> bool:
    """False: negatives are computed here, not marked (torch.is_neg)."""
    return False


def is_complex(input: Tensor) -> bool:
    """Whether the type of ``input`` is complex (torch.is_complex)."""
    return input.dtype.is_complex


def _part(get: Any) -> property:
    def put(self: Tensor, value: Any) -> None:
        from .creation import as_tensor

        part = get(self)
        value = as_tensor(value).to(part.dtype).expand(tuple(part.shape))
        write(part, value._read(), value)

    return property(get, put)


def install_methods() -> None:
    """Put the methods of this module onto Tensor."""
    for f in (conj, resolve_conj, resolve_neg, is_conj, is_neg):
        setattr(Tensor, f.__name__, f)
    for name, value in {"real": _part(real), "imag": _part(imag)}.items():
        setattr(Tensor, name, value)


__all__ = ["conj", "imag", "is_complex", "is_conj", "is_neg", "real", "resolve_conj", "resolve_neg"]
