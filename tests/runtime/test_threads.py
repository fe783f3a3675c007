"""The pool and the plan walker: every task runs once, whatever the threads, forks and callers do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from native_kernels import address

from spiraltorch.dtypes import bfloat16, bool_, float32, float64, int8
from spiraltorch.runtime import cache, native, threads
from spiraltorch.runtime.plan_table import STATUS, Launch, Plan, scalar_word


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def _pointer(a: np.ndarray) -> int:
    return int(a.ctypes.data)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("parallel", [False, True])
def test_every_task_runs_once(count: int, parallel: bool) -> None:
    threads.set_num_threads(count)
    for tasks in (0, 1, 2, 5, 64, 1000):
        for grain in (1, 3, 64, 5000):
            out = np.zeros(1002, np.int64)
            plan = Plan([Launch(address("test_add_index"), [(_pointer(out) + 8,)], [tasks], grain, parallel)])
            assert plan.run() == (1, 0)
            np.testing.assert_array_equal(out[1 : 1 + tasks], np.arange(1, tasks + 1))
            assert out[0] == 0 and not out[1 + tasks :].any()


@pytest.mark.parametrize("count", [1, 4])
def test_instances_of_different_sizes(count: int) -> None:
    threads.set_num_threads(count)
    sizes = [0, 3, 0, 0, 17, 1, 128, 0]
    for grain in (1, 4, 1000):
        outs = [np.zeros(max(1, n), np.int64) for n in sizes]
        plan = Plan([Launch(address("test_add_index"), [(_pointer(o),) for o in outs], sizes, grain, True)])
        plan.run()
        for out, n in zip(outs, sizes):
            np.testing.assert_array_equal(out[:n], np.arange(1, n + 1))


def test_instructions_run_in_order_and_in_parts() -> None:
    threads.set_num_threads(2)
    a, b = np.zeros(100, np.int64), np.zeros(100, np.int64)
    step = [Launch(address("test_increment"), [(_pointer(x),)], [100], 7, True) for x in (a, b, a)]
    plan = Plan(step)
    assert plan.run(first=1, count=1) == (1, 0)
    assert not a.any() and (b == 1).all()
    assert plan.run() == (3, 0)
    assert (a == 2).all() and (b == 2).all()


def test_status_stops_the_plan_and_is_reset() -> None:
    out = np.zeros(4, np.int64)
    fail = address("test_fail")
    launches = [
        Launch(fail, [(STATUS, 0)], [1], stop_on_status=True),
        Launch(fail, [(STATUS, 5)], [1]),
        Launch(fail, [(STATUS, 6)], [1], stop_on_status=True),
        Launch(address("test_increment"), [(_pointer(out),)], [4]),
    ]
    plan = Plan(launches)
    for _ in range(2):
        assert plan.run() == (3, 6)
    assert not out.any()
    assert plan.run(first=3) == (1, 0)
    assert plan.run(first=1, count=1) == (1, 5)


def test_patch_lasts_and_run_values_do_not_need_to() -> None:
    a, b = np.zeros(4, np.int64), np.zeros(4, np.int64)
    plan = Plan([Launch(address("test_increment"), [(_pointer(a),)], [4])])
    where = [plan.position(0, 0)]
    plan.patch(where, [_pointer(b)])
    plan.run()
    assert not a.any() and (b == 1).all()
    plan.run(where, [_pointer(a)])
    assert (a == 1).all()


def test_rows_and_tasks_must_match() -> None:
    with pytest.raises(ValueError, match="launch 0 has 1 rows of arguments but 2 task counts"):
        Plan([Launch(1, [(0,)], [1, 2])])


def test_scratch_is_private_and_aligned() -> None:
    threads.set_num_threads(4)
    out = np.zeros(400, np.int64)
    plan = Plan([Launch(address("test_scratch"), [(_pointer(out),)], [400], 1, True, scratch=True)])
    for _ in range(20):
        plan.run()
        areas = set((out - np.arange(400)).tolist())
        assert 1 <= len(areas) <= 4
        assert all(a and a % 64 == 0 for a in areas)


@pytest.mark.parametrize("count", [2, 4])
def test_many_python_threads_share_a_plan(count: int) -> None:
    threads.set_num_threads(count)
    rounds = 200
    outs = [np.zeros(300, np.int64) for _ in range(8)]
    shared = Plan([Launch(address("test_increment"), [(_pointer(outs[0]),)], [300], 10, True)] * 3)
    where = [shared.position(k, 0) for k in range(3)]

    def work(out: np.ndarray) -> None:
        for _ in range(rounds):
            shared.run(where, [_pointer(out)] * 3)

    workers = [threading.Thread(target=work, args=(o,)) for o in outs]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
        assert not w.is_alive()
    for out in outs:
        assert (out == 3 * rounds).all()


def test_pool_survives_changes_of_size_under_load() -> None:
    out = np.zeros(256, np.int64)
    plan = Plan([Launch(address("test_increment"), [(_pointer(out),)], [256], 4, True)])
    stop = threading.Event()

    def resize() -> None:
        n = 1
        while not stop.is_set():
            threads.set_num_threads(n % 4 + 1)
            n += 1

    other = threading.Thread(target=resize)
    other.start()
    for _ in range(500):
        plan.run()
    stop.set()
    other.join(60)
    assert not other.is_alive()
    assert (out == 500).all()


def test_more_threads_than_cores_do_not_collapse() -> None:
    threads.set_num_threads(2 * threads.available_cpus())
    out = np.zeros(64, np.int64)
    plan = Plan([Launch(address("test_increment"), [(_pointer(out),)], [64], 4, True)] * 100)
    plan.run()
    start = time.perf_counter()
    for _ in range(100):
        plan.run()
    # 10 000 regions: 10 ms here.  Workers that wait for a core would need a time slice each.
    assert time.perf_counter() - start < 5
    assert (out == 101 * 100).all()


def test_workers_sleep_and_wake() -> None:
    threads.set_num_threads(3)
    out = np.zeros(64, np.int64)
    plan = Plan([Launch(address("test_increment"), [(_pointer(out),)], [64], 1, True)])
    for k in range(20):
        plan.run()
        time.sleep(0.01 if k % 2 else 0)
    assert (out == 20).all()
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1, "idle workers must not burn a core"


def test_nested_regions_run_alone() -> None:
    threads.set_num_threads(2)
    out = np.zeros(8 * 50, np.int64)
    inner = Plan([Launch(address("test_increment"), [(_pointer(out),)], [50], 5, True)])
    where = [inner.position(0, 0)]

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def outer(args: int, lo: int, hi: int) -> None:
        for k in range(lo, hi):
            inner.run(where, [_pointer(out) + 8 * 50 * k])

    fn = ctypes.cast(outer, ctypes.c_void_p).value
    assert fn is not None
    for _ in range(20):
        Plan([Launch(fn, [(0,)], [8], 1, True)]).run()
    assert (out == 20).all()


def test_a_forked_child_has_its_own_pool() -> None:
    threads.set_num_threads(3)
    out = np.zeros(500, np.int64)
    plan = Plan([Launch(address("test_scratch"), [(_pointer(out),)], [500], 3, True, scratch=True)])
    plan.run()
    for busy in (False, True):
        running = threading.Event()

        def load(running: threading.Event = running) -> None:
            other = np.zeros(500, np.int64)
            mine = Plan([Launch(address("test_increment"), [(_pointer(other),)], [500], 3, True)] * 50)
            while not running.is_set():
                mine.run()

        background = [threading.Thread(target=load) for _ in range(2 * busy)]
        for b in background:
            b.start()
        children = []
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    out[:] = 0
                    done = plan.run()
                    alive = sum(t.name.startswith("spiraltorch") for t in threading.enumerate())
                    code = 0 if done == (1, 0) and out.all() and alive == 2 else 2
                finally:
                    os._exit(code)
            children.append(pid)
        for pid in children:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        running.set()
        for b in background:
            b.join(60)
    assert plan.run() == (1, 0)


_SCRIPT = """
import os, signal, sys, threading
import numpy as np
from spiraltorch.runtime import threads
from spiraltorch.runtime.plan_table import Launch, Plan
sys.path.insert(0, {folder!r})
from native_kernels import address
out = np.zeros(1000, np.int64)
plan = Plan([Launch(address("test_increment"), [(out.ctypes.data,)], [1000], 10, True)] * 10)
plan.run()
{rest}
"""


def _python(rest: str, **environment: str) -> str:
    script = _SCRIPT.format(folder=os.path.dirname(__file__), rest=rest)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_exit_is_clean_while_threads_run_plans() -> None:
    rest = """
