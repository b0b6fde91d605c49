"""One server with several services: each has addresses of its own, and all else is shared."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing import Peer
from tests.usual import usual

_ENGINES = usual([info.name for info in muxcore.engines() if info.available])


class Says:
    """Says its name, and what it was told; a service object."""

    def __init__(self, name: str, **attributes: Any) -> None:
        self.name = name
        self.started: list[muxcore.Server] = []
        self.__dict__.update(attributes)

    def __call__(self) -> Says:
        return self

    def __repr__(self) -> str:
        return self.name

    def server_started(self, server: muxcore.Server) -> None:
        self.started.append(server)

    def connection_made(self, transport: Any) -> None:
        transport.write(self.name.encode())
        transport.close()


def said(where: str) -> bytes:
    with Peer(where) as peer:
        return peer.read_all()


@pytest.mark.parametrize("engine", _ENGINES)
def test_each_address_has_its_service(engine: str, tmp_path: Path) -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    one, other = Says("one"), Says("other")
    path = f"unix:{tmp_path}/s"
    where = {"127.0.0.1:0": one, path: other, bound: one}
    with muxcore.Server(where, engine=engine) as server:
        assert [said(each) for each in server.addresses] == [b"one", b"other", b"one"]
        assert server.addresses[1] == path
        assert server.services == (one, other)


def test_each_service_hears_once_that_it_serves() -> None:
    one, other = Says("one"), Says("other")
    with muxcore.Server({"127.0.0.1:0": one, "[::1]:0": other, "localhost:0": one}) as server:
        said(server.addresses[0])
        assert (one.started, other.started) == ([server], [server])


def test_the_limits_of_all_of_them_hold() -> None:
    one = Says("one", limits={"connections": 5, "backlog": 7})
    other = Says("other", limits={"connections": 5, "idle_timeout": 9})
    server = muxcore.Server({1: one, 2: other})
    limits = server._engine.limits
    assert (limits.connections, limits.backlog, limits.idle_timeout) == (5, 7, 9)
    server.stop()


@pytest.mark.parametrize(
    ("service", "where", "error", "words"),
    [
        ({}, (), TypeError, "at least one address"),
        ({0: muxcore.Echo}, (1,), TypeError, "a mapping says where"),
        ({0: muxcore.Echo, 1: muxcore.Echo()}, (), muxcore.ServiceError, "pass Echo itself"),
        ({0: muxcore.Echo, ":1": muxcore.Echo}, (), muxcore.AddressError, "does not say where"),
        (
            {9000: muxcore.Echo, "127.0.0.1:9000": muxcore.Discard},
            (),
            ValueError,
            "127.0.0.1:9000 is given to two services, Echo and Discard",
        ),
        (
            {
                1: Says("one", limits={"idle_timeout": 5}),
                2: Says("other", limits={"idle_timeout": 6}),
            },
            (),
            muxcore.ServiceError,
            "service one brings idle_timeout=5, and service other idle_timeout=6",
        ),
        (
            {1: Says("one", requires="timers"), 2: Says("other", requires="rockets")},
            (),
            muxcore.CapabilityMissing,
            "service other requires rockets.* no engine here has it",
        ),
        (
            {1: Says("one"), 2: Says("other", limits={"no": 1})},
            (),
            muxcore.ServiceError,
            "service other brings limits that cannot be",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    service: Any, where: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        muxcore.Server(service, *where)


def test_several_workers_refuse_the_service_that_cannot_be_shared() -> None:
    class Rooms(muxcore.Echo):
        requires = frozenset({"shared_state"})

    with pytest.raises(muxcore.CapabilityMissing, match=r"service \S*Rooms requires shared"):
        muxcore.Server({1: muxcore.Echo, 2: Rooms}, workers=2)


def test_who_adopts_for_several_services_says_for_which() -> None:
    left, right = socket.socketpair()
    with left, right, muxcore.Server({"[::1]:0": Says("one"), 0: Says("other")}) as server:
        with pytest.raises(TypeError, match="adopt\\(\\) needs a service"):
            server.adopt(left)
        server.adopt(left, server.services[1])
        assert right.recv(9) == b"other"


async def _shout(conn: mux.Connection) -> None:
    await conn.send((await conn.receive()).upper())


async def _whisper(conn: mux.Connection) -> None:
    await conn.send((await conn.receive()).lower())


@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.deep)])
def test_handlers_may_be_several(workers: int | None) -> None:
    async def ask(where: str) -> bytes:
        async with await mux.connect(where) as conn:
            await conn.send(b"So")
            return await conn.receive()

    async def main() -> list[bytes]:
        services = {"127.0.0.1:0": _shout, "[::1]:0": _whisper}
        async with mux.serve(services, workers=workers) as server:
            return [await ask(each) for each in server.addresses]

    assert asyncio.run(main()) == [b"SO", b"so"]
