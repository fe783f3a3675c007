"""From a Python call to a recorded node: binds arguments, applies the operator's record, tapes it.

``function(op)`` is what users call as ``st.name``; ``method`` and ``inplace`` make ``x.name()`` and
``x.name_()``; :func:`install` puts them where the records say.  Scalar rows with two tensors of one
type and shape take a short path, because recording is what eager mode costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from typing import Any

import numpy as np

from . import again, dtypes, errors, fast, overrides
from .again import Applied, Seen
from .arguments import bind
from .config import config
from .device import CPU, device
from .errors import SpiralError, user_origin
from .ir import graph
from .ir.node import Bits, Node
from .ir.prims import ROWS
from .ops.registry import OPS, Op, result_class
from .ops.view import LISTS
from .ordering import TURNING, Order, in_order, is_turned, laid, lay_out, order_of
from .outs import Long, with_out, write_result
from .runtime import buffers, plan_table, threads
from .short import NUMBERS, SHORT, form, number_node, numbers, short_binary, short_number, short_unary, tensor_of
from .storage import Storage, computed_at_once, is_marked, queue, reshape_strides
from .tape import Hole, OpCall, ViewCall, fill, mode
from .tensor import Tensor, attach, from_node, tensor_over
from .writes import refuse_leaf_write, refuse_overlap, refuse_own_overlap

_NO_KW: dict[str, Any] = {}

fast.connect(
    Node=Node, Bits=Bits, Storage=Storage, Tensor=Tensor, DType=dtypes.DType, Buffer=buffers.Buffer, SHORT=SHORT, ROWS=ROWS, CPU=CPU,
    float32=dtypes.float32, float64=dtypes.float64, queue=queue, config=config, dtypes=dtypes, calls=again.calls, Seen=Seen,
    Applied=Applied, inside=errors._inside, user_origin=user_origin, attach=attach, computed_at_once=computed_at_once,
    number=number_node, numbers=numbers, memory=buffers._pool, scalar_word=plan_table.scalar_word, take_scratch=plan_table.take_scratch,
    idle_scratch=plan_table.idle_scratch, small_arenas=buffers.small_arenas, workers=threads.pool, TURNING=TURNING,
)  # fmt: skip


def _nodes(value: Any, tensors: list[Tensor]) -> tuple[Any, Any]:
    """(value with tensors read as nodes, value with tensors replaced by holes)."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value._read(), Hole(len(tensors) - 1)
    if type(value) in (list, tuple) and any(isinstance(v, (Tensor, list, tuple)) for v in value):
        pairs = [_nodes(v, tensors) for v in value]
        return [p[0] for p in pairs], [p[1] for p in pairs]
    return value, value


def call(op: Op, args: Sequence[Any], kwargs: dict[str, Any] = _NO_KW) -> Any:
    """Record ``op`` on tensors and Python values; a Tensor or a tuple/list of them."""
    if op.view is not None or op.name in LISTS:
        return view_call(op, args, kwargs)
    if overrides.taking_part(args, kwargs):
        return overrides.ask(overrides.functions[op.name], (*args, *kwargs.values()), args, kwargs)
    if op.lies:
        found = _recorded(op, args, kwargs)
        lay_out(op, args, kwargs, [found] if isinstance(found, Tensor) else found)
        return found
    order = order_of(args[::-1] if op.name == "rsub" else args, kwargs) if op.pointwise else None
    return _recorded(op, args, kwargs) if order is None else _in_order(op, args, kwargs, order)


