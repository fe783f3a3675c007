"""Checks of the IR's rules, between passes, under ``ST_VERIFY=1``.

In: graph roots or a kernel.  Out: nothing, or VerifyError with the node that breaks a rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import bool_, int64
from ..errors import VerifyError
from .kernel import Gemm, Kernel, Phase, Slot
from .node import Node, toposort
from .prims import KERNEL, REDUCTIONS, ROWS, STRUCTURAL


def _fail(n: Any, why: str) -> None:
    raise VerifyError(f"{why}: {n!r}")


def verify_graph(roots: Sequence[Node]) -> None:
    """Every node's operation exists, its operands' shapes and types fit, and its own type follows."""
    for n in toposort(roots):
        if n.op in ROWS:
            _verify_row(n)
        elif n.op not in STRUCTURAL:
            _fail(n, f"{n.op} is no graph operation")
        elif n.op == "REDUCE":
            op, axes = n.arg
            if op not in REDUCTIONS or list(axes) != sorted(set(axes)) or any(not 0 <= a < len(n.src[0].shape) for a in axes):
                _fail(n, "bad reduction")
            if n.shape != tuple(s for i, s in enumerate(n.src[0].shape) if i not in axes):
                _fail(n, "a reduction's shape is its source's without the folded axes")
        elif n.op == "RESHAPE" and math.prod(n.shape) != n.src[0].size:
            _fail(n, "a reshape keeps the number of elements")
        elif n.op == "PERMUTE" and sorted(n.arg) != list(range(len(n.shape))):
            _fail(n, "a permutation names every axis once")
        elif n.op == "UPDATE" and (n.src[0].dtype is not n.src[1].dtype or n.shape != n.src[0].shape):
            _fail(n, "an update keeps shape and type")
        if any(s < 0 for s in n.shape):
            _fail(n, "negative size")


def _verify_row(n: Node) -> None:
    row = ROWS[n.op]
    if len(n.src) != row.arity:
        _fail(n, f"{n.op} takes {row.arity} operands")
    if any(s.dtype.kind == "c" and "c" not in row.kinds for s in n.src):
        _fail(n, f"{n.op} takes no complex numbers")
    for s in n.src:
        if s.shape not in ((), n.shape):
            _fail(n, "operands have the result's shape or are 0-d")
    values = n.src[1:] if n.op == "WHERE" else n.src
    if n.op == "WHERE" and n.src[0].dtype is not bool_:
        _fail(n, "WHERE selects by a bool")
    if len({s.dtype for s in values}) > 1:
        _fail(n, "operands have one type")
    if row.result == "bool" and n.dtype is not bool_:
        _fail(n, "a comparison gives bool")
    own = values[-1].dtype.to_real() if n.op == "ABS" else values[-1].dtype
    if row.result == "same" and n.dtype is not own:
        _fail(n, "the result has the operands' type")


def _verify_phase(k: Any, p: Phase, values: set[int]) -> None:
    for n in toposort(list(p.exprs())):
        if n.op in KERNEL:
            if n.op == "LOAD" and not 0 <= n.arg.param < len(k.params):
                _fail(n, "no such parameter")
            if n.op == "VALUE" and n.arg not in values:
                _fail(n, "a fold is read before its phase is over")
            if n.op == "INDEX" and n.dtype is not int64:
                _fail(n, "an index is int64")
        elif n.op in ROWS:
            _verify_row(n)
        else:
            _fail(n, f"{n.op} is no kernel operation")
    for s in p.stores:
        if k.params[s.param].mode not in ("out", "inout") or k.params[s.param].dtype is not s.value.dtype:
            _fail(s, "a store needs an output of its type")
        if s.fold not in ("", "add"):
            _fail(s, "stores fold by addition")
        if s.fold and any(k.rows - k.walked <= axis < k.rows for axis, _ in s.access.terms):
            _fail(s, "a store that folds does not move along the rows that it folds")


def verify_kernel(k: Any) -> None:
    """Phases read only what earlier phases folded; parameters, axes and slots exist; types fit."""
    if isinstance(k, Gemm):
        _verify_phase(k, k.epilogue, {0})
        return
    if not isinstance(k, Kernel):
        return
    if not 1 <= k.rows <= len(k.axes):
        _fail(k, "a kernel has row axes")
    values: set[int] = set()
    for p in k.phases:
        if any(not k.rows <= a < len(k.axes) for a in p.axes):
            _fail(k, "a phase walks inner axes")
        _verify_phase(k, p, values)
        values |= {r.id for r in p.reduces}
    used = [s for a in k.axes for s in [a] if isinstance(s, Slot)]
    if any(not 0 <= s.index < k.slots for s in used):
        _fail(k, "no such slot")
