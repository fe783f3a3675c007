"""DataLoader: batches of a data set, in an order, made ahead by threads if asked.

Worker threads only fetch and collate; results keep their order, so a loader gives the same batches for
any ``num_workers``.  (Kernels, NumPy and file reading let go of Python's lock.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...random import Generator
from ...storage import queue
from .collate import default_collate, default_convert
from .dataset import Batch, IterableDataset, fetch
from .sampler import BatchSampler, RandomSampler, SequentialSampler

if TYPE_CHECKING:
    from concurrent.futures import Future


class DataLoader:
    """Iterates over batches (torch.utils.data.DataLoader).

    ``pin_memory``, ``multiprocessing_context``, ``persistent_workers`` and ``pin_memory_device`` are taken for
    torch's sake.  ``num_workers`` are threads.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing. Let num_workers > 0 to enable it."
            )
        self.stream = isinstance(dataset, IterableDataset)
        if self.stream and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "DataLoader with IterableDataset: expected unspecified shuffle, sampler and batch_sampler options"
            )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        if sampler is None and not self.stream:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        if batch_sampler is None and batch_size is not None and not self.stream:
            assert sampler is not None
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler
        batched = batch_sampler is not None or (self.stream and batch_size is not None)
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._own_collate = collate_fn is not None

    def __len__(self) -> int:
        if self.stream:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self.stream:
            return self._from_stream()
        if self.num_workers == 0:
            return map(self._load, self._numbers())
        return self._from_threads()

    def _numbers(self) -> Iterator[Any]:
        numbers = self.batch_sampler if self.batch_sampler is not None else self.sampler
        assert numbers is not None
        return iter(numbers)

    def _load(self, numbers: Any) -> Any:
        if self.batch_sampler is None:
            return self.collate_fn(self.dataset[numbers])
        samples = fetch(self.dataset, numbers)
        if not isinstance(samples, Batch):
            return self.collate_fn(samples)
        if self._own_collate:
            return self.collate_fn(list(zip(*samples)))
        return list(samples)

    def _from_stream(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn(batch)

    def _from_threads(self) -> Iterator[Any]:
        """Batches in order, with a few under way; a worker's error is raised where its batch would be."""
        from concurrent.futures import ThreadPoolExecutor  # a part of starting that few need

        ready: deque[Future[Any]] = deque()
        numbers = self._numbers()
        started = iter(range(self.num_workers))

        def begin() -> None:
            if self.worker_init_fn is not None:
                self.worker_init_fn(next(started))

        def work(at: Any) -> Any:
            batch = self._load(at)
            queue.flush()  # pending work belongs to the thread that recorded it
            return batch

        pool = ThreadPoolExecutor(self.num_workers, "spiraltorch-loader", begin)
        try:
            for at in islice(numbers, self.num_workers * self.prefetch_factor):
                ready.append(pool.submit(work, at))
            while ready:
                batch = ready.popleft().result(self.timeout or None)
                for at in islice(numbers, 1):
                    ready.append(pool.submit(work, at))
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
