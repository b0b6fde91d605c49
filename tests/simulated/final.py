"""The end of a run: nothing goes wrong any more, and every remote end reads.

Then everything that can move has to move within a bounded number of turns, everything that is
closed has to go, and nothing may be left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import seam
from .ends import End
from .model import Conn

if TYPE_CHECKING:
    from .run import Run

_TURNS_MOST = 2000  # until all is quiet; 30 KB through a buffer of 64 bytes take 500
_QUIET = 3
_DRAIN_MOST = 0.2  # s, of what scripts draw for Limits.drain_timeout


def settle(run: Run, when: str, pause: float = 0.0) -> None:
    """Run turns until nothing moves any more.

    Args:
        when: for the message.
        pause: seconds to let pass once it is quiet, before it has to be quiet again.
    """
    quiet = turns = 0
    still = False
    while quiet < _QUIET:
        before = run.kernel.moves, run.heard, run.fired
        turns += 1
        if turns > _TURNS_MOST:
            name = "spins" if still else "progress"
            run.fail(name, f"{when}, and after {turns} turns it still goes on")
            run.check()
        for conn in run.conns:
            conn.remote_read()
        run.turn(0.001)
        still = before == (run.kernel.moves, run.heard, run.fired)
        sleeps = not run.kernel.reported and run.kernel.sleep != 0.0
        quiet = quiet + 1 if still and sleeps else 0
        if quiet == 1 and pause:
            run.kernel.now += pause
            pause = 0.0


def check(run: Run) -> None:
    """Let all come to its end, and look at what is left."""
    kernel = run.kernel
    run.calm = True
    kernel.calm()
    for rate in run.rated:
        rate.change(2**50)  # which has to reach those who wait
    while seam.LOOKUPS.waiting:
        seam.LOOKUPS.answer(OSError(5, "planned"))
    settle(run, "no fault is left", run.limits.accept_pause + 0.001)
    for conn in run.conns:
        if conn.held and conn.transport is not None and not conn.verb:
            conn.held = False
            if conn.ours is not None:
                conn.ours.paused = False
            conn.transport.resume_reading()
    settle(run, "all read", run.limits.accept_pause + 0.001)
    for conn in run.conns:
        _check_open(run, conn)
    run.check()
    _end(run)
    for conn in run.conns:
        _check_end(run, conn)
    _check_left(run)
    if run.failure is not None:
        raise run.failure


# -- while it is open


def _check_open(run: Run, conn: Conn) -> None:
    ours, number = conn.ours, conn.number
    if ours is None or conn.foreign or conn.lost or conn.refused or conn.end is None:
        return
    if not conn.served:
        if not conn.outgoing and not conn.away and ours.refs and conn.handle == "adopted":
            run.fail("progress", f"connection {number} was adopted, and is never served")
        waits = any(ours in listener.waiting for listener, _ in run.listeners)
        if waits and run.engine.counters.open < run.limits.connections:
            run.fail("progress", f"connection {number} is never accepted")
        return
    if conn.handle == "joined" or ours.gone:
        return
    if ours.was_reset:
        heard_eof = conn.eof or (conn.verb and conn.fin)
        if heard_eof and "hears_resets" not in run.engine.capabilities:
            return
        run.fail("progress", f"connection {number} has been reset, and is not told")
        return
    if conn.ended or conn.aborted:
        run.fail("progress", f"connection {number} is ended, and is never lost")
        return
    peer = conn.peer
    if conn.away or (peer is not None and (peer.away or peer.ended or peer.foreign or peer.lost)):
        return
    if conn.got_error or conn.deaf:
        run.fail("loss", f"connection {number} is open, and its remote end hears a reset")
    if ours.inbox or ours.received != len(conn.sent):
        done = f"{ours.received} of {len(conn.sent)} bytes are received"
        run.fail("progress", f"connection {number}: {done}")
    if bytes(conn.got) != conn.expected():
        done = f"its remote end has {len(conn.got)} of {len(conn.expected())} bytes"
        run.fail("progress", f"connection {number}: {done}")
    if not conn.verb and conn.seen != len(conn.sent):
        done = f"Python has {conn.seen} of {len(conn.sent)} bytes"
        run.fail("progress", f"connection {number}: {done}")
    if not conn.verb and conn.fin and not conn.eof:
        run.fail("progress", f"connection {number}: EOF is never told")
    if not conn.verb and conn.waits:
        run.fail("progress", f"connection {number}: all is sent, and Python is not to go on")
    if conn.eof_written and not conn.got_eof:
        run.fail("progress", f"connection {number}: its remote end does not hear EOF")
    peer_fin = conn.peer is not None and conn.peer.fin
    if conn.got_eof and not conn.eof_written and not peer_fin:
        run.fail("loss", f"connection {number}: its remote end hears EOF, and nobody sent it")
    if peer_fin and (conn.fin or not conn.got_eof):
        run.fail("progress", f"connection {number}: its peer's EOF is not passed on")
    if conn.verb in ("echo", "discard") and conn.fin:
        run.fail("progress", f"connection {number}: EOF under a verb, and it is open")


# -- its end


def _end(run: Run) -> None:
    """End the engine, in one of the ways that there are."""
    engine, how = run.engine, run.script.end % 6
    run.ending = True
    for conn in run.conns:
        if conn.least < 0 and conn.ours is not None:
            conn.least = conn.ours.received
    if run.trace:
        run.trace(f"the end begins: {how}")
    if how == 0:
        for conn in run.conns:
            conn.end_now()
            if conn.transport is not None:
                conn.transport.close()
    elif how == 1:
        engine.abort()
        _all_aborted(run)
    elif how == 2:
        _all_aborted(run)
        engine.close()
    elif how == 3:
        _all_aborted(run)
        engine.call_soon_threadsafe(_exit)
    until = run.kernel.now + run.limits.stop_timeout + run.limits.linger_timeout + 1.0
    if how >= 4 and run.script.end // 6 % 2:
        if run.trace:
            run.trace("it is a drain")
        engine.drain()
        until += run.limits.drain_delay + _DRAIN_MOST + run.limits.drain_spread
    else:
        engine.stop()
    turns = 0
    try:
        while not engine._closed and (engine._transports or engine._lingering or not engine.ending):
            turns += 1
            for conn in run.conns:
                conn.remote_read()
            run.turn(0.001 if turns < 50 else 0.01)
            if turns > _TURNS_MOST or run.kernel.now > until:
                run.fail("progress", f"after {turns} turns the engine has not ended")
                run.check()
            if how == 4 and turns == 3:
                _all_aborted(run)
                engine.abort()
    except SystemExit:
        if how != 3:
            raise
    if run.kernel.now > until - 1.0 + 0.02 or run.limits.stop_timeout == 0.0:
        _all_aborted(run)  # the drain was cut short
    engine.close()
    for _ in range(200):  # what is on its way arrives
        before = run.kernel.moves
        for conn in run.conns:
            conn.remote_read()
        run.kernel.move()
        if run.kernel.moves == before:
            break


def _exit() -> None:
    raise SystemExit


def _all_aborted(run: Run) -> None:
    for conn in run.conns:
        if not conn.lost:
            conn.aborted = True


def _check_end(run: Run, conn: Conn) -> None:
    ours, number = conn.ours, conn.number
    if conn.served and not conn.lost and conn.handle != "joined":
        run.fail("order", f"connection {number} is never lost")
    wrong = conn.wrong()
    if wrong:
        run.fail("bytes", f"remote end of connection {number}: {wrong}")
    if ours is None or conn.end is None or conn.away:
        return
    if not conn.got_eof and not conn.got_error:
        run.fail("progress", f"connection {number} is over, and its remote end does not hear of it")
    if not conn.served or conn.refused or _told(run, conn):
        return
    if conn.peer is not None and (_told(run, conn.peer) or conn.peer.away):
        return
    got, least = len(conn.got), len(conn.expected(least=True))
    if got >= least:
        return
    reset = conn.got_error or conn.deaf
    if reset:
        linger = run.limits.linger_timeout
        waited = ours.fin_at >= 0 and ours.closed_at - ours.fin_at >= linger - 1e-6
        if not linger or ours.unknown or waited or ours.was_reset or ours.refs:
            return
        if not ours.inbox and not ours.known:
            return  # what came to the closed end was answered by the reset
    heard = "a reset" if reset else "EOF"
    run.fail("loss", f"connection {number}: its remote end got {got} bytes of {least}, and {heard}")


def _told(run: Run, conn: Conn) -> bool:
    """Whether somebody knows that something may be missing."""
    joined = conn.handle == "joined" and (conn.broken() or conn.ours is None)
    ended = conn.ended and conn.ours is not None and conn.ours.hit
    return bool(conn.aborted or conn.why or conn.foreign or conn.refused or joined or ended)


def _check_left(run: Run) -> None:
    engine, kernel = run.engine, run.kernel
    stats = engine.stats()
    if stats.open or stats.outgoing:
        run.fail("counts", f"all is over, and {stats.open} are open, {stats.outgoing} outgoing")
    for what, left in (
        ("transports", engine._transports),
        ("lingering", engine._lingering),
        ("connecting", engine.connecting),
        ("timers", engine.timers.heap),
        ("left over", getattr(engine, "_left", None)),
        *(("waiting", rate._bucket and rate._bucket.waiting) for rate in run.rated),
    ):
        if left:
            run.fail("left", f"{len(left)} {what}: {left!r}")
    for fd, file in kernel.files.items():
        whose = f"connection {file.conn.number}'s" if isinstance(file, End) and file.conn else file
        run.fail("left", f"descriptor {fd}, {whose}")
