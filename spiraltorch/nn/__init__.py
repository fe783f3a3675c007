"""Layers, losses, containers and how they start (torch.nn).

>>> import spiraltorch as st
>>> st.nn.Sequential(st.nn.Linear(4, 3), st.nn.ReLU())
Sequential(
  (0): Linear(in_features=4, out_features=3, bias=True)
  (1): ReLU()
)
"""

from . import functional, init, modules, utils
from .modules import *
from .parameter import Parameter

__all__ = ["Parameter", "functional", "init", "modules", "utils"]
__all__ += modules.__all__
