"""Servers to compare: real processes, kept small."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muxcore.compare.servers import Subject

_ECHO = """
import selectors, signal, socket, sys, time
CHANGE, WORK, LIMIT, COLD, SAYS = {change}, {work}, {limit}, {cold}, {says!r}
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
ready = selectors.DefaultSelector()
ready.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is listener:
            client, _ = listener.accept()
            if len(ready.get_map()) > LIMIT:
                print(SAYS, flush=True)
                client.close()
            else:
                ready.register(client, selectors.EVENT_READ)
            continue
        try:
            data = key.fileobj.recv(65536)
        except OSError:
            data = b""
        if not data:
            ready.unregister(key.fileobj)
            key.fileobj.close()
            COLD = 0.0
            continue
        until = time.process_time() + WORK + COLD
        while time.process_time() < until:
            pass
        key.fileobj.sendall(bytes([data[0] ^ CHANGE]) + data[1:])
"""


@pytest.fixture
def subject(tmp_path: Path) -> Callable[..., Subject]:
    """Return a maker of servers.

    ``change`` spoils bytes, ``work`` burns CPU, ``cold`` too until a client has gone, ``limit``
    refuses, and ``says`` why.
    """

    def make(
        name: str,
        change: int = 0,
        work: float = 0.0,
        limit: int = 10_000,
        cold: float = 0.0,
        says: str = "",
    ) -> Subject:
        path = tmp_path / f"{name.replace(' ', '_')}.py"
        path.write_text(_ECHO.format(change=change, work=work, limit=limit, cold=cold, says=says))
        engine, _, handler = name.partition(" ")
        return Subject(name, (sys.executable, str(path)), engine, handler)

    return make
