"""What the simulation has found, each as a script of a few operations."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator
from typing import Any

import pytest

from . import actions, final, seam
from .model import Conn
from .run import Run
from .script import ENGINES, Op, draw


@pytest.fixture(params=ENGINES, ids="-".join)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    script = dataclasses.replace(
        draw(1, request.param),
        limits={"linger_timeout": 1.0, "stop_timeout": 1.0, "accept_pause": 0.01},
        world={"faults": 0, "rate": 0, "send_room": 4096, "receive_room": 2048},
        sizes=(512, 1024),
        reacts=0,
        end=0,
    )
    with seam.installed():
        yield Run(script)


def _dialled(run: Run) -> Conn:
    actions.dial(run, Op("dial", 0, 0, 0))
    run.turn(0.01)
    run.turn(0.01)
    return run.conns[-1]


def _in_a_callback(run: Run, call: Any) -> None:
    run.engine.call_soon(call)
    run.turn(0.0)


def _write(run: Run, conn: Conn, size: int) -> None:
    data = b"x" * size
    conn.written += data
    conn.transport.write(data)


def _close(conn: Conn) -> None:
    conn.end_now()
    conn.transport.close()


def test_a_flush_that_ends_it_knows_that_the_same_event_told_of_input(run: Run) -> None:
    conn = _dialled(run)
    conn.remote_send(10)  # its last receive is short: nothing is known to be unread
    run.turn(0.01)
    assert conn.seen == 10
    _write(run, conn, 6000)
    _close(conn)
    conn.remote_send(10)
    run.turn(0.01)  # one event says both: input, and room for all that is queued
    assert conn.transport is None
    final.settle(run, "closed")
    assert len(conn.got) == 6000
    final.check(run)


def test_an_event_that_is_still_to_come_in_this_turn_tells_of_input(run: Run) -> None:
    first, second = _dialled(run), _dialled(run)
    for conn in (first, second):
        conn.remote_send(10)  # its last receive was short: nothing is known to be unread
        run.turn(0.01)
        assert conn.seen == 10
    _write(run, second, 3000)
    first.side.data_received = lambda data: _close(second)
    second.remote_send(10)
    first.remote_send(10)
    first.seen = 20
    run.kernel.noise.seed(0)
    run.turn(0.01)
    final.settle(run, "closed")
    assert len(second.got) == 3000
    final.check(run)


def test_a_number_that_came_up_again_before_the_end_was_told_is_left_alone(run: Run) -> None:
    lost = _dialled(run)
    fd = lost.transport.fd
    lost.foreign = lost.aborted = True
    run.kernel.close(fd, foreign=True)
    lost.transport.abort()
    other = _dialled(run)  # accepted in the turn in which the abort is told
    # under epoll the new set was faster, and has the number
    assert other.transport.fd == fd or run.script.engine == "pure-epoll"
    assert run.kernel.files[other.transport.fd] is other.ours
    _write(run, other, 10)
    final.settle(run, "written")
    assert other.got == b"x" * 10
    final.check(run)


def test_a_new_epoll_set_with_the_number_of_a_closed_one_is_left_alone(run: Run) -> None:
    if run.script.engine != "pure-epoll":
        pytest.skip("select has no set")
    other, lost = _dialled(run), _dialled(run)
    fd = lost.transport.fd
    lost.foreign = True
    run.kernel.close(fd, foreign=True)
    _in_a_callback(run, lambda: actions.abort(run, lost, Op("abort", 0, 0, 0)))
    run.turn(0.0)
    run.turn(0.0)
    _write(run, other, 10)
    final.settle(run, "written")
    assert other.got == b"x" * 10
    final.check(run)


def test_a_listener_that_epoll_has_no_room_for_is_watched_later(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = run.engine._listeners[0]
    watch = run.engine.watch_listener
    refusals = [OSError(errno.ENOSPC, "full"), OSError(errno.ENOMEM, "full")]

    def refusing(*args: Any) -> None:
        if refusals:
            raise refusals.pop()
        watch(*args)

    monkeypatch.setattr(run.engine, "watch_listener", refusing)
    listener._pause()
    listener._full = True
    listener.make_room()  # refused, and once more after its rest
    run.kernel.now += 0.02
    run.turn(0.0)
    run.kernel.now += 0.02
    run.turn(0.0)
    assert not refusals
    assert _dialled(run).made
    final.check(run)


def test_what_write_was_given_is_not_held_by_an_error_of_the_network(run: Run) -> None:
    conn = _dialled(run)
    conn.remote_end(2)
    run.kernel.move()
    data = bytearray(b"x" * 100)
    conn.transport.write(memoryview(data))
    assert conn.transport.is_closing()
    data.clear()  # BufferError if anybody still looks at it
    final.check(run)


def test_a_reset_that_came_with_the_end_of_input_is_heard(run: Run) -> None:
    if "hears_resets" not in run.engine.capabilities:
        pytest.skip("nobody reads after EOF, and select has no word for an error alone")
    conn = _dialled(run)
    conn.side.eof_received = lambda: True  # it stays half open
    conn.remote_end(0)
    run.kernel.move()
    conn.remote_end(2)
    final.settle(run, "reset")
    assert conn.lost
    assert isinstance(conn.why, ConnectionResetError)
    final.check(run)
