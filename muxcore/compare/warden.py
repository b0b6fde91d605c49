"""Run a server that ends with whoever started it, however that one ends: by kill -9, too.

    python -I -S warden.py COMMAND [ARGUMENT ...]

Standard input is a pipe that the starter holds open; its end of file is the starter's end. A
watcher stays in the server's process group and waits for it, then kills the group, itself included.
The server, any program, is executed in this very process: its pid, its output, its end and its
children are its own, and it costs nothing more. The watcher is nobody's descendant, so that it is
counted with nobody; and it is there before the server is: in no moment does nobody watch.
Programs that leave their process group are out of its reach.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_CANNOT_RUN = 127  # a shell's status for a command that is not there


def main() -> NoReturn:
    """Leave the watcher behind, and become the server."""
    between = os.fork()
    if not between:
        if not os.fork():
            _watch()
        os._exit(0)
    os.waitpid(between, 0)
    _to_nowhere(0)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as exc:
        print(f"cannot run {sys.argv[1]!r}: {exc.strerror}", flush=True)
    os._exit(_CANNOT_RUN)


def _watch() -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever sends them means the server
    _to_nowhere(1, 2)  # the server's output ends with the server
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _to_nowhere(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for each in descriptors:
        os.dup2(null, each)
    os.close(null)


if __name__ == "__main__":
    main()
