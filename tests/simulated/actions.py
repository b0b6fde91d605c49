"""What an operation of a script does: the kernel's side, the remote ends', and Python's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from muxcore.protocol import Verb

from . import seam
from .ends import End, Listener
from .model import Conn, stream
from .side import KINDS

if TYPE_CHECKING:
    from .run import Run
    from .script import Op

_WRITE_MOST = 9000
_SEND_MOST = 4096


class Handle:
    """What ``transport.server`` is: the engine's calls."""

    def __init__(self, engine: Any) -> None:
        self.connect, self.call_later = engine.connect, engine.call_later
        self.adopt, self.call_soon_threadsafe = engine.adopt, engine.call_soon_threadsafe


def listening(run: Run, number: int, listener: Listener) -> Any:
    """Return the service of a listener: of many kinds, and it fails now and then."""

    def service() -> Any:
        end = listener.last
        assert end is not None
        dice = run.chance.randrange(64)
        if dice < 2 and run.script.reacts and not run.calm:
            end.conn.refused = True
            if dice:
                return object()
            raise ValueError("planned")
        kind = KINDS[(number + end.conn.number) % len(KINDS[:4])]
        return kind(run)

    return service


# -- the world


def dial(run: Run, op: Op) -> None:
    listener, _ = run.listeners[op.a % len(run.listeners)]
    if run.has_room() and not listener.gone and len(listener.waiting) < listener.BACKLOG:
        conn = run.paired()
        assert conn.ours is not None
        listener.arrive(conn.ours)


def hasty(run: Run, op: Op) -> None:
    """Dial, send, and reset or close at once."""
    before = len(run.conns)
    dial(run, op)
    if len(run.conns) > before:
        conn = run.conns[-1]
        if op.b % 3:
            conn.remote_send(op.b % 300)
        conn.remote_end(op.b % 3)


def adopt(run: Run, op: Op) -> None:
    if not run.has_room() or run.ending or run.kernel.full:
        return
    conn = run.paired()
    conn.handle = "adopted"
    # a number that a connection lost to something else is not used here: nobody could know
    taken = {transport.fd for transport in run.engine._transports}
    sock = seam.Socket(fileno=run.kernel.give(conn.ours, taken))
    run.engine.adopt(sock, run.service(op.b))


def connect(run: Run, op: Op) -> None:
    """Connect to one that answers, or refuses, or is silent; to a name with several; and cancel."""
    if not run.has_room() or run.engine.ending:
        return
    kind = (1, 1, 1, 1, 1, 2, 3, 4)[op.a % 8]
    where = f"{seam.HOST}:{kind}" if kind < 4 else f"{seam.NAME}:1"
    handle = run.engine.connect(where, run.service(op.b))
    begun(run)
    if op.b % 16 == 3:
        run.engine.timers.add(0.001 * (op.b % 5), handle.cancel)


def begun(run: Run) -> Conn | None:
    """Get to know the connections that were begun; return the last."""
    found = None
    for end in run.kernel.ends:
        if end.conn is None and end.connecting and not end.gone:
            found = run.new_conn()
            found.outgoing = True
            found.ours, end.conn = end, found
    return found


def relay_to(run: Run, op: Op) -> None:
    """Relay to an address."""
    if not run.conns or not run.has_room():
        return
    conn = run.conns[op.b % len(run.conns)]
    if not _free(conn) or run.engine.ending:
        return
    first = stream(2 * conn.number + 1, 0, op.a % 300)
    back = stream(2 * conn.number + 1, 300, op.b % 200)
    seen = conn.seen
    kind = 2 if op.a % 8 == 7 else 1
    begun(run)
    conn.transport.relay(f"{seam.HOST}:{kind}", first=first, back=back)
    conn.verb = "relay"
    _unheld(conn)
    peer = begun(run) or run.new_conn()
    peer.outgoing, peer.verb = True, "relay"
    peer.made = peer.served = True  # its protocol is the engine's
    conn.peer, peer.peer = peer, conn
    peer.written += first
    conn.written += back
    peer.tail, conn.tail = (conn, seen), (peer, 0)
    peer.handle = "joined"


