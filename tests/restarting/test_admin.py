"""An admin service goes over to the process that takes over, with its path and its port."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing import Peer, eventually
from muxcore.testing.peer import DEADLINE
from muxcore.testing.upstream import Upstream
from tests.restarting.service import ended

_PROGRAM = """
import logging, os, sys

import muxcore
from muxcore.admin import Admin

if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    relay = muxcore.Relay("UPSTREAM")
    server = muxcore.Server(relay, "127.0.0.1:0", engine="pure-epoll", workers=WORKERS)
    admin = Admin(server, socket="unix:admin", metrics="[::1]:0")

    def ready(server):
        admin.start()
        where = [*server.addresses, admin.addresses["metrics"]]
        print("listening on", *where, os.getpid(), flush=True)

    status = server.run(ready)
    admin.stop()
    sys.exit(status)
"""


def _asked(path: Path, target: str = "/status") -> Any:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(DEADLINE)
    connection.sock.connect(str(path))
    connection.request("GET", target)
    text = connection.getresponse().read()
    connection.close()
    return json.loads(text)


@pytest.mark.parametrize("workers", [None, 1])
def test_who_takes_over_answers_at_the_same_places(
    start: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int | None,
) -> None:
    monkeypatch.chdir(tmp_path)  # a path of a socket has 107 bytes
    path = Path("admin")
    with Upstream() as upstream:
        program = _PROGRAM.replace("UPSTREAM", upstream.address)
        service = start(program=program.replace("WORKERS", str(workers)))
        where, metrics = service.addresses
        first = service.pid
        assert _asked(path)["pid"] == first
        with Peer(where) as client:
            there = upstream.accept()
            there.send(b"x")
            client.read(1)
            second = service.restart()
            assert service.addresses == [where, metrics]
            # the one before drains, and has nothing to say any more
            eventually(
                lambda: {_asked(path)["pid"] for _ in range(20)} == {second},
                "the one before answers",
            )
            assert not ended(first)
            there.close()
            client.read_end()
        eventually(lambda: ended(first), service.log)
        assert _asked(path)["pid"] == second
        os.kill(second, 1)  # SIGHUP: a reload
        assert _asked(path)["ready"]
        service.end()
    assert not path.exists()
