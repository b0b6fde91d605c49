"""One script, from the first call to the last."""

from __future__ import annotations

import logging
import random
from threading import get_ident
from typing import Any

from muxcore import registry
from muxcore.limits import Limits
from muxcore.pure.readiness import ReadinessEngine
from muxcore.rate import Rate

from . import actions, final, seam
from .ends import End, Listener
from .kernel import Kernel
from .model import Conn
from .script import Op, Script
from .side import KINDS, Side, an_error

CONNS = 40
LISTENERS = 2


class Rated:
    """Who counts against a rate.

    Attributes:
        conns: they.
        before: bytes of those that did.
        since: when it began.
    """

    def __init__(self, since: float) -> None:
        self.conns: list[Conn] = []
        self.before = 0
        self.since = since


class Broken(Exception):
    """An invariant is; its name, and how."""


class Run:
    """A script on its way.

    Attributes:
        kernel: the simulated one.
        engine: a readiness engine.
        chance: what the Python side does on its own.
        ending: ``stop()`` was asked for.
        failure: the first invariant that is broken; raised by ``check``, since an engine catches
            what a callback raises.
    """

    def __init__(self, script: Script, trace: Any = None) -> None:
        self.script = script
        self.trace = trace
        self.chance = random.Random(0)
        self.failure: Broken | None = None
        self.conns: list[Conn] = []
        self.ending = self.calm = False
        self.turns = self.heard = self.timers = self.fired = 0
        self.reacting = 0
        self.kernel = seam.NOW.kernel = Kernel(**script.world)
        self.kernel.trace = trace
        seam.LOOKUPS.waiting.clear()
        seam.set_sizes(*script.sizes)
        self.limits = Limits(**script.limits)
        faults, self.kernel.faults = self.kernel.faults, 0  # an engine that cannot begin is no run
        kind: Any = registry.engine(script.engine)
        self.engine: ReadinessEngine = kind(self.limits, trigger=script.trigger)
        self.engine.server = actions.Handle(self.engine)
        figures = (20_000, 300), (100_000, 2000), (1_000_000, 10_000)
        self.rated = {Rate(*each): Rated(self.kernel.now) for each in figures}
        self.listeners: list[tuple[Listener, Any]] = []
        for number in range(LISTENERS):
            listener = Listener(self.kernel)
            sock = seam.Socket(fileno=self.kernel.give(listener))
            self.engine.listen(sock, actions.listening(self, number, listener))
            self.listeners.append((listener, sock))
        self.engine.owner = get_ident()
        for each in self.engine._listeners:
            each.resume()
        self.kernel.faults = faults

    # -- what goes on

    def play(self) -> None:
        """Run all of it.

        Raises:
            Broken: an invariant is.
        """
        for op in self.script.ops:
            self._operation(op)
            self.check()
        final.check(self)

    def _operation(self, op: Op) -> None:
        self.chance.seed(op.noise)
        self.kernel.noise.seed(op.noise ^ 0x5DEECE66D)
        if self.trace:
            self.trace(f"{op.code} {op.a} {op.b}")
        if op.code == "turn":
            self.turn((0.0, 0.001, 0.002, 0.005, 0.02)[op.a % 5])
        elif op.code in actions.WORLD:
            actions.WORLD[op.code](self, op)
        elif self.conns:
            actions.OF_ONE[op.code](self, self.conns[op.a % len(self.conns)], op)

    def turn(self, patience: float) -> None:
        """Let the engine run once, and sleep no longer than so many seconds."""
        self.kernel.patience = patience
        self.turns += 1
        self.engine.turn()
        actions.begun(self)
        while self.kernel.answers:
            end = self.kernel.answers.popleft()
            assert end.other is not None
            conn = end.other.conn
            conn.end = end
        if not self.calm:
            for conn in self.conns:
                if not conn.stalled:
                    conn.remote_read()
        self.check()

    def check(self) -> None:
        """Look at what has to hold at any time."""
        if self.failure is None and self.kernel.problem:
            self.fail("left", self.kernel.problem)
        engine = self.engine
        counted = len(engine._transports) + len(engine._lingering)
        if engine.counters.open + engine.counters.outgoing != counted and not engine._closed:
            self.fail("counts", f"{engine.counters.open} open, {counted} descriptors")
        if engine.counters.open > max(self.limits.connections, 0) + self.adopted():
            self.fail("counts", f"{engine.counters.open} are open, of {self.limits.connections}")
        for conn in self.conns:
            if conn.got and conn.ours is not None:
                wrong = conn.wrong()
                if wrong:
                    self.fail("bytes", f"remote end of connection {conn.number}: {wrong}")
        for rate, rated in self.rated.items():
            came = rated.before + sum(conn.counted() for conn in rated.conns)
            may = rate.bytes_per_second * (self.kernel.now - rated.since) + rate.burst
            if came > may + 1e-6 and not self.calm:
                self.fail("rate", f"{came} bytes came at {rate!r}, which allows {may:.0f}")
        if self.failure is not None:
            raise self.failure

    def adopted(self) -> int:
        return sum(1 for conn in self.conns if conn.handle == "adopted")

    def fail(self, name: str, detail: str) -> None:
        if self.failure is None:
            self.failure = Broken(f"{name}: {detail}")

    def told(self, conn: Conn, *what: object) -> None:
        self.heard += 1
        if self.trace:
            self.trace(f"    connection {conn.number}: " + " ".join(map(str, what)))

    # -- connections

    def new_conn(self) -> Conn:
        conn = Conn(len(self.conns))
        self.conns.append(conn)
        return conn

    def paired(self) -> Conn:
        """Return a new connection, of which the remote end is the test's."""
        conn = self.new_conn()
        ours, theirs = self.kernel.pair()
        theirs.refs = 1
        theirs.sound = True
        conn.ours, conn.end, ours.conn = ours, theirs, conn
        ours.peername = ("198.51.100.1", conn.number)
        return conn

    def has_room(self) -> bool:
        return len(self.conns) < CONNS and not self.calm

    def opened(self, side: Side, transport: Any) -> Conn | None:
        """Find out whose transport this is."""
        end: Any = self.kernel.files.get(transport.fd)
        conn: Conn | None = end.conn if isinstance(end, End) else None
        if conn is None:
            self.fail("names", f"{transport!r} has a descriptor of nothing")
            return None
        peername = transport.get_extra_info("peername")
        if not conn.outgoing and peername is not None and peername != end.peername:
            self.fail("names", f"connection {conn.number} has the descriptor of another")
        side.conn, conn.side, conn.transport = conn, side, transport
        conn.served = True
        verb = getattr(side, "verb", None)
        self.told(conn, "connection_made", type(side).__name__)
        if verb is not None:
            conn.verb = verb.value
            if conn.verb == "echo":
                conn.tail = (conn, 0)
        return conn

    def service(self, dice: int) -> Any:
        """Return a service."""
        kind = KINDS[dice % len(KINDS)]

        def service() -> Any:
            return kind(self)

        service.verb = getattr(kind, "verb", None)  # type: ignore[attr-defined]
        return service

    def may_time_out(self, exc: BaseException) -> bool:
        limits = self.limits
        return {
            "IdleTimeout": limits.idle_timeout is not None,
            "CloseTimeout": limits.close_timeout is not None,
            "HalfCloseTimeout": limits.half_close_timeout is not None,
        }.get(type(exc).__name__, True)

    # -- the Python side on its own

    def react(self, conn: Conn, callback: str) -> None:
        """Do what a program may do in a callback; sometimes raise."""
        if self.chance.randrange(64) >= self.script.reacts or self.calm or self.reacting > 3:
            return
        self.reacting += 1
        try:
            of = conn
            if not self.chance.randrange(4):
                of = self.conns[self.chance.randrange(len(self.conns))]
            code = self.chance.choice(actions.REACTIONS)
            op = Op(code, self.chance.randrange(65536), self.chance.randrange(65536), 0)
            if self.trace:
                self.trace(
                    f"    in {callback} of {conn.number}: {code} {op.a} {op.b} of {of.number}"
                )
            if code == "raise":
                exc = an_error(self)
                if not conn.lost:
                    conn.raised.append(id(exc))
                raise exc
            if code in actions.WORLD:
                actions.WORLD[code](self, op)
            else:
                actions.OF_ONE[code](self, of, op)
        finally:
            self.reacting -= 1


def run(script: Script, trace: Any = None) -> str:
    """Run a script; return what it broke, or nothing."""
    logging.getLogger("muxcore").disabled = True
    try:
        with seam.installed():
            Run(script, trace).play()
    except Broken as broken:
        return str(broken)
    except Exception as exc:  # it has ended the engine, which nothing may
        if trace:
            raise
        where = exc.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = f"{where.tb_frame.f_code.co_qualname}:{where.tb_lineno}" if where else ""
        return f"raised: {exc!r} in {at}"
    finally:
        logging.getLogger("muxcore").disabled = False
    return ""
