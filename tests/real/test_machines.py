"""HAProxy before three relays, each on a machine of its own: a network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import muxcore
from muxcore.testing import eventually
from muxcore.testing.peer import DEADLINE

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # <sched.h>
_ROOT = Path(__file__).parents[2]
_NAMES = ("one", "two", "three")

_HAPROXY = """\
global
    stats socket FOLDER/stats level admin
defaults
    mode tcp
    retries 3
    option redispatch 1
    timeout connect 1s
    timeout client 300s
    timeout server 300s
listen db
    bind 127.0.0.1:5432
    balance roundrobin
    default-server check inter 200ms fall 2 rise 1 agent-check agent-port 9101 agent-inter 200ms
    default-server weight 100 send-proxy-v2
    server one 10.77.1.2:5432
    server two 10.77.2.2:5432
    server three 10.77.3.2:5432
"""


def _cannot() -> str:
    """Return why there can be no namespace here; "" where there can."""
    for program in ("haproxy", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    name = f"mux{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return done.stderr.strip()


pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(_cannot()), reason=f"no network namespaces: {_cannot()}"),
]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=DEADLINE)


class _Network:
    """A machine for the balancer and its clients, and three behind it, each by a wire of its own.

    Attributes:
        balancer: the name of its namespace.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.balancer = self._machine(stack, "lb")
        self.hosts = [self._machine(stack, str(number)) for number in (1, 2, 3)]
        for number, host in enumerate(self.hosts, 1):
            here, there = f"mx{os.getpid()}", f"my{os.getpid()}"
            wire = ("link", "add", here, "netns", self.balancer, "type", "veth")
            _ip(*wire, "peer", "name", there, "netns", host)
            for where, name, own in (
                (self.balancer, here, f"10.77.{number}.1/30"),
                (host, there, f"10.77.{number}.2/30"),
            ):
                _ip("-n", where, "link", "set", name, "name", f"wire{number}")
                _ip("-n", where, "addr", "add", own, "dev", f"wire{number}")
                _ip("-n", where, "link", "set", f"wire{number}", "up")

    def _machine(self, stack: contextlib.ExitStack, what: str) -> str:
        name = f"mux{os.getpid()}{what}"
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def cut_off(self, number: int) -> None:
        """Take a host off the network: what is sent there is lost without a word."""
        _ip("-n", self.hosts[number - 1], "link", "set", f"wire{number}", "down")


def _on(machine: str, call: Callable[[], T]) -> T:
    """Return what a call returns in a thread that is on a machine; its sockets stay there."""
    found: list[T] = []

    def run() -> None:
        with open(f"/run/netns/{machine}") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), _CLONE_NEWNET) == 0
        found.append(call())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


class _Relay:
    """A relay on a machine; its upstream says its name."""

    def __init__(
        self, stack: contextlib.ExitStack, machine: str, number: int, folder: Path
    ) -> None:
        name = _NAMES[number - 1]

        class Names:
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                transport.write(f"{name}\n".encode())

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        # the file system is the same on all of them
        where = f"unix:{folder}/{name}"
        stack.enter_context(muxcore.Server(Names, where, engine="pure-epoll"))
        self.log = folder / f"{name}.log"
        self.process = subprocess.Popen(
            [
                *("ip", "netns", "exec", machine, sys.executable, "-m", "muxcore", "relay"),
                *(f"10.77.{number}.2:5432", where, "--agent-listen", f"10.77.{number}.2:9101"),
                *("--accept-proxy", "10.77.0.0/16", "--drain-delay", "3s"),
                *("--drain-timeout", "none", "--access-log-file", str(self.log)),
                *("--access-log", "json"),
            ],
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self._end)
        assert self.process.stdout is not None
        for said in ("listening on", "agent-listen on"):
            assert self.process.stdout.readline().startswith(said)

    def _end(self) -> None:
        self.process.kill()  # `ip netns exec` has become it
        self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a short name: a path of a socket has 107 bytes."""
    short = Path(f"/tmp/mux{os.getpid()}")
    short.symlink_to(tmp_path)
    yield short
    short.unlink()


def test_clients_are_served_while_machines_drain_and_vanish(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        network = _Network(stack)
        relays = [_Relay(stack, host, n, folder) for n, host in enumerate(network.hosts, 1)]
        (folder / "configuration").write_text(_HAPROXY.replace("FOLDER", str(folder)))
        haproxy = subprocess.Popen(
            [
                *("ip", "netns", "exec", network.balancer),
                *("haproxy", "-db", "-f", str(folder / "configuration")),
            ],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(haproxy.wait)
        stack.callback(haproxy.kill)

        def client() -> tuple[str, socket.socket]:
            """Return who serves one, and its connection."""
            sock = _on(network.balancer, lambda: socket.create_connection(("127.0.0.1", 5432)))
            sock.settimeout(DEADLINE)
            return sock.makefile().readline().strip(), sock

        def served() -> set[str]:
            """Return who serves the next twelve."""
            found = set()
            for _ in range(12):
                name, sock = client()
                found.add(name)
                sock.close()
            return found

        eventually(lambda: (folder / "stats").exists(), "haproxy does not serve")
        eventually(lambda: _states(folder) == ["UP"] * 3, lambda: str(_states(folder)))
        # the countdown shows: HAProxy has a share of this for each percentage
        eventually(lambda: _states(folder, "weight") == ["100"] * 3, "they have no weight")
        assert served() == set(_NAMES)

        # whose connection it is: the relay's log has the client, which it never saw
        held: dict[str, socket.socket] = {}
        while "one" not in held:
            name, sock = client()
            held.setdefault(name, sock)
        here = held["one"].getsockname()

        # one drains: it counts down, and gets nobody new; who is there is served
        relays[0].process.send_signal(signal.SIGTERM)
        eventually(lambda: _states(folder)[0].startswith("DRAIN"), lambda: str(_states(folder)))
        assert served() == {"two", "three"}
        held["one"].sendall(b"still here")
        assert held["one"].recv(100) == b"still here"
        held["one"].close()
        assert relays[0].process.wait(DEADLINE) == 0
        lines = [json.loads(line) for line in relays[0].log.read_text().splitlines()]
        assert ":".join(map(str, here)) in [line["client"] for line in lines]

        # another one is cut off, without a word: its clients are given to the last
        network.cut_off(2)
        assert served() == {"three"}
        for sock in held.values():
            sock.close()


def _states(folder: Path, column: str = "status") -> list[str]:
    """Return how HAProxy sees the three."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(folder / "stats"))
        sock.sendall(b"show stat db 4 -1\n")
        lines = sock.makefile().read().strip().splitlines()
    names = lines[0].removeprefix("# ").split(",")
    return [line.split(",")[names.index(column)] for line in lines[1:]]
