"""What a supervisor hears of a service of each kind, from its start to its end."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from pathlib import Path

import pytest

import muxcore
import muxcore.abc
from muxcore import _supervised
from muxcore.testing import Peer, eventually

from .supervisor import Supervisor, Unit

_AIO = """
import asyncio, sys
import muxcore.aio as mux

async def handle(conn):
    async for data in conn:
        await conn.send(data)

async def main():
    workers = int(sys.argv[1]) or None
    async with mux.serve(handle, "127.0.0.1:0", workers=workers) as server:
        await server.serve_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

_STUCK = """
import time
from pathlib import Path

class Stuck:
    def data_received(self, data):
        Path("stuck").touch()
        while not Path("free").exists():
            time.sleep(0.01)
"""

_ECHO = ["-m", "muxcore", "echo", "127.0.0.1:0"]
_KINDS = {
    **{each.name: [*_ECHO, "--engine", each.name] for each in muxcore.engines() if each.available},
    "workers": [*_ECHO, "--workers", "2"],
    "aio": ["program.py", "0"],
    "aio-workers": ["program.py", "2"],
}
# on pure-process a callback that hangs holds up its own client
_OTHERS = [
    pytest.param(each.name, marks=pytest.mark.deep)
    for each in muxcore.engines()
    if each.available and "timers" in each.capabilities and each.name != "native-epoll"
]
# the others' loops are these engines'
_QUICK = ("native-epoll", "pure-process", "workers", "aio")


def kinds(*names: str) -> list[object]:
    return [pytest.param(each, marks=() if each in names else pytest.mark.deep) for each in _KINDS]


def served(supervisor: Supervisor, unit: Unit) -> str:
    """Wait until it is ready; return where it listens."""
    ready = supervisor.until_word("READY", "1")
    assert ready.pid == unit.pid
    found = re.fullmatch(r"listening on (\S+?)(, 2 workers)?", ready.words["STATUS"])
    assert found, ready.words
    return found[1]


@pytest.mark.parametrize("kind", kinds(*_QUICK))
def test_a_life_as_the_supervisor_hears_it(supervisor: Supervisor, folder: Path, kind: str) -> None:
    (folder / "program.py").write_text(_AIO)
    unit = supervisor.start(*_KINDS[kind], watchdog=0.2)
    with Peer(served(supervisor, unit)) as peer:
        peer.send(b"hello")
        assert peer.read(5) == b"hello"
        supervisor.until_word("WATCHDOG", "1")
        if not kind.startswith("aio"):  # there the program has SIGHUP, not we
            reloads(supervisor, unit)
        for _ in range(3):
            supervisor.until_word("WATCHDOG", "1")
        unit.signal(signal.SIGTERM)
        supervisor.until_word("STOPPING", "1")
        left = supervisor.until_word("STATUS", "draining: 1 client left")
        assert int(left.words["EXTEND_TIMEOUT_USEC"]) >= 1e6
        supervisor.until_word("WATCHDOG", "1")
        supervisor.until_word("STATUS", "draining: 1 client left")  # again and again
        peer.send(b"still here")
        assert peer.read(10) == b"still here"
    assert unit.status() == 0, supervisor.story()
    while supervisor.next(0):
        pass
    assert {said.pid for said in supervisor.heard} == {unit.pid}
    assert sum("STOPPING" in said.words for said in supervisor.heard) == 1
    assert not any("READY" in said.words for said in supervisor.heard[-1:])


