"""What befalls a relay in service: upstreams that die and return, readers that stop, crowds."""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import DEADLINE
from muxcore.testing.suite import eventually, meanwhile

_CLIENTS = 8  # of the upstreams that die; more than one at a time meets each death
_COMMANDS = 20  # for each of their connections
_PAIRS = 5_000
_MEGABYTE = 1 << 20
_GROWTH = 8 * _MEGABYTE  # of a relay's memory: its queues are a quarter of one, a child is three

_SIXTY = pytest.param(60, marks=[pytest.mark.deep, pytest.mark.timeout(180)])


# -- upstreams


@pytest.mark.real
def test_clients_go_on_while_upstreams_die_and_return(
    relay: Callable[..., Any], redis_server: Callable[..., Any], engine: str
) -> None:
    upstreams = dict(reversed(redis_server()) for _ in range(2))
    one, other = upstreams
    running = relay(engine, one, other)
    with _clients(running.address) as clients:
        _all_go_on(clients, time.monotonic())
        assert _has_served(one)
        assert _has_served(other)
        for dies in (one, other):
            upstreams[dies].process.kill()
            upstreams[dies].process.wait()
            _all_go_on(clients, time.monotonic())
            upstreams[dies], _ = redis_server(address=dies)
            eventually(partial(_has_served, dies), f"{dies} is back, and gets no client")
            _all_go_on(clients, time.monotonic())
    complaints = running.complaints.read_text().splitlines()
    words = " is left alone for ", " is back", " has no upstream that is up"
    assert all(any(each in line for each in words) for line in complaints)


class _Client(threading.Thread):
    """Connects, asks, and closes, again and again, and takes note of when that began.

    Attributes:
        done: when each connection began that went well.
        failed: when each began that did not, and why.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self.stopped = False
        self.done: list[float] = []
        self.failed: list[tuple[float, Exception]] = []

    def run(self) -> None:
        while not self.stopped:
            began = time.monotonic()
            try:
                with _connected(self._address) as sock, sock.makefile("rb") as answers:
                    for _ in range(_COMMANDS):
                        sock.sendall(b"INCR served\r\n")
                        answer = answers.readline()
                        if not answer.startswith(b":"):
                            raise ConnectionError(f"the answer to INCR is {answer!r}")
            except Exception as exc:
                self.failed.append((began, exc))
            else:
                self.done.append(began)


@contextlib.contextmanager
def _clients(address: str) -> Iterator[list[_Client]]:
    clients = [_Client(address) for _ in range(_CLIENTS)]
    for each in clients:
        each.start()
    try:
        yield clients
    finally:
        for each in clients:
            each.stopped = True
        for each in clients:
            each.join()


def _all_go_on(clients: list[_Client], since: float) -> None:
    """Every client's connections go well from that moment on; wait for some of each."""

    def some_of_each() -> bool:
        return all(sum(began > since for began in each.done[-3:]) == 3 for each in clients)

    eventually(some_of_each, lambda: f"a client stands still: {[c.failed[-3:] for c in clients]}")
    failed = [each for client in clients for each in client.failed if each[0] > since]
    assert not failed, f"{len(failed)} connections failed, as {failed[0][1]!r}"


def _has_served(address: str) -> bool:
    """Return whether an upstream has served a command of a client since it was started."""
    return int(_field(address, b"INFO commandstats\r\n", b"cmdstat_incr:calls=", b",")) > 0


