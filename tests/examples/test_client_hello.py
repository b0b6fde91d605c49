"""What a TLS client says first: real ones, cut anywhere, and everything that is none."""

from __future__ import annotations

import itertools
import runpy
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .tls import alert
from .tls import hello as tls_hello

_EXAMPLE = Path(__file__).parents[2] / "examples" / "client_hello.py"
parser = SimpleNamespace(**runpy.run_path(str(_EXAMPLE)))

REAL = tls_hello("a.example")


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def host_names(*names: bytes, kind: int = 0) -> bytes:
    """Return the content of a server_name extension."""
    return vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


NAMED = extension(0, host_names(b"a.example"))


def hello(extensions: bytes = NAMED, *, kind: int = 1, more: bytes = b"", cut: int = 0) -> bytes:
    """Return a hello's message; ``more`` follows in it, ``cut`` bytes of its end are missing."""
    fields = bytes(34) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + vector(1, b"\0")
    body = fields + (vector(2, extensions) if extensions else b"") + more
    return bytes([kind]) + vector(3, body[: len(body) - cut])


def records(message: bytes, size: int = 16_384) -> bytes:
    """Return a message in records of so many bytes each."""
    pieces = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def outcome(*pieces: bytes) -> tuple[str | None, str, bytes]:
    """Feed it; return the name, the reason why there is none, and the answer to that."""
    reader = parser.ClientHello()
    for piece in pieces:
        try:
            name = reader.feed(piece)
        except parser.HelloError as exc:
            return None, str(exc), exc.answer
        if name is not None:
            return name, "", b""
    return None, "", b""


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.example", "x" * 63 + ".example", "localhost", "A.eXample"])
def test_the_name_that_a_real_client_asks_for(name: str, newest: ssl.TLSVersion) -> None:
    assert outcome(tls_hello(name, newest))[0] == name.lower()


@pytest.mark.parametrize("name", [None, "192.0.2.1"])  # an address is no name: RFC 6066
def test_a_client_that_names_no_server_is_told_that_it_must(name: str | None) -> None:
    assert outcome(tls_hello(name)) == (None, "it names no server", alert(109))


def test_a_hello_of_old_without_any_extension_names_no_server() -> None:
    assert outcome(records(hello(b"")))[2] == alert(109)


def test_until_its_last_byte_has_come_there_is_no_name() -> None:
    reader = parser.ClientHello()
    for byte in REAL[:-1]:
        assert reader.feed(bytes([byte])) is None
    assert reader.feed(REAL[-1:]) == "a.example"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_a_hello_in_several_records_is_one(size: int) -> None:
    message = REAL[5:]
    in_pieces = records(message[:50], size) + records(message[50:], 100)
    assert outcome(in_pieces)[0] == "a.example"
    assert outcome(*(bytes([byte]) for byte in in_pieces))[0] == "a.example"


def test_a_hello_may_come_in_so_many_records_and_no_more() -> None:
    message = hello()
    most = parser.MAX_RECORDS
    first = most - 1
    sent = records(message[:first], 1) + records(message[first:])
    assert outcome(sent)[0] == "a.example"
    sent = records(message[:most], 1) + records(message[most:])
    name, reason, answer = outcome(sent)
    assert (name, answer) == (None, alert(10))
    assert reason == "malformed: more than 64 records"


def test_what_a_client_can_cost_is_bounded() -> None:
    """It may send 90 kB in records of one byte: the router reads the first of them."""
    length = (parser.MAX_HELLO - 4).to_bytes(3)
    sent = records(b"\x01" + length + bytes(parser.MAX_HELLO - 4), 1)
    assert outcome(sent)[2] == alert(10)
    reader = parser.ClientHello()
    with pytest.raises(parser.HelloError):
        reader.feed(sent)
    assert len(reader._message) == parser.MAX_RECORDS


