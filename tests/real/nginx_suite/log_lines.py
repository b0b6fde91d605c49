"""nginx's log lines, of what ``muxcore relay`` has logged: so they say what its records know."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import muxcore

from .translating import Log

UNKNOWN = "?"  # what no record has
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_STATUS = {"refused": "502"}  # no upstream could be had


def opened(paths: Iterable[str]) -> None:
    """Make the files that have no variable in their names, as nginx does at its start."""
    for path in paths:
        if "$" not in path and path != "off":
            Path(path).touch()


def written(logs: dict[str, list[Log]], records: Iterable[str]) -> None:
    """Write a line for each connection that has ended.

    Args:
        logs: of each listener.
        records: the lines of muxcore's log.
    """
    for record in map(json.loads, records):
        for log in logs.get(record["listener"], ()):
            if log.condition not in ("", "0"):
                values = {**_values(record, log.group), **log.variables}
                with open(_text(log.path, values), "a") as file:
                    file.write(_text(log.format, values) + "\n")


def _text(text: str, values: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], UNKNOWN), text)


def _values(record: dict[str, Any], group: str) -> dict[str, str]:
    host, _, port = record["client"].rpartition(":")
    tried = [each["upstream"] for each in record["tries"]]
    reached = [record["upstream"]] if record["upstream"] else []
    had = bool(reached)
    took = record["connect"]
    ended = datetime.fromisoformat(record["time"])
    return {
        "remote_addr": host.strip("[]"),
        "remote_port": port,
        "binary_remote_addr": _binary(host.strip("[]")),
        "bytes_received": str(record["bytes_up"]),
        "bytes_sent": str(record["bytes_down"]),
        "upstream_addr": ", ".join(tried + reached) or group or "-",
        "upstream_bytes_sent": _each(tried, str(record["bytes_up"]), had),
        "upstream_bytes_received": _each(tried, str(record["bytes_down"]), had),
        "upstream_connect_time": UNKNOWN if took is None else f"{took:.3f}",
        "upstream_session_time": f"{record['seconds']:.3f}",
        "session_time": f"{record['seconds']:.3f}",
        "status": _STATUS.get(record["ended"], "200"),
        "connection": record["id"].partition("-")[2],
        "pid": record["id"].partition("-")[0],
        "msec": f"{ended.timestamp():.3f}",
        "time_iso8601": ended.isoformat(timespec="seconds"),
        "time_local": ended.strftime("%d/%b/%Y:%H:%M:%S %z"),
        "hostname": socket.gethostname().lower(),
        "nginx_version": re.sub(r"[^\d.].*", "", muxcore.__version__),
        "protocol": "TCP",
    }


def _each(tried: list[str], last: str, had: bool) -> str:
    """Return a number for each upstream; one that could not be connected to had nothing."""
    return ", ".join(["0"] * len(tried) + [last] * had)


def _binary(host: str) -> str:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            packed = socket.inet_pton(family, host)
            return "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02X}" for b in packed)
    return host
