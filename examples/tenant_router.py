"""One PostgreSQL port for many tenants, told apart by the database that a client asks for.

    python examples/tenant_router.py 9000 examples/tenants.toml
    psql 'host=127.0.0.1 port=9000 dbname=acme user=ann'

The first packet of a client names its database. Where that database is has to be looked up, and a
lookup takes time: so the decision is a coroutine. The session itself is then moved by the engine.

The session is not encrypted, and the servers authenticate: the router only reads who asks for what.
A request to cancel a query names no database, and is not passed on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import sys
import tomllib
from pathlib import Path

import muxcore
import muxcore.aio as mux
from muxcore.parsers import PostgresStartup

DECISION_TIMEOUT = 10  # s for the client's first words, the lookup and the connect together
CONNECT_TIMEOUT = 2  # s that one server of a tenant may take

# SQLSTATEs: PostgreSQL's documentation, appendix A
NO_SUCH_DATABASE, CANNOT_CONNECT_NOW = "3D000", "57P03"


class Directory:
    """Who the tenants are: the place of your own database, your etcd or your HTTP API.

    The router asks it one thing, ``await directory.servers_of(database)``. This one reads a file,
    each time: a tenant may be added while the router runs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def servers_of(self, database: str) -> tuple[str, ...]:
        """Return where a database is; nothing where it is nobody's.

        Raises:
            OSError, ValueError: it cannot be looked up.
        """
        tenants = await asyncio.to_thread(self._read)  # to read here would hold up the loop
        servers = tenants.get(database, [])
        if not isinstance(servers, list):
            raise ValueError(f"{self._path}: {database} is {servers!r}, not a list of addresses")
        return tuple(servers)

    def _read(self) -> dict[str, object]:
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise ValueError(f"{self._path}: {exc}") from exc


@functools.lru_cache(maxsize=10_000)
def pool(servers: tuple[str, ...]) -> mux.Pool:
    """Return the pool of these servers, always the same: it remembers which of them fails."""
    return mux.Pool(*servers, connect_timeout=CONNECT_TIMEOUT)


async def handle(directory: Directory, conn: mux.Connection) -> None:
    """Serve one client: a task of the loop, from its first byte to its last."""
    try:
        async with asyncio.timeout(DECISION_TIMEOUT):
            startup = await startup_of(conn)
            if startup.database is None:  # it is a request to cancel a query
                return
            servers = await directory.servers_of(startup.database)
            if not servers:
                why = f'database "{startup.database}" does not exist'
                await answer(conn, mux.postgres_error(NO_SUCH_DATABASE, why), ascii(why))
                return
            upstream = await pool(servers).connect()
    except mux.EndOfStream:  # it has left before it asked for anything, as a health check does
        return
    except mux.ParseError as exc:  # it does not speak PostgreSQL, or not as it should
        await answer(conn, exc.answer, exc)
        return
    except (OSError, ValueError) as exc:  # NoUpstream, TimeoutError, or the lookup has failed
        why = "the database cannot be reached now"
        await answer(
            conn, mux.postgres_error(CANNOT_CONNECT_NOW, why), str(exc) or type(exc).__name__
        )
        return
    end = await conn.relay(upstream)  # from here on, no byte of it in Python
    print(
        f"{end.client} to {end.upstream}: {startup.user!a} on {startup.database!a}, "
        f"{end.bytes_up} bytes up, {end.bytes_down} down, {end.seconds:.3f} s, {end.reason}",
        flush=True,
    )


async def startup_of(conn: mux.Connection) -> PostgresStartup:
    """Return the client's startup, which stays in the connection: the server is to read it too."""
    while True:
        startup = await conn.peek(mux.postgres_startup)
        if startup.kind not in ("ssl", "gss"):
            return startup
        await conn.receive_exactly(startup.size)
        await conn.send(b"N")  # no encryption here: it goes on in the clear, or leaves


async def answer(conn: mux.Connection, error: bytes, why: object) -> None:
    """Tell a client that it cannot be served, and the operator why."""
    print(f"{conn.peer}: {why}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # it may be gone
        await conn.send(error)


async def serve(address: str, directory: Directory, engine: str | None) -> None:
    await directory.servers_of("")  # what is wrong with the file is told before anybody comes
    handler = functools.partial(handle, directory)
    async with mux.serve(handler, address, engine=engine) as server:
        print(f"listening on {server.addresses[0]}", flush=True)
        await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description="Route PostgreSQL clients by their database.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("tenants", metavar="FILE", type=Path, help="such as tenants.toml")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.address, Directory(options.tenants), options.engine))
    except (muxcore.MuxcoreError, OSError, ValueError) as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
