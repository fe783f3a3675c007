"""How tensors print: torch's text, character for character.

In: a tensor (its values are computed).  Out: its repr.

    >>> import spiraltorch as st
    >>> st.tensor([[1.0, 2.5], [float("nan"), -3.0]])
    tensor([[ 1.0000,  2.5000],
            [    nan, -3.0000]])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes

if TYPE_CHECKING:
    from .tensor import Tensor


@dataclass
class PrintOptions:
    """precision: digits behind the point.  threshold: more elements are summarized to ``edgeitems`` at each
    end.  linewidth: where rows wrap.  sci_mode: True or False to force or forbid exponents."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


options = PrintOptions()
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print; what is None stays, but ``sci_mode`` goes back to automatic (torch.set_printoptions)."""
    wanted = dict(_PROFILES.get(profile or "", {}))
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    wanted.update({k: v for k, v in given.items() if v is not None})
    for name, value in wanted.items():
        setattr(options, name, value)
    options.sci_mode = sci_mode


class _Numbers:
    """The common width and notation of all numbers that are shown."""

    def __init__(self, shown: np.ndarray) -> None:
        self.floating = shown.dtype.kind == "f"
        self.integral = True
        self.exponent = False
        self.width = 1
        if not self.floating:
            self.width = max([len(str(v)) for v in shown.reshape(-1).tolist()], default=1)
            return
        values = shown[np.isfinite(shown) & (shown != 0)]
        if values.size:
            self._choose(values.astype(np.float64))

    def _choose(self, values: np.ndarray) -> None:
        sizes = np.abs(values)
        low, high = float(sizes.min()), float(sizes.max())
        self.integral = bool((values == np.ceil(values)).all())
        automatic = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        self.exponent = automatic if options.sci_mode is None else options.sci_mode
        if self.exponent:
            texts = [f"{v:.{options.precision}e}" for v in values.tolist()]
        elif self.integral:
            texts = [f"{v:.0f}." for v in values.tolist()]
        else:
            texts = [f"{v:.{options.precision}f}" for v in values.tolist()]
        self.width = max(self.width, max(map(len, texts)))

    def text(self, value: Any) -> str:
        if not self.floating:
            out = str(value)
        elif self.exponent:
            out = f"{value:{self.width}.{options.precision}e}"
        elif self.integral:
            out = f"{value:.0f}" + ("." if math.isfinite(value) else "")
        else:
            out = f"{value:.{options.precision}f}"
        return out.rjust(self.width)


class _ComplexNumbers:
    """Real and imaginary parts side by side."""

    def __init__(self, shown: np.ndarray) -> None:
        self.real, self.imag = _Numbers(shown.real), _Numbers(shown.imag)
        self.width = self.real.width + self.imag.width + 1

    def text(self, value: complex) -> str:
        imag = self.imag.text(value.imag).lstrip()
        return self.real.text(value.real) + (imag if imag.startswith("-") else "+" + imag) + "j"


def _edges(a: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    k = options.edgeitems
    for axis, n in enumerate(a.shape):
        if n > 2 * k:
            a = np.take(a, [*range(k), *range(n - k, n)], axis)
    return a


def _vector(a: np.ndarray, numbers: Any, indent: int, summarize: bool) -> str:
    k = options.edgeitems
    per_line = max(1, (options.linewidth - indent) // (numbers.width + 2))
    if summarize and k == 0:
        parts = ["..."]
    elif summarize and len(a) > 2 * k:
        parts = [*map(numbers.text, a[:k].tolist()), " ...", *map(numbers.text, a[len(a) - k :].tolist())]
    else:
        parts = [numbers.text(v) for v in a.tolist()]
    lines = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(a: np.ndarray, numbers: Any, indent: int, summarize: bool) -> str:
    if a.ndim == 0:
        return str(numbers.text(a.item()))
    if a.ndim == 1:
        return _vector(a, numbers, indent, summarize)
    k = options.edgeitems
    if summarize and len(a) > 2 * k:
        ends = [*a[:k], *a[len(a) - k :]]
        parts = [_nested(x, numbers, indent + 1, summarize) for x in ends]
        parts.insert(k, "...")
    else:
        parts = [_nested(x, numbers, indent + 1, summarize) for x in a]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _body(a: np.ndarray, indent: int) -> str:
    if a.dtype.kind not in "biufc":  # NumPy does not know bfloat16's kind
        a = a.astype(np.float32)
    summarize = a.size > options.threshold
    shown = _edges(a) if summarize else a
    numbers = _ComplexNumbers(shown) if a.dtype.kind == "c" else _Numbers(shown)
    return _nested(a, numbers, indent, summarize)


def _suffixes(t: Tensor) -> list[str]:
    out = []
    if t.device.type != "cpu":
        out.append(f"device='{t.device}'")
    default = dtypes.get_default_dtype()
    if t.numel() == 0:
        if t.ndim != 1:
            out.append(f"size={tuple(t.shape)}")
        plain = t.dtype is default
    else:
        if not options.edgeitems:
            out.append(f"size={tuple(t.shape)}")
        wide = dtypes.complex128 if default is dtypes.float64 else dtypes.complex64
        plain = t.dtype in (default, wide, dtypes.int64, dtypes.bool_)
    if not plain:
        out.append(f"dtype=torch.{t.dtype.name}")
    fn = t.grad_fn
    if fn is not None:
        out.append(f"grad_fn=<{fn.name()}>")
    elif t.requires_grad:
        out.append("requires_grad=True")
    return out


def format_tensor(t: Tensor) -> str:
    """The repr of ``t``; a Parameter's is headed by a line of its own."""
    from .nn.parameter import Parameter
    from .tensor import Tensor

    start = "tensor(" if isinstance(t, Parameter) or type(t) is Tensor else f"{type(t).__name__}("
    indent = len(start)
    text = start + ("[]" if t.numel() == 0 else _body(t._values(), indent))
    last_line = len(text) - text.rfind("\n") + 1
    for suffix in _suffixes(t):
        if last_line + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            last_line = indent + len(suffix)
        else:
            text += ", " + suffix
            last_line += len(suffix) + 2
    return ("Parameter containing:\n" if isinstance(t, Parameter) else "") + text + ")"


__all__ = ["PrintOptions", "format_tensor", "options", "set_printoptions"]
