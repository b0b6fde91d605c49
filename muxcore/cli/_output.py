"""Standard output and error of a program that serves: what nobody reads never stops the serving.

A pipe holds 64 KiB. Who writes to one that nobody reads, or to a terminal that is stopped (Ctrl-S),
waits; and a server has one thread. So here a write that would wait drops its lines instead, and so
does one that fails (a full disk, a reader that is gone). What was lost is counted, and told on
standard error once something can be written again, and at the end.

The descriptor itself must stay as it is: O_NONBLOCK belongs to the open file description
(fcntl(2)), which the shell and other programs share. A pipe or a terminal is opened a second time
instead, by its name under /proc/self/fd (proc(5)). Where that is not to be had, poll(2) is asked
before each piece that a pipe which is ready takes whole (PIPE_BUF bytes, pipe(7)); between the two
another writer of that pipe may fill it. A file on a disk is written as it is: a disk that hangs
hangs its writers.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def keep_standard_descriptors() -> None:
    """Open /dev/null in place of what was closed (``>&-``).

    Else the next socket would get the number, and a client whatever is printed.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


@contextlib.contextmanager
def never_waiting() -> Iterator[None]:
    """Let ``sys.stdout`` and ``sys.stderr`` drop lines rather than wait, for a while."""
    before = sys.stdout, sys.stderr
    errors = _taken(sys.stderr, "standard error", None)
    output = _taken(sys.stdout, "standard output", errors)
    opened = [each for each in (output, errors) if each is not None]
    sys.stdout, sys.stderr = _text(output, sys.stdout), _text(errors, sys.stderr)
    try:
        yield
    finally:
        for each in opened:
            each.finish()
        sys.stdout, sys.stderr = before


def _taken(stream: TextIO, name: str, complaints: _Output | None) -> _Output | None:
    """Return what takes the place of a stream; None where it has no descriptor, as in a test."""
    try:
        stream.flush()
        return _Output(stream.fileno(), name, complaints)
    except (OSError, ValueError):
        return None


def _text(output: _Output | None, before: TextIO) -> TextIO:
    if output is None:
        return before
    return io.TextIOWrapper(cast(Any, output), "utf-8", "backslashreplace", line_buffering=True)


class _Output(io.RawIOBase):
    """Takes whole lines, and never waits.

    Args:
        descriptor: where they go.
        name: of it, for people.
        complaints: where losses are told; None means here.
    """

    def __init__(self, descriptor: int, name: str, complaints: _Output | None) -> None:
        self._descriptor = descriptor
        self._name = name
        self._complaints = complaints or self
        self._lost = _Count()
        self._why = ""
        self._rest = b""  # of a line that was taken in part: it comes first, so that none is torn
        self._socket: socket.socket | None = None
        self._own = self._asks = False  # whether it is opened anew; else, whether to poll
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif not stat.S_ISREG(kind):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            try:
                self._descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
                self._own = True
            except OSError:
                self._asks = True
        self._number = descriptor

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write it if that can be done at once; it is dropped else. Returns its length."""
        lines = bytes(data)
        if self._put(lines):
            self.report()
        else:
            self._lost.add(max(lines.count(b"\n"), 1))
        return len(lines)

    def report(self) -> None:
        """Tell how many lines were lost since this was told last."""
        lost = self._lost.take()
        if not lost:
            return
        why = self._why or "they could not be written"
        note = f"muxcore: {lost} lines of {self._name} were lost: {why}\n"
        if not self._complaints._put(note.encode()):
            self._lost.add(lost)

    def finish(self) -> None:
        """End the line that was taken in part, if that is possible by now, and tell of losses."""
        self._rest = self._rest[self._sent(self._rest) :]
        self._lost.add(bool(self._rest))
        self.report()

    def close(self) -> None:
        if not self.closed:
            if self._own:
                os.close(self._descriptor)
            if self._socket is not None:
                self._socket.close()
            self._lost.close()
        super().close()

    def _put(self, lines: bytes) -> bool:
        """Return whether it will arrive: some of it was taken, and the rest comes first then."""
        if self._rest:
            self._rest = self._rest[self._sent(self._rest) :]
            if self._rest:
                return False
        sent = self._sent(lines)
        if not sent:
            return False
        self._rest = lines[sent:]
        return True

    def _sent(self, data: bytes) -> int:
        """Write what can be written at once; return how many bytes that were."""
        done = 0
        try:
            while done < len(data):
                done += self._write_some(data[done:])
        except BlockingIOError:
            self._why = "nobody read them"
        except OSError as exc:
            self._why = exc.strerror or str(exc)
        return done

    def _write_some(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._asks:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
            data = data[: select.PIPE_BUF]
        return os.write(self._descriptor, data)


class _Count:
    """A counter that forked processes share, where the system has one (eventfd(2))."""

    def __init__(self) -> None:
        self._number = 0
        self._fd = (
            os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if sys.platform == "linux" else -1
        )

    def add(self, number: int) -> None:
        if self._fd < 0:
            self._number += number
        else:
            os.eventfd_write(self._fd, number)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def take(self) -> int:
        """Return the number, which is 0 then."""
        if self._fd < 0:
            number, self._number = self._number, 0
            return number
        try:
            return os.eventfd_read(self._fd)
        except BlockingIOError:
            return 0
