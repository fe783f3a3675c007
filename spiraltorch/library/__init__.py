"""Operators of the user's own (torch.library): a scalar function, an array function or a Triton kernel.

    @st.library.custom_op("mine::softclip")
    @numba.njit
    def softclip(x, limit):
        return limit * math.tanh(x / limit)

    softclip(x, 3.0).sum().backward()       # fused with its neighbours, and differentiated

See :func:`custom_op` and ``docs/custom_operators.md``.
"""

from .custom import CustomOp, custom_op

__all__ = ["CustomOp", "custom_op"]
