"""Optimizer: groups of parameters with settings, state per parameter, and a step.

A subclass says the update of one parameter (:meth:`Optimizer.update`) as an expression of values.  It is
recorded, not computed, so the updates of all parameters fuse, and a whole training step compiles.
Settings that change while training (learning rates, momenta) enter as data: see :meth:`Optimizer.number`.

    >>> import spiraltorch as st
    >>> w = st.tensor([1.0], requires_grad=True)
    >>> opt = st.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    tensor([0.], requires_grad=True)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import enable_grad, no_grad
from ..creation import over_array, tensor
from ..ir.node import Node, cast
from ..jit.trace import host_number, untraced
from ..storage import queue
from ..tensor import Tensor
from ..utils.foreign import as_ours

Group = dict[str, Any]
Job = tuple[Tensor, Tensor, dict[str, Tensor]]  # a parameter, its gradient and its state


class Optimizer:
    """Base of all optimizers (torch.optim.Optimizer).

    param_groups: dicts with ``params`` and that group's settings.  state: a dict for each parameter.
    ``_version`` counts replaced state and added groups, for compiled functions.
    """

    def __init__(self, params: Any, defaults: Group) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {type(params).__name__}"
            )
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._version = 0
        self._program: Any = None
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with settings of their own; settings that are not given are the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will "
                "change between runs. Please use a list instead."
            )
        group["params"] = [params] if isinstance(params, Tensor) else list(params)
        if group["params"] and all(isinstance(p, tuple) for p in group["params"]):
            group["param_names"] = [name for name, _ in group["params"]]
            group["params"] = [p for _, p in group["params"]]
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in known for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self.param_groups.append(group)
        self._version += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = p.grad.detach().zero_()

    # -- the step ------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; ``closure`` computes the loss anew, which is returned.

        The updates are one compiled program, also when the training loop is not compiled.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._stepped = True
        with no_grad():
            jobs = [[self._job(p, group) for p in group["params"] if p.grad is not None] for group in self.param_groups]
            if queue.trace is not None:
                self._update_all(jobs)
            else:
                self._compiled()(jobs)
        return loss

    def _job(self, p: Tensor, group: Group) -> Job:
        state = self.state.get(p, {})
        if not state:
            state = self.start(p, group)
            if state:
                self.state[p] = state
        assert p.grad is not None
        return p, p.grad, {name: t for name, t in state.items() if isinstance(t, Tensor)}

    def _compiled(self) -> Callable[[Any], None]:
        """:meth:`_update_all` as a program; all tensors are its arguments, so that it holds on to none."""
        if self._program is None:
            from ..jit.compile import CompiledFunction

            self._program = CompiledFunction(self._update_all)
        return self._program  # type: ignore[no-any-return]

    def _update_all(self, jobs: list[list[Job]]) -> None:
        for group, own in zip(self.param_groups, jobs):
            numbers = self.numbers(group)
            for p, grad, state in own:
                old = {name: _wide(t) for name, t in state.items()}
                new = dict(old)
                g = _wide(grad)
                _store(p, self.update(_wide(p), -g if group["maximize"] else g, new, group, numbers))
                for name, value in new.items():
                    if value is not old[name]:
                        _store(state[name], value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}

    def start(self, p: Tensor, group: Group) -> dict[str, Tensor]:
        """A parameter's first state, from :meth:`zeros` and :meth:`scalar`."""
        return {}

    def numbers(self, group: Group) -> Any:
        """The group's settings for :meth:`update`, read with :meth:`number`."""
        raise NotImplementedError(type(self).__name__)

    def update(self, p: Node, g: Node, state: dict[str, Node], group: Group, n: Any) -> Node:
        """The new value of a parameter ``p`` with gradient ``g``; new state is put into ``state``.

        All are values on the graph, 16-bit types as float32.  Python may look at settings that stay (is there
        a momentum?) but there is no value to look at.
        """
        raise NotImplementedError(type(self).__name__)

    # -- helpers of subclasses -----------------------------------------------------------------------

    @staticmethod
    def number(group: Group, *path: Any) -> Node:
        """A setting as a 0-d float64 value: data, so that a new one needs no new program."""
        value = group
        for k in path:
            value = value[k]
        if isinstance(value, Tensor):
            return cast(value._read(), dtypes.float64)
        return host_number(group, path[0] if len(path) == 1 else path, dtypes.float64)

    @staticmethod
    def zeros(like: Tensor) -> Tensor:
        """State of a parameter's shape and type, in memory that outlives a trace."""
        with untraced():
            return over_array(np.zeros(tuple(like.shape), like.dtype.np), like.device)

    @staticmethod
    def scalar(value: float, like: Tensor) -> Tensor:
        """State of one float32 number, on its parameter's device, in memory that outlives a trace."""
        with untraced():
            return over_array(np.array(value, np.float32), like.device)

    # -- state dicts -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``state`` by parameter number and ``param_groups`` with numbers for parameters, in torch's format."""
        numbers = self._numbered()
        groups = []
        for group in self.param_groups:
            groups.append(
                {
                    **{k: v for k, v in group.items() if k != "params"},
                    "params": [numbers[id(p)] for p in group["params"]],
                }
            )
        state = {(numbers[id(p)] if isinstance(p, Tensor) else p): v for p, v in self.state.items()}
        return {"state": state, "param_groups": groups}

    def _numbered(self) -> dict[int, int]:
        numbers: dict[int, int] = {}
        for p in chain.from_iterable([g["params"] for g in self.param_groups]):
            numbers.setdefault(id(p), len(numbers))
        return numbers

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take settings and copies of the state; tensors may be of any library.

        Raises ValueError when the groups do not have the same sizes.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        owner = {
            number: p
            for old, group in zip(saved, self.param_groups)
            for number, p in zip(old["params"], group["params"])
        }
        state: dict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            p = owner.get(key)
            state[key if p is None else p] = _taken(value, p, "")
        self.state = state
        for group, old in zip(self.param_groups, saved):
            params = group["params"]
            names = group.get("param_names")
            group.clear()
            group.update({k: _taken(v, None, "") for k, v in old.items() if k != "params"})
            group["params"] = params
            if names is not None:
                group["param_names"] = names
        self._version += 1

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join([f"    {k}: {group[k]}\n" for k in sorted(group) if k != "params"])
        return text + ")"


