"""nginx's stream module, one worker.

python benchmarks/nginx_relay.py 9000 127.0.0.1:9001 [64k] [operated]

Its buffers are as shipped (16 KiB), or, with 64k, as large as muxcore's receives. Operated, it logs
each connection, counts those of each source, and routes by the name of a TLS client.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _program import port, run

_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_CONFIGURATION = """\
{module}
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid FOLDER/pid;
error_log FOLDER/error.log;
events {{ worker_connections 19000; }}
stream {{
    {operated}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        tcp_nodelay on;
        proxy_pass {upstream};
        {buffers}
        {limited}
    }}
}}
"""

_OPERATED = """log_format basic '$remote_addr [$time_local] $protocol $status $bytes_sent '
        '$bytes_received $session_time "$upstream_addr" $upstream_connect_time';
    access_log /dev/null basic;
    limit_conn_zone $binary_remote_addr zone=sources:10m;
    map $ssl_preread_server_name $upstream {{ example.com {upstream}; default {upstream}; }}"""
_LIMITED = "ssl_preread on; limit_conn sources 20000;"

if __name__ == "__main__":
    number = port()
    module = f"load_module {_MODULE};" if _MODULE.exists() else ""
    buffers = "proxy_buffer_size 64k;" if "64k" in sys.argv[3:] else ""
    operated, limited, upstream = "access_log off;", "", sys.argv[2]
    if "operated" in sys.argv[3:]:
        operated, limited = _OPERATED.format(upstream=upstream), _LIMITED
        upstream = "$upstream"
    text = _CONFIGURATION.format(
        module=module,
        port=number,
        upstream=upstream,
        buffers=buffers,
        operated=operated,
        limited=limited,
    )
    run("nginx stream", number, text, lambda path: ["nginx", "-c", str(path), "-e", "/dev/null"])