def answer(run: Run, op: Op) -> None:
    """Let a name be looked up."""
    found: Any = [(socket.AF_INET, (seam.HOST, 1 + n % 3)) for n in range(op.a % 4)]
    if not found or op.b % 8 == 0:
        found = socket.gaierror(socket.EAI_NONAME, "planned")
    seam.LOOKUPS.answer(found)


def fork(run: Run, op: Op) -> None:
    run.kernel.fork(bool(op.a % 2))


def full(run: Run, op: Op) -> None:
    run.kernel.full = bool(op.a % 2)


def let_pass(run: Run, op: Op) -> None:
    run.kernel.now += op.a % 200 / 1000


def later(run: Run, op: Op) -> None:
    """Ask for a call, soon or later; cancel some."""
    if run.engine._closed:
        return

    def fired() -> None:
        run.fired += 1
        if run.conns:
            run.react(run.conns[op.b % len(run.conns)], "call_later")

    if op.a % 3:
        due = run.kernel.now + op.a % 50 / 1000

        def in_time() -> None:
            if run.kernel.now < due:
                run.fail("timers", f"called {due - run.kernel.now:g} s early")
            fired()

        timer = run.engine.call_later(op.a % 50 / 1000, in_time)
        if op.b % 4 == 0:
            timer.cancel()
    else:
        run.engine.call_soon_threadsafe(fired)


# -- of one connection: Python


def _free(conn: Conn) -> bool:
    """Whether Python may do something with it, and no verb has it."""
    transport = conn.transport
    return (
        transport is not None
        and not conn.verb
        and not transport.is_closing()
        and (not conn.eof_written)
    )


