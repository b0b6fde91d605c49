"""The processes that serve, as the front sees them: each is asked, and answers in time or not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from muxcore.errors import MuxcoreError

LIMIT = 1.0  # s for an answer
_LINE = 16 << 20  # bytes of an answer: that many upstreams no pool has
_UNREAD = 65_536  # bytes of requests: who has not read those hangs, and is asked nothing more


class Unanswered(MuxcoreError):
    """A process has not answered in time."""


class Refused(MuxcoreError):
    """A process has said why not.

    Args:
        text: who, and why.
        why: that alone, as it was said.
    """

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why


class Peer:
    """One process.

    Args:
        name: the number of the worker; "0" for the process that serves alone.
        pid: its own.
        sock: an end of a pair of which it has the other.
        gone: called with it once it has ended.

    Attributes:
        name, pid: the same.
        pools, counts: what it has said of its pools and services, the last time that it did.
    """

    def __init__(
        self, name: str, pid: int, sock: socket.socket, gone: Callable[[Peer], object]
    ) -> None:
        self.name, self.pid = name, pid
        self.pools: list[dict[str, Any]] = []
        self.counts: list[tuple[str, str, int]] = []
        self._sock = sock
        self._gone = gone
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._hears: asyncio.Task[None] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def begin(self) -> bool:
        """Wait until it is there, and hear from now on; return whether it came."""
        opened = await asyncio.open_unix_connection(sock=self._sock, limit=_LINE)
        self._reader, self._writer = opened
        is_there = False
        try:
            is_there = bool(await self._reader.readline())
        finally:
            if not is_there:
                self._writer.close()
        if is_there:
            self._hears = asyncio.create_task(self._hear(self._reader))
        return is_there

    async def ask(self, operation: str, **given: Any) -> Any:
        """Return its answer.

        Raises:
            Unanswered: it hangs, or has ended.
            Refused: it will not.
        """
        writer = self._writer
        if writer is None or self._hears is None or self._hears.done():
            raise Unanswered(f"{self._who()} has ended")
        late = f"{self._who()} has not answered within {LIMIT:g} s"
        if writer.transport.get_write_buffer_size() > _UNREAD:
            raise Unanswered(late)
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        request = [number, monotonic() + LIMIT, operation, given]
        writer.write(json.dumps(request).encode() + b"\n")
        try:
            return await asyncio.wait_for(future, LIMIT)
        except TimeoutError:
            raise Unanswered(late) from None
        finally:
            self._waiting.pop(number, None)

    async def end(self) -> None:
        """Ask nothing more."""
        if self._hears is not None:
            self._hears.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._hears

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                number, good, value = json.loads(line)
                future = self._waiting.get(number)
                if future is None or future.done():
                    continue  # it comes too late
                if good:
                    future.set_result(value)
                elif good is None:
                    future.set_exception(Unanswered(f"{self._who()}: {value}"))
                else:
                    future.set_exception(Refused(f"{self._who()}: {value}", value))
        except OSError:  # it was killed with requests unread
            pass
        finally:
            assert self._writer is not None
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Unanswered(f"{self._who()} has ended"))
            self._gone(self)

    def _who(self) -> str:
        what = f"worker {self.name}" if self.name != "0" else "process"
        return f"{what} (pid {self.pid})"