def test_every_byte_is_kept_as_it_came_also_what_follows_the_hello() -> None:
    sent = records(REAL[5:], 50) + b"\x14\x03\x03\x00\x01\x01" + bytes(range(256))
    reader = parser.ClientHello()
    reader.feed(sent[:100])
    assert reader.feed(sent[100:]) == "a.example"
    assert reader.take() == sent
    assert reader.take() == b""


@pytest.mark.parametrize(
    "sent", [b"G", b"SSH-2.0-x\r\n", b"\0", b"\x80\x2e\x01\x03\x01", b"\x16\x02", b"\x15\x03\x03"]
)
def test_what_is_not_tls_is_known_by_its_first_bytes_and_gets_no_answer(sent: bytes) -> None:
    assert outcome(sent) == (None, "this is not TLS", b"")


def test_a_hello_may_be_as_long_as_it_may_be_and_no_longer() -> None:
    padding = parser.MAX_HELLO - (len(hello()) - 4) - 4
    longest = hello(NAMED + extension(21, bytes(padding)))
    assert outcome(records(longest))[0] == "a.example"
    too_long = hello(NAMED + extension(21, bytes(padding + 1)))
    name, reason, answer = outcome(records(too_long)[:9])  # its length says it, nothing is kept
    assert (name, answer) == (None, alert(47))
    assert reason == "too long: a hello of 16385 bytes, 16384 may be"


@pytest.mark.parametrize(
    ("sent", "reason", "description"),
    [
        (b"\x16\x03\x01\x00\x00", "an empty record", 10),
        (b"\x16\x03\x01\x40\x01", "a record of 16385 bytes", 22),
        (records(hello(kind=2)), "does not begin with a hello", 10),
        (records(hello()[:9]) + b"\x17\x03\x03", "another record amid the hello", 10),
        (records(hello(cut=1)), "a field is longer", 50),
        (records(hello(b"", cut=40)), "a field is longer", 50),
        (records(hello(more=b"xyz")), "that belong to no field", 50),
        (records(hello(extension(0, host_names(b"a") + b"x"))), "that belong to no field", 50),
        (records(hello(extension(0, b""))), "a field is longer", 50),
        (records(hello(extension(0, vector(2, b"")))), "a field is longer", 50),
        (records(hello(extension(0, host_names(b"")))), "in no form that there is", 50),
        (records(hello(extension(0, host_names(b"a", kind=1)))), "in no form that there is", 50),
        (records(hello(extension(0, host_names(b"\xc3\xa4")))), "in no form that there is", 50),
        (records(hello(extension(0, host_names(b"a", b"b")))), "that belong to no field", 50),
        (records(hello(NAMED + NAMED)), "two server_name extensions", 47),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason(
    sent: bytes, reason: str, description: int
) -> None:
    name, said, answer = outcome(sent)
    assert name is None
    assert said.startswith("malformed: ")
    assert reason in said
    assert answer == alert(description)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real hello of which some bytes are others."""
    sent = bytearray(records(REAL[5:], draw(st.integers(1, 600))))
    for _ in range(draw(st.integers(0, 4))):
        sent[draw(st.integers(0, len(sent) - 1))] = draw(st.integers(0, 255))
    return bytes(sent)


@given(
    sent=st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda body: b"\x16\x03\x01" + vector(2, body))
    | st.binary(max_size=200).map(lambda body: records(b"\x01" + vector(3, body)))
    | st.binary(max_size=100).map(lambda extensions: records(hello(extensions)))
    | damaged(),
    cuts=st.lists(st.integers(0, 2_000), max_size=10),
)
def test_whatever_comes_and_however_cut_the_outcome_is_a_name_or_one_clear_error(
    sent: bytes, cuts: list[int]
) -> None:
    at_once = outcome(sent)
    places = [0, *sorted(cuts), len(sent)]
    in_pieces = [sent[a:b] for a, b in itertools.pairwise(places)]
    assert outcome(*in_pieces) == at_once
    name, reason, _ = at_once
    assert name is None or name == name.lower() != ""
    assert not (name and reason)
