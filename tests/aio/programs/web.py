"""What clients of a web server see: the same requests to whichever serves, with httpx and by hand.

The server answers ``/hello``, ``/echo``, ``/large``, ``/chunks``, ``/slow`` and ``/fails``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx

LARGE = 80 << 20  # bytes: more than Limits.write_buffer
UPLOAD = 24 << 20  # bytes: more than all buffers on the way
CHUNKS = [bytes([65 + number % 26]) * (1 + number * 97) for number in range(200)]
MANY = 200  # connections

Seen = dict[str, Any]
_VARIES = re.compile(rb"^(date|server): .*\r\n", re.IGNORECASE | re.MULTILINE)


def digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


def what(answer: httpx.Response) -> Any:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, digest(answer.content)


async def by_hand(host: str, port: int, sent: bytes, *, ends: bool = False) -> bytes:
    """Send some bytes, and return all that comes until the server closes, without what varies."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(sent)
    if ends:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return _VARIES.sub(b"", answer)


async def pieces(size: int) -> AsyncIterator[bytes]:
    """Yield an upload in pieces: httpx sends it chunked."""
    for start in range(0, size, 1 << 20):
        yield bytes([start >> 20 & 255]) * (1 << 20)


async def seen_by_clients(host: str, port: int) -> Seen:
    """Ask for everything, but ``/slow``."""
    seen: Seen = {}
    get = b"GET %s HTTP/1.1\r\nHost: here\r\n%s\r\n"
    last = b"Connection: close\r\n"
    options: dict[str, Any] = {"base_url": f"http://{host}:{port}", "timeout": 60}
    options["trust_env"] = False  # no proxies
    async with httpx.AsyncClient(**options) as client:
        for path in ("/hello", "/large", "/chunks", "/fails", "/nowhere"):
            seen[path] = what(await client.get(path))
        peers = {(await client.get("/peer")).text for _ in range(5)}
        seen["connections of five requests"] = len(peers)
        seen["upload"] = what(await client.post("/echo", content=bytes(UPLOAD)))
        seen["chunked upload"] = what(await client.post("/echo", content=pieces(UPLOAD)))
        seen["empty"] = what(await client.post("/echo", content=b""))
    seen["pipelined"] = await by_hand(
        host, port, get % (b"/hello", b"") * 3 + get % (b"/chunks", b"") + get % (b"/hello", last)
    )
    seen["byte by byte"] = await slowly(host, port, get % (b"/hello", last))
    seen["1.0"] = await by_hand(host, port, b"GET /hello HTTP/1.0\r\n\r\n")
    seen["nonsense"] = await by_hand(host, port, b"\x16\x03\x01\x00nonsense\r\n\r\n")
    seen["half-closed"] = await by_hand(host, port, get % (b"/hello", last), ends=True)
    limits = httpx.Limits(max_connections=MANY, max_keepalive_connections=MANY)
    async with httpx.AsyncClient(limits=limits, **options) as client:
        posts = (client.post("/echo", content=bytes(size)) for size in range(MANY))
        answers = await asyncio.gather(*posts)
        seen["many"] = [what(answer) for answer in answers]
    return seen


async def slowly(host: str, port: int, sent: bytes) -> bytes:
    """Send each byte in a segment of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    for at in range(len(sent)):
        writer.write(sent[at : at + 1])
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return _VARIES.sub(b"", answer)


async def gone_in_the_middle(host: str, port: int) -> None:
    """Ask for much, take little, and reset."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
    await reader.readexactly(1000)
    writer.transport.abort()


async def is_refused(host: str, port: int) -> bool:
    """Whether a server that closes takes nobody: who waited in the backlog is reset."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionError:
        return True
    writer.close()
    return False
