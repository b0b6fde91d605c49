"""systemd, as a service sees it: it starts a process, passes sockets, and hears what that says."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0  # s, for what happens at once

# LISTEN_PID has to be the program's own: so it is set where that is known, and then execve(2)
_LAUNCH = """
import fcntl, os, sys
count = int(sys.argv[1])
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2 : 2 + count]]
for number, fd in enumerate(given):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID") or str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""


class HasFileno(Protocol):
    """A socket, or what is passed as one."""

    def fileno(self) -> int: ...


_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid


@dataclass
class Said:
    """One message.

    Attributes:
        pid: who said it.
        words: what, by name.
    """

    pid: int
    words: dict[str, str]


@dataclass
class Unit:
    """One service that was started.

    Attributes:
        process: its main process.
        out: what it has printed goes there.
    """

    process: subprocess.Popen[bytes]
    out: Path
    ended: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        return self.process.wait(DEADLINE)

    def printed(self) -> str:
        return self.out.read_text()


class Supervisor:
    """It.

    Args:
        folder: for its socket, and what services print.

    Attributes:
        heard: all messages up to now.
        path: of its socket.
    """

    def __init__(self, folder: Path) -> None:
        self.heard: list[Said] = []
        self.units: list[Unit] = []
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.path = str(folder / "notify")
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)  # as systemd's is: whoever a service has become may speak

    def start(
        self,
        *command: str,
        sockets: Sequence[tuple[str, HasFileno]] = (),
        watchdog: float | None = None,
        notify: bool = True,
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> Unit:
        """Start a service.

        Args:
            command: of Python: ``-m``, ``muxcore``, and so on.
            sockets: that it gets, with their names.
            watchdog: seconds.
            notify: it can say something.
            environment: more variables.
            wrapper: what runs it in its place.
        """
        variables = os.environ | {"PYTHONPATH": str(ROOT)}
        if notify:
            variables["NOTIFY_SOCKET"] = self.path
        if sockets:
            variables["LISTEN_FDS"] = str(len(sockets))
            variables["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
        if watchdog is not None:
            variables["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        variables |= environment or {}
        words = [*wrapper, sys.executable, *command]
        if sockets:
            numbers = [str(sock.fileno()) for _, sock in sockets]
            launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(len(numbers)), *numbers]
            words = [*launch, *words]
        out = self._folder / f"out-{len(self.units)}"
        with out.open("wb") as file:
            process = subprocess.Popen(
                words,
                env=variables,
                cwd=self._folder,
                pass_fds=[sock.fileno() for _, sock in sockets],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.units.append(Unit(process, out))
        return self.units[-1]

    def until(self, holds: Callable[[dict[str, str]], bool], what: str) -> Said:
        """Hear messages until one is as it is to be, and return it."""
        while True:
            said = self.next(DEADLINE)
            assert said is not None, f"{what} was not said: {self.story()}"
            if holds(said.words):
                return said

    def until_word(self, name: str, value: str) -> Said:
        return self.until(lambda words: words.get(name) == value, f"{name}={value}")

    def next(self, seconds: float) -> Said | None:
        """Return the next message, if there is one so soon."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        data, extra, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        pid = _CREDENTIALS.unpack(extra[0][2])[0]
        words = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self.heard.append(Said(pid, words))
        return self.heard[-1]

    def story(self) -> str:
        """Return what was said and printed, for a message."""
        said = "".join(f"\n  {each.pid}: {each.words}" for each in self.heard)
        return said + "".join(f"\n{unit.printed()}" for unit in self.units)

    def close(self) -> None:
        for unit in self.units:
            if unit.process.poll() is None:
                unit.process.kill()
            unit.process.wait()
        self._socket.close()
