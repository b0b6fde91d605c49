"""Server: what it refuses before it listens, and its life.

What holds for every engine stands in ``muxcore.testing``; here one engine will do.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest

import muxcore
from muxcore.errors import AddressError, CapabilityMissing, ServiceError
from muxcore.pure.select_engine import SelectEngine
from muxcore.testing import Peer, eventually
from muxcore.testing.peer import DEADLINE

ENGINE = "pure-select"


def serve(*where: Any, **options: Any) -> muxcore.Server:
    return muxcore.Server(muxcore.Echo, *where, engine=ENGINE, **options)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# -- what is refused, before anything is opened

_TWICE = muxcore.Address("127.0.0.1", 0)


class _AsyncCallback:
    async def data_received(self, data: bytes) -> None: ...


def _whole_limits() -> Any: ...


def _no_such_limit() -> Any: ...


_whole_limits.limits = muxcore.Limits()  # type: ignore[attr-defined]
_no_such_limit.limits = {"conections": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("service", "where", "options", "error", "words"),
    [
        (muxcore.Echo(), [0], {}, ServiceError, "pass Echo itself"),
        (muxcore.Echo, [], {}, TypeError, "at least one address, such as '127.0.0.1:9000'"),
        (muxcore.Echo, [0, ":80"], {}, AddressError, "does not say where to listen"),
        (muxcore.Echo, [0], {"engine": "kqueue"}, muxcore.UnknownEngine, "kqueue"),
        (muxcore.Echo, [0], {"trigger": "edge"}, CapabilityMissing, "has no edge_trigger"),
        (muxcore.Echo, [0], {"trigger": "both"}, ValueError, "'level' or 'edge', not 'both'"),
        (muxcore.Echo, [_TWICE, _TWICE], {}, ValueError, "is given twice"),
        (_AsyncCallback, [0], {}, ServiceError, "_AsyncCallback.data_received is a coroutine"),
        (_whole_limits, [0], {}, ServiceError, "no mapping but Limits"),
        (_no_such_limit, [0], {}, ServiceError, "limits that cannot be: .*conections"),
    ],
)
def test_what_cannot_work_is_refused_before_a_listener_is_opened(
    service: Any,
    where: list[Any],
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    before = descriptors()
    with pytest.raises(error, match=words):
        muxcore.Server(service, *where, **({"engine": ENGINE} | options))
    assert descriptors() <= before


# -- its life


def test_the_choice_and_its_abilities_can_be_asked_for() -> None:
    server = serve(0)
    assert (server.engine, server.capabilities) == (ENGINE, SelectEngine.capabilities)
    assert server.addresses == []
    assert server.stop()


def test_a_server_starts_once_and_ends_once() -> None:
    server = serve(0).start()
    with pytest.raises(RuntimeError, match="this server is running: make a new one"):
        server.start()
    Peer.play(server.addresses[0], "send 10; read 10; close")
    assert server.stop()
    assert server.stop()
    assert server.stats().total == 1  # also after the end
    with pytest.raises(RuntimeError, match="this server is ended: make a new one"):
        server.start()


def test_a_block_that_fails_ends_its_server_and_keeps_its_error() -> None:
    before = descriptors()
    with pytest.raises(LookupError), serve(0):
        raise LookupError
    assert descriptors() <= before


def test_serving_in_a_thread_that_may_not_handle_signals_ends_on_request() -> None:
    ready: list[muxcore.Server] = []
    listening = threading.Event()
    status: list[int] = []

    def announce(server: muxcore.Server) -> None:
        ready.append(server)
        listening.set()

    def run() -> None:
        status.append(muxcore.serve(muxcore.Echo, 0, engine=ENGINE, on_ready=announce))

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(DEADLINE)
    Peer.play(ready[0].addresses[0], "send 10; read 10; close")
    ready[0].request_stop()
    thread.join(DEADLINE)
    assert status == [0]


def test_an_error_in_on_ready_closes_what_was_opened() -> None:
    before = descriptors()

    def fail(server: muxcore.Server) -> None:
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        muxcore.serve(muxcore.Echo, 0, engine=ENGINE, on_ready=fail)
    assert descriptors() <= before


def test_what_ended_the_engine_is_raised_by_stop_once() -> None:
    class Ends:
        def connection_made(self, transport: muxcore.Transport) -> None:
            raise SystemExit("the program is to end")

    server = muxcore.Server(Ends, 0, engine=ENGINE).start()
    with Peer(server.addresses[0]) as peer:
        peer.read_end()
        with pytest.raises(SystemExit, match="the program is to end"):
            server.stop()
    server.stop()


@pytest.mark.parametrize("engine", ["pure-select", "pure-epoll", "asyncio"])
def test_a_background_engine_that_dies_says_so_at_once_and_is_told_to_have_failed(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Ends:
        def connection_made(self, transport: muxcore.Transport) -> None:
            raise SystemExit("the program is to end")

    server = muxcore.Server(Ends, 0, engine=engine).start()
    assert server.failed is None
    with Peer(server.addresses[0]) as peer:
        peer.read_end()
        eventually(lambda: server.failed is not None, "it is told")
    assert isinstance(server.failed, SystemExit)

    def told() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.levelname == "CRITICAL"]

    eventually(lambda: len(told()) > 0, "it is logged")  # by its thread, a moment later
    (record,) = told()
    assert f"engine {engine} has ended by an error" in record.message
    assert record.exc_info is not None
    assert record.exc_info[1] is server.failed
    with pytest.raises(ConnectionRefusedError):
        Peer(server.addresses[0])
    with pytest.raises(SystemExit):
        server.stop()
    assert server.stop() is False
    assert isinstance(server.failed, SystemExit)


def test_what_ends_a_foreground_engine_is_raised_and_told_as_well() -> None:
    def fail(server: muxcore.Server) -> None:
        raise LookupError("not today")

    server = serve(0)
    with pytest.raises(LookupError):
        server.run(fail)
    assert isinstance(server.failed, LookupError)
    assert server.stop() is False


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = descriptors()
    server = serve(0)

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        server.start()
    assert descriptors() <= before
    assert server.stop() is True


@pytest.mark.parametrize(
    ("requires", "missing"), [("timers", "timers"), (["timers", "relay"], "timers")]
)
def test_a_service_may_name_one_capability_or_several(requires: Any, missing: str) -> None:
    def service() -> Any: ...

    service.requires = requires  # type: ignore[attr-defined]
    with pytest.raises(CapabilityMissing, match=f"requires {missing}, which"):
        muxcore.Server(service, 0, engine="pure-process")
    muxcore.Server(service, 0, engine=ENGINE).stop()


@pytest.mark.parametrize("requires", [5, [5], {"timers": 1, 5: 2}])
def test_a_service_that_requires_what_is_no_name_is_refused(requires: Any) -> None:
    def service() -> Any: ...

    service.requires = requires  # type: ignore[attr-defined]
    with pytest.raises(ServiceError, match="name capabilities, as in"):
        muxcore.Server(service, 0, engine=ENGINE)


def test_an_engine_that_a_callback_blocks_is_named_and_not_waited_for_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muxcore._life._JOIN_MARGIN", 0.05)
    blocked, release = threading.Event(), threading.Event()

    class Blocks:
        def connection_made(self, transport: muxcore.Transport) -> None:
            blocked.set()
            release.wait(DEADLINE)

    limits = muxcore.Limits(stop_timeout=0)
    server = muxcore.Server(Blocks, 0, engine=ENGINE, limits=limits).start()
    with Peer(server.addresses[0]):
        assert blocked.wait(DEADLINE)
        with pytest.raises(TimeoutError, match="a callback is blocking its thread"):
            server.stop()
        release.set()
        monkeypatch.undo()
        server.stop()


_LEFT_RUNNING = """
import muxcore, socket
class Says:
    def connection_made(self, transport): self.transport = transport; made.set()
    def connection_lost(self, exc): print("lost", exc, flush=True)
