"""HAProxy and nginx before and behind the relay: PROXY headers say whose connection it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxcore.parsers import ProxyHeader, proxy_header
from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream

pytestmark = pytest.mark.real

_HAPROXY = """\
defaults
    mode tcp
    timeout connect 30s
    timeout client 300s
    timeout server 300s
listen it
    bind HOST:PORT BIND
    server next NEXT
"""
_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_NGINX = """\
load_module STREAM;
daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr error;
events { worker_connections 100; }
stream { server { listen HOST:PORT BIND; set_real_ip_from 127.0.0.0/8; proxy_pass NEXT; } }
"""


@pytest.fixture(scope="module")
def haproxy(serve: Callable[..., Any]) -> Callable[..., str]:
    """Start an HAProxy to an address; return its own."""

    def start(to: str, options: str = "", bind: str = "") -> str:
        text = _HAPROXY.replace("NEXT", f"{to} {options}").replace("BIND", bind)
        return str(serve("haproxy", "-db", "-f", "FOLDER/configuration", configuration=text)[1])

    return start


@pytest.fixture(scope="module")
def upstream() -> Any:
    with Upstream() as made:
        yield made


def _header(there: Peer) -> ProxyHeader | None:
    """Return the header of a connection; None: it was closed before, as one that only looks is."""
    got = b""
    while (found := proxy_header(got)) is None:
        try:
            got += there.read(1)
        except AssertionError:
            return None
    return found


def _told(upstream: Upstream, client: Peer) -> ProxyHeader:
    """Return the header by which the upstream is told of this client; it has sent "hello"."""
    while True:
        there = upstream.accept()
        found = _header(there)
        if found is not None and found.source == client.name:
            assert there.read(5) == b"hello"
            there.send(b"answer")
            assert client.read(6) == b"answer"
            there.close()
            client.read_eof()
            return found
        there.close()


_ENDS = ("--drain-idle", "close")  # connections that only looked are left
_IN = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"]


@pytest.mark.parametrize("sent", ["v1", "v2", "v2-crc32c"])
@pytest.mark.parametrize("came", _IN, ids=["v1", "v2", "v2-crc32c"])
def test_a_client_is_known_from_haproxy_through_the_relay_to_haproxy(
    engine: str, haproxy: Any, relay: Any, upstream: Upstream, came: str, sent: str
) -> None:
    if engine == "pure-process":
        pytest.skip("it has no timers")
    behind = haproxy(upstream.address, "send-proxy", "accept-proxy")
    options = ("--accept-proxy", "127.0.0.0/8", "--send-proxy", sent, *_ENDS)
    between = relay(engine, behind, options=options)
    front = haproxy(between.address, came)
    with Peer(front) as client:
        to = client.sock.getpeername()
        client.send(b"hello")
        assert _told(upstream, client).destination == to


def test_what_haproxy_tells_of_itself_is_no_client(
    engine: str, haproxy: Any, relay: Any, upstream: Upstream
) -> None:
    if engine == "pure-process":
        pytest.skip("it has no timers")
    options = ("--accept-proxy", "127.0.0.0/8", "--send-proxy", "v2", *_ENDS)
    between = relay(engine, upstream.address, options=options)
    haproxy(between.address, "send-proxy-v2 check inter 100ms")
    while True:
        with upstream.accept() as there:
            found = _header(there)
            if found is not None and found.command == "LOCAL":
                return


@pytest.mark.parametrize("place", ["front", "behind"])
def test_nginx_is_understood_and_understands(
    serve: Any, relay: Any, upstream: Upstream, place: str
) -> None:
    if not _STREAM.exists():
        pytest.skip(
            f"{_STREAM} is not there (Debian and Ubuntu: apt-get install libnginx-mod-stream)"
        )

    def nginx(to: str, bind: str = "") -> str:
        text = _NGINX.replace("NEXT", f"{to}; proxy_protocol on").replace("BIND", bind)
        text = text.replace("STREAM", str(_STREAM))
        arguments = ("-p", "FOLDER", "-e", "stderr", "-c", "FOLDER/configuration")
        return str(serve("nginx", *arguments, configuration=text)[1])

    if place == "front":
        options = ("--accept-proxy", "127.0.0.0/8", "--send-proxy", "v2-crc32c", *_ENDS)
        where = nginx(relay("auto", upstream.address, options=options).address)
    else:
        to = nginx(upstream.address, "proxy_protocol")
        where = relay("auto", to, options=("--send-proxy", "v2", *_ENDS)).address
    with Peer(where) as client:
        client.send(b"hello")
        _told(upstream, client)
