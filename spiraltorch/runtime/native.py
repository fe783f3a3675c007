"""The native half of the runtime, as LLVM IR: the thread pool's fork-join and the plan walker.

``library()`` compiles the text below once (it is cached on disk like any kernel) and returns its
entry points as ctypes functions, which release the GIL while they run:

    pool_init(pool)                       makes the lock of a zeroed pool
    pool_stop(pool)                       tells the workers to return
    worker(pool, index, scratch)          a worker's life; called by a Python thread
    run_plan(plan, first, count, pool, scratch, status) -> instructions done

A plan is a table of instructions, eight int64 words each:

    fn, instances, instance count, total tasks, tasks per chunk, parallel, flags, unused

An instance is two words: its row of arguments, and the number of tasks before it.  A chunk [lo, hi)
of the total calls ``fn(args, lo, hi, scratch)`` for each instance it meets, with lo and hi counted
from the instance's first task.  ``scratch`` is ``SCRATCH_BYTES`` of memory that belongs to the thread;
functions that do not need it leave the parameter out, which every C calling convention allows.  A thread makes
several calls for one launch; the word at ``KEPT`` is 0 before the first, and nothing else writes scratch between them.
With flag bit 0 the walk ends after an instruction that left ``*status`` not 0.  The result is
``~done`` (negative) when ``*status`` is not 0 at the end.

How a region runs.  The tasks are cut into one range a thread.  A thread takes chunks from its own
range and then from the others', so data stays in the cache of the core that saw it last, and a slow
core holds nobody up.  ``state`` is the one word all agree on: epoch << 17 | open << 16 | workers inside.
A worker enters an open region by adding 1 with a compare-and-swap; the caller closes the region
when no chunk is left and waits only for those inside, so a worker that sleeps or that has lost its
core costs nothing.  Workers spin for a bounded time between regions and then sleep.  There is one
region at a time: who finds the pool busy runs its tasks alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .cache import Source

SCRATCH_BYTES = 32 << 20  # address space; only pages that a kernel touches become memory
KEPT = SCRATCH_BYTES - 1024  # where in it a function notes, for its later calls, what it holds; 0 when a launch begins

# Where a pool's words are.  What different threads write lies in different cache lines.
SPIN, THREADS, RANGES = 9, 10, 56
RANGE_WORDS = 8

_WALK = """
; state, stop, spin, threads, busy, sleepers, job, mutex, cond, ranges (next, end)
; job: fn, instances, instance count, total, grain, ranges
%pool = type { i64, [7 x i64], i64, i64, i64, [5 x i64], i64, [7 x i64], i64, [7 x i64], [6 x i64], [2 x i64],
               [8 x i64], [8 x i64], [0 x [8 x i64]] }

; A launch begins: what scratch memory holds, if there is any, is of no use to it.
define internal void @forget(ptr %scratch) {
entry:
  %none = icmp eq ptr %scratch, null
  br i1 %none, label %done, label %clear
clear:
  %kept = getelementptr i8, ptr %scratch, i64 {kept}
  store i64 0, ptr %kept
  br label %done
done:
  ret void
}

