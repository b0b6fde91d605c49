"""One connect(2) on its way in an asyncio loop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore import accepting


class Attempt:
    """A socket that is being connected.

    Args:
        engine: the adapter.
        family: of the address.
        sockaddr: the address.
        done: called in a later turn, once, with this attempt and an errno, 0 if it is connected;
            not after ``cancel()``.
    """

    def __init__(
        self, engine: Any, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> None:
        self._loop: asyncio.AbstractEventLoop = engine.loop
        self._done = done
        self.peername = sockaddr
        self.sock: socket.socket | None = None
        self._task = self._loop.create_task(self._connect(family, sockaddr))

    def cancel(self) -> None:
        """Close it; nobody is told."""
        self._task.cancel()
        self._close()

    async def _connect(self, family: int, sockaddr: Any) -> None:
        error = 0
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            accepting.prepare(self.sock)
            await self._loop.sock_connect(self.sock, sockaddr)
        except OSError as exc:
            error = exc.errno or errno.EIO
            self._close()
        self._done(self, error)

    def _close(self) -> None:
        if self.sock is not None:
            self._loop.remove_writer(self.sock.fileno())
            self.sock.close()
            self.sock = None
