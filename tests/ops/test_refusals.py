"""What torch refuses is refused here, with an error that the same ``except`` catches, when the call is made."""

from __future__ import annotations

from typing import Any

import pytest

from spiraltorch import dtypes
from spiraltorch.ops import OPS
from spiraltorch.ops.samples import Call, T, call, calls
from tests.ops import harness
from tests.ops.harness import Bound, to_torch

I64, F64, BOOL, F32 = dtypes.int64, dtypes.float64, dtypes.bool_, dtypes.float32


def index(*shape: int, high: int = 1) -> T:
    return T(*shape, fill="index", high=high)


def ints(*shape: int) -> T:
    return T(*shape, dtype=I64)


def bools(*shape: int) -> T:
    return T(*shape, dtype=BOOL)


# (operator, call, words that both messages contain)
CASES: list[tuple[str, Call, str]] = [
    ("add", call(T(2), T(3)), "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 0"),
    ("mul", call(T(4, 2), T(3, 1, 3)), "must match the size of tensor b (3) at non-singleton dimension"),
    ("where", call(T(2, fill="mask"), T(3), T(3)), "The size of tensor a (2) must match"),
    ("where", call(T(2), T(2), T(2)), "where expected condition to be a boolean tensor"),
    ("add", call(ints(2), ints(2), alpha=0.5), "For integral input tensors, argument alpha must not be a floating"),
    ("sub", call(bools(2), bools(2)), "with two bool tensors is not supported"),
    ("neg", call(bools(2)), ""),
    ("abs", call(bools(2)), ""),
    ("floor", call(bools(2)), ""),
    ("fmod", call(bools(2), bools(2)), ""),
    ("pow", call(ints(2), -1), "Integers to negative integer powers are not allowed."),
    ("div", call(T(2), T(2), rounding_mode="up"), "rounding_mode to be one of None, 'trunc', or 'floor'"),
    ("bitwise_and", call(T(2), T(2)), ""),
    ("hypot", call(ints(2), ints(2)), ""),
    ("lerp", call(T(2), T(2, dtype=F64), 0.5), "for `end` but got dtype"),
    ("lerp", call(ints(2), ints(2), 0.5), ""),
    ("addcdiv", call(ints(2), ints(2), ints(2)), "Integer division with addcdiv is no longer supported"),
    ("clamp", call(T(2)), "At least one of 'min' or 'max' must not be None"),
    ("gelu", call(T(2), approximate="fast"), "approximate argument must be either none or tanh."),
    ("gelu", call(ints(2)), ""),
    ("relu", call(bools(2)), ""),
    # reductions
    ("sum", call(T(2, 3), 2), "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
    ("sum", call(T(2, 3), (0, -2)), "appears multiple times in the list of dims"),
    ("mean", call(ints(2)), "Input dtype must be either a floating point or complex dtype"),
    ("var", call(ints(2)), "std and var only support floating point and complex dtypes"),
    ("amax", call(T(0)), "amax(): Expected reduction dim to be specified for input.numel() == 0"),
    ("amin", call(T(2, 0), 1), "amin(): Expected reduction dim 1 to have non-zero size."),
    ("max", call(T(0)), "max(): Expected reduction dim to be specified for input.numel() == 0"),
    ("min", call(T(0, 2), 0), "min(): Expected reduction dim 0 to have non-zero size."),
    ("argmax", call(T(0)), "argmax(): Expected reduction dim to be specified for input.numel() == 0"),
    ("argmin", call(T(0, 2), 0), "argmin(): Expected reduction dim 0 to have non-zero size."),
    ("argmax", call(bools(2)), ""),
    ("norm", call(ints(2)), "Expected a floating point or complex tensor as input"),
    ("softmax", call(ints(2), 0), ""),
    ("softmax", call(T(2, 3), 2), "Dimension out of range"),
    ("cumsum", call(T(2), 1), "Dimension out of range"),
    ("logsumexp", call(T(2), 1), "Dimension out of range"),
    # views
    ("view", call(T(2, 3), 4, 2), "shape '[4, 2]' is invalid for input of size 6"),
    ("reshape", call(T(2, 3), (-1, -1)), "only one dimension can be inferred"),
    ("reshape", call(T(2, 3), (-1, 4)), "shape '[-1, 4]' is invalid for input of size 6"),
    ("reshape", call(T(0, 2), (-1, 0)), "because the unspecified dimension size -1 can be any value and is ambiguous"),
    ("view", call(T(2, 3), -2, 3), "invalid shape dimension -2"),
    ("permute", call(T(2, 3), (0, 1, 2)), "input.dim() = 2 is not equal to len(dims) = 3"),
    ("permute", call(T(2, 3), (0, 0)), "permute(): duplicate dims are not allowed."),
    ("permute", call(T(2, 3), (0, 2)), "Dimension out of range"),
    ("transpose", call(T(2, 3), 0, 2), "Dimension out of range"),
    ("t", call(T(1, 2, 3)), "t() expects a tensor with <= 2 dimensions, but self is 3D"),
    ("movedim", call(T(2, 3), (0, 1), (1,)), "Invalid source or destination dims"),
    ("movedim", call(T(2, 3), (0, 0), (1, 0)), "movedim: repeated dim in `source`"),
    ("expand", call(T(2, 3), 5, 3), "The expanded size of the tensor (5) must match the existing size (2) at non-singleton"),
    ("expand", call(T(2, 3), 3), "must be greater or equal to the number of dimensions in the tensor (2)"),
    ("expand", call(T(2, 3), -1, 2, 3), "The expanded size of the tensor (-1) isn't allowed in a leading, non-existing"),
    ("squeeze", call(T(2, 3), 4), "Dimension out of range"),
    ("unsqueeze", call(T(2, 3), 4), "(expected to be in range of [-3, 2], but got 4)"),
    ("flatten", call(T(2, 3), 1, 0), "start_dim cannot come after end_dim"),
    ("unflatten", call(T(2, 3), 1, (2, 2)), "don't multiply up to the size of dim 1 (3)"),
    ("select", call(T(2, 3), 0, 5), "select(): index 5 out of range for tensor of size [2, 3] at dimension 0"),
    ("select", call(T(), 0, 0), "select() cannot be applied to a 0-dim tensor."),
    ("narrow", call(T(2, 3), 0, 1, 2), "start (1) + length (2) exceeds dimension size (2)."),
    ("narrow", call(T(2, 3), 0, 5, 1), "start out of range (expected to be in range of [-2, 2], but got 5)"),
    ("narrow", call(T(2, 3), 0, 0, -1), "narrow(): length must be non-negative."),
    ("split", call(T(2, 3), 0), "split_size can only be 0 if dimension size is 0"),
    ("split", call(T(2, 3), [1, 2]), "split_with_sizes expects split_sizes to sum exactly to 2"),
    ("chunk", call(T(2, 3), 0), "chunk expects `chunks` to be greater than 0, got: 0"),
    ("unbind", call(T()), ""),
    ("diagonal", call(T(2, 3), 0, 0, 0), "diagonal dimensions cannot be identical 0, 0"),
    ("unfold", call(T(2, 3), 0, 3, 1), "maximum size for tensor at dimension 0 is 2 but size is 3"),
    ("unfold", call(T(2, 3), 0, 1, 0), "step is 0 but must be > 0"),
    # rearranging
    ("cat", call([]), "expected a non-empty list of Tensors"),
    ("cat", call([T(2), T()]), "zero-dimensional tensor (at position 1) cannot be concatenated"),
    ("cat", call([T(2, 3), T(3, 3)], 1), "Sizes of tensors must match except in dimension 1. Expected size 2 but got size 3"),
    ("cat", call([T(2, 3), T(3)]), "Tensors must have same number of dimensions"),
    ("stack", call([T(2, 3), T(2)]), "stack expects each tensor to be equal size, but got [2, 3] at entry 0 and [2] at entry 1"),
    ("stack", call([T(2)], 2), "Dimension out of range"),
    ("flip", call(T(2, 3), (0, 0)), "appears multiple times in the list of dims"),
    ("roll", call(T(2, 3), (1, 2)), "shifts and dimensions must align. shifts: 2, dims:0"),
    ("repeat", call(T(2, 3), 2), "can not be smaller than number of dimensions of tensor"),
    ("repeat", call(T(2, 3), 2, -1), "Trying to create tensor with negative dimension"),
    ("repeat_interleave", call(T(2), -1), ""),
    ("pad", call(T(2, 3), (1,)), "Padding length must be divisible by 2"),
    ("pad", call(T(2, 3), (1, 1, 1, 1, 1, 1)), "Padding length should be less than or equal to two times the input dimension"),
    ("pad", call(T(2, 3), (-4, 0)), ""),
    ("pad", call(T(1, 2, 3), (3, 1), "reflect"), "Padding size should be less than the corresponding input dimension"),
    ("pad", call(T(2, 3), (1, 1), "nearest"), "Unrecognised padding mode nearest"),
    ("tril", call(T(3)), "tril: input tensor must have at least 2 dimensions"),
    # indexing
    ("gather", call(T(2, 3), 0, index(2, 4)), "to be no larger than self [2, 3] apart from dimension 0"),
    ("gather", call(T(2, 3), 0, index(2)), "Index tensor must have the same number of dimensions as input tensor"),
    ("gather", call(T(2, 3), 0, T(2, 3)), "Expected dtype int"),
    ("scatter_add", call(T(2, 3), 0, index(3, 3), T(2, 3)), "to be no larger than self [2, 3]"),
    ("scatter_add", call(T(2, 3), 0, index(2, 3), T(2, 3, dtype=F64)), "Expected self.dtype to be equal to src.dtype"),
    ("index_select", call(T(2, 3), 0, index(1, 1)), "Index is supposed to be a vector"),
    ("index_select", call(T(2, 3), 0, T(1)), "Expected dtype int32 or int64 for index"),
    ("index_add", call(T(2, 3), 0, index(1), T(2, 3)), "Number of indices (1) should be equal to source.size(dim): (2)"),
    ("index_add", call(T(2, 3), 0, index(2), T(2, 4)), "source tensor shape must match self tensor shape, excluding the"),
    ("embedding", call(T(2), T(5, 3)), "Expected tensor for argument #1 'indices' to have one of the following scalar types"),
    ("embedding", call(index(2), T(5)), "'weight' must be 2-D"),
    ("embedding", call(index(2), T(5, 3), 7), "Padding_idx must be within num_embeddings"),
    ("take_along_dim", call(T(2, 3), index(1), 0), "input and indices should have the same number of dimensions"),
    ("masked_fill", call(T(2, 3), T(2, 3), 0), "only supports boolean masks"),
    ("masked_fill", call(T(2, 3), T(2, 1, fill="mask"), T(2)), "only supports a 0-dimensional value tensor"),
    ("one_hot", call(T(2), 3), "one_hot is only applicable to index tensor"),
    ("index_tensors", call(T(4, 3), [index(2), index(3)]), "indexing tensors could not be broadcast together with shapes [2], [3]"),
    ("index_put", call(T(4, 3), [index(2), index(2)], T(3)), "cannot be broadcast to indexing result of shape [2]"),
    # products
    ("matmul", call(T(2, 3), T(4, 5)), "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ("matmul", call(T(6, 2, 3), T(4, 5)), "mat1 and mat2 shapes cannot be multiplied (12x3 and 4x5)"),
    ("matmul", call(T(), T(2, 2)), "both arguments to matmul need to be at least 1D, but they are 0D and 2D"),
    ("matmul", call(T(3), T(4)), "inconsistent tensor size, expected tensor [3] and src [4] to have the same number of elements"),
    ("matmul", call(T(2, 3), T(4)), "size mismatch, got input (2), mat (2x3), vec (4)"),
    ("matmul", call(T(2, 2, 3), T(3, 3, 4)), "The size of tensor a (2) must match the size of tensor b (3) at non-singleton"),
    ("matmul", call(T(2, 2, 3), T(2, 4, 4)), "Expected size for first two dimensions of batch2 tensor to be: [2, 3] but got: [2, 4]."),
    ("mm", call(T(2, 3), T(3)), ""),
    ("mm", call(T(2, 3), T(3, 2, dtype=F64)), "to have the same dtype"),
    ("bmm", call(T(2, 2, 3), T(3, 3, 4)), "Expected size for first two dimensions of batch2 tensor to be: [2, 3] but got: [3, 3]."),
    ("mv", call(T(2, 3), T(2)), "size mismatch, got input (2), mat (2x3), vec (2)"),
    ("dot", call(T(2), T(3)), "inconsistent tensor size"),
    ("outer", call(T(2, 2), T(3)), ""),
    ("linear", call(T(2, 3), T(4, 5)), "mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)"),
    ("addmm", call(T(3), T(2, 3), T(3, 4)), ""),
    ("tensordot", call(T(2, 3), T(4, 2), 1), "contracted dimensions need to match, but first has size 3 in dim"),
    ("einsum", call("ij,jk", T(2, 3)), "fewer operands were provided than specified in the equation"),
    ("einsum", call("ij->ik", T(2, 3)), "output subscript k does not appear in the equation for any input operand"),
    ("einsum", call("ijk->i", T(2, 3)), "does not match the number of dimensions"),
    ("einsum", call("ij,jk->ik", T(2, 3), T(4, 5)), ""),
    # convolution, pooling, normalisation
    ("conv2d", call(T(1, 3, 4, 4), T(2, 2, 3, 3)), "expected input[1, 3, 4, 4] to have 2 channels, but got 3 channels instead"),
    ("conv2d", call(T(1, 3, 4, 4), T(2, 3, 5, 5)), "Kernel size can't be greater than actual input size"),
    ("conv2d", call(T(3, 3), T(2, 3, 3, 3)), "input to conv2d, but got input of size: [3, 3]"),
    ("conv2d", call(T(1, 3, 4, 4), T(2, 3, 3, 3), None, 2, "same"), "padding='same' is not supported for strided convolutions"),
    ("conv2d", call(T(1, 3, 4, 4), T(2, 3, 3, 3), T(3)), "expected bias to be 1-dimensional with 2 elements"),
    ("conv2d", call(T(1, 3, 4, 4), T(2, 3, 3, 3), None, 0), "non-positive stride is not supported"),
    ("max_pool2d", call(T(1, 3, 4, 4), 2, 2, 2), "pad should be at most half of"),
    ("max_pool2d", call(T(4, 4), 2), ""),
    ("avg_pool2d", call(T(1, 3, 4, 4), 2, divisor_override=0), "divisor must be not zero"),
    ("layer_norm", call(T(2, 3), (4,)), "Given normalized_shape=[4], expected input with shape [*, 4], but got input of size[2, 3]"),
    ("layer_norm", call(T(2, 3), ()), "Expected normalized_shape to be at least 1-dimensional"),
    ("layer_norm", call(T(2, 3), (3,), T(2)), "Expected weight to be of same shape as normalized_shape"),
    ("group_norm", call(T(2, 3, 4), 2), "Expected number of channels in input to be divisible by num_groups"),
    ("batch_norm", call(T(1, 3), T(3), T(3)), "Expected more than 1 value per channel when training, got input size"),
    ("batch_norm", call(T(4, 3), T(2), T(2)), "running_mean should contain 3 elements not 2"),
    # losses
    ("cross_entropy", call(T(4, 5), index(3)), "Expected input batch_size (4) to match target batch_size (3)."),
    ("cross_entropy", call(T(4, 5), index(4), reduction="average"), "average is not a valid value for reduction"),
    ("cross_entropy", call(T(4, 5), index(4), label_smoothing=2.0), "label_smoothing must be between 0.0 and 1.0. Got: 2"),
    ("cross_entropy", call(T(4, 5), index(4), T(3)), "weight tensor should be defined either for all 5 classes or no classes"),
    ("cross_entropy", call(T(2, 5, 3), index(2, 4)), ""),
    ("nll_loss", call(T(4, 5), index(3)), "to match target batch_size (3)."),
    ("mse_loss", call(T(2), T(2), reduction="average"), "average is not a valid value for reduction"),
    ("binary_cross_entropy_with_logits", call(T(2), T(3)), "must be the same as input size"),
    ("huber_loss", call(T(2), T(2), delta=0.0), "huber_loss does not support non-positive values for delta."),
    ("smooth_l1_loss", call(T(2), T(2), beta=-1.0), "smooth_l1_loss does not support negative values for beta."),
    # creation
    ("arange", call(0, 5, 0), "step must be nonzero"),
    ("arange", call(5, 0), "upper bound and lower bound inconsistent with step sign"),
    ("zeros", call(-1), ""),
    ("linspace", call(0, 1, -1), "number of steps must be non-negative"),
]  # fmt: skip

# Refused when the value is computed, because the positions are data.
LATE: list[tuple[str, Call]] = [
    ("gather", call(T(2, 3), 0, T(1, 3, fill="late"))),
    ("index_select", call(T(2, 3), 0, T(2, fill="late"))),
    ("embedding", call(T(2, fill="late"), T(2, 3))),
    ("scatter_add", call(T(2, 3), 0, T(1, 3, fill="late"), T(1, 3))),
    ("index_tensors", call(T(2, 3), [T(2, fill="late")])),
    ("index_tensors", call(T(2, 30), [T(2, fill="late"), index(2, high=30)])),
    ("index_put", call(T(2, 3), [T(2, fill="late")], T(2, 3))),
    ("cross_entropy", call(T(2, 3), T(2, fill="late"))),
]

FAMILIES = (IndexError, TypeError, ValueError, AssertionError, RuntimeError)


def family(error: BaseException) -> list[type[BaseException]]:
    return [f for f in FAMILIES if isinstance(error, f)]


@pytest.mark.parametrize("name, spec, words", CASES, ids=[f"{n}{k}" for k, (n, _, _) in enumerate(CASES)])
def test_refused_at_the_call(name: str, spec: Call, words: str) -> None:
    (sample,) = calls(spec)(F32)
    op = OPS[name]
    with pytest.raises(harness.REFUSALS) as torchs:
        harness.theirs(op, to_torch(list(sample.args)), {k: to_torch(v) for k, v in sample.kwargs.items()})
    bound = Bound(sample)
    with pytest.raises(harness.REFUSALS) as ours:
        op.apply(bound.args, bound.kwargs)
    shared = [f for f in family(ours.value) if f in family(torchs.value)]
    assert shared, f"torch raises {torchs.type.__name__} ({torchs.value}), we raise {ours.type.__name__} ({ours.value})"
    assert words in str(ours.value), f"torch says: {torchs.value}\nwe say: {ours.value}"
    assert words in str(torchs.value) or not words, f"torch says: {torchs.value}"


def out_of_range(value: Any) -> Any:
    """Samples filled with 'late' get positions beyond the axis."""
    if isinstance(value, T) and value.fill == "late":
        return T(*value.shape, fill="index", high=1, dtype=I64)
    return [out_of_range(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("position", [2, 7, -3])
@pytest.mark.parametrize("name, spec", LATE, ids=[f"{n}{k}" for k, (n, _) in enumerate(LATE)])
def test_positions_out_of_range(name: str, spec: Call, position: int) -> None:
    late = [i for i, a in enumerate(spec.args) if "late" in repr(a)]
    (sample,) = calls(Call(tuple([out_of_range(a) for a in spec.args]), {}))(F32)
    for i in late:
        target = sample.args[i][0] if isinstance(sample.args[i], list) else sample.args[i]
        target.flat[-1] = position + (name == "cross_entropy")
    with pytest.raises((IndexError, RuntimeError)):
        harness.theirs(OPS[name], to_torch(list(sample.args)), {})
    with pytest.raises(IndexError):
        harness.ours(OPS[name], Bound(sample))
