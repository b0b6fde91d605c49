"""What clients' connections show of an upstream that takes them: whether it answers.

Each connection is on trial until the upstream's first byte has come::

    taken ── its first byte ──────────────────────────────────────► it has answered
      ├───── reset; closed, though the client has said something ──► it has not
      ├───── silent for ``first_byte_timeout`` after that ─────────► it has not, and is cut
      └───── anything else: the client went, nobody was asked ─────► nothing is known

Where a pool cuts pairs, each is held to its end, answered or not.

Those that have not, one after another, eject the upstream: it rests as one does that refuses. But
that it takes a connection again shows nothing: the client that tries it has to be answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeAlias, TypeGuard

from muxcore._seldom import Seldom
from muxcore.errors import FirstByteTimeout, MuxcoreError, PairCut
from muxcore.limits import seconds
from muxcore.pool.checks import Check
from muxcore.pool.upstream import Upstream, checked_count

logger = logging.getLogger("muxcore.relay")

# Looks at one connection within the limit: it is cut a quarter late at most. Looks are counted, not
# seconds: after a stall of the loop the first comes before the bytes that waited.
LOOKS = 4
_MOST = 1_000_000  # clients in a row: one that has more is found by then
AT_ONCE = 250  # pairs that are cut in one turn: some milliseconds, for which others wait
PROBE = 1.0  # s: where there is no limit, another client may try an ejected upstream after that


class Steered(Protocol):
    """What is asked of the pool."""

    upstreams: tuple[Upstream, ...]
    clock: Callable[[], float]
    spread: Callable[[], float]
    check: Check | None

    def _called(self, upstream: Upstream) -> str: ...

    def changed(self) -> None: ...

    def recovered(self, upstream: Upstream) -> None: ...


class Trials:
    """The trials of one pool, and who is ejected by them.

    Args:
        pool: it.
        eject_after: trials in a row that eject an upstream; None: none do.
        timeout: seconds; see ``Pool.first_byte_timeout``.
        max_ejected: the share of the upstreams that may be out by that; one may always, and one
            stays up in any case.

    Attributes:
        on_begun: told of each trial that is to be looked at; None: nobody looks yet.
    """

    def __init__(
        self,
        pool: Steered,
        eject_after: int | None,
        timeout: float | None,
        max_ejected: float,
    ) -> None:
        self.timeout = timeout
        self.on_begun: Callable[[Trial], object] | None = None
        self._pool = pool
        self._eject_after = eject_after
        self._max_ejected = max_ejected
        self._cut_failing = self._cut_backups = False
        self._held: dict[Upstream, set[Trial]] = {}  # where pairs are cut: those that are joined
        self._seldom = Seldom(logger.warning, pool.clock)

    @classmethod
    def of(
        cls,
        pool: Steered,
        eject_after: int | None,
        timeout: float | None,
        max_ejected: float,
        *,
        cut_failing: bool = False,
        cut_backups: bool = False,
    ) -> Self | None:
        """Return a pool's trials, or None where it wants none.

        Raises:
            TypeError, ValueError: a value that cannot work.
        """
        if eject_after is not None:
            checked_count("Pool", "eject_after", eject_after, _MOST)
        what = "Pool(first_byte_timeout=…): first_byte_timeout"
        if timeout is not None and not seconds(what, timeout):
            raise ValueError(f"{what} must be above 0, not 0")
        share = isinstance(max_ejected, int | float) and not isinstance(max_ejected, bool)
        if not share or not 0 < max_ejected <= 1:
            raise ValueError(
                f"Pool(max_ejected={max_ejected!r}): max_ejected must be a share above 0 and at "
                f"most 1, not {max_ejected!r}"
            )
        if cut_failing and pool.check is None:
            raise ValueError(
                "Pool(cut_failing=True): cut_failing needs a check, which finds who is failing"
            )
        if eject_after is None and timeout is None and not (cut_failing or cut_backups):
            return None
        trials = cls(pool, eject_after, timeout, max_ejected)
        trials._cut_failing, trials._cut_backups = cut_failing, cut_backups
        return trials

    def become(self, other: Trials) -> None:
        """Judge as others would from now on."""
        self.timeout, self._eject_after = other.timeout, other._eject_after
        self._max_ejected = other._max_ejected
        self._cut_failing, self._cut_backups = other._cut_failing, other._cut_backups
        self.on_begun = None  # who looks does it as often as the time-out wants

    def end(self) -> None:
        """Judge nobody any more: those that are under way go on."""
        self.timeout = self._eject_after = None
        self._cut_failing = self._cut_backups = False

    def begin(self, upstream: Upstream, transport: Any, began: float, before: int = 0) -> Trial:
        """Put a connection on trial.

        Args:
            upstream: whom it is to.
            transport: it.
            began: when it was asked for.
            before: bytes that go to the upstream before the client's.
        """
        trial = Trial(self, upstream, transport, began, before)
        if self._cut_failing or (self._cut_backups and upstream.backup):
            trial.held = transport
            self._held.setdefault(upstream, set()).add(trial)
        if self.on_begun is not None and (self.timeout is not None or upstream.ejected):
            self.on_begun(trial)
        return trial

    def now(self) -> float:
        """Return the pool's time."""
        return self._pool.clock()

    def answered(self, upstream: Upstream, began: float) -> None:
        """Hear that a connection to it was answered; what began before its failures tells little.

        Args:
            upstream: it.
            began: when the connection did.
        """
        if upstream.ejected:
            if began >= upstream._rested_at:
                self._pool.recovered(upstream)
        elif began >= upstream._doubted_at:
            upstream._doubts = 0

    def unanswered(self, upstream: Upstream, began: float, why: str) -> None:
        """Hear that one was not."""
        upstream.unanswered += 1
        if self._eject_after is None:
            return
        pool = self._pool
        now = pool.clock()
        if upstream.ejected:
            if pause := upstream._rest(began, now, pool.spread()):
                upstream.error = why
                called = pool._called(upstream)
                logger.warning("upstream %s stays ejected for %.2g s: %s", called, pause, why)
            return
        if not upstream._doubts:
            upstream._doubted_at = began
        upstream._doubts += 1
        if upstream._doubts < self._eject_after or upstream.rests_until is not None:
            return
        if not self._may_eject(upstream):
            self._seldom.tell(
                "upstream %s is not ejected after %d connections without an answer (the last: %s): "
                "too few others would stay",
                *(pool._called(upstream), upstream._doubts, why),
            )
            return
        upstream.ejected, upstream.error = True, why
        pause = upstream._rest(now, now, pool.spread())
        pool.changed()
        logger.warning(
            "upstream %s is ejected for %.2g s: %d in a row without an answer; the last: %s",
            *(pool._called(upstream), pause, upstream._doubts, why),
        )

    def undecided(self, upstream: Upstream, began: float) -> None:
        """Hear that one shows nothing, or not soon: if it was the probe, the next may be."""
        if upstream.ejected and began >= upstream._rested_at:
            upstream.probing = False

    # -- who is held

    def let_go(self, trial: Trial) -> None:
        """Hold one no more: it has ended."""
        held = self._held[trial.upstream]
        held.discard(trial)
        if not held:
            del self._held[trial.upstream]

    def fell(self, upstream: Upstream) -> None:
        """Hear that one is failing: cut its pairs, if that is wanted."""
        if self._cut_failing:
            held = list(self._held.get(upstream, ()))
            self._cut_soon(held, "failing")
            if held:
                logger.warning("pairs with upstream %s are cut: %d", upstream.name, len(held))

    def rose(self, upstream: Upstream) -> None:
        """Hear that one is up again: cut the pairs of backups, if that is wanted."""
        if self._cut_backups and not upstream.backup:
            held = [each for of, its in self._held.items() if of.backup for each in its]
            self._cut_soon(held, "a backup")
            if held:
                logger.warning("pairs with backups are cut: %d", len(held))

    def _cut_soon(self, pairs: list[Trial], why: str) -> None:
        """Cut them in turns of the engine's: this one may be a host's."""
        if there := [trial for trial in pairs if trial.held is not None]:
            there[0].held.server.call_later(0.0, self._cut, there, why)

    def _cut(self, pairs: list[Trial], why: str) -> None:
        for trial in pairs[:AT_ONCE]:
            if trial.held is not None:
                trial.held._fail(PairCut(why))
        self._cut_soon(pairs[AT_ONCE:], why)

    def _may_eject(self, upstream: Upstream) -> bool:
        upstreams = self._pool.upstreams
        most = max(1, int(self._max_ejected * len(upstreams)))
        if sum(each.ejected for each in upstreams) >= most:
            return False
        return any(each.is_up for each in upstreams if each is not upstream)


