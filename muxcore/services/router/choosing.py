"""The protocol of a client until it is a relay's: it reads no more than is needed to choose."""

from __future__ import annotations

import inspect
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from muxcore.abc import logger
from muxcore.parts import dispatch
from muxcore.pool import Pool
from muxcore.protocol import Handle, ServerCalls
from muxcore.services.relay import access_log as log
from muxcore.services.router.first import First
from muxcore.services.router.heard import Heard

if TYPE_CHECKING:
    from muxcore.services.router.deciding import Decision, Decisions
    from muxcore.services.router.plan import Plan


class Routing(Protocol):
    """What is asked of the ``Router``."""

    plan: Plan
    first_bytes: float
    decide_timeout: float
    max_bytes: int
    log: log.Sink | None
    counts: Counter[str]

    def _decisions(self, server: ServerCalls) -> Decisions: ...

    def _refused(self, transport: Any, what: str, why: str) -> None: ...

    def _failed(self, transport: Any, decide: Any, exc: BaseException) -> None: ...


class Choosing:
    """A client that is on its way to a relay."""

    __slots__ = (
        "_began",
        "_decision",
        "_heard",
        "_listener",
        "_patience",
        "_plan",
        "_rest",
        "_router",
        "_transport",
        "_why",
    )

    def __init__(self, router: Routing) -> None:
        self._router = router
        self._plan = router.plan
        self._heard = Heard()
        self._began = monotonic()
        self._patience: Handle | None = None  # the end of what is waited for
        self._decision: Decision | None = None  # that is awaited
        self._listener = self._why = ""  # of the log; why it was refused
        self._rest = b""  # what came with the last of the bytes that count

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        router = self._router
        if router.log is not None:  # at the end there is no socket to ask
            self._listener = log.client_name(transport.get_extra_info("sockname"))
        if not router.first_bytes:
            self._heard.end()
        if not router.first_bytes or not self._plan.needs_bytes:
            self._look()
        if transport.get_protocol() is self and not transport.is_closing() and not self._decision:
            self._patience = transport._engine.alarm(router.first_bytes, self._silent)

    # -- what comes

    def data_received(self, data: bytes) -> None:
        heard = self._heard
        room = self._router.max_bytes - len(heard.data)
        heard.add(data[:room])
        if len(data) >= room:
            self._rest = data[room:]
            heard.end()
            self._transport.pause_reading()
        self._look()

    def eof_received(self) -> bool:
        heard = self._heard
        heard.end()
        if heard.data or self._decision is not None:
            self._look()
        else:  # it only wanted to know whether the port is open
            self._transport.close()
        return True

    def draining(self) -> bool:
        return self._decision is not None  # then it waits for us

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wait_no_more()
        router = self._router
        if not self._why:
            router.counts["ended"] += 1
        if router.log is not None:
            seconds = monotonic() - self._began
            failures = (self._why,) if self._why else ()
            went = exc is None and not self._transport._engine.ending  # by itself
            record = log.record_of(
                *(self._transport, "", seconds, exc),
                ended="refused" if self._why else "closed" if went else None,
                failures=failures,
                listener=self._listener,
            )
            router.log(record)

    def _silent(self) -> None:
        """The time for the first bytes is over: choose by what there is."""
        self._patience = None
        self._heard.end()
        self._look()

    # -- what becomes of it

    def _look(self) -> None:
        """Go on, if it is known by now where."""
        if self._decision is not None:
            return
        plan, heard = self._plan, self._heard
        is_known, route = plan.route_of(heard)
        if not is_known:
            return
        if route is not None:
            self._goes_to(route.pool, "routed")
        elif plan.decide is None:
            if plan.default is None:
                self._refuse("refused", "no route takes it")
            else:
                self._goes_to(plan.default, "default")
        elif heard.is_whole:
            self._ask()

    def _ask(self) -> None:
        """Let somebody decide."""
        self._wait_no_more()
        heard, known = self._heard, self._transport.get_extra_info
        first = First(
            heard.data,
            known("peername"),
            known("sockname"),
            heard.protocol,
            heard.hello,
            known("proxy"),
        )
        assert self._plan.decide is not None
        try:
            decided = self._plan.decide(first)
            if not inspect.isawaitable(decided):
                self._decided(decided)
                return
            router, server = self._router, self._transport.server
            self._decision = router._decisions(server).begin(decided, self._decided, self._failed)
            self._patience = server.call_later(router.decide_timeout, self._late)
        except BaseException as exc:
            self._failed(exc)

    def _decided(self, decided: Any) -> None:
        self._decision = None
        self._wait_no_more()
        pool = self._plan.pool_of(decided)
        if pool is None:
            self._refuse("refused", "it was decided so")
            return
        for capability in pool.requires:
            self._transport._engine.need(capability)
        self._goes_to(pool, "decided")

    def _failed(self, exc: BaseException) -> None:
        """The decision has, or what it says cannot be."""
        if isinstance(exc, SystemExit):  # else all clients are gone, and nothing says why
            what = dispatch.describe(self._plan.decide)
            logger.critical("%s ends the program: sys.exit(%r)", what, exc.code, exc_info=exc)
        dispatch.let_pass(exc)
        self._decision = None
        self._wait_no_more()
        self._why = "the decision failed"
        self._router._failed(self._transport, self._plan.decide, exc)

    def _late(self) -> None:
        self._patience = None
        seconds = self._router.decide_timeout
        self._refuse("late", f"there was no decision within {seconds:g} s")

    def _goes_to(self, pool: Pool, how: str) -> None:
        """Let a relay have it, as if it had been accepted just now, with all that has come."""
        self._wait_no_more()
        self._router.counts[how] += 1
        transport = self._transport
        said, age = self._heard.data + self._rest, monotonic() - self._began
        client = self._plan.relay_to(pool)._client(said, age, self._listener)
        transport.set_protocol(client)
        dispatch.call(transport, client, "connection_made", transport)
        if transport._engine.draining:
            transport.tell_draining()

    def _refuse(self, what: str, why: str) -> None:
        self._wait_no_more()
        self._why = why
        self._router._refused(self._transport, what, why)

    def _wait_no_more(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()
        decision, self._decision = self._decision, None
        if decision is not None:
            decision.cancel()
