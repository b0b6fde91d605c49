"""What a user's own service answers: learned once, and then demanded of every engine."""

from __future__ import annotations

from muxcore.compare.servers import ServerFailed, ServerProcess, Subject
from muxcore.errors import MuxcoreError
from muxcore.load import numeric
from muxcore.load.asking import FIRST, ask, bytes_of
from muxcore.load.config import SCRIPT_MAX

_ENDS_WITHIN = 0.5  # s from the reset of its connections to the end of a process


class ScriptError(MuxcoreError, ValueError):
    """A service that cannot be compared by its replies; the message says why and what to do."""


def request_of(text: str) -> bytes:
    """Return the bytes that ``--request`` names (see :func:`muxcore.load.asking.bytes_of`).

    Raises:
        ScriptError: an escape that is none, or that is no byte; nothing; or too much.
    """
    try:
        return bytes_of(text)
    except ValueError as exc:
        raise ScriptError(f"--request {exc}") from None


def learn(subject: Subject, request: bytes) -> bytes:
    """Return a service's reply to a request.

    It is asked once, and twice on another connection: replies that differ cannot be demanded.

    Raises:
        ScriptError: there is no reply, or there are several; it holds what the service printed.
        ServerFailed: it does not start, or ends.
    """
    server = ServerProcess(subject)
    with server:
        one, two = (_ask(server.address, request, times) for times in (1, 2))
        wrong = two != one * 2 or not one
        if wrong and (ending := server.ending(_ENDS_WITHIN)):
            raise ServerFailed(ending)
    said = f"; it printed: {server.words()}" if server.words() else ""  # all that it ever will
    if not one:
        raise ScriptError(
            f"{subject.name}: no reply to {request!r} within {FIRST:g} s"
            + (said or "; say with --request what it does answer")
        )
    if wrong:
        raise ScriptError(
            f"{subject.name}: the replies to {request!r} differ ({one[:40]!r}, then {two[:80]!r}); "
            f"only a service that answers alike each time can be checked: choose another --request"
            f"{said}"
        )
    if len(one) > SCRIPT_MAX:
        raise ScriptError(
            f"{subject.name}: the reply to {request!r} has {len(one)} bytes, and at most "
            f"{SCRIPT_MAX:,} can be checked: choose another --request"
        )
    return one


def _ask(address: str, request: bytes, times: int) -> bytes:
    """Return what comes back until the service is silent, or ends the connection in any way."""
    try:
        return ask(numeric(address), request, times)
    except ConnectionError:
        return b""  # the service tells why
