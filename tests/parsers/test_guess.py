"""The protocol by its first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxcore.parsers import (
    http_head,
    postgres_startup,
    protocol_of,
    proxy_header,
    tls_client_hello,
)

from . import laws
from .hellos import real
from .test_http import REAL as HTTP
from .test_postgres import REAL as POSTGRES
from .test_postgres import packet
from .test_proxy import binary

_SAMPLES = [
    (real(), "tls", 2),
    (b"SSH-2.0-OpenSSH_9.6\r\n", "ssh", 4),
    (HTTP, "http", 4),
    (b"OPTIONS * HTTP/1.1\r\n", "http", 8),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2", 12),
    (b"PROXY TCP4 ", "proxy", 6),
    (binary(), "proxy", 12),
    (POSTGRES, "postgres", 8),
    (packet(80_877_103), "postgres", 8),
    (packet(80_877_104), "postgres", 8),
    (packet(80_877_102, bytes(8)), "postgres", 8),
]


@pytest.mark.parametrize(("sent", "protocol", "needed"), _SAMPLES)
def test_each_protocol_is_known_when_so_many_bytes_have_come_and_not_before(
    sent: bytes, protocol: str, needed: int
) -> None:
    assert laws.check_valid(protocol_of, sent[:needed]) == protocol
    assert protocol_of(sent) == protocol


@pytest.mark.parametrize(
    "sent",
    [
        *[b"X", b"g", b"\x15", b"\x16\x02", b"SSL", b"GETS", b"PU ", b"PRI X", b"\r\n\r\n\0\r\nq"],
        *[
            b"\0\1",
            b"\0\0\0\7",
            b"\0\0\x27\x15",
            b"\0\0\0\x08\1",
            b"\0\0\0\x08\0\4",
            b"\0\0\0\x08\4\xd2\x16\x31",
        ],
    ],
)
def test_what_is_none_of_them_is_unknown_as_soon_as_it_is_sure(sent: bytes) -> None:
    assert protocol_of(sent[:-1]) is None
    assert laws.check(protocol_of, sent) == "unknown"


@given(st.binary(max_size=20) | laws.damaged([sent[:20] for sent, _, _ in _SAMPLES]))
def test_a_guess_is_never_withdrawn_and_what_a_parser_takes_is_called_by_its_name(
    sent: bytes,
) -> None:
    guess = laws.check(protocol_of, sent)
    parsers = {"tls": tls_client_hello, "postgres": postgres_startup, "proxy": proxy_header}
    for protocol, parser in parsers.items():
        found = laws.outcome(parser, sent)
        if found is not None and not isinstance(found, laws.Refused):
            assert guess == protocol


def test_a_guess_of_http_is_read_by_its_parser() -> None:
    assert protocol_of(b"DELETE ") == "http"
    assert http_head(b"DELETE ") is None
