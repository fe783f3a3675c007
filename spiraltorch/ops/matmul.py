"""Products of matrices: everything becomes one DOT over named axes.

In: nodes of one type (integers too).  Out: a node.  :func:`contract` takes a label for each axis: labels
of both operands are batch axes when the output keeps them and are summed over when it does not.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> a, b = graph.param(0, (5, 2, 3), dtypes.float32), graph.param(1, (3, 4), dtypes.float32)
    >>> OPS["matmul"].apply([a, b], {}).shape, OPS["einsum"].apply(["bij,jk->kb", a, b], {}).shape
    ((5, 2, 4), (4, 5))
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from .. import dtypes
from ..dtypes import promote_types
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import number
from .parts import diagonal
from .registry import op, raise_dtype, wrap_dim
from .view import apply_steps

T = s.T
Labels = Sequence[Hashable]


def contract(a: Node, la: Labels, b: Node, lb: Labels, out: Labels) -> Node:
    """Sum of products of ``a`` and ``b`` over the labels that ``out`` lacks.

    A size-1 axis broadcasts against a longer one of the same label.  Raises ValueError for other sizes.
    """
    (a, la), (b, lb) = _without(a, la, _thin(a, la, b, lb)), _without(b, lb, _thin(b, lb, a, la))
    a, la = _without(a, la, [x for x in la if x not in lb and x not in out])
    b, lb = _without(b, lb, [x for x in lb if x not in la and x not in out])
    batch = [x for x in la if x in lb and x in out]
    summed = [x for x in la if x in lb and x not in out]
    for x in batch + summed:
        if a.shape[la.index(x)] != b.shape[lb.index(x)]:
            raise ValueError(f"label {x} has sizes {a.shape[la.index(x)]} and {b.shape[lb.index(x)]}")
    got = batch + [x for x in la if x not in lb] + [x for x in lb if x not in la]
    if len(got) == len(batch):
        return _inner(a, graph.permute(b, tuple([lb.index(x) for x in la])), la, summed, out)
    n = graph.dot(
        a, b, tuple([la.index(x) for x in batch]), tuple([lb.index(x) for x in batch]),
        tuple([la.index(x) for x in summed]), tuple([lb.index(x) for x in summed]),
    )  # fmt: skip
    return graph.permute(n, tuple([got.index(x) for x in out]))


def _inner(a: Node, b: Node, labels: Labels, summed: Labels, out: Labels) -> Node:
    """Products of vectors alone: multiplied and summed, which reads memory as fast as it comes, where a product of matrices
    adds along each row in order."""
    found = cast(a, a.dtype.acc) * cast(b, b.dtype.acc)
    found = fold("add", found, [i for i, x in enumerate(labels) if x in summed]) if summed else found
    kept = [x for x in labels if x not in summed]
    return cast(graph.permute(found, tuple([kept.index(x) for x in out])), a.dtype)


def _thin(a: Node, la: Labels, b: Node, lb: Labels) -> list[Hashable]:
    """Labels whose axis has size 1 here and is longer in the other operand."""
    return [x for x, n in zip(la, a.shape) if n == 1 and x in lb and b.shape[lb.index(x)] != 1]


def _without(a: Node, labels: Labels, gone: Labels) -> tuple[Node, list[Hashable]]:
    """``a`` summed over the labels ``gone``."""
    axes = [i for i, x in enumerate(labels) if x in gone]
    return (fold("add", a, axes) if axes else a), [x for x in labels if x not in gone]


def same_type(name: str, *operands: Node) -> None:
    first = operands[0].dtype
    for o in operands[1:]:
        if o.dtype is not first:
            raise SpiralError(
                f"{name}: expected m1 and m2 to have the same dtype, but got: {first.name} != {o.dtype.name}"
            )
    if first is dtypes.bool_:
        raise_dtype(matmul, first)


def _cannot(a: Node, b: Node) -> ShapeError:
    rows = a.size // max(1, a.shape[-1])
    return ShapeError(
        f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a.shape[-1]} and {'x'.join(map(str, b.shape))})"
    )


def product(a: Node, b: Node) -> Node:
    """matmul for ranks of at least 1."""
    ra, rb = len(a.shape), len(b.shape)
    if a.shape[-1] != b.shape[-2 if rb > 1 else 0]:
        if ra == 1 and rb == 1:
            raise ShapeError(
                f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have the same "
                f"number of elements, but got {a.shape[0]} and {b.shape[0]} elements respectively"
            )
        if rb == 1:
            raise ShapeError(
                f"size mismatch, got input ({a.shape[-2]}), mat ({a.shape[-2]}x{a.shape[-1]}), vec ({b.shape[0]})"
            )
        if ra < 3 and rb < 3 or rb < 3:
            raise _cannot(a, b)
        raise ShapeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{b.shape[0]}, {a.shape[-1]}] but got: "
            f"[{b.shape[0]}, {b.shape[-2]}]."
        )
    batch = list(range(max(ra, rb, 2) - 2))
    la = [*batch[len(batch) - max(0, ra - 2) :], *(["m"] if ra > 1 else []), "k"]
    lb = [*batch[len(batch) - max(0, rb - 2) :], "k", *(["n"] if rb > 1 else [])]
    lang.shapes_broadcast([a.shape[:-2], b.shape[:-2]])  # raises for batches that do not fit
    return contract(a, la, b, lb, [*batch, *(["m"] if ra > 1 else []), *(["n"] if rb > 1 else [])])


_MATMUL = s.calls(
    s.call(T(2, 3), T(3, 4)), s.call(T(3), T(3)), s.call(T(2, 3), T(3)), s.call(T(3), T(3, 4)),
    s.call(T(5, 2, 3), T(3, 4)),
    s.call(T(2, 3), T(5, 3, 4)), s.call(T(5, 2, 3), T(5, 3, 4)), s.call(T(5, 1, 2, 3), T(2, 3, 4)),
    s.call(T(3), T(5, 3, 4)),
    s.call(T(5, 2, 3), T(3)), s.call(T(2, 0), T(0, 3)), s.call(T(0, 3), T(3, 2)), s.call(T(1, 2, 3), T(5, 3, 4)),
)  # fmt: skip


@op("matmul", out="exact", kinds="buifc", acc=False, aliases=("linalg.matmul",), samples=_MATMUL)
def matmul(input: Node, other: Node) -> Node:
    """Matrix product over the last axes, batches broadcast; vectors lose their axis.  (torch.matmul)"""
    same_type("matmul", input, other)
    if not input.shape or not other.shape:
        raise ShapeError(
            f"both arguments to matmul need to be at least 1D, but they are {len(input.shape)}D and {len(other.shape)}D"
        )
    return product(input, other)


def of_ranks(name: str, ranks: str, *operands: Node) -> None:
    words = {"1": "vector", "2": "matrix", "3": "3D tensor"}
    for k, (o, r) in enumerate(zip(operands, ranks)):
        if len(o.shape) != int(r):
            raise ShapeError(f"{name}: argument {k + 1} must be a {words[r]} ({r}-D), got shape {list(o.shape)}")
    same_type(name, *operands)


@op("mm", out="exact", kinds="buifc", acc=False, samples=s.calls(s.call(T(2, 3), T(3, 4)), s.call(T(2, 0), T(0, 3))))
def mm(input: Node, mat2: Node) -> Node:
    """Product of two matrices.  (torch.mm)"""
    of_ranks("mm", "22", input, mat2)
    return product(input, mat2)


@op("bmm", out="exact", kinds="buifc", acc=False, samples=s.calls(s.call(T(5, 2, 3), T(5, 3, 4)), s.call(T(0, 2, 3), T(0, 3, 4))))
def bmm(input: Node, mat2: Node) -> Node:
    """Products of two batches of matrices.  (torch.bmm)"""
    of_ranks("bmm", "33", input, mat2)
    if mat2.shape[:2] != (input.shape[0], input.shape[2]):
        raise ShapeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] "
            f"but got: [{mat2.shape[0]}, {mat2.shape[1]}]."
        )
    return product(input, mat2)


@op("mv", out="exact", kinds="buifc", acc=False, samples=s.calls(s.call(T(2, 3), T(3))))
def mv(input: Node, vec: Node) -> Node:
    """Product of a matrix and a vector.  (torch.mv)"""
    of_ranks("mv", "21", input, vec)
    return product(input, vec)


@op("dot", out="exact", kinds="buifc", acc=False, samples=s.calls(s.call(T(3), T(3)), s.call(T(0), T(0))))
def dot(input: Node, tensor: Node) -> Node:
    """Sum of products of two vectors.  (torch.dot)"""
    of_ranks("dot", "11", input, tensor)
    return product(input, tensor)


@op("outer", pointwise=False, kinds="buifc", operands=2, promote="arith", acc=False, aliases=("ger",),
    samples=s.calls(s.call(T(2), T(3)), s.call(T(0), T(3))))  # fmt: skip
def outer(input: Node, vec2: Node) -> Node:
    """All products of an element of ``input`` and one of ``vec2``.  (torch.outer)"""
    if len(input.shape) != 1 or len(vec2.shape) != 1:
        raise ShapeError(f"outer: Expected 1-D arguments, but got {len(input.shape)}-D and {len(vec2.shape)}-D")
    if input.dtype is dtypes.bool_:
        return graph.reshape(input, (input.size, 1)) & vec2
    return lang.row("MUL", graph.reshape(input, (input.size, 1)), vec2)


@op("linear", out="exact", kinds="buifc", saves=("input", "weight"), acc=False, where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3), T(4, 3), T(4)), s.call(T(5, 2, 3), T(4, 3)), s.call(T(3), T(4, 3), T(4)),
    s.call(T(0, 3), T(4, 3), T(4)),
    s.call(T(2, 3), T(3)), s.call(T(2, 3), T(3), T())))  # fmt: skip
def linear(input: Node, weight: Node, bias: Node | None = None) -> Node:
    """``input @ weight.T + bias``: input [..., in], weight [out, in], bias [out].  (torch.nn.functional.linear)"""
    same_type("linear", *[n for n in (input, weight, bias) if n is not None])
    if not input.shape or len(weight.shape) not in (1, 2):
        raise ShapeError(
            "linear: weight must be 1-D or 2-D and input at least 1-D, got "
            f"{list(weight.shape)} and {list(input.shape)}"
        )
    if input.shape[-1] != weight.shape[-1]:
        if len(weight.shape) == 1:
            raise ShapeError(f"size mismatch, got input {list(input.shape)} and weight {list(weight.shape)}")
        rows = input.size // max(1, input.shape[-1])
        raise ShapeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{input.shape[-1]} and "
            f"{weight.shape[1]}x{weight.shape[0]})"
        )
    out = graph.dot(input, weight, contract_a=(len(input.shape) - 1,), contract_b=(len(weight.shape) - 1,))
    return out if bias is None else out + bias


def scaled_sum(input: Node, product: Node, beta: Any, alpha: Any) -> Node:
    if lang.shapes_broadcast([input.shape, product.shape]) != product.shape:
        raise ShapeError(
            f"The expanded size of the tensor must match: {list(input.shape)} does not expand to {list(product.shape)}"
        )
    narrow, wide = product.dtype, product.dtype.acc  # numbers are not rounded to 16 bits
    product = product if alpha == 1 else cast(product, wide) * number(alpha, cast(product, wide))
    if beta == 0:
        return cast(product, narrow)
    input = input if beta == 1 else cast(input, wide) * number(beta, cast(input, wide))
    return cast(cast(input, wide) + cast(product, wide), narrow)


@op("addmm", out="exact", kinds="buifc", saves=("mat1", "mat2"), acc=False, inplace=True, samples=s.calls(
    s.call(T(4), T(2, 3), T(3, 4)), s.call(T(2, 4), T(2, 3), T(3, 4), beta=2, alpha=3),
    s.call(T(), T(2, 3), T(3, 4), beta=0)))  # fmt: skip
def addmm(input: Node, mat1: Node, mat2: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """``beta * input + alpha * (mat1 @ mat2)``; with ``beta`` 0 ``input`` is ignored.  (torch.addmm)"""
    of_ranks("addmm", "22", mat1, mat2)
    same_type("addmm", mat1, input)
    return scaled_sum(input, product(mat1, mat2), beta, alpha)


@op("baddbmm", out="exact", kinds="buifc", saves=("batch1", "batch2"), acc=False, inplace=True, samples=s.calls(
    s.call(T(5, 2, 4), T(5, 2, 3), T(5, 3, 4)),
    s.call(T(2, 1), T(5, 2, 3), T(5, 3, 4), beta=2, alpha=3)))  # fmt: skip
def baddbmm(input: Node, batch1: Node, batch2: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """``beta * input + alpha * (batch1 @ batch2)`` for batches of matrices.  (torch.baddbmm)"""
    of_ranks("baddbmm", "33", batch1, batch2)
    same_type("baddbmm", batch1, input)
    return scaled_sum(input, product(batch1, batch2), beta, alpha)


@op("tensordot", kinds="buifc", acc=False, out="exact", samples=s.calls(
    s.call(T(2, 3, 4), T(3, 4, 5)), s.call(T(2, 3), T(4), 0), s.call(T(2, 3, 4), T(5, 4, 2), ([0, 2], [2, 1])),
    s.call(T(2, 3), T(3, 2), 1)))  # fmt: skip
def tensordot(a: Node, b: Node, dims: Any = 2) -> Node:
    """Products summed over the last ``dims`` axes of ``a`` and the first of ``b``, or over the axes listed for
    each.  (torch.tensordot)"""
    same_type("tensordot", a, b)
    if isinstance(dims, int):
        if dims < 0 or dims > min(len(a.shape), len(b.shape)):
            raise ShapeError(f"tensordot expects dims >= 0 and at most the rank of both tensors, but got dims={dims}")
        pairs = [(len(a.shape) - dims + i, i) for i in range(dims)]
    else:
        first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
        if len(first) != len(second):
            raise ShapeError("both dimension lists should have same length")
        pairs = [(wrap_dim(i, len(a.shape)), wrap_dim(j, len(b.shape))) for i, j in zip(first, second)]
    for i, j in pairs:
        if a.shape[i] != b.shape[j] and 1 not in (a.shape[i], b.shape[j]):
            raise ShapeError(
                f"contracted dimensions need to match, but first has size {a.shape[i]} in dim {i} and second has size "
                f"{b.shape[j]} in dim {j}"
            )
    la: list[Hashable] = [("a", i) for i in range(len(a.shape))]
    lb: list[Hashable] = [("b", j) for j in range(len(b.shape))]
    for i, j in pairs:
        lb[j] = la[i]
    out = [x for x in la if x not in lb] + [x for x in lb if x not in la]
    return contract(a, la, b, lb, out)


# -- einsum ---------------------------------------------------------------------------------------


def _refused(message: str) -> SpiralError:
    return SpiralError(f"einsum(): {message}")


def _term(text: str, rank: int, k: int) -> list[str]:
    """The labels of one operand; an ellipsis becomes labels '.0', '.1' ... counted from its end."""
    head, dots, tail = text.partition("...")
    for c in head + tail:
        if not c.isalpha():
            raise _refused(
                f"invalid subscript given at index 0 in the equation string, subscripts must be in [a-zA-Z], got {c!r}"
            )
    spare = rank - len(head) - len(tail)
    if spare < 0 or (not dots and spare):
        raise _refused(
            f"the number of subscripts in the equation ({len(head) + len(tail)}) does not match the number of "
            f"dimensions ({rank}) for operand {k}"
        )
    return [*head, *[f".{i}" for i in reversed(range(spare))], *tail]


def _diagonals(a: Node, labels: list[str]) -> tuple[Node, list[str]]:
    """A label that an operand repeats stands for its diagonal."""
    for x in sorted(set(labels)):
        while labels.count(x) > 1:
            i = labels.index(x)
            j = labels.index(x, i + 1)
            if a.shape[i] != a.shape[j]:
                raise _refused(f"dimensions of the repeated subscript {x} differ: {a.shape[i]} and {a.shape[j]}")
            a = apply_steps(a, diagonal(a.shape, 0, i, j))
            labels = [y for k, y in enumerate(labels) if k not in (i, j)] + [x]
    return a, labels


@op("einsum", kinds="buifc", acc=False, where=("",), samples=s.calls(
    s.call("ij,jk->ik", T(2, 3), T(3, 4)), s.call("ij,jk", T(2, 3), T(3, 4)),
    s.call("bhqd,bhkd->bhqk", T(2, 2, 3, 4), T(2, 2, 5, 4)),
    s.call("...ij,...jk->...ik", T(5, 2, 3), T(3, 4)), s.call("ii->i", T(3, 3)), s.call("ii", T(3, 3)),
    s.call("ij->ji", T(2, 3)),
    s.call("ij->", T(2, 3)), s.call("i,j,k->kij", *[T(n, dtype=dtypes.float64) for n in (2, 3, 4)]),
    s.call("ij,ij->i", T(2, 3), T(2, 3)),
    s.call(" b a -> a b ", T(2, 3)),
    s.call("ab,b->a", T(2, 3, dtype=dtypes.float32), T(1, dtype=dtypes.float32)),
    s.call("ij,kl->", T(2, 3), T(3, 4)), s.call("iij,jk->ik", T(3, 3, 2), T(2, 4))))  # fmt: skip
def einsum(equation: str, *operands: Any) -> Node:
    """Sum of products over the subscripts that the output lacks, as ``'bij,bjk->bik'`` says.  (torch.einsum)"""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(operands):
        raise _refused("more operands were provided than specified in the equation" if len(operands) > len(texts)
                       else "fewer operands were provided than specified in the equation")  # fmt: skip
    terms = [_term(text, len(o.shape), k) for k, (text, o) in enumerate(zip(texts, operands))]
    every = [x for t in terms for x in t]
    dots = sorted({x for x in every if x[0] == "."}, key=_from_front)
    if arrow:
        head, _, tail = right.partition("...")
        wanted = [*head, *(dots if "..." in right else []), *tail]
    else:
        wanted = dots + sorted(x for x in set(every) if x[0] != "." and every.count(x) == 1)
    for x in wanted:
        if x not in every:
            raise _refused(f"output subscript {x} does not appear in the equation for any input operand")
        if wanted.count(x) > 1:
            raise _refused(f"output subscript {x} appears more than once in the output")
    parts = []
    for k, (o, t) in enumerate(zip(operands, terms)):
        others = set(wanted).union(*terms[:k], *terms[k + 1 :])
        parts.append(_summed(*_diagonals(o, t), others))
    total, labels = parts[0]
    for k, (b, lb) in enumerate(parts[1:], 1):
        later = set(wanted).union(*[p[1] for p in parts[k + 1 :]])
        keep = [x for x in dict.fromkeys([*labels, *lb]) if x in later]
        summed = any([total.shape[labels.index(x)] != 1 != b.shape[lb.index(x)] for x in lb if x in labels and x not in later])
        try:
            total, labels = _pair(total, labels, b, lb, keep, summed), keep
        except ValueError as e:
            raise _refused(f"operands do not broadcast with remapped shapes: {e}") from None
    return graph.permute(total, tuple([labels.index(x) for x in wanted]))


def _pair(a: Node, la: list[Any], b: Node, lb: list[Any], keep: list[Any], summed: bool) -> Node:
    """Two operands multiplied; types that differ are promoted where nothing is summed over, as in torch."""
    if summed:
        same_type("einsum", a, b)
        return contract(a, la, b, lb, keep)
    common = promote_types(a.dtype, b.dtype)
    wide = dtypes.uint8 if common is dtypes.bool_ else common
    return cast(contract(cast(a, wide), la, cast(b, wide), lb, keep), common)


def _summed(a: Node, labels: list[str], others: set[str]) -> tuple[Node, list[Any]]:
    """``a`` summed over labels of its own; integers sum in int64."""
    gone = [x for x in labels if x not in others]
    return _without(cast(a, dtypes.int64) if gone and a.dtype.kind != "f" else a, labels, gone)


def _from_front(label: str) -> int:
    return -int(label[1:])
