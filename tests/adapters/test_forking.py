"""A fork in a callback: however the child ends, the parent's loop and clients are untouched."""

from __future__ import annotations

import os
import signal
import sys
import warnings

import pytest

import muxcore
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import LOST, MADE, Recorder
from muxcore.testing.suite import eventually


@pytest.mark.parametrize("ending", ["exits", "returns", "fails"])
def test_the_childs_end_does_not_touch_what_the_parent_waits_for(
    adapter: ProgramSuite, ending: str
) -> None:
    class Forks(Recorder):
        def data_received(self, data: bytes) -> None:
            if data == b"fork":
                with warnings.catch_warnings():  # of threads: the child uses none
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if not pid:
                    if ending == "exits":
                        sys.exit(3)
                    if ending == "fails":
                        raise ValueError("the child's")
                    return
                self.transport.write(b"%d\n" % pid)
            else:
                self.transport.write(data)

    with adapter.program(Forks) as program:
        before = program.connect()
        before.send(b"1")
        assert before.read(1) == b"1"
        forks = program.connect()
        forks.send(b"fork")
        child = int(forks.read_line())
        eventually(lambda: not _lives(child), "the child goes on serving")
        for peer in (before, forks, program.connect()):
            for _ in range(20):  # whoever shared the work would get some of it
                peer.send(b"served")
                assert peer.read(6) == b"served"
        program.signal(signal.SIGINT)
        before.read_eof()
        assert program.wait() == 130
        assert program.life(before) == [MADE, LOST]


def test_what_a_child_asks_of_its_parents_connection_is_refused_by_name(
    adapter: ProgramSuite,
) -> None:
    children: list[int] = []

    class Forks(Recorder):
        def data_received(self, data: bytes) -> None:
            with warnings.catch_warnings():  # of threads: the child uses none
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if not pid:
                try:
                    self.transport.write(b"the child's")
                except RuntimeError as exc:
                    os._exit(3 if "forked from" in str(exc) else 4)
                os._exit(5)
            children.append(pid)
            self.transport.write(b"the parent's")

    with adapter.serving(Forks) as run:
        peer = run.connect()
        peer.send(b"fork")
        assert peer.read(12) == b"the parent's"
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 3


def test_an_engine_that_was_made_before_a_fork_may_be_run_after_it(adapter: ProgramSuite) -> None:
    """As a daemon does it, or a program with a worker a core."""

    server = adapter.server(muxcore.Echo)
    pid = os.fork()
    if not pid:
        try:
            os._exit(server.run(lambda server: server.request_stop()))
        finally:
            os._exit(70)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server.stop() is True


def _lives(pid: int) -> bool:
    """Whether a grandchild runs: its parent does not wait for it, so a zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
