"""Real files through a server and back, each compared by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muxcore import address as addresses

_CHUNK = 262_144
_LARGEST = 8 << 20  # twenty such files, sent and received, still fit into memory with ease


@dataclass(slots=True)
class FileRun:
    """What became of the files.

    Attributes:
        files: how many were sent.
        verified: how many came back with the same SHA-256.
        bytes: sent in all; the same number came back where every file was verified.
        seconds: from the first connect to the last EOF.
        problems: what went wrong, one line a file.
    """

    files: int = 0
    verified: int = 0
    bytes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def megabytes_per_second(self) -> float:
        """The rate one way, in 10^6 bytes a second."""
        return self.bytes / self.seconds / 1e6 if self.seconds else 0.0


class _Client:
    def __init__(self, path: Path, data: bytes, sock: socket.socket) -> None:
        self.path, self.sock = path, sock
        self.left = memoryview(data)
        self.digest = hashlib.sha256(data).digest()
        self.back: list[bytes] = []
        self.problem = ""


def real_files(count: int) -> list[Path]:
    """Return files that every installation has: the largest of Python's own library."""
    library = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in ("site-packages", "__pycache__")]
        found += [Path(folder, name) for name in names]
    sizes = {path: path.stat().st_size for path in found if path.is_file()}
    fitting = [path for path, size in sizes.items() if size <= _LARGEST]
    return sorted(fitting, key=lambda path: (-sizes[path], path))[:count]


def transfer(
    address: str, files: Sequence[Path], *, clients: int = 20, timeout: float = 30.0
) -> FileRun:
    """Send files through an echo server, all clients at once, and compare what comes back.

    Args:
        address: the server's.
        files: dealt to the clients in turn, so that each sends at least one.
        clients: connections at once.
        timeout: seconds after which what is missing counts as a problem.
    """
    family, sockaddr = addresses.resolve(addresses.parse(address))[0]
    chosen = [files[i % len(files)] for i in range(max(clients, len(files)))]
    contents = [(path, path.read_bytes()) for path in chosen]
    run = FileRun(files=len(chosen), bytes=sum(len(data) for _, data in contents))
    started = time.monotonic()
    for start in range(0, len(contents), clients):
        batch = []
        for path, data in contents[start : start + clients]:
            batch.append(_Client(path, data, socket.socket(family, socket.SOCK_STREAM)))
        _exchange(batch, sockaddr, started + timeout)
        run.seconds = time.monotonic() - started
        for client in batch:
            _judge(client, run)
    return run


def _exchange(batch: Sequence[_Client], sockaddr: object, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        for client in batch:
            client.sock.setblocking(False)
            client.sock.connect_ex(sockaddr)  # type: ignore[arg-type]
            selector.register(client.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, events in selector.select(left):
                try:
                    done = _step(key.data, events, selector)
                except BlockingIOError:
                    continue
                except OSError as exc:
                    key.data.problem, done = str(exc), True
                if done:
                    selector.unregister(key.fileobj)
        for key in list(selector.get_map().values()):
            key.data.problem = "no EOF from the server in time"
    for client in batch:
        client.sock.close()


def _step(client: _Client, events: int, selector: selectors.BaseSelector) -> bool:
    """Send and receive once. Returns whether the server has sent its EOF."""
    if events & selectors.EVENT_WRITE:
        if client.left:
            client.left = client.left[client.sock.send(client.left[:_CHUNK]) :]
        if not client.left:
            client.sock.shutdown(socket.SHUT_WR)
            selector.modify(client.sock, selectors.EVENT_READ, client)
    if events & selectors.EVENT_READ:
        data = client.sock.recv(_CHUNK)
        client.back.append(data)
        return not data
    return False


def _judge(client: _Client, run: FileRun) -> None:
    returned = b"".join(client.back)
    if not client.problem and hashlib.sha256(returned).digest() == client.digest:
        run.verified += 1
        return
    what = client.problem or f"the {len(returned)} bytes that came back are not what was sent"
    run.problems.append(f"{client.path.name}: {what}")
