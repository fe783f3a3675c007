"""Parameter: a tensor that a Module counts among what it learns.

>>> import spiraltorch as st
>>> w = st.nn.Parameter(st.zeros(2))
>>> w.requires_grad, type(w * 2).__name__
(True, 'Tensor')
"""

from __future__ import annotations

from typing import Any

from ..creation import over_array
from ..dispatch import SHORT
from ..overrides import disabled
from ..tensor import Tensor, tensor_over


class Parameter(Tensor):
    """A tensor over the memory of ``data``; what is computed from it is a plain Tensor (torch.nn.Parameter)."""

    __slots__ = ()
    __torch_function__ = staticmethod(disabled)

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            import numpy as np

            from ..dtypes import get_default_dtype

            data = over_array(np.empty(0, get_default_dtype().np))
        if not isinstance(data, Tensor):
            raise TypeError(f"a Parameter is made from a Tensor, got {type(data).__name__}; use st.tensor(...) first")
        t = tensor_over(data._storage, data._steps)
        t.__class__ = cls
        t.requires_grad_(requires_grad)
        return t  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        found = memo.get(id(self))
        if found is None:
            found = memo[id(self)] = type(self)(self.detach().clone(), self._requires_grad)
        return found  # type: ignore[no-any-return]


SHORT.add(Parameter)
