"""socat as a relay: a child per client.

python benchmarks/socat_relay.py 9000 127.0.0.1:9001
"""

from __future__ import annotations

import sys

from _program import port, run

if __name__ == "__main__":
    number = port()
    listen = f"TCP-LISTEN:{number},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096"
    upstream = f"TCP:{sys.argv[2]},nodelay"
    run("socat relay", number, "", lambda path: ["socat", listen, upstream])
