"""What is in a relay's log, and that nobody else writes in it; and who is here now."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.parts.searching import Try
from muxcore.services.relay import AccessLog, Record
from muxcore.services.relay.access_log import FIELDS, as_json, as_text
from muxcore.testing.peer import Peer
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream, refusing
from tests.usual import usual

ENGINES = [info.name for info in muxcore.engines() if info.available]
ADAPTERS = ("asyncio", "uvloop")
SHARED = [name for name in ENGINES if "shared_state" in muxcore.engine(name).capabilities]

RECORD = Record("2026-01-01T00:00:00.000+00:00", "a:1", "b:2", 3, 4, 0.5, "closed", ())
HOSTILE = 'x\r\n2026 forged\x1b[2J\x07\x00\x7f\x9b\u2028\u202e\ud800" why="no\\'


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, logger = _Lines(), logging.getLogger("muxcore.access")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.setLevel(before)
    logger.removeHandler(handler)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


def _served(
    relay: muxcore.Relay, engine: str = "pure-epoll", at: str = "[::1]:0"
) -> muxcore.Server:
    return muxcore.Server(relay, at, engine=engine, allow_threads=True)


@pytest.mark.parametrize("engine", usual(SHARED))
def test_a_record_tells_all_that_is_known(engine: str, upstream: Upstream) -> None:
    records: list[Record] = []
    with refusing() as dead:
        pool = muxcore.Pool(dead, upstream.address, name="db")
        with _served(muxcore.Relay(pool, access_log=records.append), engine) as server:
            for _ in range(2):
                with Peer(server.addresses[0]):
                    upstream.accept().close()
            eventually(lambda: len(records) == 2, "not both were logged")
            listener = server.addresses[0]
    first, second = sorted(records, key=lambda record: int(record.id.partition("-")[2]))
    assert first.id != second.id
    assert {each.id.partition("-")[0] for each in records} == {str(os.getpid())}
    assert (first.event, first.pool, first.listener) == ("end", "db", listener)
    assert first.connect is not None
    assert 0 <= first.connect <= first.seconds
    (tried,) = first.tries
    assert (tried.upstream, tried.why) == (dead, first.failures[0])
    assert 0 <= tried.seconds <= first.seconds
    assert first.first_byte is None  # none came
    assert second.tries == ()


@pytest.mark.parametrize("how", [{}, {"first_byte_timeout": 60}])
@pytest.mark.parametrize("engine", usual([name for name in SHARED if name not in ADAPTERS]))
def test_the_time_of_the_first_byte_is_known(engine: str, how: Any, upstream: Upstream) -> None:
    records: list[Record] = []
    pool = muxcore.Pool(upstream.address, **how)
    with _served(muxcore.Relay(pool, access_log=records.append), engine) as server:
        before = time.monotonic()
        with Peer(server.addresses[0]) as client:
            there = upstream.accept()
            client.send(b"ask")
            there.read(3)
            asked = time.monotonic()
            client.pause(0.002)
            answers = time.monotonic()
            there.send(b"x")
            client.read(1)
            answered = time.monotonic()
            client.pause(0.002)
            there.send(b"y")
            client.read(1)
            there.close()
            client.read_eof()
        eventually(lambda: bool(records), "it was not logged")
    first, tick = records[0].first_byte, 0.0003  # C's is 200 us
    assert first is not None
    assert answers - asked - tick <= first <= answered - before + tick


def test_where_none_can_be_had_there_is_no_connect_time() -> None:
    records: list[Record] = []
    with refusing() as dead, _served(muxcore.Relay(dead, access_log=records.append)) as server:
        with Peer(server.addresses[0]) as client:
            client.read_end()
        eventually(lambda: bool(records), "it was not logged")
    assert (records[0].ended, records[0].connect) == ("refused", None)
    assert [each.upstream for each in records[0].tries] == [dead]


def test_a_line_has_the_fields_that_were_chosen_in_their_order(
    lines: list[str], upstream: Upstream
) -> None:
    for kind in ("text", "json"):
        log = AccessLog(kind, fields=["ended", "upstream", "tries"])
        with _served(muxcore.Relay(upstream.address, access_log=log)) as server:
            with Peer(server.addresses[0]):
                upstream.accept().close()
            eventually(lambda: bool(lines), "nothing was logged")
        line = lines.pop()
        if kind == "text":
            assert line == f"ended=closed upstream={upstream.address} tries=[]"
        else:
            assert list(json.loads(line)) == ["ended", "upstream", "tries"]


def test_the_start_is_told_where_it_is_wanted(lines: list[str], upstream: Upstream) -> None:
    log = AccessLog("json", start=True)
    with _served(muxcore.Relay(upstream.address, access_log=log)) as server:
        with Peer(server.addresses[0]) as client:
            upstream.accept().close()
            client.read_eof()
        eventually(lambda: len(lines) == 2, "not both were logged")
    start, end = map(json.loads, lines)
    assert (start["event"], start["ended"], start["upstream"]) == ("start", "", "")
    assert (end["event"], end["ended"], end["upstream"]) == ("end", "closed", upstream.address)
    assert start["id"] == end["id"]


def test_the_tries_are_data_in_json() -> None:
    record = replace(RECORD, tries=(Try("c:3", "refused", 0.25),))
    assert json.loads(as_json(record))["tries"] == [
        {"upstream": "c:3", "why": "refused", "seconds": 0.25}
    ]
    assert list(json.loads(as_json(record))) == list(FIELDS)


@pytest.mark.parametrize("fields", [(), FIELDS])
@pytest.mark.parametrize(
    "hostile",
    [HOSTILE, HOSTILE.replace(" ", "").replace('"', "").replace("\\", "").replace("=", "")],
)
def test_what_strangers_say_stays_in_its_line(fields: tuple[str, ...], hostile: str) -> None:
    texts = {name: hostile for name, value in vars_of(RECORD).items() if isinstance(value, str)}
    for event in ("start", "end"):
        record = replace(
            RECORD,
            **{**texts, "event": event},
            failures=(hostile,),
            tries=(Try(hostile, hostile, 0.0),),
        )
        for line in (as_text(record, fields), as_json(record, fields)):
            assert not [c for c in line if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"]
            line.encode("ascii", "strict")
        assert json.loads(as_json(record))["client"] == hostile
    assert as_text(replace(record, client='a" b=c'), ["client", "seconds"]) == (
        'client="a\\" b=c" seconds=0.5'
    )


def vars_of(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS}


def test_a_unix_peers_name_cannot_end_a_line(
    lines: list[str], upstream: Upstream, tmp_path: Path
) -> None:
    with _served(muxcore.Relay(upstream.address, access_log="text"), at=f"unix:{tmp_path}/l") as s:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.bind(f"{tmp_path}/evil\n127.0.0.1 forged\x1b[2J")
            client.connect(f"{tmp_path}/l")
            upstream.accept().close()
            assert client.recv(1) == b""
        eventually(lambda: bool(lines), "nothing was logged")
    assert s.stats().total == 1
    assert f"unix:{tmp_path}/evil\\n127.0.0.1 forged\\x1b[2J to" in lines[0]


@pytest.mark.parametrize("engine", usual(SHARED))
def test_those_who_are_here_are_known_once_somebody_asks(engine: str, upstream: Upstream) -> None:
    records: list[Record] = []
    relay = muxcore.Relay(upstream.address, access_log=records.append)
    relay.follow()
    with _served(relay, engine) as server:
        with Peer(server.addresses[0]) as client:
            there = upstream.accept()
            there.send(b"x")
            client.read(1)
            assert relay.clients is not None
            ((name, one),) = relay.clients.items()
            assert one.state() == "joined"
            server.call_soon_threadsafe(one.kill)
            client.read_end()
        eventually(lambda: bool(records), "it was not logged")
        assert (records[0].id, records[0].ended) == (name, "killed")
        assert relay.clients == {}


@pytest.mark.parametrize("engine", usual(SHARED))
def test_nobody_is_kept_where_nobody_asks(engine: str, upstream: Upstream) -> None:
    relay = muxcore.Relay(upstream.address)
    with _served(relay, engine) as server, Peer(server.addresses[0]) as client:
        there = upstream.accept()
        there.send(b"x")
        client.read(1)
        kept = [type(each.get_protocol()).__name__ for each in server._engine.open_transports()]
        assert relay.clients is None
        assert "_Client" not in kept


def test_what_cannot_be_logged_is_refused() -> None:
    with pytest.raises(ValueError, match="no 'who'"):
        AccessLog(fields=["who"])
    with pytest.raises(ValueError, match="list of names"):
        AccessLog(fields="client")
    with pytest.raises(ValueError, match="'text' or 'json'"):
        AccessLog("xml")
