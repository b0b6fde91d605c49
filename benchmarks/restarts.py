"""Restarts under load, by clients that have nothing of muxcore: who is refused, reset, cut short?

    python benchmarks/restarts.py [--rate 2000] [--long 500] [--restarts 5] [NAME ...]

So many connections a second come, send a message, get it back and hear the end; so many others
stay for some seconds and talk. Each connection and byte is counted. Meanwhile the server is
restarted, again and again: muxcore by ``muxcore reload``, nginx and HAProxy (relays before an echo
that is not restarted) by their own reload. Everything is on loopback; a run takes about 20 s.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MESSAGE = 100  # bytes
_TALKS_EVERY = 0.1  # s
_PATIENCE = 15.0  # s; a SYN that a full queue drops is sent again after 1, 3 and 7 s
_LIVES = (2.0, 10.0)  # s, of a long one; then another comes
_LATE = 0.1  # s of short ones that are made up for
_BETWEEN = 3.0  # s between two restarts
_BADLY = ("refused", "reset", "cut short", "wrong", "timed out")


@dataclass
class Counts:
    """What clients have seen."""

    ended: Counter[str] = field(default_factory=Counter)  # how, of all connections
    long_ended: Counter[str] = field(default_factory=Counter)  # of the long ones among them
    sent: int = 0
    received: int = 0
    slowest: float = 0.0  # s, of a short one


class Client:
    """One connection: short, or one that talks until some time."""

    def __init__(self, load: Load, where: tuple[str, int], until: float | None) -> None:
        self._load = load
        self.began = self.moved_at = time.monotonic()
        self.until = until
        self._waits = bytearray()  # for these bytes
        self._connected = self._said_all = False
        self.next_at = 0.0
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = self.sock.connect_ex(where)
        load.watch(self, select.EPOLLIN | select.EPOLLOUT)
        if found not in (0, errno.EINPROGRESS):
            self.end(_named(found))

    def on_event(self, events: int) -> None:
        try:
            if not self._connected:
                if not events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                    return
                problem = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if problem:
                    self.end(_named(problem))
                    return
                self._connected = True
                self._load.change(self, select.EPOLLIN)
                self.talk()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._hear()
        except BlockingIOError:
            pass
        except OSError as exc:
            self.end(_named(exc.errno or 0))

    def talk(self) -> None:
        """Send a message; the last one of a long one is the end."""
        now = time.monotonic()
        if self.until is not None and now >= self.until:
            if self._waits:  # nginx ends both ways at the end of one
                self.next_at = now + _TALKS_EVERY
                self._load.talks_later(self)
            else:
                self._say_end()
            return
        message = self._load.message()
        sent = self.sock.send(message)  # a socket's buffer has room for one
        assert sent == len(message)
        self._waits += message
        self._load.counts.sent += sent
        self.moved_at = now
        self.next_at = now + _TALKS_EVERY
        if self.until is not None:
            self._load.talks_later(self)

    def _say_end(self) -> None:
        self._said_all = True
        self.sock.shutdown(socket.SHUT_WR)

    def _hear(self) -> None:
        data = self.sock.recv(65_536)
        self.moved_at = time.monotonic()
        self._load.counts.received += len(data)
        if not data:
            self.end("well" if self._said_all and not self._waits else "cut short")
        elif self._waits[: len(data)] != data:
            self.end("wrong")
        else:
            del self._waits[: len(data)]
            if self.until is None and not self._waits:  # not before: nginx ends both ways at once
                self._say_end()

    def end(self, how: str) -> None:
        self._load.forget(self, how)
        self.sock.close()

    @property
    def talks(self) -> bool:
        return self.sock.fileno() >= 0 and self._connected and not self._said_all


def _named(number: int) -> str:
    if number == errno.ECONNREFUSED:
        return "refused"
    return "reset" if number in (errno.ECONNRESET, errno.EPIPE) else os.strerror(number)


class Load:
    """All clients, in one thread.

    Args:
        where: the server.
        rate: short ones a second.
        long: long ones at a time.
    """

    def __init__(self, where: tuple[str, int], rate: float, long: int) -> None:
        self.counts = Counts()
        self._where = where
        self._rate = rate
        self._long = long
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._later: deque[Client] = deque()  # in the order in which they talk again
        self._longs = 0
        self._due = 0.0  # s since the beginning, when the next short one is to come
        self._number = 0
        self._random = random.Random(1)  # the same lives in each run

    def message(self) -> bytes:
        self._number += 1
        return f"{self._number:0{_MESSAGE}d}".encode()

    def watch(self, client: Client, events: int) -> None:
        self._clients[client.sock.fileno()] = client
        self._poll.register(client.sock.fileno(), events)

    def change(self, client: Client, events: int) -> None:
        self._poll.modify(client.sock.fileno(), events)

    def forget(self, client: Client, how: str) -> None:
        del self._clients[client.sock.fileno()]
        self._poll.unregister(client.sock.fileno())
        self.counts.ended[how] += 1
        if client.until is not None:
            self.counts.long_ended[how] += 1
            self._longs -= 1
        else:
            self.counts.slowest = max(self.counts.slowest, time.monotonic() - client.began)

    def talks_later(self, client: Client) -> None:
        self._later.append(client)

    def run(self, over: threading.Event) -> float:
        """Run until it is over and everybody has ended; return the seconds in which some came."""
        begun = time.monotonic()
        looked = begun
        lasted = 0.0
        while not lasted or self._clients:
            now = time.monotonic()
            if not lasted and over.is_set():
                lasted = now - begun
                for client in list(self._clients.values()):
                    if client.until is not None:
                        client.until = now  # it has its say, and ends
            if not lasted:
                self._begin(now - begun)
            for fd, events in self._poll.poll(0.002):
                client = self._clients.get(fd)
                if client is not None:
                    client.on_event(events)
            self._talk()
            if now - looked > 1:
                looked = now
                self._end_those_that_wait(now)
        self._poll.close()
        return lasted

    def _begin(self, since: float) -> None:
        while self._longs < self._long:
            self._longs += 1
            lives = self._random.uniform(*_LIVES)
            Client(self, self._where, time.monotonic() + lives)
        # a clock that jumps, or a core that was not ours, makes no burst: a listen queue has an end
        self._due = max(self._due, since - _LATE)
        while self._due < since:
            self._due += 1 / self._rate
            Client(self, self._where, None)

    def _talk(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0].next_at <= now:
            client = self._later.popleft()
            if client.talks:
                try:
                    client.talk()
                except OSError as exc:
                    client.end(_named(exc.errno or 0))

    def _end_those_that_wait(self, now: float) -> None:
        for client in list(self._clients.values()):
            if now - client.moved_at > _PATIENCE:
                client.end("timed out")


# -- who is restarted


@dataclass
class Subject:
    """A server that runs.

    Attributes:
        where: its address.
        restart: has another one take over; returns once it has, where that is told.
        end: ends all of it.
    """

    where: tuple[str, int]
    restart: Callable[[], object]
    end: Callable[[], object]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 30
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"restarts: {what} within 30 s")
        time.sleep(0.02)


def _answers(where: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(where, 5) as sock:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"
    except OSError:
        return False


def _runs(pid: int) -> bool:
    """Whether it has not ended; whoever has no parent any more is init's, or ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _muxcore(folder: Path, *options: str) -> Subject:
    port, file = _free_port(), folder / "pid"
    base = [sys.executable, "-m", "muxcore"]
    limits = ["--drain-timeout", "60", "--pidfile", str(file)]
    command = [*base, "echo", str(port), "--engine", "native-epoll", *limits, *options]
    with (folder / "log").open("ab") as log:
        subprocess.Popen(command, stdout=log, stderr=log)
    _wait_until(file.exists, "muxcore echo does not serve")
    pids = [int(file.read_text())]

    def restart() -> None:
        subprocess.run([*base, "reload", str(file)], check=True, stdout=subprocess.DEVNULL)
        pids.append(int(file.read_text()))

    def end() -> None:
        os.kill(pids[-1], signal.SIGTERM)
        for pid in pids:
            _wait_until(lambda pid=pid: not _runs(pid), f"process {pid} does not end")

    return Subject(("127.0.0.1", port), restart, end)


