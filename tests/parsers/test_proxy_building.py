"""PROXY headers that are built: what is read back is what was told, and others read the same."""

from __future__ import annotations

import ipaddress
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxcore.parsers import ProxySsl, build_proxy_header, proxy_header
from muxcore.parsers.proxy import MAX_HEADER, SIGNATURE, header_needs

from . import laws

HOST, TO = ("192.168.0.1", 56_324), ("192.168.0.11", 443)

PORTS = st.integers(0, 65_535)
FOUR = st.tuples(st.ip_addresses(v=4).map(str), PORTS)
SIX = st.tuples(st.ip_addresses(v=6).filter(lambda host: host.ipv4_mapped is None).map(str), PORTS)
PATHS = st.text("abc/.@é", max_size=50)
ENDS = st.tuples(FOUR, FOUR) | st.tuples(SIX, SIX) | st.tuples(PATHS, PATHS)
TLVS = st.lists(
    st.tuples(
        st.integers(0, 255).filter(lambda kind: kind not in (3, 0x20)), st.binary(max_size=50)
    )
)


@settings(max_examples=50)
@given(ends=ENDS, tlvs=TLVS, checksum=st.booleans())
def test_what_is_read_back_is_what_was_told(
    ends: tuple[Any, Any], tlvs: list[tuple[int, bytes]], checksum: bool
) -> None:
    built = build_proxy_header(*ends, tlvs=tlvs, checksum=checksum)
    found = laws.check_valid(proxy_header, built)
    assert (found.source, found.destination) == _canonical(ends)
    assert [tlv for tlv in found.tlvs if tlv[0] != 3] == tlvs
    assert [len(value) for kind, value in found.tlvs if kind == 3] == [4] * checksum
    assert (found.command, found.size) == ("PROXY", len(built))


@settings(max_examples=50)
@given(ends=ENDS)
def test_both_versions_tell_the_same_where_the_first_can(ends: tuple[Any, Any]) -> None:
    one = laws.check_valid(proxy_header, build_proxy_header(*ends, version=1))
    two = laws.check_valid(proxy_header, build_proxy_header(*ends))
    if two.family == "unix":
        assert (one.family, one.source, one.destination) == ("UNKNOWN", None, None)
    else:
        assert (one.family, one.source, one.destination) == (
            *(two.family, two.source, two.destination),
        )


@settings(max_examples=50)
@given(ends=ENDS, version=st.sampled_from([1, 2]), tlvs=TLVS)
def test_who_receives_what_a_header_needs_takes_no_byte_behind_it(
    ends: tuple[Any, Any], version: Literal[1, 2], tlvs: list[tuple[int, bytes]]
) -> None:
    built = build_proxy_header(*ends, version=version, tlvs=tlvs if version == 2 else ())
    for at in range(len(built)):
        assert at < header_needs(built[:at]) <= len(built)
    at = steps = 0
    while at < len(built):
        at = header_needs(built[:at])
        steps += 1
    assert steps <= 3 if version == 2 else steps <= 25


