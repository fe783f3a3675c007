"""Data sets, samplers and loaders (torch.utils.data).

>>> import spiraltorch as st
>>> from spiraltorch.utils.data import DataLoader, TensorDataset
>>> data = TensorDataset(st.arange(5), st.arange(5) * 10)
>>> [b.tolist() for _, b in DataLoader(data, batch_size=2)]
[[0, 10], [20, 30], [40]]
"""

from .collate import default_collate, default_convert
from .dataset import ConcatDataset, Dataset, IterableDataset, StackDataset, Subset, TensorDataset, random_split
from .loader import DataLoader
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler", "ConcatDataset", "DataLoader", "Dataset", "IterableDataset", "RandomSampler", "Sampler",
    "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler",
    "default_collate", "default_convert", "random_split",
]  # fmt: skip
