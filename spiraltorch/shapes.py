"""Functions of shape that are no one record: of several tensors at once, or whose result's size is data.

In: tensors.  Out: tensors, by calls of records; ``nonzero`` and its kin look at one number, the count, to know
their size.

    >>> import spiraltorch as st
    >>> st.nonzero(st.tensor([0, 3, 0, 4]))
    tensor([[1],
            [3]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from . import dtypes
from .dispatch import call, call_out, function, inplace, view_call
from .errors import ShapeError, SpiralError
from .ir import lang
from .layouts import contiguous_format
from .ops.registry import OPS
from .outs import write_out
from .tensor import Size, Tensor
from .writes import refuse_overlap, refuse_own_overlap

__all__ = [
    "argwhere", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes", "broadcast_tensors",
    "cartesian_prod", "einsum", "index_put", "masked_select", "meshgrid", "nonzero", "repeat_interleave", "where",
]  # fmt: skip


# -- several tensors ------------------------------------------------------------------------------------


def _several(tensors: tuple[Any, ...]) -> list[Tensor]:
    """``f(a, b)`` and ``f([a, b])``."""
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


def _each(name: str) -> Callable[..., Any]:
    def apply(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return view_call(OPS[name], tensors, {})
        return tuple([view_call(OPS[name], (t,), {}) for t in _several(tensors)])

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = OPS[name].doc
    return apply


atleast_1d, atleast_2d, atleast_3d = map(_each, ("atleast_1d", "atleast_2d", "atleast_3d"))


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices on the diagonal of a larger one, 0 elsewhere (torch.block_diag)."""
    return call(OPS["block_diag"], (list(tensors),))  # type: ignore[no-any-return]


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """One row for each way to take an element of every vector (torch.cartesian_prod)."""
    if len(tensors) == 1 and tensors[0].ndim == 1:
        return view_call(OPS["view"], (tensors[0], -1), {})  # type: ignore[no-any-return]
    return call(OPS["cartesian_prod"], (list(tensors),))  # type: ignore[no-any-return]


_einsum = function(OPS["einsum"], call_out)


def einsum(*args: Any) -> Tensor:
    """Sum of products over the subscripts that the output lacks: ``einsum('bij,bjk->bik', a, b)``, or with lists of numbers
    below 52 for letters, ``einsum(a, [0, 1], b, [1, 2], [0, 2])``; of one operand without a sum a view (torch.einsum).
    Raises ValueError for less than an operand or other numbers, RuntimeError for what does not fit."""
    if len(args) < 2:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one operand and its list")
    if not isinstance(args[0], str):
        lists, last = args[1::2], args[-1:] if len(args) % 2 else ()
        equation = ",".join(map(_letters, lists)) + "".join(["->" + _letters(x) for x in last])
        args = (equation, *args[: 2 * len(lists) : 2])
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], Tensor):
        x = operands[0]
        left, arrow, right = equation.replace(" ", "").partition("->")
        names = left.replace("...", "")
        dots = "".join([chr(0x2460 + k) for k in range(x.ndim - len(names))])  # a name for each axis in the dots
        left, right = left.replace("...", dots), right.replace("...", dots) if arrow else dots + "".join(sorted(names))
        named = not names or (names.isascii() and names.isalpha())
        if named and len(left) == x.ndim and set(left) == set(right) and len(set(right)) == len(right):
            return _moved(x, left, right)
    return _einsum(equation, *operands)  # type: ignore[no-any-return]


def _moved(x: Tensor, left: str, right: str) -> Tensor:
    """``x``, whose axes are called as in ``left``, as a view with those of ``right``; of one name twice the diagonal is taken."""
    for name in right:
        while left.count(name) > 1:
            first = left.index(name)
            second = left.index(name, first + 1)
            if x.shape[first] != x.shape[second]:
                return _einsum(left + "->" + right, x)  # type: ignore[no-any-return]
            x = x.diagonal(0, first, second)
            left = left[:first] + left[first + 1 : second] + left[second + 1 :] + name
    return x.permute([left.index(name) for name in right])  # type: ignore[no-any-return]


