"""What is said to the supervisor that started us: systemd's protocol, sd_notify(3).

It is a datagram to the unix socket that ``NOTIFY_SOCKET`` names, of one ``NAME=value`` a line.
Where the variable is not set nobody listens, and nothing is said. The variable stays: whoever this
process turns into by execve(2), or starts in its place, has to say that it is ready, too.
"""

from __future__ import annotations

import os
import socket

from muxcore.abc import logger

VARIABLE = "NOTIFY_SOCKET"

_PATIENCE = 1.0  # s for a queue that is full: systemd reads its own in no time, unless it hangs

_failing = False  # the last one was not sent, which the log says once


def notify(*assignments: str) -> bool:
    """Say something, as in ``notify("READY=1", "STATUS=listening on 127.0.0.1:9000")``.

    Args:
        assignments: of sd_notify(3); a line's end within one is sent as a space.

    Returns:
        Whether it was sent. A failure is never an error; the first one is logged.
    """
    global _failing
    where = os.environ.get(VARIABLE)
    if not where:
        return False
    lines = "\n".join(each.replace("\n", " ") for each in assignments)
    try:
        _send(where, os.fsencode(lines))
    except OSError as exc:
        if not _failing:
            why = exc.strerror or exc
            logger.warning("%s=%s: the supervisor cannot be told: %s", VARIABLE, where, why)
        _failing = True
        return False
    _failing = False
    return True


def _send(where: str, message: bytes) -> None:
    """Send one datagram.

    Raises:
        OSError: it cannot be.
    """
    if not where.startswith(("/", "@")):  # "vsock:…" is a virtual machine's own init's to answer
        raise OSError("it is neither a path nor @NAME")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        # connected, or a full queue would be a busy wait: poll(2) asks the peer's queue
        sock.connect("\0" + where[1:] if where.startswith("@") else where)
        sock.send(message)
