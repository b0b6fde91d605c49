"""The servers that muxcore is measured against: each a file of its own in this folder.

A peer prints ``listening on HOST:PORT`` first and ends on SIGTERM. An echo takes its port as
argument, a relay its port and the upstream's address.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from muxcore.compare import peers as compare_peers
from muxcore.compare.servers import Subject

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
PEERS_OF_COMPARE = compare_peers.HERE  # the echoes that `muxcore compare` shows, too


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer: the file that serves, what it needs, and whether it relays instead of echoing."""

    name: str
    file: str
    package: str = ""
    program: str = ""
    relays: bool = False
    arguments: tuple[str, ...] = ()


PEERS = (
    Peer("floor", f"{PEERS_OF_COMPARE}/floor_echo.c", program="cc"),
    Peer("asyncio", f"{PEERS_OF_COMPARE}/asyncio_echo.py"),
    Peer("uvloop", f"{PEERS_OF_COMPARE}/asyncio_echo.py", package="uvloop", arguments=("uvloop",)),
    Peer("guest-asyncio", "guest_echo.py"),
    Peer("guest-uvloop", "guest_echo.py", package="uvloop", arguments=("uvloop",)),
    Peer("dropin-asyncio", "dropin_echo.py"),
    Peer("dropin-uvloop", "dropin_echo.py", package="uvloop", arguments=("uvloop",)),
    Peer("aio-asyncio", "aio_echo.py"),
    Peer("aio-uvloop", "aio_echo.py", package="uvloop", arguments=("uvloop",)),
    Peer("streams-asyncio", "streams_echo.py"),
    Peer("streams-uvloop", "streams_echo.py", package="uvloop", arguments=("uvloop",)),
    Peer("aiofastnet", "aiofastnet_echo.py", package="aiofastnet"),
    Peer("gevent", "gevent_echo.py", package="gevent"),
    Peer("trio", "trio_echo.py", package="trio"),
    Peer("socketserver-forking", "socketserver_forking.py"),
    Peer("socat", "socat_echo.py", program="socat"),
    Peer("relay", "muxcore_relay.py", relays=True),
    Peer("relay-router", "muxcore_relay.py", relays=True, arguments=("router",)),
    Peer("relay-operated", "muxcore_relay.py", relays=True, arguments=("operated",)),
    Peer("relay-aio", "aio_relay.py", relays=True),
    Peer("relay-handed", "aio_relay.py", relays=True, arguments=("handed",)),
    Peer("relay-streams", "streams_relay.py", relays=True),
    Peer("relay-floor", "floor_relay.c", program="cc", relays=True),
    Peer("relay-uvloop", "uvloop_relay.py", package="uvloop", relays=True),
    Peer("relay-haproxy", "haproxy_relay.py", program="haproxy", relays=True),
    Peer("relay-haproxy-64k", "haproxy_relay.py", "", "haproxy", True, ("64k",)),
    Peer("relay-haproxy-operated", "haproxy_relay.py", "", "haproxy", True, ("64k", "operated")),
    Peer("relay-nginx", "nginx_relay.py", program="nginx", relays=True),
    Peer("relay-nginx-64k", "nginx_relay.py", "", "nginx", True, ("64k",)),
    Peer("relay-nginx-operated", "nginx_relay.py", "", "nginx", True, ("64k", "operated")),
    Peer("relay-socat", "socat_relay.py", program="socat", relays=True),
)


def missing(peer: Peer) -> str:
    """Return why a peer cannot run here, and what to do; empty where it can."""
    if peer.package and importlib.util.find_spec(peer.package) is None:
        return f"the package {peer.package} is not installed: pip install {peer.package}"
    if peer.program and _program(peer.program) is None:
        return f"the program {peer.program} is not installed"
    return ""


def named(name: str) -> Peer | None:
    """Return the peer of a name, if there is one."""
    return next((peer for peer in PEERS if peer.name == name), None)


def subject(name: str, upstream: str = "") -> Subject:
    """Return a peer by name, compiled where it is C.

    Args:
        name: of the peer.
        upstream: HOST:PORT, for a relay.

    Raises:
        LookupError: there is no such peer, or it cannot run here; the message says why.
    """
    peer = named(name)
    if peer is None:
        raise LookupError(f"no peer {name!r}: there are {', '.join(p.name for p in PEERS)}")
    if reason := missing(peer):
        raise LookupError(f"peer {name}: {reason}")
    path = HERE / peer.file
    program = (
        (str(compare_peers.compiled(path, BUILD)),)
        if path.suffix == ".c"
        else (sys.executable, str(path))
    )
    return Subject(name, (*program, "0", *([upstream] if peer.relays else []), *peer.arguments))


def _program(name: str) -> str | None:
    if name == "cc":
        name = os.environ.get("CC", "cc")
    return shutil.which(name)
