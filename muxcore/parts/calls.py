"""Calls that wait for a loop: a queue that any thread, and any signal handler, may append to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from muxcore.parts.dispatch import run_call

Call: TypeAlias = tuple[Callable[..., object], tuple[Any, ...]]


class Calls(deque[Call]):
    """The queued calls of one engine.

    Args:
        cap: calls that others may queue; the engine's own are appended without asking.
    """

    def __init__(self, cap: int) -> None:
        super().__init__()
        self._cap = cap
        self.closed = False  # the engine has ended: nobody would make another call

    def refuse(self) -> None:
        """Raise if somebody else's call cannot be queued now.

        Raises:
            RuntimeError: the engine has ended, or the queue is full.
        """
        if self.closed:
            raise RuntimeError("the server has ended: it makes no more calls")
        if len(self) >= self._cap:
            raise RuntimeError(f"{len(self)} calls are queued: see Limits.callbacks")

    def add(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Queue somebody else's call, or raise as :meth:`refuse` does; it takes no lock."""
        self.refuse()
        self.append((call, args))

    def run(self, after: Callable[[], object] | None = None) -> None:
        """Make the calls that are queued; what these queue waits for the next turn.

        Args:
            after: called after each.
        """
        for _ in range(len(self)):
            call, args = self.popleft()
            run_call(call, args)
            if after:
                after()
