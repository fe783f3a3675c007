"""What a program's table holds, as plain data that can be kept on disk: a warm start runs no passes.

In: the passes' result (:class:`~spiraltorch.jit.program.Lowered`).  Out: a :class:`Layout`, from which
:meth:`Program.attach <spiraltorch.jit.program.Program.attach>` makes the table, with addresses of this process.

    layout = load(name) or lay_out(lower(roots, donated), 3, 1)

On disk a layout lies beside the kernels, under a name made of the graph's structure, what else the passes look at, and
their sources; kernels are named by key, and their trees are made again only if their code is gone.
"""

from __future__ import annotations

import hashlib
import json
import marshal
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..config import config
from ..ir.kernel import Gemm, Kernel, Param
from ..ir.node import Node, toposort
from ..runtime.plan_table import STATUS
from ..runtime.tuning import chosen
from .lower import Launch, Library
from .lower_matrix import Table

if TYPE_CHECKING:
    from .program import Lowered

WORTH_KEEPING = 40  # nodes of a graph whose passes take longer than reading a file


@dataclass(frozen=True)
class Row:
    """One instruction: its kernel's number, a row of words per instance, and as in the plan's table the rest.

    A word is a number, ``STATUS``, or what has another address in each process: a Table of offsets, or a function that
    kernels share.
    """

    kernel: int
    words: list[list[Any]]
    tasks: list[int]
    grain: int
    parallel: bool
    checks: bool
    scratch: bool


@dataclass(frozen=True)
class Layout:
    """kernels: by key; a Library itself.  pointers: (row, instance, word, source, offset), where sources are inputs,
    outputs, then the arena; scalars: (row, instance, word, which).  panels: (row, instance, word, input, bytes) of what a
    product may keep of an input that nobody writes.  taken, arena: as the schedule's."""

    kernels: list[str | Library]
    rows: list[Row]
    pointers: list[tuple[int, int, int, int, int]]
    scalars: list[tuple[int, int, int, int]]
    panels: list[tuple[int, int, int, int, int]]
    taken: list[int | None]
    arena: int


