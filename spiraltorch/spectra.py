"""Spectra of signals: the frequencies of a transform, and the short-time Fourier transform and its inverse.

In: tensors or sizes.  Out: tensors.  Written with public operators, so that it fuses and differentiates as they do.
"""

from __future__ import annotations

from typing import Any

from . import dtypes
from .creation import made, no_more, ones, type_or, zeros
from .errors import DtypeError, ShapeError, SpiralError
from .ops.fft import frequencies
from .ops.registry import OPS
from .tensor import Tensor

__all__ = ["istft", "stft"]


def _frequencies(n: int, d: float, half: bool, dtype: Any, device: Any, requires_grad: bool, options: dict[str, Any]) -> Tensor:
    no_more("fftfreq", options)
    if n < 0:
        raise SpiralError(f"Invalid number of data points ({n}) specified")
    target = type_or(dtype, dtypes.get_default_dtype())
    if target.category < dtypes.FLOAT:
        raise SpiralError(f"fftfreq requires a floating point or complex dtype, not {target.name}")
    return made(frequencies(n, float(d), half, target), device, requires_grad)


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **options: Any) -> Tensor:
    """The frequencies of a transform of ``n`` samples that are ``d`` apart (torch.fft.fftfreq)."""
    return _frequencies(n, d, False, dtype, device, requires_grad, options)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **options: Any) -> Tensor:
    """The frequencies of :func:`rfft` of ``n`` samples that are ``d`` apart (torch.fft.rfftfreq)."""
    return _frequencies(n, d, True, dtype, device, requires_grad, options)


def _window(window: Tensor | None, win_length: int, n_fft: int, like: Tensor) -> Tensor:
    """The window in the middle of ``n_fft`` samples."""
    if window is None:
        window = ones(win_length, dtype=like.dtype.to_real())
    if window.ndim != 1 or len(window) != win_length:
        raise ShapeError(
            f"expected a 1D window tensor of size equal to win_length={win_length}, but got window with size {list(window.shape)}"
        )
    left = (n_fft - win_length) // 2
    return _padded(window, (left, n_fft - win_length - left)) if win_length < n_fft else window


def _padded(x: Tensor, widths: tuple[int, ...], mode: str = "constant") -> Tensor:
    from .dispatch import call

    return call(OPS["pad"], (x, widths, mode))  # type: ignore[no-any-return]


def _spectrum(name: str, x: Tensor, **kwargs: Any) -> Tensor:
    from .dispatch import call

    return call(OPS[name], (x,), kwargs)  # type: ignore[no-any-return]


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Transforms of windows of a signal [.., time], ``hop_length`` apart: [.., frequencies, frames] (torch.stft)."""
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    if not input.dtype.is_floating_point and not input.dtype.is_complex:
        raise DtypeError("stft: expected a tensor of floating point or complex values")
    if input.ndim not in (1, 2):
        raise ShapeError(f"stft: expected a 1D or 2D tensor, but its shape is {list(input.shape)}")
    is_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not is_complex:
            raise SpiralError("stft requires the return_complex parameter be given for real inputs, and will further require that "
                              "return_complex=True in a future PyTorch release.")  # fmt: skip
        return_complex = True
    half = (not is_complex) if onesided is None else onesided
    if half and is_complex:
        raise SpiralError("Cannot have onesided output if window or input is complex")
    x = input if input.ndim == 2 else input.unsqueeze(0)
    if center:
        x = _padded(x.unsqueeze(1), (n_fft // 2, n_fft // 2), pad_mode).squeeze(1)
    if not 0 < n_fft <= x.shape[-1]:
        raise SpiralError(f"stft: expected 0 < n_fft < {x.shape[-1]}, but got n_fft={n_fft}")
    if hop <= 0:
        raise SpiralError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise SpiralError(f"stft: expected 0 < win_length <= n_fft, but got win_length={length}")
    frames = x.unfold(-1, n_fft, hop) * _window(window, length, n_fft, input)
    spectrum = _spectrum("fft_rfft" if half else "fft_fft", frames, norm="ortho" if normalized else None)
    spectrum = spectrum.transpose(-1, -2)
    spectrum = spectrum if input.ndim == 2 else spectrum.squeeze(0)
    return spectrum if return_complex else spectrum.view_as_real()


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose short-time transform is (closest to) ``input`` [.., frequencies, frames] (torch.istft).

    Raises RuntimeError where the windows do not cover the signal.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    if not input.dtype.is_complex:
        raise SpiralError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.ndim not in (2, 3) or not input.numel():
        raise ShapeError(f"istft: expected a tensor with 2 or 3 dimensions and elements, but got {list(input.shape)}")
    half = input.shape[-2] != n_fft if onesided is None else onesided
    if input.shape[-2] != (n_fft // 2 + 1 if half else n_fft):
        raise ShapeError(f"istft: expected the frequency dimension to fit n_fft={n_fft}, but it has size {input.shape[-2]}")
    if not 0 < hop <= width <= n_fft:
        raise SpiralError(f"istft: expected 0 < hop_length <= win_length <= n_fft, but got {hop}, {width}, {n_fft}")
    x = input if input.ndim == 3 else input.unsqueeze(0)
    w = _window(window, width, n_fft, input)
    norm = "ortho" if normalized else None
    frames = x.transpose(-1, -2)
    if return_complex:
        frames = _spectrum("fft_ifft", frames, n=n_fft, norm=norm)
    else:  # the upper half of a full spectrum is not looked at
        frames = _spectrum("fft_irfft", frames[..., : n_fft // 2 + 1], n=n_fft, norm=norm)
    count = frames.shape[1]
    total = n_fft + hop * (count - 1)
    signal = _overlap(frames * w, hop, total)
    weight = _overlap((w * w).expand(1, count, n_fft), hop, total)
    start = n_fft // 2 if center else 0
    end = min(total, start + length) if length is not None else total - start if center else total
    signal, weight = signal[:, start:end], weight[:, start:end]
    if float(weight.abs().min()) < 1e-11:
        raise SpiralError("istft: window overlap add min: the windows do not cover the whole signal")
    out = signal / weight
    if length is not None and length > out.shape[-1]:
        out = _padded(out, (0, length - out.shape[-1]))
    return out if input.ndim == 3 else out.squeeze(0)


def _overlap(frames: Tensor, hop: int, total: int) -> Tensor:
    """Frames [batch, count, n] added at their places ``hop`` apart."""
    batch, count, n = frames.shape
    pieces = -(-n // hop)
    padded = _padded(frames, (0, pieces * hop - n)).reshape(batch, count, pieces, hop)
    out = zeros(batch, count + pieces - 1, hop, dtype=frames.dtype)
    for k in range(pieces):
        out = out + _padded(padded[:, :, k], (0, 0, k, pieces - 1 - k))
    return out.reshape(batch, -1)[:, :total]  # type: ignore[no-any-return]


def install_methods(fft: Any) -> None:
    """Put the methods of this module onto Tensor, and the frequencies into ``st.fft``."""
    for f in (stft, istft):
        setattr(Tensor, f.__name__, f)
    fft.fftfreq, fft.rfftfreq = fftfreq, rfftfreq
