"""What one turn of a loop costs those who wait for it: two things that no message rate shows.

- Fan-out: one client speaks, and twenty messages go to each of fifty in one callback. How often
  does the server call the kernel to send? strace(1) counts.
- The first answer of a slow turn: fifty clients speak at once, and each takes 5 ms of Python. How
  long until anybody has an answer? One that waits for the others comes after 250 ms.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import shutil
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from muxcore.compare import record
from muxcore.compare.handlers import FanOut, SlowEcho
from muxcore.compare.report.verdict import ratio
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, app_subject, client_core
from muxcore.compare.statistics import corrected, median_interval, ratios
from muxcore.compare.syscalls import traced

CLIENTS = 50
_PATIENCE = 30.0  # s: a server that has said nothing by then has failed
_SENDS = ("sendto", "sendmsg", "sendmmsg", "write", "writev")
_SLOW_TURNS = 4  # of one fresh start
_REFERENCE = "pure-epoll"


def measure(
    engines: Sequence[str], *, rounds: int, blocks: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Measure each engine; return a row of figures for each, as JSON takes it.

    Args:
        engines: by name.
        rounds: slow turns of each, in all; every start of a server has four.
        blocks: fan-outs that are traced, each of a server started anew.
        rng: orders the engines within a round.
    """
    strace = shutil.which("strace")
    rows: list[dict[str, Any]] = [{"subject": name, "stopped": ""} for name in engines]
    firsts: dict[str, dict[int, float]] = {name: {} for name in engines}
    for number in range(max(rounds // _SLOW_TURNS, 1)):
        for row in rng.sample(rows, len(rows)):
            if not row["stopped"]:
                with _noting(row):
                    found = _first_answers(_subject(row["subject"], SlowEcho))
                    for turn, first in enumerate(found):
                        firsts[row["subject"]][number * _SLOW_TURNS + turn] = first
    for row in rows:
        if row["stopped"]:
            continue
        of = firsts[row["subject"]]
        row["first_answer_ms"] = 1000 * statistics.median(of.values())
        if row["subject"] != _REFERENCE and firsts.get(_REFERENCE):
            row["against"] = record.interval(
                median_interval(list(ratios(firsts[_REFERENCE], of).values()), corrected(len(rows)))
            )
        with _noting(row):
            if strace:
                subject = _subject(row["subject"], FanOut)
                row["sends"] = max(_fan_out(strace, subject) for _ in range(blocks))
    return rows


HEAD = ["engine", "sends of a fan-out", "first of 50 slow answers, ms", f"{_REFERENCE} / it"]


def line(row: dict[str, Any]) -> list[str]:
    """Return a row of figures as it stands in a table, under ``HEAD``."""
    return [
        row["subject"],
        str(row.get("sends", "no strace")),
        f"{row['first_answer_ms']:.1f}",
        ratio(row["against"]) if "against" in row else "",
    ]


def _subject(engine: str, service: type) -> Subject:
    return app_subject(engine, f"{service.__module__}:{service.__qualname__}")


@contextlib.contextmanager
def _noting(row: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (ServerFailed, OSError) as exc:
        row["stopped"] = str(exc)


def _connect(stack: contextlib.ExitStack, server: ServerProcess) -> list[socket.socket]:
    host, _, port = server.address.rpartition(":")
    socks = []
    for _ in range(CLIENTS):
        sock = stack.enter_context(socket.create_connection((host, int(port)), _PATIENCE))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socks.append(sock)
    return socks


def _take(sock: socket.socket, size: int) -> None:
    while size:
        got = len(sock.recv(size))
        if not got:
            raise OSError("the server ended a connection")
        size -= got


def _first_answers(subject: Subject) -> list[float]:
    """Return the seconds until the first answer of each slow turn."""
    found = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(client_core())
        socks = _connect(stack, stack.enter_context(ServerProcess(subject)))
        selector = stack.enter_context(selectors.DefaultSelector())
        for sock in socks:
            sock.sendall(b"warm")
            _take(sock, 4)
            selector.register(sock, selectors.EVENT_READ)
        for _ in range(_SLOW_TURNS):
            began = time.perf_counter()
            for sock in socks:
                sock.sendall(b"slow")
            if not selector.select(_PATIENCE):
                raise OSError(f"no answer within {_PATIENCE:g} s")
            found.append(time.perf_counter() - began)
            for sock in socks:
                _take(sock, 4)
    return found


def _fan_out(strace: str, subject: Subject) -> int:
    """Return how many calls the server makes to send one fan-out."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(client_core())
        server = stack.enter_context(ServerProcess(subject))
        socks = _connect(stack, server)
        size = FanOut.MESSAGES * FanOut.SIZE

        def speak() -> None:
            socks[0].sendall(b"all")
            for sock in socks:
                _take(sock, size)

        for sock in socks:
            _take(sock, len(FanOut.GREETING))
        speak()  # the loop is warm from here on
        with traced(strace, server.pid, *_SENDS) as counted:
            speak()
        return counted[0]
