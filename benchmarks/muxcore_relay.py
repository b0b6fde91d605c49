"""muxcore's own relay, each connection joined in the way that its name says.

python benchmarks/muxcore_relay.py 9000 127.0.0.1:9001 service    muxcore.Relay
python benchmarks/muxcore_relay.py 9000 127.0.0.1:9001 router     sees what comes first
"""

from __future__ import annotations

import sys
from typing import Any

import muxcore


class Router:
    """Looks at what comes first, as a router by content does, then lets go."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.relay(sys.argv[2], first=data, timeout=3)


def _announce(server: muxcore.Server) -> None:
    print(f"listening on {server.addresses[0]} (muxcore)", flush=True)


if __name__ == "__main__":
    how = sys.argv[3] if len(sys.argv) > 3 else "service"
    service = Router if how == "router" else muxcore.Relay(sys.argv[2])
    sys.exit(muxcore.serve(service, f"127.0.0.1:{sys.argv[1]}", on_ready=_announce))
