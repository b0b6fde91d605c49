"""Several services in workers: a socket that crosses brings the number of its service along."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import muxcore
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children
from tests.workers.engines import each
from tests.workers.services import Pid, Says


def said(where: str) -> bytes:
    with Peer(where) as peer:
        return peer.read_all()


@pytest.mark.parametrize("engine", each())
@pytest.mark.parametrize("balance", ["kernel", pytest.param("exact", marks=pytest.mark.deep)])
def test_each_address_keeps_its_service_while_workers_come_and_go(
    engine: str, balance: str, tmp_path: Path
) -> None:
    one, other = Says(b"one"), Says(b"other")
    where = {"127.0.0.1:0": one, f"unix:{tmp_path}/s": other, "[::1]:0": other, "[::1]:00": Pid}
    where["localhost:0"] = one
    expected = {0: b"one", 1: b"other", 2: b"other", 4: b"one"}
    with muxcore.Server(where, engine=engine, workers=2, balance=balance) as server:
        addresses = server.addresses

        def check() -> None:
            for number, words in expected.items():
                assert [said(addresses[number]) for _ in range(6)] == [words] * 6

        check()
        for count in (1, 3):
            server.set_workers(count)
            eventually(lambda: len(children(os.getpid())) == count + 1, "not so many")  # noqa: B023
            check()
        with Peer(addresses[3]) as peer:
            killed = int(peer.read_line())
            os.kill(killed, signal.SIGKILL)
            peer.read_all()
        check()
