"""The modes of autograd: whether operations are recorded, and whether backward is watched.

    >>> import spiraltorch as st
    >>> with st.no_grad():
    ...     st.is_grad_enabled()
    False
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from .tape import mode


def is_grad_enabled() -> bool:
    return mode.enabled


class Setting:
    """The grad mode inside a ``with`` block or a decorated function."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self._before.pop()

    def clone(self) -> Setting:
        return Setting(self.enabled)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        again = self.clone
        if inspect.isgeneratorfunction(function):
            return _around_generator(function, again)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with again():
                return function(*args, **kwargs)

        return wrapped


def _around_generator(function: Callable[..., Any], setting: Callable[[], Setting]) -> Callable[..., Any]:
    """The mode holds while the generator runs, not while its user does."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)
        step, given = steps.send, None
        while True:
            try:
                with setting():
                    value = step(given)
            except StopIteration as end:
                return end.value
            try:
                step, given = steps.send, (yield value)
            except GeneratorExit:
                with setting():
                    steps.close()
                raise
            except BaseException as e:
                step, given = steps.throw, e

    return wrapped


class no_grad(Setting):
    """Nothing inside is recorded for backward (torch.no_grad); also a decorator, with or without parentheses."""

    _enabled = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else Setting(cls._enabled)(function)

    def __init__(self, function: None = None) -> None:
        super().__init__(self._enabled)

    def clone(self) -> no_grad:
        return type(self)()


class enable_grad(no_grad):
    """Record inside, also within :class:`no_grad` (torch.enable_grad)."""

    _enabled = True


class inference_mode(Setting):
    """As :class:`no_grad` (torch.inference_mode); tensors made inside are ordinary tensors here."""

    def __new__(cls, mode: Any = True) -> Any:
        return cls(True)(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)

    def __enter__(self) -> None:
        super().__enter__()
        _inference.modes.append(not self.enabled)

    def __exit__(self, *exc: Any) -> None:
        super().__exit__()
        _inference.modes.pop()

    def clone(self) -> inference_mode:
        return type(self)(not self.enabled)


class _Inference(threading.local):
    def __init__(self) -> None:
        self.modes: list[bool] = []


_inference = _Inference()


def is_inference_mode_enabled() -> bool:
    return bool(_inference.modes and _inference.modes[-1])


class set_grad_enabled(Setting):
    """Plain call, context manager and decorator that switches recording for backward (torch.set_grad_enabled)."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled(): argument 'enabled' must be bool, not {type(mode).__name__}")
        super().__init__(mode)
        super().__enter__()

    def __enter__(self) -> None:
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self._before[0]

    def clone(self) -> Setting:
        return Setting(self.enabled)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.__exit__()
        return super().__call__(function)


class _Anomaly(threading.local):
    enabled = False
    check_nan = True


anomaly = _Anomaly()


class set_detect_anomaly:
    """Plain call and context manager: backward names the forward line of a step that fails or gives nan
    (torch.autograd.set_detect_anomaly).  Looks at every gradient, so it is slow."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = anomaly.enabled, anomaly.check_nan
        anomaly.enabled, anomaly.check_nan = mode, check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        anomaly.enabled, anomaly.check_nan = self._before


class detect_anomaly:
    """:func:`set_detect_anomaly` inside a ``with`` block (torch.autograd.detect_anomaly)."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self._inner = set_detect_anomaly(True, self.check_nan)

    def __exit__(self, *exc: Any) -> None:
        self._inner.__exit__()


def is_anomaly_enabled() -> bool:
    return anomaly.enabled


def is_anomaly_check_nan_enabled() -> bool:
    return anomaly.check_nan


class set_multithreading_enabled(Setting):
    """Accepted; backward walks the tape in the thread that asks (torch.autograd.set_multithreading_enabled)."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        pass
