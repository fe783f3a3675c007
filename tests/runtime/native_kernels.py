"""Small kernels in LLVM IR that the tests of the runtime launch."""

from __future__ import annotations

from spiraltorch.runtime import cache

_LOOP = """
define void @{name}(ptr %args, i64 %lo, i64 %hi, ptr %scratch) {{
entry:
  %out = load ptr, ptr %args
  %some = icmp slt i64 %lo, %hi
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [%lo, %entry], [%next, %loop]
  %p = getelementptr i64, ptr %out, i64 %i
{body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""

_BODIES = {
    # out[i] += 1
    "test_increment": "  %v = load i64, ptr %p\n  %w = add i64 %v, 1\n  store i64 %w, ptr %p",
    # out[i] += i + 1
    "test_add_index": "  %v = load i64, ptr %p\n  %k = add i64 %i, 1\n  %w = add i64 %v, %k\n  store i64 %w, ptr %p",
    # scratch[0] = i, then out[i] = address of scratch + scratch[0]
    "test_scratch": "  store i64 %i, ptr %scratch\n  %v = load i64, ptr %scratch\n"
    "  %a = ptrtoint ptr %scratch to i64\n  %w = add i64 %a, %v\n  store i64 %w, ptr %p",
}  # fmt: skip

_FAIL = """
define void @test_fail(ptr %args, i64 %lo, i64 %hi) {
  %status = load ptr, ptr %args
  %code.p = getelementptr i64, ptr %args, i64 1
  %code = load i64, ptr %code.p
  store i64 %code, ptr %status
  ret void
}
"""


def text(name: str) -> str:
    return _FAIL if name == "test_fail" else _LOOP.format(name=name, body=_BODIES[name])


def address(name: str) -> int:
    """``test_increment``, ``test_add_index``, ``test_scratch`` (args: out) or ``test_fail`` (args: status, code)."""
    return cache.functions([(name, lambda: text(name))])[name]
