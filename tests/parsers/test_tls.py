"""ClientHellos: real ones, cut anywhere, and everything that is none."""

from __future__ import annotations

import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxcore.parsers import tls, tls_alert, tls_client_hello

from . import laws
from .hellos import NAMED, alpn, extension, hello, host_names, named, real, records, vector

REAL = real(alpn=("h2", "http/1.1"))
TLS_12, TLS_13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("newest", [TLS_12, TLS_13])
@pytest.mark.parametrize("name", ["a.example", "x" * 63 + ".example", "localhost", "A.eXample"])
def test_the_name_that_a_real_client_asks_for(name: str, newest: ssl.TLSVersion) -> None:
    assert laws.check_valid(tls_client_hello, real(name, newest)).server_name == name.lower()


@pytest.mark.parametrize("name", [None, "192.0.2.1"])  # an address is no name: RFC 6066
def test_a_client_that_names_no_server(name: str | None) -> None:
    assert laws.check_valid(tls_client_hello, real(name)).server_name is None


def test_an_internationalised_name_is_in_its_a_labels() -> None:
    found = tls_client_hello(real("bücher.example"))
    assert found is not None
    assert found.server_name == "xn--bcher-kva.example"


@pytest.mark.parametrize("protocols", [(), ("h2",), ("http/1.1", "h2", "x" * 255)])
def test_the_protocols_inside_in_the_clients_order(protocols: tuple[str, ...]) -> None:
    assert laws.check_valid(tls_client_hello, real(alpn=protocols)).alpn == protocols


def test_a_protocol_that_is_no_text_keeps_its_bytes() -> None:
    found = tls_client_hello(records(hello(alpn(b"\x0a\x0a\xff", b"h2"))))
    assert found is not None
    assert [name.encode("latin-1") for name in found.alpn] == [b"\x0a\x0a\xff", b"h2"]


def test_the_versions_of_a_real_client_the_preferred_one_first() -> None:
    newer, older = tls_client_hello(real(newest=TLS_13)), tls_client_hello(real(newest=TLS_12))
    assert newer is not None
    assert older is not None
    assert newer.versions[:2] == (0x0304, 0x0303)
    assert older.versions == (0x0303,)
    assert newer.legacy_version == older.legacy_version == 0x0303


def test_versions_that_are_there_to_be_ignored_are_left_out() -> None:
    versions = extension(43, vector(1, bytes.fromhex("fafa 0304 1a2a 0a0a 0303")))
    found = tls_client_hello(records(hello(versions)))
    assert found is not None
    assert found.versions == (0x0304, 0x1A2A, 0x0303)


def test_an_encrypted_hello_is_seen_and_its_outer_name_read() -> None:
    found = tls_client_hello(records(hello(NAMED + extension(0xFE0D, b"\0" * 100))))
    assert found is not None
    assert (found.has_ech, found.server_name) == (True, "a.example")
    assert not laws.found(tls_client_hello, REAL).has_ech


def test_a_hello_of_old_has_no_extensions() -> None:
    found = laws.check_valid(tls_client_hello, records(hello(b"")))
    assert found == tls.ClientHello(None, (), (0x0303,), 0x0303, False)


def test_a_hello_in_two_records_split_at_any_byte_is_one() -> None:
    message = REAL[5:]
    whole = tls_client_hello(REAL)
    for at in range(1, len(message)):
        sent = records(message[:at]) + records(message[at:])
        assert tls_client_hello(sent) == whole
        assert tls_client_hello(sent[:-1]) is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_a_hello_in_many_records_is_one_and_every_prefix_waits(size: int) -> None:
    sent = records(REAL[5:55], size) + records(REAL[55:], 100)
    assert laws.check_valid(tls_client_hello, sent) == tls_client_hello(REAL)


def test_a_hello_may_come_in_so_many_records_and_no_more() -> None:
    message, first = hello(), tls.MAX_RECORDS - 1
    most = records(message[:first], 1) + records(message[first:])
    assert laws.check_valid(tls_client_hello, most).server_name == "a.example"
    more = records(message[: first + 1], 1) + records(message[first + 1 :])
    exc = laws.refusal(tls_client_hello, more)
    assert "in more than 64 records, at byte 384" in str(exc)
    assert exc.answer == tls_alert(10)


def test_a_hello_may_be_as_long_as_it_may_be_and_no_longer() -> None:
    padding = tls.MAX_HELLO - (len(hello()) - 4) - 4
    longest = records(hello(NAMED + extension(21, bytes(padding))))
    assert tls_client_hello(longest[:-1]) is None
    assert laws.found(tls_client_hello, longest).server_name == "a.example"
    message = hello(NAMED + extension(21, bytes(padding)))
    most = records(message[:63], 1) + records(message[63:-1]) + records(message[-1:])
    assert str(laws.refusal(tls_client_hello, most)).endswith(f"at byte {len(most) - 6}")
    most = records(message[:62], 1) + records(message[62:-1]) + records(message[-1:])
    assert tls_client_hello(most[:-1]) is None
    assert tls_client_hello(most) == tls_client_hello(longest)
    too_long = records(hello(NAMED + extension(21, bytes(padding + 1))))
    exc = laws.refusal(tls_client_hello, too_long[:9])  # its length says it
    assert "a ClientHello of 16385 bytes, 16384 may be" in str(exc)
    assert exc.answer == tls_alert(47)


