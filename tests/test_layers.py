"""The import rule of docs/architecture.md, a light ``import spiraltorch``, and files that can be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "spiraltorch"

# Lowest first.  A module may import, at its top level, its own layer and those below.
LAYERS = {
    "settings": "dtypes device config errors fast",
    "language and machine": "ir runtime",
    "operators and kernels": "ops kernels",
    "passes": "jit.rules jit.realify jit.complex_rows jit.stages jit.fuse jit.columns jit.lower jit.layout jit.places jit.order jit.plan jit.remat jit.program jit.codegen jit.interpret jit.device_program",
    "cells": "storage memory again",
    "programs of cells": "jit.eager jit.trace",
    "tensors": "size tape autograd tensor ordering writes arguments outs short overrides dispatch creation layouts shapes counts factories sampling switches indexing complexes spectra surface interop random function derivatives printing return_types storages backends serialize transfer cuda",
    "compiled functions": "jit",
    "users of tensors": "nn natives optim utils inspect library checkpoints __main__",
}  # fmt: skip
LONGEST = 550


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def layer(module: str) -> int:
    """The layer whose entry is the longest prefix of the module's name (``jit.lower`` also covers ``jit.lower_matrix``)."""
    found = [
        (len(name), k) for k, names in enumerate(LAYERS.values()) for name in names.split() if covers(name, module)
    ]
    assert found, f"{module} belongs to no layer: say in tests/test_layers.py and docs/architecture.md where it lives"
    return max(found)[1]


def covers(name: str, module: str) -> bool:
    return module == name or module.startswith((name + ".", name + "_"))


def imported(module: str, path: Path) -> Iterator[str]:
    """Modules of the package that are imported when ``module`` is (not inside functions, not for type checkers)."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    todo = list(ast.parse(path.read_text()).body)
    while todo:
        n = todo.pop()
        if isinstance(n, ast.If) and "TYPE_CHECKING" not in ast.unparse(n.test):
            todo += n.body + n.orelse
        elif isinstance(n, ast.Try):
            todo += n.body + [x for h in n.handlers for x in h.body] + n.orelse + n.finalbody
        elif isinstance(n, ast.ImportFrom) and n.level:
            base = package[: len(package) - n.level + 1] + (n.module.split(".") if n.module else [])
            for name in n.names:
                inner = ROOT.joinpath(*base, name.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield ".".join([*base, name.name] if is_module else base)
        elif isinstance(n, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or ""]
            assert not any(name.partition(".")[0] == "spiraltorch" for name in names), (
                f"{path}: imports inside are relative"
            )


def test_imports_go_one_way():
    names = [m for m, _ in modules()]
    assert len(names) > 80 and {layer(m) for m in names if m} == set(range(len(LAYERS)))
    wrong = [
        f"{module} imports {other}"
        for module, path in modules()
        if module
        for other in imported(module, path)
        if layer(other) > layer(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles_between_modules():
    """What is imported at the top level has an order in which it can be loaded, whatever is imported first."""
    edges = {m: {o for o in imported(m, p) if o != m} for m, p in modules() if m}
    packages = {m for m, p in modules() if p.name == "__init__.py"}
    done: set[str] = set()
    while True:
        ready = {m for m in edges if m not in done and all(o in done or o in packages for o in edges[m])}
        if not ready:
            break
        done |= ready
    assert set(edges) <= done | packages, sorted(set(edges) - done)


def test_files_can_be_read_in_one_go():
    paths = [*[path for _, path in modules()], *ROOT.rglob("*.[ch]")]
    long = {str(path): n for path in paths if (n := len(path.read_text().splitlines())) > LONGEST}
    assert not long


def test_every_module_says_what_it_is():
    assert not [str(path) for _, path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
