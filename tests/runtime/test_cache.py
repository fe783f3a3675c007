"""Object code on disk: a bad entry, a bad folder or a full disk costs time and nothing else."""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from native_kernels import text

from spiraltorch.runtime import cache


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cache.Objects]:
    """A cache of its own, and a process that knows no kernel."""
    objects = cache.Objects(tmp_path / "cache")
    monkeypatch.setattr(cache, "objects", objects)
    monkeypatch.setattr(cache, "_addresses", {})
    yield objects


class _Emit:
    """Counts how often a kernel's text is asked for."""

    def __init__(self, name: str, value: int = 1) -> None:
        self.name, self.value, self.calls = name, value, 0

    def __call__(self) -> str:
        self.calls += 1
        return f"define i64 @{self.name}() {{\n  ret i64 {self.value}\n}}\n"


def _call(address: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(address)())


def _forget() -> None:
    cache._addresses.clear()


def _entry(store: cache.Objects) -> Path:
    (path,) = store.folder.glob("*.o")
    return path


def test_process_then_disk_then_compiler(store: cache.Objects) -> None:
    emit = _Emit("one")
    first = cache.functions([("one", emit)])
    assert _call(first["one"]) == 1 and emit.calls == 1
    assert cache.functions([("one", emit)]) == first and emit.calls == 1
    _forget()
    assert _call(cache.functions([("one", emit)])["one"]) == 1
    assert emit.calls == 1


def test_many_at_once(store: cache.Objects) -> None:
    emits = [_Emit(f"f{k}", k) for k in range(5)]
    found = cache.functions([(e.name, e) for e in emits] * 2)
    assert [_call(found[e.name]) for e in emits] == list(range(5))
    assert [e.calls for e in emits] == [1] * 5
    assert len(list(store.folder.glob("*.o"))) == 5


def test_files_are_private(store: cache.Objects) -> None:
    cache.functions([("one", _Emit("one"))])
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(_entry(store).stat().st_mode) == 0o600
    assert not list(store.folder.glob("*.tmp"))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _other_format(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def _exchange(path: Path) -> None:
    store = cache.Objects(path.parent)
    store.put("other", b"some other kernel")
    other = store._path("other")
    path.write_bytes(other.read_bytes())
    other.unlink()


def _world_writable(path: Path) -> None:
    path.chmod(0o666)


def _foreign(path: Path) -> None:
    os.chown(path, 12345, 12345)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [_truncate, _empty, _flip, _other_format, _exchange, _world_writable, _foreign, _folder]
)
def test_a_bad_entry_is_rebuilt(store: cache.Objects, damage: Callable[[Path], None]) -> None:
    if damage is _foreign and os.geteuid() != 0:
        damage = _world_writable  # giving files away is for root
    emit = _Emit("one")
    cache.functions([("one", emit)])
    damage(_entry(store))
    for calls in (2, 2 if damage is not _folder else 3):
        _forget()
        assert _call(cache.functions([("one", emit)])["one"]) == 1
        assert emit.calls == calls


def test_valid_entry_that_is_no_object_is_rebuilt(store: cache.Objects) -> None:
    store.put("one", b"not an object file")
    emit = _Emit("one")
    assert _call(cache.functions([("one", emit)])["one"]) == 1
    assert emit.calls == 1
    _forget()
    cache.functions([("one", emit)])
    assert emit.calls == 1


def test_a_folder_open_to_others_is_not_read(store: cache.Objects) -> None:
    emit = _Emit("one")
    cache.functions([("one", emit)])
    store.folder.chmod(0o777)
    _forget()
    cache.functions([("one", emit)])
    assert emit.calls == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    objects = cache.Objects(tmp_path / "file" / "cache")
    monkeypatch.setattr(cache, "objects", objects)
    monkeypatch.setattr(cache, "_addresses", {})
    emit = _Emit("one")
    assert _call(cache.functions([("one", emit)])["one"]) == 1
    assert objects.get("one") is None
    objects.remove("one")


