"""What PostgreSQL's clients and servers say, for the tests that look at it."""

from __future__ import annotations

SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
GSS_REQUEST = bytes.fromhex("00000008 04d21630")
CANCEL_REQUEST = bytes.fromhex("00000010 04d2162e 00000001 00000002")


def startup(database: str, user: str = "ann") -> bytes:
    """Return a StartupMessage of protocol 3.0."""
    names = f"user\0{user}\0database\0{database}\0\0".encode()
    return (8 + len(names)).to_bytes(4) + (3 << 16).to_bytes(4) + names
