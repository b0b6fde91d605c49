"""An engine as a guest: what its callbacks, and the host's own tasks, do in it.

The suites run on guests too; here is what only a guest has: somebody who acts between two turns.
Nothing else goes on in these loops, so what the guest forgot would never happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import muxcore
from muxcore.hosts.asyncio_host import AsyncioHost

InHost = Callable[[Callable[[], Awaitable[Any]]], Any]


class Held:
    """A protocol that keeps what happens, and lets tasks wait for it."""

    transport: muxcore.Transport

    def __init__(self) -> None:
        self.data = b""
        self.made = anyio.Event()
        self.lost = anyio.Event()
        self.reason: BaseException | None = None
        self._news = anyio.Event()

    def connection_made(self, transport: muxcore.Transport) -> None:
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._news.set()

    async def heard(self, data: bytes) -> None:
        """Wait until it has heard all of this."""
        while self.data != data:
            self._news = anyio.Event()
            await self._news.wait()

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self.reason = exc
        self.lost.set()


@contextlib.asynccontextmanager
async def serving(
    service: Any, engine: str, **options: Any
) -> AsyncIterator[tuple[muxcore.Server, anyio.abc.TaskGroup]]:
    """Serve in this loop while the block runs; then stop, and see that it ends."""
    ready = anyio.Event()
    server = muxcore.Server(service, "127.0.0.1:0", engine=engine, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_async, lambda server: ready.set())
        await ready.wait()
        yield server, tasks
        server.stop()  # it does not wait here: the loop would stand still


async def dialled(server: muxcore.Server) -> anyio.abc.SocketStream:
    host, _, port = server.addresses[0].rpartition(":")
    return await anyio.connect_tcp(host, int(port))


async def rest() -> None:
    """Let the guest do whatever it has put off: it comes before the host sleeps."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def met(server: muxcore.Server, held: list[Held]) -> tuple[anyio.abc.SocketStream, Held]:
    """Connect, and wait until the protocol is there, and the loop has come to rest."""
    stream = await dialled(server)
    while not held:
        await anyio.lowlevel.checkpoint()
    await held[-1].made.wait()
    await rest()
    return stream, held[-1]


def keeping(held: list[Held]) -> Callable[[], Held]:
    def service() -> Held:
        held.append(Held())
        return held[-1]

    return service


async def happens(act: str, held: Held, stream: anyio.abc.SocketStream) -> None:
    """Do something in a task, between two turns, and wait for what has to come of it."""
    transport = held.transport
    if act == "write":
        transport.write(b"small")
        assert await stream.receive() == b"small"
    elif act == "a large write":
        transport.write(bytes(4 << 20))
        left = 4 << 20
        while left:
            left -= len(await stream.receive())
    elif act == "close":
        transport.close()
        await held.lost.wait()
    elif act == "abort":
        transport.abort()
        await held.lost.wait()
    elif act == "write_eof":
        transport.write_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    elif act == "echo":
        transport.pause_reading()
        await stream.send(b"here")
        transport.echo()
        assert await stream.receive() == b"here"
    else:
        transport.pause_reading()
        await stream.send(b"here")
        await rest()
        assert held.data == b""
        transport.resume_reading()
        await held.heard(b"here")


ACTS = ["write", "a large write", "close", "abort", "write_eof", "echo", "resume_reading"]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("trigger", ["level", "edge"])
def test_what_a_task_does_between_two_turns_happens(
    act: str, trigger: str, engine: str, in_host: InHost
) -> None:
    async def main() -> None:
        held: list[Held] = []
        async with serving(keeping(held), engine, trigger=trigger) as (server, _):
            stream, protocol = await met(server, held)
            async with stream:
                await happens(act, protocol, stream)

    in_host(main)


