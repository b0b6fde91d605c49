"""Lines of text, sent back in upper case.

    python examples/upper_lines.py 9000
    printf 'h\\303\\251llo\\n' | nc -N 127.0.0.1 9000

TCP keeps the order of bytes and nothing else: a line, even a character, may arrive in two pieces.
So a line is answered once its end has come, and what may wait for an end has a cap.
"""

from __future__ import annotations

import argparse
import sys

import muxcore

MAX_LINE = 65_536  # bytes; a peer that never ends its line must not fill our memory


class UpperLines:
    """One per client. Works on every engine: it needs nothing but its own transport."""

    def __init__(self) -> None:
        self._unfinished = b""

    def connection_made(self, transport: muxcore.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        lines, newline, self._unfinished = (self._unfinished + data).rpartition(b"\n")
        if newline:
            self._answer(lines + newline)
        if len(self._unfinished) > MAX_LINE:
            self._transport.write(b"error: a line may have %d bytes\n" % MAX_LINE)
            self._transport.close()

    def eof_received(self) -> None:  # with nothing returned, the connection closes once all is sent
        self._answer(self._unfinished)

    def _answer(self, lines: bytes) -> None:
        self._transport.write(lines.decode(errors="replace").upper().encode())


def main() -> int:
    parser = argparse.ArgumentParser(description="Send lines back in upper case.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        return muxcore.serve(
            UpperLines,
            options.address,
            engine=options.engine,
            on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
        )
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")


if __name__ == "__main__":
    sys.exit(main())
