"""What went wrong, in words: the same of both generators."""

from __future__ import annotations

from muxcore.load.config import LoadConfig


def wrong_bytes(
    config: LoadConfig,
    connection: int,
    offset: int,
    expected: int,
    got: int,
    seen: bytes,
    from_the_start: bool,
) -> str:
    """Tell of the first wrong byte.

    Args:
        config: the load.
        connection: where it came.
        offset: its place in what the connection brought.
        expected: the right one; -1: none.
        got: it.
        seen: how the reply begins that it is in.
        from_the_start: no byte was right, on any connection.
    """
    if from_the_start and not config.request:
        return f"this server does not echo: it sent {seen!r}; say what to send with --request"
    where = f"connection {connection}, offset {offset}"
    if config.http:
        return f"{where}: expected an HTTP reply, got {seen!r}"
    wanted = f"byte {expected}" if expected >= 0 else "nothing"
    quoted = f" in {seen!r}" if config.request else ""
    return f"{where}: expected {wanted}, got byte {got}{quoted}"


def refusal(seen: bytes) -> str:
    """Tell of the first HTTP reply with a status that is an error."""
    line = seen.partition(b"\r\n")[0].decode("latin-1")
    return f"the server answered {line}"
