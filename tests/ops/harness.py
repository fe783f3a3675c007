"""Calls an operator's record on NumPy arrays with the reference interpreter, and torch on the same ones.

``ours(op, sample)`` and ``theirs(op, sample)`` give lists of NumPy arrays; ``our_gradients`` and
``their_gradients`` one array (or None) for each tensor argument.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import torch
import torch.nn.functional as F

from spiraltorch import dtypes
from spiraltorch.dtypes import DType
from spiraltorch.ir import graph
from spiraltorch.ir.node import Node
from spiraltorch.kernels.reference import evaluate
from spiraltorch.ops.registry import Op
from spiraltorch.ops.samples import Sample
from spiraltorch.tape import Hole, OpCall, fill, unsaved
from tests.ops import recurrent

DTYPES = (
    dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.float16, dtypes.int64, dtypes.uint8, dtypes.bool_,
)  # fmt: skip
TORCH = {d: getattr(torch, d.name) for d in dtypes.ALL}
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AssertionError)
RELATIVE = {"float64": 1e-9, "float16": 4e-3, "bfloat16": 2e-2}


def to_torch(a: Any) -> Any:
    """An array as a tensor, DTypes as torch's, in any nesting."""
    if isinstance(a, np.ndarray):
        if a.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16)
        return torch.from_numpy(a.copy())
    if isinstance(a, DType):
        return TORCH[a]
    if isinstance(a, (list, tuple)):
        return type(a)([to_torch(x) for x in a])
    return a


