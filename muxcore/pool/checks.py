"""How a pool finds out by itself whether its upstreams serve, and what an agent may say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muxcore.limits import seconds
from muxcore.pool.sharing import WHOLE, even
from muxcore.pool.upstream import MOST_WEIGHT, Upstream, checked_count

_MOST = 1_000  # checks in a row that decide: more would be hours
_LONGEST = 16_384  # bytes of a request, or of what is to be expected
_MOST_STEPS = 100  # as many things are said within one time-out

# Words of an agent.
_DOWN = frozenset({"down", "stopped", "fail", "failed"})  # the last in HAProxy's older manuals only
_PERCENT = re.compile(r"(?:weight:)?(\d{1,5})%")
_WEIGHT = re.compile(r"weight:(\d{1,3})")
_PLACES = re.compile(r"maxconn:(\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of every upstream, from time to time.

    A connection that is taken is enough, unless something is to be sent or expected.

    Args:
        every: seconds between two checks of one upstream, a tenth more or less.
        timeout: seconds that one may take.
        fall: failures in a row until an upstream is failing, and gets no more clients.
        rise: successes in a row until one that is failing, or rests, is up again.
        send: bytes that are sent to it.
        expect: bytes that its answer has somewhere in its first 16 KiB.
        steps: pairs of both, one after another, where one is not enough: ``(b"", b"220")`` waits
            for a greeting; where nothing is expected, any answer will do.
        port: of the upstream's host, where another one than the clients' is to be checked. It gets
            no PROXY header: that would be for the clients' port.
        every_unsure: seconds until the next check while it is not decided: some have failed, and
            not yet ``fall`` of them, or succeeded, and not yet ``rise``. None: ``every``.
        every_failing: seconds until the next check of one that is failing. None: ``every``.
        agent: a port of the upstream's host on which an agent tells of it in a line, as HAProxy's
            agent-check does; asked beside the check, and as often. None: there is none.
        agent_send: bytes that are sent to the agent.

    Raises:
        TypeError, ValueError: a value that cannot work.
    """

    every: float = 2.0
    timeout: float = 2.0
    fall: int = 3
    rise: int = 2
    send: bytes = b""
    expect: bytes = b""
    steps: Sequence[tuple[bytes, bytes]] = ()
    port: int | None = None
    every_unsure: float | None = None
    every_failing: float | None = None
    agent: int | None = None
    agent_send: bytes = b""

    def __post_init__(self) -> None:
        for name in ("every", "timeout", "every_unsure", "every_failing"):
            if getattr(self, name) is not None and not seconds(
                f"Check({name}=…): {name}", getattr(self, name)
            ):
                raise ValueError(f"Check({name}=0): {name} must be above 0, not 0")
        for name in ("fall", "rise"):
            checked_count("Check", name, getattr(self, name), _MOST)
        for name in ("send", "expect", "agent_send"):
            value = getattr(self, name)
            if not isinstance(value, bytes):
                raise TypeError(f"Check({name}=…) needs bytes, not {type(value).__name__}")
            _check_length(name, value)
        object.__setattr__(self, "steps", _checked_steps(self.steps))
        if self.steps and (self.send or self.expect):
            raise ValueError(
                "Check(steps=…): steps says it all: leave send and expect beside it out"
            )
        if self.port is not None:
            checked_count("Check", "port", self.port, 65_535)
        if self.agent is not None:
            checked_count("Check", "agent", self.agent, 65_535)
        elif self.agent_send:
            raise ValueError(
                "Check(agent_send=…): agent_send needs agent, the port of who is sent it"
            )


def _checked_steps(steps: Any) -> tuple[tuple[bytes, bytes], ...]:
    """Return the steps of a check as they are kept, or refuse them.

    Raises:
        TypeError: they are no pairs of bytes.
        ValueError: there are too many, one is too long, or says and waits for nothing.
    """
    try:
        pairs = tuple((send, expect) for send, expect in steps)
    except (TypeError, ValueError):
        pairs = ((None, None),)
    if not all(isinstance(each, bytes) for pair in pairs for each in pair):
        raise TypeError(f"Check(steps=…) needs pairs of bytes, (send, expect), not {steps!r:.100}")
    if len(pairs) > _MOST_STEPS:
        raise ValueError(f"Check(steps=…): steps must be at most {_MOST_STEPS}, not {len(pairs)}")
    for number, pair in enumerate(pairs, 1):
        if not any(pair):
            raise ValueError(f"Check(steps=…): step {number} neither sends nor expects anything")
        for each in pair:
            _check_length("steps", each)
    return pairs


def _check_length(name: str, value: bytes) -> None:
    if len(value) > _LONGEST:
        raise ValueError(
            f"Check({name}=…): {name} must be at most {_LONGEST:,} bytes long, not {len(value):,}"
        )


def obey(upstream: Upstream, line: str, share: tuple[int, int] = WHOLE) -> None:
    """Do what an agent says of its upstream.

    Words, in any order, of which the last one of a kind counts; what the line does not speak of
    stays as it is:

    - ``up``; or ``down``, ``stopped``, ``fail``: it does not serve, and what follows a ``#`` is why
    - ``ready``; or ``drain``, ``maint``: it is out
    - ``75%``, ``weight:75%``: of its weight; ``weight:30``: another one; with 0 it is out
    - ``maxconn:30``: clients at once; 0: as many as the pool says

    (HAProxy 3.2, configuration manual, "agent-check"; what is not a word of these is passed over,
    as there.)

    Args:
        upstream: the one.
        line: what the agent has said.
        share: of the pool, which the places are shared out by.
    """
    said, _, why = line.partition("#")
    for word in re.split(r"[\s,]+", said.strip().lower()):
        if word == "up":
            upstream.said = ""
        elif word in _DOWN:
            upstream.said = f"its agent says {word}" + (f": {why.strip()}" if why.strip() else "")
        elif word == "ready":
            upstream.withdrawn = ""
        elif word in ("drain", "maint"):
            upstream.withdrawn = f"its agent says {word}"
        elif found := _PERCENT.fullmatch(word):
            upstream.percent = float(found[1])
        elif (found := _WEIGHT.fullmatch(word)) and int(found[1]) <= MOST_WEIGHT:
            upstream.percent = 100 * int(found[1]) / upstream.weight
        elif found := _PLACES.fullmatch(word):
            upstream.max_active = even(int(found[1]), share) if int(found[1]) else None
