"""Event loops of which every server is muxcore's: for programs that make their servers themselves.

They are asyncio's loop, or uvloop's, in everything else.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Callable
from typing import Any

from muxcore.aio.dropin import Factory, served
from muxcore.parts.transport import BaseTransport


class _Serving(asyncio.AbstractEventLoop):
    """What such a loop does otherwise; the loop that it is comes after this class."""

    async def create_server(
        self, protocol_factory: Factory, host: Any = None, port: Any = None, **options: Any
    ) -> asyncio.Server:
        return await served(super().create_server, protocol_factory, host, port, **options)

    async def create_unix_server(
        self, protocol_factory: Factory, path: Any = None, **options: Any
    ) -> asyncio.Server:
        return await served(super().create_unix_server, protocol_factory, path, **options)

    async def start_tls(
        self, transport: Any, protocol: Any, sslcontext: Any, **options: Any
    ) -> Any:
        """Have TLS from here on; for a transport of ours it is asyncio's, also on uvloop."""
        if isinstance(transport, BaseTransport):
            tls: Callable[..., Any] = asyncio.BaseEventLoop.start_tls
            return await tls(self, transport, protocol, sslcontext, **options)
        return await super().start_tls(transport, protocol, sslcontext, **options)

    async def sendfile(self, transport: Any, file: Any, *args: Any, **options: Any) -> Any:
        """Send a file; as uvloop, it does not for a transport of ours: programs do it themselves.

        Raises:
            NotImplementedError: the transport is one.
        """
        if isinstance(transport, BaseTransport):
            raise NotImplementedError("sendfile() is not there for a transport of muxcore: write()")
        return await super().sendfile(transport, file, *args, **options)


@functools.cache
def loop_class(base: type[asyncio.AbstractEventLoop]) -> type[asyncio.AbstractEventLoop]:
    """Return a class of loops that are ``base``, but for their servers."""
    return type(f"Muxcore{base.__name__}", (_Serving, base), {})


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of asyncio's, of which every server without TLS is muxcore's.

    ::

        with asyncio.Runner(loop_factory=muxcore.aio.new_event_loop) as runner:
            runner.run(main())  # whatever calls asyncio.start_server or loop.create_server

    See :func:`create_server` for what such a server is.
    """
    return loop_class(asyncio.SelectorEventLoop)()


def new_uvloop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of uvloop's, otherwise as :func:`new_event_loop`.

    Raises:
        ImportError: uvloop is not installed.
    """
    return loop_class(importlib.import_module("uvloop").Loop)()
