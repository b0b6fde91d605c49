"""Which protocol a client speaks, where one port serves several."""

from __future__ import annotations

from typing import Literal, TypeAlias

from muxcore.parsers import http, postgres, proxy, tls
from muxcore.parsers.reading import Buffer, start_of

Protocol: TypeAlias = Literal["tls", "ssh", "http", "http2", "proxy", "postgres", "unknown"]

# RFC 9110, section 9; RFC 5789 (PATCH).
_METHODS = b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH"
_BEGINNINGS: dict[bytes, Protocol] = {
    tls.RECORD: "tls",
    b"SSH-": "ssh",  # RFC 4253, section 4.2
    http.PREFACE[:12]: "http2",
    proxy.LINE: "proxy",
    proxy.SIGNATURE: "proxy",
    **{method + b" ": "http" for method in _METHODS.split()},
}
_BY_FIRST: dict[int, dict[bytes, Protocol]] = {}  # the same, by their first bytes
for _beginning, _protocol in _BEGINNINGS.items():
    _BY_FIRST.setdefault(_beginning[0], {})[_beginning] = _protocol
_REQUESTS = [code.to_bytes(4) for code in (postgres.SSL, postgres.GSS, postgres.CANCEL)]
_CODES = (postgres.VERSION_3.to_bytes(2), *_REQUESTS)  # how a code begins, or all of it


def protocol_of(data: Buffer) -> Protocol | None:
    """Guess the protocol by the first bytes, sixteen at most.

    It is a guess: the parser of the protocol has the last word. "http" is HTTP/1 with a method of
    RFC 9110 or PATCH. A client whose server speaks first (SMTP, MySQL) never says anything.

    Args:
        data: all bytes that have come so far.

    Returns:
        The protocol; "unknown" as soon as it can be none of those; None while it still may be one.
    """
    start = start_of(data, 16)
    if not start:
        return None
    beginnings = _BY_FIRST.get(start[0], {})
    for beginning, protocol in beginnings.items():
        if start.startswith(beginning):
            return protocol
    if any(beginning.startswith(start) for beginning in beginnings):
        return None
    return _postgres(start)


def _postgres(start: bytes) -> Protocol | None:
    """Tell by a length that a server takes, and a code that there is."""
    code = start[4:8]
    if postgres.is_too_long(start) or postgres.is_too_short(start):
        return "unknown"
    if len(code) == 4:
        return "postgres" if code.startswith(_CODES) else "unknown"
    possible = any(each.startswith(code[: len(each)]) for each in _CODES)
    return None if possible else "unknown"
