"""How a connection begins, and what is known of it."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import Peer
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data
from muxcore.testing.suite import EngineSuite


class Greeter(Recorder):
    """Says what it knows of its connection, and closes."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.note(tuple(transport.get_extra_info("peername")))
        self.note(tuple(transport.get_extra_info("sockname")))
        self.note(transport.get_extra_info("engine"))
        self.note(transport.get_extra_info("no such thing", "default"))
        self.note(transport.get_extra_info("no such thing"))
        transport.close()


class Counter(Recorder):
    """Answers each byte with two, and writes down the counts at the end."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data + data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note(self.transport.get_extra_info("bytes"))
        super().connection_lost(exc)


class Opening(EngineSuite):
    def test_callbacks_come_in_order_each_once(self) -> None:
        with self.serving(Recorder) as run:
            peer = run.connect()
            peer.send(b"hello")
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(b"hello"), EOF, LOST]

    def test_connection_made_comes_before_any_byte(self) -> None:
        class Hello(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"hello")

        with self.serving(Hello) as run:
            peer = run.connect()
            assert peer.read(5) == b"hello"
            assert run.wait_for(MADE, peer) == [MADE]

    def test_a_transport_knows_both_names_and_the_engine(self) -> None:
        with self.serving(Greeter) as run:
            peer = run.connect()
            peer.read_eof()
            notes = [event[1] for event in run.life(peer) if event[0] == "note"]
            assert notes == [peer.name, peer.sock.getpeername(), self.engine, "default", None]

    def test_bytes_are_counted_until_connection_lost(self) -> None:
        with self.serving(Counter) as run:
            peer = run.connect()
            peer.send(b"x" * 1000)
            assert peer.read(2000) == b"x" * 2000
            peer.shutdown_write()
            peer.read_eof()
            assert ("note", (1000, 2000)) in run.life(peer)

    def test_small_messages_leave_at_once(self) -> None:
        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                sock = transport.get_extra_info("socket")
                option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
                self.note(None if sock is None else sock.getsockopt(*option) != 0)
                transport.close()

        with self.serving(Asks) as run:
            peer = run.connect()
            peer.read_eof()
            # None: an engine may have no descriptor for a connection
            assert run.life(peer)[1] in (("note", True), ("note", None))

    def test_the_socket_is_for_looking_not_for_closing(self) -> None:
        class Looks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                sock = transport.get_extra_info("socket")
                self.note(True if sock is None else sock.getsockname()[1] > 0)
                del sock
                transport.write(b"still open")

        with self.serving(Looks) as run:
            peer = run.connect()
            assert peer.read(10) == b"still open"
            assert ("note", True) in run.wait_for("note", peer)

    def test_every_connection_has_a_protocol_of_its_own(self) -> None:
        class Counts(Recorder):
            heard = 0

            def data_received(self, data: bytes) -> None:
                self.heard += 1
                self.transport.write(b"%d" % self.heard)

        with self.serving(Counts) as run:
            for peer in [run.connect() for _ in range(3)]:
                peer.send(b"?")
                assert peer.read(1) == b"1"

    def test_the_server_is_reached_from_the_transport(self) -> None:
        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(transport.server.addresses[0].encode())
                transport.close()

        with self.serving(Asks) as run:
            assert run.connect().read_all().decode() == run.address

    def test_callbacks_that_are_not_there_are_no_ops(self) -> None:
        class Silent:
            def connection_lost(self, exc: BaseException | None) -> None:
                pass

        with self.serving(Silent) as run:
            peer = run.connect()
            peer.send(b"into the void")
            peer.shutdown_write()
            peer.read_eof()

    def test_several_addresses_are_served_at_once(self) -> None:
        with self.serving(muxcore.Echo, "127.0.0.1:0", "127.0.0.1:0") as run:
            assert len(run.server.addresses) == 2
            for address in run.server.addresses:
                run.keep(Peer.play(address, "send 10; read 10; shutdown-write; read-eof"))

    def test_a_unix_address_is_served_and_removed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            with self.serving(Recorder, f"unix:{path}") as run:
                peer = run.connect()
                peer.send(b"hello")
                peer.shutdown_write()
                peer.read_eof()
                assert run.life() == [MADE, data(b"hello"), EOF, LOST]
            assert not os.path.exists(path)

    def test_a_bound_socket_is_served(self) -> None:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        with self.serving(muxcore.Echo, bound) as run:
            run.play("send 10; read 10; close")

    def test_a_taken_address_is_refused_by_name(self) -> None:
        with self.serving(muxcore.Echo) as run:
            second = self.server(muxcore.Echo, run.address)
            with pytest.raises(muxcore.BindError, match="another socket listens there"):
                second.start()

    def test_a_service_that_makes_no_protocol_refuses_its_client_only(self) -> None:
        made: list[int] = []  # in a process of its own this starts anew: both clients are refused

        def odd() -> Any:
            made.append(1)
            return None if len(made) == 1 else muxcore.Echo()

        with self.serving(odd) as run:
            run.connect().read_end()
            if "shared_state" in self.capabilities:
                run.play("send 10; read 10; close")
            else:
                run.connect().read_end()