class Trial:
    """One connection to an upstream; it is its protocol, too, and counts its end.

    Attributes:
        upstream: whom it is to.
        began: when it was asked for.
        held: its transport, to its end, where the pool may cut it.
    """

    __slots__ = (
        *("_before", "_moved", "_quiet", "_transport", "_trials"),
        *("began", "held", "upstream"),
    )

    def __init__(
        self, trials: Trials, upstream: Upstream, transport: Any, began: float, before: int
    ) -> None:
        self.upstream = upstream
        self.began = began
        self.held: Any = None
        self._trials = trials
        self._transport = transport  # None: it is over
        self._before = before
        self._moved: tuple[int, int] | None = None  # bytes, at the last look
        self._quiet = 0  # looks at which none had

    @property
    def name(self) -> str:
        return self.upstream.name

    def look(self) -> bool:
        """Look whether the first byte has come, or is late; return whether to look again."""
        transport, trials = self._transport, self._trials
        if transport is None:
            return False
        moved: tuple[int, int] = transport.get_extra_info("bytes")
        if moved[0]:
            self._transport = None
            trials.answered(self.upstream, self.began)
            return False
        self._quiet = self._quiet + 1 if moved == self._moved else 0
        self._moved = moved
        if self._quiet < LOOKS:
            return True
        if trials.timeout is not None and moved[1] > self._before:
            self._transport = None
            late = FirstByteTimeout(self.name, trials.timeout)
            trials.unanswered(self.upstream, self.began, late.strerror or "")
            transport._fail(late)
            return False
        if self._quiet == LOOKS:
            trials.undecided(self.upstream, self.began)
        return trials.timeout is not None or self.upstream.ejected

    def connection_lost(self, exc: BaseException | None) -> None:
        transport, self._transport = self._transport, None  # else each would keep the other
        if self.held is not None:
            self.held = None
            self._trials.let_go(self)
        if transport is not None:
            self._judge(transport, exc)
        self.upstream.connection_lost(exc)

    def _judge(self, transport: Any, exc: BaseException | None) -> None:
        trials, upstream, began = self._trials, self.upstream, self.began
        received, sent = transport.get_extra_info("bytes")
        if received:
            trials.answered(upstream, began)
        elif transport.ended_first() and sent > self._before:
            trials.unanswered(upstream, began, "it was closed before its first byte")
        elif _is_its_own(exc):
            trials.unanswered(upstream, began, f"before its first byte: {exc.strerror or exc}")
        else:
            trials.undecided(upstream, began)


Lease: TypeAlias = Upstream | Trial
"""What counts a connection to an upstream: itself, or a trial where connections are on trial."""


def _is_its_own(exc: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error is the network's, and the upstream's own: not passed on from the client."""
    return isinstance(exc, OSError) and not isinstance(exc, MuxcoreError) and exc.__cause__ is None