def _letters(numbers: Any) -> str:
    """A list of subscripts as letters, in the order of the numbers."""
    if not all([x is Ellipsis or (isinstance(x, int) and 0 <= x < 52) for x in numbers]):
        raise ValueError(f"einsum(): subscripts in a list are Ellipsis or numbers of 0 to 51, but got {list(numbers)}")
    return "".join(["..." if x is Ellipsis else chr(x + 65 if x < 26 else x + 71) for x in numbers])


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that ``shapes`` broadcast to (torch.broadcast_shapes).  Raises RuntimeError where there is none."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    for s in given:
        if any(n < 0 for n in s):
            raise SpiralError(f"Trying to create tensor with negative dimension ({min(s)}): ({min(s)})")
    try:
        return Size(lang.shapes_broadcast(given))
    except ValueError:
        raise ShapeError(
            "Shape mismatch: objects cannot be broadcast to a single shape: " + ", ".join([str(list(s)) for s in given])
        ) from None


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Views of all tensors in their common shape (torch.broadcast_tensors)."""
    found = _several(tensors)
    shape = tuple(broadcast_shapes(*[t.shape for t in found]))
    return tuple([t.expand(shape) for t in found])


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of 1-d tensors (torch.meshgrid)."""
    found = _several(tensors)
    if not found:
        raise SpiralError("meshgrid expects a non-empty TensorList")
    if indexing not in ("ij", "xy"):
        raise SpiralError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if len({t.dtype for t in found}) > 1:
        raise SpiralError("torch.meshgrid expects all tensors to have the same dtype")
    for t in found:
        if t.ndim > 1:
            raise SpiralError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(t.shape)}")
    swap = indexing == "xy" and len(found) > 1
    order = [1, 0, *range(2, len(found))] if swap else list(range(len(found)))
    shape = tuple([found[i].numel() for i in order])
    grids = []
    for i, t in enumerate(found):
        at = order.index(i)
        grids.append(t.reshape([-1 if k == at else 1 for k in range(len(shape))]).expand(shape))
    return tuple(grids)


# -- sizes that are data --------------------------------------------------------------------------------


def nonzero(input: Tensor, *, as_tuple: bool = False, out: Tensor | None = None) -> Any:
    """Positions of the elements that are not 0, one row each, or one tensor an axis (torch.nonzero).

    Looks at how many there are.
    """
    if out is not None:
        write_out("nonzero", [], [out], [nonzero(input)])
        return out
    if as_tuple and not input.ndim:
        input = input.reshape(1)
    found = call(OPS["nonzero_static"], (input,), {"size": int(call(OPS["count_nonzero"], (input,)).item())})
    return found.unbind(1) if as_tuple else found


def argwhere(input: Tensor) -> Tensor:
    """Positions of the elements that are not 0, one row each (torch.argwhere)."""
    return nonzero(input)  # type: ignore[no-any-return]


@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, input: Any, other: Any, *, out: Tensor | None = None) -> Tensor: ...
def where(condition: Tensor, *branches: Any, **named: Any) -> Any:
    """``input`` where ``condition``, else ``other``; alone, the positions that are not 0, an axis a tensor (torch.where)."""
    if not branches and not named:
        return nonzero(condition, as_tuple=True)
    return _where(condition, *branches, **named)


_where = function(OPS["where"], call_out)


def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements where ``mask`` is true, 1-d (torch.masked_select)."""
    if out is not None:
        if out.dtype is not input.dtype:
            raise SpiralError("masked_select(): self and result must have the same scalar type")
        found = masked_select(input.detach(), mask)
        refuse_own_overlap(out)
        refuse_overlap(out, (input, mask), True)
        return out.resize_(tuple(found.shape)).copy_(found)  # type: ignore[no-any-return]
    if mask.dtype is not dtypes.bool_:
        raise SpiralError("masked_select: expected BoolTensor for mask")
    wide, on = broadcast_tensors(input, mask)
    if not wide.ndim:
        wide, on = wide.reshape(1), on.reshape(1)
    return wide[on]


def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element ``repeats`` times (one number, or one an element) in a row along ``dim``, or of the flat tensor;
    alone, each index as often as the vector says (torch.repeat_interleave)."""
    record = OPS["repeat_interleave"]
    if repeats is None:
        from .creation import arange

        return repeat_interleave(arange(input.numel()), input, 0, output_size=output_size)
    if not isinstance(repeats, Tensor):
        return call(record, (input, repeats, dim))  # type: ignore[no-any-return]
    n = input.numel() if dim is None else input.size(dim) if input.ndim else 1
    if output_size is None and repeats.ndim <= 1 and repeats.numel() in (1, n):
        if repeats.numel() and int(repeats.min()) < 0:
            raise SpiralError("repeats can not be negative")
        output_size = int(repeats.expand(n).sum())
    return call(record, (input, repeats, dim), {"output_size": output_size})  # type: ignore[no-any-return]


