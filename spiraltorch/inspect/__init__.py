"""Look inside: what a program consists of (:mod:`.show`), what it costs and why (:mod:`.explain`), how long
each launch takes (:mod:`.profiler`)."""

from .explain import Explanation, explain
from .profiler import Profile, profile
from .show import Inspection, dump, source

__all__ = ["Explanation", "Inspection", "Profile", "dump", "explain", "profile", "source"]