; Tasks [lo, hi) of a job, instance by instance.
define internal void @run_span(ptr %fn, ptr %instances, i64 %count, i64 %total, i64 %lo, i64 %hi, ptr %scratch) {
entry:
  br label %search
search:                                        ; the last instance whose first task is <= lo
  %left = phi i64 [0, %entry], [%left2, %search]
  %right = phi i64 [%count, %entry], [%right2, %search]
  %sum = add i64 %left, %right
  %mid = lshr i64 %sum, 1
  %mid.p = getelementptr [2 x i64], ptr %instances, i64 %mid, i64 1
  %mid.first = load i64, ptr %mid.p
  %below = icmp sle i64 %mid.first, %lo
  %left2 = select i1 %below, i64 %mid, i64 %left
  %right2 = select i1 %below, i64 %right, i64 %mid
  %width = sub i64 %right2, %left2
  %more = icmp sgt i64 %width, 1
  br i1 %more, label %search, label %walk
walk:
  %i = phi i64 [%left2, %search], [%i2, %next]
  %args.p = getelementptr [2 x i64], ptr %instances, i64 %i
  %args = load ptr, ptr %args.p
  %first.p = getelementptr [2 x i64], ptr %instances, i64 %i, i64 1
  %first = load i64, ptr %first.p
  %i2 = add i64 %i, 1
  %is_last = icmp sge i64 %i2, %count
  br i1 %is_last, label %last, label %inner
inner:
  %end.p = getelementptr [2 x i64], ptr %instances, i64 %i2, i64 1
  %inner.end = load i64, ptr %end.p
  br label %bounds
last:
  br label %bounds
bounds:
  %end = phi i64 [%inner.end, %inner], [%total, %last]
  %from = call i64 @llvm.smax.i64(i64 %lo, i64 %first)
  %to = call i64 @llvm.smin.i64(i64 %hi, i64 %end)
  %any = icmp slt i64 %from, %to
  br i1 %any, label %call, label %next
call:
  %from.local = sub i64 %from, %first
  %to.local = sub i64 %to, %first
  call void %fn(ptr %args, i64 %from.local, i64 %to.local, ptr %scratch)
  br label %next
next:
  %covered = icmp sge i64 %end, %hi
  %over = or i1 %covered, %is_last
  br i1 %over, label %done, label %walk
done:
  ret void
}

