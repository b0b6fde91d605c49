"""Writing down what a protocol hears, also where it hears it in another process.

A journal belongs to the process that made it. What a protocol hears there is appended at once; a
forked child's events come through a pipe, each in one write of at most PIPE_BUF bytes, which the
kernel keeps whole (pipe(7)), however many children there are.

An event is a tuple: the callback's name, and its argument, if it has one. ``connection_lost`` is
written with the name of its exception's class, or None.
"""

from __future__ import annotations

import itertools
import os
import pickle
import select
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from muxcore.testing.peer import DEADLINE

Event: TypeAlias = tuple[Any, ...]

MADE: Event = ("connection_made",)
EOF: Event = ("eof_received",)
PAUSED: Event = ("pause_writing",)
RESUMED: Event = ("resume_writing",)
LOST: Event = ("connection_lost", None)

_PIECE = select.PIPE_BUF - 256  # bytes of data in one write, with room for its name and key
_END = b"\0\0"  # a frame of no length: the reader's thread is to end


def data(received: bytes) -> Event:
    """Return the event of these bytes having been received."""
    return ("data_received", received)


def lost(kind: str) -> Event:
    """Return the event of a connection having been lost by an exception of this class."""
    return ("connection_lost", kind)


class Journal:
    """What the protocols of one server heard, by connection."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._written: list[tuple[str, Event]] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        reader, self._writer = os.pipe()
        self._reader = os.fdopen(reader, "rb")
        self._thread: threading.Thread | None = None
        self.protocols: dict[str, Any] = {}

    # -- writing

    def record(self, key: str, *event: Any) -> None:
        """Write down an event of the connection ``key``; from any thread, and any forked child."""
        if os.getpid() == self._pid:
            with self._changed:
                self._written.append((key, event))
                self._changed.notify_all()
            return
        if event[0] == "data_received":
            for at in range(0, len(event[1]), _PIECE):
                self._ship(key, (event[0], event[1][at : at + _PIECE]))
        else:
            self._ship(key, event)

    def key(self, transport: Any) -> str:
        """Return a connection's key: its peer's port, or a number where it has none."""
        peername = transport.get_extra_info("peername")
        return key_of(peername) or f"{os.getpid()}.{next(self._numbers)}"

    # -- reading

    def events(self, key: str | None = None) -> list[Event]:
        """Return what was written so far, adjacent ``data_received`` joined.

        Args:
            key: of the connection; None where there is only one.

        Raises:
            AssertionError: None, but there are several.
        """
        with self._changed:
            if key is None:
                keys = {k for k, _ in self._written}
                assert len(keys) <= 1, f"which of the connections {sorted(keys)}?"
            joined: list[Event] = []
            for k, event in self._written:
                if key is not None and k != key:
                    continue
                if joined and event[0] == joined[-1][0] == "data_received":
                    joined[-1] = (event[0], joined[-1][1] + event[1])
                else:
                    joined.append(event)
            return joined

    def everything(self) -> list[Event]:
        """Return every event as it was written, of whichever connection."""
        with self._changed:
            return [event for _, event in self._written]

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until ``holds()``.

        Raises:
            AssertionError: it does not within the deadline; says ``what``, and what was heard.
        """
        until = time.monotonic() + DEADLINE
        while True:
            known = len(self._written)
            if holds():  # without the lock: it may wait for the engine, which may be writing
                return
            if time.monotonic() > until:
                heard = [(k, _short(e)) for k, e in self._written[-20:]]
                raise AssertionError(f"not within {DEADLINE:g} s: {what}; heard: {heard}")
            with self._changed:
                if len(self._written) == known:
                    self._changed.wait(0.05)  # holds() may look at more than events

    # -- its life

    def start(self) -> None:
        """Listen to forked children; after the server has started, which may refuse threads."""
        self._thread = threading.Thread(target=self._collect, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            os.write(self._writer, _END)
            self._thread.join()
        self._reader.close()
        os.close(self._writer)
        self.protocols.clear()

    def _ship(self, key: str, event: Event) -> None:
        frame = pickle.dumps((key, event))
        os.write(self._writer, len(frame).to_bytes(2, "big") + frame)

    def _collect(self) -> None:
        while (size := self._reader.read(2)) != _END:
            written = pickle.loads(self._reader.read(int.from_bytes(size, "big")))
            with self._changed:
                self._written.append(written)
                self._changed.notify_all()


class Journaled:
    """A protocol that is made with a journal; ``serving`` hands it over."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal


class Recorder(Journaled):
    """A protocol that writes down what it hears; subclass it to make it do something too.

    It has no ``pause_writing``: its connection is protected. See ``FlowRecorder``.
    """

    transport: Any = None

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.key = ""

    def record(self, *event: Any) -> None:
        self.journal.record(self.key, *event)

    def note(self, what: Any) -> None:
        """Write down something of the test's own; it can be pickled and is small."""
        self.record("note", what)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.key = self.journal.key(transport)
        self.journal.protocols[self.key] = self
        self.record("connection_made")

    def data_received(self, data: bytes) -> None:
        self.record("data_received", data)

    def eof_received(self) -> bool | None:
        self.record("eof_received")
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.record("connection_lost", None if exc is None else type(exc).__name__)


class StaysOpen(Recorder):
    """A recorder whose connection stays open after the peer's EOF."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


class FlowRecorder(Recorder):
    """A recorder that hears of flow control, and so is not protected."""

    def pause_writing(self) -> None:
        self.record("pause_writing")

    def resume_writing(self) -> None:
        self.record("resume_writing")


def key_of(peername: Any) -> str:
    """Return the journal's key for a peer's socket address; "" for a unix socket's."""
    return f"{peername[0]}:{peername[1]}" if isinstance(peername, tuple) else ""


def _short(event: Event) -> Event:
    """An event for a message: long data by its length."""
    if event[0] == "data_received" and len(event[1]) > 40:
        return (event[0], f"{len(event[1])} bytes")
    return event
