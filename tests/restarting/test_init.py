"""A restart of the first process of a container, which must not end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive, children
from tests.restarting.service import asked, greeting

Start = Callable[..., Any]
Tell = Callable[..., None]

_IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skip where a process cannot be made init."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Debian and Ubuntu: apt-get install util-linux)")
    done = subprocess.run([*_IN_A_NAMESPACE, "true"], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"no namespace of processes can be made here: {done.stderr.strip()}")


def test_init_becomes_the_program_that_a_child_has_run_before(start: Start, tell: Tell) -> None:
    tell()
    service = start(within=_IN_A_NAMESPACE)
    (where,), (init,) = service.addresses, children(service.process.pid)
    assert service.pid == 1
    with Peer(where) as before, contextlib.ExitStack() as later:
        assert greeting(before) == ("one", 1, 0)
        tell("two", (where,))
        os.kill(init, signal.SIGUSR2)
        second = service.serves()
        service.says(f"process {second} has taken over; draining 1 client")
        between = later.enter_context(Peer(where))
        assert greeting(between) == ("two", second, 1)
        talks(before)
        before.close()
        assert service.serves() == 1
        service.says("process 1 has taken over; draining 1 client")
        eventually(lambda: asked(where) == ("two", 1, 0), service.log)
        talks(between)
    eventually(lambda: not children(init), "a child is left, or not waited for")
    assert children(service.process.pid) == [init]
    os.kill(init, signal.SIGTERM)
    assert service.process.wait(30) == 0, service.log()


@pytest.mark.deep
def test_init_that_drains_ends_after_all_others(start: Start, tell: Tell) -> None:
    tell()
    service = start(within=_IN_A_NAMESPACE)
    (where,), (init,) = service.addresses, children(service.process.pid)
    tell("broken", (where,), fails="at import")
    os.kill(init, signal.SIGUSR2)
    service.says("ended with 1 before it was ready: serving on")
    assert children(init) == []
    with Peer(where) as before:
        greeting(before)
        tell("two", (where,))
        os.kill(init, signal.SIGUSR2)
        second = service.serves()
        service.says(f"process {second} has taken over")
        with Peer(where) as after:
            assert greeting(after) == ("two", second, 1)
            os.kill(init, signal.SIGTERM)
            service.says("SIGTERM: draining 1 client")  # in the child
            before.close()
            talks(after)
            assert alive(init)
    assert service.process.wait(30) == 0, service.log()


def talks(peer: Peer) -> None:
    peer.send(b"hello")
    assert peer.read(5) == b"hello"