define i64 @st_run_plan(ptr %plan, i64 %first, i64 %count, ptr %pool, ptr %scratch, ptr %status) {
entry:
  %stop.at = add i64 %first, %count
  %no.pool = icmp eq ptr %pool, null
  %busy.p = getelementptr %pool, ptr %pool, i64 0, i32 6
  br label %loop
loop:
  %i = phi i64 [%first, %entry], [%i2, %next]
  %in = icmp slt i64 %i, %stop.at
  br i1 %in, label %row, label %done
row:
  %i2 = add i64 %i, 1
  %row.p = getelementptr [8 x i64], ptr %plan, i64 %i
  %total.p = getelementptr i64, ptr %row.p, i64 3
  %total = load i64, ptr %total.p
  %empty = icmp sle i64 %total, 0
  br i1 %empty, label %after, label %mode
mode:
  %grain.p = getelementptr i64, ptr %row.p, i64 4
  %grain = load i64, ptr %grain.p
  %parallel.p = getelementptr i64, ptr %row.p, i64 5
  %parallel = load i64, ptr %parallel.p
  %grain.less = sub i64 %grain, 1
  %up = add i64 %total, %grain.less
  %chunks = udiv i64 %up, %grain
  %single = icmp sle i64 %chunks, 1
  %not.parallel = icmp eq i64 %parallel, 0
  %alone0 = or i1 %single, %not.parallel
  %alone = or i1 %alone0, %no.pool
  br i1 %alone, label %serial, label %claim
claim:
  %swap = cmpxchg ptr %busy.p, i64 0, i64 1 acquire monotonic
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %region, label %serial
region:
  call void @run_region(ptr %pool, ptr %row.p, i64 %chunks, ptr %scratch)
  store atomic i64 0, ptr %busy.p release, align 8
  br label %after
serial:
  %fn = load ptr, ptr %row.p
  %instances.p = getelementptr i64, ptr %row.p, i64 1
  %instances = load ptr, ptr %instances.p
  %n.p = getelementptr i64, ptr %row.p, i64 2
  %n = load i64, ptr %n.p
  call void @forget(ptr %scratch)
  call void @run_span(ptr %fn, ptr %instances, i64 %n, i64 %total, i64 0, i64 %total, ptr %scratch)
  br label %after
after:
  %flags.p = getelementptr i64, ptr %row.p, i64 6
  %flags = load i64, ptr %flags.p
  %stops.bit = and i64 %flags, 1
  %stops = icmp ne i64 %stops.bit, 0
  %code = load i64, ptr %status
  %failed = icmp ne i64 %code, 0
  %end = and i1 %stops, %failed
  br i1 %end, label %done, label %next
next:
  br label %loop
done:
  %at = phi i64 [%i, %loop], [%i2, %after]
  %ran = sub i64 %at, %first
  %last.code = load i64, ptr %status
  %bad = icmp ne i64 %last.code, 0
  %flipped = xor i64 %ran, -1
  %result = select i1 %bad, i64 %flipped, i64 %ran
  ret i64 %result
}
"""

_POOL = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()

define void @st_pool_init(ptr %pool) {
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 12
  %cond = getelementptr %pool, ptr %pool, i64 0, i32 13
  call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  call i32 @pthread_cond_init(ptr %cond, ptr null)
  ret void
}

define internal void @wake(ptr %pool) {
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 12
  %cond = getelementptr %pool, ptr %pool, i64 0, i32 13
  call i32 @pthread_mutex_lock(ptr %mutex)
  call i32 @pthread_mutex_unlock(ptr %mutex)
  call i32 @pthread_cond_broadcast(ptr %cond)
  ret void
}

define void @st_pool_stop(ptr %pool) {
  %stop = getelementptr %pool, ptr %pool, i64 0, i32 2
  store atomic i64 1, ptr %stop seq_cst, align 8
  call void @wake(ptr %pool)
  ret void
}

; Chunks of the open region: first those of range `self`, then what others have left.
define internal void @run_chunks(ptr %pool, i64 %self, ptr %scratch) {
entry:
  %job = getelementptr %pool, ptr %pool, i64 0, i32 10
  %fn = load ptr, ptr %job
  %instances.p = getelementptr i64, ptr %job, i64 1
  %instances = load ptr, ptr %instances.p
  %count.p = getelementptr i64, ptr %job, i64 2
  %count = load i64, ptr %count.p
  %total.p = getelementptr i64, ptr %job, i64 3
  %total = load i64, ptr %total.p
  %grain.p = getelementptr i64, ptr %job, i64 4
  %grain = load i64, ptr %grain.p
  %ranges.p = getelementptr i64, ptr %job, i64 5
  %ranges = load i64, ptr %ranges.p
  call void @forget(ptr %scratch)
  br label %range
range:
  %j = phi i64 [0, %entry], [%j2, %exhausted]
  %turn = add i64 %self, %j
  %r = urem i64 %turn, %ranges
  %next.p = getelementptr %pool, ptr %pool, i64 0, i32 14, i64 %r
  %end.p = getelementptr i64, ptr %next.p, i64 1
  %end = load i64, ptr %end.p
  br label %peek
peek:
  %seen = load atomic i64, ptr %next.p monotonic, align 8
  %left = icmp slt i64 %seen, %end
  br i1 %left, label %take, label %exhausted
take:
  %lo = atomicrmw add ptr %next.p, i64 %grain monotonic
  %mine = icmp slt i64 %lo, %end
  br i1 %mine, label %run, label %exhausted
run:
  %to = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %to, i64 %end)
  call void @run_span(ptr %fn, ptr %instances, i64 %count, i64 %total, i64 %lo, i64 %hi, ptr %scratch)
  br label %peek
exhausted:
  %j2 = add i64 %j, 1
  %more = icmp slt i64 %j2, %ranges
  br i1 %more, label %range, label %done
done:
  ret void
}

define void @st_worker(ptr %pool, i64 %index, ptr %scratch) {
entry:
  %stop.p = getelementptr %pool, ptr %pool, i64 0, i32 2
  %spin.p = getelementptr %pool, ptr %pool, i64 0, i32 3
  %sleepers.p = getelementptr %pool, ptr %pool, i64 0, i32 8
  %ranges.p = getelementptr %pool, ptr %pool, i64 0, i32 10, i64 5
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 12
  %cond = getelementptr %pool, ptr %pool, i64 0, i32 13
  %spin.limit = load i64, ptr %spin.p
  br label %idle
idle:                                          ; %last is the epoch this worker has dealt with
  %last = phi i64 [0, %entry], [%epoch, %enter], [%epoch, %work], [%last, %sleep.over]
  %start = phi i64 [0, %entry], [0, %enter], [0, %work], [1000, %sleep.over]
  br label %spin
spin:
  %spins = phi i64 [%start, %idle], [%spins2, %pause], [%spins2, %yield]
  %stop = load atomic i64, ptr %stop.p monotonic, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %done, label %look
look:
  %state = load atomic i64, ptr %pool acquire, align 8
  %epoch = lshr i64 %state, 17
  %new = icmp ne i64 %epoch, %last
  %open.bit = and i64 %state, 65536
  %open = icmp ne i64 %open.bit, 0
  %go = and i1 %new, %open
  br i1 %go, label %enter, label %wait
wait:
  %spins2 = add i64 %spins, 1
  %tired = icmp sge i64 %spins2, %spin.limit
  br i1 %tired, label %sleep, label %fresh
fresh:                                         ; after 1000 pauses let others have this core now and then
  %quiet = and i64 %spins2, 15
  %turn = icmp eq i64 %quiet, 0
  %long = icmp sge i64 %spins2, 1000
  %polite = and i1 %turn, %long
  {pause}
  br i1 %polite, label %yield, label %pause
yield:
  call i32 @sched_yield()
  br label %spin
pause:
  br label %spin
enter:
  %ranges = load atomic i64, ptr %ranges.p monotonic, align 8
  %wanted = icmp slt i64 %index, %ranges
  br i1 %wanted, label %join, label %idle
join:
  %joined = add i64 %state, 1
  %swap = cmpxchg ptr %pool, i64 %state, i64 %joined acq_rel monotonic
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %work, label %look
work:
  call void @run_chunks(ptr %pool, i64 %index, ptr %scratch)
  atomicrmw sub ptr %pool, i64 1 release
  br label %idle
sleep:
  call i32 @pthread_mutex_lock(ptr %mutex)
  atomicrmw add ptr %sleepers.p, i64 1 seq_cst
  %s.stop = load atomic i64, ptr %stop.p seq_cst, align 8
  %s.stopped = icmp ne i64 %s.stop, 0
  %s.state = load atomic i64, ptr %pool seq_cst, align 8
  %s.epoch = lshr i64 %s.state, 17
  %s.new = icmp ne i64 %s.epoch, %last
  %s.bit = and i64 %s.state, 65536
  %s.open = icmp ne i64 %s.bit, 0
  %s.go = and i1 %s.new, %s.open
  %s.up = or i1 %s.stopped, %s.go
  br i1 %s.up, label %sleep.over, label %doze
doze:                                          ; who wakes too late for this region spins for the next
  call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %sleep.over
sleep.over:
  atomicrmw sub ptr %sleepers.p, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %idle
done:
  ret void
}

; One parallel region; the caller holds `busy`.
define internal void @run_region(ptr %pool, ptr %row, i64 %chunks, ptr %scratch) {
entry:
  %threads.p = getelementptr %pool, ptr %pool, i64 0, i32 4
  %threads = load i64, ptr %threads.p
  %ranges = call i64 @llvm.smin.i64(i64 %threads, i64 %chunks)
  %job = getelementptr %pool, ptr %pool, i64 0, i32 10
  call void @llvm.memcpy.p0.p0.i64(ptr %job, ptr %row, i64 40, i1 false)
  %ranges.p = getelementptr i64, ptr %job, i64 5
  store atomic i64 %ranges, ptr %ranges.p monotonic, align 8
  %total.p = getelementptr i64, ptr %row, i64 3
  %total = load i64, ptr %total.p
  %grain.p = getelementptr i64, ptr %row, i64 4
  %grain = load i64, ptr %grain.p
  br label %cut
cut:                                           ; range r is chunks [r * chunks / ranges, ...)
  %r = phi i64 [0, %entry], [%r2, %cut]
  %start.chunk = phi i64 [0, %entry], [%end.chunk, %cut]
  %r2 = add i64 %r, 1
  %scaled = mul i64 %r2, %chunks
  %end.chunk = udiv i64 %scaled, %ranges
  %start = mul i64 %start.chunk, %grain
  %end.full = mul i64 %end.chunk, %grain
  %end = call i64 @llvm.smin.i64(i64 %end.full, i64 %total)
  %next.p = getelementptr %pool, ptr %pool, i64 0, i32 14, i64 %r
  %end.p = getelementptr i64, ptr %next.p, i64 1
  store atomic i64 %start, ptr %next.p monotonic, align 8
  store i64 %end, ptr %end.p
  %more = icmp slt i64 %r2, %ranges
  br i1 %more, label %cut, label %open
open:
  %old = load atomic i64, ptr %pool monotonic, align 8
  %state = add i64 %old, 196608                ; the next epoch (1 << 17), open (1 << 16), nobody inside
  atomicrmw xchg ptr %pool, i64 %state seq_cst
  %sleepers.p = getelementptr %pool, ptr %pool, i64 0, i32 8
  %sleepers = load atomic i64, ptr %sleepers.p seq_cst, align 8
  %asleep = icmp ne i64 %sleepers, 0
  br i1 %asleep, label %call.them, label %work
call.them:
  call void @wake(ptr %pool)
  br label %work
work:
  call void @run_chunks(ptr %pool, i64 0, ptr %scratch)
  %before = atomicrmw and ptr %pool, i64 -65537 acq_rel
  br label %join
join:
  %waits = phi i64 [0, %work], [%waits2, %again]
  %now = load atomic i64, ptr %pool acquire, align 8
  %inside = and i64 %now, 65535
  %busy = icmp ne i64 %inside, 0
  br i1 %busy, label %wait, label %done
wait:
  %waits2 = add i64 %waits, 1
  %long = icmp sgt i64 %waits2, 2000
  br i1 %long, label %yield, label %pause
yield:                                         ; whoever is inside may need this core
  call i32 @sched_yield()
  br label %again
pause:
  {pause}
  br label %again
again:
  br label %join
done:
  ret void
}
"""

