"""A program that restarts itself when a client says so, from another thread."""

from __future__ import annotations

import logging
import os
import threading

import muxcore


class Asks:
    def connection_made(self, transport: muxcore.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        server = self.transport.server
        assert isinstance(server, muxcore.Server)
        threading.Thread(target=server.restart).start()


def announce(server: muxcore.Server) -> None:
    print("listening on", *server.addresses, os.getpid(), flush=True)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    muxcore.serve(Asks, "127.0.0.1:0", on_ready=announce)
