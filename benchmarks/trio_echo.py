"""trio: a task per client, in structured concurrency.

python benchmarks/trio_echo.py 9000
"""

from __future__ import annotations

import trio
from _listening import announce, listener


async def echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # a reset: this client's own business


async def serve() -> None:
    plain = listener()
    plain.setblocking(False)
    announce(plain, "trio")
    await trio.serve_listeners(echo, [trio.SocketListener(trio.socket.from_stdlib_socket(plain))])


if __name__ == "__main__":
    trio.run(serve)
