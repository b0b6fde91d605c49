"""A chat room: what one member says, all the others read.

    python examples/chat_room.py 9000
    nc 127.0.0.1 9000       in two other terminals

The members share the room, so all of them must live in one process: ``requires`` says so, and an
engine that gives each client a process of its own is refused before anybody can connect.
"""

from __future__ import annotations

import argparse
import sys

import muxcore

MAX_LINE = 4_096  # bytes; a peer that never ends its line must not fill our memory
MAX_NAME = 20  # characters

# A member who does not read is dropped with this much waiting for them; nobody waits for a member.
LIMITS = muxcore.Limits(connections=1_000, write_buffer=1_048_576)


class Room:
    """The service: called for each client, it returns their protocol."""

    requires = frozenset({"shared_state"})

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def __call__(self) -> Member:
        return Member(self)

    def enter(self, member: Member, name: str) -> bool:
        """Let a member in, unless somebody has the name already."""
        if name in self._members:
            return False
        self.say(f"* {name} is here")
        self._members[name] = member
        return True

    def leave(self, name: str) -> None:
        del self._members[name]
        self.say(f"* {name} has left")

    def say(self, text: str, but: str = "") -> None:
        for name, member in self._members.items():
            if name != but:
                member.tell(text)

    def names(self) -> str:
        return ", ".join(sorted(self._members)) or "nobody"


class Member:
    """The protocol of one client: a line with a name, then what they say."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._name = ""
        self._unfinished = b""

    def tell(self, text: str) -> None:
        self._transport.write(text.encode() + b"\n")

    def connection_made(self, transport: muxcore.Transport) -> None:
        self._transport = transport
        self.tell(f"* here: {self._room.names()}; what is your name?")

    def data_received(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > MAX_LINE:
            self._transport.close()
        for line in lines:
            # Only what prints: a member must not send control sequences to others' terminals.
            text = "".join(filter(str.isprintable, line[:MAX_LINE].decode(errors="replace")))
            if self._name:
                self._room.say(f"{self._name}: {text}", but=self._name)
            else:
                self._introduce(text.strip())

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._name:
            self._room.leave(self._name)

    def _introduce(self, name: str) -> None:
        if not 0 < len(name) <= MAX_NAME:
            self.tell(f"* a name has 1 to {MAX_NAME} characters")
        elif self._room.enter(self, name):
            self._name = name
            self.tell(f"* welcome, {name}")
        else:
            self.tell(f"* somebody is {name} already")


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve a chat room.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        return muxcore.serve(
            Room(),
            options.address,
            engine=options.engine,
            limits=LIMITS,
            on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
        )
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")


if __name__ == "__main__":
    sys.exit(main())