def work_of(x: Launch) -> int:
    """Elements touched, weighted by how dear their rows are: decides about threads and chunks."""
    from .stages import weight

    if isinstance(x.kernel, Kernel):
        total = 0
        sizes = [x.ints[a.index] for a in x.kernel.axes]
        rows = int(np.prod(sizes[: x.kernel.rows], dtype=np.int64))
        for p in x.kernel.phases:
            n = rows
            for k in p.axes:
                n *= sizes[k]
            ops = sum(weight(m.op) for m in toposort(list(p.exprs())) if m.src and m.op not in ("LOAD",))
            total += n * max(1, ops // 8)
        return total
    return sum(n.size for n in x.outs)


def lay_out(lowered: Lowered, n_in: int, n_out: int) -> Layout:
    """The words of every launch, and which of them a run fills in."""
    from .codegen import shape_of

    memory, schedule = lowered.schedule.memory, lowered.schedule
    numbers: dict[str, int] = {}
    kernels: list[str | Library] = []
    rows: list[Row] = []
    pointers: list[tuple[int, int, int, int, int]] = []
    scalars: list[tuple[int, int, int, int]] = []
    panels: list[tuple[int, int, int, int, int]] = []
    for k, step in enumerate(lowered.steps):
        key = step.kernel.key
        if key not in numbers:
            numbers[key] = len(kernels)
            kernels.append(step.kernel if isinstance(step.kernel, Library) else key)
        args_rows, tasks = [], []
        grain, parallel, scratch = 1, False, False
        work = 0
        for inst, x in enumerate(step.launches):
            words: list[Any] = []
            for p in x.params:
                if isinstance(p, str):
                    words.append(STATUS)
                elif isinstance(p, Table):
                    words.append(p)
                else:
                    kind, value = memory[p]
                    source = value if kind == "in" else n_in + value if kind == "out" else n_in + n_out
                    pointers.append((k, inst, len(words), source, value if kind == "temp" else 0))
                    words.append(0)
            words.extend(x.ints)
            for s in x.scalars:
                scalars.append((k, inst, len(words), s))
                words.append(0)
            count, grain, scratch, more = shape_of(x)
            if isinstance(x.kernel, Gemm) and more and count:
                from ..kernels.llvm.gemm import KEPT, panel_bytes

                kind, source = memory[x.params[x.kernel.b.param]]
                nbytes = panel_bytes(x.kernel, more)
                if nbytes and kind == "in" and source not in schedule.taken:
                    panels.append((k, inst, len(words) + KEPT, source, nbytes))
            words.extend(more)
            tasks.append(count)
            args_rows.append(words)
            work += work_of(x)
        if isinstance(step.kernel, Kernel):
            total = max(1, sum(tasks))
            parallel = work >= chosen().serial_elements
            grain = max(grain, min(total, chosen().chunk_elements * total // max(1, work)))
        else:
            parallel = True
        checks = any(x.checks for x in step.launches)
        rows.append(Row(numbers[key], args_rows, tasks, grain, parallel, checks, scratch))
    return Layout(kernels, rows, pointers, scalars, panels, schedule.taken, schedule.arena)


# -- on disk ------------------------------------------------------------------------------------------------


def name_of(roots: Sequence[Node], donated: Sequence[int | None], budget: int | None, inputs: int) -> str | None:
    """The name of the layout of this graph with so many inputs, of which some may be unused; None where it is not to be
    kept: few nodes, a library routine of the user's own, or somebody wants to see or check what the passes do."""
    if config.cpu != "llvm" or config.verify or config.log or config.dump:
        return None
    order = toposort(roots)
    if len(order) < WORTH_KEEPING:
        return None
    from ..runtime.cache import fingerprint
    from ..runtime.threads import get_num_threads

    number: dict[Node, int] = {}
    graph: list[Any] = []
    for k, n in enumerate(order):
        arg = n.arg
        if n.op == "CONST":
            arg = arg.key
        elif n.op == "CALL" and not _ours(arg[0]):
            return None
        number[n] = k
        graph += n.op, arg, n.shape, n.dtype.name, *[number[s] for s in n.src]
    machine = get_num_threads(), astuple(chosen()), _sources(), fingerprint()
    rest = [number[r] for r in roots], list(donated), budget, inputs, config.gemm, machine
    try:
        text = marshal.dumps((graph, rest), 0)  # version 0: equal values give equal bytes
    except ValueError:  # an argument that is no literal
        return None
    return "program " + hashlib.blake2b(text, digest_size=20).hexdigest()


def _ours(name: str) -> bool:
    from ..kernels.library.routine import ROUTINES

    return name not in ROUTINES or ROUTINES[name].value.__module__.startswith("spiraltorch.kernels.")


@cache
def _sources() -> str:
    """A hash of the passes' text; the kernels' and the language's is in the fingerprint."""
    found = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parent.parent
    for path in [*sorted((package / "jit").glob("*.py")), package / "dtypes.py"]:
        found.update(path.read_bytes())
    return found.hexdigest()


def load(name: str) -> Layout | None:
    """The layout kept under ``name``, if its file is there and can be trusted as object code is."""
    from ..runtime import cache as kept

    data = kept.objects.get(name)
    if data is None:
        return None
    try:
        return _read(json.loads(data))
    except (ValueError, TypeError, KeyError):  # not what was written
        kept.objects.remove(name)
        return None


def save(name: str, layout: Layout) -> None:
    """Keep ``layout`` for later processes."""
    from ..runtime import cache as kept

    kept.objects.put(name, json.dumps(_written(layout)).encode())


def _written(layout: Layout) -> dict[str, Any]:
    """Plain data: whatever is read back, nothing of it is executed."""
    kernels = [
        k if isinstance(k, str) else {"name": k.name, "params": [(p.dtype.name, p.mode) for p in k.params], "static": k.static}
        for k in layout.kernels
    ]
    rows = [{**vars(r), "words": [[_written_word(w) for w in row] for row in r.words]} for r in layout.rows]
    return {**vars(layout), "kernels": kernels, "rows": rows}


def _written_word(w: Any) -> Any:
    if isinstance(w, (int, str)):
        return w
    return {"table": list(w)} if isinstance(w, Table) else {"shared": list(w)}


def _read(found: dict[str, Any]) -> Layout:
    rows = [Row(**{**r, "words": [[_read_word(w) for w in row] for row in r["words"]]}) for r in found["rows"]]
    kernels = [k if isinstance(k, str) else _read_library(**k) for k in found["kernels"]]
    pointers, scalars, panels = ([tuple(p) for p in found[name]] for name in ("pointers", "scalars", "panels"))
    return Layout(kernels, rows, pointers, scalars, panels, found["taken"], found["arena"])


def _read_word(w: Any) -> Any:
    if not isinstance(w, dict):
        return w
    if "table" in w:
        return Table([tuple(pair) for pair in w["table"]])
    from ..kernels.llvm.gemm import Shared

    return Shared(*w["shared"])


def _read_library(name: str, params: list[Any], static: list[Any]) -> Library:
    return Library(name, tuple([Param(_TYPES[d], mode) for d, mode in params]), _tuples(static))


_TYPES = {d.name: d for d in dtypes.ALL}


def _tuples(value: Any) -> Any:
    return tuple([_tuples(v) for v in value]) if isinstance(value, list) else value


@dataclass(frozen=True)
class Stored:
    """A kernel by its key alone; ``tree`` makes it again, should its code be gone."""

    key: str
    tree: Callable[[str], Any]


__all__ = ["Layout", "Row", "Stored", "lay_out", "load", "name_of", "save", "work_of"]
