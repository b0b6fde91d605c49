"""HAProxy in tcp mode, one thread, with splicing where it finds it worth while.

python benchmarks/haproxy_relay.py 9000 127.0.0.1:9001 [64k] [operated]

Its buffers are as shipped (16 KiB), or, with 64k, as large as muxcore's receives. Operated, it logs
each connection, counts those of each source, routes by the name of a TLS client, and can be seen.
"""

from __future__ import annotations

import os
import sys

from _program import port, run

_CONFIGURATION = """\
global
    nbthread 1
    maxconn 7500
    {buffers}
    {seen}
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    {operated}
    default_backend out
backend out
    server one {upstream}
"""

_SEEN = """log fd@{log} format raw local0 info
    stats socket FOLDER/haproxy.sock mode 600"""
_OPERATED = """log global
    option tcplog
    stick-table type ip size 65536 expire 10m store conn_cur,conn_rate(1s)
    tcp-request connection track-sc0 src
    tcp-request connection reject if { sc0_conn_cur gt 20000 } || { sc0_conn_rate gt 1000000 }
    tcp-request inspect-delay 3s
    tcp-request content accept if { req.ssl_hello_type 1 }
    tcp-request content accept if { req.len gt 0 } !{ req.ssl_hello_type 1 }
    use_backend out if { req.ssl_sni -i example.com }"""

if __name__ == "__main__":
    number = port()
    buffers = "tune.bufsize 65536" if "64k" in sys.argv[3:] else ""
    seen = operated = ""
    if "operated" in sys.argv[3:]:
        log = os.open(os.devnull, os.O_WRONLY)
        os.set_inheritable(log, True)
        seen, operated = _SEEN.format(log=log), _OPERATED
    text = _CONFIGURATION.format(
        port=number, upstream=sys.argv[2], buffers=buffers, seen=seen, operated=operated
    )
    run("haproxy", number, text, lambda path: ["haproxy", "-db", "-f", str(path)])