def test_timers_that_a_task_sets_go_off_in_their_order(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        went: list[str] = []
        over = anyio.Event()
        async with serving(muxcore.Echo, engine) as (server, _):
            await rest()
            server.call_later(3600, went.append, "in an hour")
            await rest()
            server.call_later(0.001, went.append, "first")
            await rest()
            server.call_later(0.05, over.set)  # set later, and for later: whatever stands still
            await over.wait()
        assert went == ["first"]

    in_host(main)


def test_a_task_connects_and_another_one_is_cancelled(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        async with serving(muxcore.Echo, engine) as (server, _):
            await rest()
            ours, dropped = Held(), Held()
            server.connect(server.addresses[0], lambda: ours)
            await ours.made.wait()
            handle = server.connect(server.addresses[0], lambda: dropped)
            handle.cancel()
            ours.transport.write(b"there and back")
            await ours.heard(b"there and back")
            assert not dropped.made.is_set()

    in_host(main)


def test_a_connection_that_is_adopted_is_served(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        async with serving(muxcore.Echo, engine) as (server, _):
            await rest()
            server.adopt(theirs)
            ours.setblocking(False)
            ours.send(b"hello")
            await anyio.wait_readable(ours)
            assert ours.recv(10) == b"hello"
        ours.close()

    in_host(main)


def test_a_deadline_passes_although_nothing_happens(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        held: list[Held] = []
        limits = muxcore.Limits(idle_timeout=0.05)
        async with serving(keeping(held), engine, limits=limits) as (server, _):
            stream, protocol = await met(server, held)
            async with stream:
                await protocol.lost.wait()
                assert isinstance(protocol.reason, muxcore.IdleTimeout)

    in_host(main)


def test_callbacks_run_in_the_hosts_loop(engine: str, in_host: InHost) -> None:
    class Asks(Held):
        def data_received(self, data: bytes) -> None:
            self.data += data
            asked.set()  # an event of the host's

    async def main() -> None:
        async with serving(Asks, engine) as (server, _), await dialled(server) as stream:
            await stream.send(b"x")
            await asked.wait()

    asked = anyio.Event()
    in_host(main)


def test_another_thread_is_refused_between_two_turns(engine: str, in_host: InHost) -> None:
    def misuse(protocol: Held) -> str:
        with pytest.raises(RuntimeError) as refused:
            protocol.transport.write(b"from elsewhere")
        return str(refused.value)

    async def main() -> None:
        held: list[Held] = []
        async with serving(keeping(held), engine) as (server, _):
            stream, protocol = await met(server, held)
            async with stream:
                said = await anyio.to_thread.run_sync(misuse, protocol)
        assert "call_soon_threadsafe" in said

    in_host(main)


def test_stop_in_the_hosts_thread_does_not_wait(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        held: list[Held] = []
        async with serving(keeping(held), engine) as (server, _):
            stream, protocol = await met(server, held)
            async with stream:
                server.stop()
                assert not protocol.lost.is_set()
                await protocol.lost.wait()

    in_host(main)


def test_stop_from_another_thread_waits(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        async with serving(muxcore.Echo, engine) as (server, _):
            assert await anyio.to_thread.run_sync(server.stop)

    in_host(main)


def test_a_cancel_ends_it_and_everybody_hears(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        held: list[Held] = []
        async with serving(keeping(held), engine) as (server, tasks):
            stream, protocol = await met(server, held)
            async with stream:
                protocol.transport.write(bytes(4 << 20))
                tasks.cancel_scope.cancel()
        assert protocol.lost.is_set()

    in_host(main)


def test_a_cancel_lets_what_is_queued_arrive(engine: str) -> None:
    """A task's own: a cancel scope of anyio's comes again and again on asyncio."""

    async def main() -> None:
        held: list[Held] = []
        server = muxcore.Server(keeping(held), "127.0.0.1:0", engine=engine)
        ready = asyncio.Event()
        serves = asyncio.create_task(server.run_async(lambda server: ready.set()))
        await ready.wait()
        stream, protocol = await met(server, held)
        async with stream:
            protocol.transport.write(bytes(4 << 20))
            serves.cancel()
            left = 4 << 20
            while left:
                left -= len(await stream.receive())
        with pytest.raises(asyncio.CancelledError):
            await serves
        assert protocol.lost.is_set()
        assert protocol.reason is None

    asyncio.run(main())


@pytest.mark.parametrize("program", [SystemExit, KeyboardInterrupt])
def test_what_means_the_program_ends_it_and_everybody_hears(
    program: type[BaseException], engine: str, in_host: InHost
) -> None:
    class Ends(Held):
        def data_received(self, data: bytes) -> None:
            raise program

    held: list[Held] = []
    servers: list[muxcore.Server] = []

    async def main() -> None:
        server = muxcore.Server(
            lambda: held.append(Ends()) or held[-1], "127.0.0.1:0", engine=engine
        )
        servers.append(server)

        async def clients() -> None:
            async with await dialled(server) as quiet, await dialled(server) as stream:
                while len(held) < 2:
                    await anyio.lowlevel.checkpoint()
                await stream.send(b"x")
                with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    await quiet.receive()

        async with anyio.create_task_group() as tasks:
            await server.run_async(lambda server: tasks.start_soon(clients))

    with pytest.raises((program, BaseExceptionGroup)) as raised:
        in_host(main)
    assert raised.errisinstance(program) or raised.group_contains(program)
    assert all(protocol.lost.is_set() for protocol in held)
    assert isinstance(servers[0].failed, program)


def test_an_engine_that_cannot_be_a_guest_says_so() -> None:
    async def main() -> None:
        with pytest.raises(muxcore.CapabilityMissing, match="guest"):
            await muxcore.Server(muxcore.Echo, 0, engine="pure-select").run_async()

    anyio.run(main)


def test_an_engine_has_one_host_in_its_life(engine: str) -> None:
    async def main() -> None:
        async with serving(muxcore.Echo, engine) as (server, _):
            with pytest.raises(RuntimeError, match="running: make a new one"):
                await server.run_async()
            with pytest.raises(RuntimeError, match="one host in its life"):
                server._engine.be_guest(AsyncioHost(), print)

    anyio.run(main)


def test_a_loop_that_is_closed_without_a_word_leaves_nothing(engine: str) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        server = muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine=engine)
        task = loop.create_task(server.run_async())
        loop.run_until_complete(asyncio.sleep(0))
        # asyncio would log that the task is destroyed while pending, which is what is done here
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    abandon()  # what a first one opens for good
    gc.collect()
    before = open_descriptors()
    with pytest.warns(ResourceWarning) if engine.startswith("pure") else contextlib.nullcontext():
        abandon()
        gc.collect()
    assert open_descriptors() == before


def test_a_fork_in_the_host_harms_nobody(engine: str, in_host: InHost) -> None:
    class Forks(Held):
        def data_received(self, data: bytes) -> None:
            if data == b"fork":
                child = os.fork()
                if not child:
                    self.transport._engine._guest._turn()  # as a host that goes on there would
                    os._exit(7)
                children.append(child)
            self.transport.write(data)

    children: list[int] = []

    async def main() -> None:
        async with serving(Forks, engine) as (server, _), await dialled(server) as stream:
            await stream.send(b"fork")
            assert await stream.receive() == b"fork"
            _, status = os.waitpid(children[0], 0)
            assert os.waitstatus_to_exitcode(status) == 7
            await stream.send(b"again")
            assert await stream.receive() == b"again"

    in_host(main)


def test_a_run_that_fails_to_bind_leaves_nothing(engine: str, in_host: InHost) -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(muxcore.BindError):
                await muxcore.Server(muxcore.Echo, f"127.0.0.1:{port}", engine=engine).run_async()

    in_host(main)


def test_a_set_that_is_made_anew_is_watched_in_the_place_of_the_old_one(in_host: InHost) -> None:
    """Somebody closes a descriptor of ours: pure-epoll begins a new set, and the host follows."""

    async def main() -> None:
        held: list[Held] = []
        async with serving(keeping(held), "pure-epoll") as (server, _):
            stream, protocol = await met(server, held)
            os.close(protocol.transport.get_extra_info("socket").fileno())
            protocol.transport.abort()
            await protocol.lost.wait()
            del held[0]
            await stream.aclose()
            again, protocol = await met(server, held)
            async with again:
                await again.send(b"still here")
                await protocol.heard(b"still here")

    in_host(main)
