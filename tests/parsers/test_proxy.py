"""PROXY headers: the specification's examples, every prefix of them, and what is no header."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxcore.parsers import ProxyHeader, proxy, proxy_header

from . import laws

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + (56_324).to_bytes(2) + (443).to_bytes(2)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(15) + b"\1\x01\x00\x02\x00"

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def binary(addresses: bytes = TCP4, family: int = 0x11, command: int = 0x21) -> bytes:
    """Return a header of version 2; what follows the addresses is in them."""
    return SIGNATURE + bytes([command, family]) + len(addresses).to_bytes(2) + addresses


def summed(before: bytes, after: bytes = b"") -> bytes:
    """Return a header with its checksum between such TLVs."""
    blank = binary(TCP4 + before + tlv(3, bytes(4)) + after)
    at = len(blank) - len(after) - 4
    return blank[:at] + proxy.crc32c(blank).to_bytes(4) + blank[at + 4 :]


def test_the_line_of_the_specifications_example() -> None:
    line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    found = laws.check_valid(proxy_header, line)
    source, destination = ("192.168.0.1", 56_324), ("192.168.0.11", 443)
    assert found == ProxyHeader(1, "PROXY", "TCP4", source, destination, (), len(line))


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
        (b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", ("2001:db8::1", 1)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("::ffff:192.0.2.1", 1)),
        (b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2), None),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN \r\n", None),
        (b"PROXY UNKNOWN %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2), None),
    ],
)
def test_every_form_of_a_line(line: bytes, source: tuple[str, int] | None) -> None:
    found = laws.check_valid(proxy_header, line)
    assert found.size == len(line) <= proxy.MAX_LINE
    assert found.family == line.split()[1].decode()
    assert source is None or found.source == source
    assert (found.source is None) == (found.family == "UNKNOWN")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "b'' where TCP4, TCP6 or UNKNOWN"),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "b'TCP5' where TCP4"),
        (b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", "b'tcp4' where TCP4"),
        (b"PROXY UNKNOWNS\r\n", "b'UNKNOWNS' where TCP4"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "5 words"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n", "7 words"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "7 words"),
        (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "b'1.2.3.04' is no address of TCP4"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "is no address of TCP4"),
        (b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", "is no address of TCP4"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "is no address of TCP4"),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "is no address of TCP6"),
        (b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n", "is no address of TCP6"),
        (b"PROXY TCP6 ::1::2 ::1 1 2\r\n", "is no address of TCP6"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "b'01' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "b'65536' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "b'+1' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \xb2\r\n", "is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "a CR or LF that is no line's end, at byte 30"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r \r\n", "at byte 30"),
        (b"PROXY UNKNOWN x\r\r\n", "at byte 15"),
        (b"PROXY UNKNOWN" + b" " * 93 + b"\r\n", "no CRLF within 107 bytes"),
    ],
)
def test_a_line_is_taken_as_strictly_as_it_is_specified(line: bytes, reason: str) -> None:
    assert reason in str(laws.refusal(proxy_header, line))


@pytest.mark.parametrize("sent", [b"G", b"PROXY\t", b"PROXX", b"\r\n\r\n\0\r\nQUIT\r", b"\r\nP"])
def test_what_is_no_header_is_known_at_its_first_wrong_byte(sent: bytes) -> None:
    assert proxy_header(sent[:-1]) is None
    exc = laws.refusal(proxy_header, sent)
    assert "no PROXY header" in str(exc)
    assert exc.answer == b""


def test_the_binary_header_of_a_client_over_ipv4() -> None:
    found = laws.check_valid(proxy_header, binary())
    source, destination = ("192.168.0.1", 56_324), ("192.168.0.11", 443)
    assert found == ProxyHeader(2, "PROXY", "TCP4", source, destination, (), 28)


def test_the_binary_header_of_a_client_over_ipv6() -> None:
    found = laws.check_valid(proxy_header, binary(TCP6, 0x21))
    source, destination = ("2001:db8::1", 256), ("::1", 512)
    assert found == ProxyHeader(2, "PROXY", "TCP6", source, destination, (), 52)


def test_the_binary_header_of_a_client_of_a_unix_socket() -> None:
    paths = b"/run/a.sock".ljust(108, b"\0") + b"\0name".ljust(108, b"\0")
    found = laws.check_valid(proxy_header, binary(paths, 0x31))
    assert (found.family, found.source, found.destination) == ("unix", "/run/a.sock", "@name")
    nameless = proxy_header(binary(bytes(108) + b"x" * 108, 0x31))
    assert nameless is not None
    assert (nameless.source, nameless.destination) == ("", "x" * 108)


@pytest.mark.parametrize("family", [0x00, 0x01, 0x10, 0x12, 0x22, 0x32])
def test_of_no_family_and_of_datagrams_only_the_length_counts(family: int) -> None:
    found = laws.check_valid(proxy_header, binary(b"\xff" * 20, family))
    assert found == ProxyHeader(2, "PROXY", "UNKNOWN", None, None, (), 36)


@pytest.mark.parametrize("family", [0x00, 0x11, 0xFF])
def test_of_a_connection_of_the_proxys_own_only_the_length_counts(family: int) -> None:
    found = laws.check_valid(proxy_header, binary(b"\xff" * 20, family, 0x20))
    assert found == ProxyHeader(2, "LOCAL", "UNKNOWN", None, None, (), 36)


def test_what_follows_the_addresses_comes_in_order() -> None:
    values = (1, b"h2"), (2, b"a.example"), (4, b""), (0xE0, bytes(1000)), (0xE0, b"again")
    header = binary(TCP4 + b"".join(tlv(*each) for each in values))
    assert laws.check_valid(proxy_header, header).tlvs == values


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4, this one and the next three
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_crc32c(data: bytes, checksum: int) -> None:
    assert proxy.crc32c(data) == checksum


def test_a_header_with_its_checksum_is_taken_and_with_any_bit_changed_it_is_not() -> None:
    header = summed(tlv(2, b"a.example"), tlv(5, b"id"))
    found = laws.check_valid(proxy_header, header)
    assert [kind for kind, _ in found.tlvs] == [2, 3, 5]
    for at in range(16, 28):  # the addresses
        wrong = header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]
        assert "the checksum (CRC32C) is not" in str(laws.refusal(proxy_header, wrong))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (binary(command=0x11), "version 1 and command 1, at byte 12"),
        (binary(command=0x22), "version 2 and command 2, at byte 12"),
        (binary(family=0x41), "family 4 and transport 1, at byte 13"),
        (binary(family=0x13), "family 1 and transport 3, at byte 13"),
        (binary(TCP4[:-1]), "the destination port has 2 bytes, 1 are left for it, at byte 26"),
        (binary(b""), "the source address has 4 bytes, 0 are left"),
        (binary(TCP4 + b"\1"), "the length of TLV 1 has 2 bytes, 0 are left"),
        (binary(TCP4 + b"\1\0\5abcd"), "TLV 1 has 5 bytes, 4 are left for it, at byte 31"),
        (binary(TCP4 + tlv(3, b"abc")), "a checksum not of 4 bytes"),
        (binary(TCP4 + tlv(3, b"abcd")), "the checksum (CRC32C) is not that of the header"),
        (SIGNATURE + b"\x21\x11\x3f\xf1", "a PROXY header of 16385 bytes, 16384 may be"),
        (SIGNATURE + b"\x20\x00\xff\xff", "a PROXY header of 65551 bytes, 16384 may be"),
    ],
)
def test_a_binary_header_that_is_malformed_is_refused_with_the_reason(
    sent: bytes, reason: str
) -> None:
    exc = laws.refusal(proxy_header, sent)
    assert reason in str(exc)
    assert exc.answer == b""


def test_a_second_checksum_is_refused() -> None:
    sent = summed(b"", tlv(3, bytes(4)))
    assert "a second checksum" in str(laws.refusal(proxy_header, sent))


def test_a_header_may_be_as_long_as_it_may_be() -> None:
    padding = proxy.MAX_HEADER - 16 - len(TCP4) - 3
    longest = binary(TCP4 + tlv(4, bytes(padding)))
    assert proxy_header(longest[:-1]) is None
    assert laws.found(proxy_header, longest).size == 16_384


_SAMPLES = [
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN something\r\n",
    binary(TCP4 + tlv(1, b"h2") + tlv(4, b"")),
    binary(TCP6, 0x21),
    binary(bytes(216), 0x31),
    summed(tlv(2, b"a.example")),
]
_LINE = re.compile(rb"PROXY TCP[46] [0-9a-fA-F:.]+ [0-9a-fA-F:.]+ [0-9]{1,5} [0-9]{1,5}\r\n")


@given(
    sent=st.binary(max_size=120)
    | st.binary(max_size=120).map(lambda rest: b"PROXY " + rest)
    | st.binary(max_size=50).map(lambda rest: SIGNATURE + rest)
    | st.binary(max_size=60).map(lambda rest: binary(TCP4 + rest))
    | laws.damaged(_SAMPLES),
    places=laws.PLACES,
)
def test_whatever_comes_the_outcome_is_a_header_or_one_clear_error(
    sent: bytes, places: list[int]
) -> None:
    found = laws.check(proxy_header, sent, places)
    if not isinstance(found, ProxyHeader):
        return
    assert 15 <= found.size <= len(sent)
    if found.version == 1 and found.family != "UNKNOWN":
        assert _LINE.fullmatch(sent[: found.size])
    if found.family in ("TCP4", "TCP6"):
        family = socket.AF_INET if found.family == "TCP4" else socket.AF_INET6
        for end in (found.source, found.destination):
            assert isinstance(end, tuple)
            assert socket.inet_ntop(family, socket.inet_pton(family, end[0])) == end[0]
            assert 0 <= end[1] <= 65_535


@given(
    ends=st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4))
    | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ports=st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)),
)
def test_both_versions_say_the_same_of_any_two_addresses(
    ends: tuple[Address, Address], ports: tuple[int, int]
) -> None:
    packed = b"".join(end.packed for end in ends)
    version = 4 if len(packed) == 8 else 6
    line = "PROXY TCP{} {} {} {} {}\r\n".format(version, *ends, *ports).encode()
    addresses = packed + b"".join(port.to_bytes(2) for port in ports)
    one, two = proxy_header(line), proxy_header(binary(addresses, 0x11 if version == 4 else 0x21))
    assert one is not None
    assert two is not None
    assert (one.family, one.source, one.destination) == (two.family, two.source, two.destination)
    assert one.size == len(line)