@pytest.mark.parametrize("name", ["open", "replace"])
def test_a_full_or_read_only_disk(store: cache.Objects, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, name, refuse)
    emit = _Emit("one")
    for calls in (1, 2):
        _forget()
        assert _call(cache.functions([("one", emit)])["one"]) == 1
        assert emit.calls == calls
    assert not list(store.folder.glob("*")) if store.folder.exists() else True


def test_size_is_bounded_by_age_of_use(tmp_path: Path) -> None:
    objects = cache.Objects(tmp_path / "cache", limit=10_000)
    for k in range(20):
        objects.put(f"k{k}", bytes(1000))
        os.utime(objects._path(f"k{k}"), (k, k))
    assert objects.get("k0") is not None  # a use makes it young again
    objects._sweep()
    kept = [k for k in range(20) if objects.get(f"k{k}") is not None]
    assert kept == [0, 14, 15, 16, 17, 18, 19]
    assert sum(p.stat().st_size for p in objects.folder.iterdir()) <= 7_500


def test_a_full_folder_is_looked_at_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes write to it: reading every entry takes long in a large one."""
    looks: list[int] = []
    monkeypatch.setattr(cache.Objects, "_sweep", lambda self: looks.append(1))
    for _ in range(3):
        cache.Objects(tmp_path / "cache").put("key", b"code")
    assert len(looks) == 1
    os.utime(tmp_path / "cache" / "swept", (0, 0))
    cache.Objects(tmp_path / "cache").put("key", b"code")
    assert len(looks) == 2


def test_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_CACHE_DIR", str(tmp_path))
    assert cache.default_folder() == tmp_path
    monkeypatch.delenv("ST_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "spiraltorch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_folder() == Path.home() / ".cache" / "spiraltorch"


def test_fingerprint_names_what_code_depends_on() -> None:
    from spiraltorch.kernels.llvm.target import host

    assert host().cpu in cache.fingerprint() and host().features in cache.fingerprint()


def test_invalid_text_is_an_error_and_leaves_nothing(store: cache.Objects) -> None:
    with pytest.raises(RuntimeError):
        cache.functions([("bad", lambda: "define nothing")])
    assert not store.folder.exists()
    assert cache.functions([("test_increment", lambda: text("test_increment"))])["test_increment"]


_LOOP = """
define void @NAME(ptr %p, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = mul i64 %i, 12
  %q = getelementptr i8, ptr %p, i64 %at
  store i64 %i, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def test_modules_compiled_side_by_side_are_the_same_code(store: cache.Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    from spiraltorch.kernels.llvm.target import compile_module, host

    monkeypatch.setattr(cache, "_cores", lambda: 4)
    texts = {f"f{k}": _LOOP.replace("NAME", f"f{k}") for k in range(12)}
    written: list[int] = []

    def write(key: str) -> str:
        written.append(threading.get_ident())
        return texts[key]

    cache.load_all([cache.Source(key, [key], partial(write, key)) for key in [*texts, *texts]])
    assert set(written) == {threading.get_ident()} and len(written) == len(texts)
    for key, t in texts.items():
        assert store.get(key) == compile_module(t, host())


def test_one_bad_text_among_several(store: cache.Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_cores", lambda: 3)
    running = threading.active_count()
    texts = ["define void @f( {", _LOOP.replace("NAME", "g"), _LOOP.replace("NAME", "h")]
    with pytest.raises(RuntimeError):
        cache.load_all([cache.Source(key, [key], lambda t=t: t) for key, t in zip("fgh", texts)])  # type: ignore[misc]

    def fail() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.load_all([cache.Source("g", ["g"], lambda: texts[1]), cache.Source("i", ["i"], fail)])
    assert threading.active_count() == running
    assert cache.load("g", ["g"], lambda: texts[1])["g"]


def test_others_code_is_generated_as_before() -> None:
    """The switch that leaves strength reduction out belongs to the process."""
    from spiraltorch.kernels.llvm import target

    llvm, text = target._llvm(), _LOOP.replace("NAME", "f")

    def theirs() -> bytes:
        machine = target._new_machine(target.host())
        with llvm.parse_assembly(text, llvm.create_context()) as module:
            return bytes(machine.emit_object(module))

    before = theirs()
    assert target.compile_module(text, target.host()) != before
    assert theirs() == before
