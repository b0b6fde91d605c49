"""Random peers meet random protocols, and every engine records what asyncio records.

A protocol of these acts once, when it has heard so many bytes; a peer sends in random pieces and
ends in a random way. Both are made from a number, so that a difference can be played again.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass

import pytest

from muxcore.testing import EngineSuite, Recorder, each_engine, eventually
from muxcore.testing.recorder import Event

_ACTIONS = ("nothing", "close", "abort", "write_eof", "echo", "discard", "replace", "raise")
_ENGINES = each_engine(EngineSuite)
_ORACLE = _ENGINES.get("TestAsyncio")
_QUICK, _DEEP = range(12), range(12, 400)


@dataclass(frozen=True)
class Plan:
    """What a protocol and its peer do.

    Attributes:
        act_at: the protocol acts when it has heard so many bytes.
        action: what it does then.
        answers: whether it sends back what it hears before that.
        keeps_open: whether it goes on writing after the peer's EOF.
        pieces: what the peer sends, and whether it waits after each piece.
        end: how the peer ends.
    """

    act_at: int
    action: str
    answers: bool
    keeps_open: bool
    pieces: tuple[tuple[bytes, bool], ...]
    end: str


def _plan(number: int) -> Plan:
    chance = random.Random(number)
    pieces = tuple(
        (chance.randbytes(chance.choice((1, 10, 1000, 20_000))), chance.random() < 0.3)
        for _ in range(chance.randint(0, 6))
    )
    total = sum(len(piece) for piece, _ in pieces)
    action = chance.choice(_ACTIONS)
    # what a peer leaves unread turns its close into a reset: then it only ends its own direction
    end = chance.choice(("shutdown", "shutdown", "close")) if action != "echo" else "shutdown"
    return Plan(
        act_at=chance.randint(1, max(1, total)),
        action=action,
        answers=chance.random() < 0.5 and end == "shutdown",
        keeps_open=chance.random() < 0.3,
        pieces=pieces,
        end=end,
    )


def _character(plan: Plan) -> type[Recorder]:
    class Character(Recorder):
        heard = 0

        def data_received(self, data: bytes) -> None:
            if self.heard >= plan.act_at:
                super().data_received(data)  # after "nothing" and "write_eof"
                return
            mine = data[: plan.act_at - self.heard]  # where pieces meet is the kernel's affair
            self.heard += len(mine)
            super().data_received(mine)
            if plan.answers:
                self.transport.write(mine)
            if self.heard == plan.act_at:
                self.act()
                if plan.action in ("nothing", "write_eof") and mine != data:
                    super().data_received(data[len(mine) :])

        def act(self) -> None:
            self.note(plan.action)
            if plan.action == "raise":
                raise ZeroDivisionError
            if plan.action == "replace":
                self.transport.set_protocol(Silent())
            elif plan.action != "nothing":
                getattr(self.transport, plan.action)()

        def eof_received(self) -> bool:
            super().eof_received()
            if plan.keeps_open and not self.transport.is_closing():
                with contextlib.suppress(RuntimeError):  # after write_eof
                    self.transport.write(b"one more thing")
                self.transport.close()
                return True
            return False

    class Silent:
        def connection_lost(self, exc: BaseException | None) -> None:
            pass

    return Character


def _played(suite: EngineSuite, plan: Plan) -> tuple[list[Event], bytes | None]:
    """Return what the protocol heard, and what the peer did where its end was an orderly one."""
    with suite.serving(_character(plan)) as run:
        peer = run.connect()
        received: bytes | None = None
        with contextlib.suppress(OSError):  # a reset, and ENOTCONN after one
            for piece, waits in plan.pieces:
                peer.send(piece)
                if waits:
                    peer.pause(0.003)
            if plan.end == "shutdown":
                peer.shutdown_write()
                received = peer.read_all()
            else:
                peer.pause(0.02)
                peer.close()
        if plan.action == "replace" and plan.pieces:  # nobody records its end
            eventually(lambda: not run.server.stats().open, "the connection has ended")
            return run.wait_for("note", peer), received
        return run.life(peer), received


def _check(suite: type[EngineSuite], numbers: range) -> None:
    for number in numbers:
        plan = _plan(number)
        assert _ORACLE is not None
        (expected, expected_bytes), (heard, received) = (
            _played(engine(), plan) for engine in (_ORACLE, suite)
        )
        assert heard == expected, f"number {number}: {plan.action} at {plan.act_at}, {plan.end}"
        # where the engine ends first, what the peer still sends resets the connection under its
        # eyes: how much it has read by then is the kernel's affair
        if plan.action in ("nothing", "write_eof", "replace"):
            assert received == expected_bytes, f"number {number}: {plan.action}"


_SUBJECTS = [pytest.param(e, id=n.removeprefix("Test")) for n, e in _ENGINES.items()]


@pytest.mark.parametrize("suite", _SUBJECTS)
def test_a_few_random_lives_are_those_of_asyncio(suite: type[EngineSuite]) -> None:
    _check(suite, _QUICK)


@pytest.mark.deep
@pytest.mark.timeout(300)
@pytest.mark.parametrize("suite", _SUBJECTS)
def test_many_random_lives_are_those_of_asyncio(suite: type[EngineSuite]) -> None:
    _check(suite, _DEEP)
