"""A protocol, and a client's side of a conversation, for tests of the native engine."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import muxcore

DEADLINE = 20.0  # s


class Upper:
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


def connect(server: muxcore.Server) -> socket.socket:
    host, _, port = server.addresses[0].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def read(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = sock.recv(size - len(got))
        assert piece, f"EOF after {len(got)} of {size} bytes"
        got += piece
    return got


def until(true: Any) -> None:
    """Wait for what another thread does; the deadline only bounds a failure."""
    give_up = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < give_up, "it did not happen in time"
        os.sched_yield()
