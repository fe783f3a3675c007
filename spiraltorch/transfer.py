"""Tensors from device to device, and to and from other libraries' memory on a device (DLPack).

In: a tensor and a device.  Out: its elements there, on the tape if the tensor is; its gradient comes back the same way.

Within a trace a value of the host is not copied: it becomes an operand that the device's program copies in at each run.
Reading a device's value on the host is looking at it.
"""

from __future__ import annotations

from typing import Any

from .device import CPU, device, place
from .errors import SpiralError
from .function import Function
from .ir import graph
from .runtime import devices
from .storage import Storage, computed_at_once, queue
from .tape import mode
from .tensor import Tensor, from_node, tensor_over


class ToCopy(Function):
    """The identity from one device to another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: device, copy: Any) -> Tensor:
        ctx.source = x.device
        return copy(x, where)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return move(g, ctx.source), None, None


def move(x: Tensor, where: device) -> Tensor:
    """``x`` on ``where`` (a device that :func:`place` gave), in memory of its own unless it is there already."""
    if x._storage.device is where:
        return x
    if mode.enabled and x.requires_grad:
        return ToCopy.apply(x, where, _copied)  # type: ignore[no-any-return]
    return _copied(x, where)


def number_on(x: Tensor, where: device) -> Tensor:
    """A 0-d tensor of the host as an operand on a device: a value on the graph, so that nothing waits for it."""
    if mode.enabled and x.requires_grad:
        return ToCopy.apply(x, where, _operand)  # type: ignore[no-any-return]
    return _operand(x, where)


def _copied(x: Tensor, where: device) -> Tensor:
    if queue.trace is not None and x._storage.device is CPU:
        return _operand(x, where)
    n = x._read()
    if x._steps:
        x = from_node(graph.copy(n), x._storage.device)
    if queue.trace is not None:
        queue.trace.interrupted()
    buffer = devices.copied(x._buffer(), where, n.nbytes)
    return from_node(graph.buffer(buffer, n.shape, n.dtype), where)


def _operand(x: Tensor, where: device) -> Tensor:
    if queue.trace is None and x._storage.pending:
        x._buffer()  # the host computes its own values
    t = from_node(graph.copy(x._read()), where)
    computed_at_once((x,), (t,))
    return t


def meet(tensors: list[Tensor]) -> device:
    """The one device on which an operation over ``tensors`` is computed; numbers of the host (0-d) may join.

    Raises RuntimeError when there are two.
    """
    found: list[device] = []
    for t in tensors:
        where = t._storage.device
        if not any(where is f for f in found) and (where is not CPU or t._read().shape):
            found.append(where)
    if len(found) > 1:
        raise apart(found[0], found[1])
    return found[0] if found else CPU


def apart(a: device, b: device) -> SpiralError:
    """The error of an operation over two devices; the CPU is named last, as torch does."""
    if a is CPU:
        a, b = b, a
    return SpiralError(
        f"Expected all tensors to be on the same device, but found at least two devices, {a} and {b}! Move one with .to({str(a)!r})."
    )


# -- DLPack --------------------------------------------------------------------------------------------

_DLPACK_CPU, _DLPACK_CUDA, _DLPACK_ROCM = 1, 2, 10


def dlpack_device(x: Tensor) -> tuple[int, int]:
    """(device type, index) as DLPack numbers them."""
    where = x._storage.device
    if where is CPU:
        return _DLPACK_CPU, 0
    assert where.index is not None
    return _DLPACK_CUDA if devices.driver(where).kind == "cuda" else _DLPACK_ROCM, where.index


def export(x: Tensor, stream: Any, options: dict[str, Any]) -> Any:
    """A DLPack capsule of a tensor on a device; to the host (``dl_device=(1, 0)``) it is a copy.

    Raises BufferError for memory that no other library can reach.
    """
    target = options.get("dl_device")
    if target is not None and tuple(target)[0] == _DLPACK_CPU:
        if options.get("copy") is False:
            raise BufferError(f"a tensor on {x.device} can be given to the host only as a copy")
        return x.detach().cpu().numpy().__dlpack__()
    d = devices.driver(x._storage.device)
    if target is not None and tuple(target) != dlpack_device(x):
        raise BufferError(f"a tensor on {x.device} cannot be given to DLPack device {tuple(target)}")
    if not isinstance(d, devices.TorchDriver):
        raise BufferError(f"{x.device} is simulated (ST_SIMULATE_CUDA): no other library can reach its memory")
    buffer = x._buffer()
    kind = getattr(d.torch, x.dtype.name)
    if not x.numel():
        return d.torch.empty(tuple(x.shape), dtype=kind, device=str(d.where)).__dlpack__(stream=stream)
    flat = buffer.memory.view(kind)
    strides, offset = x._layout()
    shared = d.torch.as_strided(flat, tuple(x.shape), strides, flat.storage_offset() + offset)
    if options.get("copy"):
        return shared.clone().__dlpack__(stream=stream)
    buffer.owner = buffer.memory  # from now on others may write to it
    x._storage.exposed = True
    return shared.__dlpack__(stream=stream)


def import_device(other: Any) -> Tensor:
    """A tensor over the memory of an object with ``__dlpack__`` on a device; a copy where that is not contiguous."""
    kind, index = other.__dlpack_device__()
    if kind not in (_DLPACK_CUDA, _DLPACK_ROCM):
        raise BufferError(f"DLPack device type {kind} is none of the CPU (1), CUDA (2) and ROCm (10)")
    d = devices.driver(device("cuda", index))
    if not isinstance(d, devices.TorchDriver):
        raise BufferError(f"{d.where} is simulated (ST_SIMULATE_CUDA): memory of a real device cannot be used there")
    from .dtypes import BY_NAME

    given = d.torch.from_dlpack(other)
    held = given.contiguous()
    raw = held.view(-1).view(d.torch.uint8) if held.numel() else held
    dtype = BY_NAME[str(given.dtype).removeprefix("torch.")]
    owner = given if held.data_ptr() == given.data_ptr() else None
    buffer = d.wrap(int(held.data_ptr()), held.numel() * dtype.itemsize, raw, owner)
    cell = Storage(graph.buffer(buffer, tuple(given.shape), dtype), d.where)
    return tensor_over(cell, ())


__all__ = ["ToCopy", "apart", "dlpack_device", "export", "import_device", "meet", "move", "number_on", "place"]
