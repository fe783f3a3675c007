"""The generated parts of the documentation: ``python docs/generate.py`` writes them between the pages' markers.

``generated()`` gives (page, text) pairs; a test compares them with what the pages say.  The type stubs are written too
(:mod:`docs.stubs`).  ``performance.md`` is not here: ``python -m benchmarks`` writes it.  ``--missing [torch.linalg]`` says
which of torch's names are missing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import spiraltorch
from spiraltorch.ir.prims import ROWS
from spiraltorch.ops.registry import OPS, Op

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
import stubs  # noqa: E402  (beside this file, which is no package)
import torch_surface  # noqa: E402

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def cell(text: str) -> str:
    """Text that may stand in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def rows_table() -> str:
    lines = ["| row | meaning | kinds | ulp | derivative |", "|---|---|---|---:|---|"]
    for r in ROWS.values():
        derivative = ", ".join(f"`{d}`" if d is not None else "-" for d in r.derivative)
        lines.append(f"| `{r.name}` | `{cell(r.numpy)}` | {_kinds(r.kinds)} | {r.ulp:g} | {cell(derivative)} |")
    return "\n".join(lines)


def _kinds(kinds: str) -> str:
    names = {"b": "bool", "u": "unsigned", "i": "integer", "f": "float", "c": "complex"}
    return ", ".join(names[k] for k in kinds)


def environment_table() -> str:
    """From the table in the docstring of ``spiraltorch.config``."""
    text = importlib.import_module("spiraltorch.config").__doc__ or ""
    lines = ["| variable | meaning |", "|---|---|"]
    for line in text.splitlines():
        if line.startswith("ST_"):
            name, meaning = line.split(None, 1)
            lines.append(f"| `{name}` | {cell(meaning)} |")
        elif line.startswith(" ") and len(lines) > 2:
            lines[-1] = lines[-1].removesuffix(" |") + " " + cell(line) + " |"
    return "\n".join(lines)


def operators_table() -> str:
    public = sorted((o for o in OPS.values() if o.where), key=lambda o: o.name)
    lines = [
        torch_surface.table(),
        "",
        "## Records",
        "",
        f"{len(public)} operators in version {spiraltorch.__version__}.",
        "",
        "| call | where | what |",
        "|---|---|---|",
    ]
    lines += [f"| `{cell(o.name + _arguments(o))}` | {_places(o)} | {cell(_first_sentence(o.doc))} |" for o in public]
    return "\n".join(lines)


def _arguments(o: Op) -> str:
    bare = [p.replace(annotation=p.empty) for p in o.signature.parameters.values()]
    return str(o.signature.replace(parameters=bare, return_annotation=o.signature.empty))


def _places(o: Op) -> str:
    names = {"": "`st`", "Tensor": "method", "nn.functional": "`F`", "linalg": "`st.linalg`", "special": "`st.special`"}
    return ", ".join([names[w] for w in o.where] + ["in place"] * bool(o.inplace))


def _first_sentence(doc: str) -> str:
    return doc.strip().split("\n\n")[0]


PAGES: dict[str, Callable[[], str]] = {
    "environment.md": environment_table,
    "numerics.md": rows_table,
    "operators.md": operators_table,
}


def filled(page: str) -> str:
    """The whole text of a page with its generated part made anew.  Raises ValueError when it has no markers."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n\n{PAGES[page]()}\n\n{END}{tail}"


def main() -> None:
    options = argparse.ArgumentParser(description="Write the generated parts of the documentation.")
    options.add_argument("--missing", nargs="?", const="", metavar="NAMESPACE", help="print torch's names that are missing")
    namespace = options.parse_args().missing
    if namespace is not None:
        print(torch_surface.missing_report(namespace))
        return
    for page in PAGES:
        text = filled(page)
        (FOLDER / page).write_text(text, encoding="utf-8")
        print(f"docs/{page}")
    for path, text in stubs.generated().items():
        (stubs.PACKAGE / path).write_text(text, encoding="utf-8")
        print(f"spiraltorch/{path}")


if __name__ == "__main__":
    main()
