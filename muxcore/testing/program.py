"""A server in a process of its own, by ``muxcore.serve``: for signals, limits, violent ends."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, cast

import muxcore
from muxcore.testing.peer import DEADLINE
from muxcore.testing.recorder import Journal, Journaled
from muxcore.testing.suite import EngineSuite, Run


class Program(Run):
    """A forked process that serves in its main thread, until a signal ends it.

    Attributes:
        pid: its number.
    """

    def __init__(self, pid: int, addresses: list[str], pipe: int, journal: Journal) -> None:
        super().__init__(cast(muxcore.Server, _Addresses(addresses)), journal)
        self.pid = pid
        self._pipe = pipe
        self._status: int | None = None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Return its exit status, or minus the number of the signal that ended it."""
        until = time.monotonic() + seconds
        while self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
                break
            assert time.monotonic() < until, f"the program did not end within {seconds:g} s"
            time.sleep(0.002)
        return self._status

    def has_ended(self) -> bool:
        """Whether it has ended; its status is left for :meth:`wait`."""
        if self._status is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def report(self) -> dict[str, Any]:
        """Return what it reported at its end: its counters, and what ``at_end`` returned."""
        self.wait()
        return json.loads(_line(self._pipe))  # type: ignore[no-any-return]

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


class ProgramSuite(EngineSuite):
    """Scenarios that need a program of their own."""

    @contextlib.contextmanager
    def program(
        self,
        service: Any,
        *where: socket.socket,
        first: Callable[[], object] = lambda: None,
        at_end: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> Iterator[Program]:
        """Serve in a forked process while the block runs.

        Args:
            service, where: as in ``serving``.
            first: called in the process before it serves.
            at_end: called in it after it served; its result becomes part of the report.
            options: as of ``muxcore.serve``.
        """
        journal = Journal()
        if isinstance(service, type) and issubclass(service, Journaled):
            service = functools.partial(service, journal)
        options |= {"engine": self.engine, "trigger": self.trigger}
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _serve(service, where or ("127.0.0.1:0",), writer, first, at_end, options)
        os.close(writer)
        for bound in where:
            bound.close()  # the program has its own
        program = None
        try:
            journal.start()
            program = Program(pid, json.loads(_line(reader)), reader, journal)
            yield program
        finally:
            if program is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            else:
                program.close()
                program.kill()
            os.close(reader)
            journal.close()


class _Addresses:
    """What a run needs to know of a server in another process."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses


def _serve(
    service: Any,
    where: tuple[Any, ...],
    pipe: int,
    first: Callable[[], object],
    at_end: Callable[[], object],
    options: dict[str, Any],
) -> None:
    status = 70  # EX_SOFTWARE of sysexits.h: whatever goes wrong here is no status of serve()
    try:
        servers: list[muxcore.Server] = []

        def ready(server: muxcore.Server) -> None:
            servers.append(server)
            os.write(pipe, json.dumps(server.addresses).encode() + b"\n")

        first()
        status = muxcore.serve(service, *where, on_ready=ready, **options)
        stats = servers[0].stats()
        report = {"open": stats.open, "errors": dict(stats.errors), "at_end": at_end()}
        os.write(pipe, json.dumps(report).encode() + b"\n")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _line(pipe: int) -> str:
    """Read one line, which is short and written at once."""
    ready, _, _ = select.select([pipe], [], [], DEADLINE)
    assert ready, f"the program said nothing within {DEADLINE:g} s"
    line = os.read(pipe, select.PIPE_BUF)
    assert line, "the program ended before it served; its error is in the captured output"
    return line.decode()
