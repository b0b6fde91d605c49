"""``muxcore relay``."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from muxcore.testing.peer import Peer
from muxcore.testing.upstream import Upstream, refusing


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_is_printed_for_each_connection(command: Callable[..., Any], form: str) -> None:
    with Upstream() as upstream, refusing() as dead:
        relay = command("relay", "0", dead, upstream.address, "--access-log", form)
        with Peer(relay.address) as client:
            client.send(b"hello")
            there = upstream.accept()
            assert there.read(5) == b"hello"
            there.close()
            client.read_end()
        line = relay.line()
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0
    if form == "json":
        assert json.loads(line)["bytes_up"] == 5
    else:
        assert f"to {upstream.address}: 5 bytes up" in line


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["0", ":5432"], "does not say where"),
        (["0", "db:1", "db:1"], "given twice"),
        (
            ["0", "db:1", "--max-connections", "0"],
            "relay: --max-connections must be above 0, not 0",
        ),
        (
            ["0", "db:1", "--policy", "random"],
            "round-robin or least-connections or two-random or source or first, not 'random'",
        ),
        (["0", "db:1", "--connect-timeout", "0"], "relay: --connect-timeout must be above 0"),
        (["0"], "UPSTREAM"),
        (["9000", "127.0.0.1:9000"], "upstream 127.0.0.1:9000 is a listener"),
        (["0.0.0.0:9000", "db:1", "localhost:9000"], "upstream localhost:9000 is a listener"),
        (["0", "db:1,weight=0"], "relay: weight must be a whole number from 1 to 256, not 0"),
        (["0", "db:1", "--queue=-1"], "relay: --queue must be a whole number from 0"),
        (["0", "db:1", "--slow-start=-1"], "relay: --slow-start needs seconds of at least 0"),
        (["0", "db:1", "--check", "0"], "relay: --check must be above 0, not 0"),
        (["0", "db:1", "--check", "--fall", "0"], "relay: --fall must be a whole number from 1"),
        (["0", "db:1", "--agent", "9"], "relay: --agent says how to check: give --check, too"),
        (["0", "db:1", "--fall", "9"], "relay: --fall says how to check: give --check, too"),
        (["0", "db:1", "--check", "--check-expect", ""], "relay: --check-expect has 0 bytes"),
        (["0", "db:1", "--admin", "127.0.0.1:9"], "relay: --admin must be the path of a unix"),
        (["0", "db:1", "--access-log-fields", ""], "relay: --access-log-fields must be of time, "),
        (
            ["0", "db:1,wieght=2"],
            "relay: upstream 'db:1,wieght=2': 'wieght=2' is none of ,weight=N",
        ),
        (["0", "db:1", "--check", "--check-send", "\\xzz"], "write a byte as"),
        (["0", "db:1", "--accept-proxy", "all"], "relay: --accept-proxy must be networks such"),
        (["0", "db:1", "--accept-proxy", "::1", "--proxy-timeout", "0"], "--proxy-timeout must be"),
        (["0", "db:1", "--send-proxy", "v3"], "--send-proxy must be v1 or v2 or v2-crc32c, not"),
        (["0", "db:1,send-proxy=v3"], "relay: --send-proxy must be one of v1, v2, v2-crc32c"),
        (["0", "db:1", "--eject-after", "0"], "relay: --eject-after must be a whole number from 1"),
        (["0", "db:1", "--first-byte-timeout", "0"], "--first-byte-timeout must be above 0"),
        (["0", "db:1", "--max-ejected", "0.5"], "--max-ejected must be a share such as 50%"),
        (["0", "db:1", "--max-ejected", "0%"], "relay: --max-ejected must be a share above 0"),
        (["0", "db:1", "--connections", "7", "--max-connections", "5"], "are the same limit"),
    ],
)
def test_a_wrong_use_is_status_2_with_a_reason(
    command: Callable[..., Any], arguments: list[str], what: str
) -> None:
    relay = command("relay", *arguments)
    assert relay.status() == 2
    assert what in relay.complaint()


def _all_of(peer: Peer) -> bytes:
    with peer, contextlib.suppress(ConnectionResetError):
        return peer.read_all()
    return b""


def test_upstreams_are_weighed_checked_and_stood_in_for(command: Callable[..., Any]) -> None:
    with Upstream() as spare, refusing() as dead:
        relay = command(
            *("relay", "0", f"{dead},weight=3,max-active=5", f"{spare.address},backup"),
            *("--check", "20ms", "--fall", "1", "--rise", "1", "--queue", "2"),
        )
        spare.accept().close()  # its first check
        with Peer(relay.address) as client:
            client.send(b"hello")
            client.shutdown_write()
            while not (said := _all_of(spare.accept())):  # another check
                continue
            assert said == b"hello"
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0


def test_the_upstream_is_told_whom_a_proxy_has_told_of(command: Callable[..., Any]) -> None:
    header = b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n"
    with Upstream() as upstream:
        where = f"{upstream.address},send-proxy=v1"
        options = ("--accept-proxy", "10.0.0.0/8", "--accept-proxy", "127.0.0.1", "-v")
        relay = command("relay", "0", where, *options, "--send-proxy", "v2")
        with Peer(relay.address) as client:
            client.send(header + b"hello")
            with upstream.accept() as there:
                assert there.read(len(header) + 5) == header + b"hello"
            client.read_eof()
        assert relay.line().startswith(f"192.0.2.7:4711 to {upstream.address}: ")
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0


def test_an_upstream_that_hangs_is_ejected(command: Callable[..., Any]) -> None:
    with Upstream() as mute, Upstream() as other:
        relay = command(
            *("relay", "0", mute.address, other.address, "--first-byte-timeout", "50ms"),
            *("--eject-after", "1", "--max-ejected", "100%", "--access-log", "text"),
        )
        with Peer(relay.address) as client:
            client.send(b"?")
            client.read_end()
        line = relay.line()
        assert f"to {mute.address}: 1 bytes up, 0 down" in line
        assert line.endswith(", first byte")
        with Peer(relay.address) as client:
            client.send(b"?")
            with other.accept() as there:
                there.send(b"!")
                assert client.read(1) == b"!"
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0
