"""The chat room of chat_room.py with a task for each member, who may wait for others, but not they.

    python examples/chat_room_aio.py 9000
    nc 127.0.0.1 9000       in two other terminals

What a member is to read goes into a queue of their own, and a second task sends it. Whoever speaks
fills the queues and waits for nobody. A member whose queue is full does not read, and is dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

import muxcore
import muxcore.aio as mux

MAX_LINE = 4_096  # bytes; a peer that never ends its line must not fill our memory
MAX_NAME = 20  # characters
MAX_QUEUE = 100  # lines that may wait for one member, beside what the network holds
LAST_WORD = 5  # s in which one who is dropped may read why


class Member:
    """One client that has a name; ``delivering`` ends when it does not read, or is gone."""

    def __init__(self, name: str, conn: mux.Connection) -> None:
        self.name = name
        self._conn = conn
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUE)
        self.is_slow = False
        self.delivering = asyncio.create_task(self._deliver())

    def tell(self, text: str) -> None:
        """Let it read a line, some time; this waits for nothing."""
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            self.is_slow = True
            self.delivering.cancel()

    async def _deliver(self) -> None:
        while True:
            await self._conn.send(line(await self._queue.get()))  # waits while it does not read


class Room:
    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    async def handle(self, conn: mux.Connection) -> None:
        """Serve one client, from its name to its leave."""
        here = ", ".join(sorted(self._members)) or "nobody"
        await conn.send(line(f"* here: {here}; what is your name?"))
        try:
            member = await self._introduced(conn)
        except (mux.EndOfStream, mux.TooLong, OSError):  # it has left, or ends no line
            return
        hearing = asyncio.create_task(self._hear(conn, member))
        try:
            await asyncio.wait((member.delivering, hearing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._members[member.name]
            for task in (member.delivering, hearing):
                task.cancel()
            await asyncio.gather(member.delivering, hearing, return_exceptions=True)
            self._say(f"* {member.name} has left")
        if member.is_slow:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(LAST_WORD):
                    await conn.send(line("* you do not read: good-bye"))

    async def _introduced(self, conn: mux.Connection) -> Member:
        """Return a member, once it has a name that is free."""
        while True:
            name = (await heard(conn)).strip()
            if not 0 < len(name) <= MAX_NAME:
                await conn.send(line(f"* a name has 1 to {MAX_NAME} characters"))
            elif name in self._members:
                await conn.send(line(f"* somebody is {name} already"))
            else:
                self._say(f"* {name} is here")
                member = self._members[name] = Member(name, conn)
                member.tell(f"* welcome, {name}")
                return member

    async def _hear(self, conn: mux.Connection, member: Member) -> None:
        """Tell the others what it says, until it ends."""
        with contextlib.suppress(mux.EndOfStream, mux.TooLong, OSError):
            while True:
                self._say(f"{member.name}: {await heard(conn)}", but=member)
                await asyncio.sleep(0)  # lines that have come are there at once: let others run

    def _say(self, text: str, but: Member | None = None) -> None:
        for member in self._members.values():
            if member is not but:
                member.tell(text)


async def heard(conn: mux.Connection) -> str:
    """Return the next line, of what prints: a member must not control others' terminals."""
    text = (await conn.receive_until(b"\n", MAX_LINE)).decode(errors="replace")
    return "".join(filter(str.isprintable, text))


def line(text: str) -> bytes:
    return text.encode() + b"\n"


async def serve(address: str, engine: str | None) -> None:
    async with mux.serve(Room().handle, address, engine=engine) as server:
        print(f"listening on {server.addresses[0]}", flush=True)
        await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve a chat room.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.address, options.engine))
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
