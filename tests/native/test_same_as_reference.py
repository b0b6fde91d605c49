"""Generated scripts on native-epoll and on pure-epoll: the same bytes, the same callbacks.

The peer works in lockstep: it waits until the protocol has done each step, so that both engines
meet the same situation. Adjacent ``data_received`` are joined.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

import muxcore
from muxcore.native import core

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

if core.missing is not None:
    pytest.skip(f"the C core is not built: {core.missing}", allow_module_level=True)

_DEADLINE = 20.0  # s

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 200_000)),
        st.tuples(st.just("write"), st.integers(0, 200_000)),
        st.tuples(st.just("writes"), st.integers(1, 300)),
        st.tuples(st.just("limits"), st.integers(0, 100_000)),
        st.tuples(st.sampled_from(["pause", "resume", "eof", "size"]), st.just(0)),
    ),
    max_size=12,
)
LAST = st.sampled_from(["close", "abort", "echo", "discard", "shutdown"])


class Puppet:
    """Do what the test says; write down what is heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.made = threading.Event()
        self.gone = threading.Event()
        self.received = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        if self.heard and isinstance(self.heard[-1], bytes):
            self.heard[-1] += data
        else:
            self.heard.append(data)
        self.received += len(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(("lost", type(exc).__name__))
        self.gone.set()


def play(engine: str, trigger: str, steps: list[tuple[str, int]], last: str) -> Any:
    """Return what the protocol heard, what the peer got, and what calls returned."""
    puppet = Puppet()
    returned: list[Any] = []
    with muxcore.Server(lambda: puppet, "127.0.0.1:0", engine=engine, trigger=trigger) as server:
        host, _, port = server.addresses[0].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_DEADLINE) as sock:
            assert puppet.made.wait(_DEADLINE)
            got = bytearray()
            reader = threading.Thread(target=_read_all, args=(sock, got))
            reader.start()

            def call(act: Any) -> None:
                done = threading.Event()

                def run() -> None:
                    try:
                        returned.append(act())
                    except (RuntimeError, ValueError) as exc:
                        returned.append(type(exc).__name__)
                    done.set()

                server.call_soon_threadsafe(run)
                assert done.wait(_DEADLINE)

            transport, sent, paused = puppet.transport, 0, False
            for step, size in steps:
                if step == "send" and not paused:
                    sock.sendall(_pattern(sent, size))
                    sent += size
                    while puppet.received < sent and not puppet.gone.is_set():
                        call(lambda: None)
                    returned.clear()
                elif step == "write":
                    call(lambda n=size: transport.write(_pattern(0, n)))
                elif step == "writes":
                    call(lambda n=size: [transport.write(b"%d," % i) for i in range(n)] and None)
                elif step == "limits":
                    call(lambda n=size: transport.set_write_buffer_limits(n))
                elif step == "pause":
                    call(transport.pause_reading)
                    paused = True
                elif step == "resume":
                    call(transport.resume_reading)
                    paused = False
                elif step == "eof":
                    call(transport.write_eof)
            if last != "shutdown":
                call(getattr(transport, last))
            call(transport.resume_reading)  # a verb may have been refused
            with contextlib.suppress(OSError):
                if last not in ("close", "abort"):  # unread input would turn FIN into a reset
                    sock.sendall(b"tail")
                sock.shutdown(socket.SHUT_WR)
            assert puppet.gone.wait(_DEADLINE)
            reader.join(_DEADLINE)
    return puppet.heard, bytes(got), returned


def _pattern(start: int, size: int) -> bytes:
    return bytes((start + i) % 251 for i in range(251)) * (size // 251) + bytes(size % 251)


def _read_all(sock: socket.socket, got: bytearray) -> None:
    with contextlib.suppress(OSError):
        while piece := sock.recv(65_536):
            got += piece


@pytest.mark.parametrize("trigger", ["level", "edge"])
@settings(max_examples=25)
@given(steps=STEPS, last=LAST)
def test_a_generated_script_has_the_same_effect(
    trigger: str, steps: list[tuple[str, int]], last: str
) -> None:
    heard, got, returned = play("pure-epoll", trigger, steps, last)
    mine = play("native-epoll", trigger, steps, last)
    if last == "abort":  # how much of the queue went before depends on the peer's speed
        size = min(len(got), len(mine[1]))
        assert (mine[0], mine[1][:size], mine[2]) == (heard, got[:size], returned)
    else:
        assert mine == (heard, got, returned)
