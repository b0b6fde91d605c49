"""muxcore's own relay, each connection joined in the way that its name says.

python benchmarks/muxcore_relay.py 9000 127.0.0.1:9001 service    muxcore.Relay
python benchmarks/muxcore_relay.py 9000 127.0.0.1:9001 router     sees what comes first
python benchmarks/muxcore_relay.py 9000 127.0.0.1:9001 operated   muxcore relay --config FILE

Operated, it logs each connection, counts those of each source, routes by the name of a TLS client,
and can be seen.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from _program import inherited

import muxcore


class Router:
    """Looks at what comes first, as a router by content does, then lets go."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.relay(sys.argv[2], first=data, timeout=3)


_FILE = """\
[listeners.in]
address = "127.0.0.1:{port}"
route = "by-name"
limits = "each"
[pools.out]
upstreams = ["{upstream}"]
[routes.by-name]
rules = [{{tls_name = "example.com", pool = "out"}}]
default = "out"
[limits.each]
source_connections = 20_000
source_rate = 1_000_000
[log]
access = "json"
access_file = "/dev/null"
[admin]
socket = "unix:FOLDER/{pid}.admin"
metrics = "127.0.0.1:0"
"""


def _operate() -> None:
    """Become the command, with everything on that who operates it wants."""
    file = inherited(_FILE.format(port=sys.argv[1], upstream=sys.argv[2], pid=os.getpid()))
    command = [sys.executable, "-m", "muxcore", "relay", "--config", str(file)]
    os.execv(sys.executable, command)


def _announce(server: muxcore.Server) -> None:
    print(f"listening on {server.addresses[0]} (muxcore)", flush=True)


if __name__ == "__main__":
    how = sys.argv[3] if len(sys.argv) > 3 else "service"
    if how == "operated":
        _operate()
    service = Router if how == "router" else muxcore.Relay(sys.argv[2])
    sys.exit(muxcore.serve(service, f"127.0.0.1:{sys.argv[1]}", on_ready=_announce))
