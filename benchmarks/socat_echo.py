"""socat: a child per client that pipes it to itself.

python benchmarks/socat_echo.py 9000
"""

from __future__ import annotations

import os

from _listening import announce, listener

if __name__ == "__main__":
    sock = listener()
    announce(sock, "socat")
    os.set_inheritable(sock.fileno(), True)
    listen = f"ACCEPT-FD:{sock.fileno()},fork,nodelay"
    os.execvp("socat", ["socat", listen, "PIPE"])