# -- small ones -----------------------------------------------------------------------------------------


def index_put(
    input: Tensor, indices: Any, values: Tensor, accumulate: bool = False
) -> Tensor:
    """``input`` with ``values`` put at ``indices`` (tensors of positions, or masks), or added there (torch.index_put)."""
    return call(OPS["index_put"], (input, _places(indices), values, accumulate))  # type: ignore[no-any-return]


def index_put_(self: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """:func:`index_put` into this tensor (torch.Tensor.index_put_)."""
    return _index_put_(self, _places(indices), values, accumulate)  # type: ignore[no-any-return]


_index_put_ = inplace(OPS["index_put"])


def _places(indices: Any) -> list[Any]:
    """Masks as the positions where they are true."""
    out: list[Any] = []
    for i in indices:
        mask = isinstance(i, Tensor) and i.dtype in (dtypes.bool_, dtypes.uint8)
        out += nonzero(i, as_tuple=True) if mask else [i]
    return out


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where ``condition``, else ``other`` (torch.Tensor.where)."""
    return where(condition, self, other)  # type: ignore[no-any-return]


def _itself_where(name: str, unchanged: Callable[..., bool]) -> Callable[..., Any]:
    """A function that gives the tensor itself where it changes nothing."""
    compute = function(OPS[name], call_out)

    def apply(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = compute(input, *args, **kwargs)
        return input if not kwargs and unchanged(input, found) else found

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = OPS[name].doc
    return apply


def _is_real(input: Tensor, found: Tensor) -> bool:
    return not input.dtype.is_complex


def _is_anything(input: Tensor, found: Tensor) -> bool:
    return True


def _is_alike(input: Tensor, found: Tensor) -> bool:
    return input.ndim > 0 and found.shape == input.shape


positive = _itself_where("positive", _is_anything)
conj_physical = _itself_where("conj_physical", _is_real)
_sum_to_size = _itself_where("sum_to_size", _is_alike)


def _copying(name: str) -> Callable[..., Any]:
    """A view function whose results have memory of their own."""

    def apply(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        record = OPS.get(name) if not hasattr(Tensor, name) or name == "slice" else None
        found = getattr(input, name)(*args, **kwargs) if record is None else view_call(record, (input, *args), kwargs)
        several = isinstance(found, tuple)
        if out is None:
            copies = [t.clone(memory_format=contiguous_format) for t in (found if several else [found])]
            return tuple(copies) if several else copies[0]
        write_out(name + "_copy", [input], list(out) if several else [out], list(found) if several else [found])
        return None if several else out

    apply.__name__ = apply.__qualname__ = name + "_copy"
    apply.__doc__ = f":func:`{name}` in memory of its own (torch.{name}_copy)."
    return apply


COPIES: dict[str, Any] = {
    f"{name}_copy": _copying(name)
    for name in (
        "as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t",
        "transpose", "unbind", "unfold", "unsqueeze", "view", "view_as_complex", "view_as_real",
    )
} | {"alias_copy": _copying("clone")}  # fmt: skip

METHODS: dict[str, Any] = {
    "positive": positive, "__pos__": positive, "conj_physical": conj_physical, "sum_to_size": _sum_to_size,
    "index_put": index_put, "index_put_": index_put_, "where": _where_method,
    "nonzero": nonzero, "argwhere": argwhere, "masked_select": masked_select, "repeat_interleave": repeat_interleave,
    "narrow_copy": COPIES["narrow_copy"],
}  # fmt: skip
