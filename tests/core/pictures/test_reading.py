from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest
from sd_imagereward.core.pictures.reading import read_batches, read_in_order


def test_items_come_in_their_order_in_batches() -> None:
    batches = list(read_batches(range(50), lambda item: item * item, 4, waiting=8, workers=3))
    assert [one for batch in batches for one in batch] == [item * item for item in range(50)]
    assert all(1 <= len(batch) <= 4 for batch in batches)
    assert list(read_in_order([], str, waiting=4)) == []


def test_no_more_is_read_ahead_than_may_wait() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    reading = read_in_order(items(), str, waiting=5, workers=2)
    assert list(islice(reading, 10)) == [str(item) for item in range(10)]
    assert len(taken) <= 10 + 5
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagereward-reader")]


def test_an_error_comes_out_and_ends_the_threads() -> None:
    def read(item: int) -> int:
        if item == 3:
            raise ValueError("the fourth")
        return item

    with pytest.raises(ValueError, match="the fourth"):
        list(read_in_order(range(9), read, waiting=4))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagereward-reader")]