def test_byte_by_byte_the_longest_hello_in_the_most_records_takes_no_time_that_matters() -> None:
    """It takes a third of a second; with a look at each byte each time it would take minutes."""
    message = hello(NAMED + extension(21, bytes(tls.MAX_HELLO - (len(hello()) - 4) - 4)))
    sent = records(message[:63], 1) + records(message[63:16_000])
    laws.check_byte_by_byte(tls_client_hello, sent)


@pytest.mark.parametrize(
    "sent", [b"G", b"SSH-2.0-x\r\n", b"\0", b"\x80\x2e\x01\x03\x01", b"\x16\x02", b"\x15\x03\x03"]
)
def test_what_is_not_tls_is_known_by_its_first_bytes_and_gets_no_answer(sent: bytes) -> None:
    laws.check_stranger(tls_client_hello, "TLS", sent)


@pytest.mark.parametrize(
    ("sent", "reason", "description"),
    [
        (b"\x16\x03\x01\x00\x00", "an empty record, at byte 0", 10),
        (b"\x16\x03\x01\x40\x01", "a record of 16385 bytes, 16384 may be, at byte 0", 22),
        (records(hello(kind=2)), "handshake message 2 where a ClientHello (1) begins", 10),
        (records(hello()[:9]) + b"\x17\x03\x03", "another record amid the ClientHello", 10),
        (records(b"\x01\0\0\0"), "legacy_version has 2 bytes, 0 are left for it", 50),
        (
            records(hello(cut=1)),
            "extensions has 18 bytes, 17 are left for it, at byte 79 of it",
            50,
        ),
        (records(hello(b"", cut=40)), "random has 32 bytes, 31 are left for it", 50),
        (records(hello(more=b"xyz")), "3 bytes too many in the ClientHello", 50),
        (records(hello()).replace(b"\x20" + bytes(32), b"\x21" + bytes(33)), "of more than 32", 50),
        (records(hello()).replace(b"\0\x02\x13\x01", b"\0\x03\x13\x01"), "no pairs of bytes", 50),
        (records(hello(extension(0, host_names(b"a") + b"x"))), "1 bytes too many in server_n", 50),
        (records(hello(extension(0, b""))), "the length of server_name_list", 50),
        (records(hello(extension(0, vector(2, b"")))), "name_type has 1 bytes, 0 are left", 50),
        (records(hello(named(b""))), "a server name that no host has: b''", 50),
        (records(hello(extension(0, host_names(b"a", kind=1)))), "a server name of type 1", 50),
        (records(hello(named(b"\xc3\xa4"))), "that no host has: b'\\xc3\\xa4'", 50),
        (records(hello(named(b"a\nb"))), "that no host has", 50),
        (records(hello(named(b"/" * 60_0))), "that no host has: b'//////", 50),
        (records(hello(extension(0, host_names(b"a", b"b")))), "too many in server_name_list", 50),
        (records(hello(NAMED + NAMED)), "extension 0 a second time, at byte 97", 47),
        (records(hello(extension(23, b"") * 2)), "extension 23 a second time", 47),
        (records(hello(alpn())), "the length of ProtocolName", 50),
        (records(hello(alpn(b"h2", b""))), "an empty ProtocolName", 50),
        (records(hello(extension(16, vector(2, b"\2h2") + b"x"))), "1 bytes too many in app", 50),
        (records(hello(extension(43, b"\2\3\4x"))), "1 bytes too many in supported_ver", 50),
        (records(hello(extension(43, vector(1, b"")))), "a version has 2 bytes, 0 are left", 50),
        (records(hello(extension(43, vector(1, b"\3\4\3")))), "a version has 2 bytes, 1", 50),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason_and_answered(
    sent: bytes, reason: str, description: int
) -> None:
    exc = laws.refusal(tls_client_hello, sent)
    assert str(exc).startswith("malformed")
    assert reason in str(exc)
    assert exc.answer == tls_alert(description)


_SAMPLES = [REAL, real(None), records(REAL[5:], 100), records(hello()), records(hello(b""))]


@given(
    sent=st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda body: b"\x16\x03\x01" + vector(2, body))
    | st.binary(max_size=200).map(lambda body: records(b"\x01" + vector(3, body)))
    | st.binary(min_size=1, max_size=100).map(lambda extensions: records(hello(extensions)))
    | laws.damaged(_SAMPLES),
    places=laws.PLACES,
)
def test_whatever_comes_and_however_cut_the_outcome_is_a_hello_or_one_clear_error(
    sent: bytes, places: list[int]
) -> None:
    found = laws.check(tls_client_hello, sent, places)
    if isinstance(found, tls.ClientHello) and found.server_name is not None:
        assert found.server_name == found.server_name.lower() != ""
        assert found.server_name.isascii()
        assert found.server_name.isprintable()


@given(st.lists(st.integers(1, len(REAL) - 6), max_size=tls.MAX_RECORDS - 1, unique=True))
def test_however_the_records_are_cut_the_hello_is_the_same(cuts: list[int]) -> None:
    message = REAL[5:]
    places = [0, *sorted(cuts), len(message)]
    sent = b"".join(records(message[a:b]) for a, b in itertools.pairwise(places))
    assert tls_client_hello(sent) == tls_client_hello(REAL)
    assert tls_client_hello(sent[:-1]) is None


def test_an_alert_is_a_record_of_two_bytes() -> None:
    assert tls_alert(112) == b"\x15\x03\x03\x00\x02\x02\x70"
    with pytest.raises(ValueError, match="256"):
        tls_alert(256)
