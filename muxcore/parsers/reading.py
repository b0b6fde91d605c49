"""What the parsers have in common: bytes that are read field by field, and shown in an error."""

from __future__ import annotations

import socket
from typing import TypeAlias

from muxcore.errors import ParseError

Buffer: TypeAlias = "bytes | bytearray | memoryview"

# Bytes of a stranger's that an error quotes: enough to recognise, too few to flood a log.
_SHOWN = 24


def start_of(data: Buffer, size: int) -> bytes:
    """Return the first ``size`` bytes.

    They are copied, which takes less than a microsecond for 16 KiB: a bytearray with a view on it
    cannot grow, and the traceback of an error would keep the view.
    """
    return bytes(memoryview(data)[:size])


def shown(data: bytes) -> str:
    """Return bytes as an error may quote them."""
    return repr(data[:_SHOWN]) + ("…" if len(data) > _SHOWN else "")


def address_text(packed: bytes) -> str:
    """Return an IP address as the kernel's are written, those of ``peername``."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


class Fields:
    """Bytes that are read field by field, each within what it is in.

    Attributes:
        at: the next byte's place in the whole.
        end: the place after the last byte.
    """

    __slots__ = ("_answer", "_data", "_what", "at", "end")

    def __init__(self, data: bytes, at: int, end: int, what: str, answer: bytes) -> None:
        """
        Args:
            data: the whole, of which the bytes from ``at`` to ``end`` are read.
            what: what an error calls it, as in "malformed ClientHello".
            answer: the ``ParseError``'s.
        """
        self._data = data
        self.at = at
        self.end = end
        self._what = what
        self._answer = answer

    def take(self, size: int, name: str) -> bytes:
        """Return the next bytes; ``name`` is the field's, for an error."""
        begin = self.at
        if size > self.end - begin:
            raise self.wrong(f"{name} has {size} bytes, {self.end - begin} are left for it")
        self.at += size
        return self._data[begin : self.at]

    @property
    def left(self) -> bytes:
        """All bytes that are not taken."""
        return self._data[self.at : self.end]

    def number(self, size: int, name: str) -> int:
        return int.from_bytes(self.take(size, name))

    def vector(self, size: int, name: str) -> Fields:
        """Take what is preceded by its length, a number of ``size`` bytes."""
        length = self.number(size, f"the length of {name}")
        begin = self.at
        self.take(length, name)
        return Fields(self._data, begin, self.at, self._what, self._answer)

    def finish(self, name: str) -> None:
        if self.at < self.end:
            raise self.wrong(f"{self.end - self.at} bytes too many in {name}")

    def wrong(self, why: str, answer: bytes | None = None) -> ParseError:
        """Return the error that says so, and where."""
        text = f"malformed {self._what}: {why}, at byte {self.at} of it"
        return ParseError(text, self._answer if answer is None else answer)
