"""What callers may pass: arguments put in their places, and torch's TypeErrors for what does not belong there.

In: a record and a call's arguments.  Out: positional arguments and those that have to be named.

    st.sum(x, axis=0, keepdims=True)    sum(x, 0, True): NumPy's names are known, as in torch
    st.cumsum(x, 1.0)                   TypeError: cumsum(): argument 'dim' (position 2) must be int, not float

What an argument must be is read off the body's annotations, once per record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .creation import OF_PYTHON
from .dtypes import DType
from .ops.registry import Op
from .tensor import Tensor

_NUMBERS = (int, float, complex, np.generic)
_NUMPY_NAMES = {
    "axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other",
    "split_size": "split_size_or_sections",
}  # fmt: skip


def bind(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Positional arguments first: operands given by keyword are moved in place.  NumPy's scalars become Python's, and Python's
    ``float`` a dtype.  Raises TypeError as torch does."""
    args = _without_numpy(args)
    if kwargs:
        kwargs = {k: _without_numpy(v) for k, v in kwargs.items()}
    if kwargs or len(args) < op.operands:
        kwargs = _torch_names(op, kwargs)
        if kwargs and _gathered(op) in kwargs:  # permute(dims=(1, 0)) is permute(1, 0)
            kwargs = dict(kwargs)
            values = kwargs.pop(_gathered(op))
            first = [*args, *[kwargs.pop(p) for p in op.parameters[len(args) : 1] if p in kwargs]]
            args = (*first, *(values if isinstance(values, (list, tuple)) else (values,)))
        try:
            bound = op.signature.bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(f"{op.name}(): {e}; the signature is {op.name}{op.signature}") from None
        args, kwargs = bound.args, bound.kwargs
    tests = _tests(op)
    if _gathered(op) in _INTS and _has_tensor(rest := args[len(tests) - 1 :]):
        args = [*args[: len(tests) - 1], *_as_ints(rest)]
    for k, (a, (name, test, words)) in enumerate(zip(args, tests)):
        if test is not None and not test(a):
            raise TypeError(f"{op.name}(): argument '{name}' (position {k + 1}) must be {words}, {_instead(a, test)}")
        if _takes_ints(op, name, words) and _has_tensor(a):
            args = [*args[:k], _as_ints(a), *args[k + 1 :]]
        if test is None and k < op.operands and isinstance(a, (str, bytes)):
            raise TypeError(f"{op.name}(): argument '{name}' (position {k + 1}) must be Tensor or Number, not {type(a).__name__}")
    if op.operands and op.numbers is not None and not any([isinstance(a, Tensor) for a in args[: op.operands]]):
        raise TypeError(f"{op.name}(): needs a Tensor among {', '.join(op.parameters[: op.operands])}, got numbers alone")
    if kwargs:
        named = {name: (test, words) for name, test, words in tests}
        for name, a in kwargs.items():
            test, words = named.get(name, (None, ""))
            if test is not None and not test(a):
                raise TypeError(f"{op.name}(): argument '{name}' must be {words}, {_instead(a, test)}")
            if _takes_ints(op, name, words) and _has_tensor(a):
                kwargs = {**kwargs, name: _as_ints(a)}
    return args, kwargs


_OF_INTS = ("int", "tuple of ints")
_INTS = frozenset((
    "destination", "dim", "dims", "kernel_size", "output_size", "pad", "repeats", "shifts", "size", "sizes", "source", "stride",
))  # fmt: skip


def _takes_ints(op: Op, name: str, words: str) -> bool:
    return words in _OF_INTS or (not words and name in _INTS and op.name not in ("max", "min"))  # these take a tensor there


def _has_tensor(a: Any) -> bool:
    if isinstance(a, (list, tuple)):
        return any([_has_tensor(x) for x in a if not isinstance(x, (list, tuple))])
    return isinstance(a, Tensor) and a.numel() == 1


def _as_ints(a: Any) -> Any:
    """Integers in tensors of one element, which is a look at them: ``one_hot(y, y.max() + 1)``."""
    if isinstance(a, (list, tuple)):
        return type(a)([_as_ints(x) for x in a])
    return int(a) if _is_size(a) else a


