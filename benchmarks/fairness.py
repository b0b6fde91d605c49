"""How much one client that floods a server costs the quiet ones beside it.

A hundred clients send a message now and then, at random, and each is timed from when it was due.
They do so once among themselves, and once while one more connection sends without a pause and takes
what comes back as fast as it can. Each server is started anew for each block, and warmed.

The flooder is a process of its own on the client's core, of a class that runs only where nobody
else wants to (SCHED_IDLE, sched(7)): on two cores the quiet clients would else wait for it, and not
for the server. They run in the real-time class, where that is allowed. How late the client itself
was stands beside the latency.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from muxcore.compare import accounting
from muxcore.compare.rounds import explain
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, client_core, pin
from muxcore.compare.servers import command as guarded
from muxcore.compare.warming import warm
from muxcore.load import Histogram, LoadConfig, LoadResult, generator, numeric, window

_QUIET: dict[str, Any] = {
    "connections": 100,
    "rate": 2_000.0,
    "poisson": True,
    "reply_timeout": 10.0,
}
_WINDOW = 0.25  # s: 500 messages
_FLOOD = ("--workload", "bulk", "--connections", "1", "--warmup", "0", "--duration", "3600")
_BEGUN = 0.5  # s of CPU that the flood has spent when it is under way: its start takes 0.2
_TRIES = 1000  # windows of 0.05 s that it may take to begin: ten, unless the machine is busy


def measure(subjects: Sequence[Subject], *, rounds: int, blocks: int) -> list[dict[str, Any]]:
    """Measure each server; return a row of figures for each, as JSON takes it.

    Args:
        subjects: echo servers.
        rounds: windows with and without the flood, in all.
        blocks: fresh starts.
    """
    rows = []
    for subject in subjects:
        quiet, flooded, floods = [], [], []
        stopped = ""
        for _ in range(blocks):
            try:
                with client_core(), ServerProcess(subject) as server:
                    alone, beside, flood = _block(server, max(rounds // blocks, 1))
            except (ServerFailed, _Failed) as exc:
                stopped = str(exc)
                break
            quiet.append(alone)
            flooded.append(beside)
            floods.append(flood)
        rows.append(_row(subject.name, quiet, flooded, floods, stopped))
    return rows


HEAD = [
    "100 quiet clients of",
    "p50 us",
    "p99",
    "p50 beside a flood",
    "p99",
    "in blocks",
    "p99 / p99",
    "flood MB/s",
    "client lag p99",
]


def line(row: dict[str, Any]) -> list[str]:
    """Return a row of figures as it stands in a table, under ``HEAD``."""
    alone, beside = row["alone"], row["beside"]
    return [
        row["subject"],
        f"{alone['p50_us']:,.0f}",
        f"{alone['p99_us']:,.0f}",
        f"{beside['p50_us']:,.0f}",
        f"{beside['p99_us']:,.0f}",
        f"{beside['p99_least_us']:,.0f} to {beside['p99_most_us']:,.0f}",
        f"x{row['ratio']:.1f}",
        f"{row['flood_megabytes_per_second']:,.0f}",
        f"{beside['lag_p99_us']:,.0f}",
    ]


class _Failed(Exception):
    """A server that gave wrong answers or none."""


def _block(server: ServerProcess, rounds: int) -> tuple[LoadResult, LoadResult, float]:
    """Return the windows without and with the flood, and the flood's MB/s each way."""
    _right(warm(server.address, _QUIET))
    config = LoadConfig(address=numeric(server.address), **_QUIET)
    with contextlib.closing(generator(config)) as clients:
        _right(window(clients, 0.0, _WINDOW))  # connects; its figures are not used
        alone = _windows(clients, rounds)
        with _flood(server) as flood:
            for _ in range(_TRIES):
                _right(window(clients, 0.0, 0.05))
                if accounting.cpu_ns(flood.pid) > _BEGUN * 1e9:
                    break
            else:
                raise _Failed("the flood did not begin")
            os.sched_setscheduler(flood.pid, os.SCHED_IDLE, os.sched_param(0))
            beside = _windows(clients, rounds)
            rate = _ended(flood)
    return alone, beside, rate


def _windows(clients: Any, rounds: int) -> LoadResult:
    with _prompt():
        whole = _right(window(clients, 0.02, _WINDOW))
        for _ in range(rounds - 1):
            whole.merge(_right(window(clients, 0.02, _WINDOW)))
    return whole


@contextlib.contextmanager
def _prompt() -> Iterator[None]:
    """Let this process run as soon as it has something to do, where that is allowed.

    A kernel that preempts lazily lets even the flooder go on until the next tick: 4 ms, which would
    be the quiet clients' latency. A real-time process waits for nobody (SCHED_FIFO, sched(7)).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _right(result: LoadResult) -> LoadResult:
    if not result.ok:
        raise _Failed(explain(result))
    return result


@contextlib.contextmanager
def _flood(server: ServerProcess) -> Iterator[subprocess.Popen[bytes]]:
    load = [sys.executable, "-m", "muxcore", "load", server.address, *_FLOOD, "--json"]
    flood = subprocess.Popen(
        guarded(load),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        pin(flood.pid, server=False)
        yield flood
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(flood.pid, signal.SIGKILL)
        flood.communicate()


def _ended(flood: subprocess.Popen[bytes]) -> float:
    os.sched_setscheduler(flood.pid, os.SCHED_OTHER, os.sched_param(0))  # so that it hears of it
    flood.send_signal(signal.SIGTERM)  # it ends early, with its result
    assert flood.stdout is not None
    said = flood.stdout.read()
    try:
        found = json.loads(said)
    except ValueError:
        raise _Failed(f"the flood ended: {said.decode(errors='replace').strip()}") from None
    if found["errors"]["corrupt"]:
        raise _Failed(f"the flood: {found['first_error']}")
    return float(found["megabytes_per_second"])


def _row(
    name: str,
    quiet: Sequence[LoadResult],
    flooded: Sequence[LoadResult],
    floods: Sequence[float],
    stopped: str,
) -> dict[str, Any]:
    if stopped or not quiet:
        return {"subject": name, "stopped": stopped or "nothing was measured"}
    alone, beside = _figures(quiet), _figures(flooded)
    return {
        "subject": name,
        "stopped": "",
        "alone": alone,
        "beside": beside,
        "ratio": beside["p99_us"] / alone["p99_us"],
        "flood_megabytes_per_second": statistics.median(floods),
    }


def _figures(blocks: Sequence[LoadResult]) -> dict[str, float]:
    whole, lag = Histogram(), Histogram()
    for each in blocks:
        whole.merge(each.latency)
        lag.merge(each.lag)
    p99 = [each.latency.percentile(99) / 1000 for each in blocks]
    return {
        "messages": sum(each.answered for each in blocks),
        "p50_us": whole.percentile(50) / 1000,
        "p99_us": whole.percentile(99) / 1000,
        "p99_least_us": min(p99),
        "p99_most_us": max(p99),
        "lag_p99_us": lag.percentile(99) / 1000,
    }
