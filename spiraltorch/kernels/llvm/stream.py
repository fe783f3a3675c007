"""Stores that bypass the cache, for results much larger than it.

In: a kernel's store, in the writer's code.  Out: an i1 that is true at run time where the result, or all that the kernel
touches, is larger than any cache, and the result's vectors lie on their own boundaries; and vectors stored the one way or the
other.

    x + y of 64 MiB     %big   = icmp sge i64 %bytes, 33554432
                        br i1 %big, ...     store <16 x float> %v, ptr %p, align 64, !nontemporal !{i32 1}

An ordinary store reads the line that it is going to overwrite, and pushes another one out of the cache.  Sizes are run-time
arguments, so one kernel serves both.  Such stores are not ordered with later ones: a task ends with a fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ir.kernel import Access, Store
from .rows import Code

if TYPE_CHECKING:
    from .writer import Writer

LARGE = 16 << 20  # bytes of a result from which it is not in a cache any more when somebody reads it
MANY = 32 << 20  # bytes of all that a kernel reads and writes, from which the same is true of a result of SOME
SOME = 4 << 20


def streams(writer: Writer, s: Store) -> str | None:
    """An i1 of the function: whether ``s`` bypasses the cache.  None where it never does."""
    own = [t for p in writer.kernel.phases for t in p.stores if t.param == s.param]
    if len(own) > 1 or writer.kernel.block % writer.lanes:
        return None
    if writer.params[s.param].mode != "out" or s.guard is not None or s.fold or s.access.stride(writer.lane_axis) != 1:
        return None
    code, env, key = writer.scopes[0].code, writer.scopes[0].env, ("streams", s.access, s.param)
    if key not in env:
        dtype = writer.params[s.param].dtype
        bytes_, places = _bytes(writer, s.access, dtype.itemsize), []
        for axis, stride in s.access.terms:
            if axis != writer.lane_axis:
                places.append(code.let(f"mul i64 {writer.slot(stride)}, {dtype.itemsize}"))
        if s.access.offset != 0:
            places.append(code.let(f"mul i64 {writer.slot(s.access.offset)}, {dtype.itemsize}"))
        off = code.let(f"ptrtoint ptr {writer.word(s.param, 'ptr')} to i64")
        for place in places:
            off = code.let(f"or i64 {off}, {place}")
        aligned = code.let(f"icmp eq i64 {code.let(f'and i64 {off}, {_align(writer, dtype.itemsize) - 1}')}, 0")
        enough = code.select(code.let(f"icmp sge i64 {_all_bytes(writer)}, {MANY}"), str(SOME), str(LARGE), "i64", 1)
        env[key] = code.let(f"and i1 {aligned}, {code.let(f'icmp sge i64 {bytes_}, {enough}')}")
        writer.streaming.append(env[key])
    return str(env[key])


def _bytes(writer: Writer, access: Access, itemsize: int) -> str:
    """How much memory an access reaches."""
    total = str(itemsize)
    for axis, _ in access.terms:
        total = writer.scopes[0].code.let(f"mul i64 {total}, {writer.size(axis)}")
    return total


def _all_bytes(writer: Writer) -> str:
    """How much the kernel's arrays have, of each the access along the most axes."""
    code, env = writer.scopes[0].code, writer.scopes[0].env
    if "bytes" not in env:
        widest: dict[int, Access] = {}
        loads = [(n.arg.param, n.arg.access) for n in writer.kernel.nodes() if n.op == "LOAD"]
        for param, access in loads + [(t.param, t.access) for p in writer.kernel.phases for t in p.stores]:
            if param not in writer.kept and len(access.terms) > len(widest.get(param, Access()).terms):
                widest[param] = access
        env["bytes"] = "0"
        for param, access in widest.items():
            env["bytes"] = code.let(f"add i64 {env['bytes']}, {_bytes(writer, access, writer.params[param].dtype.itemsize)}")
    return str(env["bytes"])


def _align(writer: Writer, itemsize: int) -> int:
    return min(64, writer.lanes * itemsize)


def store_either(writer: Writer, code: Code, flag: str, vectors: Sequence[tuple[str, str]], ty: str, itemsize: int) -> None:
    """Store (value, pointer) pairs, past the cache where ``flag`` says so."""
    k = next(writer.counter)
    code.do(f"br i1 {flag}, label %past{k}, label %near{k}")
    for label, how in ((f"past{k}", f"align {_align(writer, itemsize)}, !nontemporal !{{i32 1}}"), (f"near{k}", f"align {itemsize}")):
        code.label(label)
        for value, p in vectors:
            code.do(f"store {ty} {value}, ptr {p}, {how}")
        code.do(f"br label %stored{k}")
    code.label(f"stored{k}")


def fence(code: Code, flags: Sequence[str]) -> None:
    """What bypassed the cache is seen by others before the task counts as done."""
    if flags:
        some = flags[0]
        for f in flags[1:]:
            some = code.let(f"or i1 {some}, {f}")
        code.do(f"br i1 {some}, label %fence, label %end")
        code.label("fence")
        code.do("fence seq_cst")
    code.do("br label %end")


__all__ = ["LARGE", "fence", "store_either", "streams"]
