"""nginx's stream module, one worker.

python benchmarks/nginx_relay.py 9000 127.0.0.1:9001 [64k]

Its buffers are as shipped (16 KiB), or, with 64k, as large as muxcore's receives.
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
    access_log off;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        tcp_nodelay on;
        proxy_pass {upstream};
        {buffers}
    }}
}}
"""

if __name__ == "__main__":
    number = port()
    module = f"load_module {_MODULE};" if _MODULE.exists() else ""
    buffers = "proxy_buffer_size 64k;" if "64k" in sys.argv[3:] else ""
    text = _CONFIGURATION.format(module=module, port=number, upstream=sys.argv[2], buffers=buffers)
    run("nginx stream", number, text, lambda path: ["nginx", "-c", str(path), "-e", "/dev/null"])
