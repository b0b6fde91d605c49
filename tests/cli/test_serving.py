"""``muxcore echo``, ``discard`` and ``serve``: what they print, and how they end."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore import cli
from muxcore.cli import _serving
from muxcore.testing import Peer, eventually
from muxcore.testing.peer import SMALL
from tests.usual import usual

Start = Callable[..., Any]

_ENGINES = [info.name for info in muxcore.engines() if info.available]

_STUBBORN = """
class Floods:
    def connection_made(self, transport):
        transport.write(bytes(50_000_000))

class Upper:
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data.upper())
"""


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_the_first_line_tells_the_address_that_port_0_became(command: Start, engine: str) -> None:
    echo = command("echo", "0", "--engine", engine)
    line = rf"listening on 127\.0\.0\.1:[1-9]\d* \(engine {engine}(, level-triggered)?, pid \d+\)"
    assert re.fullmatch(line, echo.line())
    Peer.play(echo.address, "send 5000; read 5000; shutdown-write; read-eof; close")
    echo.signal(signal.SIGINT)  # who has gone may not be gone yet: a drain would tell
    assert echo.status() == 130
    assert echo.complaint() == ""


def test_each_address_gets_its_line_in_order(command: Start, tmp_path: Path) -> None:
    echo = command("echo", f"unix:{tmp_path}/s", "0", "--engine", "epoll", "--trigger", "edge")
    assert echo.address == f"unix:{tmp_path}/s"
    assert ", edge-triggered, " in echo.said[0]
    assert echo.line().startswith("listening on 127.0.0.1:")
    Peer.play(echo.address, "send 10; read 10; close")


def test_a_server_takes_all_the_descriptors_that_it_may_have(command: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        echo = command("echo", "0", "--engine", "epoll")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.ExitStack() as clients:
        for peer in [clients.enter_context(Peer(echo.address)) for _ in range(200)]:
            peer.send(b"hello")
            assert peer.read(5) == b"hello"
    echo.signal(signal.SIGINT)  # who has gone may not be gone yet: a drain would tell
    assert echo.status() == 130
    assert echo.complaint() == ""


def test_discard_answers_nothing(command: Start) -> None:
    discard = command("discard", "0")
    Peer.play(discard.address, "send 5000; shutdown-write; read-eof; close")


# -- how they end


def test_sigterm_lets_a_client_finish_and_ends_with_0(command: Start, tmp_path: Path) -> None:
    (tmp_path / "floods.py").write_text(_STUBBORN)
    program = command("serve", "floods:Floods", "0", "--drain-timeout", "600", cwd=tmp_path)
    with Peer(program.address, receive_buffer=SMALL) as peer:
        assert peer.read(1) == b"\0"
        program.signal(signal.SIGTERM)
        assert len(peer.read(50_000_000 - 1)) == 50_000_000 - 1
        assert program.process.poll() is None
    assert program.status() == 0
    begun, ended = program.complaint().splitlines()
    assert begun == ("muxcore: SIGTERM: draining 1 client for up to 600 s; again to end them")
    assert re.fullmatch(r"muxcore: 1 finished, 0 stopped after \d+\.\d s", ended)


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_an_idle_client_is_ended_where_that_is_asked_for(command: Start, engine: str) -> None:
    options = ("--drain-timeout", "600", "--drain-idle", "0.05", "--engine", engine)
    echo = command("echo", "0", *options)
    with Peer(echo.address) as peer:
        peer.send(b"x")
        assert peer.read(1) == b"x"
        echo.signal(signal.SIGTERM)
        peer.read_eof()
    assert echo.status() == 0


@pytest.mark.parametrize(("given", "meant"), [("wait", None), ("close", 1.0), ("2.5", 2.5)])
def test_who_is_idle_in_a_drain_is_said_in_words_or_seconds(given: str, meant: Any) -> None:
    options = cli._parser().parse_args(["echo", "0", "--drain-idle", given])
    assert _serving.limits_of(options).drain_idle == meant


def test_who_is_idle_in_a_drain_is_refused_in_other_words(command: Start) -> None:
    echo = command("echo", "0", "--drain-idle", "perhaps")
    assert echo.status() == 2
    assert (
        "--drain-idle must be wait, close, or a time such as 30s or 500ms, not 'perhaps'"
        in echo.complaint()
    )


def test_a_delay_is_told_and_more_may_come(command: Start) -> None:
    echo = command("echo", "0", "--drain-delay", "600")
    with Peer(echo.address) as peer:
        peer.send(b"x")
        assert peer.read(1) == b"x"
        echo.signal(signal.SIGTERM)
        with Peer(echo.address) as late:
            late.send(b"y")
            assert late.read(1) == b"y"
        assert echo.process.poll() is None
    eventually(lambda: _aborted(echo), "it goes on")
    assert echo.status() in (128 + signal.SIGTERM, -signal.SIGTERM)
    # the second may be there before the signal is heard
    told = r"draining (1 client|2 clients) for up to 25 s, after 600 s in which more may come"
    assert re.search(told, echo.complaint())


def _aborted(program: Any) -> bool:
    program.signal(signal.SIGTERM)  # two that come close together are one
    return program.process.poll() is not None


def test_sigint_ends_with_130(command: Start) -> None:
    echo = command("echo", "0", "--engine", "pure")
    Peer.play(echo.address, "send 10; read 10; close")
    echo.signal(signal.SIGINT)
    assert echo.status() == 130
    assert echo.complaint() == ""


def test_a_second_signal_aborts_what_the_first_one_waits_for(
    command: Start, tmp_path: Path
) -> None:
    (tmp_path / "floods.py").write_text(_STUBBORN)
    program = command("serve", "floods:Floods", "0", "--stop-timeout", "600", cwd=tmp_path)
    with Peer(program.address, receive_buffer=SMALL) as peer, Peer(program.address) as last:
        assert peer.read(1) == last.read(1) == b"\0"
        program.signal(signal.SIGINT)
        last.read_all()  # it stops: this one has got all, and the other waits
        assert program.process.poll() is None
        program.signal(signal.SIGTERM)
        assert program.status() == 128 + signal.SIGTERM
        peer.read_end()


def test_a_drain_that_is_cut_short_ends_with_1(command: Start, tmp_path: Path) -> None:
    (tmp_path / "floods.py").write_text(_STUBBORN)
    program = command("serve", "floods:Floods", "0", "--drain-timeout", "0.05", cwd=tmp_path)
    with Peer(program.address, receive_buffer=SMALL) as peer:
        assert peer.read(1) == b"\0"
        program.signal(signal.SIGTERM)
        assert program.status() == 1
    assert "0 finished, 1 stopped after" in program.complaint()


# -- what they print


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_v_prints_a_line_when_a_client_comes_and_goes(command: Start, engine: str) -> None:
    echo = command("echo", "0", "-v", "--engine", engine)
    with Peer(echo.address) as peer:
        name = f"127.0.0.1:{peer.name[1]}"
        assert echo.line() == f"+ {name} connected"
        peer.send(b"hello")
        assert peer.read(5) == b"hello"
    gone = rf"- {name} gone after \d+\.\d\d\d s: 5 bytes in, 5 out"
    assert re.fullmatch(gone, echo.line())
    echo.signal(signal.SIGTERM)
    assert echo.status() == 0
    assert len(echo.said) == 3


@pytest.mark.parametrize("verb", ["echo", "discard"])
def test_vv_prints_messages_and_says_that_they_pass_through_python(
    command: Start, verb: str
) -> None:
    program = command(verb, "0", "-vv")
    assert program.line() == (
        "messages are shown: they pass through Python callbacks, not the verb"
    )
    where = program.line().split()[2]
    with Peer(where) as peer:
        name = f"127.0.0.1:{peer.name[1]}"
        assert program.line() == f"+ {name} connected"
        peer.send(b"hello\r\n")
        assert program.line() == rf"  {name} sent 7 bytes: 'hello\r\n'"
        if verb == "echo":
            assert peer.read(7) == b"hello\r\n"
        peer.send(b"x" * 61)
        assert program.line() == f"  {name} sent 61 bytes: '{'x' * 60}'…"
    assert program.line().startswith(f"- {name} gone after ")


def test_a_reset_is_told_with_its_error(command: Start) -> None:
    echo = command("echo", "0", "-v")
    peer = Peer(echo.address)
    echo.line()
    peer.reset()
    assert echo.line().endswith("0 bytes in, 0 out, [Errno 104] Connection reset by peer")


def test_a_client_without_a_name_is_numbered(command: Start, tmp_path: Path) -> None:
    echo = command("echo", f"unix:{tmp_path}/s", "-v")
    with Peer(echo.address):
        assert echo.line() == "+ unix client 1 connected"


def test_q_prints_nothing(command: Start, tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/s"
    echo = command("echo", where, "-q", "--engine", "pure")

    def served() -> bool:  # it says nothing that could be waited for
        try:
            Peer.play(where, "send 10; read 10; close")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    eventually(served, "nobody listens")
    echo.signal(signal.SIGTERM)
    assert echo.status() == 0
    assert (echo.said, echo.complaint()) == ([], "")


# -- serve


def test_serve_takes_a_service_from_the_current_folder(command: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_STUBBORN)
    program = command("serve", "app:Upper", "0", "-vv", cwd=tmp_path)
    with Peer(program.address) as peer:
        peer.send(b"hello")
        assert peer.read(5) == b"HELLO"
        name = f"127.0.0.1:{peer.name[1]}"
        assert program.line() == f"+ {name} connected"
        assert program.line() == f"  {name} sent 5 bytes: 'hello'"


def test_limits_reach_the_engine(command: Start) -> None:
    echo = command("echo", "0", "-v", "--idle-timeout", "0.05", "--connections", "1")
    with Peer(echo.address) as peer:
        peer.read_end()
    echo.line()
    assert echo.line().endswith("no byte moved for 0.05 s")