@given(sent=st.binary(max_size=120) | laws.damaged([b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"]))
def test_whatever_has_come_a_header_that_is_not_whole_needs_more(sent: bytes) -> None:
    for begun in (sent, b"PROXY " + sent, SIGNATURE + sent):
        for at in range(len(begun)):
            if laws.outcome(proxy_header, begun[:at]) is None:
                assert header_needs(begun[:at]) > at


def _canonical(ends: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return addresses as the parser writes them: as the kernel does."""
    told = []
    for end in ends:
        if isinstance(end, tuple):
            packed = ipaddress.ip_address(end[0]).packed
            line = SIGNATURE + (b"\x21\x11\0\x0c" if len(packed) == 4 else b"\x21\x21\0\x24")
            found = proxy_header(line + packed * 2 + bytes(4))
            assert found is not None
            assert isinstance(found.source, tuple)
            told.append((found.source[0], end[1]))
        else:
            told.append("" if end == "@" else end)
    return told[0], told[1]


def test_the_examples_of_the_specification() -> None:
    line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    assert build_proxy_header(HOST, TO, version=1) == line
    assert build_proxy_header(HOST, TO) == SIGNATURE + bytes.fromhex(
        "2111000cc0a80001c0a8000bdc0401bb"
    )


def test_an_address_is_told_in_the_family_that_both_are_of() -> None:
    mapped, six = ("::ffff:192.168.0.1", 56_324, 0, 0), ("2001:db8::1%eth0", 9, 0, 2)
    assert build_proxy_header(mapped, TO) == build_proxy_header(HOST, TO)
    found = proxy_header(build_proxy_header(mapped, six, version=1))
    assert found is not None
    assert (found.source, found.destination) == (mapped[:2], ("2001:db8::1", 9))


@pytest.mark.parametrize("ends", [(None, None), (HOST, None), (HOST, "/run/a"), ("/run/a", TO)])
def test_of_what_is_not_known_nothing_is_told(ends: tuple[Any, Any]) -> None:
    assert build_proxy_header(*ends, version=1) == b"PROXY UNKNOWN\r\n"
    assert build_proxy_header(*ends) == SIGNATURE + b"\x21\0\0\0"
    assert build_proxy_header(*ends, local=True) == SIGNATURE + b"\x20\0\0\0"


def test_a_connection_of_ones_own_tells_no_address() -> None:
    assert build_proxy_header(HOST, TO, local=True, version=1) == b"PROXY UNKNOWN\r\n"
    assert build_proxy_header(HOST, TO, local=True) == SIGNATURE + b"\x20\0\0\0"
    assert build_proxy_header(b"\0name", "@other")[17:] == b"name".ljust(107, b"\0") + (
        b"\0other".ljust(108, b"\0")
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"version": 1, "tlvs": [(1, b"h2")]}, "has no place for TLVs"),
        ({"version": 1, "checksum": True}, "has no place for TLVs or a checksum"),
        ({"tlvs": [(1, bytes(65_536))]}, "TLV 1 of 65536 bytes is too long"),
        ({"tlvs": [(1, bytes(40_000))] * 2}, "is too long"),
        ({"source": ("example.org", 1)}, "'example.org' is no IP address"),
        ({"source": ("::1", 65_536)}, "65536 is no port"),
        ({"source": "x" * 109, "destination": ""}, "longer than 108 bytes"),
    ],
)
def test_what_cannot_be_told_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build_proxy_header(**{"source": HOST, "destination": TO} | options)


def _ssl(flags: int, verify: int, *tlvs: tuple[int, bytes]) -> bytes:
    body = bytes((flags,)) + verify.to_bytes(4)
    return body + b"".join(bytes((kind,)) + len(v).to_bytes(2) + v for kind, v in tlvs)


def test_the_usual_tlvs_have_names() -> None:
    tls = ((0x21, b"TLSv1.3"), (0x22, b"a client"), (0x23, b"TLS_AES"), (0x28, b"cert"))
    tlvs = [(1, b"h2"), (2, b"a.example"), (5, b"id"), (0x30, b"ns"), (0x20, _ssl(7, 0, *tls))]
    found = laws.check_valid(proxy_header, build_proxy_header(HOST, TO, tlvs=tlvs, checksum=True))
    assert (found.alpn, found.authority, found.unique_id, found.netns) == (
        *(b"h2", b"a.example", b"id", b"ns"),
    )
    assert found.ssl == ProxySsl(True, True, True, tls)
    assert (found.ssl.version, found.ssl.common_name, found.ssl.cipher) == (
        *(b"TLSv1.3", b"a client", b"TLS_AES"),
    )
    plain = laws.found(proxy_header, build_proxy_header(HOST, TO))
    assert [plain.alpn, plain.authority, plain.unique_id, plain.netns, plain.ssl] == [None] * 5


@pytest.mark.parametrize(
    ("flags", "verify", "told"),
    [
        (1, 0, (True, False, False)),
        (3, 1, (True, True, False)),
        (5, 0, (True, True, True)),
        (0, 0, (False, False, False)),
    ],
)
def test_a_certificate_is_verified_where_there_is_one_and_no_error(
    flags: int, verify: int, told: tuple[bool, bool, bool]
) -> None:
    header = build_proxy_header(HOST, TO, tlvs=[(0x20, _ssl(flags, verify))])
    ssl = laws.found(proxy_header, header).ssl
    assert (ssl.is_tls, ssl.has_certificate, ssl.is_verified) == told


@pytest.mark.parametrize(
    "value", [b"", b"\1\0\0\0", _ssl(1, 0) + b"\x21\0\x05TLS", _ssl(1, 0) + b"!"]
)
def test_a_malformed_tlv_of_the_tls_is_refused(value: bytes) -> None:
    sent = build_proxy_header(HOST, TO, tlvs=[(0x20, value)])
    assert "malformed PROXY header" in str(laws.refusal(proxy_header, sent))


def test_a_receiver_may_take_less() -> None:
    sent = build_proxy_header(HOST, TO, tlvs=[(4, bytes(500))])
    assert laws.found(lambda data: proxy_header(data, len(sent)), sent).size == len(sent)
    refused = laws.outcome(lambda data: proxy_header(data, len(sent) - 1), sent[:16])
    assert f"{len(sent)} bytes, {len(sent) - 1} may be" in str(refused)
    assert MAX_HEADER == 16_384