def _recorded(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors: list[Tensor] = []
    key = again.key_of(op.name, args, kwargs, tensors, SHORT) if queue.trace is None else None
    if key is not None:
        seen = again.calls.get(key)
        if seen is not None and (where := _device(tensors)) is not None:
            return _repeat(seen, tensors, where)
    given, tensors = tensors, []
    args, kwargs = bind(op, args, kwargs)
    node_args, template = [], []
    for a in args:
        n, h = _nodes(a, tensors)
        node_args.append(n)
        template.append(h)
    node_kwargs, kw_template = kwargs, kwargs
    if kwargs:
        pairs = {k: _nodes(v, tensors) for k, v in kwargs.items()}
        node_kwargs, kw_template = {k: p[0] for k, p in pairs.items()}, {k: p[1] for k, p in pairs.items()}
    where = _device(tensors)
    if where is None:
        return _call_apart(op, args, kwargs, tensors)
    out = op.apply(node_args, node_kwargs)
    if isinstance(out, Node):
        result: Any = from_node(out, where)
        outs = [result]
        _mark(out)
    else:
        outs = [from_node(n, where) for n in out]
        result = result_class(op.name, op.results)(outs) if op.results else type(out)(outs)
        for n in out:
            _mark(n)
    done = OpCall(op, template, kw_template)
    if mode.enabled and op.differentiable:
        for t in tensors:
            if t._tracked:
                attach(done, tensors, outs)
                break
    for t in tensors:
        if t._storage.exposed:
            computed_at_once(tensors, outs)
            break
    if key is not None and len(given) == len(tensors) and all(map(is_, given, tensors)):
        _learn(key, done, tensors, out)
    return result


def _in_order(op: Op, args: Sequence[Any], kwargs: dict[str, Any], order: Order) -> Any:
    """The call recorded on operands whose axes are in ``order``; what it gives is seen with them where they were."""
    tensors: list[Tensor] = []
    args, kwargs = bind(op, args, kwargs)
    template = [_nodes(a, tensors)[1] for a in args]
    named = {k: _nodes(v, tensors)[1] for k, v in kwargs.items()}
    turned = [in_order(t, order) for t in tensors]
    plain = not any([t._steps and is_turned(t) for t in turned])
    record = _recorders[op.name] if plain and op.name in _recorders else partial(_recorded_with, op)
    found = record(*fill(template, turned), **{k: fill(v, turned) for k, v in named.items()})
    outs = list(found) if isinstance(found, tuple) else [found]
    for t in outs:
        if t.ndim == len(order):
            laid(t, order)
    if mode.enabled and op.differentiable and any([t._tracked for t in tensors]):
        key = again.key_of(op.name, args, kwargs, [], SHORT)
        done = _ordered.get(key)
        if done is None:
            done = OpCall(op, template, named)
            if key is not None:
                _ordered.learn(key, again.family(op.name, [t._read() for t in tensors]), again.kept(done))
        attach(done, tensors, outs)
    return found


#: steps of the tape of calls in another order, which are remembered as calls are
_ordered = again.Memory()
_recorders: dict[str, Callable[..., Any]] = {}


def _recorded_with(op: Op, *args: Any, **kwargs: Any) -> Any:
    return _recorded(op, args, kwargs)


def _learn(key: tuple[Any, ...], done: OpCall, tensors: Sequence[Tensor], out: Any) -> None:
    """Remember a call that was recorded, so that the next is one node."""
    nodes = [t._read() for t in tensors]
    results = [out] if isinstance(out, Node) else list(out)
    pack: Any = None
    if not isinstance(out, Node):
        pack = result_class(done.op.name, done.op.results) if done.op.results else type(out)
    again.kept(done)
    found: list[Any] = [Applied(done.forward, k, n, done.op.name) for k, n in enumerate(results)]
    again.calls.learn(key, again.family(done.op.name, nodes), Seen(done, found, pack))


def _repeat(seen: Seen, tensors: list[Tensor], where: device) -> Any:
    """A call that was seen before, on tensors of the same shapes and types."""
    src = tuple([t._read() if t._steps else t._storage.node for t in tensors])
    origin = user_origin(3)
    outs = [tensor_of(a.node(src, origin), where) for a in seen.results]
    if mode.enabled and seen.call.op.differentiable:
        for t in tensors:
            if t._requires_grad or t._fn is not None or t._storage.history is not None:
                attach(seen.call, tensors, outs)
                break
    for t in tensors:
        if t._storage.exposed:
            computed_at_once(tensors, outs)
            break
    return outs[0] if seen.pack is None else seen.pack(outs)


def _mark(n: Node) -> None:
    if n.origin is None:
        n.origin = user_origin(3)


def _device(tensors: Sequence[Tensor]) -> device | None:
    """Where all tensors are; None when they are not in one place."""
    if not tensors:
        return CPU
    first = tensors[0]._storage.device
    for t in tensors:
        if t._storage.device is not first:
            return None
    return first


def _call_apart(op: Op, args: Sequence[Any], kwargs: dict[str, Any], tensors: list[Tensor]) -> Any:
    """The call with numbers of the host (0-d tensors) brought to the device of the others, as torch does."""
    from .transfer import meet, number_on

    where = meet(tensors)

    def brought(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if value._storage.device is where else number_on(value, where)
        return type(value)([brought(v) for v in value]) if type(value) in (list, tuple) else value

    return call(op, [brought(a) for a in args], {k: brought(v) for k, v in kwargs.items()})


def view_call(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operator whose results are views: the movement steps are appended to the tensor's own."""
    given: list[Tensor] = []
    key = again.key_of(op.name, args, kwargs, given, SHORT)
    known = again.views.get(key)
    if known is not None:
        x, found = given[0], known
    else:
        if key is None and overrides.taking_part(args, kwargs):
            return overrides.ask(overrides.functions[op.name], (*args, *kwargs.values()), args, kwargs)
        args, named = bind(op, args, kwargs)
        x, *rest = args
        found = (op.view or LISTS[op.name])(tuple(x._read().shape), *rest, **named)
        if key is not None and given[0] is x:
            again.views.learn(key, again.family(op.name, [x._read()]), found)
    if op.view is None:
        views = [view_of(x, steps, op.name) for steps in found]
        if op.name in _TOGETHER:
            for v in views:
                v.__dict__["_one_of_many"] = f"{op.name.title()}Backward0"
        return tuple(views)
    if x._steps and op.name in _RESHAPING and (_needs_copy(x, found) or (op.name == "ravel" and not x.is_contiguous())):
        if op.name == "view":
            raise SpiralError(
                "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
                "two contiguous subspaces). Use .reshape(...) instead."
            )
        return view_of(call(OPS["clone"], (x,)), found, op.name)
    if op.name == "view_as_real" and is_marked(x._steps, "CONJ"):
        raise SpiralError(
            "view_as_real doesn't work on unresolved conjugated tensors.  To resolve the conjugate tensor so you can view it "
            "as real, use self.resolve_conj(); however, be warned that the resulting tensor will NOT alias the original."
        )
    view = view_of(x, found, op.name)
    if op.name == "view_as_complex":
        view._layout()  # refuses strides that do not allow it
    return view


def view_of(x: Tensor, steps: Sequence[Any], name: str) -> Tensor:
    """The view of ``x`` at ``steps``, on the tape if x is."""
    t = tensor_over(x._storage, (*x._steps, *steps))
    if x._base is None:
        t._base = x
    else:
        t._base = x._base
        if "_one_of_many" in x.__dict__:
            t.__dict__["_one_of_many"] = x.__dict__["_one_of_many"]
    t._detached = x._detached
    t._seen = x._storage.history_version
    n = t._read()
    if n.origin is None:
        n.origin = user_origin(3)
    if mode.enabled and x._tracked:
        attach(ViewCall(steps, name.title().replace("_", "") + "Backward0"), [x], [t])
    return t


#: whose views autograd lets nobody write to, as they come from one step; torch makes others slice by slice
_TOGETHER = frozenset(("split", "split_with_sizes", "chunk", "unbind"))
_RESHAPING = frozenset(("reshape", "view", "flatten", "unflatten", "ravel"))


def _needs_copy(x: Tensor, steps: Sequence[Any]) -> bool:
    shape: tuple[int, ...] = tuple(x.shape)
    strides: Any = x._layout()[0]
    for kind, arg in steps:
        if kind == "RESHAPE":
            strides = reshape_strides(shape, strides, arg)
            if strides is None:
                return True
            shape = arg
    return False


# -- the callables users see -------------------------------------------------------------------------


call_out = with_out(call)


def function(op: Op, long: Long = call) -> Callable[..., Any]:
    """``x.name``; ``st.name`` with ``long`` that knows ``out=``."""
    if op.row is not None and op.operands == 2 and op.promote == "arith":
        return _binary(op, long)
    if op.row is not None and op.operands == 1:
        return _unary(op, long)

    def apply(*args: Any, **kwargs: Any) -> Any:
        return long(op, args, kwargs)

    remembered = op.view is None and op.name not in LISTS and op.lies != "columns" and not isinstance(op.lies, tuple)
    return fast.recorder(_dress(apply, op), op.name, pointwise=bool(op.pointwise or op.lies)) if remembered else _dress(apply, op)


def _dress(apply: Callable[..., Any], op: Op, name: str | None = None) -> Callable[..., Any]:
    apply.__name__ = apply.__qualname__ = name or op.name
    apply.__doc__ = op.doc
    apply.__signature__ = op.signature  # type: ignore[attr-defined]
    apply.__module__ = "spiraltorch"
    return apply


def _binary(op: Op, long: Long) -> Callable[..., Any]:
    short = short_binary(op)

    def apply(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 2 and not kwargs:
            a, b = args
            if type(a) in SHORT and type(b) in SHORT:
                t = short(a, b)
                if t is not None:
                    return t
        return long(op, args, kwargs)

    return fast.recorder(_dress(apply, op), op.name, **form(op, True, False))


def _unary(op: Op, long: Long) -> Callable[..., Any]:
    short = short_unary(op)

    def apply(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) == 1 and type(args[0]) in SHORT:
            t = short(args[0])
            if t is not None:
                return t
        return long(op, args, kwargs)

    return fast.recorder(_dress(apply, op), op.name, **form(op, True, False))


#: these write while they read, so that not even one and the same memory will do
_APART = frozenset((
    "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "put", "scatter", "scatter_add", "scatter_reduce",
))  # fmt: skip


def _refuse_overlaps(name: str, target: Tensor, read: list[Any]) -> None:
    if target._steps:
        refuse_own_overlap(target)
    if name in ("masked_fill", "index_fill"):
        read = [t for t in read if not (isinstance(t, Tensor) and not t.ndim)]  # the value is read before the write
    refuse_overlap(target, read, name in _APART)


def inplace(op: Op) -> Callable[..., Any]:
    """``x.name_(...)``: the out-of-place result written back, with torch's refusals."""
    compute = function(op)

    def apply(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if mode.enabled:
            refuse_leaf_write(self)
        _refuse_overlaps(op.name, self, [*args, *kwargs.values()])
        result = compute(self, *args, **kwargs)
        if self.dtype.is_complex and result.dtype.kind == "f":
            raise SpiralError(f"In-place {op.name} is not supported for complex tensors.")
        if result._fn is not None:
            _keep_old_value(result._fn, self)
        if op.inplace == "exact" and result.dtype is not self.dtype:
            raise SpiralError(
                f"the tensor given to {op.name}_ has type {self.dtype.name} but the result needs {result.dtype.name}"
            )
        return write_result(self, result, op.name + "_")

    return _dress(apply, op, op.name + "_")


def _keep_old_value(fn: Any, target: Tensor) -> None:
    """An in-place operator whose gradient looks at its own input saves the value from before the write."""
    for k, t in enumerate(fn.saved):
        if t is target:
            old = from_node(graph.copy(target._read()), target.device)
            old._fn, old._index, old._requires_grad = target._fn, target._index, target._requires_grad
            fn.saved[k], fn.versions[k] = old, 0


_DUNDERS = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "true_divide", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_UNARY = {"neg": "neg", "abs": "abs", "invert": "bitwise_not", "pos": "positive"}
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def _inverted(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if args[0].dtype.kind in "fc":
        raise TypeError(f"~ (operator.invert) is only implemented on integer and Boolean-type tensors, not on {args[0].dtype.name}")
    return call(op, args, kwargs)


def _operand(value: Any) -> bool:
    return isinstance(value, (Tensor, int, float, complex, bool))


def _dunder(op: Op, name: str, reflected: bool = False) -> Callable[..., Any]:
    plain = op.row is not None and op.promote == "arith"
    short = short_binary(op) if plain and not reflected else None
    number = short_number(op, reflected) if plain else None

    def apply(self: Tensor, other: Any) -> Any:
        kind = type(other)
        if reflected and not isinstance(self, Tensor):
            raise TypeError(f"the reflected {op.name} of a Tensor doesn't apply to a '{type(self).__name__}' object")
        if kind in SHORT:
            t = short(self, other) if short is not None else None
            if t is not None:
                return t
        elif kind in NUMBERS:
            t = number(self, other) if number is not None else None
            if t is not None:
                return t
        elif isinstance(other, np.generic):
            return apply(self, other.item())
        elif not _operand(other):
            if overrides.has_torch_function((other,)):
                return overrides.ask(apply, (self, other), (self, other), {})
            if not isinstance(other, np.ndarray) or op.name not in ("eq", "ne"):
                return NotImplemented  # NumPy computes with the two, and gives a tensor (interop.py)
            from .creation import from_numpy

            other = from_numpy(other)
        return call(op, (other, self) if reflected else (self, other))

    apply.__name__ = apply.__qualname__ = name
    rows = form(op, not reflected, True, reflected) if plain else {"reflected": reflected, "pointwise": bool(op.pointwise)}
    return fast.recorder(apply, op.name, **rows)


def install_op(op: Op, namespaces: dict[str, dict[str, Any]]) -> None:
    """Make one record's functions: into ``namespaces`` by name ('' is ``st``) and onto Tensor."""
    compute = function(op)
    if op.pointwise:
        _recorders[op.name] = compute
    many = op.view is not None or op.name in LISTS
    writing = inplace(op) if op.inplace else None
    public = compute if many else function(op, call_out)
    overrides.functions.setdefault(op.name, public)
    for name in (op.name, *op.aliases):
        place, _, bare = name.rpartition(".")  # "special.psi" is a name in that namespace alone
        for where in (place,) if place else op.where:
            space = namespaces.get(where)
            if where == "Tensor":
                setattr(Tensor, bare, compute)
            elif space is not None and bare not in space:  # else it is written out there
                space[bare] = public
        if writing is not None and not place:
            if "Tensor" in op.where or not op.where:  # some exist in place alone
                setattr(Tensor, name + "_", writing)
            if "nn.functional" in op.where:
                for where in {"", "nn.functional"}.intersection(op.where).intersection(namespaces):
                    namespaces[where][name + "_"] = writing


def install(namespaces: dict[str, dict[str, Any]]) -> None:
    """Make every record's functions, and Python's operators."""
    for op in OPS.values():
        install_op(op, namespaces)
    for dunder, name in _DUNDERS.items():
        setattr(Tensor, f"__{dunder}__", _dunder(OPS[name], f"__{dunder}__"))
        setattr(Tensor, f"__r{dunder}__", _dunder(OPS[name], f"__r{dunder}__", True))
        setattr(Tensor, f"__i{dunder}__", inplace(OPS[name]))
    for dunder, name in _UNARY.items():
        setattr(Tensor, f"__{dunder}__", function(OPS[name], _inverted if dunder == "invert" else call))
    for name in _COMPARE:
        setattr(Tensor, f"__{name}__", _dunder(OPS[name], f"__{name}__"))
    Tensor.__hash__ = lambda self: id(self)  # type: ignore[method-assign]
