"""What a load run does: everything that can be asked of a generator, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from muxcore import _units
from muxcore.address import Address

WORKLOADS = ("echo", "bulk", "churn", "hold")
_MIX_MAX = 16  # MUX_LOAD_MIX_MAX
SCRIPT_MAX = 1 << 16  # MUX_LOAD_SCRIPT_MAX
UNTIL_MAX = 256  # MUX_REPLY_UNTIL_MAX
_MESSAGES_MAX = 1 << 60
_SIZE_MAX = 1 << 24  # MUX_LOAD_SIZE_MAX: 16 MiB, beyond which "message" says nothing
_FLIGHTS_MAX = 1 << 24  # connections times depth: 256 MiB of records
_CONNECTIONS_MAX = 1_000_000
NUMBER_MAX = 1e9  # of seconds (31 years) or messages a second: in nanoseconds it fits 64 bits

Mix = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """One load. Sizes are bytes, times are seconds.

    Attributes:
        address: the server's, numeric (see ``muxcore.address.resolve``).
        workload: ``echo`` (messages and their replies), ``bulk`` (the same with many large ones in
            flight), ``churn`` (connect, one message, close) or ``hold`` (many connections that each
            speak rarely).
        connections: connections that carry messages.
        idle: further connections that are opened and left alone.
        depth: messages in flight on one connection, at most.
        sizes: (bytes, weight) of each kind of message.
        rate: messages a second over all connections; 0 is the closed loop: each reply brings the
            next message.
        poisson: the open loop's messages fall due at random, not at fixed intervals.
        ramp: over how many seconds connections are opened; 0: as fast as they are accepted.
        sources: spread over so many loopback source addresses; 0: the kernel chooses.
        connect_timeout: after which a connection attempt has failed.
        reply_timeout: how long outstanding replies are waited for at the end.
        spin: how long the generator polls before it sleeps. 0 sleeps at once, as most clients do,
            and a reply then costs a wake-up; about 50e-6 leaves that out of the latency.
        seed: of the bytes sent and the random intervals.
        request: each message, in place of ``sizes``; for servers that do not echo.
        reply: what must come back for each request, byte for byte.
        until: in place of ``reply``: what each reply ends with, where it first occurs.
        http: in place of ``reply``: each reply ends where HTTP/1 says (RFC 9112, section 6.3). One
            with a status of 400 or more counts as lost. Where HTTP lets the server end a
            connection, it is opened anew, and what was not answered is asked again.
        greeting: what the server says first, before it is asked, ends with this.
        messages: a window ends once so many messages have been answered, or were lost; 0: by its
            time alone.

    Raises:
        ValueError: a value that cannot work; the message says why and what would.
    """

    address: Address
    workload: str = "echo"
    connections: int = 50
    idle: int = 0
    depth: int = 1
    sizes: Mix = ((64, 1.0),)
    rate: float = 0.0
    poisson: bool = False
    ramp: float = 0.0
    sources: int = 0
    connect_timeout: float = 10.0
    reply_timeout: float = 5.0
    spin: float = 0.0
    seed: int = 1
    request: bytes = b""
    reply: bytes = b""
    until: bytes = b""
    http: bool = False
    greeting: bytes = b""
    messages: int = 0

    def __post_init__(self) -> None:
        if self.workload not in WORKLOADS:
            raise ValueError(f"no workload {self.workload!r}: choose from {', '.join(WORKLOADS)}")
        _within("connections", self.connections, 1, _CONNECTIONS_MAX)
        _within("idle", self.idle, 0, _CONNECTIONS_MAX)
        _within("depth", self.depth, 1, _FLIGHTS_MAX // self.connections)
        _within("sources", self.sources, 0, 60_000)
        for name in ("rate", "ramp", "spin"):
            _seconds(name, getattr(self, name), zero=True)
        for name in ("connect_timeout", "reply_timeout"):
            _seconds(name, getattr(self, name), zero=False)
        if not 1 <= len(self.sizes) <= _MIX_MAX:
            raise ValueError(f"a mix has 1 to {_MIX_MAX} sizes, not {len(self.sizes)}")
        for size, weight in self.sizes:
            _within("size", size, 1, _SIZE_MAX)
            _seconds("a size's weight", weight, zero=False)
        _within("messages", self.messages, 0, _MESSAGES_MAX)
        told = sum(map(bool, (self.reply, self.until, self.http)))
        if told != bool(self.request):
            raise ValueError(
                "a request needs the reply that must come back, or what it ends with (until), or "
                "http: one of them, and each of them a request"
            )
        for name in ("request", "reply"):
            _within(f"the length of the {name}", len(getattr(self, name)), 0, SCRIPT_MAX)
        for name in ("until", "greeting"):
            _within(f"the length of {name}", len(getattr(self, name)), 0, UNTIL_MAX)
        if self.workload == "churn" and self.depth != 1:
            raise ValueError("churn sends one message per connection: leave depth at 1")
        if self.workload == "hold" and not self.rate:
            raise ValueError("hold needs a rate: connections / 60 lets each speak once a minute")
        if self.poisson and not self.rate:
            raise ValueError("random intervals need a rate: there is no closed loop at random")

    @property
    def mode(self) -> str:
        """``closed``, ``fixed`` or ``poisson``."""
        if not self.rate:
            return "closed"
        return "poisson" if self.poisson else "fixed"

    @property
    def bodiless(self) -> bool:
        """Whether HTTP's replies have no body, whatever length they tell: those to HEAD."""
        return self.http and self.request.startswith(b"HEAD ")

    def cumulative(self) -> list[tuple[int, float]]:
        """Return (bytes, share of the messages up to this size); the last share is 1."""
        total = math.fsum(weight for _, weight in self.sizes)
        shares, seen = [], 0.0
        for size, weight in self.sizes:
            seen += weight / total
            shares.append((size, seen))
        return [*shares[:-1], (shares[-1][0], 1.0)]


def parse_sizes(text: str) -> Mix:
    """Read message sizes: ``64``, ``16k``, or a mix with weights: ``64:90,16k:9,1m:1``.

    Raises:
        ValueError: the text is none of these.
    """
    mix = []
    for part in text.split(","):
        size, _, weight = part.partition(":")
        try:
            mix.append((_units.size(size), _units.number(weight) if weight else 1.0))
        except ValueError:
            raise ValueError(
                f"size {part.strip()!r}: write bytes as in 64, 16k or 1m, with a weight as in 64:90"
            ) from None
    return tuple(mix)


def _within(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")


def _seconds(name: str, value: float, *, zero: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= NUMBER_MAX or (value == 0 and not zero):
        least = "at least" if zero else "above"
        raise ValueError(f"{name} must be {least} 0 and at most {NUMBER_MAX:g}, not {value!r}")