def _taken(value: Any, p: Tensor | None, key: str) -> Any:
    """A copy of loaded state; floating tensors in the type of their parameter, ``step`` in its own."""
    if isinstance(value, dict):
        return {k: _taken(v, p, k) for k, v in value.items() if v is not None or p is None}
    if isinstance(value, (list, tuple)):
        return type(value)([_taken(v, p, key) for v in value])
    found = as_ours(value)
    if found is None:
        return tensor(float(value)) if key == "step" and isinstance(value, (int, float)) else value
    dtype = p.dtype if p is not None and key != "step" and p.is_floating_point() else found.dtype
    with untraced():
        return tensor(found.detach()._values().astype(dtype.np), device=p.device if p is not None else None)


def check(condition: bool, what: str, value: Any) -> None:
    """Refuse a setting in torch's words."""
    if not condition:
        raise ValueError(f"Invalid {what}: {value}")


def check_rate(lr: Any) -> None:
    """A learning rate is a number or a tensor of one element."""
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
    else:
        check(lr >= 0.0, "learning rate", lr)


def _wide(t: Tensor) -> Node:
    """A tensor's value in the type its update is computed in."""
    n = t._read()
    return cast(n, n.dtype.acc)


def _store(target: Tensor, value: Node) -> None:
    """Write ``value`` into ``target``, rounded to its type."""
    target._write(cast(value, target.dtype))
