"""``muxcore admin``: see and steer a server that was started with ``--admin``."""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from muxcore._near import near
from muxcore.cli._arguments import count, duration, refuse
from muxcore.services.relay.access_log import printable

_EXAMPLES = """\
examples:
  muxcore admin /run/relay.admin status
  muxcore admin /run/relay.admin connections --upstream db1:5432 --older 10m
  muxcore admin /run/relay.admin kill --client 192.0.2.0/24
  muxcore admin /run/relay.admin drain db1:5432      # nobody new; those who are there stay
  muxcore admin /run/relay.admin weight db2:5432 50
"""
_BEGINS = 5.0  # s until an answer begins: milliseconds, or two seconds where a worker hangs
_PATIENCE = 40.0  # s for all else: an answer has 30, and that to a change begins with its end
_FILTERS = ("pool", "upstream", "client", "older")
_ABOUT = {
    "drain": "give an upstream nobody new; its clients stay",
    "ready": "let it have clients again",
    "remove": "take an upstream away; its clients stay",
}


class Unreachable(Exception):
    """Nobody answers there; why, in words."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "admin", help="see and steer a server that has --admin", epilog=_EXAMPLES
    )
    parser.add_argument("socket", metavar="SOCKET", help="what --admin was given")
    parser.add_argument("--json", action="store_true", help="what the server says, as it is")
    operations = parser.add_subparsers(metavar="COMMAND", required=True, dest="operation")
    _add(operations, "status", _show_status, "what the server is doing")
    _add(operations, "pools", _show_pools, "each upstream: its state, its clients")
    _add_filters(_add(operations, "connections", _show_connections, "who is connected"))
    kill = _add(operations, "kill", _show_killed, "end connections")
    kill.add_argument("id", metavar="ID", nargs="*", help="as `connections` and the log have it")
    _add_filters(kill)
    for name, what in _ABOUT.items():
        _add_upstream(_add(operations, name, _show_done, what))
    weight = _add(operations, "weight", _show_done, "change an upstream's share of the clients")
    _add_upstream(weight)
    weight.add_argument("weight", metavar="N", type=count, help="from 1 to 256")
    add = _add(operations, "add", _show_done, "add an upstream")
    _add_upstream(add)
    add.add_argument("--weight", metavar="N", type=count, help="its share; default: 1")
    add.add_argument("--backup", action="store_true", help="it serves while no other is up")
    _add(operations, "config", None, "what the server was configured with")
    _add(operations, "metrics", None, "what Prometheus reads")


def _add(
    operations: Any, name: str, show: Callable[[Any], Iterable[str]] | None, what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = operations.add_parser(name, help=what)
    parser.set_defaults(run=run, show=show)
    parser.add_argument(  # wherever it is said
        "--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    return parser


def _add_upstream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("upstream", metavar="UPSTREAM", help="its address, as `pools` has it")
    parser.add_argument("--pool", metavar="NAME", help="of which pool, where there are several")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", metavar="NAME", help="those of a pool")
    parser.add_argument("--upstream", metavar="UPSTREAM", help="those of an upstream")
    parser.add_argument("--client", metavar="NET", help="those of a network, or unix")
    parser.add_argument("--older", metavar="TIME", type=duration, help="those that are older")


def run(options: argparse.Namespace) -> int:
    operation = options.operation
    given = {
        name: value
        for name in (*_FILTERS, "weight", "backup")
        if (value := getattr(options, name, None)) is not None and value is not False
    }
    if operation == "kill":
        if options.id:
            given["id"] = ",".join(options.id)
        elif not given:
            refuse(options, "kill needs an ID, or --pool, --upstream, --client or --older")
    seen = operation in ("status", "pools", "connections", "config", "metrics")
    target = f"/{operation}" + ("?" + urlencode(given) if given else "")
    try:
        status, text = ask(options.socket, "GET" if seen else "POST", target)
    except Unreachable as exc:
        print(f"muxcore: {exc}", file=sys.stderr)
        return 1
    if status != http.client.OK:
        why = json.loads(text)["error"] if text.startswith("{") else text
        print(f"muxcore: {printable(why)}", file=sys.stderr)
        return 1
    if options.json or options.show is None:
        print(text, end="")
        return 0
    answer = json.loads(text)
    for line in options.show(answer):
        print(line)
    complaints = [*answer.get("missing", ()), *_not_found(options, answer)]
    for why in complaints:
        print(f"muxcore: {printable(why)}", file=sys.stderr)
    return 1 if complaints else 0


def _not_found(options: argparse.Namespace, answer: dict[str, Any]) -> Iterable[str]:
    """Yield what was asked for by name, and is not there: a name is soon mistyped."""
    ids = getattr(options, "id", None)
    if ids and answer["killed"] < len(set(ids)):
        yield f"{len(set(ids)) - answer['killed']} of these are not connected (any more)"
    if answer.get("killed") or answer.get("connections"):
        return
    wanted = {name: getattr(options, name, None) for name in ("pool", "upstream")}
    if options.operation not in ("connections", "kill") or not any(wanted.values()):
        return
    pools = json.loads(ask(options.socket, "GET", "/pools")[1])["pools"]
    there = {
        "pool": [pool["pool"] for pool in pools],
        "upstream": [each["upstream"] for pool in pools for each in pool["upstreams"]],
    }
    for name, value in wanted.items():
        if value is not None and value not in there[name]:
            yield f"there is no {name} {value!r}{near(value, there[name])}"


def ask(path: str, method: str, target: str) -> tuple[int, str]:
    """Return status and text of what an admin socket answers.

    Whether anybody answers is found out before a change is asked for: a process that is stopped
    would make it whenever it goes on, and who asked was told that it did not answer.

    Raises:
        Unreachable: nobody does.
    """
    if method == "POST":
        ask(path, "HEAD", "/readyz")
    path = path.removeprefix("unix:")
    waits = _PATIENCE if method == "POST" else _BEGINS
    connection = _Connection(path, waits)
    try:
        connection.request(method, target)
        sock = connection.sock
        response = connection.getresponse()
        waits = _PATIENCE
        sock.settimeout(waits)
        return response.status, response.read().decode()
    except FileNotFoundError:
        why = (
            "there is no such file: was the server started with --admin? If the file was removed, "
        )
        why += "a restart makes it anew (muxcore reload, SIGUSR2)"
    except ConnectionRefusedError:
        why = "nobody listens there any more"
    except PermissionError:
        why = "it is for its owner alone (mode 0600): be who the server runs as, or root"
    except (TimeoutError, BlockingIOError):  # or so many wait already
        why = f"no answer within {waits:g} s: its process is stopped, hangs, or gets no CPU. "
        why += "See its state (ps -o pid,stat,wchan,args): SIGCONT lets one go on that is stopped "
        why += "(T), and one that hangs for good hears SIGKILL alone"
        if method == "POST":
            why += ". The change may have been made, or be made yet: look before you repeat it"
    except (OSError, http.client.HTTPException) as exc:
        why = f"this is no admin socket, or it has ended: {exc or type(exc).__name__}"
    finally:
        connection.close()
    raise Unreachable(f"{printable(path)}: {why}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("admin", timeout=timeout)
        self._path = f"\0{path[1:]}" if path.startswith("@") else path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


# -- for people


def _show_status(status: dict[str, Any]) -> Iterable[str]:
    state = "draining" if status["draining"] else "ready" if status["ready"] else "not ready"
    uptime = _how_long(round(status["uptime"]))
    yield f"muxcore {status['version']}, engine {status['engine']}, pid {status['pid']}: {state}"
    yield f"up for {uptime}, listening on {', '.join(status['listening'])}"
    lag = "not known" if status["lag"] is None else f"{status['lag'] * 1000:.1f} ms"
    yield f"{status['open']} connections, {status['total']} so far; the loop's lag: {lag}"
    yield f"{status['bytes_in']} bytes received, {status['bytes_out']} sent"
    if status["errors"]:
        yield "errors: " + ", ".join(f"{n} {kind}" for kind, n in status["errors"].items())
    for service, reason, number in status["counts"]:
        yield f"{service}: {number} {reason}"
    if status["workers"]:
        yield from _table(
            ("worker", "pid", "connections", "lag"),
            [
                (each["worker"], each["pid"], each["connections"], f"{each['lag'] * 1000:.1f} ms")
                for each in status["processes"]
            ],
        )
    yield from _table(
        names := ("pool", "upstreams", "up", "active", "queue", "refused"),
        [tuple(each[name] for name in names) for each in status["pools"]],
    )


def _how_long(seconds: int) -> str:
    """Return a time in its two largest units: ``12d 3h``, ``59m 59s``, ``4s``."""
    units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)]
    largest = next((at for at, (_, size) in enumerate(units) if seconds >= size), len(units) - 1)
    shown = []
    for name, size in units[largest : largest + 2]:
        shown.append(f"{seconds // size}{name}")
        seconds %= size
    return " ".join(shown)


def _show_pools(answer: dict[str, Any]) -> Iterable[str]:
    names = ("upstream", "state", "weight", "active", "total", "failed", "unanswered")
    yield from _table(
        ("pool", *names, "for", "role", "why"),
        [
            (
                *(pool["pool"], *(each[name] for name in names)),
                *(f"{each['changed_ago']:.0f}s", "backup" if each["backup"] else "", each["why"]),
            )
            for pool in answer["pools"]
            for each in pool["upstreams"]
        ],
    )


def _show_connections(answer: dict[str, Any]) -> Iterable[str]:
    names = ("id", "state", "client", "listener", "pool", "upstream")
    yield from _table(
        (*names, "age", "up", "down"),
        [
            (
                *(each[name] for name in names),
                f"{each['seconds']:.1f}s",
                each["bytes_up"],
                each["bytes_down"],
            )
            for each in answer["connections"]
        ],
    )


def _show_killed(answer: dict[str, Any]) -> Iterable[str]:
    yield f"{answer['killed']} killed"


def _show_done(answer: dict[str, Any]) -> Iterable[str]:
    return ()


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterable[str]:
    """Yield rows in columns as wide as they need; what strangers named stays in its cell."""
    cells = [list(names), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        columns = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in columns).rstrip()