def forever():
    while True:
        plan.run()
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
plan.run()
print("end")
"""
    assert _python(rest, ST_NUM_THREADS="4") == "end"


def test_interrupt_after_a_run() -> None:
    rest = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without
try:
    while True:
        plan.run()
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted", (out == out[0]).all())
plan.run()
"""
    assert _python(rest, ST_NUM_THREADS="4") == "interrupted True"


def test_number_of_threads_from_the_environment() -> None:
    assert _python("print(threads.get_num_threads())", ST_NUM_THREADS="3") == "3"
    assert _python("print(threads.get_num_threads())", ST_NUM_THREADS="") == str(threads.available_cpus())


@pytest.mark.parametrize("n", [0, -1, 5000])
def test_number_of_threads_is_checked(n: int) -> None:
    with pytest.raises(ValueError, match=f"expects 1 to 4096 threads, got {n}"):
        threads.set_num_threads(n)


def test_plan_walker_without_posix_threads() -> None:
    source = native.text("riscv64", False).replace("st_run_plan", "test_lone_plan")
    at = cache.load("test_lone_plan", ["test_lone_plan"], lambda: source)["test_lone_plan"]
    p, i = ctypes.c_void_p, ctypes.c_int64
    out = np.zeros(10, np.int64)
    args, rows = np.array([_pointer(out)]), np.zeros(8, np.int64)
    instance = np.array([_pointer(args), 0])
    rows[:6] = address("test_increment"), _pointer(instance), 1, 10, 1, 1
    status = np.zeros(1, np.int64)
    assert ctypes.CFUNCTYPE(i, p, i, i, p, p, p)(at)(_pointer(rows), 0, 1, 0, 0, _pointer(status)) == 1
    assert (out == 1).all()


def test_scalar_words() -> None:
    assert scalar_word(1.5, float32) == 0x3FC00000
    assert scalar_word(-1, int8) == 0xFF
    assert scalar_word(True, bool_) == 1
    assert scalar_word(1.0, bfloat16) == 0x3F80
    assert np.int64(scalar_word(-2.5, float64)).view(np.float64) == -2.5
