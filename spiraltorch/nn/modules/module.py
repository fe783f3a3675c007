"""Module: parameters, buffers and child modules under names, and a ``forward``.

    >>> import spiraltorch as st
    >>> class Scale(st.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = st.nn.Parameter(st.ones(1))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']

``_version`` counts changes to a module (attributes, train/eval, hooks, types), so that a compiled
function knows with one comparison that it still is what was traced.  Values of tensors do not count.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...autograd import no_grad
from ...dtypes import BY_NAME, DType
from ...tensor import Tensor
from ..parameter import Parameter
from . import state

M = TypeVar("M", bound="Module")
_MISSING = object()
_numbers = itertools.count()


class HookHandle:
    """Takes a module's hook out again with ``remove()``; also a context manager."""

    def __init__(self, module: Module, hooks: dict[int, Any], number: int) -> None:
        self._module, self._hooks, self.id = module, hooks, number

    def remove(self) -> None:
        if self._hooks.pop(self.id, None) is not None:
            self._module._changed()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


class Module:
    """Base of all layers and models (torch.nn.Module)."""

    training: bool
    _version: int
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    #: the layer's version in the metadata of a state dict
    state_version = 1

    def __init__(self) -> None:
        d = self.__dict__
        d.setdefault("_version", 0)
        d.update(training=True, _parameters={}, _buffers={}, _modules={}, _non_persistent_buffers_set=set())
        d.update(_forward_pre_hooks=OrderedDict(), _forward_hooks=OrderedDict())
        d.update(_backward_pre_hooks=OrderedDict(), _backward_hooks=OrderedDict())
        d.update(_state_dict_hooks=OrderedDict(), _load_state_dict_hooks=OrderedDict())

    def _changed(self) -> None:
        d = self.__dict__
        d["_version"] = d.get("_version", 0) + 1

    # -- attributes --------------------------------------------------------------------------------

    def _members(self, what: str) -> dict[str, Any]:
        found = self.__dict__.get(what)
        if found is None:
            raise AttributeError(f"cannot assign {what[1:]} before Module.__init__() call")
        return found  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        d = self.__dict__
        for where in ("_parameters", "_buffers", "_modules"):
            members = d.get(where)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        parameters, buffers, modules = d.get("_parameters"), d.get("_buffers"), d.get("_modules")
        if isinstance(value, Parameter):
            target = self._members("_parameters")
        elif parameters is not None and name in parameters:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' (nn.Parameter or None expected)"
                )
            target = parameters
        elif isinstance(value, Module):
            target = self._members("_modules")
        elif modules is not None and name in modules:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as child module '{name}' (nn.Module or None expected)"
                )
            target = modules
        elif buffers is not None and name in buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{type(value).__name__}' as buffer '{name}' (Tensor or None expected)")
            target = buffers
        else:
            if d.get(name, _MISSING) is not value:
                object.__setattr__(self, name, value)
                self._changed()
            return
        if target.get(name, _MISSING) is value:
            return
        for other in (d, parameters, buffers, modules):
            if other is not None and other is not target:
                other.pop(name, None)
        if target is not buffers:
            d["_non_persistent_buffers_set"].discard(name)
        target[name] = value
        self._changed()

    def __delattr__(self, name: str) -> None:
        d = self.__dict__
        for members in (d.get("_parameters"), d.get("_buffers"), d.get("_modules")):
            if members is not None and name in members:
                del members[name]
                d["_non_persistent_buffers_set"].discard(name)
                break
        else:
            object.__delattr__(self, name)
        self._changed()

    def __dir__(self) -> list[str]:
        members = [n for n in (*self._parameters, *self._buffers, *self._modules) if n.isidentifier()]
        return sorted({*object.__dir__(self), *members})

    def _check_name(self, kind: str, name: Any, members: dict[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in members:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that belongs to the module's state but is not learned; only persistent ones are saved."""
        buffers = self._members("_buffers")
        self._check_name("buffer", name, buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)"
            )
        buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)
        self._changed()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        parameters = self._members("_parameters")
        self._check_name("parameter", name, parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' (nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. "
                f"To express '{name}' as a function of another Tensor, compute the value in the forward() method."
            )
        parameters[name] = param
        self._changed()

    def add_module(self, name: str, module: Module | None) -> None:
        modules = self._members("_modules")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name("module", name, modules)
        modules[name] = module
        self._changed()

    register_module = add_module

    # -- what is inside ----------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it with their dotted names, each once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        for _, m in self.named_modules():
            yield m

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        for _, m in self.named_children():
            yield m

    def _named_members(
        self, what: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, m in modules:
            for name, value in m.__dict__[what].items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield path + ("." if path else "") + name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted name.  Raises AttributeError when there is none."""
        found: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(found, name):
                raise AttributeError(f"{type(found).__name__} has no attribute `{name}`")
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return found  # type: ignore[no-any-return]

    def _get_member(self, target: str, what: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        m = self.get_submodule(path)
        if name not in m.__dict__[what]:
            raise AttributeError(f"`{name}` is not {kind} of {type(m).__name__}")
        return m.__dict__[what][name]

    def get_parameter(self, target: str) -> Parameter:
        return self._get_member(target, "_parameters", "a parameter")  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        return self._get_member(target, "_buffers", "a buffer")  # type: ignore[no-any-return]

    # -- calling -----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        d = self.__dict__
        if d["_forward_pre_hooks"] or d["_forward_hooks"] or d["_backward_hooks"] or d["_backward_pre_hooks"]:
            from .hooks import call_with_hooks

            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def _add_hook(self, where: str, hook: Any, prepend: bool = False) -> HookHandle:
        hooks = self.__dict__[where]
        number = next(_numbers)
        hooks[number] = hook
        if prepend:
            hooks.move_to_end(number, last=False)
        self._changed()
        return HookHandle(self, hooks, number)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the arguments."""
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> HookHandle:
        """Call ``hook(module, args, output)`` after forward; what it returns replaces the output.

        With ``always_call`` it is called (with None) also when forward raises.
        """
        return self._add_hook("_forward_hooks", (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Call ``hook(module, grad_output)`` before the module's backward; what it returns replaces the gradient."""
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Call ``hook(module, grad_input, grad_output)`` after the module's backward; what it returns replaces
        ``grad_input``."""
        return self._add_hook("_backward_hooks", hook, prepend)

    def compile(self, **options: Any) -> None:
        """As ``st.compile(module)``."""
        from ...jit.compile import compile

        compile(self, **options)

    def __getstate__(self) -> dict[str, Any]:
        compiled = "_compiled" in self.__dict__
        return {k: v for k, v in self.__dict__.items() if not (compiled and k == "forward")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_compiled" in state:
            from ..compiled import compile_module

            compile_module(self, *state["_compiled"])

    # -- changing all of it --------------------------------------------------------------------------

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """``fn`` on every module below and then on this one."""
        for m in self.children():
            m.apply(fn)
        fn(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for m in self.children():
            m.train(mode)
        return self

    def eval(self: M) -> M:
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        for m in self.modules():
            for p in m._parameters.values():
                if p is not None and p._requires_grad != requires_grad:
                    p.requires_grad_(requires_grad)
                    m._changed()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.parameters():
            if p.grad is not None:
                p.grad = None if set_to_none else p.grad.detach().zero_()  # type: ignore[attr-defined]

    def _apply(self: M, fn: Callable[[Tensor], Tensor]) -> M:
        """Every parameter, gradient and buffer replaced by ``fn`` of it; parameters stay the same objects."""
        for m in self.modules():
            for p in m._parameters.values():
                if p is None:
                    continue
                with no_grad():
                    new = fn(p)
                if new is p:
                    continue
                p.data = new
                if p._grad is not None:
                    with no_grad():
                        p.grad = fn(p._grad)
                m._changed()
            for name, b in m._buffers.items():
                if b is not None:
                    new = fn(b)
                    if new is not b:
                        m._buffers[name] = new
                        m._changed()
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(tensor)``: floating members change type;
        ``memory_format`` is for members of four and five axes."""
        kwargs.pop("non_blocking", None)
        format = {"memory_format": kwargs.pop("memory_format")} if "memory_format" in kwargs else {}
        args = tuple([a for a in args if not isinstance(a, bool)])
        wanted = kwargs.get("dtype") or next((a for a in args if isinstance(a, DType)), None)
        if wanted is not None and not (wanted.is_floating_point or wanted.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={wanted}"
            )

        def convert(t: Tensor) -> Tensor:
            if t.is_floating_point() or t.is_complex():
                return t.to(*args, **kwargs, **(format if t.ndim in (4, 5) else {}))
            others = [a.device if isinstance(a, Tensor) else a for a in args if not isinstance(a, DType)]
            return t.to(*others, **{k: v for k, v in kwargs.items() if k != "dtype"}, **(format if t.ndim in (4, 5) else {}))

        return self._apply(convert)

    def _cast(self: M, name: str) -> M:
        d = BY_NAME[name]
        return self._apply(lambda t: t.to(d) if t.is_floating_point() else t)

    def float(self: M) -> M:
        return self._cast("float32")

    def double(self: M) -> M:
        return self._cast("float64")

    def half(self: M) -> M:
        return self._cast("float16")

    def bfloat16(self: M) -> M:
        return self._cast("bfloat16")

    def type(self: M, dst_type: DType) -> M:
        return self._apply(lambda t: t.to(dst_type))

    def cpu(self: M) -> M:
        return self._apply(lambda t: t.cpu())

    def cuda(self: M, device: int | None = None) -> M:
        return self._apply(lambda t: t.cuda(device))

    # -- state dicts ---------------------------------------------------------------------------------

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Parameters and persistent buffers by dotted name, over the module's own memory."""
        return state.state_dict(self, destination, prefix, keep_vars)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> state.IncompatibleKeys:
        """Copy values by name into this module's parameters and buffers (``assign``: take the tensors themselves).

        Values may be tensors of this library, NumPy arrays or anything with ``__dlpack__``.  Returns the missing
        and the unexpected keys; with ``strict``, and for sizes that differ, raises RuntimeError that lists them.
        """
        return state.load_state_dict(self, state_dict, strict, assign)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        state.save_members(self, destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: Any,
        unexpected_keys: Any,
        error_msgs: Any,
    ) -> None:
        state.load_members(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` when ``state_dict`` is made."""
        return self._add_hook("_state_dict_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors)`` before
        values are taken from a state dict."""
        return self._add_hook("_load_state_dict_hooks", (hook, True))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(module, incompatible_keys)`` after a state dict was loaded."""
        return self._add_hook("_load_state_dict_hooks", (hook, False))

    # -- text ----------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The text between the brackets of the module's repr."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + indented(repr(m)) for name, m in self._modules.items()]
        return bracketed(self._get_name(), lines, children)


def indented(text: str) -> str:
    """``text`` with all lines but the first two spaces to the right."""
    return text.replace("\n", "\n  ")


def bracketed(name: str, extra: list[str], children: list[str]) -> str:
    """A module's repr: on one line when there is nothing but one line of settings."""
    if not children and len(extra) <= 1:
        return f"{name}({''.join(extra)})"
    return f"{name}(\n  " + "\n  ".join([*extra, *children]) + "\n)"
