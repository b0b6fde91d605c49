"""A restart as the supervisor hears it: another process is the main one, and all goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest

from muxcore import address
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive

from .supervisor import Supervisor


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--workers", "2"], marks=pytest.mark.deep)], ids=["plain", "workers"]
)
def test_the_heir_speaks_for_the_service_and_has_its_sockets(
    supervisor: Supervisor, more: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        where = address.of_socket(tcp)
        command = ["-m", "muxcore", "echo", "fd:web", *more]
        unit = supervisor.start(*command, sockets=[("web", tcp)], watchdog=0.4)
        supervisor.until_word("READY", "1")
        with Peer(where) as peer:
            peer.send(b"hello")
            assert peer.read(5) == b"hello"
            unit.signal(signal.SIGUSR2)
            said = supervisor.until(lambda words: "MAINPID" in words, "another main process")
            heir = int(said.words["MAINPID"])
            try:
                assert said.pid == unit.pid != heir
                supervisor.until(lambda words: "WATCHDOG" in words, "that it lives")
                # its one queue is the supervisor's: none is beside it that ends with us
                assert not tcp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                with Peer(where) as other:
                    other.send(b"hello")
                    assert other.read(5) == b"hello"
                peer.send(b"still here")
                assert peer.read(10) == b"still here"
                peer.close()
                assert unit.status() == 0, supervisor.story()
                while supervisor.next(0):
                    pass
                heard = supervisor.heard
                assert [each.pid for each in heard if "READY" in each.words] == [unit.pid, heir]
                assert not any("STOPPING" in each.words for each in heard)
                after = heard[heard.index(said) + 1 :]
                assert {each.pid for each in after} == {heir}
                os.kill(heir, signal.SIGTERM)
                assert supervisor.until_word("STOPPING", "1").pid == heir
                eventually(lambda: not alive(heir), "the heir goes on")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(heir, signal.SIGKILL)
