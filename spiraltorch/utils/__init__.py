"""Loading data, and small helpers (torch.utils)."""

from . import data

__all__ = ["data"]
