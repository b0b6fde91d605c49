"""Servers and clients of others, and ``muxcore relay`` between them, each a process of its own.

What a test expects of the way through a relay it expects of the direct one as well, for ``way`` is
both, in turn: an expectation that only the peer's own habits break fails there, too.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.load.descriptors import take_all
from muxcore.testing.peer import DEADLINE

from .programs import Program, RelayProgram, environment, find, serves

# An address of loopback's that is this process's own: a port of it that was free a moment ago is
# free, and stays so while its server is away. No outgoing connection is given one: those come
# from 127.0.0.1.
_HOST = "127.{}.{}.{}".format(1 + (os.getpid() >> 16) % 254, *divmod(os.getpid() & 0xFFFF, 256))

_ENGINES = [
    pytest.param(
        each.name,
        marks=pytest.mark.skipif(
            not each.available or "relay" not in each.capabilities,
            reason=f"the engine {each.name} is not available: {each.reason or 'it cannot relay'}",
        ),
    )
    for each in muxcore.engines()
]


# -- what tests take


@pytest.fixture(scope="session", autouse=True)
def _many_descriptors() -> None:
    """What this process may open, the programs that it starts may, too."""
    take_all()


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Run a program to its end, which must have the expected status, and return its output.

    Bytes that are no text are surrogates in it, as ``os.fsencode`` takes them.
    """

    def run(
        program: str,
        *arguments: object,
        may_fail: bool = False,
        expected: int = 0,
        seconds: float = 3 * DEADLINE,
        **options: Any,
    ) -> str:
        command = [find(program), *map(str, arguments)]
        options = {"stderr": subprocess.PIPE, **options}
        done = subprocess.run(
            command, env=environment(), stdout=subprocess.PIPE, timeout=seconds, **options
        )
        output, complaints = os.fsdecode(done.stdout), os.fsdecode(done.stderr or b"")
        ended_well = may_fail or done.returncode == expected
        assert ended_well, f"{command} ended with status {done.returncode}: {complaints}{output}"
        return output

    return run


@pytest.fixture(scope="session")
def sha256() -> Callable[[Path], bytes]:
    """Return a file's digest: what differs in megabytes is nothing to print."""

    def sha256(path: Path) -> bytes:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    return sha256


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Program]]:
    """Start a program, which ends with the module at the latest.

    In its arguments FOLDER stands for a folder of its own; that has a file ``configuration`` with
    such a text, where FOLDER is replaced, too.
    """
    with contextlib.ExitStack() as running:

        def start(
            program: str, *arguments: str, configuration: str = "", **options: Any
        ) -> Program:
            path = find(program)
            folder = tmp_path_factory.mktemp(Path(program).name)
            (folder / "configuration").write_text(configuration.replace("FOLDER", str(folder)))
            command = [each.replace("FOLDER", str(folder)) for each in arguments]
            started = Program([path, *command], folder, **options)
            running.callback(started.end)
            return started

        yield start


@pytest.fixture(scope="module")
def serve(start: Callable[..., Program]) -> Callable[..., tuple[Program, str]]:
    """Start a server that listens at ``address``, or at one of its own; return it with that.

    It is awaited until it takes a connection, or, where that would disturb it, has said ``ready``.
    In its arguments and its configuration HOST and PORT stand for the address.
    """

    def serve(
        program: str,
        *arguments: str,
        address: str = "",
        configuration: str = "",
        ready: str = "",
    ) -> tuple[Program, str]:
        for last in (False, False, True):
            at = address or _free()
            host, port = at.split(":")
            command, (text,) = (
                [each.replace("HOST", host).replace("PORT", port) for each in texts]
                for texts in (arguments, (configuration,))
            )
            server = start(program, *command, configuration=text)
            try:
                server.until(functools.partial(serves, server, at, ready))
            except ProcessLookupError:  # its port was taken meanwhile, or it cannot run at all
                if last:
                    raise
            else:
                break
        return server, at

    return serve


def _free() -> str:
    with socket.socket() as sock:
        sock.bind((_HOST, 0))
        return muxcore.address.of_socket(sock)


@pytest.fixture(scope="module")
def redis_server(serve: Callable[..., Any]) -> Callable[..., tuple[Program, str]]:
    """Start a Redis that keeps nothing; given an address, there."""
    options = "--bind HOST --port PORT --tcp-backlog 4096 --maxclients 6000 --dir FOLDER --save"
    return functools.partial(serve, "redis-server", *options.split(), "")


_NGINX = """\
daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr error;
worker_rlimit_nofile 4096;
events { worker_connections 2000; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    client_max_body_size 0;
    client_body_timeout 600s;
    send_timeout 600s;
    server {
        listen HOST:PORT TLS;
        root FILES;
        location /put/ { dav_methods PUT; create_full_put_path on; }
    }
}
"""


@pytest.fixture(scope="module")
def nginx(
    serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[Program, str, Path]]]:
    """Start an nginx that serves the files of a folder, and takes others by PUT under ``/put/``.

    Given a certificate and its key, over TLS. Returns it, its address, and the folder. It must have
    no error to tell of.
    """
    started: list[Program] = []

    def start(*tls: Path) -> tuple[Program, str, Path]:
        files = tmp_path_factory.mktemp("files")
        secure = "ssl; ssl_certificate {}; ssl_certificate_key {}".format(*tls) if tls else ""
        text = _NGINX.replace("TLS", secure).replace("FILES", str(files))
        options = ("-p", "FOLDER", "-e", "stderr", "-c", "FOLDER/configuration")
        server, address = serve("nginx", *options, configuration=text)
        started.append(server)
        return server, address, files

    yield start
    assert [each.complaints.read_text() for each in started] == [""] * len(started)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Callable[..., RelayProgram]]:
    """Start a relay: engine, upstreams, options. At its end all must have gone well."""
    started: list[RelayProgram] = []
    numbers = itertools.count()

    def start(engine: str, *upstreams: str, options: tuple[str, ...] = ()) -> RelayProgram:
        folder = tmp_path / f"relay{next(numbers)}"
        folder.mkdir()
        started.append(RelayProgram(folder, engine, *upstreams, *options))
        return started[-1]

    yield start
    statuses = [each.end() for each in started]
    assert statuses == [0] * len(started), [each.said() for each in started]


class Way:
    """The address to connect to for a server's: the server's own, or that of a relay to it.

    Attributes:
        relays: those that were started.
    """

    def __init__(self, start: Callable[[str, tuple[str, ...]], RelayProgram] | None) -> None:
        self._start = start
        self.relays: list[RelayProgram] = []

    def __call__(self, server: str, *options: str) -> str:
        if self._start is None:
            return server
        self.relays.append(self._start(server, options))
        return self.relays[-1].address


@pytest.fixture(params=_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine's name, in turn."""
    return str(request.param)


@pytest.fixture(params=["direct", *_ENGINES])
def way(request: pytest.FixtureRequest, relay: Callable[..., RelayProgram]) -> Iterator[Way]:
    """The direct way and, in turn, that through each engine. Its relay has nothing to complain."""
    direct = request.param == "direct"
    way = Way(None if direct else lambda to, options: relay(request.param, to, options=options))
    yield way
    assert [each.complaints.read_text() for each in way.relays] == [""] * len(way.relays)
