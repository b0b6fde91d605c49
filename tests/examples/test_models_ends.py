"""How the models end, and what they do without: descriptors, work, children."""

from __future__ import annotations

import os
import resource
import signal
import time

import pytest

from muxcore.testing.peer import SMALL, Peer, pattern
from muxcore.testing.proc import children, descriptors
from muxcore.testing.suite import eventually
from muxcore.testing.survival.clients import idle_cpu

from .model import NARROW, PATIENT, Start

MUCH = 200_000  # bytes; more than a narrow connection holds, less than what may be queued

# A long answer to a question, and to nothing else; four bytes of it tell where they stand.
LONG_ANSWER = f"""
import struct
class Handler(page.Echo):
    def received(self, data):
        if data != b"a question":
            return b""
        return struct.pack(">{MUCH // 4}I", *range({MUCH // 4}))
"""


# -- the end


def test_a_signal_wakes_one_that_sleeps(start: Start) -> None:
    with start(PATIENT) as program:
        peer = program.served()
        program.signal(signal.SIGTERM)
        peer.read_eof()
        peer.close()
        program.ends()


@pytest.mark.parametrize(
    ("number", "changes"),
    [(signal.SIGTERM, NARROW), (signal.SIGINT, "")],
    ids=["queued by us", "queued by the kernel"],
)
def test_a_signal_ends_it_once_what_is_queued_was_sent(
    start: Start, number: signal.Signals, changes: str
) -> None:
    """Also where more comes in: a close would answer that by a reset, and all would be lost."""
    with start(changes + PATIENT + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        assert peer.read(1_000) == pattern(1_000)
        program.signal(number)
        program.stops_listening()
        for start_at in range(1_000, 4_000, 1_000):
            peer.send(b"no question")
            assert peer.read(1_000) == pattern(1_000, start_at)
        assert peer.read(MUCH - 4_000) == pattern(MUCH - 4_000, 4_000)
        peer.read_eof()
        for _ in range(2):  # the second would meet the reset that answered the first
            peer.send(b"no question")
        peer.close()
        program.ends()


def test_the_end_waits_for_nobody_longer_than_its_deadline(start: Start) -> None:
    with start(NARROW + "page.DRAIN = 0.2\n" + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.ends()


def test_the_deadline_may_pass_between_two_looks_at_the_clock(start: Start) -> None:
    ticking = """
page.DRAIN = 1.5
class Ticking:
    now = 0.0
    @classmethod
    def monotonic(cls):
        cls.now += 1
        return cls.now
page.time = Ticking
"""
    with start(NARROW + ticking + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.ends()


def test_a_second_signal_cuts_the_end_short(start: Start) -> None:
    with start(NARROW + PATIENT + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.stops_listening()
        idle_cpu(program.ran)
        program.signal(signal.SIGTERM)
        program.ends()


# -- want


def test_without_descriptors_nobody_is_lost_and_nothing_spins(start: Start) -> None:
    with start() as program:
        early = program.served()
        soft, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
        begun = time.monotonic()
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (3, hard))
        late = program.connect()
        late.send(b"x")
        program.complains("accept failed")
        idle_cpu(program.ran)
        early.send(b"x")
        assert early.read(1) == b"x"
        tried = program.complaints().count("accept failed")
        assert tried <= (time.monotonic() - begun) / 0.5 + 1
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert late.read(1) == b"x"


def test_a_client_that_has_gone_before_it_was_accepted_holds_up_nobody(start: Start) -> None:
    gone = """
import errno
real, failures = socket.socket.accept, [errno.ECONNABORTED, errno.EAGAIN]
def accept(self):
    if failures:
        raise OSError(failures.pop(), "it has gone")
    return real(self)
socket.socket.accept = accept
"""
    with start(gone) as program:
        program.served()
        assert program.complaints() == ""


def test_a_descriptor_that_select_cannot_watch_is_refused_by_name(start: Start, model: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 1_100:
        pytest.skip(f"1,100 descriptors are needed, `ulimit -Hn` is {hard}")
    crowded = """
resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
def fill():
    while os.open("/dev/null", os.O_RDONLY) < 1_010:
        pass
"""
    later = "Server = page.Server\ndef server(*args, **named):\n    made = Server(*args, **named)\n"
    later += "    fill()\n    return made\npage.Server = server\n"
    with start(crowded + later) as program:
        peers = [program.connect() for _ in range(30)]
        for peer in peers:
            peer.sock.sendall(b"x")
        served = [peer for peer in peers if is_served(peer)]
        for peer in served:
            peer.send(b"still")
            assert peer.read(5) == b"still"
        if model == "select":
            assert 0 < len(served) < len(peers)
            assert "FD_SETSIZE=1024" in program.complaints()
        else:
            assert served == peers


def is_served(peer: Peer) -> bool:
    """Wait for an answer or the end, and return which of them came."""
    try:
        return peer.sock.recv(1) == b"x"
    except ConnectionError:
        return False


def test_an_idle_server_sleeps(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(3)]
        idle_cpu(program.ran)
        for peer in peers:
            peer.send(b"x")
            assert peer.read(1) == b"x"


# -- children


@pytest.mark.parametrize("model", ["process"], indirect=True)
def test_children_are_reaped_also_those_that_were_killed(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(6)]
        for pid in children(program.pid)[:3]:
            os.kill(pid, signal.SIGKILL)
        for peer in peers:
            peer.close()
        eventually(lambda: not children(program.pid), "no child is left, and no zombie")
        idle_cpu(program.ran)
        program.served()


@pytest.mark.parametrize("model", ["process"], indirect=True)
def test_a_child_has_its_own_socket_and_nobody_elses(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(4)]
        processes = program.processes()
        assert len(processes) == 1 + len(peers)
        # one each, and its waker's two; the parent may not have closed its copy of the last yet
        eventually(lambda: len(sockets(program.pid)) == 3, "the parent has its listener")
        owned = [sockets(pid) for pid in processes]
        assert [len(each) for each in owned] == [3] * len(owned)
        assert len(set().union(*owned)) == 3 * len(owned)


def sockets(pid: int) -> set[str]:
    return {name for name in descriptors(pid) if name.startswith("socket:")}