def reloads(supervisor: Supervisor, unit: Unit) -> None:
    before = time.monotonic_ns() // 1000
    unit.signal(signal.SIGHUP)
    begun = supervisor.until_word("RELOADING", "1")
    assert before <= int(begun.words["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert "STATUS" in supervisor.until_word("READY", "1").words


@pytest.mark.deep
def test_a_relay_is_a_service_as_any(supervisor: Supervisor, folder: Path) -> None:
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0") as upstream:
        unit = supervisor.start("-m", "muxcore", "relay", "0", upstream.addresses[0])
        with Peer(served(supervisor, unit)) as peer:
            peer.send(b"hello")
            assert peer.read(5) == b"hello"
        unit.signal(signal.SIGTERM)
        supervisor.until_word("STOPPING", "1")
        assert unit.status() == 0


@pytest.mark.deep
def test_a_stop_says_so_and_not_that_it_drains(supervisor: Supervisor) -> None:
    unit = supervisor.start(*_ECHO)
    with Peer(served(supervisor, unit)) as peer:
        unit.signal(signal.SIGINT)
        supervisor.until_word("STOPPING", "1")
        said = supervisor.until(lambda words: "STATUS" in words, "a status")
        assert said.words["STATUS"].startswith("stopping: ")
        peer.read_end()
    assert unit.status() == 130


@pytest.mark.parametrize("kind", ["native-epoll", *_OTHERS])
def test_a_callback_that_does_not_return_silences_the_watchdog(
    supervisor: Supervisor, folder: Path, kind: str
) -> None:
    (folder / "stuck.py").write_text(_STUCK)
    command = ["-m", "muxcore", "serve", "stuck:Stuck", "127.0.0.1:0", "--engine", kind]
    unit = supervisor.start(*command, watchdog=0.1)
    with Peer(served(supervisor, unit)) as peer:
        supervisor.until_word("WATCHDOG", "1")
        peer.send(b"x")
        eventually((folder / "stuck").exists, "it was not called")
        while supervisor.next(0):
            pass
        assert supervisor.next(0.4) is None  # eight beats
        (folder / "free").touch()
        supervisor.until_word("WATCHDOG", "1")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        (None, None, None),
        ("2000000", None, 1.0),
        ("2000000", "mine", 1.0),
        ("2000000", "1", None),  # it is for another process
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_a_watchdog_is_fed_twice_in_its_time_if_it_is_ours(
    microseconds: str | None,
    pid: str | None,
    seconds: float | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)):
        value = str(os.getpid()) if value == "mine" else value
        if value is not None:
            monkeypatch.setenv(name, value)
    assert _supervised._watchdog() == seconds
    if microseconds in ("0", "soon"):
        assert f"WATCHDOG_USEC is {microseconds!r}, which is no time: it is left out" in caplog.text
    if seconds is not None:
        assert "WATCHDOG_PID" not in os.environ  # who takes our place may have another number


@pytest.mark.deep
def test_one_that_cannot_start_is_never_ready(supervisor: Supervisor) -> None:
    unit = supervisor.start("-m", "muxcore", "echo", "192.0.2.1:9000")
    assert unit.status() == 1
    assert supervisor.next(0) is None


@pytest.mark.deep
def test_without_a_supervisor_nothing_is_said(supervisor: Supervisor) -> None:
    unit = supervisor.start(*_ECHO, notify=False, watchdog=0.05)
    eventually(lambda: "listening on" in unit.printed(), "it does not serve")
    unit.signal(signal.SIGTERM)
    assert unit.status() == 0
    assert supervisor.next(0) is None


_TWO = """
import asyncio
import muxcore.aio as mux

async def handle(conn):
    async for data in conn:
        await conn.send(data)


async def main():
    async with mux.serve(handle, "127.0.0.1:0") as one, mux.serve(handle, "127.0.0.1:0") as two:
        first = asyncio.create_task(one.serve_forever())
        second = asyncio.create_task(two.serve_forever())
        await asyncio.sleep(0)
        await one.drain()
        print("one has ended", flush=True)
        await asyncio.gather(first, second)

asyncio.run(main())
"""


@pytest.mark.deep
def test_of_two_servers_the_last_ones_end_is_the_services(
    supervisor: Supervisor, folder: Path
) -> None:
    (folder / "program.py").write_text(_TWO)
    unit = supervisor.start("program.py")
    eventually(lambda: "one has ended" in unit.printed(), supervisor.story)
    supervisor.until(lambda words: words.get("STATUS", "").count("127.0.0.1") == 2, "both")
    while said := supervisor.next(0):
        assert "STOPPING" not in said.words
    unit.signal(signal.SIGTERM)
    supervisor.until_word("STOPPING", "1")
    assert unit.status() == 0


def test_an_engine_without_timers_says_that_it_cannot_feed_a_watchdog(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Timeless(muxcore.engine("pure-process")):  # type: ignore[misc]  # a class at run time
        name = "timeless"
        alarm = muxcore.abc.Engine.alarm

    server = muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="pure-process")
    server._engine.close()
    server._engine = Timeless()
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.path)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with caplog.at_level(logging.ERROR, "muxcore"):
        _supervised.supervise(server)
        server._engine._woken()  # a turn
    assert "engine 'timeless' has no timers, and cannot say that it lives" in caplog.text
    server.stop()
