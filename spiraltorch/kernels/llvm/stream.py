"""Stores that bypass the cache, for results much larger than it.

In: a kernel's store, in the writer's code.  Out: an i1 that is true at run time where the result is larger than any cache
and its vectors lie on their own boundaries; and vectors stored the one way or the other.

    x + y of 64 MiB     %big   = icmp sge i64 %bytes, 33554432
                        br i1 %big, ...     store <16 x float> %v, ptr %p, align 64, !nontemporal !{i32 1}

An ordinary store reads the line that it is going to overwrite, and pushes another one out of the cache.  Sizes are run-time
arguments, so one kernel serves both.  Such stores are not ordered with later ones: a task ends with a fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...ir.kernel import Store
from .rows import Code

if TYPE_CHECKING:
    from .writer import Writer

LARGE = 16 << 20  # bytes of a result from which it is not in a cache any more when somebody reads it


def streams(writer: Writer, s: Store) -> str | None:
    """An i1 of the function: whether ``s`` bypasses the cache.  None where it never does."""
    own = [t for p in writer.kernel.phases for t in p.stores if t.param == s.param]
    if len(own) > 1 or writer.kernel.block % writer.lanes:
        return None
    if writer.params[s.param].mode != "out" or s.guard is not None or s.access.stride(writer.lane_axis) != 1:
        return None
    code, env, key = writer.scopes[0].code, writer.scopes[0].env, ("streams", s.access, s.param)
    if key not in env:
        dtype = writer.params[s.param].dtype
        bytes_, places = str(dtype.itemsize), []
        for axis, stride in s.access.terms:
            bytes_ = code.let(f"mul i64 {bytes_}, {writer.size(axis)}")
            if axis != writer.lane_axis:
                places.append(code.let(f"mul i64 {writer.slot(stride)}, {dtype.itemsize}"))
        if s.access.offset != 0:
            places.append(code.let(f"mul i64 {writer.slot(s.access.offset)}, {dtype.itemsize}"))
        off = code.let(f"ptrtoint ptr {writer.word(s.param, 'ptr')} to i64")
        for place in places:
            off = code.let(f"or i64 {off}, {place}")
        aligned = code.let(f"icmp eq i64 {code.let(f'and i64 {off}, {_align(writer, dtype.itemsize) - 1}')}, 0")
        large = code.let(f"icmp sge i64 {bytes_}, {LARGE}")
        env[key] = code.let(f"and i1 {aligned}, {large}")
        writer.streaming.append(env[key])
    return str(env[key])


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
