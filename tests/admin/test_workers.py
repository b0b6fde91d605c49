"""One admin service sees and steers all workers, and waits for none that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import Peer
from muxcore.testing.proc import state
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream
from tests.admin.conftest import Asked


@pytest.fixture
def one(asked: Callable[..., Asked], upstream: Upstream) -> Iterator[Asked]:
    """A relay of two workers; who is stopped goes on in the end."""
    started = asked(muxcore.Relay(upstream.address, "127.0.0.1:9"), workers=2)
    pids = [each["pid"] for each in started.json("/status")["processes"]]
    yield started
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


def _clients(one: Asked, upstream: Upstream) -> list[Peer]:
    """Return clients of both workers."""
    clients: list[Peer] = []
    while len({row["id"].partition("-")[0] for row in _rows(one)}) < 2:
        clients.append(one.client(upstream))
        assert len(clients) < 100, "one worker has all of them"
    return clients


def _rows(one: Asked) -> list[dict[str, Any]]:
    return list(one.json("/connections")["connections"])


def test_all_workers_are_seen_and_steered_as_one(one: Asked, upstream: Upstream) -> None:
    clients = _clients(one, upstream)
    rows = _rows(one)
    assert len(rows) == len(clients)
    assert one.upstream(upstream.address)["active"] == len(clients)
    status = one.json("/status")
    assert sum(each["connections"] for each in status["processes"]) == len(clients)
    assert sorted(each["worker"] for each in status["processes"]) == ["1", "2"]
    assert one.post(f"/kill?id={rows[-1]['id']},{rows[0]['id']}")["killed"] == 2
    assert sorted(one.post(f"/weight?upstream={upstream.address}&weight=5")["done"]) == ["1", "2"]
    assert one.upstream(upstream.address)["weight"] == 5
    text = one.ask("/metrics")[1]
    assert 'muxcore_worker_up{worker="1"} 1' in text
    assert 'muxcore_worker_up{worker="2"} 1' in text
    assert f'upstream="{upstream.address}",state="up"}} 2' in text
    for client in clients:
        client.close()


def test_a_worker_that_hangs_is_named_and_not_waited_for(one: Asked, upstream: Upstream) -> None:
    clients = _clients(one, upstream)
    before = one.upstream(upstream.address)["total"]
    rows = _rows(one)
    hung = one.json("/status")["processes"][0]
    os.kill(hung["pid"], signal.SIGSTOP)
    eventually(lambda: state(hung["pid"]) == "T", "it is not stopped")
    began = time.monotonic()
    status = one.json("/status")
    assert time.monotonic() - began < 10  # it has 1 s, and this machine more to do
    assert [each["pid"] for each in status["processes"]] != [hung["pid"]]
    assert len(status["processes"]) == 1
    (missing,) = status["missing"]
    assert f"worker {hung['worker']} (pid {hung['pid']}) has not answered within 1 s" in missing
    assert one.upstream(upstream.address)["total"] == before  # what it said last
    found = one.json("/connections")
    assert len(found["missing"]) == 1
    assert 0 < len(found["connections"]) < len(rows)
    code, text = one.ask("/livez")
    assert (code, f"pid {hung['pid']}" in text) == (503, True)
    assert f'worker_up{{worker="{hung["worker"]}"}} 0' in one.ask("/metrics")[1]
    code, text = one.ask(f"/weight?upstream={upstream.address}&weight=8", "POST")
    assert code == 503
    assert f"pid {hung['pid']}" in text
    assert "the others have done it" in text
    os.kill(hung["pid"], signal.SIGCONT)
    eventually(lambda: one.ask("/livez")[0] == 200, "it does not live again")
    # what it was told in vain it has not done meanwhile: each has the weight that was said
    assert len(one.json("/connections")["connections"]) == len(rows)
    assert one.post(f"/weight?upstream={upstream.address}&weight=3")["done"]
    for client in clients:
        client.close()


def test_who_replaces_a_worker_is_changed_as_the_others_are(one: Asked, upstream: Upstream) -> None:
    client = one.client(upstream)
    one.post(f"/weight?upstream={upstream.address}&weight=5")
    one.post("/drain?upstream=127.0.0.1:9")
    total = one.upstream(upstream.address)["total"]
    (row,) = _rows(one)
    pid = int(row["id"].partition("-")[0])
    os.kill(pid, signal.SIGKILL)
    client.read_end()

    def others() -> list[int]:
        return [each["pid"] for each in one.json("/status")["processes"]]

    eventually(lambda: len(others()) == 2 and pid not in others(), "nobody replaces it")
    assert one.upstream(upstream.address)["total"] == total
    pools = one.json("/pools")["pools"][0]["upstreams"]
    assert {each["upstream"]: each["states"] for each in pools}["127.0.0.1:9"] == {"out": 2}
    with one.client(upstream) as again:
        assert len(_rows(one)) == 1
        again.close()
