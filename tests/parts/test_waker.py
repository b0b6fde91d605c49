"""The waker."""

from __future__ import annotations

import select
import signal
import threading

from muxcore.parts.waker import Waker


def awake(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_a_wake_from_another_thread_ends_the_sleep(waker: Waker) -> None:
    assert not awake(waker)
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert select.select([waker], [], [], 10)[0]
    thread.join()
    waker.drain()
    assert not awake(waker)


def test_ten_thousand_wakes_neither_block_nor_outlast_one_drain(waker: Waker) -> None:
    for _ in range(10_000):  # more than the socketpair holds
        waker.wake()
    assert awake(waker)
    waker.drain()
    assert not awake(waker)
    waker.drain()  # of nothing, does not wait


def test_a_wake_after_the_end_is_harmless() -> None:
    waker = Waker()
    waker.close()
    waker.wake()
    waker.close()


def test_a_waker_that_is_closed_leaves_the_wakeup_descriptor_of_others_alone(
    waker: Waker,
) -> None:
    before = signal.set_wakeup_fd(waker.signal_fileno())
    try:
        for lent in (False, True):
            other = Waker()
            if lent:
                other.signal_fileno()
            other.close()
            assert signal.set_wakeup_fd(waker.signal_fileno()) == waker.signal_fileno()
    finally:
        signal.set_wakeup_fd(before)
