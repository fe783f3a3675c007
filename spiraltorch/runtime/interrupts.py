"""Sections that Ctrl-C does not cut in two.

    with uninterrupted():
        plan.run(...)      # memory is written
        cell.settle(...)   # and is said to be

Python raises KeyboardInterrupt at the first instruction after a native call, which is where a signal that came
during the call would find memory written and nothing noted.  Inside, the signal waits for the end of the section.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what module signal wraps in enums that cost 4 us a call
import os
import threading
from types import FrameType
from typing import Any

_main = threading.main_thread().ident


class uninterrupted:
    """Context manager; nothing happens outside the main thread, which alone is interrupted, or without a handler."""

    __slots__ = ("before", "arrived")

    def __enter__(self) -> None:
        self.before: Any = None
        self.arrived: tuple[int, FrameType | None] | None = None
        if threading.get_ident() == _main:
            before = _signal.getsignal(_signal.SIGINT)
            if callable(before):
                self.before = before
                _signal.signal(_signal.SIGINT, self._wait)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self.arrived = number, frame

    def __exit__(self, *exc: Any) -> None:
        if self.before is not None:
            _signal.signal(_signal.SIGINT, self.before)
            if self.arrived is not None:
                self.before(*self.arrived)


def _after_fork() -> None:
    """In a child the thread that forked is the main one."""
    global _main
    _main = threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
