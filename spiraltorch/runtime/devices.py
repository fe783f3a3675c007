"""Memory of CUDA and ROCm devices: allocate, copy, wait.

In: a :class:`~spiraltorch.device.device`.  Out: its :class:`Driver`.

    d = driver(device("cuda", 0))
    b = d.allocate(4096)                  # Buffer(ptr=0x7f..., nbytes=4096, device='cuda:0')
    d.copy_in(b, address_on_the_host, 4096)

There are two kinds.  :class:`TorchDriver` takes memory from torch's caching allocator and does everything on torch's
current stream, so that tensors of both libraries can share a device (``torch.cuda`` is also ROCm's interface).
:class:`SimulatedDriver` is a device for tests on machines without one (``ST_SIMULATE_CUDA=2``: two of them): its
memory is host memory and Triton's interpreter runs its kernels.  It is slow and shows only whether results are right.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..config import config
from ..device import device
from ..errors import OutOfMemoryError
from . import buffers
from .buffers import Buffer


class DeviceBuffer(Buffer):
    """Memory of a device.  ``memory`` is the object that owns it; ``owner`` is set when others may write to it too."""

    __slots__ = ("driver", "memory")
    driver: Driver
    memory: Any

    def view(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the start of the memory on the host."""
        out = np.empty(shape, dtype)
        self.driver.copy_out(out.ctypes.data, self, out.nbytes)
        return out

    def overwrite(self, other: Buffer, nbytes: int) -> None:
        self.driver.copy(self, other, nbytes)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        raise TypeError(f"memory of {self.device} is no host memory: copy it with .cpu() first")


class Driver:
    """One device.  Copies and kernels run in the order in which they were asked for."""

    kind = "cuda"  # or "hip"
    simulated = False

    def __init__(self, index: int) -> None:
        self.where = device("cuda", index)

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Memory with any content.  Raises OutOfMemoryError."""
        memory = self._memory(nbytes)
        return self.wrap(self._address(memory), nbytes, memory)

    def wrap(self, ptr: int, nbytes: int, memory: Any, owner: Any = None) -> DeviceBuffer:
        """A buffer over memory of this device that ``memory`` keeps alive; others share it through ``owner``."""
        b = DeviceBuffer()
        b._block = b._export = b.cell = None
        b._size = 0
        b.ptr, b.nbytes, b.device, b.owner = ptr, nbytes, self.where, owner
        b.driver, b.memory = self, memory
        return b

    def active(self) -> AbstractContextManager[Any]:
        """Inside, this is the current device."""
        return nullcontext()

    def _memory(self, nbytes: int) -> Any:
        raise NotImplementedError(type(self).__name__)

    def _address(self, memory: Any) -> int:
        raise NotImplementedError(type(self).__name__)

    def copy_in(self, target: DeviceBuffer, address: int, nbytes: int, at: int = 0) -> None:
        """To byte ``at`` from ``address`` on the host, which may be written again when this returns."""
        raise NotImplementedError(type(self).__name__)

    def copy_out(self, address: int, source: DeviceBuffer, nbytes: int, at: int = 0) -> None:
        """From byte ``at`` to ``address`` on the host, when everything asked for before is done."""
        raise NotImplementedError(type(self).__name__)

    def copy(self, target: DeviceBuffer, source: Buffer, nbytes: int) -> None:
        """From memory of any device to this one's."""
        raise NotImplementedError(type(self).__name__)

    def synchronize(self) -> None:
        """Wait until everything asked for is done."""


