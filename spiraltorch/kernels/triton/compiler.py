"""Generated Triton text compiled for a GPU, with or without one in the machine.

    binary = compile(softmax, "cuda:90")
    binary.asm["ptx"]                       # ... ld.global.v4.b32 ...

Targets are ``cuda:<compute capability>`` and ``hip:<architecture>``.  What is known about the
alignment of each argument goes into the code, so it is part of the cache key: pointers and
integers that are multiples of 16 (or 8) are what makes 128-bit loads possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from ...ir.kernel import Gemm, Kernel
from ..names import names
from .emit import Tile
from .gemm import GemmTile
from .module import constants, default_tile, function, signature, source

Alignment = tuple[int, ...]


def target_of(text: str) -> GPUTarget:
    """``cuda:90`` or ``hip:gfx942``.  AMD's gfx9 chips run 64 lanes in step, the others 32."""
    backend, _, arch = text.partition(":")
    if backend == "cuda":
        return GPUTarget("cuda", int(arch), 32)
    if backend == "hip":
        return GPUTarget("hip", arch, 64 if arch.startswith("gfx9") else 32)
    raise ValueError(f"no such target: {text!r}; use 'cuda:<capability>' or 'hip:<architecture>'")


def alignment(values: Sequence[int]) -> Alignment:
    """What each address or integer is a multiple of: 16, 8 or 1."""
    return tuple([16 if v % 16 == 0 else 8 if v % 8 == 0 else 1 for v in values])


def _attributes(k: Kernel | Gemm, aligned: Alignment, near: bool) -> dict[tuple[int], list[list[Any]]]:
    """Triton's attributes by argument; ``near``: say which pointers stay within 2 GiB."""
    far = {n.arg.param for n in k.nodes() if n.op == "LOAD" and n.arg.dyn}
    found: dict[tuple[int], list[list[Any]]] = {}
    for i, multiple in enumerate(aligned):
        known: list[list[Any]] = [["tt.divisibility", multiple]] if multiple > 1 else []
        if near and i < len(k.params) and i not in far:
            known.append(["tt.pointer_range", 32])
        if known:
            found[i,] = known
    return found


_cache: dict[tuple[Any, ...], CompiledKernel] = {}


def compile(
    k: Kernel | Gemm,
    target: str = "cuda:90",
    tile: Tile | GemmTile | None = None,
    aligned: Alignment | None = None,
    device: int = 0,
) -> CompiledKernel:
    """The kernel's binary for ``target``, from the cache when it has been built.

    ``aligned`` says what each pointer and integer is a multiple of, in order (default: 16 for all).
    A binary is loaded on one device, so each ``device`` has its own.  Raises ValueError for an unknown target.
    """
    tile = tile or default_tile(k)
    aligned = (16,) * (len(k.params) + k.slots) if aligned is None else aligned
    key = (k.key, target, tile, aligned, device)
    if key not in _cache:
        _cache[key] = _build(k, target_of(target), tile, aligned)
    return _cache[key]


def _build(k: Kernel | Gemm, target: GPUTarget, tile: Tile | GemmTile, aligned: Alignment) -> CompiledKernel:
    types = signature(k, tile, (*names(k).arguments, *constants(tile)))
    fn = function(source(k, tile), k.key)
    # ROCm has buffer instructions for pointers that stay within 2 GiB.
    attributes = _attributes(k, aligned, near=target.backend == "hip" and not tile.wide)
    # Rows round one by one: a multiply and an add never become one operation here.
    options = {"num_warps": tile.warps, "enable_fp_fusion": False}
    if isinstance(tile, GemmTile):
        options["num_stages"] = min(tile.stages, 2) if target.backend == "hip" else tile.stages
    return triton.compile(ASTSource(fn, types, constants(tile), attributes), target=target, options=options)
