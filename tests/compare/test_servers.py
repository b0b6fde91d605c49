"""Servers under measurement start, are found, and are gone afterwards."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, client_core, echo_subject


def test_a_server_is_found_by_what_it_prints_and_ends_with_zero(subject: Any) -> None:
    server = ServerProcess(subject("one"))
    assert server.address.startswith("127.0.0.1:")
    assert server.is_running()
    assert server.stop() == 0
    assert not server.is_running()


def test_a_server_that_does_not_start_says_what_it_printed() -> None:
    failing = Subject("failing", (sys.executable, "-c", "raise SystemExit('no port is free')"))
    with pytest.raises(ServerFailed, match=r"failing: .* it printed: no port is free"):
        ServerProcess(failing)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerFailed, match="cannot run 'no-such-program'"):
        ServerProcess(Subject("absent", ("no-such-program",)))


def test_a_server_that_prints_much_is_not_blocked() -> None:
    text = (
        "import sys\nprint('listening on 127.0.0.1:1', flush=True)\n"
        "print('x' * 1_000_000, flush=True)\nimport signal\nsignal.pause()"
    )
    server = ServerProcess(Subject("loud", (sys.executable, "-c", text)))
    assert server.stop() == -15


def test_a_server_that_ends_by_itself_leaves_its_last_words() -> None:
    text = "print('listening on 127.0.0.1:1', flush=True)\nraise SystemExit('out of luck')"
    with ServerProcess(Subject("mortal", (sys.executable, "-c", text))) as server:
        server._process.wait(10)
        ending = server.ending()
    assert ending.startswith("mortal ended by itself with status 1; it printed: ")
    assert ending.endswith("out of luck")


def test_the_client_gets_its_cores_back() -> None:
    before = os.sched_getaffinity(0)
    with client_core():
        assert os.sched_getaffinity(0) <= before
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("handler", ["verb", "callback"])
def test_muxcore_serves_as_a_subject(handler: str) -> None:
    with ServerProcess(echo_subject("pure-epoll", handler)) as server:
        assert server.cpu_ns() > 0
        assert server.memory() > 1 << 20
