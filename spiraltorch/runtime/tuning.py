"""Measured choices: sizes that decide how fast this machine computes, never what.

In: nothing, or a file that ``spiraltorch tune`` wrote.  Out: the :class:`Choice` that schedules read,

    chosen().block_rows                    # rows of a product's block
    with using(Choice(block_rows=128)): ...

A file holds entries by machine, with what was measured, so a person can read why:

    {"format": 1, "machines": {"avx512 L1 32K L2 1024K": {"choice": {"block_rows": 128, ...}, "measured": [...]}}}

The user's file (``tuning.json`` in the folder of compiled kernels) comes first, then the one in the package; without an
entry for the machine, the one of the same instructions whose second cache is nearest in size.  A file that cannot be
read costs a warning and nothing else.  No choice changes a bit of any result: sums run in the order of k whatever
the blocks, and tasks are independent.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class Choice:
    """What may be tuned; the defaults are for a machine nobody measured.

    block_rows, block_bytes: a product's block is so many rows high, and its rows are so many bytes wide.
    thin_across, thin_along: with so few rows, a right operand that is row-major (or transposed) is read once, unpacked.
    direct_panels: with so few panels of rows, a row-major right operand is read where it lies.
    serial_products: multiply-adds that are not worth a second thread; split_products: from how many on threads get
    several tasks.  serial_elements, chunk_elements: the same for loops over elements, weighted by their arithmetic,
    and how many of them a thread takes at a time.
    """

    block_rows: int = 256
    block_bytes: int = 2048
    thin_across: int = 8
    thin_along: int = 8
    direct_panels: int = 4
    serial_products: int = 1 << 17
    split_products: int = 1 << 22
    serial_elements: int = 1 << 15
    chunk_elements: int = 1 << 14


# What a file may say.  Blocks have to fit the lists and panels in a thread's scratch memory.
LIMITS = {
    "block_rows": (16, 512), "block_bytes": (512, 3072), "thin_across": (0, 8),
    "thin_along": (0, 8), "direct_panels": (0, 64), "serial_products": (0, 1 << 30),
    "split_products": (1 << 10, 1 << 40), "serial_elements": (0, 1 << 30), "chunk_elements": (1 << 8, 1 << 30),
}  # fmt: skip


class Spoilt(ValueError):
    """A file of choices that is not what :func:`write` writes."""


@dataclass(frozen=True)
class Entry:
    """What a file says of one machine; ``measured`` are records for people: what was timed, and the times."""

    choice: Choice
    measured: tuple[Mapping[str, Any], ...] = ()


def user_file() -> Path:
    """Where the user's own measurements are kept."""
    from .cache import default_folder

    return default_folder() / "tuning.json"


PACKAGE_FILE = Path(__file__).parent / "tuning.json"


# ---------------------------------------------------------------- machines


def _cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> tuple[str, str]:
    """The first two data caches of a core, as the system spells them ('32K'); '?' where it does not say."""
    found = {"1": "?", "2": "?"}
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = [(index / name).read_text().strip() for name in ("level", "type", "size")]
        except OSError:
            continue
        if level in found and kind in ("Data", "Unified") and re.fullmatch(r"\d+K", size):
            found[level] = size
    return found["1"], found["2"]


@cache
def machine() -> str:
    """This machine's name in a file: 'avx512 L1 32K L2 1024K'."""
    from ..kernels.llvm.target import host

    target = host()
    instructions = {512: "avx512", 256: "avx2"}.get(target.vector_bits, "sse2") if target.is_x86 else "neon"
    l1, l2 = _cache_sizes()
    return f"{instructions} L1 {l1} L2 {l2}"


def _nearest(entries: Mapping[str, Entry], name: str) -> Entry | None:
    """The entry of ``name``, or of the same instructions with the most similar second cache."""
    if name in entries:
        return entries[name]
    alike = [other for other in entries if other.split()[0] == name.split()[0]]
    return entries[min(alike, key=lambda other: (abs(_second(other) - _second(name)), other))] if alike else None


def _second(name: str) -> int:
    size = name.rpartition(" ")[2].rstrip("K")
    return int(size) if size.isdigit() else 0


# ---------------------------------------------------------------- files


def parse(text: str) -> dict[str, Entry]:
    """The entries of a file.  Raises :class:`Spoilt`, with the reason."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Spoilt(f"no JSON: {e}") from e
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("machines"), dict):
        raise Spoilt(f"it does not say 'format': {FORMAT} and 'machines'")
    return {name: _entry(name, entry) for name, entry in found["machines"].items()}


def _entry(name: str, entry: Any) -> Entry:
    if not isinstance(entry, dict) or not isinstance(entry.get("choice"), dict) or not name.split():
        raise Spoilt(f"machine {name!r} has no 'choice'")
    for word, value in entry["choice"].items():
        low, high = LIMITS.get(word, (1, 0))
        if type(value) is not int or not low <= value <= high:
            allowed = f"an integer from {low} to {high}" if word in LIMITS else f"one of {', '.join(LIMITS)}"
            raise Spoilt(f"{word} = {value!r} of machine {name!r}: expected {allowed}")
    measured = entry.get("measured", [])
    if not isinstance(measured, list) or not all(isinstance(m, dict) for m in measured):
        raise Spoilt(f"'measured' of machine {name!r} is no list of records")
    return Entry(Choice(**entry["choice"]), tuple(measured))


def text(entries: Mapping[str, Entry]) -> str:
    """A file with these entries: the inverse of :func:`parse`."""
    said = {name: {"choice": asdict(e.choice), "measured": [dict(m) for m in e.measured]} for name, e in entries.items()}
    return json.dumps({"format": FORMAT, "machines": said}, indent=1) + "\n"


def write(path: Path, name: str, entry: Entry) -> None:
    """Put machine ``name`` into the file; readers see all of it or the file as it was.

    Other machines' entries stay; a spoilt file is written anew.  Raises OSError where that is not possible.
    """
    import tempfile

    try:
        entries = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, Spoilt):
        entries = {}
    entries[name] = entry
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as f:
            f.write(text(entries))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: Path, name: str) -> Entry | None:
    """What the file says of machine ``name``, or of one alike; None, with a warning, where it is spoilt."""
    try:
        return _nearest(parse(path.read_text(encoding="utf-8")), name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, Spoilt) as e:
        message = f"{path} is left out of account: {e}. Run `spiraltorch tune` to write it anew, or delete it."
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None


# ---------------------------------------------------------------- the choice in use

_override: Choice | None = None


@cache
def _measured() -> Choice:
    name = machine()
    for path in (user_file(), PACKAGE_FILE):
        entry = read(path, name)
        if entry is not None:
            return entry.choice
    return Choice()


def chosen() -> Choice:
    """The choice that schedules made now follow."""
    return _measured() if _override is None else _override


@contextmanager
def using(choice: Choice) -> Iterator[None]:
    """Schedules made in the body follow ``choice``; for measuring and tests.  Programs that exist are not changed."""
    global _override
    before, _override = _override, choice
    try:
        yield
    finally:
        _override = before


WORDS = tuple([f.name for f in fields(Choice)])
