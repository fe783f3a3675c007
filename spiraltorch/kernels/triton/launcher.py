"""Kernels launched on a CUDA or ROCm device; memory and streams are torch's.

    launch(softmax, [x.data_ptr(), out.data_ptr()], ints=[4, 7, 7])

The first launch with given sizes picks a tile and compiles (or finds) a binary; after that a launch
is one dictionary look-up and one call of Triton's native launcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ...dtypes import DType
from ...ir.kernel import Gemm, Kernel
from .compiler import alignment, compile
from .module import constants, plan, programs

_MOST_READY = 4096


@lru_cache(maxsize=64)
def device_target(device: int) -> str:
    """The compilation target of a device, as :func:`compile` takes it."""
    import torch

    if torch.version.hip:
        return "hip:" + torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
    major, minor = torch.cuda.get_device_capability(device)
    return f"cuda:{major * 10 + minor}"


def current_stream(device: int) -> int:
    """The raw stream that torch uses on ``device`` now."""
    import torch

    return int(torch._C._cuda_getCurrentRawStream(device))


class Ready:
    """A binary with its grid: everything about a launch but addresses and scalars."""

    __slots__ = ("binary", "blocks", "count", "numbers", "run")

    def __init__(self, k: Kernel | Gemm, ints: Sequence[int], pointers: Sequence[int], device: int) -> None:
        tile = plan(k, ints)
        self.count = programs(k, tile, ints)
        self.numbers = tuple([int(i) for i in ints])
        self.blocks = tuple(constants(tile).values())
        self.binary = compile(k, device_target(device), tile, alignment([*pointers, *self.numbers]), device)
        self.run = self.binary.run  # reading it loads the binary on the current device

    def launch(self, stream: int, pointers: Sequence[int], scalars: Sequence[Any]) -> None:
        binary = self.binary
        self.run(self.count, 1, 1, stream, binary.function, binary.packed_metadata, None, None, None,
                 *pointers, *self.numbers, *scalars, *self.blocks)  # fmt: skip


_ready: dict[tuple[Any, ...], Ready] = {}


def _number(value: Any, d: DType) -> int | float:
    return float(value) if d.is_floating_point else int(value)


def launch(
    k: Kernel | Gemm,
    pointers: Sequence[int],
    ints: Sequence[int],
    scalars: Sequence[Any] = (),
    device: int = 0,
    stream: int | None = None,
) -> None:
    """Run ``k`` on ``stream`` (default: torch's current one); ``pointers`` are device addresses, one per param.

    ``device`` must be torch's current device.
    """
    key = (k.key, tuple(ints), tuple([p & 15 for p in pointers]), device)
    ready = _ready.get(key)
    if ready is None:
        if len(_ready) >= _MOST_READY:
            _ready.clear()
        ready = _ready[key] = Ready(k, ints, pointers, device)
    if ready.count:
        numbers = [_number(value, d) for value, d in zip(scalars, k.scalars)]
        ready.launch(current_stream(device) if stream is None else stream, pointers, numbers)
