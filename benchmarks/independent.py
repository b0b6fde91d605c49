"""Whether our client agrees with those of others, wrk and sockperf, on a server that is not ours.

    python benchmarks/independent.py            asyncio under three clients, two minutes
    python benchmarks/independent.py uvloop     the same on uvloop's loop

The server is a plain ``asyncio.Protocol``, which gives one reply to each message and counts them
where we can read it. A pair is two windows in random order, one under a client of
others and one under ``muxcore load``. In each the server's CPU and its own count are read in the
middle of the run, so that both clients are judged by the same reading; the latency is what each
client says. It needs wrk and sockperf from the operating system; what is missing is left out.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from muxcore.compare.accounting import cpu_ns
from muxcore.compare.statistics import median_interval

PAIRS = 16
RUN, SETTLE, WINDOW = 1, 0.35, 0.5  # s: a client's run (of whole ones), what is not read, what is
CONNECTIONS = (1, 8, 50, 200)
SIZE = 64  # bytes of sockperf's message

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n" + b"x" * 26  # 64 bytes
_CLIENT_FLAG = 9  # sockperf's header: 8 bytes of a number, and 2 of flags, whose lowest bit is this


class Replies(asyncio.Protocol):
    """The server, but for its loop: one reply to each message."""

    def __init__(self, counted: memoryview, sockperf: bool) -> None:
        self._counted = counted
        self._sockperf = sockperf

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._counted[0] += 1
        reply = _REPLY
        if self._sockperf:  # its own message, which no longer says that it is a client's
            reply = bytearray(data)
            reply[_CLIENT_FLAG] &= 0xFE
        self._transport.write(reply)


async def serve(counter: int, sockperf: bool) -> None:
    """Be the server, and say where it listens."""
    counted = memoryview(mmap.mmap(counter, 8)).cast("Q")
    server = await asyncio.get_running_loop().create_server(
        lambda: Replies(counted, sockperf), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """A server as a process, on the second core."""

    def __init__(self, loop: str, *, sockperf: bool) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(8)
            self._counted = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
            argv = [sys.executable, __file__, "serve", loop, str(file.fileno()), str(int(sockperf))]
            self._process = subprocess.Popen(
                [*_pinned(1), *argv], stdout=subprocess.PIPE, text=True, pass_fds=[file.fileno()]
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def window(self, argv: Sequence[str]) -> tuple[float, str]:
        """Return the CPU of a message, in us, amid a client's run, and what that says."""
        before = self._counted[0]
        client = subprocess.Popen([*_pinned(0), *argv], stdout=subprocess.PIPE, text=True)
        while self._counted[0] == before and client.poll() is None:
            time.sleep(0.01)  # each takes its own time to begin
        time.sleep(SETTLE)
        cpu, count = cpu_ns(self._process.pid), self._counted[0]
        time.sleep(WINDOW)
        cpu, count = cpu_ns(self._process.pid) - cpu, self._counted[0] - count
        told, _ = client.communicate(timeout=30)
        if client.returncode or not count:
            raise SystemExit(f"{' '.join(argv)} ended with {client.returncode}: {told[:1000]}")
        return cpu / count / 1000, told


def _pinned(core: int) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)])]


def wrk(port: int, connections: int) -> list[str]:
    return ["wrk", "-t1", f"-c{connections}", f"-d{RUN}s", "--latency", _url(port)]


def sockperf(port: int) -> list[str]:
    argv = ["sockperf", "ping-pong", "--tcp", "-i", "127.0.0.1", "-p", str(port)]
    return [*argv, "-m", str(SIZE), "-t", str(RUN), "--full-rtt"]


def load(where: str, connections: int, *more: str) -> list[str]:
    argv = [sys.executable, "-m", "muxcore", "load", where, "-c", str(connections)]
    return [*argv, "-d", f"{RUN}s", "--warmup", "0", "--json", *more]


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def _wrk_median(told: str) -> float:
    """Return the median of what wrk has timed, in us."""
    found = re.search(r"50%\s+([\d.]+)(us|ms)", told)
    assert found, told
    return float(found[1]) * (1000 if found[2] == "ms" else 1)


def _sockperf_median(told: str) -> float:
    found = re.search(r"percentile 50\.000 =\s+([\d.]+)", told)
    assert found, told
    return float(found[1])


def _our_median(told: str) -> float:
    return float(json.loads(told)["latency_us"]["p50"])


def compare(
    server: Server, title: str, theirs: list[str], ours: list[str], median: Callable[[str], float]
) -> None:
    """Measure the pairs, and print what ours says beside what theirs does."""
    kinds = {"theirs": (theirs, median), "ours": (ours, _our_median)}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(-1, PAIRS):
        for kind in random.sample(list(kinds), 2):
            argv, read = kinds[kind]
            cpu, told = server.window(argv)
            if number >= 0:  # the first pair warms the server
                found[kind].append((cpu, read(told)))
    print(title)
    for at, what in enumerate(("server's CPU a message", "median latency")):
        pairs = [(o[at], t[at]) for o, t in zip(found["ours"], found["theirs"], strict=True)]
        ratio = median_interval([one / other for one, other in pairs])
        own, others = (median_interval([pair[side] for pair in pairs]).median for side in (0, 1))
        print(f"  {what:24} {own:7.2f} / {others:7.2f} us: {ratio}", flush=True)


def main() -> None:
    loop = "uvloop" if "uvloop" in sys.argv[1:2] else "asyncio"
    if shutil.which("wrk"):
        with Server(loop, sockperf=False) as server:
            for connections in CONNECTIONS:
                ours = load(_url(server.port), connections)
                title = f"{loop}, {connections} connections: muxcore load / wrk"
                compare(server, title, wrk(server.port, connections), ours, _wrk_median)
    if shutil.which("sockperf"):
        with Server(loop, sockperf=True) as server, tempfile.TemporaryDirectory() as folder:
            request, reply = Path(folder, "request"), Path(folder, "reply")
            message = bytes(_CLIENT_FLAG) + b"\1" + bytes(SIZE - _CLIENT_FLAG - 1)
            request.write_bytes(message)
            reply.write_bytes(bytes(SIZE))
            said = ("--request", f"@{request}", "--expect", f"@{reply}")
            ours = load(f"127.0.0.1:{server.port}", 1, *said)
            title = f"{loop}, 1 connection: muxcore load / sockperf"
            compare(server, title, sockperf(server.port), ours, _sockperf_median)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _, _, name, counter, for_sockperf = sys.argv
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its starter ends it
        if name == "uvloop":
            import uvloop

            uvloop.run(serve(int(counter), for_sockperf == "1"))
        else:
            asyncio.run(serve(int(counter), for_sockperf == "1"))
    else:
        main()
