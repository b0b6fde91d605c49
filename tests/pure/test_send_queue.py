"""What waits to be sent: in order, and in about as much memory as it has bytes."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from muxcore.pure.send_queue import SendQueue


def _taken(queue: SendQueue, most: int) -> bytes:
    """Let a kernel take so many bytes, at the most, of what one call offers."""
    taken = b"".join(bytes(part) for part in queue.parts())[:most]
    queue.drop(len(taken))
    return taken


def test_bytes_leave_in_the_order_in_which_they_came_whatever_the_kernel_takes() -> None:
    rng = random.Random(7)
    for _ in range(30):
        queue, expected, got = SendQueue(), bytearray(), bytearray()
        for _ in range(200):
            data = rng.randbytes(rng.choice([1, 20, 4095, 4096, 70_000]))
            kind: Any = rng.choice([bytes, bytearray, memoryview])
            start = rng.choice([0, 0, len(data) // 2])
            queue.add(kind(data), start)
            expected += data[start:]
            if rng.random() < 0.5:
                got += _taken(queue, rng.choice([1, 1000, 65_536, 1 << 20]))
            assert queue.size == len(expected) - len(got)
        while queue.size:
            got += _taken(queue, 100_000)
        assert got == expected


@pytest.mark.parametrize("size", [1, 20, 1000, 5000, 100_000])
def test_a_queued_write_takes_about_its_size_in_memory(size: int) -> None:
    queue, data = SendQueue(), [bytes(size) for _ in range(min(2_000_000 // size, 200_000))]
    tracemalloc.start()
    try:
        for each in data:
            queue.add(bytes(memoryview(each)), 0)  # a copy, as what an application writes is
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * queue.size  # a bytearray that grows takes an eighth more


def test_large_bytes_are_shared_and_what_may_change_is_copied() -> None:
    queue = SendQueue()
    shared, changing = bytes(10_000), bytearray(10_000)
    queue.add(shared, 0)
    queue.add(changing, 0)
    changing[0] = 1
    first, second = queue.parts()
    assert isinstance(first, memoryview)
    assert first.obj is shared
    assert bytes(second) == bytes(10_000)


def test_a_tail_grows_while_its_head_is_being_sent() -> None:
    queue = SendQueue()
    queue.add(b"abcdef", 0)
    assert _taken(queue, 2) == b"ab"
    queue.add(b"ghi", 0)
    assert len(queue.parts()) == 1
    assert _taken(queue, 100) == b"cdefghi"
    assert queue.size == 0


def test_one_call_is_offered_a_bounded_number_of_buffers() -> None:
    queue = SendQueue()
    for _ in range(200):
        queue.add(bytes(5000), 0)
    assert len(queue.parts()) == 64


def test_a_queue_that_was_cleared_can_be_filled_again() -> None:
    queue = SendQueue()
    queue.add(b"lost", 0)
    queue.clear()
    assert (queue.size, queue.parts()) == (0, [])
    queue.add(b"kept", 0)
    assert _taken(queue, 100) == b"kept"
