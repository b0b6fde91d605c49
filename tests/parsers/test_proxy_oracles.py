"""PROXY headers as two other implementations read them, and the examples that one ships."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxcore import ParseError
from muxcore.parsers import ProxyHeader, build_proxy_header, proxy_header

from .test_proxy_building import FOUR, SIX

pytestmark = pytest.mark.deep
aiosmtpd = pytest.importorskip("aiosmtpd.proxy_protocol")
proxyprotocol = pytest.importorskip("proxyprotocol")

# both of them know ASCII paths alone, and one of them no name that is abstract
_PATHS = st.text("abc/.", min_size=1, max_size=50)
_ENDS = st.tuples(FOUR, FOUR) | st.tuples(SIX, SIX) | st.tuples(_PATHS, _PATHS)
_TLVS = st.lists(
    st.tuples(st.sampled_from([1, 2, 5, 0x30]), st.binary(max_size=50)),
    unique_by=lambda tlv: tlv[0],
)


def _by_aiosmtpd(header: bytes) -> Any:
    async def read() -> Any:
        reader = asyncio.StreamReader()
        reader.feed_data(header)
        reader.feed_eof()
        return await aiosmtpd.get_proxy(reader)

    return asyncio.run(read())


def _by_proxyprotocol(header: bytes) -> Any:
    from proxyprotocol.v1 import ProxyProtocolV1
    from proxyprotocol.v2 import ProxyProtocolV2

    return (ProxyProtocolV1() if header.startswith(b"PROXY") else ProxyProtocolV2()).unpack(header)


def _text(found: ProxyHeader) -> tuple[str, ...]:
    """Return both ends as text."""
    return tuple(":".join(map(str, e)) if isinstance(e, tuple) else str(e) for e in _ends(found))


def _ends(found: ProxyHeader) -> tuple[Any, Any]:
    return found.source, found.destination


def _path(raw: Any) -> str:
    return bytes(raw).rstrip(b"\0").decode()


@settings(max_examples=1000, deadline=None)
@given(ends=_ENDS, tlvs=_TLVS, checksum=st.booleans(), version=st.sampled_from([1, 2]))
def test_others_read_what_we_build(
    ends: tuple[Any, Any], tlvs: list[tuple[int, bytes]], checksum: bool, version: Any
) -> None:
    if version == 1:
        tlvs, checksum = [], False
    header = build_proxy_header(*ends, version=version, tlvs=tlvs, checksum=checksum)
    found = proxy_header(header)
    assert found is not None
    theirs, others = _by_aiosmtpd(header), _by_proxyprotocol(header)
    assert theirs.valid, theirs.error
    if found.source is None:
        assert (theirs.src_addr, others.source) == (None, None)
        return
    if found.family == "unix":
        assert _text(found) == (_path(theirs.src_addr), _path(theirs.dst_addr))
        assert _text(found) == (others.source, others.dest)
    else:
        assert _text(found) == tuple(
            f"{_canonical(host)}:{port}"
            for host, port in (
                (theirs.src_addr, theirs.src_port),
                (theirs.dst_addr, theirs.dst_port),
            )
        )
        assert _text(found) == tuple(
            f"{_canonical(end[0])}:{end[1]}" for end in (others.source, others.dest)
        )
    for value, name in ((found.authority, "AUTHORITY"), (found.unique_id, "UNIQUE_ID")):
        if value is not None:
            assert getattr(theirs.tlv, name) == value


def _canonical(host: Any) -> str:
    """Return an address as the kernel writes it."""
    found = proxy_header(build_proxy_header((str(host), 0), (str(host), 0)))
    assert found is not None
    assert isinstance(found.source, tuple)
    return found.source[0]


@settings(max_examples=1000, deadline=None)
@given(ends=_ENDS, tlvs=_TLVS, at=st.integers(16, 300), bit=st.integers(0, 7))
def test_a_checksum_is_wrong_for_one_where_it_is_for_the_other(
    ends: tuple[Any, Any], tlvs: list[tuple[int, bytes]], at: int, bit: int
) -> None:
    header = bytearray(build_proxy_header(*ends, tlvs=tlvs, checksum=True))
    at = 16 + at % (len(header) - 16)
    header[at] ^= 1 << bit
    theirs: Any = None
    try:
        theirs = _by_proxyprotocol(bytes(header))
    except Exception:  # whatever it raises where it reads something else
        with pytest.raises(ParseError):
            proxy_header(header)
        return
    try:
        ours = proxy_header(header)
    except ParseError:
        return  # it is strict about TLVs
    assert ours is not None
    assert any(kind == 3 for kind, _ in ours.tlvs) == (theirs.tlv.crc32c is not None)


def _shipped() -> dict[str, Any]:
    """Return the examples in aiosmtpd's own tests, which import what is not needed here."""
    spec = importlib.util.find_spec("aiosmtpd")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("tests") / "test_proxyprotocol.py"
    if not source.exists():
        pytest.skip("this aiosmtpd has no tests in it")
    known: dict[str, Any] = {"b64decode": b64decode, "Dict": dict}
    for node in ast.parse(source.read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id.startswith(("TEST_", "PUBLIC_", "GOOD_")):
            exec(compile(ast.Module([node], []), str(source), "exec"), known)
    return known


def test_the_examples_that_aiosmtpd_ships_are_read() -> None:
    known = _shipped()
    lines = [*known["PUBLIC_V1_PATTERNS"].values(), known["GOOD_V1_HANDSHAKE"].strip()]
    assert len(lines) >= 7
    for line in lines:
        found = proxy_header(line + b"\r\n")
        assert found is not None
        theirs = _by_aiosmtpd(line + b"\r\n")
        assert isinstance(found.source, tuple)
        assert found.source == (_canonical(theirs.src_addr), theirs.src_port)
    exact = known["TEST_V2_DATA1_EXACT"]
    found = proxy_header(known["TEST_V2_DATA1_XTRA"])
    assert found is not None
    assert found.size == len(exact)
    assert (found.authority, found.unique_id) == (b"AUTHORITY", b"UNIQUE_ID")
    assert found.ssl is not None
    assert (found.ssl.version, found.ssl.cipher) == (b"TLSv1.2", b"ECDHE-RSA-AES256-GCM-SHA384")
    for name in ("TEST_TLV_DATA_1", "TEST_TLV_DATA_2"):
        tlvs = [(0xE0, b"")]
        header = build_proxy_header(("127.0.0.1", 1), ("127.0.0.1", 2), tlvs=tlvs)
        body = header[16:-3] + known[name].partition(b"\x03\0\4")[2][4:]  # but their checksum
        sent = header[:14] + len(body).to_bytes(2) + body
        found = proxy_header(sent)
        assert found is not None
        assert found.ssl is not None
        assert found.ssl.version == b"TLSv1.3"