# Where there are no POSIX threads a plan's pool is always null, so this is never called.
_NO_POOL = """
define internal void @run_region(ptr %pool, ptr %row, i64 %chunks, ptr %scratch) {
  ret void
}
"""

_PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
    "arm64": "call void @llvm.aarch64.hint(i32 1)",
}
_PTHREAD = (
    "pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock "
    "pthread_cond_init pthread_cond_wait pthread_cond_broadcast sched_yield"
).split()


class Library(NamedTuple):
    """The entry points; those of the pool are None where the system has no POSIX threads."""

    run_plan: Any
    worker: Any = None
    pool_init: Any = None
    pool_stop: Any = None


def has_threads() -> bool:
    """Whether the process has the functions that the pool is built on."""
    if os.name != "posix":
        return False
    process = ctypes.CDLL(None)
    return all(hasattr(process, name) for name in _PTHREAD)


def text(arch: str, threads: bool) -> str:
    """The module as LLVM IR for a CPU family ('x86_64', 'aarch64', ...)."""
    found = _WALK + (_POOL if threads else _NO_POOL)
    return found.replace("{pause}", _PAUSE.get(arch, "")).replace("{kept}", str(KEPT))


@cache
def source() -> Source:
    """The module for this machine."""
    from .cache import Source

    threads = has_threads()
    found = text(platform.machine().lower().replace("amd64", "x86_64"), threads)
    names = ["st_run_plan"] + ["st_worker", "st_pool_init", "st_pool_stop"] * threads
    return Source("native" + hashlib.blake2b(found.encode(), digest_size=10).hexdigest(), names, lambda: found)


@cache
def library() -> Library:
    """The entry points, compiled or read from the cache when first asked for."""
    from . import cache as objects

    threads = has_threads()
    at = objects.load(*source())
    p, i = ctypes.c_void_p, ctypes.c_int64
    run_plan = ctypes.CFUNCTYPE(i, p, i, i, p, p, p)(at["st_run_plan"])
    if not threads:
        return Library(run_plan)
    return Library(
        run_plan,
        ctypes.CFUNCTYPE(None, p, i, p)(at["st_worker"]),
        ctypes.CFUNCTYPE(None, p)(at["st_pool_init"]),
        ctypes.CFUNCTYPE(None, p)(at["st_pool_stop"]),
    )


@cache
def run_plan_address() -> int:
    """Where the walk over a plan begins."""
    found: int = ctypes.cast(library().run_plan, ctypes.c_void_p).value or 0
    return found
