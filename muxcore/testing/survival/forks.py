"""A program forks, as any may: the child has a copy of the server, and the parent serves on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings

from muxcore.testing.peer import DEADLINE
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import Recorder

_PROGRAM = """
import os, socket, sys, tempfile, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
import muxcore

def client(where):
    kind, _, rest = where.partition(":")
    peer = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    peer.settimeout({deadline})
    peer.connect(rest if kind == "unix" else (kind, int(rest)))
    return peer

def child_does(server):
    {child}

path = tempfile.mkdtemp() + "/s"
server = muxcore.Server(muxcore.Echo, 0, "unix:" + path, engine={engine!r}, trigger={trigger!r})
with server, client(server.addresses[0]) as before:
    before.sendall(b"a")
    before.recv(1)
    pid = os.fork()
    if pid == 0:
        child_does(server)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    for peer in (before, client(server.addresses[0]), client("unix:" + path)):
        peer.sendall(b"b")
        assert peer.recv(1) == b"b"
        peer.close()
    assert server.stop() is True
    assert not os.path.exists(path)
os.rmdir(os.path.dirname(path))
print("served on", flush=True)
"""


class Forks(ProgramSuite):
    def test_a_forked_child_that_ends_normally_leaves_its_parents_server_alone(self) -> None:
        assert self._ran("pass") == ""

    def test_a_forked_child_cannot_stop_its_parents_server_and_is_told(self) -> None:
        errors = self._ran("assert server.stop() is False; server.request_stop()")
        assert "stop() does nothing: the server belongs to process" in errors

    def test_a_forked_child_cannot_use_its_parents_server_and_is_told(self) -> None:
        child = """
    import socket
    theirs, ours = socket.socketpair()
    for call in (
        lambda: server.adopt(ours),
        lambda: server.connect(9, muxcore.Echo),
        lambda: server.call_later(0, print),
        lambda: server.call_soon_threadsafe(print),
    ):
        try:
            call()
        except muxcore.CapabilityMissing:
            continue
        except RuntimeError as exc:
            assert "the server belongs to process" in str(exc) or "thread" in str(exc), exc
        else:
            raise AssertionError("a child was not refused")
    assert ours.fileno() >= 0
"""
        assert self._ran(child.strip()) == ""

    def test_a_signal_to_a_child_that_a_callback_forked_is_the_childs(self) -> None:
        class Forks(Recorder):
            def data_received(self, data: bytes) -> None:
                reader, writer = os.pipe()
                with warnings.catch_warnings():  # of threads: the child only sleeps
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if pid == 0:
                    os.write(writer, b"x")
                    until = time.monotonic() + DEADLINE
                    while time.monotonic() < until:
                        time.sleep(0.01)  # short: a signal just before a sleep does not end it
                    os._exit(0)
                os.read(reader, 1)  # before that, Python forgets a forked child's signals
                os.kill(pid, signal.SIGTERM)
                self.note(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(reader)
                os.close(writer)
                self.transport.write(b"served on")

        with self.program(Forks) as program:
            for _ in range(2):
                peer = program.connect()
                peer.send(b"x")
                assert peer.read(9) == b"served on"
                program.wait_for(("note", -signal.SIGTERM), peer)
                peer.close()
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    def _ran(self, child: str) -> str:
        """Run a program whose forked child does something; return what it wrote to stderr."""
        source = _PROGRAM.format(
            engine=self.engine, trigger=self.trigger, child=child, deadline=DEADLINE
        )
        ran = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=60
        )
        assert (ran.returncode, ran.stdout) == (0, "served on\n"), ran.stderr
        return ran.stderr
