"""Complex tensors as users handle them: parts that share memory, conjugates, questions.

In: tensors.  Out: tensors; ``real``, ``imag`` and ``conj`` are views, so that writing to ``x.imag`` changes ``x``.
"""

from __future__ import annotations

from typing import Any

from .dispatch import call, view_of
from .errors import SpiralError
from .ops.complex import part_steps
from .ops.registry import OPS
from .storage import is_marked
from .tensor import Tensor
from .writes import write


def real(input: Tensor) -> Tensor:
    """The real part, a view of the same memory; a real tensor is its own (torch.real)."""
    return _part_of(input, 0, "real") if input.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part, a view of the same memory (torch.imag).  Raises RuntimeError for real tensors."""
    if not input.dtype.is_complex:
        raise SpiralError("imag is not implemented for tensors with non-complex dtypes.")
    return _part_of(input, 1, "imag")


def _part_of(x: Tensor, which: int, name: str) -> Tensor:
    steps = part_steps(tuple(x.shape), which)
    if is_conj(x):  # the part of what is in memory
        steps = [_CONJ, *steps, _NEG] if which else [_CONJ, *steps]
    return view_of(x, steps, name)


_CONJ, _NEG = ("CONJ", None), ("NEG", None)


def conj(input: Tensor) -> Tensor:
    """``real - i imag``, a view of the same memory, which holds the conjugates: a write to either is seen through both
    (torch.conj).  A real tensor is its own."""
    return view_of(input, [_CONJ], "conj") if input.dtype.is_complex else input


def resolve_conj(input: Tensor) -> Tensor:
    """``input``; a copy where its memory holds conjugates (torch.resolve_conj)."""
    return call(OPS["clone"], (input,)) if is_conj(input) else input  # type: ignore[no-any-return]


def resolve_neg(input: Tensor) -> Tensor:
    """``input``; a copy where its memory holds negatives (torch.resolve_neg)."""
    return call(OPS["clone"], (input,)) if is_neg(input) else input  # type: ignore[no-any-return]


def is_conj(input: Tensor) -> bool:
    """Whether the memory of ``input`` holds the conjugates of its elements (torch.is_conj)."""
    return input.dtype.is_complex and is_marked(input._steps, "CONJ")


def is_neg(input: Tensor) -> bool:
    """Whether the memory of ``input`` holds the negatives of its elements (torch.is_neg)."""
    return is_marked(input._steps, "NEG")


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
