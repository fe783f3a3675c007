"""Loading data, and small helpers (torch.utils)."""

from typing import Any

from . import data

__all__ = ["checkpoint", "data"]


def __getattr__(name: str) -> Any:
    """``st.utils.checkpoint`` is loaded when it is first asked for."""
    if name == "checkpoint":
        import importlib

        return importlib.import_module(".checkpoint", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
