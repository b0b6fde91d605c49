"""A relay's other side on its way: nobody but the relay sees it, so it never becomes a transport.

That is a tenth of what a new connection of a relay costs.
"""

from __future__ import annotations

from typing import Any

from muxcore.parts import dispatch
from muxcore.parts.connecting import Connecting


class Coming(Connecting):
    """One connection on its way, of which ``connection_made`` gets the attempt itself.

    It has to join that, or to abort it.
    """

    __slots__ = ()

    def _done(self, attempt: Any, error: int) -> None:
        if error:
            super()._done(attempt, error)
            return
        del self._attempts[attempt]
        service: Any = self._service
        self._end()
        if service is not None:
            attempt.watch_peer()
            dispatch.call(attempt, service(), "connection_made", attempt)
