"""What is known of a run: its connections, as the remote ends and the Python side see them.

What a remote end sends is a stream of bytes that follow from (source, offset), so that every byte
can be told from every other; so is what Python writes.
"""

from __future__ import annotations

import random
from typing import Any

from muxcore.parts.joining import Joining

from .ends import End

_LONG = 1 << 16
_TABLE = random.Random(1).randbytes(2 * _LONG)


def stream(source: int, offset: int, size: int) -> bytes:
    """Return bytes of a stream."""
    at = (source * 7919 + offset) % _LONG
    if at + size > 2 * _LONG:
        raise ValueError("no stream is so long")
    return _TABLE[at : at + size]


class Conn:
    """A connection.

    Attributes:
        end: the remote end; None while nobody has answered.
        ours: the end that the engine has.
        sent: what the remote end has sent.
        got: what it has received; then ``got_eof``, ``got_error``.
        fin, away: it has sent EOF; it has closed.
        deaf: what it sends is refused: there was a reset.
        written: what Python has written, and so what is to come first.
        tail: what is to come after that: (whose bytes, from which on), under echo and relay.
        seen: how many of the remote's bytes Python has seen.
        made, lost, eof: what Python has heard.
        held: reading is paused.
        waits: ``pause_writing`` was the last of the two.
        ended: Python, or a verb, has ended it; ``aborted``: and not waited.
        least: how many of the remote's bytes were received when it was ended.
        rated_from: how many when it began to count against rates.
        why: what ``connection_lost`` said.
        raised: what a callback has raised.
        refused: its service has failed: no protocol.
        foreign: something else in the process closed its descriptor.
        unsure: no room for what it may come to: what its remote end gets is not compared
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.end: Any = None
        self.ours: End | None = None
        self.sent, self.got, self.written = bytearray(), bytearray(), bytearray()
        self.tail: tuple[Conn, int] | None = None
        self.got_eof = self.fin = self.away = self.stalled = self.deaf = False
        self.got_error: OSError | None = None
        self.seen = self.wrote = 0
        self.made = self.lost = self.eof = self.held = False
        self.waits: bool | None = False  # None: another protocol was told
        self.ended = self.aborted = self.refused = self.foreign = self.eof_written = False
        self.stays = False  # what eof_received() has said
        self.outgoing = self.served = False
        self.verb = ""
        self.peer: Conn | None = None  # of a relay
        self.least = -1
        self.rated_from = 0
        self.why: BaseException | None = None
        self.raised: list[int] = []  # ids of what its callbacks raised
        self.transport: Any = None
        self.side: Any = None
        self.sides: list[Any] = []  # that heard of it earlier
        self.handle: Any = None

    # -- the remote end

    def remote_send(self, size: int) -> None:
        if self.end is None or self.fin or self.away:
            return
        data = stream(2 * self.number, len(self.sent), min(size, _LONG // 2))
        if len(self.sent) + len(data) > _LONG:
            return
        try:
            took = self.end.send(data)
        except BlockingIOError:
            return
        except OSError:
            self.deaf = True
            return
        self.sent += data[:took]

    def remote_read(self, most: int = 1 << 20) -> bool:
        """Read; return whether anything came."""
        if self.end is None or self.away or self.got_eof or self.got_error:
            return False
        try:
            data = self.end.recv(most)
        except BlockingIOError:
            return False
        except OSError as exc:
            self.got_error = exc
            return True
        if data:
            self.got += data
        else:
            self.got_eof = True
        return True

    def remote_end(self, how: int) -> None:
        """0: EOF, 1: close, 2: reset."""
        if self.end is None or self.away:
            return
        if how == 0:
            if not self.fin:
                self.fin = True
                try:
                    self.end.shutdown()
                except OSError:
                    self.deaf = True
            return
        self.fin = self.away = True
        self.end.resets = how == 2
        self.end.refs -= 1
        self.end.release()

    # -- what it is to get

    def expected(self, *, least: bool = False) -> bytes:
        """Return all that the remote end may have got; or must have."""
        if self.tail is None:
            return bytes(self.written)
        source, start = self.tail
        stop = len(source.sent)
        if least:
            received = source.ours.received if source.ours is not None else 0
            stop = received if source.least < 0 else source.least
        return bytes(self.written + source.sent[start:stop])

    def wrong(self) -> str:
        """Return what is wrong with what the remote end got, or nothing."""
        expected = self.expected()
        if expected.startswith(self.got):
            return ""
        at = next(
            (i for i, (a, b) in enumerate(zip(self.got, expected, strict=False)) if a != b),
            min(len(expected), len(self.got)),
        )
        return f"byte {at} of {len(self.got)} is wrong, of {len(expected)} that are to come"

    def counted(self) -> int:
        """Return what it has received since it counts against rates, and until it was ended."""
        if self.ours is None:
            return 0
        received = self.ours.received if self.least < 0 else min(self.least, self.ours.received)
        return received - self.rated_from

    def end_now(self) -> None:
        """Note that it was ended, and its relay's other side with it."""
        if self.transport is not None and isinstance(self.transport._peer, Joining):
            self.aborted = True  # what was to go before the bytes of either goes with it
        for each in (self, self.peer):
            if each is not None and not each.ended:
                each.ended = True
                each.least = each.ours.received if each.ours is not None else 0

    def broken(self) -> bool:
        """Whether the network, a fault or the test itself has broken it."""
        ours = self.ours
        return bool(self.foreign or self.raised or (ours and (ours.was_reset or ours.hit)))
