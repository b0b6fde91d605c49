"""Server: what it refuses before it listens, its listeners, and its life.

What holds for every engine stands in ``muxcore.testing``; here one engine will do.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.errors import AddressError, BindError, CapabilityMissing, ServiceError
from muxcore.pure.select_engine import SelectEngine
from muxcore.testing import Peer, eventually
from muxcore.testing.peer import DEADLINE

ENGINE = "pure-select"


def serve(*where: Any, **options: Any) -> muxcore.Server:
    return muxcore.Server(muxcore.Echo, *where, engine=ENGINE, **options)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="IPv6 is off here")


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


# -- listeners


@needs_ipv6
def test_several_addresses_are_served_at_once_and_told_in_order(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{bound.getsockname()[1]}"
        with serve("[::1]:0", f"unix:{tmp_path}/s", bound, 0) as server:
            six, unix, mine, port = server.addresses
            assert six.startswith("[::1]:")
            assert unix == f"unix:{tmp_path}/s"
            assert mine == name
            assert port.startswith("127.0.0.1:")
            for where in server.addresses:
                Peer.play(where, "send 10; read 10; close")


def test_port_0_of_a_name_is_one_port_for_all_its_addresses() -> None:
    with serve("localhost:0") as server:
        assert len({where.rpartition(":")[2] for where in server.addresses}) == 1


def test_an_address_that_is_taken_opens_none_of_the_others(tmp_path: Path) -> None:
    before = descriptors()
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(f"unix:{path}", port)
        with pytest.raises(BindError, match="another socket listens there") as caught:
            server.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert f"cannot listen on 127.0.0.1:{port}" in str(caught.value)
    assert not path.exists()
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("192.0.2.1:0", "no address of this machine"),  # RFC 5737: documentation only
        ("no-such-name.invalid:0", "the name has no address"),
        ("unix:/no/such/folder/s", "there is no folder for /no/such/folder/s"),
    ],
)
def test_an_address_that_cannot_be_listened_on_says_why(where: str, words: str) -> None:
    with pytest.raises(BindError, match=words):
        serve(where).start()


def test_a_socket_that_is_no_listener_is_refused() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(BindError, match="bind it first"):
        serve(left).start()


def test_a_unix_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serve(f"unix:{path}") as server:
        Peer.play(server.addresses[0], "send 10; read 10; close")
    assert not path.exists()


def test_a_unix_socket_that_somebody_listens_on_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(BindError, match="another socket listens there"):
            serve(f"unix:{path}").start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(BindError):
        serve(f"unix:{path}").start()
    assert path.read_text() == "precious"


def test_servers_share_a_port_only_if_both_want_to() -> None:
    with serve(0, reuse_port=True) as first:
        with serve(first.addresses[0], reuse_port=True) as second:
            assert second.addresses == first.addresses
        with pytest.raises(BindError):
            serve(first.addresses[0]).start()


@needs_ipv6
def test_every_interface_in_version_6_leaves_version_4_free() -> None:
    with serve("[::]:0") as six:
        port = six.addresses[0].rpartition(":")[2]
        with serve(f"0.0.0.0:{port}"):
            pass


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
    monkeypatch.setattr("muxcore.server._JOIN_MARGIN", 0.05)
    blocked, release = threading.Event(), threading.Event()

    class Blocks:
        def connection_made(self, transport: muxcore.Transport) -> None:
            blocked.set()
            release.wait(DEADLINE)

    limits = muxcore.Limits(drain_timeout=0)
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
