"""HAProxy and ``muxcore relay``, each from a file of its own that means the same."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import muxcore
from muxcore.cli import main
from muxcore.testing import Peer

from .programs import Program

_HAPROXY = """\
global
    stats socket FOLDER/stats level admin
defaults
    mode tcp
    timeout connect 60s
    timeout client 600s
    timeout server 600s
    timeout queue 600s
    retries 0
listen it
    bind 127.0.0.1:PORT
"""
_MUXCORE = """\
[admin]
socket = "unix:FOLDER/admin"
[listeners.it]
address = "127.0.0.1:0"
"""


class Named:
    """A server that tells each client its name, a letter, and then echoes.

    Attributes:
        active: clients that it has.
    """

    def __init__(self, name: str, host: str = "127.0.0.1") -> None:
        self.name, self.active = name, 0
        self._server = muxcore.Server(self._protocol, f"{host}:0", engine="pure-select")
        self._server.start()
        self.address = self._server.addresses[0]

    def _protocol(self) -> Any:
        named = self

        class Naming:
            def connection_made(self, transport: Any) -> None:
                named.active += 1
                self._transport = transport
                transport.write(named.name.encode())

            def data_received(self, data: bytes) -> None:
                self._transport.write(data)

            def connection_lost(self, exc: BaseException | None) -> None:
                named.active -= 1

        return Naming()

    def stop(self) -> None:
        self._server.stop()


class Health:
    """A port that takes connections while it is told to."""

    def __init__(self, is_good: bool, host: str = "127.0.0.1", port: str = "0") -> None:
        self._socket = socket.socket()
        self._socket.bind((host, int(port)))
        self.port = str(self._socket.getsockname()[1])
        if is_good:
            self.begins()

    def begins(self) -> None:
        self._socket.listen()

    def ends(self) -> None:
        self._socket.close()


class Both(NamedTuple):
    """What a scenario needs of a proxy, in both languages.

    Attributes:
        haproxy: lines of its ``listen`` section, and of sections behind it.
        muxcore: what is behind the address in a listener's table, and the tables behind it.
    """

    haproxy: str
    muxcore: str


class Proxy:
    """One of them, which runs.

    Attributes:
        address: where it listens.
        folder: its own, with the socket that it is steered by.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder

    def is_told(self, haproxy: str, muxcore: str) -> None:
        """Steer it, each by its own words; it does so, and has nothing to say."""
        if (self.folder / "stats").exists():
            with socket.socket(socket.AF_UNIX) as cli:
                cli.connect(str(self.folder / "stats"))
                cli.sendall(f"{haproxy}\n".encode())
                assert cli.makefile().read().strip() == ""
        else:
            assert main(["admin", str(self.folder / "admin"), *muxcore.split()]) == 0

    @contextlib.contextmanager
    def client(self) -> Iterator[tuple[Peer, str]]:
        """A client, and the name of the server that it has."""
        with Peer(self.address) as peer:
            yield peer, peer.read(1).decode()

    def names(self, count: int) -> Counter[str]:
        """Return which servers clients have that come one after another and leave at once."""
        found: Counter[str] = Counter()
        for _ in range(count):
            with self.client() as (_, name):
                found[name] += 1
        return found

    def is_refused(self) -> bool:
        """Return whether a client is turned away."""
        return not self._name()

    def gives_only(self, name: str) -> bool:
        """Return whether one server has the next four clients, and none is turned away."""
        return all(self._name() == name for _ in range(4))

    def _name(self) -> str:
        """Return which server a client has; "" where it is turned away, at the latest by then."""
        try:  # connect(2) may hear of a reset, too
            with Peer(self.address) as peer:
                return peer.sock.recv(1).decode()
        except ConnectionError:
            return ""


def haproxy(start: Callable[..., Program], text: str) -> Proxy:
    """Start HAProxy, and wait until it listens: nobody has connected to it."""
    for last in (False, False, True):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        program = start(
            *("haproxy", "-db", "-f", "FOLDER/configuration"),
            configuration=f"{_HAPROXY.replace('PORT', port)}{text}\n",
        )
        try:
            program.until(functools.partial(_listens, program.output.parent / "stats"))
        except ProcessLookupError:  # its port was taken meanwhile, or it cannot run at all
            if last:
                raise
        else:
            return Proxy(f"127.0.0.1:{port}", program.output.parent)
    raise AssertionError


def _listens(stats: Path) -> bool:
    """Return whether a socket for statistics does: it is opened with all others."""
    with socket.socket(socket.AF_UNIX) as cli, contextlib.suppress(OSError):
        cli.connect(str(stats))
        return True
    return False


def relay(start: Callable[..., Program], text: str) -> Proxy:
    """Start a relay, and wait until it listens."""
    program = start(
        *(sys.executable, "-m", "muxcore", "relay", "--config", "FOLDER/configuration"),
        configuration=_MUXCORE + text,
    )
    program.until(lambda: program.output.read_text().endswith("\n"))
    return Proxy(program.output.read_text().split()[2], program.output.parent)
