"""A finding as a script that runs alone; ``tests/fuzz`` runs those that are kept.

In: a small program and what was found.  Out: a file that prints the program's results in torch and here.
"""

from __future__ import annotations

import re
from pathlib import Path

from .compare import Finding
from .programs import Program

TEMPLATE = '''"""{title}

Found by ``python -m fuzz --seed {seed}``.
"""

from math import inf, nan  # what numbers below may be


def inputs(m):
{inputs}
    return {results}


def program(m, {names}):
{calls}


if __name__ == "__main__":
    import torch

    import spiraltorch

    for library in (torch, spiraltorch):
        print(library.__name__, *program(library, *inputs(library)), sep="\\n")
'''


def script(p: Program, finding: Finding, seed: int) -> str:
    """The text of the file."""
    lines = str(p).splitlines()
    given, calls = lines[: len(p.inputs)], lines[len(p.inputs) :]
    return TEMPLATE.format(
        title=re.sub(r"\s+", " ", str(finding)).replace("\\", "/").replace('"', "'"),
        seed=seed,
        inputs="\n".join("    " + line for line in given),
        results="".join(f"v{k}, " for k in p.inputs).rstrip(),
        names=", ".join(f"v{k}" for k in p.inputs),
        calls="\n".join("    " + line for line in calls),
    )


def save(folder: Path, p: Program, finding: Finding, seed: int) -> Path:
    """Write the script under a name that says what it shows; what an earlier run wrote is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "_", f"{finding.kind}_{finding.where}_{seed}")
    path = folder / f"{stem}.py"
    path.write_text(script(p, finding, seed), encoding="utf-8")
    return path
