"""A file is read again while it is served: all of it or nothing, and no connection is touched."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.admin import Admin, finding
from muxcore.cli.admin import ask
from muxcore.config import Reloading, Served, contents
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children
from muxcore.testing.upstream import Upstream
from tests.usual import usual

# pure-process in the background accepts in a process of its own, and no reload reaches that
_ENGINES = usual(
    [
        i.name
        for i in muxcore.engines()
        if i.available and {"relay", "shared_state"} <= i.capabilities
    ]
)


class Says:
    """A server that says its name to whoever connects, and then what it is sent."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self.server = muxcore.Server(self._protocol, "127.0.0.1:0", engine="pure-select")

    def _protocol(self) -> Any:
        says = self

        class Greeting:
            def connection_made(self, transport: Any) -> None:
                self._transport = transport
                transport.write(says._name)

            def data_received(self, data: bytes) -> None:
                self._transport.write(data)

        return Greeting()


@pytest.fixture
def upstreams() -> Iterator[tuple[str, str]]:
    """Addresses of a server that says "a", and of one that says "b"."""
    with Says(b"a").server as a, Says(b"b").server as b:
        yield a.addresses[0], b.addresses[0]


class File:
    """A file, and the server of it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "relay.toml"

    def write(self, *upstreams: str, rest: str = "", listener: str = "", pool: str = "web") -> None:
        lines = ", ".join(f'"{each}"' for each in upstreams)
        self.path.write_text(
            f'[listeners.web]\naddress = "127.0.0.1:0"\npool = "{pool}"\n{listener}\n'
            f"[pools.{pool}]\nupstreams = [{lines}]\n{rest}\n"
        )

    @contextlib.contextmanager
    def serve(self, **options: Any) -> Iterator[muxcore.Server]:
        self.served = Served(contents(str(self.path)))
        server = muxcore.Server(self.served.where(), **options)
        server.on_reload.append(Reloading(str(self.path), self.served))
        with server:
            yield server


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def said(server: muxcore.Server) -> bytes:
    with Peer(server.addresses[0]) as peer:
        return peer.read(1)


def told(caplog: pytest.LogCaptureFixture, words: str) -> None:
    eventually(lambda: words in caplog.text, f"nobody said {words!r}")


@pytest.mark.parametrize("engine", _ENGINES)
def test_who_comes_has_the_new_pool_and_who_is_there_stays(
    engine: str, file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    a, b = upstreams
    file.write(a)
    with file.serve(engine=engine) as server, Peer(server.addresses[0]) as peer:
        assert peer.read(1) == b"a"
        file.write(b)
        server.reload()
        told(caplog, "was read again, and is applied")
        assert said(server) == b"b"
        file.write(a, pool="other")
        server.reload()
        eventually(lambda: said(server) == b"a", "the listener has the old pool")
        peer.send(b"still here")
        assert peer.read(10) == b"still here"


def test_a_file_that_is_broken_or_asks_for_too_much_changes_nothing_and_says_why(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = upstreams
    file.write(a)
    with file.serve(engine="pure-process", allow_threads=True) as server:
        for rest, words in {
            "polcy = 1": "relay.toml:7: pools.web.polcy: there is no such key",
            "queue = 5": "relay.toml: the service requires shared_state, timers, which engine",
            "[server]\nengine = 'auto'": "relay.toml:8: server.engine: cannot change while it is",
            "[log]\nmessages = 'x'": "relay.toml:8: log.messages: cannot change",
            "[admin]\nmetrics = 1": "relay.toml:8: admin.metrics: cannot change",
            "[listeners.b]\naddress=1\npool='web'": "relay.toml:8: listeners.b.address: cannot ch",
        }.items():
            caplog.clear()
            file.write(b, rest=rest)
            server.reload()
            told(caplog, "is not applied, and nothing has changed")
            assert words in caplog.text
            assert said(server) == b"a"
        file.path.unlink()
        server.reload()
        told(caplog, "relay.toml: cannot be read: No such file")


def test_the_log_of_a_relay_that_stays_is_another(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write(upstreams[0])
    with file.serve() as server:
        assert said(server) == b"a"
        file.write(upstreams[0], rest='[log]\nfields = ["pool", "event"]\nstart = true')
        server.reload()
        told(caplog, "is applied")
        with Peer(server.addresses[0]) as peer:
            assert peer.read(1) == b"a"
        told(caplog, "pool=web event=end")
        assert "pool=web event=start" in caplog.text


def test_a_pipe_in_the_place_of_a_file_holds_up_nobody(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file.write(upstreams[0])
    with file.serve() as server:
        file.path.unlink()
        os.mkfifo(file.path)
        server.reload()
        told(caplog, "is no regular file, which alone can be read again")
        assert said(server) == b"a"


def test_a_log_file_alone_means_a_log_of_text(file: File, upstreams: tuple[str, str]) -> None:
    file.write(upstreams[0], rest='[log]\naccess_file = "x"')
    log = Served(contents(str(file.path))).entrances["web"].service.log
    assert log.format == "text"


def test_a_file_that_says_the_same_is_told_to(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write(upstreams[0])
    with file.serve() as server:
        file.path.write_text("# a remark\n" + file.path.read_text())
        server.reload()
        told(caplog, "it says what it said before")


def test_what_is_steered_stays_unless_the_file_says_something_else_of_it(
    file: File, upstreams: tuple[str, str]
) -> None:
    file.write(*upstreams)
    served = Served(contents(str(file.path)))
    first, second = served.pools["web"].upstreams
    first.out = second.out = True
    now = f'{{address = "{upstreams[1]}", weight = 3}}'
    file.path.write_text(file.path.read_text().replace(f'"{upstreams[1]}"', now))
    served.change(Served(contents(str(file.path))))
    assert served.pools["web"].upstreams == (first, second)
    assert (first.out, second.out, second.weight) == (True, False, 3)


_BY_BYTES = """\
[listeners.web]
address = "127.0.0.1:0"
route = "by-bytes"
limits = "some"
[pools.web]
upstreams = ["{}"]
[routes.by-bytes]
rules = [{{starts_with = "{}", pool = "web"}}]
[limits.some]
{}
"""


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.deep)])
def test_routes_and_limits_change(
    workers: int | None, file: File, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Upstream() as upstream:

        def write(beginning: str, limits: str) -> None:
            file.path.write_text(_BY_BYTES.format(upstream.address, beginning, limits))

        def goes(words: bytes) -> bool:
            with Peer(server.addresses[0]) as peer:
                peer.send(words)
                with contextlib.suppress(OSError):  # it is reset with what it has sent
                    peer.shutdown_write()
                    return peer.read_all() == b"welcome"
            return False

        def welcome() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = upstream._listener.accept()
                    with sock:
                        while sock.recv(100):
                            pass
                        sock.sendall(b"welcome")

        upstream._listener.settimeout(None)
        thread = threading.Thread(target=welcome, daemon=True)
        thread.start()
        write("old", "connections = 5")
        with file.serve(workers=workers) as server:
            assert (goes(b"old"), goes(b"new")) == (True, False)
            write("new", "connections = 6")
            server.reload()
            eventually(lambda: goes(b"new"), "the route is not applied")
            eventually(lambda: not goes(b"old"), "the old route is not gone")
            write("new", 'deny = "127.0.0.1"')
            server.reload()
            eventually(lambda: not goes(b"new"), "the limit is not applied")
        upstream._listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.deep)])
def test_a_callable_that_the_file_names_decides_and_may_become_another(
    workers: int | None,
    file: File,
    upstreams: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    def write(name: str, **pools: str) -> None:
        lines = "".join(f'[pools.{name}]\nupstreams = "{it}"\n' for name, it in pools.items())
        listener = '[listeners.in]\naddress = "127.0.0.1:0"\nroute = "asked"\n'
        route = f'[routes.asked]\ndecide_timeout = 0.5\ndecide = "tests.config.deciding:{name}"\n'
        file.path.write_text(listener + lines + route)

    def goes(word: bytes) -> bytes:
        with Peer(server.addresses[0]) as peer:
            peer.send(word)
            peer.shutdown_write()
            return peer.read_all()[:1]

    a, b = upstreams
    write("by_word", one=a)
    with file.serve(workers=workers) as server:
        threads = set(threading.enumerate())
        assert goes(b"one") == b"a"
        write("by_word_later", one=b, two=a)
        server.reload()
        eventually(lambda: goes(b"one") == b"b", "it is not applied")
        eventually(lambda: goes(b"two") == b"a", "the new pool is not known")  # 0.5 s may be over
        if not workers:
            assert any("decisions" in each.name for each in set(threading.enumerate()) - threads)
        file.write(a)
        text = file.path.read_text().replace("[listeners.web]", "[listeners.in]")
        file.path.write_text(text)
        server.reload()
        eventually(lambda: goes(b"") == b"a", "it is not applied")
        eventually(lambda: set(threading.enumerate()) <= threads, "its thread is left")


def test_a_module_that_ends_the_program_when_it_is_imported_ends_no_server(
    file: File,
    upstreams: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "ends_it.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    file.write(upstreams[0])
    with file.serve() as server:
        text = file.path.read_text().replace('pool = "web"', 'route = "asked"')
        file.path.write_text(f'{text}[routes.asked]\ndecide = "ends_it:decide"\n')
        server.reload()
        told(caplog, "cannot import 'ends_it' (SystemExit: 3)")
        with Peer(server.addresses[0]) as peer:
            assert peer.read(1) == b"a"


def test_what_refuses_is_called_as_in_the_file(
    file: File, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Of several sections each is one's own, also after a change."""
    text = _BY_BYTES.format("127.0.0.1:9", "x", 'deny = ["127.0.0.1"]\n[limits.other]\nrate = 9')
    text = text.replace('"some"', '"other"\nproxy_limits = "some"\naccept_proxy = "127.0.0.1"')
    admin = f"unix:{tmp_path}/admin"
    caplog.set_level(logging.INFO)

    def until_counted(*counts: list[Any]) -> None:
        def said() -> Any:  # of a server that is late it is what it had said before
            return json.loads(ask(admin, "GET", "/status")[1])["counts"]

        eventually(lambda: said() == [*counts], lambda: f"counted: {said()}")

    def come(words: bytes) -> None:
        with Peer(server.addresses[0]) as peer:
            peer.send(words)
            peer.read_end()

    file.path.write_text(text)
    with file.serve() as server, Admin(server, socket=admin):
        with Peer(server.addresses[0]) as peer:
            peer.read_end()
        until_counted(["limits.some", "denied", 1])
        file.path.write_text(text.replace('deny = ["127.0.0.1"]', ""))
        server.reload()
        told(caplog, "is applied")
        come(b"no header\r\n")
        come(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nyes")
        until_counted(
            ["limits.other", "accepted", 1],
            ["limits.some", "accepted", 2],
            ["limits.some", "denied", 1],
            ["listeners.web", "clients", 1],
            ["listeners.web", "malformed", 1],
            ["routes.by-bytes", "refused", 1],
        )
    for each in ("limits.some: it may not", "listeners.web: no PROXY", "routes.by-bytes: no route"):
        assert f" by {each}" in caplog.text


def test_connections_that_a_guard_has_counted_still_count_after_a_change(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limited = "[limits.some]\nconnections = {}\n"
    file.write(upstreams[0], listener='limits = "some"', rest=limited.format(5))
    with file.serve() as server, Peer(server.addresses[0]) as peer:
        assert peer.read(1) == b"a"
        guard = file.served.guards["some"]
        file.write(upstreams[1], listener='limits = "some"', rest=limited.format(1))
        server.reload()
        told(caplog, "is applied")
        assert file.served.guards["some"] is guard
        with Peer(server.addresses[0]) as other:
            other.read_end()
        assert (guard.active, guard.counts["connections"]) == (1, 1)


def test_clients_of_a_pool_that_is_gone_can_still_be_asked_for(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write(upstreams[0])
    with file.serve() as server:

        def clients() -> list[str]:
            return sorted(relay.pool.name for relay in finding.relays(server) if relay.clients)

        (relay,) = finding.relays(server)
        server.call_soon_threadsafe(relay.follow)
        eventually(lambda: relay.clients is not None, "it follows nobody")
        with Peer(server.addresses[0]) as peer:
            assert peer.read(1) == b"a"
            file.write(upstreams[1], pool="other")
            server.reload()
            told(caplog, "is applied")
            with Peer(server.addresses[0]) as other:
                assert other.read(1) == b"b"
                assert clients() == ["other", "web"]
                assert list(finding.pools(server)) == ["other", "web"]
        eventually(lambda: clients() == [], "they are gone, and are told of")
        assert list(finding.pools(server)) == ["other"]


def test_what_a_listener_wants_of_proxies_changes(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write(upstreams[0])
    with file.serve() as server:
        file.write(upstreams[0], listener='accept_proxy = ["127.0.0.0/8"]')
        server.reload()
        told(caplog, "is applied")
        with Peer(server.addresses[0]) as peer:
            peer.send(b"PROXY UNKNOWN\r\nhello")
            assert peer.read(6) == b"ahello"
        proxied = file.served.entrances["web"].service
        file.write(upstreams[0], listener='accept_proxy = "127.0.0.1"\nproxy_timeout = 9')
        server.reload()
        eventually(lambda: file.served.entrances["web"].service is not proxied, "it is not applied")
        now = finding.services(server)[2]
        assert isinstance(now, muxcore.BehindProxy)
        assert (now.timeout, now.counts["clients"]) == (9, 1)


def test_a_pool_that_is_here_again_has_its_name_and_not_the_one_that_is_gone(
    file: File, upstreams: tuple[str, str]
) -> None:
    guarded = 'limits = "all"'
    rest = "[limits.all]\nconnections = 9"
    file.write(upstreams[0], listener=guarded, rest=rest)
    with file.serve(engine="pure-select") as server:
        (relay,) = finding.relays(server)
        server.call_soon_threadsafe(relay.follow)
        eventually(lambda: relay.clients is not None, "it follows nobody")
        with Peer(server.addresses[0]) as stays:
            assert stays.read(1) == b"a"
            for pool in ("other", "web"):
                file.write(upstreams[1], listener=guarded, rest=rest, pool=pool)
                server.reload()
                eventually(lambda its=pool: [*file.served.pools] == [its], "it is not read")
            eventually(lambda: said(server) == b"b", "the listener has the old pool")
            named = finding.pools(server)
            assert [*named] == ["web", "web-2"]
            assert named["web"] is file.served.pools["web"]


@pytest.mark.parametrize("gone", [True, False])
def test_who_waits_for_a_place_of_a_pool_that_is_gone_has_an_answer(
    gone: bool, file: File, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = "max_active = 1\nqueue = 5\nqueue_timeout = "
    with Upstream() as upstream:
        file.write(upstream.address, rest=settings + ('"200ms"' if gone else "60"))
        with file.serve() as server, Peer(server.addresses[0]) as first:
            there = upstream.accept()
            with Peer(server.addresses[0]) as second:
                old = file.served.pools["web"]
                eventually(lambda: old.waiting == 1, "it does not wait")
                file.write(upstream.address, pool="other")
                server.reload()
                told(caplog, "is applied")
                with Peer(server.addresses[0]) as peer, upstream.accept() as new:
                    peer.send(b"hello")
                    assert new.read(5) == b"hello"
                if not gone:  # it has its place, in the old pool
                    first.close()
                    there.close()
                    with upstream.accept() as there:
                        second.send(b"hello")
                        assert there.read(5) == b"hello"
                else:
                    second.read_end()
    assert "failed" not in caplog.text


@pytest.mark.parametrize("pool", ["web", "other"])
def test_checks_that_are_new_begin_without_a_client(pool: str, file: File) -> None:
    with Upstream() as checked:
        file.write(checked.address)
        with file.serve() as server:
            file.write(checked.address, pool=pool, rest='check = "10ms"')
            server.reload()
            checked.accept().close()


def test_a_pool_that_is_gone_is_checked_no_more(file: File) -> None:
    file.write("a:1", rest="check = 9")
    served = Served(contents(str(file.path)))
    gone = served.pools["web"]
    gone.on_added = checks = lambda upstream: None  # its checks run
    file.write("a:1", rest="check = 9", pool="other")
    served.change(Served(contents(str(file.path))))
    assert gone.on_added is not checks


def test_all_workers_have_the_new_file_and_those_that_come_later_begin_with_it(
    file: File, upstreams: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    a, b = upstreams
    file.write(a)
    with file.serve(workers=2) as server:
        eventually(lambda: len(children(os.getpid())) == 3, "there is no spare")
        with Peer(server.addresses[0]) as peer:
            assert peer.read(1) == b"a"
            file.write(b)
            server.reload()
            eventually(lambda: [said(server) for _ in range(20)] == [b"b"] * 20, "one has the old")
            peer.send(b"still here")
            assert peer.read(10) == b"still here"
        file.path.unlink()  # nobody reads it but the parent
        for number in (1, 2):  # the one that was a spare at the change, and one that began later
            for each in children(os.getpid()):
                if each in _serving(server):
                    os.kill(each, signal.SIGKILL)
            killed = 2 * number
            eventually(
                lambda: caplog.text.count("was killed by SIGKILL") >= killed,  # noqa: B023
                "none was killed",
            )
            eventually(lambda: len(_serving(server)) == 2, "none is replaced")
            assert [said(server) for _ in range(20)] == [b"b"] * 20


def _serving(server: Any) -> list[int]:
    """Return the numbers of the workers that have a place."""
    workers = server._engine._parent._workers
    return [each.process.pid for each in workers if each.place is not None]


def test_a_worker_that_cannot_do_what_the_file_says_tells_so(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    file.write("a:1")
    served = Served(contents(str(file.path)))
    served.entrances["web"].renewed(b"what no parent sends")
    assert "cannot do what the file says now" in caplog.text
