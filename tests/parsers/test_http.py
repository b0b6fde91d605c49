"""Heads of HTTP requests: what h11 takes in the same way, every prefix, and what is none."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muxcore.parsers import HttpHead, http, http_head

from . import laws

REAL = (
    b"GET /a?b=c HTTP/1.1\r\nHost: A.Example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    b"X-Empty:\r\nX-Two:  with spaces \t\r\nX-Two: again\xff\r\n\r\n"
)


def request(line: str = "GET / HTTP/1.1", *headers: str) -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


def test_a_request_is_read_and_every_prefix_waits() -> None:
    found = laws.check_valid(http_head, REAL)
    assert (found.method, found.target, found.version) == ("GET", "/a?b=c", "1.1")
    assert found.headers == (
        ("host", "A.Example:8080"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-empty", ""),
        ("x-two", "with spaces"),
        ("x-two", "again\xff"),
    )
    assert (found.host, found.port, found.size) == ("a.example", 8080, len(REAL))


def test_one_empty_line_before_a_request_is_skipped_and_two_are_not() -> None:
    found = laws.check_valid(http_head, b"\r\n" + REAL)
    assert (found.size, found.method) == (len(REAL) + 2, "GET")
    assert "not HTTP" in str(laws.refusal(http_head, b"\r\n\r\n" + REAL))


@pytest.mark.parametrize(
    ("sent", "host", "port"),
    [
        (request("GET / HTTP/1.1", "Host: a.example"), "a.example", None),
        (request("GET / HTTP/1.1", "hOsT:a.example:"), "a.example", None),
        (request("GET / HTTP/1.1", "Host: 192.0.2.1:0080"), "192.0.2.1", 80),
        (request("GET / HTTP/1.1", "Host: [2001:DB8:0::1]:443"), "2001:db8::1", 443),
        (request("GET / HTTP/1.1", "Host:"), None, None),
        (request("GET / HTTP/1.0"), None, None),
        (request("GET / HTTP/1.0", "Host: a"), "a", None),
        (request("OPTIONS * HTTP/1.1", "Host: a"), "a", None),
        (request("GET http://A.example/x HTTP/1.1", "Host: a.EXAMPLE"), "a.example", None),
        (request("GET http://a.example:81?x HTTP/1.1", "Host: a.example:81"), "a.example", 81),
        (request("GET ftp://a.example HTTP/1.0"), "a.example", None),
        (request("CONNECT a.example:443 HTTP/1.1", "Host: a.example"), "a.example", 443),
        (request("CONNECT [::1]:443 HTTP/1.1", "Host: [::1]:443"), "::1", 443),
    ],
)
def test_the_host_that_is_asked_for(sent: bytes, host: str | None, port: int | None) -> None:
    found = laws.check_valid(http_head, sent)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (request("GET / HTTP/1.1", "Host: a", "Host: a"), "2 Host headers"),
        (request("GET / HTTP/1.1", "Host: a", "hOST: b"), "2 Host headers"),
        (request("GET / HTTP/1.1"), "HTTP/1.1 without a Host header"),
        (request("GET / HTTP/1.1", "Host: a, b"), "b'a, b' in the Host header is no host and port"),
        (request("GET / HTTP/1.1", "Host: a:65536"), "is no host and port"),
        (request("GET / HTTP/1.1", "Host: %61"), "is no host and port"),
        (request("GET / HTTP/1.1", "Host: user@a"), "is no host and port"),
        (request("GET / HTTP/1.1", "Host: a\xe4"), "is no host and port"),
        (request("GET / HTTP/1.1", "Host: [::1::2]"), "is no IPv6 address"),
        (request("GET / HTTP/1.1", "Host: " + "/" * 1000), "is no host and port"),
        (request("GET http://a/ HTTP/1.1", "Host: b"), "the Host header is not that of the target"),
        (request("GET http://a/ HTTP/1.1", "Host: a:80"), "the Host header is not that"),
        (request("GET http://a/ HTTP/1.1", "Host:"), "the Host header is not that"),
        (request("GET http:///x HTTP/1.1", "Host: a"), "b'' in the target is no host"),
        (request("GET a HTTP/1.1", "Host: a"), "b'a' is in no form that there is"),
        (request("GET * HTTP/1.1", "Host: a"), "is in no form that there is"),
        (request("CONNECT a HTTP/1.1", "Host: a"), "of CONNECT has no port"),
        (request("CONNECT / HTTP/1.1", "Host: a"), "in the target of CONNECT is no host"),
        (request("GET /", "Host: a"), "is no request line"),
        (request("GET  / HTTP/1.1", "Host: a"), "is no request line"),
        (request("GET / HTTP/1.1 ", "Host: a"), "is no request line"),
        (request("GET /\xe4 HTTP/1.1", "Host: a"), "is no request line"),
        (request("GET /\t HTTP/1.1", "Host: a"), "is no request line"),
        (request("GET / http/1.1", "Host: a"), "is no request line"),
        (request("GET / HTTP/1.1", " Host: a"), "a folded header, at byte 16"),
        (request("GET / HTTP/1.1", "Host: a", "\tb"), "a folded header, at byte 25"),
        (request("GET / HTTP/1.1", "Host : a"), "b'Host : a' is no header, at byte 16"),
        (request("GET / HTTP/1.1", "Host"), "is no header"),
        (request("GET / HTTP/1.1", ": a"), "is no header"),
        (request("GET / HTTP/1.1", "X: a\0"), "a control character in the header b'X'"),
        (request("GET / HTTP/1.1", "X: a\x7f"), "a control character"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "a CR or LF that is no line's end"),
        (b"GET / HTTP/1.1\n\r", "a CR or LF that is no line's end"),
        (b"GET / HTTP/1.1\n\rX", "a CR or LF that is no line's end"),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "a CR or LF that is no line's end"),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "a CR or LF that is no line's end"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(sent: bytes, reason: str) -> None:
    exc = laws.refusal(http_head, sent)
    for each in range(len(sent)):  # the reason is that of the first refusal, as a peer sends it
        if isinstance(early := laws.outcome(http_head, sent[:each]), laws.Refused):
            exc = early.error
            break
    assert reason in str(exc)
    assert exc.answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert exc.answer.endswith(b"\r\nContent-Length: 0\r\n\r\n")


def test_another_version_is_answered_with_505() -> None:
    for version in ("0.9", "2.0", "3.1"):
        exc = laws.refusal(http_head, request(f"GET / HTTP/{version}", "Host: a"))
        assert f"the version b'HTTP/{version}'" in str(exc)
        assert exc.answer.startswith(b"HTTP/1.1 505 ")


def test_http_2_is_recognised_by_its_preface() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert http_head(preface[:15]) is None
    exc = laws.refusal(http_head, preface)
    assert str(exc).startswith("HTTP/2: ")
    assert exc.answer == b""


@pytest.mark.parametrize("sent", [b"\x16", b" ", b"\r\r", b"\n", b"GET\t", b"\0", b"M" * 33])
def test_what_is_not_http_is_known_by_its_first_bytes_and_gets_no_answer(sent: bytes) -> None:
    assert http_head(sent[:-1]) is None
    laws.check_stranger(http_head, "HTTP", sent)


def test_a_head_may_be_as_long_as_it_may_be_and_no_longer() -> None:
    room = http.MAX_HEAD - len(request("GET / HTTP/1.0", "X: "))
    longest = request("GET / HTTP/1.0", "X: " + "x" * room)
    assert http_head(longest[:-1]) is None
    assert laws.found(http_head, longest + b"body").size == http.MAX_HEAD
    exc = laws.refusal(http_head, request("GET / HTTP/1.0", "X: " + "x" * (room + 1)))
    assert "no end within 16384 bytes" in str(exc)
    assert exc.answer.startswith(b"HTTP/1.1 431 ")


def test_a_head_may_have_so_many_headers_and_no_more() -> None:
    most = request("GET / HTTP/1.0", *["X: y"] * http.MAX_HEADERS)
    assert len(laws.check_valid(http_head, most).headers) == http.MAX_HEADERS
    exc = laws.refusal(http_head, request("GET / HTTP/1.0", *["X: y"] * (http.MAX_HEADERS + 1)))
    assert "101 headers, 100 may be" in str(exc)
    assert exc.answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("filling", [b"x", b" ", b"\xff"])
def test_byte_by_byte_a_head_without_an_end_takes_no_time_that_matters(filling: bytes) -> None:
    """It takes a third of a second; were each line read again each time, it would be a minute."""
    sent = b"GET / HTTP/1.1\r\n" + b"x:\r\n" * 99 + b"x:" + filling * 15_500
    laws.check_byte_by_byte(http_head, sent)


def test_whitespace_without_end_is_read_in_linear_time() -> None:
    began = time.process_time()
    for _ in range(100):
        assert http_head(request("GET / HTTP/1.0", "X: a" + " \t" * 8_000 + "b")) is not None
    assert time.process_time() - began < 5


def by_h11(sent: bytes) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    """Return how h11 reads a request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    headers = tuple((name.decode(), value.decode("latin-1")) for name, value in event.headers)
    return event.method.decode(), event.target.decode(), event.http_version.decode(), headers


