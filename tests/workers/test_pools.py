"""A relay of two workers, each with its share of the pool, and with checks of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.admin import Admin
from muxcore.testing import Peer, eventually
from tests.admin.conftest import Asked
from tests.workers.engines import each


class Greets:
    """An upstream that greets everybody, while it is well."""

    def __init__(self) -> None:
        self.is_well = True
        self.server = muxcore.Server(self._protocol, "127.0.0.1:0", engine="pure-select")

    def _protocol(self) -> Any:
        greets = self

        class Greeting:
            def connection_made(self, transport: Any) -> None:
                if greets.is_well:
                    transport.write(b"hello")
                else:
                    transport.close()

        return Greeting()


def _is_joined(peer: Peer) -> bool:
    """Return whether a client has an upstream, which greets it, or is refused."""
    try:
        return peer.read(5) == b"hello"
    except (AssertionError, OSError):
        return False


@pytest.mark.parametrize("engine", each("shared_state"))
def test_caps_hold_in_sum_and_every_worker_finds_out_who_is_down(
    engine: str, tmp_path: Path
) -> None:
    greets = Greets()
    check = muxcore.Check(every=0.05, timeout=60, fall=2, rise=1, expect=b"hello")
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(greets.server).addresses[0]
        pool = muxcore.Pool(where, max_active=2, check=check)
        relay = muxcore.Relay(pool)
        server = stack.enter_context(muxcore.Server(relay, "127.0.0.1:0", workers=2, engine=engine))
        asked = Asked(server, stack.enter_context(Admin(server, socket=f"unix:{tmp_path}/admin")))

        def all_are(state: str) -> bool:
            return bool(asked.upstream(where)["states"] == {state: 2})

        eventually(lambda: len(asked.json("/status")["processes"]) == 2, "one is not asked")
        joined = []
        for _ in range(60):  # the kernel gives each to a worker by chance
            peer = stack.enter_context(Peer(server.addresses[0]))
            joined += [peer] if _is_joined(peer) else []
        known = asked.upstream(where)
        assert (len(joined), known["active"], known["total"]) == (2, 2, 2)
        greets.is_well = False
        eventually(lambda: all_are("failing"), "a worker has not found out")
        greets.is_well = True
        eventually(lambda: all_are("up"), "a worker has not found out that it is back")
