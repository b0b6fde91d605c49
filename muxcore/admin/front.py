"""What is asked by HTTP/1.1: a request a connection, and the answer in pieces.

Nobody can hold it up: a head has to come in 5 s and has at most 16 KiB, an answer is taken within
30 s and is made while it is taken. There are no bodies in requests: what is meant stands in the
target.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from ipaddress import ip_network
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import muxcore.aio as mux
from muxcore.abc import logger
from muxcore.admin import metrics
from muxcore.admin.operations import Operations
from muxcore.admin.peers import Refused, Unanswered
from muxcore.limits import seconds
from muxcore.parsers.http import HttpHead, http_head
from muxcore.services.relay.access_log import printable

HEAD = 5.0  # s
ANSWER = 30.0  # s
_PIECE = 8192  # characters of an answer at once: it takes less than a millisecond to make them
_JSON = "application/json"
_PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _network(text: str) -> str:
    if text != "unix":
        ip_network(text)  # refused before the answer begins
    return text


def _yes(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


# What may stand in a target, and what reads it.
_WANTED: dict[str, Callable[[str], Any]] = {
    "pool": str,
    "upstream": str,
    "client": _network,
    "older": lambda text: seconds("older", float(text)),  # of "nan" nobody would be younger
    "id": str,
}


_UPSTREAM: dict[str, Callable[[str], Any]] = {"upstream": str}
# Of each change: what has to be said, and what may be, with what reads it.
_CHANGES: dict[str, tuple[tuple[str, ...], dict[str, Callable[[str], Any]]]] = {
    "weight": (("upstream", "weight"), {**_UPSTREAM, "weight": int}),
    "drain": (("upstream",), _UPSTREAM),
    "ready": (("upstream",), _UPSTREAM),
    "add": (("upstream",), {**_UPSTREAM, "weight": int, "backup": _yes}),
    "remove": (("upstream",), _UPSTREAM),
}


class Wrong(Exception):
    """A request that is refused: with which status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Front:
    """The handler of connections.

    Args:
        operations: what is asked.
        config: returns what the server was configured with, as text; None: it cannot tell.
        needs: pools that ``/readyz`` needs.
        all_of_it: also what is not for everybody who can reach it: who is connected, and changes.
    """

    def __init__(
        self,
        operations: Operations,
        config: Callable[[], str] | None,
        *,
        needs: Iterable[str] = (),
        all_of_it: bool,
    ) -> None:
        self._operations = operations
        self._needs = tuple(needs)
        self._config = config
        self._seen: dict[str, Callable[[dict[str, str], HttpHead], Awaitable[Any]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }
        self._changed: tuple[str, ...] = ()
        if all_of_it:
            self._seen |= {
                "/status": self._status,
                "/pools": self._pools,
                "/connections": self._connections,
                "/config": self._configured,
            }
            self._changed = ("/kill", *(f"/{name}" for name in _CHANGES))

    async def __call__(self, conn: mux.Connection) -> None:
        """Answer one connection."""
        with contextlib.suppress(OSError, TimeoutError, mux.ConnectionClosed):
            try:
                async with asyncio.timeout(HEAD):
                    head = await conn.peek(http_head)
            except mux.ParseError as exc:
                await conn.send(exc.answer)
                await conn.aclose()
                return
            except (TimeoutError, mux.EndOfStream, mux.TooLong):
                conn.abort()
                return
            try:
                async with asyncio.timeout(ANSWER):
                    await self._answer(conn, head)
                    await conn.aclose()
            except TimeoutError:
                conn.abort()  # it reads too slowly

    async def _answer(self, conn: mux.Connection, head: HttpHead) -> None:
        try:
            status, kind, body = await self._asked(head)
        except (Wrong, Refused, Unanswered, ValueError) as exc:
            code = 503 if isinstance(exc, Unanswered) else 400
            status = exc.status if isinstance(exc, Wrong) else code
            kind, body = _JSON, [_dumped({"error": str(exc)})]
        except Exception as exc:
            logger.error("admin: %s %s failed", head.method, head.target, exc_info=exc)
            status, kind, body = 500, _JSON, [_dumped({"error": "it failed: see the log"})]
        chunked = head.version != "1.0"
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        await conn.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        if head.method == "HEAD":
            return
        async for piece in _pieces(body):
            if data := piece.encode():
                await conn.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
            await conn.send(b"0\r\n\r\n")

    async def _asked(self, head: HttpHead) -> Any:
        """Return status, type and body of the answer to a request."""
        headers = dict(head.headers)
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Wrong(413, "a request has no body here: what is meant stands in its target")
        target = urlsplit(head.target)
        query = parse_qsl(target.query, keep_blank_values=True, strict_parsing=bool(target.query))
        given = dict(query)
        if len(given) != len(query):
            raise Wrong(400, "something is given twice")
        if target.path in self._changed:
            if head.method != "POST":
                raise Wrong(405, f"{target.path} is for POST")
            return await self._change(target.path[1:], given)
        if target.path not in self._seen:
            there = ", ".join([*self._seen, *self._changed])
            raise Wrong(404, f"there is no {target.path}: there are {there}")
        if head.method not in ("GET", "HEAD"):
            raise Wrong(405, f"{target.path} is for GET")
        return await self._seen[target.path](given, head)

    # -- for everybody

    async def _livez(self, given: dict[str, str], head: HttpHead) -> Any:
        return _well(await self._operations.live())

    async def _readyz(self, given: dict[str, str], head: HttpHead) -> Any:
        return _well(await self._operations.unready(self._needs))

    async def _metrics(self, given: dict[str, str], head: HttpHead) -> Any:
        status, pools = await self._operations.status_and_pools()
        accepts = [value for name, value in head.headers if name == "accept"]
        openmetrics = any("application/openmetrics-text" in each for each in accepts)
        kind = metrics.OPENMETRICS if openmetrics else metrics.TEXT
        return 200, kind, metrics.pieces(status, pools, openmetrics=openmetrics)

    # -- for who may steer

    async def _status(self, given: dict[str, str], head: HttpHead) -> Any:
        status, pools = await self._operations.status_and_pools()
        rows = [
            {
                "pool": pool["pool"],
                "upstreams": len(pool["upstreams"]),
                "up": sum(each["state"] == "up" for each in pool["upstreams"]),
                "active": sum(each["active"] for each in pool["upstreams"]),
                "queue": pool["queue"],
                "refused": sum(pool["refused"].values()),
            }
            for pool in pools
        ]
        return 200, _JSON, [_dumped({**status, "pools": rows})]

    async def _pools(self, given: dict[str, str], head: HttpHead) -> Any:
        return 200, _JSON, _listed("pools", await self._operations.pools())

    async def _connections(self, given: dict[str, str], head: HttpHead) -> Any:
        return 200, _JSON, self._rows(_wanted(given))

    async def _rows(self, wanted: dict[str, Any]) -> AsyncIterator[str]:
        missing: list[str] = []
        between = ""
        yield '{"connections": [\n'
        async for rows in self._operations.connections(wanted, missing):
            if rows:
                yield between + ",\n".join(rows)
                between = ",\n"
        yield f'\n], "missing": {json.dumps(missing)}}}\n'

    async def _configured(self, given: dict[str, str], head: HttpHead) -> Any:
        if self._config is None:
            raise Wrong(404, "this server was configured by a program, and has no file to show")
        return 200, _PLAIN, [self._config()]

    async def _change(self, operation: str, given: dict[str, str]) -> Any:
        operations = self._operations
        if operation == "kill":
            wanted = _wanted(given)
            if not wanted:
                raise Wrong(400, "say whom: an id, or pool, upstream, client, older")
            answer = await operations.kill(wanted)
            _told(operation, given, f"{answer['killed']} killed")
            return 200, _JSON, [_dumped(answer)]
        arguments: dict[str, Any] = {"pool": given.pop("pool", "")}
        needed, taken = _CHANGES[operation]
        for name in needed:
            if name not in given:
                raise Wrong(400, f"say which {name}")
        arguments |= {name: taken[name](given.pop(name)) for name in list(given) if name in taken}
        if given:
            raise Wrong(400, f"/{operation} takes no {', '.join(given)}")
        try:
            answer = await operations.change(operation, arguments)
        except (Refused, Unanswered) as exc:
            _told(operation, arguments, str(exc))
            raise
        _told(operation, arguments, "done")
        return 200, _JSON, [_dumped(answer)]


def _well(why_not: list[str]) -> Any:
    return (503 if why_not else 200), _PLAIN, [("\n".join(why_not) or "ok") + "\n"]


def _told(operation: str, given: dict[str, Any], what: str) -> None:
    """Log what somebody has changed: who looks into the log later asks why."""
    said = " ".join(f"{name}={value}" for name, value in given.items() if value != "")
    logger.info("admin: %s %s: %s", operation, printable(said), printable(what))


def _wanted(given: dict[str, str]) -> dict[str, Any]:
    """Return which connections are meant.

    Raises:
        Wrong: something is no filter.
    """
    wanted: dict[str, Any] = {}
    for name, text in given.items():
        if name not in _WANTED:
            raise Wrong(400, f"there is no filter {name}: there are {', '.join(_WANTED)}")
        wanted[name] = _WANTED[name](text)
    if "id" in wanted:
        wanted["ids"] = wanted.pop("id").split(",")
    return wanted


def _dumped(value: Any) -> str:
    return json.dumps(value) + "\n"


def _listed(name: str, value: dict[str, Any]) -> Iterable[str]:
    """Yield an object of which one member is a long list, in pieces."""
    rest = {other: each for other, each in value.items() if other != name}
    yield json.dumps(rest)[:-1] + f', "{name}": ['
    for number, each in enumerate(value[name]):
        upstreams = each.pop("upstreams")
        yield ("," if number else "") + json.dumps(each)[:-1] + ', "upstreams": ['
        for at, upstream in enumerate(upstreams):
            yield ("," if at else "") + json.dumps(upstream)
        yield "]}"
    yield "]}\n"


async def _pieces(body: AsyncIterator[str] | Iterable[str]) -> AsyncIterator[str]:
    """Yield a body in pieces of some kilobytes, and leave the interpreter to others between."""
    gathered: list[str] = []
    size = 0
    async for each in body if isinstance(body, AsyncIterator) else _awaited(body):
        gathered.append(each)
        size += len(each)
        if size > _PIECE:
            yield "".join(gathered)
            gathered, size = [], 0
            await asyncio.sleep(0.0005)
    yield "".join(gathered)


async def _awaited(body: Iterable[str]) -> AsyncIterator[str]:
    for each in body:
        yield each
