"""The signals of a server."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import Any

import pytest

from muxcore.parts.signals import ServerSignals, leave_to_parent
from muxcore.parts.waker import Waker

_OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Asked:
    """What signals ask for, which only notes that it was asked."""

    def __init__(self, waker: Waker) -> None:
        self.heard: list[str] = []
        self.signals = ServerSignals(
            waker.signal_fileno(),
            lambda number: self.heard.append(f"end by {number.name}"),
            lambda: self.heard.append("abort"),
            dict.fromkeys(_OTHERS, self._note),
        )

    def _note(self, number: signal.Signals) -> None:
        self.heard.append(number.name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_an_end_and_wakes_the_loop_and_a_second_one_aborts(
    waker: Waker, number: signal.Signals
) -> None:
    asked = Asked(waker)
    with asked.signals:
        signal.raise_signal(number)
        assert asked.heard == [f"end by {number.name}"]
        assert select.select([waker], [], [], 0)[0]
        signal.raise_signal(signal.SIGTERM)
    assert asked.heard == [f"end by {number.name}", "abort"]
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


@pytest.mark.parametrize("number", _OTHERS)
def test_the_others_end_nothing_and_what_they_did_before_is_put_back(
    waker: Waker, number: signal.Signals
) -> None:
    asked = Asked(waker)
    with asked.signals:
        for _ in range(3):
            signal.raise_signal(number)
        assert select.select([waker], [], [], 0)[0]
    assert asked.heard == [number.name] * 3
    assert asked.signals.received == []
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.parametrize("number", _OTHERS)
def test_what_a_program_does_with_the_others_stays_so(waker: Waker, number: signal.Signals) -> None:
    def mine(number: int, frame: Any) -> None:
        heard.append(number)

    heard: list[int] = []
    asked = Asked(waker)
    before = signal.signal(number, mine)
    try:
        with asked.signals:
            signal.raise_signal(number)
        signal.signal(number, signal.SIG_IGN)  # nohup(1)
        with asked.signals:
            signal.raise_signal(number)
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert (heard, asked.heard) == ([number], [])


def test_another_one_may_be_taken_for_one_that_is_to_end_it(waker: Waker) -> None:
    asked = Asked(waker)
    with asked.signals:
        asked.signals.end(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
    assert asked.heard == ["end by SIGHUP", "abort"]
    assert asked.signals.received == [signal.SIGHUP, signal.SIGTERM]


def test_a_child_leaves_to_its_parent_what_is_for_both_and_keeps_what_is_the_programs(
    waker: Waker,
) -> None:
    def mine(number: int, frame: Any) -> None: ...

    before = signal.signal(signal.SIGUSR1, mine)
    try:
        with Asked(waker).signals:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                leave_to_parent()
                signal.raise_signal(signal.SIGHUP)
                signal.raise_signal(signal.SIGUSR2)
                os._exit(signal.getsignal(signal.SIGUSR1) is not mine)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
