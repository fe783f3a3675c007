"""Packed weights of a compiled function, kept from one replay to the next while they stay as they are.

In: a program, and the cells of the tensors it captured and does not write.  Out: memory that its products fill with the
panels of their right operands, once, and read from then on:

    kept = Panels(program, {2: weight._storage})     # input 2 of the program is this cell
    kept.check()                                     # before each run, with the function's lock held

Panels are made when a cell was found unchanged, and given up as soon as it is not: another buffer, or another version,
which every write bumps (in place, ``load_state_dict``, an optimizer).  Memory that was ever shown to the outside, by
``numpy()``, DLPack or the like, may be written to unseen, so its panels are never kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..storage import Storage
from .program import Program

MOST_BYTES = 256 << 20  # of the panels of one program


class _Panel:
    """The panels of one product: memory, or None where it packs anew."""

    __slots__ = ("position", "nbytes", "cell", "buffer", "version", "memory")

    def __init__(self, position: int, nbytes: int, cell: Storage) -> None:
        self.position, self.nbytes, self.cell = position, nbytes, cell
        self.buffer: weakref.ref[Any] | None = None
        self.version = -1
        self.memory: np.ndarray | None = None

    def unchanged(self) -> bool:
        """Whether the cell holds what it held when this was last asked, and nobody else can have written to it."""
        b = self.cell.buffer
        if b is None or b.seen_outside:
            self.buffer = None
            return False
        same = self.buffer is not None and self.buffer() is b and self.version == self.cell.version
        if not same:
            self.buffer, self.version = weakref.ref(b), self.cell.version
        return same


class Panels:
    """All that a program may keep."""

    def __init__(self, program: Program, cells: Mapping[int, Storage]) -> None:
        self._program = program
        self._panels: list[_Panel] = []
        left = MOST_BYTES
        for position, source, nbytes in program.panels:
            if source in cells and nbytes <= left:
                self._panels.append(_Panel(position, nbytes, cells[source]))
                left -= nbytes

    def __bool__(self) -> bool:
        return bool(self._panels)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(p.nbytes for p in self._panels if p.memory is not None)

    def check(self) -> None:
        """Give up the panels of what has changed; make room for those of what has not."""
        for p in self._panels:
            if p.unchanged() is (p.memory is not None):
                continue
            address = 0
            if p.memory is None:
                raw = np.zeros(p.nbytes + 64, np.uint8)
                p.memory = raw[-raw.ctypes.data % 64 :]
                address = int(p.memory.ctypes.data)
            else:
                p.memory = None
            self._program.table.patch([p.position], [address])
