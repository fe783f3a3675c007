"""A program as text: its graph, its kernels, their source in each spelling, its launches.

In: a :class:`~spiraltorch.jit.program.Lowered` or one kernel.  Out: text.

    >>> import spiraltorch as st
    >>> shown = st.compile(lambda x: x.softmax(-1)).lower(st.zeros(2, 3))
    >>> shown.launches
    1
    >>> print(shown.graph.splitlines()[0])
    %0 = PARAM 0 : float32[2, 3]
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import config
from ..ir.kernel import Gemm, Kernel
from ..ir.node import Node
from ..ir.text import format_graph
from ..runtime.buffers import size_class
from . import cost

if TYPE_CHECKING:
    from ..jit.program import Lowered, Program


class Text(str):
    """Text whose ``repr`` is itself, so that a notebook shows it as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


# -- one kernel ---------------------------------------------------------------------------------------


def _numba(kernel: Kernel | Gemm) -> str:
    from ..kernels.numba import source as spelled

    return spelled(kernel, kernel.key)


def _llvm(kernel: Kernel | Gemm) -> str:
    from ..kernels.llvm.emit import emit_kernel
    from ..kernels.llvm.gemm import emit_gemm
    from ..kernels.llvm.target import host

    return (
        emit_kernel(kernel, host(), kernel.key) if isinstance(kernel, Kernel) else emit_gemm(kernel, host(), kernel.key)
    )


def _triton(kernel: Kernel | Gemm) -> str:
    from ..kernels.triton import source as spelled

    return spelled(kernel)


_SPELLINGS: dict[str, Callable[[Any], str]] = {"numba": _numba, "llvm": _llvm, "triton": _triton, "ir": str}


def source(kernel: Any, spelling: str = "numba") -> Text:
    """A kernel's text: 'numba' (plain Python loops), 'llvm', 'triton', or 'ir' (the tree itself).

    A library kernel is not generated: it shows its name.  Raises ValueError for another spelling.
    """
    if spelling not in _SPELLINGS:
        raise ValueError(f"no spelling {spelling!r}; there are {', '.join(_SPELLINGS)}")
    if not isinstance(kernel, (Kernel, Gemm)):
        return Text(f"# {kernel}\n")
    return Text(_SPELLINGS[spelling](kernel))


# -- a whole program ----------------------------------------------------------------------------------


def _place(lowered: Lowered, param: Any) -> str:
    """Where a launch's parameter is: an input, an output, a byte of the arena, or a table of constants."""
    if not isinstance(param, Node):
        return str(param) if isinstance(param, str) else "table"
    kind, at = lowered.schedule.memory[param]
    return f"{kind}{'@' if kind == 'temp' else ''}{at}:{param.dtype.name}{list(param.shape)}"


def plan_text(lowered: Lowered) -> Text:
    """The launches in order: kernel, what each instance reads and writes, and the sizes it gets."""
    lines = [f"arena {lowered.schedule.arena} bytes"]
    for k, step in enumerate(lowered.steps):
        lines.append(f"{k}: {step.kernel.key}")
        for x in step.launches:
            places = ", ".join(_place(lowered, p) for p in x.params)
            scalars = f" scalars {x.scalars}" if x.scalars else ""
            lines.append(f"     ({places}) {x.ints}{scalars}")
    outs = ", ".join(f"{kind}{at}" for kind, at in lowered.schedule.outs)
    return Text("\n".join([*lines, f"return {outs}"]))


def kernels_text(lowered: Lowered) -> Text:
    """The kernel trees, each under its key."""
    return Text("\n\n".join(f"# {k.key}\n{k}" for k in lowered.kernels))


def sources_text(lowered: Lowered, spelling: str = "numba") -> Text:
    return Text("\n\n".join(source(k, spelling) for k in lowered.kernels))


@dataclass(frozen=True)
class Memory:
    """Bytes as the allocator rounds them.  inputs: arguments and captured state.  results: outputs with memory of
    their own (others take over an input's).  temporaries: the arena."""

    inputs: int
    results: int
    temporaries: int

    @property
    def peak(self) -> int:
        return self.inputs + self.results + self.temporaries

    def __str__(self) -> str:
        parts = ", ".join(f"{cost.readable(n)} {name}" for name, n in vars(self).items())
        return f"{cost.readable(self.peak)} at the peak: {parts}"


class Inspection:
    """What ``f.lower(...)`` returns: each pass' result, to be printed.

    graph: as recorded.  simplified: after the rewrite rules.  kernels: the kernel trees.  source: their
    Numba text.  program: launches and memory.  launches: how many there are.
    """

    def __init__(self, program: Program) -> None:
        self.compiled = program
        self.lowered = program.lowered
        self.compile_seconds = program.compile_seconds

    @property
    def graph(self) -> Text:
        return Text(format_graph(self.lowered.graph))

    @property
    def simplified(self) -> Text:
        return Text(format_graph(self.lowered.simplified))

    @property
    def kernels(self) -> list[Any]:
        return self.lowered.kernels

    @property
    def source(self) -> Text:
        return sources_text(self.lowered)

    @property
    def program(self) -> Text:
        return plan_text(self.lowered)

    @property
    def launches(self) -> int:
        return len(self.lowered.steps)

    def memory(self) -> Memory:
        """What a run will hold, in bytes, before running it."""
        schedule = self.lowered.schedule
        fresh = [n for n, taken in zip(self.compiled.out_bytes, schedule.taken) if taken is None]
        inputs = [math.prod(shape) * dtype.itemsize for shape, dtype in self.compiled.inputs]
        return Memory(*[sum(map(size_class, found)) for found in (inputs, fresh, [schedule.arena] if schedule.arena else [])])

    def __repr__(self) -> str:
        total = cost.total(self.lowered)
        return (
            f"<{self.launches} launches of {len(self.kernels)} kernels: "
            f"{cost.readable(total.read + total.written)} moved, "
            f"{cost.count(total.flops)} operations, {cost.readable(self.lowered.schedule.arena)} of temporaries>"
        )


# -- ST_DUMP ------------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """``path`` gets ``text`` in one step: a reader sees the old file or the new one."""
    import tempfile  # brings a dozen modules along

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def dump(lowered: Lowered, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write every pass of a program to a folder of its own in ``folder`` (default: ST_DUMP).

    The folder's name is a hash of the graph, so a program has the same one in every run.
    """
    graph = format_graph(lowered.graph)
    name = "p" + hashlib.blake2b(graph.encode(), digest_size=6).hexdigest()
    target = Path(folder or config.dump) / name
    target.mkdir(parents=True, exist_ok=True)
    files: Sequence[tuple[str, str]] = (
        ("1-graph.txt", graph),
        ("2-simplified.txt", format_graph(lowered.simplified)),
        ("3-kernels.txt", kernels_text(lowered)),
        ("4-source.py", sources_text(lowered)),
        ("5-plan.txt", plan_text(lowered)),
    )
    for file, text in files:
        write_text(target / file, text + "\n")
    return target


__all__ = ["Inspection", "Memory", "Text", "dump", "kernels_text", "plan_text", "source", "sources_text", "write_text"]