# -- readers


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that does not fit into what the kernel holds for two connections, and a relay."""
    file = tmp_path_factory.mktemp("source") / "file"
    file.write_bytes(random.Random(4).randbytes(_more_than_the_kernel_holds()))
    return file


@pytest.mark.parametrize("seconds", [pytest.param(10, marks=pytest.mark.real), _SIXTY])
def test_readers_that_stop_cost_no_memory_and_get_all_afterwards(
    relay: Callable[..., Any],
    nginx: Callable[..., Any],
    run: Callable[..., str],
    sha256: Callable[[Path], bytes],
    file: Path,
    engine: str,
    seconds: int,
) -> None:
    (_, giver, given), (taker, taking, taken) = nginx(), nginx()
    down, up = (relay(engine, to, options=("--access-log", "json")) for to in (giver, taking))
    (given / "file").symlink_to(file)
    for each, files in ((down, given), (up, taken)):  # each has done its work once
        (files / "small").write_text("small")
        assert run("curl", "-sS", "--fail", f"http://{each.address}/small") == "small"
        each.until_recorded(1)
    before = [each.memory() for each in (down, up)]

    def upload() -> None:
        url = f"http://{up.address}/put/copy"
        options = ("-sS", "--fail", "-H", "Expect:", "-T", file)
        run("curl", *options, url, seconds=seconds + 3 * DEADLINE)

    taker.process.send_signal(signal.SIGSTOP)
    with _connected(down.address) as reader, meanwhile(upload):
        try:
            reader.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            peaks = _peaks((down, up), seconds)
            assert [len(each.records()) for each in (down, up)] == [1, 1]  # neither is through
        finally:
            taker.process.send_signal(signal.SIGCONT)
        with reader.makefile("rb") as stream:
            while stream.readline().strip():
                pass  # the header's
            read = hashlib.file_digest(stream, "sha256").digest()
    assert read == sha256(file)
    assert sha256(taken / "put" / "copy") == sha256(file)
    (taken / "put" / "copy").unlink()
    for peak, begin in zip(peaks, before, strict=True):
        assert peak - begin < _GROWTH


def _more_than_the_kernel_holds() -> int:
    """Return more bytes than two connections' buffers in the kernel (tcp(7)) and a relay's."""
    buffers = Path("/proc/sys/net/ipv4/tcp_rmem"), Path("/proc/sys/net/ipv4/tcp_wmem")
    most = (path.read_text().split()[2] for path in buffers)
    return 2 * sum(map(int, most)) + 4 * _GROWTH


def _peaks(relays: tuple[Any, ...], seconds: float) -> list[int]:
    """Return the most memory that each holds in a time; nothing is waited for here but that."""
    until, peaks = time.monotonic() + seconds, [0] * len(relays)
    while time.monotonic() < until:
        peaks = [max(p, relay.memory()) for p, relay in zip(peaks, relays, strict=True)]
        time.sleep(0.05)  # a look reads every process's memory: more often would be a load
    return peaks


# -- crowds


@pytest.mark.real
@pytest.mark.parametrize(
    "engine",  # select has no descriptors for them, and of processes it would be many
    [each.name for each in muxcore.engines() if each.available and each.model == "epoll"],
)
def test_thousands_of_pairs_are_open_at_once_and_each_gets_its_own(
    relay: Callable[..., Any], redis_server: Callable[..., Any], engine: str
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < 2 * _PAIRS + 100:
        pytest.skip(f"a process may open {most} files here (ulimit -Hn), {2 * _PAIRS + 100} needed")
    server, address = redis_server()
    running = relay(engine, address)
    sockets = running.sockets()
    with contextlib.ExitStack() as crowd:
        socks = [crowd.enter_context(_connected(running.address)) for _ in range(_PAIRS)]
        eventually(lambda: _connected_clients(address) == _PAIRS + 1, "not all came through")
        assert running.sockets() == sockets + 2 * _PAIRS
        for number, sock in enumerate(socks):
            sock.sendall(b"ECHO %s\r\n" % _kilobyte(number))
        for number, sock in enumerate(socks):
            wanted = b"$1024\r\n%s\r\n" % _kilobyte(number)
            assert sock.recv(len(wanted), socket.MSG_WAITALL) == wanted, f"pair {number}"
    eventually(lambda: _connected_clients(address) == 1, "some are still open")
    eventually(
        lambda: running.sockets() == sockets,
        lambda: f"{running.sockets() - sockets} sockets are left open",
    )
    assert running.complaints.read_text() == ""
    server.end()


def _kilobyte(number: int) -> bytes:
    return b"%08d" % number * 128


def _connected_clients(address: str) -> int:
    """Return how many clients Redis has, this one included."""
    return int(_field(address, b"INFO clients\r\n", b"connected_clients:", b"\r\n"))


def _field(address: str, command: bytes, before: bytes, after: bytes) -> bytes:
    """Return what stands between two words of Redis's answer, 0 where they do not occur."""
    with _connected(address) as sock, sock.makefile("rb") as answers:
        sock.sendall(command)
        text = answers.read(int(answers.readline().removeprefix(b"$")))
    return text.partition(before)[2].partition(after)[0] or b"0"


def _connected(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), DEADLINE)