def write(run: Run, conn: Conn, op: Op) -> None:
    if not _free(conn) or conn.wrote > 20_000:
        return
    size = op.b % _WRITE_MOST if op.b % 3 else op.b % 100
    data = stream(2 * conn.number + 1, conn.wrote, size)
    conn.wrote += size
    conn.written += data
    how = op.b % 7
    if how == 0:
        changed = bytearray(data)
        conn.transport.write(changed)
        changed[:] = bytes(size)  # it was copied, or is sent
    elif how == 1:
        changed = bytearray(data)
        conn.transport.write(memoryview(changed))
        changed[:] = bytes(size)
        if not conn.raised:  # a traceback is the program's own, and holds its arguments
            changed.clear()  # BufferError if somebody still looks at it
    elif how == 2:
        scattered = bytearray(2 * size)
        scattered[::2] = data
        conn.transport.write(memoryview(scattered)[::2])
    elif how == 3:
        conn.transport.writelines([data[: size // 2], bytearray(data[size // 2 :])])
    else:
        conn.transport.write(data)
    if run.trace:
        run.trace(f"    connection {conn.number}: {size} bytes written")


def burst(run: Run, conn: Conn, op: Op) -> None:
    for number in range(2 + op.a % 6):
        write(run, conn, type(op)("write", op.a, (op.b * (number + 1)) % 65536, 0))


def write_eof(run: Run, conn: Conn, op: Op) -> None:
    if _free(conn):
        conn.eof_written = True
        conn.transport.write_eof()
        conn.transport.write_eof()  # asyncio's: the second is none


def pause(run: Run, conn: Conn, op: Op) -> None:
    if _free(conn) or (conn.eof_written and conn.transport and not conn.transport.is_closing()):
        conn.held = True
        if conn.ours is not None:
            conn.ours.paused = True
            conn.ours.known = conn.ours.known or bool(conn.ours.inbox)
        conn.transport.pause_reading()


def resume(run: Run, conn: Conn, op: Op) -> None:
    if conn.transport is not None and not conn.verb:
        _unheld(conn)
        conn.transport.resume_reading()


def _unheld(conn: Conn) -> None:
    conn.held = False
    if conn.ours is not None:
        conn.ours.paused = False


def limit(run: Run, conn: Conn, op: Op) -> None:
    """Let it count against some of the run's rates, or none."""
    if conn.transport is None or conn.transport.is_closing() or conn.ours is None:
        return
    for rated in run.rated.values():
        if conn in rated.conns:
            rated.conns.remove(conn)
            rated.before += conn.counted()
    conn.rated_from = conn.ours.received
    chosen = [rate for bit, rate in enumerate(run.rated) if op.b >> bit & 1]
    for rate in chosen:
        run.rated[rate].conns.append(conn)
    conn.transport.limit(*chosen)


def marks(run: Run, conn: Conn, op: Op) -> None:
    if conn.transport is not None and not conn.transport.is_closing():
        conn.transport.set_write_buffer_limits(op.b % 4000, op.b % 4000 // 4)


def verb(run: Run, conn: Conn, op: Op) -> None:
    if not _free(conn):
        return
    what = Verb.ECHO if op.b % 2 else Verb.DISCARD
    conn.verb = what.value
    if what is Verb.ECHO:
        conn.tail = (conn, conn.seen)
    if conn.eof:
        conn.end_now()
    _unheld(conn)
    conn.transport.echo() if what is Verb.ECHO else conn.transport.discard()


def relay(run: Run, conn: Conn, op: Op) -> None:
    peer = run.conns[op.b % len(run.conns)]
    if peer is conn or not _free(conn) or not _free(peer):
        return
    first = stream(2 * peer.number + 1, peer.wrote, op.a % 300 if op.a % 3 else 0)
    back = stream(2 * conn.number + 1, conn.wrote, op.b % 200 if op.b % 3 else 0)
    peer.written += first
    conn.written += back
    conn.verb = peer.verb = "relay"
    conn.peer, peer.peer = peer, conn
    conn.tail, peer.tail = (peer, peer.seen), (conn, conn.seen)
    for side in (conn, peer):
        _unheld(side)
    conn.transport.relay(peer.transport, first=first, back=back)


def close(run: Run, conn: Conn, op: Op) -> None:
    if conn.transport is None or conn.transport.is_closing():
        return
    conn.end_now()
    conn.transport.close()


def abort(run: Run, conn: Conn, op: Op) -> None:
    if conn.transport is None:
        return
    for each in (conn, conn.peer):
        if each is not None and not each.lost:
            each.aborted = True
    conn.transport.abort()


def replace(run: Run, conn: Conn, op: Op) -> None:
    if not _free(conn):
        return
    kind = KINDS[:4][op.b % 4]
    side = kind(run, conn)
    conn.sides.append(conn.side)
    conn.side = side
    conn.waits = None
    conn.transport.set_protocol(side)


def foreign(run: Run, op: Op) -> None:
    """Let something else in the process close a descriptor."""
    fds = [fd for fd, file in run.kernel.files.items() if isinstance(file, End) and file.conn]
    if not fds:
        return
    fd = fds[op.a % len(fds)]
    conn = run.kernel.files[fd].conn
    if conn.transport is None or conn.transport.fd != fd or conn.transport.is_closing():
        return  # between close() and connection_lost nobody could notice
    conn.foreign = True
    run.kernel.close(fd, foreign=True)


def _remote_end(run: Run, conn: Conn, op: Op) -> None:
    conn.remote_end(op.b % 3)


def _remote_stall(run: Run, conn: Conn, op: Op) -> None:
    conn.stalled = bool(op.b % 2)


def _remote_send(run: Run, conn: Conn, op: Op) -> None:
    conn.remote_send(1 + op.b % _SEND_MOST)
    if conn.ours is not None and run.kernel.wrong(4096) and conn.ours.inbox:
        conn.ours.urgent = len(conn.ours.inbox) // 2 or -1


WORLD: dict[str, Callable[[Run, Op], None]] = {
    "dial": dial,
    "hasty": hasty,
    "adopt": adopt,
    "connect": connect,
    "relay_to": relay_to,
    "answer": answer,
    "fork": fork,
    "full": full,
    "pass": let_pass,
    "later": later,
    "foreign": foreign,
}
OF_ONE: dict[str, Callable[[Run, Conn, Op], None]] = {
    "remote_send": _remote_send,
    "remote_read": lambda run, conn, op: bool(conn.remote_read(1 + op.b % 8192)) and None,
    "remote_stall": _remote_stall,
    "remote_end": _remote_end,
    "remote_eof": lambda run, conn, op: conn.remote_end(0),
    "write": write,
    "burst": burst,
    "eof": write_eof,
    "pause": pause,
    "resume": resume,
    "limit": limit,
    "marks": marks,
    "verb": verb,
    "relay": relay,
    "close": close,
    "abort": abort,
    "replace": replace,
}
REACTIONS = (
    "write write write burst eof pause resume marks verb relay relay_to close close abort replace "
    "raise connect later adopt"
).split()
