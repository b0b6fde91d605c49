"""What several processes cost, and what becomes of clients when one of them dies or stalls.

    python benchmarks/workers.py cost             CPU of a message by one process, one worker, two
    python benchmarks/workers.py kills            a worker killed (-9) each second for a minute
    python benchmarks/workers.py stalls           slow requests where one of two workers stalls
    python benchmarks/workers.py spread           5,000 connections: the fullest worker's share

Cost: all servers on one core and the client on another, as `run.py` has it, so that what a second
worker adds is seen, and not a second core. Kills: each of fifty clients asks again and again who
serves it; only those whom the killed worker had accepted may see an end. Stalls: a worker sleeps
for 20 ms in each 200; two of the servers are the same, for the A/A. Spread: each of the connections
asks who serves it, and stays.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import muxcore
from muxcore.compare.findings import report
from muxcore.compare.questions import Question
from muxcore.compare.rounds import Cell, measure
from muxcore.compare.servers import Subject
from muxcore.compare.session import twin_of
from muxcore.load import LoadConfig, generator, numeric, window

STALL, EVERY = 0.02, 0.2  # s
SLOW = 1.0  # ms: more than a request to a server that is not stalled takes
CLIENTS, VISIT = 50, 200  # clients, and answers until one comes again
LONG, AT_ONCE = 5_000, 250  # connections that stay, and that come before one is asked


class Pid:
    """Answers each byte with a line that says which process serves."""

    def connection_made(self, transport: muxcore.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"%d\n" % os.getpid() * len(data))


class Stalling:
    """An echo, one process of which sleeps now and then."""

    def __call__(self) -> muxcore.protocol.AnyProtocol:
        return muxcore.Echo()

    def server_started(self, server: muxcore.Server) -> None:
        try:
            os.close(os.open(os.environ["BENCHMARKS_STALLS"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:  # another worker is the one
            return
        self._sleep(server)

    def _sleep(self, server: muxcore.Server) -> None:
        time.sleep(STALL)  # this is the stall
        server.call_later(EVERY - STALL, self._sleep, server)


def _serve(service: str, workers: int | None, balance: str) -> int:
    services: dict[str, muxcore.protocol.Service] = {"pid": Pid, "stalling": Stalling()}
    return muxcore.serve(
        services[service],
        "127.0.0.1:0",
        workers=workers,
        balance=balance,
        on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
    )


def _command(*words: object) -> tuple[str, ...]:
    return (sys.executable, str(Path(__file__)), *map(str, words))


# -- cost


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the verb echo by one process, by one worker, and by two."""
    plain = (sys.executable, "-m", "muxcore", "echo", "0", "--drain-timeout", "0")
    subjects = [
        Subject("one process", plain, "native-epoll", "verb"),
        Subject("one worker", (*plain, "--workers", "1"), "native-epoll", "verb"),
        Subject("two workers", (*plain, "--workers", "2"), "native-epoll", "verb"),
    ]
    load = {"connections": CLIENTS, "sizes": ((64, 1.0),), "reply_timeout": 10.0}
    cell = Cell("64 B, 50 connections", load, 0.1, 0.02, options.rounds)
    (series,) = measure([*subjects, twin_of(subjects[0])], [cell], rng=random.Random(1))
    questions = [Question(each.name, subjects[0].name, each.name) for each in subjects[1:]]
    found = report(series, questions, len(questions))
    for name, figures in found.figures.items():
        print(f"{name:12} {figures.cpu_us} us of CPU a message")
    for finding in found.findings:
        interval = finding.verdict.interval
        print(f"{finding.question.asks} against one process: x{interval} {finding.verdict.word}")
    print(f"two identical servers: x{found.twin['cpu']}")
    return {
        "cpu_us": {name: figures.cpu_us.median for name, figures in found.figures.items()},
        "ratios": {each.question.asks: str(each.verdict.interval) for each in found.findings},
        "twin": str(found.twin["cpu"]),
    }


# -- kills


@dataclass
class Seen:
    """What all clients have seen together; changed under its lock."""

    answers: int = 0
    ended: Counter[int] = field(default_factory=Counter)  # connections, by who served them
    refused: int = 0
    servers: dict[int, float] = field(default_factory=dict)  # monotonic(), when first seen
    lock: threading.Lock = field(default_factory=threading.Lock)


