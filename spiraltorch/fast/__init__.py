"""What eager mode does for every operation and every look at a value, in C where that was built.

In: functions, graphs and programs of the modules above, which say what each means.  Out: the same, sooner.

    record.c    calls of operators, for dispatch.py and short.py
    walk.c      the key of a graph, for jit/eager.py
    look.c      a look at pending values whose program is compiled, for storage.py and jit/eager.py
    run.c       a run of a program, for jit/program.py

``ST_EXTENSION=0`` does without, and so does a package that was built where no C compiler is: nothing but time differs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

try:
    if os.environ.get("ST_EXTENSION", "1") == "0":
        raise ImportError
    from . import _fast  # type: ignore[attr-defined]
except ImportError:
    _fast = None

#: (key, ids of the roots, nodes in order, leaves, numbers, their types) of a list of roots and where they are computed, or
#: None when a leaf is elsewhere
walk: Callable[[list[Any], Any], Any] | None = _fast and _fast.walk
#: True when the cells have their values now; False when that is not for C; (program, launches done, status) after a failure
look: Callable[[list[Any]], Any] | None = _fast and _fast.look
#: the cells behind weak references that are alive and have no value yet, each once, in order
pending: Callable[[list[Any]], list[Any]] | None = _fast and _fast.pending
#: a program's run, see run.c
Runner: Callable[..., Any] | None = _fast and _fast.Runner


def connect(**names: Any) -> None:
    """Tell the C module which classes and objects of the modules above it works on."""
    if _fast is not None:
        _fast.setup(**names)


def recorder(python: Callable[..., Any], name: str | None, **form: Any) -> Callable[..., Any]:
    """``python`` behind the C module.  ``name``: of an operator whose calls are remembered.  ``form``: of the scalar row that
    it records, see short.py."""
    return python if _fast is None else _fast.Recorder(python, name, **form)  # type: ignore[no-any-return]
