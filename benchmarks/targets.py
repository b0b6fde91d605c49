"""The figures muxcore has set itself: what is measured, against what, and what is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muxcore.compare.rounds import Cell

VERB, CALLBACK = "native-epoll verb", "native-epoll callback"


@dataclass(frozen=True, slots=True)
class Target:
    """``subject`` shall do at least ``reach`` times as well as ``reference``.

    ``metric`` is "rate" (messages a second) or "cpu" (messages per second of server CPU).
    """

    cell: str
    subject: str
    reference: str
    metric: str
    reach: float


def _cell(name: str, size: int = 64, **load: Any) -> Cell:
    load = {"connections": 50, "sizes": ((size, 1.0),), "reply_timeout": 10.0} | load
    return Cell(name, load, seconds=0.1, warmup=0.02)


# A relay is judged by its CPU at the same offered rate, so its cells are open loops.
RELAY_CELLS = ("relay-50", "relay-full", "relay-bulk-1", "relay-bulk-8", "relay-churn")
CELLS = {
    "64B-1": _cell("64 B, 1 connection", connections=1),
    "64B-4": _cell("64 B, 4 connections", connections=4),
    "64B-8": _cell("64 B, 8 connections", connections=8),
    "64B-50": _cell("64 B, 50 connections"),
    "64B-1000": _cell("64 B, 1,000 connections", connections=1000),
    "64B-500": _cell("64 B, 500 connections", connections=500),
    "64B-5000": _cell("64 B, 5,000 connections", connections=5000),
    "1KiB-50": _cell("1 KiB, 50 connections", size=1024),
    "4KiB-50": _cell("4 KiB, 50 connections", size=4096),
    "16KiB-50": _cell("16 KiB, 50 connections", size=16_384),
    "64KiB-50": _cell("64 KiB, 50 connections", size=65_536),
    "16KiB-1": _cell("16 KiB, 1 connection", size=16_384, connections=1),
    "deep": _cell("64 B sixteen deep, 50 connections", depth=16),
    "relay-50": _cell("64 B relayed, 50 connections, 20,000/s", rate=20_000.0),
    "relay-full": _cell("64 B relayed, 50 connections"),
    "relay-bulk-1": _cell(
        "256 KiB relayed, 1 connection, 1,000/s", 262_144, connections=1, rate=1e3
    ),
    "relay-bulk-8": _cell(
        "256 KiB relayed, 8 connections, 2,000/s", 262_144, connections=8, rate=2e3
    ),
    "relay-churn": _cell("connect, one message relayed, close", workload="churn", sources=100),
    "churn": _cell("connect, one message, close", workload="churn", sources=100),
}

ECHO_CELLS = tuple(key for key in CELLS if key not in (*RELAY_CELLS, "churn"))

# callbacks against uvloop's Protocol echo: messages per CPU
_CALLBACKS = {
    "64B-1": 1.0,
    "64B-8": 1.0,
    "64B-50": 1.05,
    "64B-1000": 1.1,
    "64B-5000": 1.1,
    "4KiB-50": 1.0,
    "16KiB-50": 1.0,
    "64KiB-50": 1.0,
    "deep": 1.0,
    "churn": 1.0,
}

TARGETS = (
    *(Target(cell, VERB, "floor", "cpu", 0.97) for cell in ECHO_CELLS),
    *(Target(cell, CALLBACK, "uvloop", "cpu", reach) for cell, reach in _CALLBACKS.items()),
    Target("churn", VERB, "uvloop", "cpu", 1.25),
    Target("64B-1", "guest-asyncio", "asyncio", "cpu", 1.0),
    Target("64B-50", "guest-asyncio", "uvloop", "cpu", 1.0),
    Target("64B-1000", "guest-asyncio", "uvloop", "cpu", 1.05),
    Target("64B-50", "aio-asyncio", "streams-asyncio", "cpu", 1.6),
    Target("64B-50", "aio-uvloop", "streams-uvloop", "cpu", 1.3),
    Target("relay-churn", "relay-aio", "relay-streams", "cpu", 1.5),
    *(
        Target(cell, VERB, "floor", "rate", reach)
        for cell, reach in (("64B-50", 0.97), ("64B-1000", 0.97), ("churn", 0.9))
    ),
    Target("64B-50", VERB, "uvloop", "rate", 1.15),
    Target("64B-1000", VERB, "uvloop", "rate", 1.2),
    Target("64B-50", CALLBACK, "uvloop", "rate", 1.05),
    Target("64B-1000", CALLBACK, "uvloop", "rate", 1.15),
    Target("relay-50", "relay", "relay-haproxy", "cpu", 1.05),
    Target("relay-50", "relay", "relay-nginx", "cpu", 1.0),
    Target("relay-50", "relay", "relay-uvloop", "cpu", 1.2),
    Target("relay-50", "relay-router", "relay-nginx", "cpu", 1.0),
    Target("relay-full", "relay", "relay-haproxy", "rate", 1.0),
    Target("relay-full", "relay", "relay-nginx", "rate", 1.0),
    *(
        Target(cell, "relay", reference, "cpu", 1.0)
        for cell in ("relay-bulk-1", "relay-bulk-8")
        for reference in ("relay-haproxy", "relay-uvloop")
    ),
    Target("relay-churn", "relay", "relay-haproxy", "cpu", 0.5),
    # with a log, metrics, a limit and a route
    *(
        Target(cell, "relay-operated", reference, "cpu", reach)
        for cell in ("relay-50", "relay-bulk-1", "relay-bulk-8")
        for reference, reach in (
            ("relay", 0.97),
            ("relay-haproxy-operated", 1.05),
            ("relay-nginx-operated", 1.0),
        )
    ),
    Target("relay-churn", "relay-operated", "relay-haproxy-operated", "cpu", 0.6),
)

# (subject, at most so many bytes for an idle connection in the process)
MEMORY = ((VERB, 130.0), (CALLBACK, 620.0))
