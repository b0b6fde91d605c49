"""HAProxy in tcp mode, one thread, with splicing where it finds it worth while.

python benchmarks/haproxy_relay.py 9000 127.0.0.1:9001
"""

from __future__ import annotations

import sys

from _program import port, run

_CONFIGURATION = """\
global
    nbthread 1
    maxconn 7500
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server one {upstream}
"""

if __name__ == "__main__":
    number = port()
    text = _CONFIGURATION.format(port=number, upstream=sys.argv[2])
    run("haproxy", number, text, lambda path: ["haproxy", "-db", "-f", str(path)])
