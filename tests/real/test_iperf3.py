"""iperf3 through the relay: bulk in either direction, in both at once, and on several streams.

Three counts must agree: what iperf3's two ends say, and the relay's own in its access log. Bytes
may still be under way when iperf3's time is over: what was sent may be more than what arrived.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.real

# Control messages and parameters: some kilobytes of JSON each way.
_CONTROL = 65_536

_TRIES = 12  # until two streams come in their order


@pytest.fixture
def iperf3(serve: Callable[..., Any]) -> Callable[[], str]:
    """Start a server for one run: in between, iperf3 closes its listener and opens it anew."""
    options = "-s -1 --forceflush -B HOST -p PORT"
    return lambda: serve("iperf3", *options.split(), ready="Server listening")[1]


@pytest.mark.parametrize(
    ("options", "streams"),
    [((), 1), (("-R",), 1), (("--bidir",), 2), (("-P", "4"), 4)],
    ids=["up", "down", "both ways", "four streams"],
)
def test_what_iperf3_sends_arrives(
    way: Any,
    iperf3: Callable[[], str],
    run: Callable[..., str],
    options: tuple[str, ...],
    streams: int,
) -> None:
    for _ in range(_TRIES):
        host, port = way(iperf3(), "--access-log", "json").split(":")
        report = json.loads(run("iperf3", "-c", host, "-p", port, "-t", "1", "-J", *options))
        records = _records(way.relays[-1], streams + 1) if way.relays else []
        if not _crossed(records):
            break
    assert "error" not in report
    assert len(report["end"]["streams"]) == streams
    up, down = _sums(report["end"], reverse="-R" in options)
    for sent, arrived in (up, down):
        assert arrived <= sent
    assert up[1] + down[1] > 10_000_000  # less in a second would be a relay that stands still
    if records:
        for (sent, arrived), direction in [(up, "bytes_up"), (down, "bytes_down")]:
            assert arrived <= sum(record[direction] for record in records) <= sent + _CONTROL
        assert [record["ended"] for record in records if _total(record) < _CONTROL] == ["closed"]


def _records(relay: Any, count: int) -> list[dict[str, Any]]:
    relay.until_recorded(count)
    records: list[dict[str, Any]] = relay.records()
    return records


def _total(record: dict[str, Any]) -> int:
    return int(record["bytes_up"]) + int(record["bytes_down"])


def _crossed(records: list[dict[str, Any]]) -> bool:
    """Return whether the second stream came first.

    iperf3's server takes the first one for that which goes up. Where each connection of a relay is
    a process of its own, the second may overtake it; then both ends send on the one stream, nobody
    reads there, and on the other is nothing but the cookie that it began with.
    """
    return len(records) == 3 and sum(_total(record) < _CONTROL for record in records) == 2


def _sums(end: dict[str, Any], *, reverse: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return what was sent and what arrived, of bytes up and of bytes down."""
    there = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
    if "sum_sent_bidir_reverse" in end:
        back = end["sum_sent_bidir_reverse"]["bytes"], end["sum_received_bidir_reverse"]["bytes"]
    else:
        back = 0, 0
    return (back, there) if reverse else (there, back)
