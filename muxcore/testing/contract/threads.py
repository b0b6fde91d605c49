"""Whose thread it is: what changes a connection, or looks into it, is the engine's thread's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from muxcore.testing.recorder import LOST, MADE, FlowRecorder, data
from muxcore.testing.suite import EngineSuite
from muxcore.testing.upstream import Silent

CALLS: dict[str, Callable[[Any], object]] = {
    "write": lambda transport: transport.write(b"from elsewhere"),
    "writelines": lambda transport: transport.writelines([b"from ", b"elsewhere"]),
    "write_eof": lambda transport: transport.write_eof(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "set_write_buffer_limits": lambda transport: transport.set_write_buffer_limits(high=7),
    "set_protocol": lambda transport: transport.set_protocol(FlowRecorder),
    "echo": lambda transport: transport.echo(),
    "discard": lambda transport: transport.discard(),
    "relay": lambda transport: transport.relay("127.0.0.1:9"),
    "get_write_buffer_size": lambda transport: transport.get_write_buffer_size(),
    "get_extra_info": lambda transport: transport.get_extra_info("bytes"),
}


class Threads(EngineSuite):
    @pytest.mark.parametrize("name", CALLS)
    def test_a_call_from_another_thread_is_refused_and_changes_nothing(self, name: str) -> None:
        self.needs("shared_state", "threadsafe_calls")
        with self.serving(FlowRecorder) as run:
            peer = run.connect()
            protocol = run.protocol(peer)
            transport = protocol.transport
            limits = transport.get_write_buffer_limits()
            with pytest.raises(RuntimeError, match=rf"{name}.*server\.call_soon_threadsafe"):
                CALLS[name](transport)
            peer.send(b"hello")
            assert run.wait_for("data_received", peer) == [MADE, data(b"hello")]
            assert transport.get_protocol() is protocol
            assert transport.get_write_buffer_limits() == limits
            run.call(transport.write, b"and back")
            assert peer.read(8) == b"and back"
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer)[-1] == LOST

    def test_a_connection_on_its_way_is_not_cancelled_by_another_thread(self) -> None:
        self.needs("shared_state", "threadsafe_calls", "connect")
        with Silent() as silent, self.serving(FlowRecorder) as run:
            handle = run.call(run.server.connect, silent.address, FlowRecorder, 60.0)
            with pytest.raises(RuntimeError, match=r"cancel.*server\.call_soon_threadsafe"):
                handle.cancel()
            assert run.server.stats().outgoing == 1
            run.call(handle.cancel)

    def test_what_another_thread_may_ask_is_answered(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        with self.serving(FlowRecorder) as run:
            peer = run.connect()
            protocol = run.protocol(peer)
            transport = protocol.transport
            assert transport.get_extra_info("engine") == self.engine
            assert tuple(transport.get_extra_info("peername")) == peer.name
            assert transport.is_reading()
            assert not transport.is_closing()
            assert transport.get_protocol() is protocol
