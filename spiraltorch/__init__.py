"""SpiralTorch: torch's tensors on a lazy graph that is fused into kernels made for the machine.

    import spiraltorch as st
    x = st.randn(64, 784)
    loss = (x @ st.randn(784, 10)).softmax(-1).sum()

Nothing is computed until a value is looked at; ``@st.compile`` replays a whole function, a training
step say, as one native program.  Importing this loads numpy alone; compilers load when first needed.
"""

from __future__ import annotations

import types as _types
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:  # first: what follows is exported for type checkers by what this stub says
    from . import backends as backends
    from . import inspect as inspect
    from . import library as library
    from . import return_types as return_types
    from .functions import *
    from .inspect import explain as explain
    from .inspect import profile as profile
    from .storages import TypedStorage as TypedStorage
    from .storages import UntypedStorage as UntypedStorage

from . import autograd, cuda, errors, memory, nn, optim, utils
from . import autograd_graph as _autograd_graph
from . import autograd_modes as _autograd_modes
from . import function as _function
from .autograd import (
    enable_grad,
    inference_mode,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .autograd import set_detect_anomaly as set_anomaly_enabled
from .complexes import *
from .complexes import install_methods as _install_complex
from .config import config, set_log
from .counts import *
from .creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .device import device
from .dispatch import install as _install
from .dtypes import (
    DType as dtype,
)
from .dtypes import (
    bfloat16,
    cdouble,
    cfloat,
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .dtypes import (
    bool_ as bool,
)
from .dtypes import float_ as float
from .dtypes import int_ as int
from .errors import LinAlgError as _LinAlgError
from .factories import *
from .interop import *
from .jit.compile import compile, eager
from .layouts import (
    as_strided,
    as_strided_scatter,
    channels_last,
    channels_last_3d,
    clone,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from .natives import *
from .nn.recurrent import *
from .printing import set_printoptions
from .random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .sampling import *
from .serialize import load, save
from .shapes import *
from .spectra import *
from .spectra import install_methods as _install_spectra
from .surface import *
from .surface import install_methods as _install_methods
from .switches import *
from .tensor import Size, Tensor

for _name in ("Function", "gradcheck", "gradgradcheck"):
    setattr(autograd, _name, getattr(_function, _name))
autograd.function = _function  # type: ignore[attr-defined]
autograd.graph = _autograd_graph  # type: ignore[attr-defined]
autograd.Variable = Tensor  # type: ignore[attr-defined]
autograd.grad_mode = autograd.anomaly_mode = _autograd_modes  # type: ignore[attr-defined]

__version__ = "0.1.0"

linalg = _types.ModuleType("spiraltorch.linalg", "Linear algebra (torch.linalg).")
linalg.LinAlgError = _LinAlgError  # type: ignore[attr-defined]
fft = _types.ModuleType("spiraltorch.fft", "Discrete Fourier transforms (torch.fft).")
special = _types.ModuleType("spiraltorch.special", "Special functions (torch.special).")
_install({"": globals(), "nn.functional": vars(nn.functional), "linalg": vars(linalg), "fft": vars(fft), "special": vars(special)})
_install_methods(globals())
_install_complex()
_install_spectra(fft)

for _name in (  # what torch has as st.name too, with the same arguments
    "adaptive_avg_pool1d avg_pool1d bilinear celu celu_ channel_shuffle conv3d conv_tbc conv_transpose1d conv_transpose2d "
    "conv_transpose3d cosine_similarity hardshrink hinge_embedding_loss kl_div margin_ranking_loss max_pool1d max_pool2d "
    "max_pool3d pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu rrelu rrelu_ selu selu_ threshold "
    "threshold_ triplet_margin_loss"
).split():
    if hasattr(nn.functional, _name):
        globals().setdefault(_name, getattr(nn.functional, _name))
for _name in ("max_pool1d_with_indices", "adaptive_max_pool1d"):  # these give positions too
    globals()[_name] = getattr(nn.functional, _name.removesuffix("_with_indices") + "_with_indices")


if not _TYPE_CHECKING:  # else every name would be there

    def __getattr__(name: str) -> _types.ModuleType:
        """``st.library``, ``st.backends`` and ``st.inspect`` with its functions are loaded when they are first asked for."""
        import importlib

        if name in ("library", "inspect", "backends", "return_types"):
            return importlib.import_module(f".{name}", __name__)
        if name in ("explain", "profile"):
            return getattr(importlib.import_module(".inspect", __name__), name)
        if name in ("UntypedStorage", "TypedStorage"):
            return getattr(importlib.import_module(".storages", __name__), name)
        raise AttributeError(f"module 'spiraltorch' has no attribute {name!r}")
