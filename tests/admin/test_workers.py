"""One admin service sees and steers all workers, and waits for none that hangs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import muxcore
from muxcore.admin import operations
from muxcore.testing.peer import Peer
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream
from tests.admin.conftest import Asked


@pytest.fixture
def one(asked: Callable[..., Asked], upstream: Upstream) -> Iterator[Asked]:
    """A relay of two workers; who is stopped goes on in the end."""
    guard = muxcore.Guard(muxcore.Relay(upstream.address, "127.0.0.1:9"), deny=["192.0.2.0/24"])
    started = asked(guard, workers=2)
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
    refusal = json.loads(one.ask("/drain?upstream=nix:1", "POST")[1])["error"]
    assert refusal.count("there are") == 1  # all say the same
    status = one.json("/status")
    assert sum(each["connections"] for each in status["processes"]) == len(clients)
    assert sorted(each["worker"] for each in status["processes"]) == ["1", "2"]
    assert one.post(f"/kill?id={rows[-1]['id']},{rows[0]['id']}")["killed"] == 2
    assert sorted(one.post(f"/weight?upstream={upstream.address}&weight=5")["done"]) == ["1", "2"]
    assert one.upstream(upstream.address)["weight"] == 5
    text = one.ask("/metrics")[1]
    assert 'muxcore_worker_up{worker="1"} 1' in text
    assert 'muxcore_worker_up{worker="2"} 1' in text
    assert status["counts"] == [["Guard", "accepted", len(clients)]]
    assert f'upstream="{upstream.address}",state="up"}} 2' in text
    for client in clients:
        client.close()


def test_a_worker_that_hangs_is_named_and_not_waited_for(one: Asked, upstream: Upstream) -> None:
    clients = _clients(one, upstream)
    before = one.upstream(upstream.address)["total"]
    rows = _rows(one)
    counts = one.json("/status")["counts"]
    hung = one.json("/status")["processes"][0]
    pid, number = hung["pid"], hung["worker"]

    def stopped(holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds with the worker stopped; somebody may let it go on."""

        def tried() -> bool:
            os.kill(pid, signal.SIGSTOP)
            return holds()

        eventually(tried, what)

    def is_missing() -> bool:
        status = one.json("/status")
        told = f"worker {number} (pid {pid}) has not answered within 1 s"
        assert status["counts"] == counts  # what it said last
        return status["missing"] == [told] and len(status["processes"]) == 1

    def the_others_are_listed() -> bool:
        found = one.json("/connections")
        return len(found["missing"]) == 1 and 0 < len(found["connections"]) < len(rows)

    def is_drained_elsewhere() -> bool:
        code, text = one.ask("/drain?upstream=127.0.0.1:9", "POST")
        if code == 200:
            one.post("/ready?upstream=127.0.0.1:9")
            return False
        assert code == 503
        return f"pid {pid}" in text and "the others have done it" in text

    stopped(is_missing, "it is not missed")
    stopped(the_others_are_listed, "the others are not listed")
    assert one.upstream(upstream.address)["total"] == before  # what it said last
    stopped(lambda: one.ask("/livez")[0] == 503, "it is said to live")
    stopped(lambda: f'worker_up{{worker="{number}"}} 0' in one.ask("/metrics")[1], "it is up")

    def is_told_in_vain() -> bool:
        stopped(is_drained_elsewhere, "it has drained")
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: one.ask("/livez")[0] == 200, "it does not live again")
        if one.upstream("127.0.0.1:9")["states"]["out"] == 1:
            return True
        one.post("/ready?upstream=127.0.0.1:9")  # it was let go on in time, and nobody heard it
        return False

    eventually(is_told_in_vain, "what it was told in vain it does later")
    assert len(one.json("/connections")["connections"]) == len(rows)
    for client in clients:
        client.close()


def test_workers_are_ready_while_a_client_of_one_may_have_an_upstream(
    asked: Callable[..., Asked], upstream: Upstream
) -> None:
    pool = muxcore.Pool(upstream.address, name="db")
    one = asked(muxcore.Relay(pool), workers=2, ready_needs=["db"])
    assert one.ask("/readyz") == (200, "ok\n")
    one.post(f"/drain?upstream={upstream.address}")
    assert one.ask("/readyz") == (503, "pool db: no upstream may have clients\n")
    one.post(f"/ready?upstream={upstream.address}")
    assert one.ask("/readyz") == (200, "ok\n")


def test_what_a_worker_has_counted_stays_though_nobody_asks_for_it(
    asked: Callable[..., Asked], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_EVERY", 0.05)
    one = asked(muxcore.Relay(upstream.address), workers=1)
    (peer,) = one.admin._operations.peers
    with one.client(upstream) as client:
        eventually(
            lambda: any(each["total"] for pool in peer.pools for each in pool["upstreams"]),
            "nobody asks the worker",
        )
        os.kill(peer.pid, signal.SIGKILL)
        client.read_end()
    eventually(lambda: one.admin._operations._gone != {}, "it is not gone")
    eventually(lambda: bool(one.json("/pools")["pools"]), "nobody replaces it")
    assert one.upstream(upstream.address)["total"] == 1


def test_who_replaces_a_worker_is_changed_as_the_others_are(one: Asked, upstream: Upstream) -> None:
    client = one.client(upstream)
    one.post(f"/weight?upstream={upstream.address}&weight=5")
    one.post("/drain?upstream=127.0.0.1:9")
    one.post("/add?upstream=127.0.0.1:8")
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
    states = {each["upstream"]: each["states"] for each in pools}
    assert states["127.0.0.1:9"] == {"out": 2}
    assert states["127.0.0.1:8"] == {"up": 2}
    assert one.upstream(upstream.address)["weight"] == 5
    with one.client(upstream) as again:
        assert len(_rows(one)) == 1
        again.close()