import threading
made = threading.Event()
server = muxcore.Server(Says, 0, engine={engine!r}).start()
host, _, port = server.addresses[0].rpartition(":")
client = socket.create_connection((host, int(port)))
made.wait()
print("main ends", flush=True)
"""


@pytest.mark.parametrize("engine", ["pure-select", "asyncio"])
def test_a_server_that_was_forgotten_is_stopped_when_the_program_ends(engine: str) -> None:
    program = [sys.executable, "-c", _LEFT_RUNNING.format(engine=engine)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["main ends", "lost None"]


def test_a_tls_socket_is_not_adopted_and_stays_the_callers() -> None:
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with ours, context.wrap_socket(theirs, do_handshake_on_connect=False) as wrapped:
        server = muxcore.Server(muxcore.Echo, 0)
        with pytest.raises(TypeError, match="plain socket"):
            server.adopt(wrapped)
        assert wrapped.fileno() >= 0
        server.stop()


# -- a drain


@pytest.mark.parametrize(
    ("timeout", "error"), [("soon", TypeError), (-1, ValueError), (float("inf"), ValueError)]
)
def test_a_drain_for_what_is_no_time_is_refused_and_nothing_has_begun(
    timeout: Any, error: type[Exception]
) -> None:
    with serve(0) as server:
        for call in (server.drain, server.request_drain):
            with pytest.raises(error, match=r"drain\(\) needs"):
                call(timeout)
        assert server.ready
        Peer.play(server.addresses[0], "send 10; read 10; close")


@pytest.mark.parametrize("engine", ["pure-select", "pure-process"])
def test_the_log_tells_of_a_drain_and_counts_those_that_a_stop_has_cut_short(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = muxcore.Limits(drain_timeout=None)
    service = muxcore.Server(muxcore.Echo, 0, engine=engine, limits=limits, allow_threads=True)
    with caplog.at_level(logging.INFO, "muxcore"), service as server:
        with Peer(server.addresses[0]) as peer:
            peer.send(b"x")
            assert peer.read(1) == b"x"
            server.request_drain()
            eventually(lambda: len(caplog.messages) == 1, "it is logged")
            assert server.stop()
        assert caplog.messages[0] == "draining 1 client for as long as they like"
        assert re.fullmatch(r"0 finished, 1 stopped after \d+\.\d s", caplog.messages[1])


def test_a_stop_without_a_drain_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "muxcore")
    with serve(0) as server, Peer(server.addresses[0]) as peer:
        peer.send(b"x")
        assert peer.read(1) == b"x"
        assert server.stop()
    assert caplog.messages == []


def test_a_forked_child_drains_nothing() -> None:
    with serve(0) as server:
        with warnings.catch_warnings():  # of threads: the child ends at once
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os._exit(bool(server.drain()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert server.ready
        Peer.play(server.addresses[0], "send 10; read 10; close")


def test_a_hook_that_fails_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[muxcore.Server] = []

    def fails(server: muxcore.Server) -> None:
        raise LookupError("not today")

    with serve(0) as server:
        server.on_drain += [fails, heard.append]
        assert server.drain()
    assert heard == [server]
    assert "not today" in caplog.text
