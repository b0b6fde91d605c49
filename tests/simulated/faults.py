"""The faults that judge the simulation: each is planted in the Python engines, and has to be found.

    python -m tests.simulated.faults [--seeds N] [--jobs N]

A fault is a change of the text of a copy of the package; the copy runs the seeds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "muxcore"
SEEDS = 20_000  # within which each is to be found; all but one are within 10,000
_DEADLINE = 900.0  # s; twenty thousand seeds take a minute

EPOLL = "pure/epoll_engine.py"
LINGERING = "pure/lingering.py"
LISTENER = "parts/listener.py"
QUEUE = "pure/send_queue.py"
READINESS = "pure/readiness.py"
SELECT = "pure/select_engine.py"
STREAM = "pure/stream_transport.py"
WATCHING = "pure/watching_loop.py"
TIMERS = "parts/timers.py"
TRANSPORT = "parts/transport.py"
RATES = "parts/rates.py"
RELAY = "parts/relay.py"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is wrong.
        changes: (file, text that stands there once, what stands there instead).
    """

    name: str
    changes: tuple[tuple[str, str, str], ...]


def one(name: str, file: str, old: str, new: str) -> Fault:
    return Fault(name, ((file, old, new),))


FAULTS = [
    # -- registrations and names
    one(
        "a lost connection stays registered",
        READINESS,
        "is transport and not self._poller.forget(transport.fd):",
        "is transport and transport.fd < 0:",
    ),
    one(
        "a handler is forgotten too early: its number is closed under another",
        READINESS,
        "            transport.disowned()\n        if exc",
        "            transport.disowned()\n"
        "        self._handlers.pop(transport.fd, None)\n        if exc",
    ),
    one(
        "a new owner of a number leaves the old one in place",
        WATCHING,
        "                before.disowned()\n",
        "                pass\n",
    ),
    one(
        "an event of a closed listener is handled",
        LISTENER,
        "            self._pause()\n            self._closed = True\n            opening",
        "            self._closed = True\n            opening",
    ),
    one(
        "what the new epoll set has no room for is not watched again",
        EPOLL,
        "                    continue\n",
        "                    self._masks[fd] = mask\n                    continue\n",
    ),
    one(
        "select still asks for a closed descriptor",
        SELECT,
        "        self._readers.discard(fd)\n        self._writers.discard(fd)\n        return True",
        "        self._readers.discard(fd)\n        return True",
    ),
    # -- reading
    one(
        "the list of those that go on is lost under an edge trigger",
        EPOLL,
        "        for go_on in left:\n",
        "        for go_on in list(left)[:1]:\n",
    ),
    one(
        "an edge that came while reading was held is not used up",
        EPOLL,
        "        if self._state != LOST and not self._hold & ~HOLD_CLOSING:\n",
        "        if self._state != LOST and self._hold & ~HOLD_CLOSING:\n",
    ),
    one(
        "a FIN that came with the data is left under an edge trigger",
        EPOLL,
        "if size < 0 or (size < chunk and not to_the_end):",
        "if size < chunk:",
    ),
    one(
        "bytes are delivered while reading is paused",
        STREAM,
        "if self._hold and (self._hold != HOLD_CLOSING or self._state == LOST):",
        "if self._hold & ~HOLD_USER and (self._hold != HOLD_CLOSING or self._state):",
    ),
    one(
        "resume_reading lifts the hold of the peer's EOF as well",
        TRANSPORT,
        "            self._clear_hold(HOLD_USER)\n\n    # -- writing",
        "            self._clear_hold(HOLD_USER | HOLD_EOF)\n\n    # -- writing",
    ),
    one(
        "EOF is told twice",
        TRANSPORT,
        "        self._set_hold(HOLD_EOF)\n        if self._verb",
        "        if self._verb",
    ),
    # -- sending
    one(
        "a short send loses the tail",
        STREAM,
        "        queue.add(data, sent)\n",
        "        queue.add(data, sent or 0) if not sent else queue.add(data[:sent], 0)\n",
    ),
    one(
        "what is sent from the queue is dropped from it by one byte less",
        QUEUE,
        "                    del first[:sent]",
        "                    del first[: sent - 1]",
    ),
    one(
        "the queue keeps the caller's bytearray",
        QUEUE,
        "whole = data if isinstance(data, bytes) else bytes(data)",
        "whole = data",
    ),
    Fault(
        "the tail of the queue is changed while it is exported",
        (
            (QUEUE, "_GATHER = 64", "_VIEWS: list[memoryview] = []\n_GATHER = 64"),
            (
                QUEUE,
                "        return [buffers[i] for i in range(min(len(buffers), _GATHER))]",
                "        _VIEWS[:] = map(memoryview, buffers)\n        return [*buffers][:_GATHER]",
            ),
        ),
    ),
    one(
        "the queue is not sent before a close",
        TRANSPORT,
        "            self._peer.close()\n        if self._state == CLOSING and not",
        "            self._peer.close()\n        if self._state == CLOSING or not",
    ),
    one(
        "EOF is sent although bytes are queued",
        TRANSPORT,
        "        if not self.get_write_buffer_size():\n            self._shutdown_write()",
        "        if True:\n            self._shutdown_write()",
    ),
    one(
        "EOF that waited for the queue is never sent",
        TRANSPORT,
        "            elif ending:\n                self._shutdown_write()\n",
        "            elif ending:\n                pass\n",
    ),
    one(
        "who was paused never hears that the queue is short again",
        TRANSPORT,
        "if self._choked and size <= self._low:",
        "if self._choked and size < 0:",
    ),
    one(
        "a full queue holds the reading of who hears of it",
        TRANSPORT,
        'if self._verb is not None or not handles(self._protocol, "pause_writing"):\n'
        "                self._partner()",
        'if self._verb is None or not handles(self._protocol, "pause_writing"):\n'
        "                self._partner()",
    ),
    # -- relays
    one(
        "a relay does not pass on EOF",
        TRANSPORT,
        "        if self._verb is Verb.RELAY:\n            self._pass_on_eof()\n",
        "        if self._verb is Verb.RELAY:\n            pass\n",
    ),
    one(
        "a relay whose both sides have ended goes on",
        RELAY,
        "if all(side._eof_written and not side.get_write_buffer_size() for side in sides):",
        "if False:",
    ),
    one(
        "a relay's other side is not told of the end",
        TRANSPORT,
        "                peer._orphaned(exc)\n",
        "                pass\n",
    ),
    # -- the end
    one(
        "a close does not linger",
        STREAM,
        "if self._unread and self._engine.limits.linger_timeout:",
        "if self._engine.limits.linger_timeout < 0:",
    ),
    one(
        "it is not known that input is unread",
        STREAM,
        "        self._unread = size == chunk\n",
        "        self._unread = False\n",
    ),
    Fault(
        "what this turn told of is not known to be unread",
        (
            (
                STREAM,
                "            if not self._hold & HOLD_EOF:\n                self._unread = True",
                "            if False:\n                self._unread = True",
            ),
            (EPOLL, "if size == chunk and not self._hold & HOLD_EOF:", "if not chunk:"),
        ),
    ),
    one(
        "a socket that lingers is closed too early",
        LINGERING,
        "return not int.from_bytes(unsent, sys.byteorder)",
        "return True",
    ),
    one(
        "a socket that lingers is never closed",
        LINGERING,
        "self._peer_ended() or self.is_acknowledged() or monotonic() >= self._until",
        "self._peer_ended()",
    ),
    one(
        "connection_lost is told twice",
        STREAM,
        "            dispatch.lost(self, self._protocol, exc)\n",
        "            dispatch.lost(self, self._protocol, exc)\n"
        "            dispatch.lost(self, self._protocol, exc)\n",
    ),
    one(
        "an error of the network is taken for an end in order",
        STREAM,
        "        self._fail(exc.with_traceback(None))",
        "        self._fail(None)",
    ),
    one(
        "a reset is not heard while reading is paused",
        STREAM,
        "            self._fail(OSError(number, os.strerror(number)))",
        "            self._idle(0)",
    ),
    # -- listeners and timers
    one(
        "a listener that rests never comes back",
        LISTENER,
        "        self._resting = False\n        self.resume()\n",
        "        self._resting = False\n",
    ),
    one(
        "a listener that is refused by epoll is given up",
        LISTENER,
        "            self._rest(exc)\n\n    def make_room",
        "            self._failing = True\n\n    def make_room",
    ),
    one(
        "a listener at its cap never comes back",
        LISTENER,
        "        if self._full:\n            self._full = False\n",
        "        if self._full:\n",
    ),
    one(
        "a listener accepts beyond its cap",
        LISTENER,
        "if engine.counters.open >= engine.limits.connections:",
        "if engine.counters.open > engine.limits.connections:",
    ),
    one(
        "a timer runs early",
        TIMERS,
        "while self.heap and self.heap[0][0] <= now:",
        "while self.heap and self.heap[0][0] <= now + 0.01:",
    ),
    one(
        "a cancelled timer wakes the loop for nothing",
        TIMERS,
        "        return min(max(0.0, self.heap[0][0] - time.monotonic()), LONGEST_WAIT)",
        "        return 0.0",
    ),
    # -- rates
    one(
        "what is received is not spent",
        RATES,
        "            each.level -= size\n",
        "            each.level -= 0\n",
    ),
    one(
        "a receive takes more than its rate has",
        RATES,
        "        return min(size, *(int(each.level) for each in self._buckets))",
        "        return size",
    ),
    one("nobody is told that it has its turn", RATES, "        self._go_on()\n", ""),
    one(
        "a change does not reach those who wait",
        RATES,
        "        self._set(bytes_per_second, burst)\n        self.look_again()\n",
        "        self._set(bytes_per_second, burst)\n",
    ),
    one(
        "an edge trigger knows no rates",
        EPOLL,
        "if self._limited is not None and not (chunk := self._room()):",
        "if False:",
    ),
    one(
        "who brings buffers has no rates",
        STREAM,
        "        if self._limited is not None:\n            self._limited.spend(size)\n"
        '        dispatch.call(self, protocol, "buffer_updated", size)',
        '        dispatch.call(self, protocol, "buffer_updated", size)',
    ),
]


