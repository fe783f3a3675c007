"""What the coverage page says about names that are missing or that differ from torch's.

``DIFFERS`` and ``MISSING`` have one sentence a name; ``FAMILIES`` one for all names that match a pattern.
A test checks that every missing name has a sentence and that no sentence is about a name that is there.
"""

from __future__ import annotations

import re

DIFFERS: dict[str, str] = {
    "torch.empty": "The content is 0, not what was in memory.",
    "torch.Tensor.new_empty": "The content is 0, not what was in memory.",
    "torch.empty_like": "The content is 0, not what was in memory.",
    "torch.compile": "Traces and replays programs of its own; there are no backends, `mode` or `dynamic` to choose.",
    "torch.inference_mode": "Tensors made inside are ordinary tensors without history: using them in autograd later is allowed.",
    "torch.Tensor.untyped_storage": "Gives the cell that aliases share; it has no bytes interface.",
}

MISSING: dict[str, str] = {}

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
    (r"deterministic|flush_denormal|float32_matmul_precision|interop_threads|warn_always",
     "A switch of torch's process; results here are deterministic always and float32 products full precision."),
    (r"^torch\.(parse_|import_ir|merge_type|unify_type|fork|wait|sym_|get_file_path|prepare_multi|profiler_allow|classproperty"
     r"|compiled_with|thread_safe_gen|from_file|is_storage|typename|init_num_threads|while_loop|cond$)",
     "Part of torch's own machinery (TorchScript, symbolic sizes, build); `st.compile` needs none of it."),
    (r"^torch(\.Tensor)?\.(name|names|is_distributed|module_load|reinforce|volatile|map2_|output_nr|resize|resize_as|resize_as_sparse_)$",
     "Retired, or part of named tensors; use positions of axes."),
    (r"^torch(\.Tensor)?\.(rnn_|lstm|gru|lstsq|native_|batch_norm_|solve$|symeig|eig$|grid_sampler|affine_grid_gen|convolution"
     r"|slice_inverse|embedding_renorm_|norm_except_dim)",
     "torch's internal or retired form of an operator; use the public one in `st`, `st.linalg` or `st.nn.functional`."),
]  # fmt: skip


def family(full: str) -> str:
    """The sentence for a missing name, '' when there is none."""
    if full in MISSING:
        return MISSING[full]
    return next((sentence for pattern, sentence in FAMILIES if re.search(pattern, full)), "")
