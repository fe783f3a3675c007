"""``__torch_function__``: classes that take part in functions of tensors, and subclasses of Tensor that results keep.

In: a call with an argument whose class says ``__torch_function__``.  Out: what that class answers.

    class Named(st.Tensor):                     # results of operations on a Named are Named
        ...
    class Ones:                                 # st.mean(Ones(3)) asks Ones.__torch_function__(st.mean, (Ones,), ...)
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None): ...

Tensors and Parameters pay nothing for it: the first test is in what a call does when it was not seen before
(dispatch.py), and methods of subclasses are those of :class:`Overridden`, which stands between them and Tensor.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .short import SHORT
from .tensor import Tensor


class _Calls(threading.local):
    """Whether this thread is inside what ``Tensor.__torch_function__`` does, where classes are not asked again."""

    plain = False


_calls = _Calls()
#: op name to the function that users call, which is what a class is asked about
functions: dict[str, Callable[..., Any]] = {}
_PLAIN = frozenset((int, float, bool, complex, str, type(None)))
NOT_ASKED = object()


class Unanswered(TypeError):
    """Every class that was asked answered NotImplemented."""


def disabled(func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """``__torch_function__`` of classes whose results are plain tensors, as a Parameter's are."""
    return func(*args, **(kwargs or {}))


