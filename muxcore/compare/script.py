"""What a user's own service answers: learned once, and then demanded of every engine."""

from __future__ import annotations

import socket

from muxcore.compare.servers import ServerProcess, Subject
from muxcore.errors import MuxcoreError
from muxcore.load import numeric

_FIRST = 2.0  # seconds the reply may take to begin
_SILENCE = 0.2  # seconds without a byte, after which it has ended


class ScriptError(MuxcoreError, ValueError):
    """A service that cannot be compared by its replies; the message says why and what to do."""


def learn(subject: Subject, request: bytes) -> bytes:
    """Return a service's reply to a request.

    It is asked once, and twice on another connection: replies that differ cannot be demanded.

    Raises:
        ScriptError: there is no reply, or there are several.
        ServerFailed: it does not start.
    """
    with ServerProcess(subject) as server:
        replies = [_ask(server.address, request, times) for times in (1, 2)]
    one, two = replies
    if not one:
        raise ScriptError(
            f"{subject.name}: no reply to {request!r} within {_FIRST:g} s; "
            "say with --request what it does answer"
        )
    if two != one * 2:
        raise ScriptError(
            f"{subject.name}: the replies to {request!r} differ ({one[:40]!r}, then {two[:80]!r}); "
            "only a service that answers alike each time can be checked: choose another --request"
        )
    return one


def _ask(address: str, request: bytes, times: int) -> bytes:
    target = numeric(address)
    back = b""
    with socket.create_connection((target.host, target.port), timeout=_FIRST) as sock:
        for _ in range(times):
            sock.settimeout(_FIRST)
            sock.sendall(request)
            try:
                while part := sock.recv(65_536):
                    back += part
                    sock.settimeout(_SILENCE)
            except TimeoutError:
                continue
    return back
