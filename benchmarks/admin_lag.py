"""How much later the loop of a big relay is while it is scraped and listed.

    python benchmarks/admin_lag.py [CONNECTIONS [UPSTREAMS]]

A relay in this process has so many idle pairs (8,000) to so many upstreams (500); clients and
upstreams are in another process. A timer of a millisecond says how late the loop is, first with
nobody asking, then during each request. The goal is 5 ms at a time beyond what it is without.
"""

from __future__ import annotations

import gc
import http.client
import os
import socket
import sys
import tempfile
import threading
import time
from time import monotonic, perf_counter

import muxcore
from muxcore.admin import Admin
from muxcore.load.descriptors import take_all

_EACH = 12  # requests of a kind
_TARGETS = ("", "/metrics", "/status", "/pools", "/connections", "/connections?older=86400")


class _Late:
    """The lateness of a loop's timer of one millisecond; in its thread, but for ``worst``."""

    def __init__(self, server: muxcore.Server) -> None:
        self._server = server
        self.worst: list[float] = [0.0]
        server.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._due = monotonic() + 0.001
        self._server.call_later(0.001, self._looked)

    def _looked(self) -> None:
        self.worst[0] = max(self.worst[0], monotonic() - self._due)
        self._look()


def _ask(path: str, target: str) -> int:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", target)
    size = len(connection.getresponse().read())
    connection.close()
    return size


def _others(listening: socket.socket, where: tuple[str, int], count: int, told: int) -> None:
    """Be the upstreams and the clients, until the pipe is closed."""
    with muxcore.Server(muxcore.Discard, listening):
        clients = [socket.create_connection(where) for _ in range(count)]
        os.read(told, 1)
        for each in clients:
            each.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000
    upstreams = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    take_all()
    listening, ours = socket.create_server(("0.0.0.0", 0)), socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    names = [f"127.0.{number // 200}.{number % 200 + 1}:{port}" for number in range(upstreams)]
    told, tell = os.pipe()
    if not os.fork():
        os.close(tell)
        _others(listening, ours.getsockname(), count, told)
        os._exit(0)
    os.close(told)
    listening.close()
    pool = muxcore.Pool(*names, name="big")
    with tempfile.TemporaryDirectory() as folder:
        server = muxcore.Server(muxcore.Relay(pool), ours)
        admin = Admin(server, socket=f"unix:{folder}/admin")
        measuring = threading.Thread(target=_measure, args=(server, pool, folder, count, tell))

        def ready(_: muxcore.Server) -> None:
            admin.start()
            measuring.start()
            gc.freeze()  # as the command does

        server.run(ready)
        admin.stop()
        measuring.join()


def _measure(
    server: muxcore.Server, pool: muxcore.Pool, folder: str, count: int, tell: int
) -> None:
    while sum(each.active for each in pool.stats().values()) < count:
        time.sleep(0.1)
    late = _Late(server)
    print(f"{count} connections, {len(pool.upstreams)} upstreams; the loop's lateness in ms:")
    for target in _TARGETS:
        worst, took, size = [], [], 0
        for _ in range(_EACH):
            late.worst[0] = 0.0
            began = perf_counter()
            if target:
                size = _ask(f"{folder}/admin", target)
            else:
                time.sleep(0.2)
            took.append(perf_counter() - began)
            worst.append(late.worst[0] * 1000)
        worst.sort()
        middle, seconds = worst[_EACH // 2], sorted(took)[_EACH // 2]
        name = target or "nobody asks"
        print(f"{name:28} {middle:6.2f}, at worst {worst[-1]:6.2f}; {seconds:.3f} s, {size} bytes")
    os.close(tell)
    server.request_stop()


if __name__ == "__main__":
    main()