_WORDS = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=8)
_HEADERS = st.lists(
    st.sampled_from(["Host: a", "X: y", "x-y:", "Accept: a, b", "Via:  1.1 \t", "Cookie: =; "])
    | st.builds("{}:{}".format, st.from_regex(r"[!-9;-~]{1,5}", fullmatch=True), _WORDS)
    | _WORDS,
    max_size=5,
)
_LINES = st.builds(
    "{} {} {}".format,
    st.sampled_from(["GET", "POST", "CONNECT", "OPTIONS", "M-X!"]) | _WORDS,
    st.sampled_from(["/", "*", "http://a/", "a:1", "/a#b?c"]) | _WORDS,
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "HTTP/2.0"]) | _WORDS,
)


@given(
    sent=st.builds(lambda line, headers: request(line, *headers), _LINES, _HEADERS)
    | laws.damaged([REAL, request("GET http://a/ HTTP/1.1", "Host: a")])
    | st.binary(max_size=100),
    places=laws.PLACES,
)
@example(REAL, [])
def test_what_is_taken_is_what_h11_takes_and_all_else_one_clear_error(
    sent: bytes, places: list[int]
) -> None:
    found = laws.check(http_head, sent, places)
    if not isinstance(found, HttpHead):
        return
    assert found.size <= len(sent)
    assert sent[: found.size].endswith(b"\r\n\r\n")
    names = {name for name, _ in found.headers}
    if names & {"content-length", "transfer-encoding"}:  # h11 judges the body too
        return
    head = sent[: found.size].removeprefix(b"\r\n")  # h11 skips no line
    assert by_h11(head) == (found.method, found.target, found.version, found.headers)
    hosts = [value for name, value in found.headers if name == "host"]
    assert len(hosts) <= 1
    if found.host is not None and found.target.startswith("/"):
        assert hosts[0].lower().startswith((found.host, "["))
