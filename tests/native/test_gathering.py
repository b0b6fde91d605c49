"""Small writes cross together, and none waits for a slow callback."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

import muxcore
from muxcore.native import core, gathering, native_engine

from .talking import DEADLINE, Upper, connect, read, until

if core.missing is not None:
    pytest.skip(f"the C core is not built: {core.missing}", allow_module_level=True)


@pytest.mark.parametrize("where", ["callback", "timer", "call"])
@pytest.mark.parametrize("size", [1, 64, 250])
def test_what_is_written_to_many_in_one_callback_crosses_once(
    where: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty messages to each of fifty clients; C sends each client one piece."""
    monkeypatch.setattr(gathering, "QUICK", DEADLINE)  # however busy the machine is
    engine = native_engine.NativeEpollEngine()
    pairs = [socket.socketpair() for _ in range(50)]
    transports: list[Any] = []
    crossings: list[str] = []

    class Member:
        def connection_made(self, transport: Any) -> None:
            transports.append(transport)

        def data_received(self, data: bytes) -> None:
            tell_all()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            crossings.append(name)
            return getattr(core.lib, name)

    def tell_all() -> None:
        for number in range(20):
            for transport in transports:
                transport.write(bytes([number]) * size)

    engine.owner = threading.get_ident()
    for _, theirs in pairs:
        theirs.setblocking(False)
        engine.open(theirs, Member, None)
    engine.lib, engine.send = Counting(), lambda *_: pytest.fail("a write crossed by itself")
    try:
        if where == "callback":
            pairs[0][0].send(b"go")
        elif where == "timer":
            engine.call_later(0, tell_all)
        else:
            engine.call_soon(tell_all)
        engine.turn()
        engine.call_soon(int)  # so that the next poll does not wait
        engine.turn()
        assert crossings.count("mux_send_batch") == (where != "callback"), "else with the poll"
        for ours, _ in pairs:
            ours.settimeout(DEADLINE)
            assert read(ours, 20 * size) == b"".join(bytes([n]) * size for n in range(20))
    finally:
        engine.close()
        for ours, _ in pairs:
            ours.close()


def test_no_answer_waits_for_a_slow_callback_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "QUICK", -1.0)  # all are slow
    engine = native_engine.NativeEpollEngine()
    pairs = [socket.socketpair() for _ in range(3)]
    waiting: list[list[int]] = []  # those with an answer, at each callback

    class Slow(Upper):
        def data_received(self, data: bytes) -> None:
            waiting.append([ours.fileno() for ours, _ in pairs if answered(ours)])
            super().data_received(data)

    def answered(sock: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(sock.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    engine.owner = threading.get_ident()
    for _, theirs in pairs:
        theirs.setblocking(False)
        engine.open(theirs, Slow, None)
    try:
        for ours, _ in pairs:
            ours.send(b"x")
        engine.turn()
        assert [len(each) for each in waiting] == [0, 1, 2]
    finally:
        engine.close()
        for ours, _ in pairs:
            ours.close()


def test_small_writes_of_a_callback_keep_their_order_and_pause_in_time() -> None:
    heard: list[str] = []

    class Many:
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def pause_writing(self) -> None:
            heard.append("pause")

        def data_received(self, data: bytes) -> None:
            for i in range(20_000):
                self.transport.write(b"%06d" % i * 10)
                if "pause" in heard:
                    heard.append(f"told at once, with {self.transport.get_write_buffer_size()}")
                    break

    with (
        muxcore.Server(Many, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server) as sock,
    ):
        sock.sendall(b"go")
        until(lambda: "pause" in heard or server.stats().bytes_out >= 1_200_000)
        sock.setblocking(True)
        size = 60 * min(20_000, 20_000 if "pause" not in heard else 1_000)
        got = read(sock, size)
    assert got == b"".join(b"%06d" % i * 10 for i in range(size // 60))
