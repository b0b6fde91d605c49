"""Where a reply ends whose bytes are not known: after a text, or as HTTP/1 says.

What csrc/load/load_reply.c says of the same bytes is said here. Bytes are taken in the order in
which they came, in pieces of any size, and never one that is beyond the reply.
"""

from __future__ import annotations

import enum
import re

from muxcore.load.config import LoadConfig

_LINE = 127  # bytes of a line that are looked at: those that matter are shorter
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})")
_STATUS_FORM = b"HTTP/1.d ddd"
_LENGTH = re.compile(rb"([0-9]{1,16})[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,13})[ \t]*(?:;.*)?", re.DOTALL)


class Verdict(enum.Enum):
    """What bytes make of a reply; the names are those of csrc/load/load_reply.h."""

    MORE = enum.auto()
    WHOLE = enum.auto()
    REFUSAL = enum.auto()  # whole, with a status of 400 or more
    WRONG = enum.auto()  # it is none


class UntilReply:
    """A reply that ends where a text first occurs."""

    closes = False

    def __init__(self, until: bytes) -> None:
        self._until = until
        self._tail = b""  # the last bytes of the reply, fewer than the text has
        self.has_begun = False

    def take(self, data: bytes, at: int) -> tuple[int, Verdict]:
        """Return where the reply ends in the data, or the data does, from ``at`` on."""
        seen = self._tail + data[at:]
        found = seen.find(self._until)
        self.has_begun = True
        if found >= 0:
            return at + found + len(self._until) - len(self._tail), Verdict.WHOLE
        self._tail = seen[max(len(seen) - len(self._until) + 1, 0) :]
        return len(data), Verdict.MORE

    def at_end(self) -> Verdict:
        """What the end of the stream makes of it."""
        return Verdict.WRONG


class HttpReply:
    """A response of HTTP/1: RFC 9112, sections 4 to 7.

    Attributes:
        closes: the server ends the connection after it.
    """

    def __init__(self, bodiless: bool) -> None:
        self._bodiless = bodiless
        self._begin()

    def _begin(self) -> None:
        self._state = "status"  # header, size, end, trailer: lines; body, chunk, rest: bytes
        self._line = b""
        self._left = 0
        self._status = 0
        self._has_length = self._chunked = self.closes = False

    @property
    def has_begun(self) -> bool:
        return self._state != "status" or bool(self._line)

    def take(self, data: bytes, at: int) -> tuple[int, Verdict]:
        """Return where the reply ends in the data, or the data does, from ``at`` on."""
        verdict = Verdict.MORE
        while at < len(data) and verdict is Verdict.MORE:
            if self._state == "rest":
                return len(data), verdict
            if self._state not in ("body", "chunk"):
                at, verdict = self._take_line(data, at)
                continue
            part = min(len(data) - at, self._left)
            at += part
            self._left -= part
            if not self._left and self._state == "chunk":
                self._state = "end"
            elif not self._left:
                verdict = self._whole()
        return at, verdict

    def at_end(self) -> Verdict:
        """What the end of the stream makes of it."""
        return self._whole() if self._state == "rest" else Verdict.WRONG

    def _whole(self) -> Verdict:
        return Verdict.REFUSAL if self._status >= 400 else Verdict.WHOLE

    def _take_line(self, data: bytes, at: int) -> tuple[int, Verdict]:
        end = data.find(b"\n", at)
        self._line = (self._line + data[at : end if end >= 0 else len(data)])[:_LINE]
        if end < 0:
            wrong = self._state == "status" and not _may_be_status(self._line)
            return len(data), Verdict.WRONG if wrong else Verdict.MORE
        line, self._line = self._line.removesuffix(b"\r"), b""
        return end + 1, self._read(line)

    def _read(self, line: bytes) -> Verdict:
        if self._state == "status":
            return self._read_status(line)
        if self._state == "header":
            return self._read_header(line) if line else self._end_head()
        if self._state == "size":
            found = _CHUNK.fullmatch(line)
            if not found:
                return Verdict.WRONG
            self._left = int(found[1], 16)
            self._state = "chunk" if self._left else "trailer"
        elif self._state == "end":
            self._state = "size"
            return Verdict.WRONG if line else Verdict.MORE
        elif not line:
            return self._whole()
        return Verdict.MORE

    def _read_status(self, line: bytes) -> Verdict:
        found = _STATUS.match(line)
        if not found or found[2] == b"101":  # another protocol from here on
            return Verdict.WRONG
        self._status = int(found[2])
        self.closes = found[1] == b"0"
        self._state = "header"
        return Verdict.MORE

    def _read_header(self, line: bytes) -> Verdict:
        name, _, value = line.lower().partition(b":")
        value = value.lstrip(b" \t")
        if name == b"content-length":
            found = _LENGTH.fullmatch(value)
            if not found:
                return Verdict.WRONG
            self._left, self._has_length = int(found[1]), True
        elif name == b"transfer-encoding":
            self._chunked = self._chunked or b"chunked" in value
        elif name == b"connection" and b"close" in value:
            self.closes = True
        elif name == b"connection" and b"keep-alive" in value:
            self.closes = False
        return Verdict.MORE

    def _end_head(self) -> Verdict:
        if self._status < 200:  # an interim response: the one that is meant follows
            self._begin()
            return Verdict.MORE
        if self._bodiless or self._status in (204, 304):
            return self._whole()
        if self._chunked:
            self._state = "size"
        elif self._has_length:
            self._state = "body"
            return Verdict.MORE if self._left else self._whole()
        else:
            self._state, self.closes = "rest", True
        return Verdict.MORE


Reply = UntilReply | HttpReply


def reply_of(config: LoadConfig) -> Reply | None:
    """Return the beginning of a reply; None where its bytes are known."""
    if config.until:
        return UntilReply(config.until)
    return HttpReply(config.bodiless) if config.http else None


def _may_be_status(line: bytes) -> bool:
    pairs = zip(line, _STATUS_FORM, strict=False)
    return all(got in b"0123456789" if want == ord("d") else got == want for got, want in pairs)
