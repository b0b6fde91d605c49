"""What the Python peers share: their port, and the line that says they listen."""

from __future__ import annotations

import signal
import socket
import sys


def listener() -> socket.socket:
    """Return a listening socket on loopback: the port is the first argument, or a free one."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    found = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    return found


def announce(sock: socket.socket, peer: str) -> None:
    """Print where the server listens, for the runner."""
    print(f"listening on 127.0.0.1:{sock.getsockname()[1]} ({peer})", flush=True)
