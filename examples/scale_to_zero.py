"""A program that runs only while somebody uses it: the first client starts it.

    python examples/scale_to_zero.py 9000 127.0.0.1:8000 -- python -m http.server -b 127.0.0.1 8000
    curl http://127.0.0.1:9000/

A client is held until the program listens; it need not know that it did not run. When nobody has
been connected for a while, the program gets a SIGTERM, and the next client starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator

import muxcore
import muxcore.aio as mux
from muxcore import address

START_TIMEOUT = 30  # s that a program may take until it listens
RETRY = 0.05  # s between two tries to connect to one that starts: a client waits so long in vain
CONNECT_TIMEOUT = 3  # s for one try


class Program:
    """A program that runs while it is used, and for a while after.

    Args:
        command: its name and its arguments.
        where: what it listens on.
        idle: seconds without a user, after which it is stopped.
        grace: seconds that it may take to end, before it is killed.
    """

    def __init__(
        self, command: list[str], where: muxcore.Address, idle: float, grace: float
    ) -> None:
        self._command = command
        self._where = where
        self._idle = idle
        self._grace = grace
        self._process: Process | None = None
        self._changing = asyncio.Lock()  # held by the task that starts or stops it
        self._failed = 0.0  # when a start last did
        self._users = 0
        self._unused: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[mux.Connection]:
        """Have a connection to it: as long as somebody has one, it runs.

        Raises:
            OSError: it does not start, or does not listen.
        """
        self._users += 1
        if self._unused is not None:
            self._unused.cancel()
        try:
            async with await self._connected() as upstream:
                yield upstream
        finally:
            self._users -= 1
            if not self._users:
                loop = asyncio.get_running_loop()
                self._unused = loop.call_later(self._idle, self._stop_soon)

    async def stop(self) -> None:
        """End it, unless it is used: by SIGTERM; by SIGKILL where that is not enough."""
        async with self._changing:
            if not self._users and self._runs():
                await self._end()

    def _stop_soon(self) -> None:
        self._stopping = asyncio.create_task(self.stop())

    def _runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _connected(self) -> mux.Connection:
        came = asyncio.get_running_loop().time()
        async with self._changing:  # many may come while it starts, or stops: it is done once
            if self._failed > came:
                raise ConnectionError(f"{self._command[0]} was just started in vain")
            if not self._runs():
                return await self._start()
        return await mux.connect(self._where, timeout=CONNECT_TIMEOUT)

    async def _start(self) -> mux.Connection:
        """Start it; return the first connection that it takes."""
        print(f"starting {self._command[0]}", flush=True)
        try:
            # In a session of its own: Ctrl-C is for this program, which then ends that one.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=DEVNULL, start_new_session=True
            )
            async with asyncio.timeout(START_TIMEOUT):
                while self._runs():
                    with contextlib.suppress(OSError):  # it does not listen yet
                        return await mux.connect(self._where, timeout=CONNECT_TIMEOUT)
                    await asyncio.sleep(RETRY)
            why = f"{self._command[0]} ended with status {self._process.returncode} at once"
            raise ConnectionError(why)
        except BaseException:
            self._failed = asyncio.get_running_loop().time()
            if self._runs():
                await self._end()
            raise

    async def _end(self) -> None:
        process = self._process
        assert process is not None
        print(f"stopping {self._command[0]}", flush=True)
        _tell(process.pid, signal.SIGTERM)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await process.wait()
        finally:  # also where this is cancelled: nothing may be left
            if process.returncode is None:
                _tell(process.pid, signal.SIGKILL)
                await process.wait()


def _tell(session: int, number: signal.Signals) -> None:
    """Send a signal to a session: what the program has started ends, too."""
    with contextlib.suppress(ProcessLookupError):  # it has ended; the loop has yet to hear of it
        os.killpg(session, number)


async def handle(program: Program, conn: mux.Connection) -> None:
    """Serve one client: hold it until the program is there, then let them talk."""
    try:
        async with program.used() as upstream:
            end = await conn.relay(upstream)  # C moves the bytes
    except OSError as exc:
        print(f"{conn.peer}: {str(exc) or type(exc).__name__}", file=sys.stderr, flush=True)
        return
    print(f"{end.client}: {end.bytes_up} bytes up, {end.bytes_down} down, {end.reason}", flush=True)


async def serve(options: argparse.Namespace) -> None:
    program = Program(options.command, options.program, options.idle, options.grace)
    handler = functools.partial(handle, program)
    try:
        async with mux.serve(handler, options.address, engine=options.engine) as server:
            print(f"listening on {server.addresses[0]}", flush=True)
            await server.serve_forever()
    finally:  # nobody uses it any more
        await program.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="Start a program for its first client.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("program", metavar="PROGRAM", help="where the program listens")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what starts it, after --")
    parser.add_argument("--idle", metavar="SECONDS", type=float, default=300, help="default: 300")
    parser.add_argument("--grace", metavar="SECONDS", type=float, default=10, help="default: 10")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        options.program = address.parse(options.program)
        asyncio.run(serve(options))
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
