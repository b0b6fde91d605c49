"""socat as a relay: a child per client.

python benchmarks/socat_relay.py 9000 127.0.0.1:9001
"""

from __future__ import annotations

import os
import sys

from _listening import announce, listener

if __name__ == "__main__":
    sock = listener()
    announce(sock, "socat relay")
    os.set_inheritable(sock.fileno(), True)
    listen = f"ACCEPT-FD:{sock.fileno()},fork,nodelay"
    os.execvp("socat", ["socat", listen, f"TCP:{sys.argv[2]},nodelay"])
