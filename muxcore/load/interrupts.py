"""Programs that start others, and end in order when they are ended.

Ctrl-C is an exception in Python, so that what a program has begun is undone on its way out. SIGTERM
(of ``timeout``, of a supervisor) and SIGHUP (of a terminal that is closed) are not: they end a
program where it stands. Here they are made alike.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asks for the end, as Ctrl-C does; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Interrupted` in the main thread; see the module's text.

    A signal that was ignored stays so: ``nohup`` means it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = {number: was for number, was in before.items() if was is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, was in taken.items():
            # None stands for a handler that was not set from Python; it cannot be put back
            signal.signal(number, signal.SIG_DFL if was is None else was)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Let the first of these signals be noted in the list while the block runs; a second raises.

    So it cuts nothing short that is not to be cut short: who runs the block looks at the list.
    """
    ends: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if ends:
            _interrupt(number, frame)
        ends.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield ends
        return
    raising = (_interrupt, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    taken = {number: was for number, was in before.items() if was in raising}
    for number in taken:
        signal.signal(number, note)
    try:
        yield ends
    finally:
        for number, was in taken.items():
            signal.signal(number, was)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let none of these signals raise while the block runs: what came meanwhile does at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:  # what came before may raise here, when it is blocked already
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *_ENDING})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def status_of(main: Callable[[], int]) -> int:
    """Run a program's ``main``; return its exit status, 128 + the signal's number if one ended it.

    (POSIX shells give a program that a signal ended the same status.)
    """
    try:
        with interruptible():
            return main()
    except KeyboardInterrupt as exc:
        return 128 + number_of(exc)


def number_of(exc: KeyboardInterrupt) -> int:
    """Return the number of the signal that raised it."""
    return int(getattr(exc, "number", signal.SIGINT))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)
