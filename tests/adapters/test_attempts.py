"""Outgoing connections of the adapters: what no event tells, and what asyncio raises."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import DEADLINE
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import MADE, Recorder, data
from muxcore.testing.suite import eventually


class Connects(Recorder):
    """Connects to the address that it is sent."""

    def data_received(self, data: bytes) -> None:
        self.transport.server.connect(data.decode(), Outgoing(self), DEADLINE)


class Outgoing:
    """A service, and its protocol, which writes down for the client."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self) -> Any:
        return self

    def connection_made(self, transport: Any) -> None:
        self._recorder.note("connected")
        transport.write(b"hello")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._recorder.note(type(exc).__name__)


def test_a_unix_socket_whose_backlog_is_full_is_waited_for(adapter: ProgramSuite) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as filler,
        adapter.serving(Connects) as run,
    ):
        path = os.path.join(folder, "full")
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        client = run.connect()
        client.send(f"unix:{path}".encode())
        eventually(lambda: run.server.stats().outgoing == 1, "it is on its way")
        other = run.connect()
        run.wait_for(MADE, other)
        assert run.events(client) == [MADE]
        listener.settimeout(DEADLINE)
        listener.accept()[0].close()
        there = listener.accept()[0]
        with there:
            there.settimeout(DEADLINE)
            assert there.recv(5) == b"hello"
        run.wait_for(("note", "connected"), client)


@pytest.mark.parametrize("stop", [False, True], ids=["by the peer", "by the server's end"])
def test_a_connection_that_ends_as_it_opens_is_told_once(adapter: ProgramSuite, stop: bool) -> None:
    """Its opening takes asyncio some turns, in which it may be reset, or the server end."""

    class Adopts(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            server = self.transport.server
            for _ in range(20):
                ours, theirs = socket.socketpair()
                server.adopt(ours, lambda: Recorder(self.journal))
                theirs.close()
            if stop:
                server.request_stop()

    with adapter.serving(Adopts) as run:
        client = run.connect()
        client.send(b"go")
        run.wait_for(data(b"go"), client)
        if stop:
            client.read_eof()
            run.server.stop()
            assert run.server.stats().open == 0
        else:
            eventually(lambda: run.server.stats().total == 21, "all are adopted")
            eventually(lambda: run.server.stats().open == 1, "all but the client's are lost")
        told = [event for event in run.journal.everything() if event[0] != "data_received"]
        made, gone = ([e for e in told if e[0] == f"connection_{w}"] for w in ("made", "lost"))
        assert len(made) == len(gone) + (not stop)


def test_an_engine_that_is_never_run_keeps_no_descriptor(adapter: ProgramSuite) -> None:
    adapter.server(muxcore.Echo)  # what the first one opens for the process, uvloop's for signals
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        adapter.server(muxcore.Echo)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
