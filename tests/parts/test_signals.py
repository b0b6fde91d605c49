"""The stop signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import Any

import pytest

from muxcore.parts.signals import StopSignals
from muxcore.parts.waker import Waker


class Asked:
    """A loop's stop and abort, which only note that they were called."""

    def __init__(self, waker: Waker) -> None:
        self.heard: list[str] = []
        self.signals = StopSignals(
            waker.signal_fileno(),
            lambda: self.heard.append("stop"),
            lambda: self.heard.append("abort"),
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_a_stop_and_wakes_the_loop_and_a_second_one_aborts(
    waker: Waker, number: signal.Signals
) -> None:
    asked = Asked(waker)
    with asked.signals:
        signal.raise_signal(number)
        assert asked.heard == ["stop"]
        assert select.select([waker], [], [], 0)[0]
        signal.raise_signal(signal.SIGTERM)
    assert asked.heard == ["stop", "abort"]
    assert asked.signals.received == [number, signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_third_signal_does_what_it_does_without_us(waker: Waker, number: signal.Signals) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException), Asked(waker).signals:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(number)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -number


def test_a_signal_to_a_forked_child_does_what_it_did_before_and_asks_nothing(
    waker: Waker,
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Asked(waker).signals:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_waker_that_is_closed_first_gets_no_signal_any_more(
    capfd: pytest.CaptureFixture[str],
) -> None:
    waker = Waker()
    with Asked(waker).signals:
        waker.close()
        signal.raise_signal(signal.SIGINT)
    assert "Exception ignored" not in capfd.readouterr().err


def test_a_wakeup_descriptor_that_was_closed_meanwhile_is_not_put_back(waker: Waker) -> None:
    gone = Waker()
    before = signal.set_wakeup_fd(gone.signal_fileno())
    try:
        with Asked(waker).signals:
            gone._writer.close()
    finally:
        assert signal.set_wakeup_fd(before) in (-1, waker.signal_fileno())


def test_handlers_and_wakeup_descriptor_of_before_are_put_back(waker: Waker) -> None:
    def mine(number: int, frame: Any) -> None: ...

    with contextlib.closing(Waker()) as other:
        fd_before = signal.set_wakeup_fd(other.signal_fileno())
        before = {n: signal.signal(n, mine) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            with contextlib.suppress(LookupError), Asked(waker).signals:
                assert signal.getsignal(signal.SIGINT) is not mine
                raise LookupError
            assert signal.getsignal(signal.SIGINT) is mine
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.set_wakeup_fd(fd_before) == other.signal_fileno()
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)


def test_outside_the_main_thread_nothing_is_touched(waker: Waker) -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[Any] = []

    def elsewhere() -> None:
        with Asked(waker).signals:
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before]
