"""A server under measurement: a process of its own, on a core of its own.

It ends with this process, however that ends: see ``warden.py``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from muxcore.compare import accounting
from muxcore.errors import MuxcoreError

_START_TIMEOUT = 15.0  # seconds: a cold interpreter on a busy machine
_STOP_TIMEOUT = 5.0
_SETTLED_WITHIN = 5.0  # s: the ends of 10,000 connections take a slow server a tenth of that
_TAIL = 2_000  # bytes of a server's output that are kept: enough for a traceback's end
_WARDEN = Path(__file__).with_name("warden.py")
_NOBODY_FINISHES = ("--drain-timeout", "0")  # its clients are gone, or are not to be waited for
_ADDRESS = re.compile(r"listening on (\S+:\d+)")


class ServerFailed(MuxcoreError, RuntimeError):
    """A server did not start, or did not stay; the message holds what it printed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        name: as it stands in tables; unique in a comparison.
        argv: the command; it prints ``listening on HOST:PORT`` first and ends on SIGTERM.
        engine: the engine's name; "" for a server that is not muxcore.
        handler: ``verb``, ``callback``, ``app``, ``adapter`` (callbacks on somebody else's loop),
            or "" where the word means nothing.
        fresh: it is measured before its first client has left, that is, not warmed.
        only: the name of the one cell in which it is measured; "" means every one.
        load: what its client does otherwise than the cell says, as ``LoadConfig``'s arguments.
    """

    name: str
    argv: tuple[str, ...]
    engine: str = ""
    handler: str = ""
    fresh: bool = False
    only: str = ""
    load: Mapping[str, Any] = field(default_factory=dict, hash=False)


def echo_subject(engine: str, handler: str, *options: str) -> Subject:
    """Return muxcore's own echo on an engine, served by the ``verb`` or by the ``callback``."""
    command = [sys.executable, "-m", "muxcore"]
    options = (*options, *_NOBODY_FINISHES)
    if handler == "verb":
        command += ["echo", "0"]
    else:
        command += ["serve", "muxcore.compare.handlers:CallbackEcho", "0"]
    command += ["--engine", engine, *options]
    return Subject(f"{engine} {handler}", tuple(command), engine, handler)


def app_subject(engine: str, service: str) -> Subject:
    """Return a user's own service on an engine."""
    command = (sys.executable, "-m", "muxcore", "serve", service, "0", "--engine", engine)
    return Subject(engine, (*command, *_NOBODY_FINISHES), engine, "app")


class ServerProcess:
    """A running subject. Use it as a context manager: it is gone, with its children, afterwards."""

    def __init__(self, subject: Subject) -> None:
        """Start it and wait until it listens.

        Raises:
            ServerFailed: it ended, or printed no address in time.
        """
        self.subject = subject
        try:
            self._process = subprocess.Popen(
                command(subject.argv),
                stdin=subprocess.PIPE,  # nothing is written there: its end of file says it all
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for the client, which then stops its servers
            )
        except OSError as exc:
            raise ServerFailed(f"{subject.name}: cannot be started: {exc}") from exc
        self.pid = self._process.pid
        self._drain: threading.Thread | None = None
        self._tail = b""
        self._stopped = False
        try:
            with contextlib.suppress(OSError):  # where it has ended already, reading tells more
                pin(self.pid, server=True)
            self.address = self._wait_for_address()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def cpu_ns(self) -> int:
        """Return the CPU time of the server and its children so far, in nanoseconds."""
        return accounting.cpu_ns(self.pid)

    def memory(self) -> int:
        """Return the memory of the server and its children, in bytes."""
        return accounting.memory(self.pid)

    def settle(self) -> None:
        """Wait until it is idle: it has seen the ends of its connections, say."""
        give_up, before = time.monotonic() + _SETTLED_WITHIN, -math.inf
        while (now := self.cpu_ns()) - before > 1e6 and time.monotonic() < give_up:
            before = now
            time.sleep(0.01)  # a process does not tell that it is idle: its clock stands still

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> int:
        """End the server and return its exit status; its children go with it.

        Once it has been stopped, its number may be another's: then nothing is done.
        """
        if self._stopped:
            return self._process.returncode
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                pass
        with contextlib.suppress(ProcessLookupError):  # its session is empty: that is what we want
            os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait()
        if self._drain:
            self._drain.join()  # every holder of the pipe is gone, so it has seen the end
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        return status

    def ending(self, within: float = 0.0) -> str:
        """Return how the server ended by itself, with its last words; "" while it runs.

        Args:
            within: seconds that it is given to end.
        """
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired:
            return ""
        if self._drain:
            self._drain.join(_STOP_TIMEOUT)
        words = self._words() or "nothing"
        return f"{self.subject.name} ended by itself with status {status}; it printed: {words}"

    def words(self) -> str:
        """Return the last of what it printed, after the line with its address."""
        return self._words().partition("\n")[2].strip()

    def _words(self) -> str:
        return self._tail.decode(errors="replace").strip()

    def _keep_tail(self, descriptor: int) -> None:
        while chunk := os.read(descriptor, 65_536):
            self._tail = (self._tail + chunk)[-_TAIL:]

    def _wait_for_address(self) -> str:
        assert self._process.stdout is not None
        out, text = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + _START_TIMEOUT
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and selector.select(left):
                chunk = os.read(out, 4096)
                text += chunk
                found = _ADDRESS.search(text.decode(errors="replace"))
                if found and b"\n" in text[text.index(b"listening") :]:
                    self._tail = text
                    # A server that goes on printing must not block on a full pipe.
                    self._drain = threading.Thread(target=self._keep_tail, args=(out,), daemon=True)
                    self._drain.start()
                    return found[1]
                if not chunk:
                    break
        said = text.decode(errors="replace").strip() or "nothing"
        raise ServerFailed(f"{self.subject.name}: the server did not start; it printed: {said}")


def command(argv: Sequence[str]) -> list[str]:
    """Return the command that runs another one until it, or who started it, ends.

    Start it in a process group of its own, with a pipe as standard input: see ``warden.py``.
    """
    return [sys.executable, "-I", "-S", str(_WARDEN), *argv]


def pin(pid: int, *, server: bool) -> None:
    """Give servers the first of this process's cores, the client the second, if there are two."""
    cores = sorted(_CORES)
    if len(cores) > 1:
        os.sched_setaffinity(pid, {cores[0] if server else cores[1]})


@contextlib.contextmanager
def client_core() -> Iterator[None]:
    """Keep this process on the client's core for a while."""
    pin(0, server=False)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def cores() -> Sequence[int]:
    """Return the cores that the measurement may use."""
    return sorted(_CORES)


_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
