"""A close with unread input: the last bytes sent arrive, within a capped time."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from muxcore import Limits
from muxcore.adapters import asyncio_lingering, asyncio_passing
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import LOST, MADE, Recorder
from muxcore.testing.suite import Run, eventually

MIB = 1 << 20
_MUCH = 4 * MIB  # more than one receive at the close and one in the turn after it drop
_ONE_READ = Limits(reads_per_turn=1)


class Paused(Recorder):
    """Reads nothing."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()


def _answer(run: Run, peer: Any, answer: bytes) -> None:
    """Let a peer's protocol answer and close, in one callback."""
    transport = run.protocol(peer).transport

    def answer_and_close() -> None:
        transport.write(answer)
        transport.close()

    run.call(answer_and_close)


@pytest.mark.parametrize("size", [1000, 2 * MIB], ids=["sent at once", "queued"])
@pytest.mark.parametrize("unread", [10, MIB], ids=["little unread", "much unread"])
def test_an_answer_arrives_although_input_is_unread(
    adapter: ProgramSuite, size: int, unread: int
) -> None:
    with adapter.serving(Paused, narrow(), limits=_ONE_READ) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        peer.send_until_full(unread)
        _answer(run, peer, pattern(size))
        assert peer.read_all() == pattern(size)
        assert run.life(peer) == [MADE, LOST]


def test_connection_lost_does_not_wait_and_the_descriptor_counts_as_open(
    adapter: ProgramSuite,
) -> None:
    limits = Limits(reads_per_turn=1, linger_timeout=60)
    with adapter.serving(Paused, limits=limits) as run:
        peer = run.connect(receive_buffer=SMALL)  # does not take the answer at once
        run.wait_for(MADE, peer)
        peer.send_until_full(_MUCH)
        answer = pattern(200_000)  # within the kernel's default send buffer once it has grown
        _answer(run, peer, answer)
        assert run.life(peer) == [MADE, LOST]
        run.call(int)  # the turn of connection_lost is over
        assert run.server.stats().open == 1
        assert peer.read_all() == answer
        eventually(lambda: run.server.stats().open == 0, "it lingers although all is read")


def test_lingering_ends_after_its_timeout(adapter: ProgramSuite) -> None:
    limits = Limits(reads_per_turn=1, linger_timeout=0.1)
    with adapter.serving(Paused, limits=limits) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        peer.send_until_full(_MUCH)
        start = time.monotonic()
        _answer(run, peer, pattern(200_000))
        run.life(peer)
        eventually(lambda: run.server.stats().open == 0, "it lingers for ever")
        assert time.monotonic() - start >= 0.1


def test_the_end_of_the_server_waits_for_who_lingers_within_the_drain(
    adapter: ProgramSuite,
) -> None:
    limits = Limits(reads_per_turn=1, linger_timeout=60, stop_timeout=0.1)
    with adapter.serving(Paused, limits=limits) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        peer.send_until_full(_MUCH)
        _answer(run, peer, pattern(200_000))
        run.life(peer)
        start = time.monotonic()
        run.server.stop()
        assert time.monotonic() - start >= 0.09  # libuv's clock counts milliseconds
        assert run.server.stats().open == 0


def test_a_reset_by_the_peer_while_the_queue_is_sent_is_heard(adapter: ProgramSuite) -> None:
    with adapter.serving(Paused, narrow()) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        _answer(run, peer, bytes(2 * MIB))
        peer.reset()
        assert run.life(peer)[-1] == ("connection_lost", "ConnectionResetError")


def test_a_close_asks_nothing_of_the_kernel_where_nothing_is_unread(
    adapter: ProgramSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    linger = asyncio_lingering.linger

    def listens(*args: Any, **options: Any) -> Any:
        asked.append(options)
        return linger(*args, **options)

    monkeypatch.setattr(asyncio_passing, "linger", listens)

    class Answers(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.close()

    with adapter.serving(Answers) as run:
        peer = run.connect()
        peer.send(b"question")
        assert peer.read_all() == b"question"
    assert asked == [{"unread": False, "queued": False}]


def test_without_a_descriptor_left_it_closes_as_if_nothing_were_unread(
    adapter: ProgramSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(asyncio_lingering.Lingering, "__init__", fails)
    with adapter.serving(Paused, narrow()) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        _answer(run, peer, pattern(2 * MIB))
        assert peer.read_all() == pattern(2 * MIB)
        assert run.life(peer) == [MADE, LOST]
