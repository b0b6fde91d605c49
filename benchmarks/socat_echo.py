"""socat: a child per client, whose bytes go through a pipe to itself.

python benchmarks/socat_echo.py 9000
"""

from __future__ import annotations

from _program import port, run

if __name__ == "__main__":
    number = port()
    listen = f"TCP-LISTEN:{number},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096"
    run("socat", number, "", lambda path: ["socat", listen, "PIPE"])
