"""The readiness engines by name and trigger, and an engine that does nothing by itself."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

import pytest

from muxcore import Limits
from muxcore.pure import deadlines, stream_transport
from muxcore.pure.stream_transport import StreamTransport
from muxcore.stats import Stats
from muxcore.testing.suite import EngineSuite, each_engine

_PURE = {
    name: suite
    for name, suite in each_engine(EngineSuite).items()
    if name.startswith(("TestPureSelect", "TestPureEpoll"))
}


@pytest.fixture(params=_PURE)
def suite(request: pytest.FixtureRequest) -> EngineSuite:
    """Every readiness engine in turn."""
    return _PURE[request.param]()


class Still:
    """What a transport asks of its engine, written down."""

    name = "still"
    draining = False
    server = None

    def __init__(self, **limits: Any) -> None:
        self.owner = get_ident()
        self.limits = Limits(**limits)
        self.witnesses: dict[Any, Any] = {}
        self.witnesses_limit = False
        self.clocked = self.limits.idle_timeout is not None
        self.errors: Counter[str] = Counter()
        self.counters = Stats(errors=self.errors)
        self.now = 0.0
        self.alarms: list[tuple[float, Callable[[], object]]] = []
        self.masks: list[int] = []
        self.coming_back: list[Callable[[], object]] = []
        self.ends: list[BaseException | None] = []

    def need(self, capability: str) -> None:
        """It has everything."""

    def alarm(self, delay: float, call: Callable[[], object]) -> None:
        self.alarms.append((self.now + delay, call))

    def pass_time_until(self, now: float) -> None:
        """Let the alarms that are due by then ring, each at its time."""
        while due := [alarm for alarm in self.alarms if alarm[0] <= now]:
            first = min(due, key=lambda alarm: alarm[0])
            self.alarms.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = now

    def watch(self, transport: StreamTransport, fd: int, mask: int) -> None:
        self.masks.append(mask)

    def left_over(self, go_on: Callable[[], object]) -> None:
        self.coming_back.append(go_on)

    def release(self, transport: StreamTransport, exc: BaseException | None) -> None:
        self.ends.append(exc)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Still]:
    """Return what makes such an engine; its clock is the transports'."""

    def make(**limits: Any) -> Still:
        engine = Still(**limits)
        for module in (stream_transport, deadlines):
            monkeypatch.setattr(module, "monotonic", lambda: engine.now)
        return engine

    return make


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection that holds little in the kernel; neither blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield ours, theirs


@pytest.fixture
def emptied() -> Callable[[socket.socket], int]:
    """Return what takes all that a socket has received, and says how much that was."""

    def emptied(sock: socket.socket) -> int:
        size = 0
        while True:
            try:
                size += len(sock.recv(65_536))
            except BlockingIOError:
                return size

    return emptied
