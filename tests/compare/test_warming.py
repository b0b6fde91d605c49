"""Before a server is measured, clients come, talk and go."""

from __future__ import annotations

from typing import Any

import muxcore
from muxcore.compare.warming import warm
from muxcore.testing import eventually


class _Echo:
    """Remembers what its connections received, and how they ended."""

    ends: list[tuple[int, BaseException | None]]

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._received = 0

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ends.append((self._received, exc))


def test_several_clients_talk_and_close_in_order() -> None:
    _Echo.ends = []
    with muxcore.Server(_Echo, "127.0.0.1:0", engine="pure-select") as server:
        assert warm(server.addresses[0], {"sizes": ((100, 1.0),), "connections": 50}).ok
        eventually(lambda: len(_Echo.ends) >= 8, "not every client has gone")
    assert all(exc is None for _, exc in _Echo.ends)
    assert sum(received >= 100 for received, _ in _Echo.ends) >= 2  # in each wave one, at least


def test_an_open_loop_is_warmed_too() -> None:
    load = {"rate": 1.0, "poisson": True, "workload": "hold", "ramp": 60.0, "idle": 1000}
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="pure-select") as server:
        result = warm(server.addresses[0], load)
    assert result.ok
    assert result.answered


def test_what_does_not_serve_is_told_by_the_result() -> None:
    class Silent:
        def connection_made(self, transport: Any) -> None:
            transport.close()

    with muxcore.Server(Silent, "127.0.0.1:0", engine="pure-select") as server:
        assert not warm(server.addresses[0]).ok
