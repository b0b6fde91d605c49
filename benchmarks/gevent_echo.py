"""gevent's StreamServer: a greenlet per client, written as if it blocked.

python benchmarks/gevent_echo.py 9000
"""

from __future__ import annotations

from typing import Any

from _listening import announce, listener
from gevent import socket
from gevent.server import StreamServer


def echo(sock: Any, address: object) -> None:
    while data := sock.recv(65_536):
        sock.sendall(data)


if __name__ == "__main__":
    plain = listener()
    announce(plain, "gevent")
    StreamServer(socket.socket(fileno=plain.detach()), echo).serve_forever()
