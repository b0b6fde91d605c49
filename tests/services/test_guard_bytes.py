"""Bytes a second through a guard: a burst comes, and the rest once the limit is lifted."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import muxcore
from muxcore.parsers import build_proxy_header
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream
from tests.usual import usual

_ENGINES = [i.name for i in muxcore.engines() if i.available and "rates" in i.capabilities]
ON_EACH = pytest.mark.parametrize("engine", usual(_ENGINES, ("native-epoll", "pure-epoll")))
BURST = 4096  # bytes, of a rate that is as low as can be
MANY = bytes(range(256)) * 80
TO = ("203.0.113.1", 443)


@contextlib.contextmanager
def relayed(
    engine: str, *guards: dict[str, Any]
) -> Iterator[tuple[muxcore.Server, Upstream, list[muxcore.Guard]]]:
    """Relay behind guards, the last of which is the innermost, and behind a proxy."""
    with Upstream() as upstream:
        service: Any = muxcore.Relay(upstream.address)
        made = []
        for settings in reversed(guards):
            service = muxcore.Guard(service, **settings)
            made.insert(0, service)
        behind = muxcore.BehindProxy(service, trusted=["127.0.0.1"], timeout=60)
        with muxcore.Server(behind, "127.0.0.1:0", engine=engine) as server:
            yield server, upstream, made
            eventually(lambda: server.stats().open == 0, "one is left")


def joined(server: muxcore.Server, upstream: Upstream, host: str) -> tuple[Peer, Peer]:
    client = Peer(server.addresses[0])
    client.send(build_proxy_header((host, 1), TO))
    return client, upstream.accept()


def in_engine(server: muxcore.Server, call: Any) -> None:
    failed: list[BaseException] = []
    done = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            failed.append(exc)
        done.append(True)

    server.call_soon_threadsafe(run)
    eventually(lambda: bool(done), "it was not called")
    if failed:
        raise failed[0]


def moved(server: muxcore.Server, ups: int) -> int:
    """Return the bytes that have come from clients and upstreams, but for the headers."""
    return server.stats().bytes_in - ups * len(build_proxy_header(("192.0.2.1", 1), TO))


@ON_EACH
@pytest.mark.parametrize("whose", ["bytes", "source_bytes"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_no_more_moves_than_the_rate_until_it_is_lifted(engine: str, whose: str, way: str) -> None:
    setting = f"{whose}_{way}"
    with relayed(engine, {setting: 1}) as (server, upstream, (guard,)):
        client, there = joined(server, upstream, "192.0.2.1")
        sends, gets = (client, there) if way == "up" else (there, client)
        sends.send(MANY)
        assert gets.read(BURST - 200) == MANY[: BURST - 200]  # the rest of a burst is a quantum
        gets.send(MANY)  # the other way there is no limit
        assert sends.read(len(MANY)) == MANY
        assert moved(server, 1) <= len(MANY) + BURST + 60
        in_engine(server, lambda: guard.change(**{setting: None}))
        assert gets.read(len(MANY) - BURST + 200) == MANY[BURST - 200 :]
        client.close()
        there.close()


@ON_EACH
@pytest.mark.parametrize("whose", ["bytes", "source_bytes"])
def test_all_share_one_rate_or_each_source_its_own(engine: str, whose: str) -> None:
    with relayed(engine, {f"{whose}_up": 1}) as (server, upstream, (guard,)):
        pairs = [joined(server, upstream, host) for host in ("192.0.2.1", "192.0.2.1")]
        other = joined(server, upstream, "192.0.2.2")
        for client, _ in pairs:
            client.send(MANY)
        shared = BURST + 60
        eventually(lambda: moved(server, 3) >= BURST - 200, "the burst does not come")
        other[0].send(MANY)
        if whose == "source_bytes":
            assert other[1].read(BURST - 200) == MANY[: BURST - 200]
            shared *= 2
        assert moved(server, 3) <= shared
        in_engine(server, lambda: guard.change(**{f"{whose}_up": 1_000_000_000}))
        for client, there in (*pairs, other):
            assert there.read(len(MANY)) == MANY if there is not other[1] else True
            client.close()
            there.close()


@ON_EACH
def test_of_two_guards_both_limits_hold(engine: str) -> None:
    for settings in (
        ({"bytes_up": 1}, {"source_bytes_up": 10**9}),
        ({"bytes_up": 10**9}, {"bytes_up": 1}),
    ):
        with relayed(engine, *settings) as (server, upstream, guards):
            client, there = joined(server, upstream, "192.0.2.1")
            client.send(MANY)
            assert there.read(BURST - 200) == MANY[: BURST - 200]
            assert moved(server, 1) <= BURST + 60
            for guard in guards:
                in_engine(server, lambda g=guard: g.change(bytes_up=None))  # type: ignore[misc]
            assert there.read(len(MANY) - BURST + 200) == MANY[BURST - 200 :]
            client.close()
            there.close()


@ON_EACH
def test_a_source_that_comes_again_has_no_new_burst(engine: str) -> None:
    def comes(host: str, sent: bytes) -> None:
        client, there = joined(server, upstream, host)
        client.send(sent)
        assert there.read(len(sent)) == sent
        client.close()
        there.close()
        eventually(lambda: guard.active == 0, "it is still counted")

    with relayed(engine, {"source_bytes_up": 1}) as (server, upstream, (guard,)):
        comes("192.0.2.1", MANY[:1500])  # it has more left than a receive is worth
        for number in range(3):  # for each of them some are forgotten who may be
            comes(f"198.51.100.{number}", b"x")
        client, there = joined(server, upstream, "192.0.2.1")
        client.send(MANY[:4000])
        comes_too, theirs = joined(server, upstream, "198.51.100.9")
        comes_too.send(b"z")
        assert theirs.read(1) == b"z"
        assert there.read(2500) == MANY[:2500]
        assert moved(server, 6) <= BURST + 4 + 60
        in_engine(server, lambda: guard.change(source_bytes_up=10**6))
        assert there.read(1500) == MANY[2500:4000]
        for peer in (client, there, comes_too, theirs):
            peer.close()


def test_a_limit_in_bytes_needs_an_engine_that_can() -> None:
    with pytest.raises(muxcore.CapabilityMissing, match="rates"):
        muxcore.Server(muxcore.Guard(muxcore.Echo, bytes_up=5), "127.0.0.1:0", engine="asyncio")
    guard = muxcore.Guard(muxcore.Echo)
    with muxcore.Server(guard, "127.0.0.1:0", engine="asyncio") as server:
        eventually(lambda: guard._door.server is not None, "it is not told")
        with pytest.raises(muxcore.CapabilityMissing, match="has no rates"):
            in_engine(server, lambda: guard.change(bytes_up=5))
    assert guard._door.rules.bytes_up is None


def test_what_is_no_rate_is_refused_by_its_name_and_shares_are_even() -> None:
    for value, error in ((0, ValueError), ("5", TypeError)):
        with pytest.raises(error, match=r"Guard\(source_bytes_down="):
            muxcore.Guard(muxcore.Echo, source_bytes_down=value)  # type: ignore[arg-type]
    guard = muxcore.Guard(muxcore.Echo, bytes_up=100, bytes_down=50, source_bytes_up=7)
    rules = pickle.loads(pickle.dumps(guard)).share_of(1, 4)._door.rules
    assert (rules.bytes_up, rules.bytes_down, rules.source_bytes_up) == (25, 12.5, 7)
