"""The bytes that an idle pair costs which ``muxcore.aio`` has handed over, and which a mover has.

    python benchmarks/pairs.py                   of 4,000 pairs, five seconds

Pairs come one after another, and each carries a message: a crowd that comes at once leaves holes in
the heap, which is another figure. The relay's memory is looked at forty times; the figure is the
slope of a line through all looks but the first ten, which pay for what is there once.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys

import peers

from muxcore import address
from muxcore.compare.servers import ServerProcess
from muxcore.load.descriptors import take_all

_LOOKS, _FIRST = 40, 10  # looks, and those that are left out
_MESSAGE = b"x" * 64


def measure(count: int) -> float:
    """Return the bytes of each of so many pairs."""
    looks = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(ServerProcess(peers.subject("floor")))
        relay = stack.enter_context(ServerProcess(peers.subject("relay-handed", upstream.address)))
        where = address.parse(relay.address)
        for number in range(1, count + 1):
            client = stack.enter_context(socket.create_connection((where.host, where.port)))
            client.sendall(_MESSAGE)
            client.recv(len(_MESSAGE), socket.MSG_WAITALL)
            if not number % (count // _LOOKS):
                looks.append((number, relay.memory()))
    numbers, sizes = zip(*looks[_FIRST:], strict=True)
    return statistics.linear_regression(numbers, sizes).slope


def main() -> int:
    parser = argparse.ArgumentParser(description="The bytes of an idle pair, handed over.")
    parser.add_argument("--pairs", type=int, default=4000, help="forty at least")
    options = parser.parse_args()
    take_all()
    print(f"an idle pair: {measure(options.pairs):.0f} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
