"""Outgoing connections: how they come about, and how they do not."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import muxcore
from muxcore import address as addresses
from muxcore.testing.peer import DEADLINE
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data
from muxcore.testing.suite import EngineSuite, eventually
from muxcore.testing.upstream import Silent, Upstream, refusing

_NAME = "several.test"
_MOMENTS = 12  # turns of a loop: more than a connection over loopback takes


class Connecting(EngineSuite):
    def test_a_connection_that_is_asked_for_is_made(self) -> None:
        self.needs("connect")
        with Upstream() as upstream, self.serving(_connects(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            run.wait_for(MADE, there)
            there.send(b"hello")
            run.wait_for(data(b"hello"), there)
            assert run.server.stats().outgoing == 1
            assert run.server.stats().open == 1  # the client alone
            there.close()
            assert run.life(there) == [MADE, data(b"hello"), EOF, LOST]
            client.close()
            run.life(client)

    def test_its_protocol_writes_and_hears_eof(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"question")

        with Upstream() as upstream, self.serving(_connects(upstream.address, Asks)) as run:
            client = run.connect()
            there = run.accept(upstream)
            assert there.read(8) == b"question"
            there.shutdown_write()
            there.read_eof()
            assert run.life(there)[-1] == LOST
            client.close()

    def test_a_refused_connection_is_lost_and_never_made(self) -> None:
        self.needs("connect")
        with refusing() as address, self.serving(_connects(address)) as run:
            client = run.connect()
            assert run.wait_for("outcome") == [MADE, ("outcome", "ConnectionRefusedError")]
            client.close()
            errors = {"ConnectionRefusedError": 1}
            eventually(lambda: run.server.stats().errors == errors, "it is not counted")

    def test_a_connection_has_a_deadline(self) -> None:
        self.needs("connect")
        with Silent() as silent, self.serving(_connects(silent.address, timeout=0.1)) as run:
            run.connect()
            assert run.wait_for("outcome") == [MADE, ("outcome", "ConnectTimeout")]
            eventually(lambda: run.server.stats().outgoing == 0, "it is still on its way")

    def test_a_cancelled_connection_calls_nobody(self) -> None:
        self.needs("connect")

        class Cancels(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                handle = transport.server.connect(silent.address, self.unwanted)
                handle.cancel()
                handle.cancel()

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

            def unwanted(self) -> Any:
                self.note("called")

        with Silent() as silent, self.serving(Cancels) as run:
            client = run.connect()
            client.send(b"still here")
            assert client.read(10) == b"still here"
            assert run.server.stats().outgoing == 0
            client.close()
            assert run.life(client) == [MADE, EOF, LOST]

    def test_a_cancel_at_any_moment_is_heard_or_comes_too_late(self) -> None:
        self.needs("connect", "threadsafe_calls")

        class Cancels(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.server = transport.server
                for turns in range(_MOMENTS):
                    heard: list[str] = []
                    handle = self.server.connect(upstream.address, functools.partial(Hears, heard))
                    self.cancel_in(turns, handle, heard)

            def cancel_in(self, turns: int, handle: Any, heard: list[str]) -> None:
                if turns:  # one after the other, so that each may be in a turn of its own
                    self.server.call_soon_threadsafe(self.cancel_in, turns - 1, handle, heard)
                    return
                handle.cancel()
                known.append((heard, list(heard)))
                if len(known) == _MOMENTS:
                    self.server.connect(upstream.address, lambda: Last(self))

        class Hears:
            def __init__(self, heard: list[str]) -> None:
                self.heard = heard
                heard.append("called")

            def connection_made(self, transport: Any) -> None:
                self.heard.append("made")
                transport.abort()

        class Last:
            def __init__(self, asker: Recorder) -> None:
                self.asker = asker

            def connection_made(self, transport: Any) -> None:
                self.asker.note("the last")
                transport.abort()

        known: list[tuple[list[str], list[str]]] = []  # what was heard, and what at the cancel
        with Upstream() as upstream, self.serving(Cancels) as run:
            run.connect()
            run.wait_for(("note", "the last"))
            for heard, before in known:
                assert heard == before, f"after the cancel: {heard[len(before) :]}"
                assert before in ([], ["called", "made"])

    def test_a_malformed_address_is_an_error_at_once(self) -> None:
        self.needs("connect")

        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                try:
                    transport.server.connect(":5432", Recorder)
                except muxcore.AddressError as exc:
                    self.note(type(exc).__name__)

        with self.serving(Tries) as run:
            run.connect()
            run.wait_for(("note", "AddressError"))

    def test_every_address_of_a_name_is_tried(self) -> None:
        self.needs("connect")
        with (
            Upstream() as upstream,
            refusing() as one,
            refusing() as other,
            _name_means(one, other, upstream.address),
            self.serving(_connects(f"{_NAME}:1")) as run,
        ):
            client = run.connect()
            run.wait_for(MADE, run.accept(upstream))
            client.close()

    def test_an_address_that_is_silent_does_not_hold_up_the_next(self) -> None:
        self.needs("connect")
        with (
            Silent() as silent,
            Upstream() as upstream,
            _name_means(silent.address, upstream.address),
            self.serving(_connects(f"{_NAME}:1", timeout=2)) as run,
        ):
            client = run.connect()
            run.wait_for(MADE, run.accept(upstream))
            eventually(lambda: run.server.stats().outgoing == 1, "the loser is still open")
            client.close()

    def test_when_every_address_fails_the_error_names_each(self) -> None:
        self.needs("connect")
        with (
            refusing() as one,
            refusing() as other,
            _name_means(one, other),
            self.serving(_connects(f"{_NAME}:1", text=True)) as run,
        ):
            run.connect()
            ((_, text),) = [e for e in run.wait_for("outcome") if e[0] == "outcome"]
            assert all(address in text for address in (_NAME, one, other))
            assert os.strerror(errno.ECONNREFUSED) in text

    def test_a_name_without_an_address_is_an_error_with_its_reason(self) -> None:
        self.needs("connect")
        with _name_means(), self.serving(_connects(f"{_NAME}:1")) as run:
            run.connect()
            assert run.wait_for("outcome") == [MADE, ("outcome", "gaierror")]

    def test_the_end_of_the_server_ends_what_is_on_its_way(self) -> None:
        self.needs("connect", "shared_state")
        with Silent() as silent, self.serving(_connects(silent.address)) as run:
            run.connect()
            run.wait_for(MADE)
            assert run.server.stop() is True
            assert ("outcome", "ConnectionAbortedError") in run.events()

    def test_while_the_server_ends_nothing_is_connected_to(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                super().connection_lost(exc)
                self.transport.server.connect(upstream.address, lambda: _Outcome(self, False))

        with Upstream() as upstream, self.serving(Asks) as run:
            run.connect()
            run.wait_for(MADE)
            assert run.server.stop() is True
            assert ("outcome", "ConnectionAbortedError") in run.wait_for("outcome")

    def test_a_unix_address_is_connected_to(self) -> None:
        self.needs("connect")
        where = f"unix:@muxcore-testing-{os.getpid()}-{id(self)}"
        with Upstream(where=where) as upstream, self.serving(_connects(where)) as run:
            client = run.connect()
            there = run.accept(upstream)
            there.send(b"local")
            there.close()
            client.close()
            eventually(lambda: run.server.stats().outgoing == 0, "it is still open")

    def test_a_unix_socket_with_a_full_backlog_is_waited_for_as_at_a_tcp_address(self) -> None:
        self.needs("connect")
        where = f"unix:@muxcore-testing-{os.getpid()}-{id(self)}-full"
        with Upstream(where=where, backlog=0) as upstream, contextlib.ExitStack() as stack:
            for _ in range(2):  # more than its backlog takes
                filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                filler.connect_ex(addresses.resolve(addresses.parse(where))[0][1])
            with self.serving(_connects(where, timeout=0.2)) as run:
                client = run.connect()
                outcome = [MADE, ("outcome", "ConnectTimeout")]
                assert run.wait_for("outcome", client) == outcome
                client.close()
            with self.serving(_connects(where)) as run:
                client = run.connect()
                run.wait_for(MADE, client)
                there = run.accept(upstream)  # the filler, which makes room
                there.close()
                again = run.accept(upstream)
                again.send(b"local")
                again.close()
                client.close()
                eventually(lambda: run.server.stats().outgoing == 0, "it is still open")

    def test_a_name_that_cannot_be_one_fails_alone(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                for host in ("a..b", "a" * 70):
                    where = muxcore.Address(host, 1)
                    transport.server.connect(where, functools.partial(_Outcome, self, False))

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        with self.serving(Asks) as run:
            client = run.connect()
            client.send(b"still here")
            assert client.read(10) == b"still here"
            eventually(
                lambda: run.events(client).count(("outcome", "gaierror")) == 2, "both have failed"
            )

    def test_names_that_are_looked_up_count_in_the_cap(self) -> None:
        self.needs("connect", "shared_state")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                for _ in range(4):
                    outcome = functools.partial(_Outcome, self, False)
                    transport.server.connect(f"{_NAME}:1", outcome)

        looked_up = threading.Event()
        limits = muxcore.Limits(connections=3)
        with _name_means(after=looked_up), self.serving(Asks, limits=limits) as run:
            run.connect()
            assert run.wait_for("outcome") == [MADE, ("outcome", "BlockingIOError")]  # EAGAIN
            looked_up.set()
            eventually(lambda: run.events().count(("outcome", "gaierror")) == 3, "the others")

    def test_an_answer_comes_through_where_no_further_call_may_be_queued(self) -> None:
        self.needs("connect", "threadsafe_calls", "shared_state")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                server = transport.server
                server.connect(f"{_NAME}:1", functools.partial(_Outcome, self, False))
                with contextlib.suppress(RuntimeError):
                    while True:
                        server.call_soon_threadsafe(int)
                full.set()
                eventually(
                    lambda: all(t.name != "muxcore-lookup" for t in threading.enumerate()),
                    "the name is looked up while the queue is full",
                )

        full = threading.Event()
        limits = muxcore.Limits(callbacks=5)
        with _name_means(after=full), self.serving(Asks, limits=limits) as run:
            run.connect()
            assert run.wait_for("outcome") == [MADE, ("outcome", "gaierror")]

    def test_a_service_that_fails_drops_the_connection(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.server.connect(upstream.address, self.broken)

            def broken(self) -> Any:
                raise RuntimeError("no protocol")

        with Upstream() as upstream, self.serving(Asks) as run:
            client = run.connect()
            run.accept(upstream).read_end()
            client.close()
            run.life(client)


class _Outcome(Recorder):
    """The protocol of a connection that was asked for: a failure is the asker's event."""

    def __init__(self, asker: Recorder, text: bool) -> None:
        super().__init__(asker.journal)
        self._asker = asker
        self._text = text

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.transport is None:
            self._asker.record("outcome", str(exc) if self._text else type(exc).__name__)
        else:
            super().connection_lost(exc)


def _connects(
    where: str,
    protocol: Callable[..., Any] | None = None,
    *,
    timeout: float | None = None,
    text: bool = False,
) -> type[Recorder]:
    """Return a protocol that connects to ``where`` when it is made."""

    class Connects(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if protocol is not None:
                service: Any = functools.partial(protocol, self.journal)
            else:
                service = functools.partial(_Outcome, self, text)
            transport.server.connect(where, service, timeout=timeout)

    return Connects


@contextlib.contextmanager
def _name_means(*where: str, after: threading.Event | None = None) -> Iterator[None]:
    """Let a name have these addresses while the block runs, and none if there are none.

    Args:
        after: what the resolver waits for.
    """
    real = addresses.resolve

    def resolve(address: addresses.Address, *, passive: bool = False) -> Any:
        if address.host != _NAME:
            return real(address, passive=passive)
        assert after is None or after.wait(DEADLINE)
        if not where:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for each in where for found in real(addresses.parse(each))]

    with mock.patch.object(addresses, "resolve", resolve):
        yield
