"""What TLS clients and servers say, for the tests that look at it."""

from __future__ import annotations

import ssl

import pytest


def hello(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """Return what a client of OpenSSL says first, where it looks for a server of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def alert(description: int) -> bytes:
    """Return a fatal alert: RFC 8446, section 6."""
    return bytes((21, 3, 3, 0, 2, 2, description))
