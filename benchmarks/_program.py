"""What the peers share that are programs of others: a free port, a configuration file, exec."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent.parent / "build" / "benchmarks"


def port() -> int:
    """Return the port to listen on: the first argument, or a free one (free a moment ago)."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    if wanted:
        return wanted
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def run(
    peer: str, number: int, configuration: str, command: Callable[[Path], Sequence[str]]
) -> None:
    """Become the program; a child says where it listens, once it does.

    Args:
        peer: its name, for the line.
        number: its port.
        configuration: the text of its configuration file.
        command: makes the command line from that file's path.
    """
    arguments = command(inherited(configuration))
    watcher = os.fork()
    if watcher == 0:
        _announce(peer, number)
        os._exit(0)
    os.execvp(arguments[0], list(arguments))


def inherited(configuration: str) -> Path:
    """Return where the program that this process becomes finds its configuration file.

    Args:
        configuration: its text, with FOLDER for a folder that there is.
    """
    _FOLDER.mkdir(parents=True, exist_ok=True)
    memory = os.memfd_create("configuration", 0)  # gone with the program
    os.write(memory, configuration.replace("FOLDER", str(_FOLDER)).encode())
    return Path(f"/dev/fd/{memory}")


def _announce(peer: str, number: int) -> None:
    """Print the line as soon as somebody listens; give up after ten seconds."""
    deadline = time.monotonic() + 10
    turn = threading.Event()
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", number), timeout=1).close()
        except OSError:
            turn.wait(0.02)
            continue
        print(f"listening on 127.0.0.1:{number} ({peer})", flush=True)
        return