def _without_numpy(value: Any) -> Any:
    """``value`` with numbers instead of NumPy's scalars, in lists and tuples too."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type):
        return OF_PYTHON.get(value, value)
    if type(value) in (tuple, list):
        plain = [_without_numpy(v) for v in value]
        return type(value)(plain) if any([a is not b for a, b in zip(plain, value)]) else value
    return value


@functools.cache
def _gathered(op: Op) -> str:
    """The parameter that takes all positional arguments left, as ``*dims`` does; '' when there is none."""
    kinds = op.signature.parameters.values()
    return next((p.name for p in kinds if p.kind is p.VAR_POSITIONAL), "")


def _torch_names(op: Op, kwargs: dict[str, Any]) -> dict[str, Any]:
    """``kwargs`` with NumPy's and methods' names of parameters replaced by torch's functions', where the record has no such parameter."""
    if all([k in op.parameters for k in kwargs]):
        return kwargs
    return {k if k in op.parameters else _NUMPY_NAMES.get(k, k): v for k, v in kwargs.items()}


# -- what an annotation accepts -------------------------------------------------------------------------


def _is_int(a: Any) -> bool:
    if isinstance(a, (int, np.integer)):
        return not isinstance(a, bool)
    return isinstance(a, Tensor) and not a.ndim and a.dtype.kind in "iu"


def _is_bool(a: Any) -> bool:
    return isinstance(a, (bool, np.bool_))


def _is_number(a: Any) -> bool:
    return isinstance(a, _NUMBERS) or (isinstance(a, Tensor) and not a.ndim)


def _is_dims(a: Any) -> bool:
    return _is_int(a) or (isinstance(a, (list, tuple)) and all([_is_int(d) for d in a]))


def _is_size(a: Any) -> bool:
    return _is_int(a) or (isinstance(a, Tensor) and a.numel() == 1 and a.dtype.kind in "iu")


def _is_ints(a: Any) -> bool:
    """A number for each axis, or one for all.  True counts as 1 behind the first, as in torch; 2.0 is no size: as part of a
    node it would be equal to 2, and stand for it in calls that follow."""
    if isinstance(a, (list, tuple)):
        return all([_is_size(n) or (k > 0 and _is_bool(n)) for k, n in enumerate(a)])
    return _is_size(a)


def _is_parts(a: Any) -> bool:
    """Sizes, with None for those that stay as they are."""
    return _is_ints([n for n in a if n is not None]) if isinstance(a, (list, tuple, range)) else a is None or _is_size(a)


def _is_padding(a: Any) -> bool:
    return _is_text(a) or _is_ints(a)


def _is_text(a: Any) -> bool:
    return isinstance(a, str)


def _is_dtype(a: Any) -> bool:
    return isinstance(a, DType)


def _is_tensor(a: Any) -> bool:
    return isinstance(a, Tensor)


def _is_operand(a: Any) -> bool:
    return isinstance(a, (Tensor, *_NUMBERS))


Test = Callable[[Any], bool]


def _instead(a: Any, test: Test) -> str:
    """What was passed, for a message: the element that doesn't belong there, where it is one of several."""
    if isinstance(a, (list, tuple)):
        wrong = [(k, n) for k, n in enumerate(a) if not test(a[: k + 1])]
        if wrong:
            return f"but found element of type {type(wrong[0][1]).__name__} at position {wrong[0][0]}"
    return f"not {type(a).__name__}"


_KINDS: dict[str, tuple[Test, str]] = {
    "int": (_is_int, "int"), "bool": (_is_bool, "bool"), "float": (_is_number, "float"), "str": (_is_text, "str"),
    "Dims": (_is_dims, "tuple of ints"), "Ints": (_is_ints, "tuple of ints"), "Parts": (_is_parts, "tuple of ints"),
    "Padding": (_is_padding, "tuple of ints"),
    "DType": (_is_dtype, "dtype"), "Node": (_is_tensor, "Tensor"),
}  # fmt: skip


def _or_none(test: Test) -> Test:
    def apply(a: Any) -> bool:
        return a is None or test(a)

    return apply


@functools.cache
def _tests(op: Op) -> tuple[tuple[str, Test | None, str], ...]:
    """(name, test, words) for every parameter; None where anything goes."""
    out = []
    for k, p in enumerate(op.signature.parameters.values()):
        text = str(p.annotation).replace(" ", "")
        kind, _, rest = text.partition("|")
        test, words = _KINDS.get(kind, (None, "")) if rest in ("", "None") else (None, "")
        if test is _is_tensor and k < op.operands and _number_may_stand(op, k):
            test = _is_operand
        if test is not None and (rest == "None" or kind == "Dims" or p.default is None):
            test = _or_none(test)
        out.append((p.name, test, words))
    return tuple(out)


def _number_may_stand(op: Op, place: int) -> bool:
    if op.numbers is None:
        return op.operands > 1
    return op.numbers == "both" or (op.numbers == "second" and place > 0)