def torch_function(cls: type, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
    """Compute ``func(*args, **kwargs)`` and give its tensors the class that was asked (torch.Tensor.__torch_function__)."""
    if not all([issubclass(cls, t) for t in types]):
        return NotImplemented
    outer, _calls.plain = _calls.plain, True
    try:
        found = func(*args, **(kwargs or {}))
    finally:
        _calls.plain = outer
    return found if cls is Tensor or func in _kept() else _of_class(found, cls, args)


def _of_class(found: Any, cls: type, args: Sequence[Any]) -> Any:
    if isinstance(found, Tensor):
        if isinstance(found, cls):
            return found
        if any([found is a for a in args]):
            return found.as_subclass(cls)
        found.__class__ = cls
        return found
    if isinstance(found, (tuple, list)) and any([isinstance(v, Tensor) for v in found]):
        return type(found)([_of_class(v, cls, args) for v in found])
    return found


@functools.cache
def _kept() -> frozenset[Any]:
    """Attributes that hold a tensor of another, which stays what it is."""
    return frozenset((vars(Tensor)["grad"].__get__, vars(Tensor)["as_subclass"]))


def _asked(value: Any) -> bool:
    kind = type(value)
    return kind not in SHORT and getattr(kind, "__torch_function__", disabled) is not disabled


def _overriding(values: Iterable[Any]) -> Iterator[Any]:
    for v in values:
        if type(v) in (list, tuple):
            yield from _overriding(v)
        elif type(v) not in _PLAIN and _asked(v):
            yield v


def taking_part(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether an argument is of a class that is to be asked; the tensors of most calls say at once that it is not."""
    for a in args:
        if type(a) not in SHORT and type(a) not in _PLAIN:
            break
    else:
        if not kwargs:
            return False
    return not _calls.plain and next(_overriding((*args, *kwargs.values())), None) is not None


def ask(func: Callable[..., Any], values: Iterable[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The answer of the first class among ``values`` that has one; NOT_ASKED when none takes part.  Classes are asked from left
    to right, subclasses before those that they come from.  Raises TypeError when none has an answer."""
    if _calls.plain:
        return NOT_ASKED
    found: list[Any] = []
    for v in _overriding(values):
        if not any([type(v) is type(w) for w in found]):
            place = next((k for k, w in enumerate(found) if issubclass(type(v), type(w))), len(found))
            found.insert(place, v)
    if not found:
        return NOT_ASKED
    types = tuple([type(v) for v in found])
    for v in found:
        answer = v.__torch_function__(func, types, tuple(args), kwargs)
        if answer is not NotImplemented:
            return answer
    name = getattr(func, "__name__", repr(func))
    raise Unanswered(
        f"Multiple dispatch failed for '{name}'; all __torch_function__ handlers returned NotImplemented: "
        + ", ".join([t.__name__ for t in types])
    )


# -- what subclasses of Tensor are over ---------------------------------------------------------------------------


class Overridden(Tensor):
    """Tensor, each of whose methods and attributes asks the class of its arguments first."""

    __slots__ = ()


#: Python's operators, and the methods that a class is asked about for them
_OPERATORS = {
    "__add__": "add", "__radd__": "add", "__mul__": "mul", "__rmul__": "mul", "__sub__": "sub", "__matmul__": "matmul",
    "__truediv__": "div", "__mod__": "remainder", "__pow__": "pow", "__neg__": "neg", "__abs__": "abs", "__lt__": "lt",
    "__gt__": "gt", "__le__": "le", "__ge__": "ge",
}  # fmt: skip
_OPERANDS = (Tensor, int, float, complex)
#: what belongs to Python objects and NumPy, and is not asked about
_OWN = frozenset((
    "__new__", "__hash__", "__dlpack__", "__dlpack_device__", "__iter__", "__index__", "__copy__", "__deepcopy__",
    "__reduce_ex__", "as_subclass",
))  # fmt: skip


def _method(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    operator = vars(Tensor)[_OPERATORS[name]] if name in _OPERATORS else None

    def apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        public = operator if operator is not None and all([isinstance(a, _OPERANDS) for a in args]) else func
        try:
            answer = ask(public, (self, *args, *kwargs.values()), (self, *args), kwargs)
        except Unanswered:
            if name.startswith("__"):
                return NotImplemented  # Python asks the other operand, and raises a TypeError
            raise
        return func(self, *args, **kwargs) if answer is NOT_ASKED else answer

    apply.__name__, apply.__qualname__, apply.__doc__ = name, f"Tensor.{name}", func.__doc__
    return apply


def _attribute(name: str, own: property) -> property:
    read, write, delete = own.__get__, own.__set__, own.__delete__

    def get(self: Any) -> Any:
        answer = ask(read, (self,), (self,), {})
        return read(self) if answer is NOT_ASKED else answer

    def put(self: Any, value: Any) -> None:
        if ask(write, (self,), (self, value), {}) is NOT_ASKED:
            write(self, value)

    def remove(self: Any) -> None:
        if ask(delete, (self,), (self,), {}) is NOT_ASKED:
            delete(self)

    return property(get, put if own.fset else None, remove if own.fdel else None, own.__doc__)


@functools.cache
def _filled() -> type[Tensor]:
    """:class:`Overridden` with its methods, made when the first subclass is."""
    for name, value in vars(Tensor).items():
        if name in _OWN or (name.startswith("_") and not name.startswith("__")):
            continue
        if isinstance(value, property):
            setattr(Overridden, name, _attribute(name, value))
        elif callable(value) and not isinstance(value, (type, staticmethod, classmethod)):
            setattr(Overridden, name, _method(name, value))
    Overridden.__hash__ = Tensor.__hash__  # type: ignore[method-assign]
    return Overridden


def _subclassed(cls: type, **kwargs: Any) -> None:
    """A class over Tensor is defined: its methods ask it, unless it says that its results are plain tensors."""
    super(Tensor, cls).__init_subclass__(**kwargs)  # type: ignore[misc]
    if getattr(cls, "__torch_function__", disabled) is disabled:
        SHORT.add(cls)
    elif Tensor in cls.__bases__:
        over = _filled()
        cls.__bases__ = tuple([over if b is Tensor else b for b in cls.__bases__])


def _make_subclass(cls: type, data: Tensor, require_grad: bool = False) -> Any:
    """An instance of ``cls`` over the memory of ``data``, a leaf (torch.Tensor._make_subclass)."""
    t = Tensor.detach(data)
    t.__class__ = cls
    return t.requires_grad_(True) if require_grad else t


def asking(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """Function ``name``, which is no operator's record, asking the classes of its arguments first."""

    @functools.wraps(func)
    def apply(*args: Any, **kwargs: Any) -> Any:
        if taking_part(args, kwargs):
            return ask(apply, (*args, *kwargs.values()), args, kwargs)
        return func(*args, **kwargs)

    apply.__name__ = apply.__qualname__ = name
    return apply


#: functions of tensors that make new ones without an operator over them
ASKING = "broadcast_tensors empty_like full_like ones_like rand_like randint_like randn_like zeros_like".split()

METHODS: dict[str, Any] = {
    "__torch_function__": classmethod(torch_function), "__init_subclass__": classmethod(_subclassed),
    "_make_subclass": staticmethod(_make_subclass),
}  # fmt: skip


# -- what users call ----------------------------------------------------------------------------------------------


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether the class of one of these takes part in functions (torch.overrides.has_torch_function)."""
    return not _calls.plain and any([_asked(v) for v in relevant_args])


def handle_torch_function(public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """Ask the classes of ``relevant_args`` what ``public_api(*args, **kwargs)`` is (torch.overrides.handle_torch_function).

    Raises TypeError when none of them knows.
    """
    return ask(public_api, list(relevant_args), args, kwargs)


def is_tensor_like(inp: Any) -> bool:
    """Whether this is a Tensor or an object with ``__torch_function__`` (torch.overrides.is_tensor_like)."""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


__all__ = ["handle_torch_function", "has_torch_function", "is_tensor_like"]
