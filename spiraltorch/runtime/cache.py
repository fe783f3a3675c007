"""Compiled kernels: in this process, else on disk, else made now.

In: (key, emit) pairs, where ``emit()`` gives LLVM IR text that defines a function named ``key``.
Out: addresses.

    functions([("k3f2a...", lambda: emit_kernel(kernel, target, "k3f2a..."))])  ->  {"k3f2a...": 0x7f...}

On disk every kernel is a file of its own: loading one costs 0.2 ms, and programs share what they have in
common.  A file's name is a hash of the key, the machine, LLVM and the sources of the emitters, and its
content begins with a checksum of itself and of that name.  It is code that will be executed, so
folder and files are private, and those of another owner are not read.  A file that cannot be read,
written or trusted costs time and nothing else: the kernel is compiled again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .interrupts import uninterrupted

MAGIC = b"spiraltorch object 1\n"
LIMIT = 256 << 20  # bytes on disk before the least recently used entries go
_SWEEP_AFTER = 3600.0  # seconds between two looks at the folder's size, which reads every entry, whoever looks
_ASK_EVERY = 100  # new entries of this process after which it asks whether it is time
_TOUCH_AFTER = 24 * 3600.0  # seconds after which a use counts as a new use


def default_folder() -> Path:
    """ST_CACHE_DIR, else ``spiraltorch`` in the user's cache folder."""
    chosen = os.environ.get("ST_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "spiraltorch"


def _is_private(info: os.stat_result) -> bool:
    """Nobody but this user can have written it."""
    return os.name != "posix" or (info.st_uid == os.geteuid() and not info.st_mode & 0o022)


class Objects:
    """Object code on disk, by key.  Every failure is a miss."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._writes = 0

    def _path(self, key: str) -> Path:
        name = hashlib.blake2b(f"{key}\n{fingerprint()}".encode(), digest_size=20).hexdigest()
        return self.folder / f"{name}.o"

    @staticmethod
    def _header(path: Path, data: bytes) -> bytes:
        return MAGIC + hashlib.blake2b(data, key=path.name.encode(), digest_size=32).digest()

    def get(self, key: str) -> bytes | None:
        """The object code of ``key``, or None."""
        path = self._path(key)
        try:
            # A folder that others can write to could have our files exchanged.
            if not _is_private(os.stat(self.folder)):
                return None
            with open(path, "rb") as f:
                info = os.fstat(f.fileno())
                if not (_is_private(info) and stat.S_ISREG(info.st_mode)):
                    return None
                content = f.read()
        except OSError:
            return None
        size = len(MAGIC) + 32
        data = content[size:]
        if content[:size] != self._header(path, data):
            return None
        if time.time() - info.st_mtime > _TOUCH_AFTER:
            self._quietly(lambda: os.utime(path))
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``; readers see all of it or nothing."""
        path = self._path(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self.folder / f"{path.stem}-{os.getpid()}-{time.time_ns()}.tmp"
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError:
            return
        try:
            with open(handle, "wb") as f:
                f.write(self._header(path, data))
                f.write(data)
            os.replace(temporary, path)
        except OSError:
            self._quietly(lambda: os.unlink(temporary))
            return
        if self._writes % _ASK_EVERY == 0 and self._is_time():
            self._quietly(self._sweep)
        self._writes += 1

    def remove(self, key: str) -> None:
        """Forget an entry."""
        self._quietly(lambda: os.unlink(self._path(key)))

    @staticmethod
    def _quietly(action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:
            pass

    def _is_time(self) -> bool:
        """Whether nobody has looked at the folder's size for long; the file ``swept`` says when."""
        mark = self.folder / "swept"
        try:
            if time.time() - os.stat(mark).st_mtime < _SWEEP_AFTER:
                return False
        except OSError:
            pass
        self._quietly(mark.touch)
        return True

    def _sweep(self) -> None:
        """Delete the least recently used entries when there are more bytes than ``limit``."""
        entries = []
        for entry in os.scandir(self.folder):
            if entry.name.endswith((".o", ".tmp")):
                info = entry.stat(follow_symlinks=False)
                entries.append((info.st_mtime, info.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            os.unlink(path)
            total -= size
            if total <= self.limit * 3 // 4:
                break


@cache
def fingerprint() -> str:
    """Everything besides the kernel that object code depends on, as text."""
    import llvmlite.binding as llvm

    from ..kernels.llvm.target import host

    sources = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parent.parent
    for folder in ("kernels/llvm", "kernels/library", "ir"):
        for path in sorted((package / folder).glob("*.py")):
            sources.update(path.read_bytes())
    version = getattr(sys.modules[__package__.partition(".")[0]], "__version__", "")
    return f"{host()!r}\n{llvm.llvm_version_info}\n{version}\n{sources.hexdigest()}"


objects = Objects(default_folder())
_addresses: dict[str, dict[str, int]] = {}
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child never starts with a compilation half done
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Source(NamedTuple):
    """A module: its key, the functions it defines, and what writes its text if its code is nowhere."""

    key: str
    names: Sequence[str]
    emit: Callable[[], str]


def load(key: str, names: Sequence[str], emit: Callable[[], str]) -> dict[str, int]:
    """The addresses of the functions ``names`` of the module ``key``, whose text ``emit()`` gives.

    Raises RuntimeError when the text is not valid.
    """
    found = _addresses.get(key)
    if found is None:
        load_all([Source(key, names, emit)])
        found = _addresses[key]
    return found


def load_all(modules: Sequence[Source]) -> None:
    """Load what this process has not yet; modules whose code is nowhere are compiled side by side.

    Raises RuntimeError when a text is not valid.
    """
    if all(m.key in _addresses for m in modules):
        return
    with _lock:
        missing = [m for m in {m.key: m for m in modules}.values() if m.key not in _addresses and not _load_kept(m)]
        if not missing:
            return
        from ..kernels.llvm.target import load_object

        with uninterrupted():  # LLVM's objects would be freed twice
            made = _compile(missing)
            for m in missing:
                code = made[m.key]
                if isinstance(code, BaseException):
                    raise code
                _addresses[m.key] = load_object(code, m.names)
                objects.put(m.key, code)


def _load_kept(m: Source) -> bool:
    """Load a module from disk; False when it is not there, or spoilt."""
    code = objects.get(m.key)
    if code is None:
        return False
    from ..kernels.llvm.target import load_object

    try:
        with uninterrupted():
            _addresses[m.key] = load_object(code, m.names)
    except RuntimeError:
        objects.remove(m.key)
        return False
    return True


def _compile(modules: Sequence[Source]) -> dict[str, bytes | BaseException]:
    """Object code by key, or why there is none.  This thread writes the texts; others compile what is written, and at the
    end it helps them.  What comes out does not depend on who compiled it."""
    from queue import SimpleQueue

    from ..kernels.llvm.target import compile_module, host

    texts: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
    made: dict[str, bytes | BaseException] = {}

    def work() -> None:
        while (item := texts.get()) is not None:
            key, text = item
            try:
                made[key] = compile_module(text, host())
            except BaseException as e:
                made[key] = e

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(min(_cores(), len(modules)) - 1)]
    for t in helpers:
        t.start()
    try:
        for m in modules:
            texts.put((m.key, m.emit()))
    finally:
        for _ in range(len(helpers) + 1):
            texts.put(None)
        work()
        for t in helpers:
            t.join()
    return made


def _cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def functions(wanted: Sequence[tuple[str, Callable[[], str]]]) -> dict[str, int]:
    """The address of every function wanted; each ``emit`` is called only if its code is nowhere."""
    load_all([Source(key, [key], emit) for key, emit in wanted])
    return {key: _addresses[key][key] for key, _ in wanted}
