"""From kernel trees to addresses: which spelling runs, and how many tasks a launch has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..config import config
from ..ir.kernel import Gemm, Kernel
from .layout import Stored
from .lower import Launch, Library


def addresses(kernels: Sequence[Any], shared: Iterable[Any] = ()) -> dict[str, int]:
    """Native addresses by kernel key; compiles what is not known yet, and the functions ``shared`` that they call."""
    from ..kernels import library
    from ..kernels.llvm.target import host
    from ..runtime import cache, native
    from .program import counters

    distinct = list({k.key: k for k in kernels}.values())
    wanted = [w.module(host()) for w in shared]  # first, as they take longest
    wanted.append(native.source())
    for k in distinct:
        if isinstance(k, Library):
            module = library.module(k)
            wanted += [module] if module is not None else []
        elif not _by_numba(k):
            wanted.append(cache.Source(k.key, [k.key], _emitter(k)))
    cache.load_all(wanted)
    found: dict[str, int] = {}
    for k in distinct:
        if isinstance(k, Library):
            found[k.key] = library.address(k)
        elif _by_numba(k):
            from ..kernels.numba import compile

            tree = k.tree(k.key) if isinstance(k, Stored) else k
            found[k.key] = compile(tree, blas=config.gemm == "blas")
        else:
            found[k.key] = cache.load(k.key, [k.key], _emitter(k))[k.key]
    for key in found:
        if key not in _known:
            _known.add(key)
            counters["kernels"] += 1
    return found


_known: set[str] = set()


def _by_numba(k: Any) -> bool:
    """With BLAS for products a kernel's kind must be known, so its tree is made."""
    if config.cpu == "numba" or config.gemm != "blas":
        return config.cpu == "numba"
    return isinstance(k.tree(k.key) if isinstance(k, Stored) else k, Gemm)


def _emitter(k: Any) -> Callable[[], str]:
    def emit() -> str:
        from ..kernels.llvm.target import host

        tree = k.tree(k.key) if isinstance(k, Stored) else k
        if isinstance(tree, Kernel):
            from ..kernels.llvm.emit import emit_kernel

            return emit_kernel(tree, host(), k.key)
        from ..kernels.llvm.gemm import emit_gemm

        return emit_gemm(tree, host(), k.key)

    return emit


def shape_of(x: Launch) -> tuple[int, int, bool, tuple[Any, ...]]:
    """(tasks, least tasks per chunk, whether the kernel takes scratch memory, words after its arguments: numbers, and functions
    that kernels share)."""
    k = x.kernel
    if isinstance(k, Kernel):
        from ..kernels.llvm.tiles import rows_together

        tasks = k.tasks(x.ints)
        return tasks, rows_together(k, tasks), False, ()
    if isinstance(k, Gemm):
        if _by_numba(k):
            from ..kernels.numba import gemm_tasks

            return gemm_tasks(k, x.ints, blas=config.gemm == "blas"), 1, False, ()
        from ..kernels.llvm.gemm import cut_gemm
        from ..kernels.llvm.target import host

        tasks, grain, words = cut_gemm(k, x.ints, host())
        return tasks, grain, True, tuple(words)
    from ..kernels.library import tasks as library_tasks

    count, grain = library_tasks(k, x.ints)
    return count, grain, "." in k.name, ()
