"""A run is a script: how it is set up, and what happens, one operation after another.

An operation names connections by numbers that are taken modulo what is there, and has noise of its
own, from which all chance follows until the next one: so a script is still good, and most of it
does the same, when operations are taken out of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from . import kernel

# How often each is drawn
WEIGHTS = {
    "turn": 60,
    "dial": 14,
    "adopt": 6,
    "connect": 6,
    "relay_to": 3,
    "fork": 2,
    "full": 1,
    "pass": 3,
    "answer": 3,
    "foreign": 1,
    "later": 2,
    "hasty": 2,
    "remote_send": 40,
    "remote_read": 4,
    "remote_stall": 5,
    "remote_end": 4,
    "remote_eof": 4,
    "write": 20,
    "burst": 5,
    "eof": 3,
    "pause": 4,
    "resume": 4,
    "marks": 2,
    "verb": 4,
    "relay": 5,
    "close": 5,
    "abort": 2,
    "replace": 2,
}
_SIZES = (64, 200, 512, 2000, 4096, 16000)


@dataclass(frozen=True)
class Op:
    code: str
    a: int
    b: int
    noise: int


@dataclass(frozen=True)
class Script:
    """A script.

    Attributes:
        engine, trigger: what it runs on.
        limits: of ``Limits``.
        world: of ``Kernel``.
        sizes: events that one wait tells, and FD_SETSIZE.
        reacts: how many of 64 callbacks do something.
        end: how it ends; see ``final.py``.
    """

    engine: str
    trigger: str
    limits: dict[str, Any]
    world: dict[str, int]
    sizes: tuple[int, int]
    reacts: int
    end: int
    ops: tuple[Op, ...]

    def with_ops(self, ops: tuple[Op, ...]) -> Script:
        return replace(self, ops=ops)

    def __str__(self) -> str:
        limits = ", ".join(f"{name} {value}" for name, value in self.limits.items())
        world = ", ".join(f"{name} {value}" for name, value in self.world.items())
        lines = [
            f"set-up: {self.engine}, {self.trigger} trigger; {limits};",
            f"  kernel: {world}; a wait tells {self.sizes[0]} events, FD_SETSIZE {self.sizes[1]};",
            f"  {self.reacts} of 64 callbacks react; end {self.end}",
        ]
        return "\n".join(lines + [f"  {op.code} {op.a} {op.b}" for op in self.ops])


ENGINES = (("pure-epoll", "level"), ("pure-epoll", "edge"), ("pure-select", "level"))


def draw(seed: int, engine: tuple[str, str] | None = None) -> Script:
    """Draw a script with faults.

    Args:
        seed: the same one draws the same.
        engine: (name, trigger); None: one of them all.
    """
    chance = random.Random(seed)

    def some(few: int, usual: Any, rare: Any) -> Any:
        return usual if chance.randrange(few) else rare

    chosen = chance.choice(ENGINES)
    faults = 0
    for bit in range(kernel.FAULTS.bit_length()):
        rare = 1 << bit in (kernel.BROKEN, kernel.CONTROL, kernel.CREATE)
        faults |= 0 if chance.randrange(5 if rare else 3) else 1 << bit
    high = chance.choice(_SIZES[:5])
    world = {
        "faults": some(4, faults, 0),
        "rate": some(4, chance.randrange(10, 70), 150),
        "send_room": chance.choice(_SIZES),
        "receive_room": chance.choice(_SIZES),
    }
    limits = {
        "connections": some(6, chance.randrange(16, 46), chance.randrange(1, 5)),
        "read_chunk": chance.choice(_SIZES[:5]),
        "reads_per_turn": chance.randrange(1, 5),
        "accepts_per_turn": chance.randrange(1, 5),
        "write_high": high,
        "write_low": high // chance.randrange(1, 9),
        "write_buffer": some(6, 1 << 20, high + 3000),
        "idle_timeout": some(3, None, chance.randrange(40, 140) / 1000),
        "half_close_timeout": some(3, None, chance.randrange(30, 130) / 1000),
        "close_timeout": some(3, None, chance.randrange(40, 140) / 1000),
        "linger_timeout": some(6, chance.randrange(20, 120) / 1000, 0.0),
        "connect_timeout": chance.randrange(20, 300) / 1000,
        "accept_pause": chance.randrange(1, 11) / 1000,
        "stop_timeout": chance.choice((0.0, 0.05, 1.0)),
    }
    draining = random.Random(chance.randrange(1 << 32))
    limits |= {
        "drain_timeout": draining.choice((0.0, 0.05, 0.2)),
        "drain_delay": draining.choice((0.0, 0.01)),
        "drain_idle": draining.choice((None, 0.005, 0.02)),
        "drain_spread": draining.choice((0.0, 0.1)),
    }
    sizes = (some(3, 512, chance.randrange(1, 4)), some(6, 1024, chance.randrange(14, 30)))
    reacts = some(6, chance.randrange(1, 24), 0)
    ops = _ops(chance)
    rates = random.Random(f"rates {seed}")
    if not rates.randrange(3):
        ops = _limited(rates, ops)
    return Script(*(engine or chosen), limits, world, sizes, reacts, chance.randrange(1024), ops)


def _limited(chance: random.Random, ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Return a script's operations with some between them that limit connections."""
    mixed = list(ops)
    for _ in range(1 + len(ops) // 8):
        op = Op("limit", chance.randrange(65536), chance.randrange(65536), chance.getrandbits(32))
        mixed.insert(chance.randrange(len(mixed)) + 1, op)
    return tuple(mixed)


def _ops(chance: random.Random) -> tuple[Op, ...]:
    drawn = ["dial"] * chance.randrange(6)
    drawn += chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=chance.randrange(10, 80))
    return tuple(
        Op(code, chance.randrange(65536), chance.randrange(65536), chance.getrandbits(32))
        for code in drawn
    )