def _relay(
    folder: Path,
    configuration: str,
    command: Callable[[Path], list[str]],
    number: signal.Signals,
) -> Subject:
    """Return a relay of somebody else's before an echo of ours, which is not restarted."""
    (folder / "echo").mkdir()
    echo = _muxcore(folder / "echo")
    port, file = _free_port(), folder / "configuration"
    file.write_text(
        configuration.replace("PORT", str(port))
        .replace("ECHO", str(echo.where[1]))
        .replace("FOLDER", str(folder))
    )
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command(file), stdout=log, stderr=log)
    where = ("127.0.0.1", port)
    try:
        _wait_until(lambda: _answers(where), f"{command(file)[0]} does not serve")
    except BaseException:
        process.kill()
        process.wait()
        echo.end()
        raise

    def restart() -> None:
        process.send_signal(number)
        time.sleep(1)  # it does not say when it is done

    def end() -> None:
        process.terminate()
        process.wait()
        echo.end()

    return Subject(where, restart, end)


_NGINX = """
worker_processes 2;
error_log FOLDER/error.log;
pid FOLDER/pid;
events { worker_connections 8000; }
stream { server { listen 127.0.0.1:PORT backlog=4096; proxy_pass 127.0.0.1:ECHO; } }
"""
_HAPROXY = """
global
    maxconn 8000
    stats socket FOLDER/stats mode 600 expose-fd listeners
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    backlog 4096
listen echo
    bind 127.0.0.1:PORT
    server echo 127.0.0.1:ECHO
"""


