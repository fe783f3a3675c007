"""The command ``spiraltorch`` (or ``python -m spiraltorch``): ``new-op NAME`` and ``tune``.

``spiraltorch new-op NAME`` begins an operator: record, test and page.

    $ spiraltorch new-op softcap
    spiraltorch/ops/softcap.py        the record: the operator's meaning, samples and text
    spiraltorch/ops/__init__.py       imports it
    tests/ops/test_softcap.py         what the tests of all records do not check
    docs/softcap.md                   its page, whose Python the tests run

What is written works as it stands, for ``1 / (1 + exp(-input))``; change the formula and the text.

``spiraltorch tune`` measures sizes of blocks and tasks on this machine (:mod:`.inspect.tune`) and keeps the best in the
user's file, which later processes follow (:mod:`.runtime.tuning`).  Results stay the same, bit by bit.

    $ spiraltorch tune --seconds 30
    block_rows = 128   (speed by value, 256 is 1: 64: 0.981, 128: 1.032, ...)
    ...
    /home/me/.cache/spiraltorch/tuning.json: avx512 L1 32K L2 1024K
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path

RECORD = '''"""The operator {name}: say here what comes in and what goes out.

    >>> import spiraltorch as st
    >>> st.{name}(st.tensor([0.0]))
    tensor([0.5000])
"""

from __future__ import annotations

from ..ir import lang
from ..ir.node import Node
from . import samples as s
from .registry import op


@op("{name}", operands=1, promote="float", kinds="f", torch_name="sigmoid", samples=s.unary())
def {name}(input: Node) -> Node:
    """``1 / (1 + exp(-input))`` for each element; integers give floats.  (torch.sigmoid)"""
    return 1 / (1 + lang.exp(-input))
'''

TEST = '''"""{name}: what tests/ops/test_records.py, which compares every record's samples with torch, does not check."""

from __future__ import annotations

import spiraltorch as st


def test_{name}_of_an_integer_is_a_float() -> None:
    assert st.{name}(st.tensor([0, 1])).dtype is st.float32


def test_{name}_has_a_second_derivative() -> None:
    x = st.tensor([-1.0, 0.5, 2.0], dtype=st.float64).requires_grad_()
    assert st.autograd.gradcheck(st.{name}, [x]) and st.autograd.gradgradcheck(st.{name}, [x])
'''

PAGE = """# {name}

`st.{name}(input)`: say here what it is for.

```python
import spiraltorch as st

x = st.tensor([-1.0, 0.0, 1.0])
assert st.allclose(st.{name}(x), x.{name}())
```
"""


def files(name: str) -> dict[str, str]:
    """Path and text of each new file."""
    return {
        f"spiraltorch/ops/{name}.py": RECORD.replace("{name}", name),
        f"tests/ops/test_{name}.py": TEST.replace("{name}", name),
        f"docs/{name}.md": PAGE.replace("{name}", name),
    }


def new_op(name: str, root: Path) -> list[str]:
    """Write the files of an operator under ``root``; their paths.  Raises ValueError where that would overwrite something."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is no name of an operator: lower-case letters, digits and underscores")
    package = root / "spiraltorch" / "ops" / "__init__.py"
    if not package.exists():
        raise ValueError(f"{root} is no checkout of spiraltorch: {package} is not there")
    made = files(name)
    from .ops import OPS

    there = [path for path in made if (root / path).exists()]
    if name in OPS or there:
        raise ValueError(f"there is an operator {name} already" + (f": {', '.join(there)}" if there else ""))
    text = package.read_text(encoding="utf-8")
    first, _, rest = text.partition("from . import (\n")
    listed, _, tail = rest.partition(")\n")
    lines = sorted([*listed.splitlines(), f"    {name},"])
    package.write_text(f"{first}from . import (\n" + "\n".join(lines) + f"\n)\n{tail}", encoding="utf-8")
    for path, content in made.items():
        (root / path).write_text(content, encoding="utf-8")
    return [*made, "spiraltorch/ops/__init__.py"]


def tune(seconds: float, output: Path | None) -> int:
    """Measure, and write what was found."""
    from .inspect.tune import tune as measured
    from .runtime import tuning

    path, name = output or tuning.user_file(), tuning.machine()
    entry = measured(seconds, print)
    try:
        tuning.write(path, name, entry)
    except OSError as e:
        print(f"spiraltorch tune: {path} could not be written: {e}", file=sys.stderr)
        return 1
    print(f"{path}: {name}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when it did what was asked."""
    parser = argparse.ArgumentParser(prog="spiraltorch", description="Tools for people who work on SpiralTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new-op", help="begin an operator: its record, test and page")
    new.add_argument("name")
    new.add_argument("--root", type=Path, default=Path(), help="the checkout (default: the current folder)")
    tuning = commands.add_parser("tune", help="measure what is fastest on this machine, and keep it for later")
    tuning.add_argument("--seconds", type=float, default=30.0, help="about how long to measure (default: 30)")
    tuning.add_argument("--output", type=Path, help="the file (default: tuning.json in the user's folder of compiled kernels)")
    options = parser.parse_args(arguments)
    if options.command == "tune":
        return tune(options.seconds, options.output)
    try:
        for path in new_op(options.name, options.root):
            print(path)
    except ValueError as e:
        print(f"spiraltorch new-op: {e}", file=sys.stderr)
        return 1
    print("next: the formula and its samples, then `python docs/generate.py` and `pytest tests/ops`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
