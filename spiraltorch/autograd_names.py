"""The names that torch has for steps of backward, as a tensor's repr shows them.

In: a step that an operator made.  Out: ``AddmmBackward0`` where torch computes what our record says by ``addmm``.
"""

from __future__ import annotations

from typing import Any

_NAMES = {
    "avg_pool2d": "AvgPool2D", "batch_norm": "NativeBatchNorm", "chunk": "Split", "conv1d": "Convolution", "conv2d": "Convolution",
    "conv3d": "Convolution", "conv_transpose1d": "Convolution", "conv_transpose2d": "Convolution", "conv_transpose3d": "Convolution",
    "cross_entropy": "NllLoss", "det": "LinalgDet", "dropout": "Mul", "einsum": "View", "expand_as": "Expand", "flatten": "View",
    "group_norm": "NativeGroupNorm", "index_tensors": "Index", "inverse": "LinalgInvEx", "l1_loss": "Mean",
    "layer_norm": "NativeLayerNorm", "linalg_norm": "LinalgVectorNorm", "linalg_solve": "LinalgSolveEx",
    "max_pool2d": "MaxPool2DWithIndices", "movedim": "Permute", "narrow": "Slice", "norm": "LinalgVectorNorm", "outer": "Mul",
    "ravel": "View", "reshape": "View", "swapaxes": "Transpose", "swapdims": "Transpose", "to_dtype": "ToCopy", "true_divide": "Div",
    "square": "Pow", "unflatten": "View",
}  # fmt: skip
_PRODUCTS = {(1, 1): "Dot", (2, 2): "Mm", (2, 1): "Mv", (1, 2): "Squeeze"}


def operator_name(op: str, args: list[Any], ranks: list[int]) -> str:
    """The step of operator ``op`` with these other arguments, on tensors of these ranks."""
    if op == "matmul":
        return f"{_PRODUCTS.get((ranks[0], ranks[1]), 'UnsafeView')}Backward0"
    if op == "linear":
        plain = ranks[0] == 2
        return f"{('Addmm' if plain else 'View') if len(ranks) > 2 else 'Mm' if plain else 'UnsafeView'}Backward0"
    second = args[1:] and args[1] is not None
    if op in ("sum", "mean", "squeeze", "pow", "remainder"):
        tensors = op in ("pow", "remainder")
        kind = len(ranks) > 1 if tensors else second
    else:
        kind = op == "clamp" and len(ranks) == 1 or op in ("max", "min") and not second
    return f"{_NAMES.get(op, op.title().replace('_', ''))}Backward{int(bool(kind))}"


def view_name(name: str, before: int, after: int) -> str:
    """The step of a view of rank ``after`` of a tensor of rank ``before``."""
    if name == "SliceBackward0" and before != after:
        return "SelectBackward0" if after < before else "UnsqueezeBackward0"
    bare = name.removesuffix("Backward0")
    spelled = {"Reshape": "View", "ExpandAs": "Expand"}.get(bare) or _NAMES.get(bare.lower())
    return f"{spelled}Backward0" if spelled else name
