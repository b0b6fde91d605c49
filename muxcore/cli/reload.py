"""``muxcore reload``: the new program takes over from the one that serves, and nobody is lost."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any

from muxcore.cli import _arguments
from muxcore.errors import PidfileError
from muxcore.restarting.pidfile import pid_in

_LOOK = 0.05  # s between two looks at the file
_PATIENCE = 90.0  # s; more than Limits.restart_timeout, after which the server has given up

_EXAMPLES = """\
examples:
  muxcore reload /run/echo.pid                  of a server with --pidfile /run/echo.pid
  muxcore reload /run/echo.pid --timeout 20s    docs/restarting.md tells what happens
"""


class _Failed(Exception):
    """It could not be done; the text says why."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "reload",
        help="start a server's program anew, and lose nobody",
        epilog=_EXAMPLES,
    )
    parser.add_argument("pidfile", metavar="PIDFILE", help="what the server's --pidfile names")
    parser.add_argument(
        "--timeout",
        type=_arguments.duration,
        default=_PATIENCE,
        metavar="TIME",
        help="how long to wait until another process serves; default: 90s",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        before = _read(options.pidfile)
        pid, timeout = before[0], options.timeout
        with _process(pid, options.pidfile) as number:
            _ask(pid, number)
            now = _successor(options.pidfile, before, number, timeout)
    except (_Failed, PidfileError) as exc:
        print(f"muxcore: {exc}", file=sys.stderr)
        return 1
    print(f"process {now} took over from process {pid}")
    return 0


def _read(path: str) -> tuple[int, tuple[int, int]]:
    """Return the number in a pidfile, and which file that is.

    Raises:
        _Failed, PidfileError: there is none.
    """
    try:
        pid, found = pid_in(path), os.stat(path)
    except FileNotFoundError:
        raise _Failed(f"there is no {path}: nobody serves who was given it by --pidfile") from None
    except OSError as exc:
        if isinstance(exc, PidfileError):
            raise
        raise _Failed(f"{path} cannot be read: {exc.strerror}") from None
    return pid, (found.st_ino, found.st_mtime_ns)


@contextlib.contextmanager
def _process(pid: int, path: str) -> Iterator[int]:
    """Hold on to a process, whose number nobody else gets meanwhile; yields its descriptor, or -1.

    Raises:
        _Failed: there is none, or it would be ended by what is to be sent.
    """
    stale = f"{path} is left over from a server that was killed, if it is not another one's"
    try:
        number = os.pidfd_open(pid)
    except ProcessLookupError:
        raise _Failed(f"there is no process {pid}: {stale}") from None
    except (AttributeError, OSError):  # before Linux 5.3
        number = -1
    try:
        if not _hears(pid):
            raise _Failed(f"process {pid} does not hear SIGUSR2, and would be ended by it: {stale}")
        yield number
    finally:
        if number >= 0:
            os.close(number)


def _hears(pid: int) -> bool:
    """Whether a process has a handler for SIGUSR2, as far as can be known: proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return True
    return bool(int(caught, 16) >> (signal.SIGUSR2 - 1) & 1)


def _ask(pid: int, number: int) -> None:
    try:
        if number >= 0:
            signal.pidfd_send_signal(number, signal.SIGUSR2)
        else:
            os.kill(pid, signal.SIGUSR2)
    except PermissionError:
        raise _Failed(f"process {pid} is another user's: do this as that user, or root") from None
    except ProcessLookupError:
        raise _Failed(f"process {pid} has just ended") from None


def _successor(path: str, before: tuple[int, tuple[int, int]], number: int, timeout: float) -> int:
    """Wait until the file names another process, and return its number.

    A server whose successor has failed writes the file once more.
    """
    pid, until = before[0], monotonic() + timeout
    while True:
        has_ended = _has_ended(pid, number)
        try:
            now = _read(path)
        except _Failed:  # between two servers, or after the last one
            now = before
        if now[0] != pid:
            return now[0]
        if now != before:
            raise _Failed(f"process {pid} serves on: its successor has failed, its log says why")
        if has_ended:
            raise _Failed(f"process {pid} has ended, and nobody has taken over")
        if monotonic() >= until:
            raise _Failed(f"process {pid} is still there after {timeout:g} s: see its log")
        poll = select.poll()
        if number >= 0:
            poll.register(number, select.POLLIN)
        poll.poll(_LOOK * 1000)


def _has_ended(pid: int, number: int) -> bool:
    if number >= 0:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return not os.path.exists(f"/proc/{pid}")
