"""The standard library's forking server: what pure-process stands beside.

python benchmarks/socketserver_forking.py 9000
"""

from __future__ import annotations

import socket
import socketserver

from _listening import announce, listener


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.request.recv(65_536):
            self.request.sendall(data)


class Server(socketserver.ForkingTCPServer):
    max_children = 1_000


if __name__ == "__main__":
    sock = listener()
    server = Server(sock.getsockname(), Echo, bind_and_activate=False)
    server.socket.close()
    server.socket = sock
    announce(sock, "socketserver, forking")
    server.serve_forever()
