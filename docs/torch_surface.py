"""How much of torch's surface there is: the pages' tables, and what is missing.

In: ``docs/torch_names.json`` (the names of torch's public functions, see :mod:`tests.torch_names`) and the
sentences of :mod:`docs.torch_surface_notes`.  Out: for each name of each namespace one of

    supported    the name is there and does what torch's does
    differs      it is there; the sentence says what is different
    missing      it is not; the sentence says what to use instead

    $ python docs/generate.py --missing torch.linalg
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch_surface_notes import DIFFERS, family

import spiraltorch

NAMES: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "torch_names.json").read_text(encoding="utf-8"))
HERE: dict[str, Any] = {
    "torch": spiraltorch,
    "torch.Tensor": spiraltorch.Tensor,
    "torch.nn.functional": spiraltorch.nn.functional,
    "torch.linalg": spiraltorch.linalg,
    "torch.fft": getattr(spiraltorch, "fft", None),
    "torch.special": spiraltorch.special,
}


@dataclass(frozen=True)
class Entry:
    """One name: where, whether torch documents it, what there is of it, and the sentence to say so."""

    space: str
    name: str
    documented: bool
    status: str
    sentence: str


def entries(space: str) -> list[Entry]:
    """All names of one namespace, in alphabetical order."""
    names = NAMES[space]
    documented = set(names["documented"])
    return [_entry(space, n, n in documented) for n in sorted(documented | set(names["undocumented"]))]


def _entry(space: str, name: str, documented: bool) -> Entry:
    full = f"{space}.{name}"
    if has(space, name):
        difference = DIFFERS.get(full, "")
        return Entry(space, name, documented, "differs" if difference else "supported", difference)
    return Entry(space, name, documented, "missing", family(full))


def has(space: str, name: str) -> bool:
    """Whether the name is there as what a user calls or reads."""
    found = getattr(HERE[space], name, None)
    return found is not None and not isinstance(found, ModuleType)


def share(found: list[Entry]) -> float:
    """The part of the documented names that is there, in percent."""
    counted = [e for e in found if e.documented]
    return 100 * sum([e.status != "missing" for e in counted]) / len(counted)


def table() -> str:
    """The page's summary, and its lists by namespace."""
    parts = [_summary()]
    for space in NAMES:
        found = entries(space)
        parts.append(f"### {space}\n\n" + "\n\n".join([p for p in (_there(found), _list(found, "differs"), _list(found, "missing")) if p]))
    return "\n\n".join(parts)


def _summary() -> str:
    lines = [
        "| namespace | documented by torch | supported | differs | missing | share | undocumented names there |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for space in NAMES:
        found = entries(space)
        counted = [e for e in found if e.documented]
        by = [sum([e.status == s for e in counted]) for s in ("supported", "differs", "missing")]
        rest = [e for e in found if not e.documented]
        beyond = f"{sum([e.status != 'missing' for e in rest])} of {len(rest)}"
        lines.append(f"| `{space}` | {len(counted)} | {by[0]} | {by[1]} | {by[2]} | {share(found):.1f} % | {beyond} |")
    return "\n".join(lines)


def _there(found: list[Entry]) -> str:
    names = ", ".join([f"`{e.name}`" for e in found if e.status == "supported"])
    return f"Supported: {names}." if names else ""


def _list(found: list[Entry], status: str) -> str:
    """The names of one status, those with one sentence together."""
    by_sentence: dict[str, list[str]] = {}
    for e in found:
        if e.status == status:
            by_sentence.setdefault(e.sentence, []).append(f"`{e.name}`")
    lines = [f"| {status} | {'what is different' if status == 'differs' else 'what to use instead'} |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {sentence} |" for sentence, names in by_sentence.items()]
    return "\n".join(lines) if by_sentence else ""


def missing_report(space: str) -> str:
    """For a terminal: what of ``space`` (or of everything, for '') is missing, documented names first."""
    out = []
    for one in [space] if space else list(NAMES):
        found = entries(one)
        absent = [e for e in found if e.status == "missing"]
        out.append(f"{one}: {share(found):.1f} % of {sum([e.documented for e in found])} documented names")
        for documented, title in ((True, "documented"), (False, "undocumented")):
            listed = [e for e in absent if e.documented is documented]
            out.append(f"  {title}, missing ({len(listed)}): " + " ".join([e.name + ("" if e.sentence else "(!)") for e in listed]))
    return "\n".join(out)