def plant(fault: Fault, folder: Path) -> None:
    """Make a copy of package and simulation in a folder, with the fault in it.

    Raises:
        ValueError: a change does not find its text.
    """
    shutil.copytree(PACKAGE, folder / "muxcore", ignore=_left_out)
    shutil.copytree(HERE, folder / "tests" / "simulated", ignore=_left_out)
    for file, old, new in fault.changes:
        path = folder / "muxcore" / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file} has {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new))


def found(fault: Fault, seeds: int = SEEDS) -> str:
    """Plant a fault in a copy, and run seeds; return "seed N: what it broke", or nothing.

    Raises:
        ValueError: a change does not find its text.
        RuntimeError: the copy does not even run.
        subprocess.TimeoutExpired: it does not come to an end.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant(fault, folder)
        result = subprocess.run(
            [sys.executable, "-m", "tests.simulated", "--seeds", f"1..{seeds}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
        )
    output = result.stdout + result.stderr
    told = re.search(r"seed \d+: .*", output)
    if told is None and result.returncode != 0:
        raise RuntimeError(f"with {fault.name!r} nothing runs:\n{output}")
    return told[0] if told else ""


def _left_out(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if n in ("native", "__pycache__", "testing", "adapters", "compare")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulated.faults")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="within so many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once")
    asked = parser.parse_args()
    missed = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for fault, what in zip(
            FAULTS, pool.map(lambda each: found(each, asked.seeds), FAULTS), strict=True
        ):
            print(f"{fault.name:70} {what[:60] or 'NOT FOUND'}", flush=True)
            missed += not what
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
