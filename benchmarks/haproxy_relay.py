"""HAProxy in tcp mode, one thread, with splicing where it finds it worth while.

python benchmarks/haproxy_relay.py 9000 127.0.0.1:9001 [64k]

Its buffers are as shipped (16 KiB), or, with 64k, as large as muxcore's receives.
"""

from __future__ import annotations

import sys

from _program import port, run

_CONFIGURATION = """\
global
    nbthread 1
    maxconn 7500
    {buffers}
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
    buffers = "tune.bufsize 65536" if "64k" in sys.argv[3:] else ""
    text = _CONFIGURATION.format(port=number, upstream=sys.argv[2], buffers=buffers)
    run("haproxy", number, text, lambda path: ["haproxy", "-db", "-f", str(path)])
