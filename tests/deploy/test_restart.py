"""A restart under a supervisor: it is told who is the main process, and its sockets stay served."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from muxcore import address
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive

from .supervisor import Supervisor


def test_the_supervisor_hears_who_has_taken_over_and_its_sockets_are_served(
    supervisor: Supervisor,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        words = ("-m", "muxcore", "echo", "fd:web")
        unit = supervisor.start(*words, sockets=[("web", tcp)], watchdog=600)
        assert supervisor.until_word("READY", "1").pid == unit.pid
        unit.signal(signal.SIGUSR2)
        successor = supervisor.until_word("READY", "1").pid
        assert successor != unit.pid
        try:
            said = supervisor.until(lambda words: "MAINPID" in words, "MAINPID")
            assert (said.pid, int(said.words["MAINPID"])) == (unit.pid, successor)
            assert unit.status() == 0, unit.printed()
            with Peer(address.of_socket(tcp)) as peer:
                peer.send(b"hello")
                assert peer.read(5) == b"hello"
            os.kill(successor, signal.SIGTERM)
            assert supervisor.until_word("STOPPING", "1").pid == successor
            assert all("STOPPING" not in each.words for each in supervisor.heard[:-1])
            eventually(lambda: not alive(successor), unit.printed)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(successor, signal.SIGKILL)
