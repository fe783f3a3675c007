"""What the coverage page says about names that are missing or that differ from torch's.

``DIFFERS`` has one sentence a name, ``_EVERYWHERE`` one for a name in all namespaces, ``FAMILIES`` one for all names that match
a pattern.
"""

from __future__ import annotations

import re

DIFFERS: dict[str, str] = {
    "torch.nn.functional.embedding": "Gradients are dense, also with `sparse=True`.",
    "torch.nn.functional.embedding_bag": "Gradients are dense, also with `sparse=True`; offsets are checked when the value is looked at.",
    "torch.nn.functional.one_hot": "With `num_classes` given, a number that is no class raises when the value is looked at.",
    "torch.set_default_device": "Accepts the host alone; pass `device=` where tensors are made.",
    "torch.svd_lowrank": "Exact: the whole decomposition is computed and cut; no random start.",
    "torch.pca_lowrank": "Exact: the whole decomposition is computed and cut; no random start.",
    "torch.unique": "Always sorted, also with `sorted=False`.",
    "torch.Tensor.unique": "Always sorted, also with `sorted=False`.",
    "torch.empty": "The content is 0, not what was in memory.",
    "torch.Tensor.new_empty": "The content is 0, not what was in memory.",
    "torch.empty_like": "The content is 0, not what was in memory.",
    "torch.Tensor.resize_": "Where it grows, other views of the storage keep the old memory; the new elements are 0.",
    "torch.empty_strided": "The content is 0, not what was in memory.",
    "torch.empty_permuted": "The content is 0, not what was in memory.",
    "torch.Tensor.new_empty_strided": "The content is 0, not what was in memory.",
    "torch.masked_scatter": "A source that is too short raises IndexError when the value is looked at.",
    "torch.use_deterministic_algorithms": "Nothing to switch: results are deterministic always.",
    "torch.set_flush_denormal": "Denormal numbers are kept; False says so.",
    "torch.set_float32_matmul_precision": "Accepted; products of float32 stay in float32.",
    "torch.cond": "Looks at the condition; under `st.compile` the function then runs operation by operation.",
    "torch.while_loop": "Looks at each condition; under `st.compile` the function then runs operation by operation.",
    "torch.compile": "Traces and replays programs of its own; there are no backends, `mode` or `dynamic` to choose.",
    "torch.inference_mode": "Tensors made inside are ordinary tensors without history: using them in autograd later is allowed.",
    "torch.load": "Reads files of `st.save` and of `torch.save` (since torch 1.6); of pickled objects only tensors and plain containers.",
    "torch.save": "Writes a format of its own, which `torch.load` does not read; tensors, numbers, strings, containers and dtypes alone.",
}

_EVERYWHERE: dict[str, str] = {
    "segment_reduce": "Use `index_reduce` or `index_add` with an index made by `repeat_interleave`.",
    "hash_tensor": "Use `hash(x.numpy().tobytes())`.",
    "chalf": "There is no complex32; use `x.cfloat()`.",
    "storage_type": "Use `x.dtype`.",
    "grad_dtype": "A gradient has its tensor's type; convert `x.grad`.",
    "index": "Write `x[indices]`.",
    "get_device_module": "Use `st.cuda`.",
    "lobpcg": "Use `st.linalg.eigh` and take the first or last eigenvectors.",
    "vmap": "Write the batch axis out: operators broadcast, and `einsum` names axes.",
    "scaled_mm": "Multiply by the scales around `a @ b`; there are no 8-bit floats.",
    "scaled_grouped_mm": "Multiply by the scales around `a @ b`; there are no 8-bit floats.",
    "grouped_mm": "Use `bmm`, or one `matmul` a group.",
    "assert_int_or_pair": "A check of arguments; write an `assert`.",
}

#: (pattern over ``namespace.name``, sentence), the first that matches
FAMILIES: list[tuple[str, str]] = [
    (r"quantize|quantized|qscheme|q_per_channel|q_scale|q_zero_point|int_repr|fbgemm|choose_qparams|moving_avg_obs|fake_quant",
     "There are no quantized tensors; keep the scale beside an int8 tensor and multiply."),
    (r"sparse|_csr|_csc|_bsr|_bsc|_indices(_copy)?$|coalesce|dense_dim|to_dense|\.values|\.indices|smm$|spmm|dsmm|hspmm|hsmm"
     r"|saddmm|to_padded_tensor|is_nested|\.layout|sspaddmm",
     "Tensors are dense and strided; use a mask, or index tensors with `index_add` or `scatter`."),
    (r"cudnn|miopen|mkldnn|vulkan|mtia|maia|ipu$|xpu$|xla$|is_mps",
     "The name of another backend's kernel or device; call the operator without the prefix."),
    (r"autocast", "State of torch's autocast; there is no autocast here, convert with `x.to(dtype)`."),
    (r"^torch\.(parse_|import_ir|merge_type|unify_type|fork|wait|sym_|get_file_path|prepare_multi|profiler_allow|classproperty"
     r"|compiled_with|thread_safe_gen|from_file|is_storage|typename|init_num_threads|while_loop|cond$)",
     "Part of torch's own machinery (TorchScript, symbolic sizes, build); `st.compile` needs none of it."),
    (r"^torch(\.Tensor)?\.(name|names|is_distributed|module_load|reinforce|volatile|map2_|output_nr|resize|resize_as|resize_as_sparse_)$",
     "Retired, or part of named tensors; use positions of axes."),
    (r"^torch(\.Tensor)?\.(rnn_|lstm|gru|lstsq|native_|batch_norm_|solve$|symeig|eig$|grid_sampler|affine_grid_gen|convolution"
     r"|slice_inverse|embedding_renorm_|norm_except_dim)",
     "torch's internal or retired form of an operator; use the public one in `st`, `st.linalg` or `st.nn.functional`."),
    (r"^torch\.(ctc_loss|embedding_bag|matrix_rank|alpha_dropout_|feature_alpha_dropout_|feature_dropout_)$",
     "Use the function of that name in `st.nn.functional` (of one that ends in `_`, with `inplace=True`) or `st.linalg`."),
]  # fmt: skip
FAMILIES += [
    (r"^torch\.linalg\.", "Use `numpy.linalg` or `scipy.linalg` on `x.numpy()`, without a gradient."),
    (r"^torch\.fft\.", "Use `numpy.fft` on `x.numpy()`, without a gradient."),
    (r"^torch\.special\.", "Use `scipy.special` on `x.numpy()`, without a gradient."),
    (r"", "Not an operator of its own: write the formula of torch's page with the operators there are, which fuses it."),
]


def family(full: str) -> str:
    """The sentence for a missing name, '' when there is none."""
    name = full.rpartition(".")[2].rstrip("_")
    if name in _EVERYWHERE:
        return _EVERYWHERE[name]
    return next((sentence for pattern, sentence in FAMILIES if re.search(pattern, full)), "")
