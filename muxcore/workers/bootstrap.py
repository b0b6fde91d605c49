"""The program of a process that is started fresh, until it knows where to import from.

    python bootstrap.py DESCRIPTOR

The descriptor is a channel to its starter; what comes first through it are the folders that the
starter imports from, its arguments, and what to run.
"""

import importlib
import json
import socket
import sys

_MOST = 1 << 20  # bytes of the first message: some thousand folders


def main(number: int) -> int:
    """Run what the first message names, with the channel; return its exit status."""
    sock = socket.socket(fileno=number)
    sock.set_inheritable(False)
    data = sock.recv(_MOST)
    if not data:  # the starter is gone already
        return 0
    sys.path, sys.argv, module, name = json.loads(data)
    return int(getattr(importlib.import_module(module), name)(sock))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
