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
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _crowd import BADLY, Counts, Load

_BETWEEN = 3.0  # s between two restarts


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
        time.sleep(0.02)  # between two looks: a process that begins tells nobody


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
                    time.sleep(_BETWEEN)  # the load goes on for itself
                    begun = time.monotonic()
                    subject.restart()
                    took.append(time.monotonic() - begun)
                time.sleep(_BETWEEN)  # and after the last one
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
    bad = " ".join(f"{counts.ended[how]:>10}" for how in BADLY)
    others = {how: n for how, n in counts.ended.items() if how not in ("well", *BADLY)}
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
    heads = " ".join(f"{how:>10}" for how in BADLY)
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
