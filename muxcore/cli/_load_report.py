"""What ``muxcore load`` says: while it runs, of its result, and of what went wrong."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from typing import Any

from muxcore import address
from muxcore.address import Address
from muxcore.compare.environment import environment
from muxcore.load import Histogram, LoadConfig, LoadResult

_ERASE = "\r\x1b[K"
_EVERY = 1.0  # s over which the live line's rate and latency are found
# Of the environment: what explains a figure, and fits a line or a few.
_WHERE = ("muxcore", "python", "kernel", "machine", "cpu", "cores", "virtual", "load_average")
_QUOTED = 100  # bytes of a request or a reply: enough to know it by
_NOBODY = tuple(map(os.strerror, (errno.ECONNREFUSED, errno.ENOENT)))  # ENOENT: a unix socket's


class Live:
    """A line on the terminal: elapsed and remaining, and of the last second rate and latency.

    Args:
        seconds: how long the window is.
        messages: after how many it ends; 0: by its time.
    """

    def __init__(self, seconds: float, messages: int) -> None:
        self._seconds = seconds
        self._messages = messages
        self._before = LoadResult("")
        self._now = ""

    def __call__(self, found: LoadResult) -> None:
        passed = found.seconds - self._before.seconds
        if passed >= _EVERY:
            rate = (found.received - self._before.received) / passed
            latency = found.latency.since(self._before.latency)
            self._before = found
            self._now = f"  {rate:,.0f}/s" + _shown(latency)
        line = f"{found.seconds:.1f} s{self._remaining(found)}{self._now}"
        if found.errors:
            line += f"  {found.errors.total():,} errors"
        width = shutil.get_terminal_size().columns - 1
        print(f"{_ERASE}{line[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        print(_ERASE, end="", file=sys.stderr, flush=True)

    def _remaining(self, found: LoadResult) -> str:
        if self._messages:
            return f", {found.received:,} of {self._messages:,}"
        return f", {max(math.ceil(self._seconds - found.seconds), 0)} s left"


def as_json(asked: str, config: LoadConfig, result: LoadResult) -> dict[str, Any]:
    """Return what ``--json`` prints; the keys are told in docs/load.md."""
    where = environment()
    return {
        "target": str(address.parse(asked)),
        **result.to_json(counts=True),
        "environment": {key: where[key] for key in _WHERE},
        "config": _described(config),
    }


def text(asked: str, config: LoadConfig, result: LoadResult) -> str:
    """Return the result for people."""
    target = _target(asked, config)
    if not result.opened and result.errors:
        return f"{target}: no connection\n  ERRORS    {_errors(asked, config, result)}"
    answered = f"{result.answered:,} of {result.sent:,} answered, {_checked(config)}"
    if result.lost:
        answered += f"; {result.lost:,} LOST"
    if result.overdue:
        answered += f"; {result.overdue:,} OVERDUE: the offered rate was not reached"
    lines = [
        f"{target}: {_work(config)}, {_mode(config)}, {config.connections} connections"
        + (f" and {config.idle} idle ones" if config.idle else "")
        + f", depth {config.depth}, {result.generator} generator, {result.seconds:.2f} s"
        + (f", ended by {result.ended_by}" if result.ended_by else ""),
        f"  on        {_environment()}",
        f"  rate      {result.rate:,.0f} messages/s, {_flow(config, result)}",
        f"  messages  {answered}",
        *_times(config, result),
    ]
    if config.request:
        wanted = f", and {_quoted(config.reply)} expected" if config.reply else ""
        lines.insert(2, f"  said      {_quoted(config.request)}{wanted}")
    if result.errors:
        lines.append(f"  ERRORS    {_errors(asked, config, result)}")
    return "\n".join(lines)


def unreached(asked: str, target: Address, error: str) -> str:
    """Tell that nobody listens, and what would; or else the error."""
    if error not in _NOBODY:
        return f"{asked}: {error}"
    there = str(target.port) if target.host == "127.0.0.1" else str(target)
    return (
        f"nothing listens on {target}: start a server there, e.g. `muxcore echo {there}` ({error})"
    )


def _target(asked: str, config: LoadConfig) -> str:
    """Return the address as it was asked for; a name with what it was found to be."""
    name, found = str(address.parse(asked)), str(config.address)
    return name if name == found else f"{name} ({found})"


def _quoted(data: bytes) -> str:
    return repr(data[:_QUOTED]) + ("…" if len(data) > _QUOTED else "")


def _work(config: LoadConfig) -> str:
    if not config.request:
        return config.workload
    what = "HTTP" if config.http else "requests"
    return what if config.workload == "echo" else f"{what}, {config.workload}"


def _errors(asked: str, config: LoadConfig, result: LoadResult) -> str:
    kinds = ", ".join(f"{count:,} x {kind}" for kind, count in result.errors.items())
    return f"{kinds}: {_problem(asked, config, result)}"


def _problem(asked: str, config: LoadConfig, result: LoadResult) -> str:
    """Return the first error in words, with what to do where that can be told."""
    if not result.opened and not result.ended_by:
        return unreached(asked, config.address, result.first_error)
    silent = not (config.request or result.answered) and not result.errors["corrupt"]
    if silent and (result.errors["timeout"] or result.errors["closed"]):
        return (
            f"{result.first_error}: no message was ever sent back; if this server does not echo, "
            "say what to send with --request, or --http"
        )
    return result.first_error


def _described(config: LoadConfig) -> dict[str, Any]:
    said = {
        name: getattr(config, name).decode("latin-1") or None
        for name in ("request", "reply", "until", "greeting")
    }
    return {
        "address": str(config.address),
        "workload": config.workload,
        "mode": config.mode,
        "connections": config.connections,
        "idle": config.idle,
        "depth": config.depth,
        "sizes": [list(each) for each in config.sizes] if not config.request else None,
        **said,
        "http": config.http,
        "rate": config.rate,
        "messages": config.messages,
        "ramp": config.ramp,
        "sources": config.sources,
    }


def _environment() -> str:
    found = environment()
    python = found["python"].split()[0]
    return (
        f"Linux {found['kernel']}, {found['cpu']} x {found['cores']}, Python {python}, "
        f"muxcore {found['muxcore']}"
    )


def _mode(config: LoadConfig) -> str:
    if not config.rate:
        return "closed loop"
    kind = "Poisson" if config.poisson else "fixed"
    return f"open loop at {config.rate:,.0f}/s ({kind})"


def _checked(config: LoadConfig) -> str:
    """Return how closely replies were looked at."""
    if config.until:
        return f"each up to {_quoted(config.until)}"
    return "each a whole HTTP reply" if config.http else "every byte compared"


def _flow(config: LoadConfig, result: LoadResult) -> str:
    seconds = result.seconds or 1.0
    back, out = result.bytes_in / seconds / 1e6, result.bytes_out / seconds / 1e6
    if not config.request:
        return f"{back:,.1f} MB/s each way"
    return f"{out:,.1f} MB/s sent, {back:,.1f} received"


def _times(config: LoadConfig, result: LoadResult) -> list[str]:
    """Return a table: a line has the unit that its median needs."""
    found = result.to_json()
    rows = [("latency", found["latency_us"], "")]
    if config.rate:
        rows.append(("lag", found["lag_us"], "  (the generator's own lateness)"))
    names = list(found["latency_us"])
    lines = ["  " + " " * 9 + "".join(f"{name:>9}" for name in names)]
    for name, times, comment in rows:
        if times["max"] is None:
            lines.append(f"  {name:<9} no message")
            continue
        unit, scale = _unit(times["p50"])
        cells = "".join(f"{_figure(times[key] / scale):>9}" for key in names)
        lines.append(f"  {name:<9}{cells} {unit}{comment}")
    return lines if result.latency.total else lines[1:]


def _shown(latency: Histogram) -> str:
    """Return the median and p99 of the live line; nothing where nothing was counted."""
    if not latency.total:
        return ""
    p50, p99 = (latency.percentile(percent) / 1000 for percent in (50, 99))
    unit, scale = _unit(p50)
    return f"  p50 {_figure(p50 / scale)} {unit}  p99 {_figure(p99 / scale)} {unit}"


def _unit(microseconds: float) -> tuple[str, float]:
    if microseconds >= 1e6:
        return "s", 1e6
    return ("ms", 1e3) if microseconds >= 1e3 else ("us", 1.0)


def _figure(value: float) -> str:
    """Write a number with three digits, or all that stand before the point."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
