"""Where a reply ends is found however it is cut, and by both generators alike."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muxcore.load.generator import native_reason
from muxcore.load.replies import HttpReply, UntilReply, Verdict

Take = Callable[[bytes], tuple[int, Verdict]]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"5\r\nhello\r\n1a;why=not\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"


class _Native:
    """The reply of csrc/load, in the shape of ours."""

    def __init__(self, until: bytes = b"") -> None:
        core: Any = importlib.import_module("muxcore.native._core")
        self._core = core
        self._rules = core.ffi.new("mux_reply_rules *")
        self._reply = core.ffi.new("mux_reply *")
        if until:
            core.lib.mux_reply_until(self._rules, until, len(until))

    @property
    def closes(self) -> bool:
        return bool(self._reply.closes)

    def take(self, data: bytes, at: int) -> tuple[int, Verdict]:
        verdict = self._core.ffi.new("mux_reply_verdict *")
        rest = data[at:]
        taken = self._core.lib.mux_reply_take(self._rules, self._reply, rest, len(rest), verdict)
        return at + taken, list(Verdict)[verdict[0]]

    def at_end(self) -> Verdict:
        return list(Verdict)[self._core.lib.mux_reply_at_end(self._reply)]


@pytest.fixture
def http(kind: str) -> Callable[[], Any]:
    return _Native if kind == "native" else lambda: HttpReply(False)


@pytest.fixture
def until(kind: str) -> Callable[[bytes], Any]:
    return _Native if kind == "native" else UntilReply


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield the whole, each byte by itself, and every way to cut it in two."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


def read(reply: Any, pieces: list[bytes]) -> tuple[int, Verdict]:
    """Return how many bytes were taken, and the verdict."""
    total = 0
    for piece in pieces:
        end, verdict = reply.take(piece, 0)
        total += end
        if verdict is not Verdict.MORE:
            return total, verdict
        assert end == len(piece)
    return total, Verdict.MORE


@pytest.mark.parametrize(
    ("response", "closes"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", False),
        (OK + b"content-length:5 \r\nX: " + b"y" * 300 + b"\r\n\r\nhello", False),
        (OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", True),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, False),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS, False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: 1\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", False),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n!",
            False,
        ),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", False),
    ],
)
def test_a_response_ends_where_http_says(
    http: Callable[[], Any], response: bytes, closes: bool
) -> None:
    for pieces in cuts(response):
        reply = http()
        assert read(reply, pieces) == (len(response), Verdict.WHOLE), pieces
        assert reply.closes is closes
    assert read(http(), [response + b"HTTP/1.1"]) == (len(response), Verdict.WHOLE)
    for i in range(len(response)):
        assert read(http(), [response[:i]])[1] is Verdict.MORE


@pytest.mark.parametrize("status", [b"400 Bad Request", b"503 Sorry"])
def test_a_status_that_is_an_error_is_a_refusal(http: Callable[[], Any], status: bytes) -> None:
    response = b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno"
    for pieces in cuts(response):
        assert read(http(), pieces) == (len(response), Verdict.REFUSAL)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"Content-Length: five\r\n\r\n",
        OK + b"Content-Length: 5 6\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_response_is_wrong(http: Callable[[], Any], response: bytes) -> None:
    for pieces in cuts(response):
        assert read(http(), pieces)[1] is Verdict.WRONG, pieces


def test_a_response_without_a_length_ends_with_the_stream(http: Callable[[], Any]) -> None:
    reply = http()
    assert read(reply, [OK + b"\r\nand ", b"so on"])[1] is Verdict.MORE
    assert reply.closes
    assert reply.at_end() is Verdict.WHOLE
    cut_short = http()
    read(cut_short, [OK + b"Content-Length: 5\r\n\r\nhel"])
    assert cut_short.at_end() is Verdict.WRONG


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"\r\n", b"250 OK\r\n"),
        (b"\n", b"\n"),
        (b"\r\n.\r\n", b"220 list\r\n\r\n.\r\r\n.\r\n"),
        (b"aabaaab", b"aabaabaaab"),
        (b"END\r\n", b"VALUE 1\r\nENEND\r\n"),
    ],
)
def test_a_reply_ends_where_a_text_first_occurs(
    until: Callable[[bytes], Any], text: bytes, reply: bytes
) -> None:
    for pieces in cuts(reply):
        assert read(until(text), pieces) == (len(reply), Verdict.WHOLE), pieces
    assert read(until(text), [reply + reply]) == (len(reply), Verdict.WHOLE)
    assert read(until(text), [reply[:-1]])[1] is Verdict.MORE


def test_both_generators_find_the_same_end_of_any_bytes() -> None:
    if reason := native_reason():
        pytest.skip(reason)
    rng = random.Random(4)
    words = [
        OK,
        b"HTTP/1.0 404 No\r\n",
        b"Content-Length: 7\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ]
    words += [
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"Connection: close\r\n",
        b"x",
        b"0;a\r\n",
        b"F\n",
    ]
    for _ in range(3000):
        data = b"".join(rng.choices(words, k=rng.randrange(1, 12)))
        places = sorted(rng.sample(range(len(data)), min(3, len(data))))
        pieces = [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]
        ours, theirs = HttpReply(False), _Native()
        assert read(ours, pieces) == read(theirs, pieces), pieces
        assert bool(ours.closes) == theirs.closes
        text = rng.choice([b"\r\n", b"aab", b"abcab", b"0"])
        letters = bytes(rng.choices(b"abc0\r\n", k=40))
        cut = [letters[i : i + 7] for i in range(0, 40, 7)]
        assert read(UntilReply(text), cut) == read(_Native(text), cut), (text, cut)
