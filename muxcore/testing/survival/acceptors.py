"""The process that forks the children of the process model, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import SMALL, Peer, narrow
from muxcore.testing.proc import alive, children, ran_seconds
from muxcore.testing.program import ProgramSuite
from muxcore.testing.suite import eventually
from muxcore.testing.survival.clients import idle_cpu
from muxcore.testing.survival.descriptors import crowded


class _Floods:
    """Sends more than the kernel takes for a client that does not read."""

    def connection_made(self, transport: Any) -> None:
        transport.write(bytes(2 << 20))


_FD_SETSIZE = 1024  # <sys/select.h>


class Acceptors(ProgramSuite):
    def test_an_acceptor_whose_parent_is_gone_ends_and_costs_no_cpu_until_then(self) -> None:
        reader, writer = os.pipe()
        parent = os.fork()
        if parent == 0:
            limits = Limits(stop_timeout=60)
            server = self.server(_Floods, narrow(), limits=limits, allow_threads=True).start()
            os.write(writer, server.addresses[0].encode())
            time.sleep(3600)
            os._exit(0)
        os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:
            address = pipe.read(100).decode()
        (acceptor,) = children(parent)
        with Peer(address, receive_buffer=SMALL) as peer:
            peer.read(1)
            (child,) = children(acceptor)
            os.kill(parent, signal.SIGKILL)
            os.waitpid(parent, 0)
            eventually(lambda: _refuses(address), "nobody listens any more")
            idle_cpu(lambda: ran_seconds(acceptor))
            assert alive(child)
        eventually(lambda: not alive(acceptor) and not alive(child), "it has ended")

    def test_a_program_that_waits_for_any_child_hinders_nobody(self) -> None:
        def wait_for_any() -> None:
            signal.signal(signal.SIGCHLD, lambda number, frame: _wait_for_any())

        with self.program(muxcore.Echo, first=wait_for_any) as program:
            for _ in range(3):
                program.play("send 1; read 1; close")
            stays = program.connect()
            stays.send(b"x")
            stays.read(1)
            program.signal(signal.SIGINT)
            stays.read_eof()
            assert program.wait() == 130

    def test_an_acceptor_that_somebody_else_has_waited_for_has_ended(self) -> None:
        with self.serving(muxcore.Echo, allow_threads=True) as run:
            (acceptor,) = children(os.getpid())
            run.server.request_stop()
            os.waitpid(acceptor, 0)
            assert run.server.stop() is True

    def test_an_acceptor_that_was_killed_is_told_of(self) -> None:
        server = self.server(muxcore.Echo, allow_threads=True).start()
        (acceptor,) = children(os.getpid())
        assert server.failed is None
        os.kill(acceptor, signal.SIGKILL)
        eventually(lambda: server.failed is not None, "it is told")
        for _ in range(2):
            assert "ended with status -9" in str(server.failed)
        with pytest.raises(RuntimeError, match="status -9"):
            server.stop()
        server.stop()

    def test_a_program_with_more_descriptors_than_select_takes_can_stop_it(self) -> None:
        with (
            crowded(_FD_SETSIZE),
            self.serving(muxcore.Echo, allow_threads=True) as run,
        ):
            run.play("send 1; read 1; close")
            assert run.server.stop() is True


def _wait_for_any() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _refuses(address: str) -> bool:
    try:
        Peer(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it was in the queue of a listener that was closed just then
    return False
