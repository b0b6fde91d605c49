"""What a server counts, as Prometheus reads it.

The text format 0.0.4, or OpenMetrics 1.0 for who asks for it; names and units by the conventions of
both: ``_total`` for counters, seconds and bytes. Labels are what the operator has named, so their
number is bounded: pools, upstreams, listeners, workers, reasons; never a client.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

STATES = ("up", "resting", "ejected", "probing", "failing", "out")

_PIECE = 200  # lines at once: a third of a millisecond

_Sample = tuple[dict[str, str], float | int]


def pieces(status: dict[str, Any], pools: list[dict[str, Any]], *, openmetrics: bool) -> Any:
    """Yield the text in pieces, between which others may have the interpreter.

    Args:
        status, pools: as of ``Operations``.
        openmetrics: in that format.
    """
    lines: list[str] = []
    for name, kind, what, samples in _families(status, pools):
        counter = kind == "counter"
        family = name.removesuffix("_total") if openmetrics and counter else name
        lines += [f"# HELP {family} {what}", f"# TYPE {family} {kind}"]
        for labels, value in samples:
            lines.append(f"{name}{_labels(labels)} {value}")
            if len(lines) >= _PIECE:
                yield "\n".join(lines) + "\n"
                lines = []
    if openmetrics:
        lines.append("# EOF")
    yield "\n".join(lines) + "\n"


def _families(
    status: dict[str, Any], pools: list[dict[str, Any]]
) -> Iterator[tuple[str, str, str, Iterable[_Sample]]]:
    """Yield each as name, kind, meaning, samples.

    Samples of upstreams are made one at a time: thousands at once would have Python look for
    garbage more often, which takes 30 ms where there are 8,000 connections.
    """

    def one(value: Any) -> list[_Sample]:
        return [({}, value)]

    info = {"version": status["version"], "engine": status["engine"]}
    yield "muxcore_build_info", "gauge", "Which muxcore this is.", [(info, 1)]
    started = one(round(start_time(), 3))
    yield "process_start_time_seconds", "gauge", "When the process began, since 1970.", started
    yield "muxcore_ready", "gauge", "Whether it takes new clients.", one(int(status["ready"]))
    drains = one(int(status["draining"]))
    yield "muxcore_draining", "gauge", "Whether it waits for the last clients.", drains
    yield (
        "muxcore_listener",
        "gauge",
        "An address that is listened on.",
        [({"listener": each}, 1) for each in status["listening"]],
    )
    yield "muxcore_connections", "gauge", "Clients that are connected.", one(status["open"])
    came = one(status["total"])
    yield "muxcore_connections_accepted_total", "counter", "Clients that have come.", came
    outgoing = one(status["outgoing"])
    yield "muxcore_outgoing_connections", "gauge", "Connections to upstreams.", outgoing
    received = one(status["bytes_in"])
    yield "muxcore_received_bytes_total", "counter", "Bytes received, from both sides.", received
    sent = one(status["bytes_out"])
    yield "muxcore_sent_bytes_total", "counter", "Bytes sent, to both sides.", sent
    yield (
        "muxcore_errors_total",
        "counter",
        "What has ended or hindered connections.",
        [({"kind": kind}, number) for kind, number in sorted(status["errors"].items())],
    )
    yield (
        "muxcore_decisions_total",
        "counter",
        "Clients by what a service decided of them.",
        [
            ({"service": service, "reason": reason}, number)
            for service, reason, number in status["counts"]
        ],
    )
    yield (
        "muxcore_loop_lag_seconds",
        "gauge",
        "How late the loop is, on average.",
        [
            ({"worker": name}, round(lag, 6))
            for name, lag in {each["worker"]: each["lag"] for each in status["processes"]}.items()
        ],
    )
    yield (
        "muxcore_worker_up",
        "gauge",
        "Whether the process answers.",
        [({"worker": name}, up) for name, up in status["up"].items()],
    )
    yield (
        "muxcore_pool_queue",
        "gauge",
        "Clients that wait for a place.",
        [({"pool": pool["pool"]}, pool["queue"]) for pool in pools],
    )
    yield (
        "muxcore_pool_refused_total",
        "counter",
        "Clients that it could give no upstream.",
        [
            ({"pool": pool["pool"], "reason": reason}, number)
            for pool in pools
            for reason, number in pool["refused"].items()
        ],
    )
    upstreams = [
        ({"pool": pool["pool"], "upstream": each["upstream"]}, each)
        for pool in pools
        for each in pool["upstreams"]
    ]
    yield (
        "muxcore_upstream_state",
        "gauge",
        "In how many processes it is in a state.",
        (
            (labels | {"state": state}, each["states"].get(state, 0))
            for labels, each in upstreams
            for state in STATES
        ),
    )
    for name, kind, what in (
        ("weight", "gauge", "Its share of the clients."),
        ("active", "gauge", "Clients that it has."),
        ("total", "counter", "Clients that it has had."),
        ("failed", "counter", "Connections to it that did not come about."),
        ("unanswered", "counter", "Clients that it took and did not answer."),
    ):
        called = "muxcore_upstream_" + {"total": "connections"}.get(name, name)
        suffix = "_total" if kind == "counter" else ""
        yield called + suffix, kind, what, ((labels, each[name]) for labels, each in upstreams)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@functools.cache  # what is no other at each scrape, however the clock is set: "it was restarted"
def start_time() -> float:
    """Return when this process began, in seconds since 1970: proc(5), starttime."""
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - ago
