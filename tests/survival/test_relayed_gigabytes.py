"""Gigabytes through a relay, both ways at once, byte for byte; ``make test-deep`` runs it."""

from __future__ import annotations

import random

import pytest

from muxcore.testing import EngineSuite, Peer, each_engine
from muxcore.testing.contract.relaying import relays
from muxcore.testing.suite import meanwhile
from muxcore.testing.upstream import Upstream

# a prime, so that no buffer's size divides it: a piece that is lost, doubled or moved shows
_PERIOD = 1_048_573
_ROUNDS = 2_048  # 2 GiB in each direction
_BLOCK = random.Random(5).randbytes(_PERIOD)
_CHUNK = 1 << 18

_SUBJECTS = [
    pytest.param(engine, id=name.removeprefix("Test"))
    for name, engine in each_engine(EngineSuite).items()
]


@pytest.mark.deep
@pytest.mark.timeout(300)
@pytest.mark.parametrize("suite", _SUBJECTS)
def test_gigabytes_both_ways_at_once_arrive_byte_for_byte(suite: type[EngineSuite]) -> None:
    with Upstream() as upstream, suite().serving(relays(upstream.address)) as run:
        client = run.connect()
        there = run.accept(upstream)
        with meanwhile(*(lambda p=p: _send(p) for p in (client, there)), lambda: _read(there)):
            _read(client)
        stats = run.server.stats()
        assert stats.bytes_in == stats.bytes_out == 2 * _ROUNDS * _PERIOD


def _send(peer: Peer) -> None:
    for _ in range(_ROUNDS):
        peer.sock.sendall(_BLOCK)
    peer.shutdown_write()


def _read(peer: Peer) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    expected = memoryview(_BLOCK + _BLOCK[:_CHUNK])
    at = 0
    while size := peer.sock.recv_into(buffer):
        start = at % _PERIOD
        assert buffer[:size] == expected[start : start + size], f"bytes {at}..{at + size} differ"
        at += size
    assert at == _ROUNDS * _PERIOD
