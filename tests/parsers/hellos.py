"""ClientHellos: OpenSSL's, and those that nobody sends."""

from __future__ import annotations

import ssl

import pytest


def real(
    name: str | None = "a.example",
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    alpn: tuple[str, ...] = (),
) -> bytes:
    """Return what a client of OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def host_names(*names: bytes, kind: int = 0) -> bytes:
    """Return the content of a server_name extension."""
    return vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))


def named(name: bytes) -> bytes:
    return extension(0, host_names(name))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


NAMED = named(b"a.example")


def hello(extensions: bytes = NAMED, *, kind: int = 1, more: bytes = b"", cut: int = 0) -> bytes:
    """Return a hello's message; ``more`` follows in it, ``cut`` bytes of its end are missing."""
    fields = b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + b"\x01\0"
    body = fields + (vector(2, extensions) if extensions else b"") + more
    return bytes([kind]) + vector(3, body[: len(body) - cut])


def records(message: bytes, size: int = 16_384) -> bytes:
    """Return a message in records of so many bytes each."""
    pieces = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)
