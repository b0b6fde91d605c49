"""A server that relays, with an admin service, and who asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore import address
from muxcore.admin import Admin
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream


class Asked:
    """A server with its admin service.

    Attributes:
        server, admin: they.
        where: which of the service's addresses is asked.
    """

    def __init__(self, server: muxcore.Server, admin: Admin) -> None:
        self.server, self.admin = server, admin
        self.where = "socket"

    def sock(self) -> socket.socket:
        """Return a connection to the service."""
        family, sockaddr = address.resolve(address.parse(self.admin.addresses[self.where]))[0]
        sock = socket.socket(family)
        sock.settimeout(DEADLINE)
        sock.connect(sockaddr)
        return sock

    def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Return status and text of an answer."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.sock()
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def json(self, target: str, method: str = "GET") -> Any:
        status, text = self.ask(target, method)
        assert status == 200, text
        return json.loads(text)

    def post(self, target: str) -> Any:
        return self.json(target, "POST")

    def upstream(self, name: str) -> Any:
        """Return what is known of an upstream."""
        return next(
            each
            for pool in self.json("/pools")["pools"]
            for each in pool["upstreams"]
            if each["upstream"] == name
        )

    def client(self, upstream: Upstream) -> Peer:
        """Return a client that is joined with an upstream."""
        client = Peer(self.server.addresses[0])
        there = upstream.accept()
        there.send(b"x")
        client.read(1)
        self.kept = [*getattr(self, "kept", []), there]
        return client


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[..., Asked]]:
    """Start a server and its admin service."""
    with contextlib.ExitStack() as running:

        def start(
            service: Any, config: Any = None, ready_needs: Iterable[str] = (), **options: Any
        ) -> Asked:
            options.setdefault("engine", "pure-epoll")
            server = muxcore.Server(service, "127.0.0.1:0", **options)
            running.enter_context(server)
            admin = Admin(
                server,
                socket=f"unix:{tmp_path}/admin",
                metrics="127.0.0.1:0",
                agent="127.0.0.1:0",
                config=config,
                ready_needs=ready_needs,
            )
            running.enter_context(admin)
            made = Asked(server, admin)
            there = max(1, server.workers)
            eventually(lambda: len(made.json("/status")["processes"]) == there, "not all are asked")
            return made

        yield start
