"""What asyncio's transport hears, told to the user's protocol, or kept from it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from muxcore.adapters.asyncio_bridges import Bridge, bridge_for
from muxcore.adapters.asyncio_deadlines import Deadlines
from muxcore.adapters.asyncio_loop import GuardedLoop
from muxcore.parts import dispatch
from muxcore.protocol import AnyProtocol, Verb

_SHORT = 65_536  # a receive below that was short, on either loop: they ask for 250 KB and more


class Telling(Deadlines):
    """The way up of one connection: bytes, EOF, and what a callback raises.

    Args:
        engine: the adapter.
        protocol: what the service returned.
    """

    def __init__(self, engine: GuardedLoop, protocol: AnyProtocol) -> None:
        super().__init__(engine)
        self._protocol = protocol
        self._verb: Verb | None = None
        self._user_paused = self._protected = False
        self._early, self._early_eof = b"", False  # received although paused: see _arrived
        self._may_be_unread = True  # until a receive was short
        self._lending = False  # within get_buffer
        self._bytes_in = 0
        self.bridge: Bridge = bridge_for(self, protocol)

    @abc.abstractmethod
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...

    @abc.abstractmethod
    def is_closing(self) -> bool: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def _ask(self, what: str, *args: Any) -> None:
        """Call a method of asyncio's transport."""

    @abc.abstractmethod
    def _move(self, data: bytes) -> None:
        """Give bytes to the verb."""

    def _tell(self, callback: str, *args: Any) -> Any:
        """Call the user's protocol; whatever it raises ends this connection, or the engine."""
        return self._run(dispatch.call, callback, *args)

    def _tell_lost(self, exc: BaseException | None) -> None:
        """Let it, and who else is to, hear of the end."""
        self._run(dispatch.lost, exc)

    def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        if self._engine.forked:
            return None
        try:
            answer = call(self, self._protocol, *args)
        except (SystemExit, KeyboardInterrupt) as exc:
            self._engine.leave(exc)
            answer = None
        if self._engine.forked:
            self._engine.abandon()
        return answer

    def _lend(self, sizehint: int) -> Any:
        """Return the protocol's buffer, or None where it is not to be used."""
        self._lending = True
        try:
            buffer = self._tell("get_buffer", sizehint)
            held = self._user_paused or self._verb is not None
            if held or self.is_closing() or self._engine.leaving:
                return None
            with memoryview(buffer) as view, view.cast("B") as octets:
                if octets.readonly or not octets.nbytes:
                    what = "a read-only" if octets.readonly else "an empty"
                    raise TypeError(f"get_buffer() returned {what} buffer")
        except Exception as exc:
            dispatch.failed(self, self._protocol, "get_buffer", exc)
            return None
        finally:
            self._lending = False
        return buffer

    def _arrived(self, data: bytes) -> None:
        """Count what was received, and deliver it, or keep it where the protocol has paused.

        uvloop begins to read after ``connection_made``, also if that has paused the reading.
        """
        self._bytes_in += len(data)
        self._may_be_unread = len(data) >= _SHORT
        self._deliver(data)
        self._hold_if_paused()

    def _hold_if_paused(self) -> None:
        if (self._user_paused or self._protected) and not self.is_closing():
            self._ask("pause_reading")

    def _deliver(self, data: bytes) -> None:
        """Give bytes to who is to have them now: the verb or the protocol, or nobody yet."""
        if self._user_paused or self._early:
            self._early += data
        elif self._verb is not None:
            self._move(data)
        elif self.is_closing():
            return
        elif not self.bridge.buffered:
            self._tell("data_received", data)
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Copy bytes into the protocol's buffers, as asyncio does at a ``set_protocol``."""
        left = memoryview(data)
        bridge = self.bridge
        while left and self.bridge is bridge and not (self._user_paused or self.is_closing()):
            buffer = self._lend(-1)
            if buffer is None or self.bridge is not bridge:
                break
            with memoryview(buffer) as view, view.cast("B") as octets:
                size = min(len(octets), len(left))
                octets[:size] = left[:size]
            left = left[size:]
            self._tell("buffer_updated", size)
        if left and not self.is_closing():
            self._deliver(bytes(left))

    def _deliver_early(self) -> None:
        """Deliver what came although the protocol had paused."""
        early, self._early = self._early, b""
        if early:
            self._deliver(early)
        if self._early_eof and not (self._user_paused or self._protected):
            self._early_eof = False
            if self._verb is None and not self.is_closing():  # a verb has answered it already
                self._ask_about_eof()

    def _ask_about_eof(self) -> None:
        if not self._tell("eof_received"):
            self.close()