class TorchDriver(Driver):
    """A GPU through torch; a buffer's ``memory`` is a flat uint8 tensor."""

    def __init__(self, index: int) -> None:
        import torch

        super().__init__(index)
        self.torch = torch
        self.kind = "hip" if torch.version.hip else "cuda"
        self._name = f"cuda:{index}"

    def active(self) -> AbstractContextManager[Any]:
        return self.torch.cuda.device(self.where.index)  # type: ignore[no-any-return]

    def _memory(self, nbytes: int) -> Any:
        try:
            return self.torch.empty(max(nbytes, 1), dtype=self.torch.uint8, device=self._name)
        except self.torch.OutOfMemoryError as e:
            raise OutOfMemoryError(str(e)) from None

    def _address(self, memory: Any) -> int:
        return int(memory.data_ptr())

    def _host(self, address: int, nbytes: int) -> Any:
        """A tensor of torch over host memory."""
        raw = (ctypes.c_uint8 * nbytes).from_address(address)
        return self.torch.frombuffer(raw, dtype=self.torch.uint8)

    def copy_in(self, target: DeviceBuffer, address: int, nbytes: int, at: int = 0) -> None:
        if nbytes:
            target.memory[at : at + nbytes].copy_(self._host(address, nbytes))

    def copy_out(self, address: int, source: DeviceBuffer, nbytes: int, at: int = 0) -> None:
        if nbytes:
            self._host(address, nbytes).copy_(source.memory[at : at + nbytes])

    def copy(self, target: DeviceBuffer, source: Buffer, nbytes: int) -> None:
        if not isinstance(source, DeviceBuffer):
            self.copy_in(target, source.ptr, nbytes)
        elif nbytes:
            target.memory[:nbytes].copy_(source.memory[:nbytes])

    def synchronize(self) -> None:
        self.torch.cuda.synchronize(self.where.index)


class SimulatedDriver(Driver):
    """Host memory in the role of a device's; a buffer's ``memory`` is a host buffer."""

    simulated = True

    def _memory(self, nbytes: int) -> Buffer:
        return buffers.allocate(nbytes)

    def _address(self, memory: Buffer) -> int:
        return memory.ptr

    def copy_in(self, target: DeviceBuffer, address: int, nbytes: int, at: int = 0) -> None:
        ctypes.memmove(target.ptr + at, address, nbytes)

    def copy_out(self, address: int, source: DeviceBuffer, nbytes: int, at: int = 0) -> None:
        ctypes.memmove(address, source.ptr + at, nbytes)

    def copy(self, target: DeviceBuffer, source: Buffer, nbytes: int) -> None:
        ctypes.memmove(target.ptr, source.ptr, nbytes)


_drivers: dict[tuple[bool, int], Driver] = {}
_lock = threading.Lock()
_current = threading.local()


def simulated_devices() -> int:
    """How many devices are simulated (ST_SIMULATE_CUDA); 0: real ones are used."""
    return config.simulate_cuda


def device_count() -> int:
    """CUDA or ROCm devices, real or simulated; 0 also when torch is not installed."""
    count = simulated_devices()
    if count:
        return count
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count())


def current_device() -> int:
    """Index of the device that "cuda" means in this thread."""
    if simulated_devices():
        return getattr(_current, "index", 0)
    import torch

    return int(torch.cuda.current_device())


def set_device(where: device) -> None:
    """Let "cuda" mean ``where`` in this thread."""
    if simulated_devices():
        _current.index = where.index
        return
    import torch

    torch.cuda.set_device(where.index)


def driver(where: device) -> Driver:
    """The driver of a device; without an index that of the current one.  Raises RuntimeError when there is none."""
    simulated = simulated_devices() > 0
    found = _drivers.get((simulated, -1 if where.index is None else where.index))
    if found is not None:
        return found
    count = device_count()
    if not count:
        raise RuntimeError(
            f"No CUDA GPUs are available, so no tensor can be put on {str(where)!r}: that takes an NVIDIA or AMD GPU and "
            "a torch built for it (pip install spiraltorch-jit[cuda] or [rocm]). ST_SIMULATE_CUDA=1 simulates one, for tests."
        )
    index = current_device() if where.index is None else where.index
    if index >= count:
        raise RuntimeError(f"CUDA error: invalid device ordinal: {where} of {count}")
    with _lock:
        key = (simulated, index)
        if key not in _drivers:
            _drivers[key] = SimulatedDriver(index) if simulated else TorchDriver(index)
        return _drivers[key]


def copied(source: Buffer, where: device, nbytes: int) -> Buffer:
    """The first ``nbytes`` of ``source`` in memory of their own on ``where``."""
    if where.type == "cpu":
        host = buffers.allocate(nbytes)
        if isinstance(source, DeviceBuffer):
            source.driver.copy_out(host.ptr, source, nbytes)
        else:
            ctypes.memmove(host.ptr, source.ptr, nbytes)
        return host
    d = driver(where)
    with d.active():
        target = d.allocate(nbytes)
        d.copy(target, source, nbytes)
    return target
