"""Threads that read ahead: while the device scores some pictures, the next ones are read, decoded and resized."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def default_readers() -> int:
    """Decoding takes a processor each, and a little of it is waiting for the disk."""
    return min(16, (os.cpu_count() or 1) + 1)


def read_batches(
    items: Iterable[Item], read: Callable[[Item], Read], most: int, *, waiting: int, workers: int | None = None
) -> Generator[list[Read], None, None]:
    """What `read` makes of each item, in their order, as many at a time as are ready, up to `most`.

    So a slow disk gives small batches and never an idle device. At most `waiting` items are read or being read beside those
    that were given out, however many there are; they are taken from `items` in the caller's thread. What `read` raises
    comes out here and ends the reading.
    """
    source = iter(items)
    futures: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(workers or default_readers(), thread_name_prefix="imagereward-reader")
    try:
        while True:
            futures.extend(pool.submit(read, item) for item in islice(source, waiting - len(futures)))
            if not futures:
                return
            batch = [futures.popleft().result()]
            while futures and len(batch) < most and futures[0].done():
                batch.append(futures.popleft().result())
            yield batch
    finally:
        for future in futures:
            future.cancel()
        pool.shutdown()


def read_in_order(
    items: Iterable[Item], read: Callable[[Item], Read], *, waiting: int, workers: int | None = None
) -> Generator[Read, None, None]:
    """What `read` makes of each item, one after the other; see `read_batches`."""
    with closing(read_batches(items, read, 1, waiting=waiting, workers=workers)) as batches:
        for (one,) in batches:
            yield one