def from_torch(t: torch.Tensor) -> np.ndarray:
    t = t.detach()
    return t.float().numpy().astype(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else t.numpy(force=True)


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


# -- torch ----------------------------------------------------------------------------------------


def _index_tensors(x: torch.Tensor, indices: list[Any]) -> torch.Tensor:
    return x[tuple([slice(None) if i is None else i for i in indices])]


def _index_put(x: torch.Tensor, indices: list[Any], values: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    if all([i is not None for i in indices]):
        return torch.index_put(x, tuple(indices), values, accumulate)
    # torch.index_put takes None only from C++: write through an index expression on a copy instead
    out = x.clone()
    key = tuple([slice(None) if i is None else i for i in indices])
    if not accumulate:
        out[key] = values
        return out
    flat = torch.arange(x.numel()).reshape(x.shape)[key]
    return out.reshape(-1).index_add(0, flat.reshape(-1), values.expand(flat.shape).reshape(-1)).reshape(x.shape)


def _batch_norm(
    x: torch.Tensor, mean: Any = None, var: Any = None, weight: Any = None, bias: Any = None,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    mean, var = (None if t is None else t.detach().clone() for t in (mean, var))
    out = F.batch_norm(x, mean, var, weight, bias, True, momentum, eps)
    return out if mean is None else (out, mean, var)


def _instance_norm(
    x: torch.Tensor, mean: Any = None, var: Any = None, weight: Any = None, bias: Any = None,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    mean, var = (None if t is None else t.detach().clone() for t in (mean, var))
    out = F.instance_norm(x, mean, var, weight, bias, True, momentum, eps)
    return out if mean is None else (out, mean, var)


def _batch_norm_fixed(
    x: torch.Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> torch.Tensor:
    return F.batch_norm(x, mean.detach(), var.detach(), weight, bias, False, 0.1, eps)


def _matrix_exp(x: torch.Tensor) -> torch.Tensor:
    """torch's own of 16-bit matrices is nan."""
    return torch.matrix_exp(x.float()).to(x.dtype) if x.element_size() == 2 else torch.matrix_exp(x)


def _to_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype)


def _block_diag(tensors: Any) -> torch.Tensor:
    return torch.block_diag(*tensors)


def _cartesian_prod(tensors: Any) -> torch.Tensor:
    return torch.cartesian_prod(*tensors)


def _fill_diagonal(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return x.clone().fill_diagonal_(*args, **kwargs)


def _fractional(rank: int) -> Any:
    def apply(x: torch.Tensor, u: torch.Tensor, kernel: Any, out: Any, return_indices: bool = False) -> Any:
        pool = getattr(F, f"fractional_max_pool{rank}d")
        return pool(x, kernel, out, return_indices=return_indices, _random_samples=u.detach())

    return apply


def _ctc_loss(logs: torch.Tensor, targets: Any, spans: Any, sizes: Any, blank: int = 0, most: Any = None) -> torch.Tensor:
    return F.ctc_loss(logs, targets, spans, sizes, blank, "none")


def _embedding_bag(
    x: torch.Tensor, weight: torch.Tensor, offsets: Any = None, scale: Any = None, mode: str = "mean",
    scale_grad_by_freq: bool = False, include_last_offset: bool = False, padding_idx: Any = None,
) -> torch.Tensor:  # fmt: skip
    return F.embedding_bag(
        x, weight, offsets, None, 2, scale_grad_by_freq, mode, False, scale, include_last_offset, padding_idx
    )  # fmt: skip


def _bincount(x: torch.Tensor, weights: Any, size: int) -> torch.Tensor:
    return torch.bincount(x, None if weights is None else weights.detach(), size)


def _histc(x: torch.Tensor, bins: int, low: float, high: float) -> torch.Tensor:
    return torch.histc(x.detach(), bins, low, high)


def _histogramdd(x: torch.Tensor, bins: Any, span: Any = None, weight: Any = None, density: bool = False) -> Any:
    hist, edges = torch.histogramdd(x.detach(), bins, range=span, weight=None if weight is None else weight.detach(), density=density)
    return hist, *edges


def _order_of_rows(x: torch.Tensor) -> torch.Tensor:
    """Sorted by the last column first, stable each time."""
    places = torch.arange(len(x))
    for c in reversed(range(x.shape[1])):
        places = places[torch.sort(x[places, c], stable=True)[1]]
    return places


def _max_unpool(x: torch.Tensor, at: torch.Tensor, rank: int, *args: Any) -> torch.Tensor:
    return getattr(F, f"max_unpool{rank}d")(x, at, *args)


ADAPTERS: dict[str, Any] = {
    "recurrent_layer": recurrent.layer,
    "block_diag": _block_diag, "cartesian_prod": _cartesian_prod, "fill_diagonal": _fill_diagonal,
    "fractional_max_pool2d": _fractional(2), "fractional_max_pool3d": _fractional(3), "max_unpool": _max_unpool,
    "unfold_windows": F.unfold,
    "bincount": _bincount, "nn.functional.ctc_loss": _ctc_loss, "embedding_bag": _embedding_bag, "histc": _histc, "histogramdd": _histogramdd, "unique": _order_of_rows,
    "matrix_exp": _matrix_exp, "index_tensors": _index_tensors, "index_put": _index_put, "batch_norm": _batch_norm,
    "instance_norm": _instance_norm, "batch_norm_fixed": _batch_norm_fixed, "to_dtype": _to_dtype,
    "slice": torch.ops.aten.slice.Tensor,
}  # fmt: skip


def torch_function(op: Op) -> Any:
    name = op.torch_name or op.name
    if name in ADAPTERS:
        return ADAPTERS[name]
    if "." in name:
        return operator.attrgetter(name)(torch)
    if "nn.functional" in op.where:
        return getattr(F, name)
    if op.where == ("special",):
        return getattr(torch.special, name)
    return getattr(torch, name) if hasattr(torch, name) else getattr(torch.Tensor, name)


def theirs(op: Op, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """torch's outputs.  Raises one of REFUSALS where torch does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return listed(torch_function(op)(*args, **kwargs))


# -- ours -----------------------------------------------------------------------------------------


class Bound:
    """A sample with PARAM nodes for its arrays, and the arrays by node."""

    def __init__(self, sample: Sample) -> None:
        self.leaves: dict[Node, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.template = [self._holes(a) for a in sample.args]
        self.kw_template = {k: self._holes(v) for k, v in sample.kwargs.items()}
        self.args = fill(self.template, self.nodes)
        self.kwargs = {k: fill(v, self.nodes) for k, v in self.kw_template.items()}

    def _holes(self, a: Any) -> Any:
        """``a`` with a hole in the place of each array, for which a node is made."""
        if isinstance(a, np.ndarray):
            n = graph.param(len(self.nodes), a.shape, dtypes.from_numpy_dtype(a.dtype))
            self.nodes.append(n)
            self.leaves[n] = a
            return Hole(len(self.nodes) - 1)
        if isinstance(a, (list, tuple)):
            return type(a)([self._holes(x) for x in a])
        return a


def has_gradient(op: Op) -> bool:
    """Whether any of its operands has a derivative."""
    return op.differentiable and (not op.undefined or len(op.undefined) < op.operands)


def ours(op: Op, bound: Bound) -> list[np.ndarray]:
    """The record's outputs, computed by the reference interpreter."""
    outs = listed(op.apply(bound.args, bound.kwargs))
    values = evaluate(outs, bound.leaves)
    for n, v in zip(outs, values):
        assert v.shape == n.shape and v.dtype == n.dtype.np, (
            f"{op.name} says {n.shape} {n.dtype} but is {v.shape} {v.dtype}"
        )
    return values


def our_gradients(
    op: Op, bound: Bound, values: list[np.ndarray], cotangents: list[np.ndarray | None]
) -> list[np.ndarray | None]:
    """Gradients for every tensor argument, from exactly what the record says backward looks at.

    What ``saves`` does not name has no value here, so reading it is an error.
    """
    call = OpCall(op, bound.template, bound.kw_template)
    wanted = [n.dtype.kind in "fc" for n in bound.nodes]
    keep, keep_outs = call.needs(wanted)
    leaves: dict[Node, np.ndarray] = {}
    ins, outs, grads = [], [], []
    for i, (n, kept) in enumerate(zip(bound.nodes, keep)):
        p = n if kept else unsaved(i, n.shape, n.dtype)
        ins.append(p)
        if kept:
            leaves[p] = bound.leaves[n]
    for i, (v, c) in enumerate(zip(values, cotangents)):
        o = unsaved(-1 - i, v.shape, dtypes.from_numpy_dtype(v.dtype))
        if keep_outs:
            o = graph.buffer(("saved", op.name, i), o.shape, o.dtype)
            leaves[o] = v
        outs.append(o)
        g = None if c is None else graph.param(("g", i), v.shape, o.dtype)
        grads.append(g)
        if g is not None:
            leaves[g] = c
    found = call.vjp(grads, outs, ins)
    assert len(found) == len(ins), f"{op.name}: {len(found)} gradients for {len(ins)} tensors"
    for f, n in zip(found, bound.nodes):
        assert f is None or (f.shape == n.shape and f.dtype is n.dtype), f"{op.name}: gradient {f} for {n}"
    live = evaluate([f for f in found if f is not None], leaves)
    computed = iter(live)
    return [None if f is None else next(computed) for f in found]


# -- comparing ------------------------------------------------------------------------------------


def close(name: str, got: np.ndarray, want: np.ndarray, relative: float) -> None:
    """Equal, or for floats near: relative to each value, and to the largest one."""
    assert got.shape == want.shape, f"{name}: shape {got.shape}, torch has {want.shape}"
    assert got.dtype == want.dtype, f"{name}: dtype {got.dtype}, torch has {want.dtype}"
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    if got.dtype.kind == "c":
        got, want = (np.stack([a.real, a.imag], -1) for a in (got, want))
    relative = max(relative, RELATIVE.get(dtypes.from_numpy_dtype(got.dtype).name, 0))
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    scale = min(float(finite.max()) if finite.size else 1.0, 10.0)
    np.testing.assert_allclose(a, b, rtol=relative, atol=relative * max(scale, 1e-3), equal_nan=True, err_msg=name)
