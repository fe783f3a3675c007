"""CUDA and ROCm devices (torch.cuda): which there are, which is current, and waiting for them.

>>> import spiraltorch as st
>>> st.cuda.is_available() == (st.cuda.device_count() > 0)
True
"""

from __future__ import annotations

from .device import device, place
from .random import manual_seed as seed_all


def is_available() -> bool:
    """Whether tensors can live on a GPU here (or on a simulated one: ST_SIMULATE_CUDA)."""
    return device_count() > 0


def device_count() -> int:
    """How many devices there are; 0 also where torch, which manages their memory, is not installed."""
    from .runtime.devices import device_count as count

    return count()


def current_device() -> int:
    """Index of the device that "cuda" means in this thread.  Raises RuntimeError when there is none."""
    index = place("cuda").index
    assert index is not None
    return index


def set_device(device: device | str | int) -> None:
    """Let "cuda" mean this device in this thread.  Raises RuntimeError when there is none such."""
    from .runtime.devices import set_device as change

    change(place(device))


def synchronize(device: device | str | int | None = None) -> None:
    """Compute what is pending in this thread and wait until the device is done with everything asked for."""
    from .runtime.devices import driver
    from .storage import queue

    where = place("cuda" if device is None else device)
    queue.flush()
    driver(where).synchronize()


def manual_seed(seed: int) -> None:
    """The same as ``st.manual_seed``: one generator serves all devices, and the same seed gives the same numbers on each."""
    seed_all(seed)


def manual_seed_all(seed: int) -> None:
    """The same as :func:`manual_seed`."""
    seed_all(seed)


__all__ = ["current_device", "device_count", "is_available", "manual_seed", "manual_seed_all", "set_device", "synchronize"]