def _ask(where: tuple[str, int], seen: Seen, over: threading.Event) -> None:
    """Be a client that asks who serves it, and comes again and again.

    After so many answers it does so by itself: else all would be with one worker in the end, since
    those of one that is killed are shared out, and nobody would see who replaces the other one.
    """
    while not over.is_set():
        pid = 0
        try:
            with socket.create_connection(where, timeout=10) as sock:
                lines = sock.makefile("rb")
                for _ in range(VISIT):
                    if over.is_set():
                        break
                    sock.sendall(b"?")
                    line = lines.readline()
                    if not line:
                        raise ConnectionResetError
                    pid = int(line)
                    with seen.lock:
                        seen.answers += 1
                        seen.servers.setdefault(pid, time.monotonic())
        except OSError as exc:
            with seen.lock:
                seen.ended[pid] += 1
                seen.refused += isinstance(exc, ConnectionRefusedError)


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """Kill one of two workers each second, and count who else has lost a client."""
    seen, over = Seen(), threading.Event()
    killed: list[int] = []
    took: list[float] = []
    with subprocess.Popen(_command("--serve", "pid", "--workers", 2), stdout=subprocess.PIPE) as it:
        try:
            where = _address(it)
            clients = [
                threading.Thread(target=_ask, args=(where, seen, over)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            for _ in range(options.seconds):
                time.sleep(1.0)  # the load goes on: a kill each second is what is measured
                with seen.lock:
                    known = set(seen.servers)
                alive = [pid for pid in known - set(killed) if os.path.exists(f"/proc/{pid}")]
                victim = random.choice(alive)
                begun = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                took += _replaced(seen, known, begun)
            over.set()
            for client in clients:
                client.join()
            it.terminate()
            status = it.wait(60)
        finally:
            over.set()
            it.kill()
    nobody = seen.ended.pop(0, 0)  # taken and not yet answered, so that nobody says by whom
    others = sum(count for pid, count in seen.ended.items() if pid not in killed)
    found = {
        "kills": len(killed),
        "answers": seen.answers,
        "ended with their worker": sum(seen.ended.values()) - others,
        "ended before their first answer": nobody,
        "ended without": others,
        "refused": seen.refused,
        "replaced, ms (median, most)": (1e3 * statistics.median(took), 1e3 * max(took)),
        "exit status": status,
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    return found


def _replaced(seen: Seen, known: set[int], begun: float) -> list[float]:
    """Return after how many seconds somebody new has answered a client."""
    until = begun + 10
    while time.monotonic() < until:
        with seen.lock:
            new = [at for pid, at in seen.servers.items() if pid not in known]
        if new:
            return [min(new) - begun]
        time.sleep(0.001)  # between two looks: how exactly it is known
    raise SystemExit("nobody has replaced a worker within 10 s")


# -- stalls


def stalls(options: argparse.Namespace) -> dict[str, Any]:
    """Count slow requests where the one process stalls, and where one of two workers does."""
    kinds = {"one process": (), "one process again": (), "two workers": ("--workers", 2)}
    shares: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(max(1, options.rounds // 10)):
        for kind in random.sample(list(kinds), len(kinds)):
            shares[kind].append(_slow(kinds[kind]))
    for kind, values in shares.items():
        print(
            f"{kind:18} {100 * statistics.median(values):5.2f} % of requests took over {SLOW:g} ms "
            f"({100 * min(values):.2f} to {100 * max(values):.2f})"
        )
    return {"slow": shares}


def _slow(words: Sequence[object]) -> float:
    """Return the share of requests that were slow, by a server of its own."""
    command = _command("--serve", "stalling", *words)
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            env={**os.environ, "BENCHMARKS_STALLS": f"{folder}/taken"},
        ) as it,
    ):
        try:
            host, port = _address(it)
            load = LoadConfig(address=numeric(f"{host}:{port}"), connections=CLIENTS, rate=2000.0)
            source = generator(load)
            try:
                result = window(source, 0.5, 2.0)
            finally:
                source.close()
            if not result.ok:
                raise SystemExit(f"the load failed: {result.first_error}")
            slow = sum(n for low, _, n in result.latency.buckets() if low >= SLOW * 1e6)
            return slow / max(result.latency.total, 1)
        finally:
            it.kill()


# -- spread


def spread(options: argparse.Namespace) -> dict[str, Any]:
    """Say how many of the connections the fullest worker has, against the mean."""
    found = {}
    for balance in ("kernel", "exact"):
        for workers in (2, 8):
            fullest = _fullest(workers, balance)
            found[f"{balance}, {workers} workers"] = fullest
            print(f"{balance}, {workers} workers: the fullest has {fullest:.3f} of the mean")
    return found


def _fullest(workers: int, balance: str) -> float:
    command = _command("--serve", "pid", "--workers", workers, "--balance", balance)
    with contextlib.ExitStack() as stack:
        it = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(it.kill)
        where = _address(it)
        served: Counter[int] = Counter()
        for _ in range(LONG // AT_ONCE):
            socks = [socket.create_connection(where, timeout=10) for _ in range(AT_ONCE)]
            for sock in socks:
                stack.enter_context(sock)
                sock.sendall(b"?")
            served.update(int(sock.recv(16)) for sock in socks)
    return max(served.values()) * workers / LONG


def _address(server: subprocess.Popen[bytes]) -> tuple[str, int]:
    assert server.stdout is not None
    host, _, port = server.stdout.readline().decode().split()[2].rpartition(":")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    modes: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "cost": cost,
        "kills": kills,
        "stalls": stalls,
        "spread": spread,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mode", nargs="?", choices=modes, default="cost")
    parser.add_argument("--rounds", type=int, default=90, help="of cost; a tenth of stalls")
    parser.add_argument("--seconds", type=int, default=60, help="of kills")
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--serve", choices=("pid", "stalling"), help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--balance", default="kernel", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return _serve(options.serve, options.workers, options.balance)
    found = modes[options.mode](options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