def _nginx(folder: Path) -> Subject:
    # Debian has the stream module in a file of its own
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};\n" if module.exists() else ""
    return _relay(
        folder,
        load + _NGINX,
        lambda file: ["nginx", "-c", str(file), "-g", "daemon off;"],
        signal.SIGHUP,
    )


def _haproxy(folder: Path) -> Subject:
    return _relay(
        folder, _HAPROXY, lambda file: ["haproxy", "-W", "-db", "-f", str(file)], signal.SIGUSR2
    )


SUBJECTS: dict[str, tuple[str, Callable[[Path], Subject]]] = {
    "muxcore": ("", _muxcore),
    "muxcore, 2 workers": ("", lambda folder: _muxcore(folder, "--workers", "2")),
    "muxcore, 2 workers, exact": (
        "",
        lambda folder: _muxcore(folder, "--workers", "2", "--balance", "exact"),
    ),
    "nginx": ("nginx", _nginx),
    "haproxy": ("haproxy", _haproxy),
}


@contextlib.contextmanager
def _running(make: Callable[[Path], Subject]) -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="restarts-") as folder:
        os.chmod(folder, 0o755)  # for a worker of another user
        subject = make(Path(folder))
        try:
            yield subject
        finally:
            subject.end()


def measure(
    make: Callable[[Path], Subject], rate: float, long: int, restarts: int
) -> tuple[Counts, float, list[float]]:
    """Restart a server under load; return what clients saw, for how long, and each restart's time.

    Raises:
        subprocess.CalledProcessError: one has failed.
    """
    took: list[float] = []
    failed: list[BaseException] = []
    over = threading.Event()
    with _running(make) as subject:

        def go() -> None:
            try:
                for _ in range(restarts):
                    time.sleep(_BETWEEN)
                    begun = time.monotonic()
                    subject.restart()
                    took.append(time.monotonic() - begun)
                time.sleep(_BETWEEN)
            except BaseException as exc:
                failed.append(exc)
            finally:
                over.set()

        load = Load(subject.where, rate, long)
        thread = threading.Thread(target=go)
        thread.start()
        lasted = load.run(over)
        thread.join()
    if failed:
        raise failed[0]
    return load.counts, lasted, took


def _row(name: str, counts: Counts, lasted: float, took: list[float]) -> str:
    total = sum(counts.ended.values())
    bad = " ".join(f"{counts.ended[how]:>10}" for how in _BADLY)
    others = {how: n for how, n in counts.ended.items() if how not in ("well", *_BADLY)}
    long = sum(counts.long_ended.values())
    longest = max(took, default=0)
    return (
        f"{name:26} {len(took):>8} {total:>11} {total / lasted:>7.0f} {bad} "
        f"{counts.sent - counts.received:>10} {long:>6} {long - counts.long_ended['well']:>9} "
        f"{counts.slowest * 1000:>8.0f} {longest:>8.2f}{f'  {others}' if others else ''}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=f"of {', '.join(map(repr, SUBJECTS))}")
    parser.add_argument("--rate", type=float, default=2000, help="connections a second")
    parser.add_argument("--long", type=int, default=500, help="that stay and talk")
    parser.add_argument("--restarts", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.name) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    heads = " ".join(f"{how:>10}" for how in _BADLY)
    print(
        f"{'server':26} {'restarts':>8} {'connections':>11} {'a s':>7} {heads} "
        f"{'bytes lost':>10} {'long':>6} {'cut':>9} {'slowest':>8} {'longest':>8}"
    )
    print(f"{'':26} {'':>8} {'':>11} {'':>7} {'':54} {'':>10} {'':>6} {'':>9} {'ms':>8} {'s':>8}")
    worst = 0
    for name in options.name or SUBJECTS:
        program, make = SUBJECTS[name]
        if program and shutil.which(program) is None:
            print(f"{name:26} is not installed (Debian and Ubuntu: apt-get install {program})")
            continue
        found = measure(make, options.rate, options.long, options.restarts)
        print(_row(name, *found), flush=True)
        lost = sum(found[0].ended.values()) - found[0].ended["well"]
        if name.startswith("muxcore"):
            worst += lost
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
