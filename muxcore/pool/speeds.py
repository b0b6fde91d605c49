"""Bytes a second, up and down: of one source, of one upstream, or of all together."""

from __future__ import annotations

from typing import Any

from muxcore.rate import Rate

_NONE = 2.0**50  # bytes a second: a rate's most, for those who are here when theirs is lifted


class Speeds:
    """The two rates of those who share them; None: there is none.

    Attributes:
        up: of what clients send.
        down: of what these are sent by a relay's other side.
    """

    __slots__ = ("down", "up")

    def __init__(self) -> None:
        self.up: Rate | None = None
        self.down: Rate | None = None

    def become(self, up: float | None, down: float | None) -> None:
        """Be others from now on, for those who are here, too, if they have one already."""
        self.up, self.down = _changed(self.up, up), _changed(self.down, down)


class OfUpstream:
    """What the connections to one upstream count against; the witness of each: ``witnesses.py``.

    Args:
        speeds: those of all its clients together.
    """

    __slots__ = ("_speeds",)

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds

    @property
    def up(self) -> tuple[Rate, ...]:
        """For what comes from the upstream, which is the clients' way down."""
        return () if self._speeds.down is None else (self._speeds.down,)

    @property
    def down(self) -> tuple[Rate, ...]:
        """For what it is sent."""
        return () if self._speeds.up is None else (self._speeds.up,)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is counted by connections."""


def _changed(rate: Rate | None, wanted: float | None) -> Rate | None:
    if rate is None:
        return None if wanted is None else Rate(wanted)
    rate.change(_NONE if wanted is None else wanted)
    return None if wanted is None else rate


def checked_speed(owner: str, name: str, value: Any) -> float | None:
    """Return bytes a second, or refuse them by the name that they have.

    Args:
        owner: the class that they were given to.
        name: the argument.
        value: they; None: there is no limit.

    Raises:
        TypeError, ValueError: they cannot work.
    """
    if value is None:
        return None
    try:
        return Rate(value).bytes_per_second
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"{owner}({name}={value!r}): {exc}") from None


def refill(bytes_per_second: float | None) -> float:
    """Return the seconds in which an empty bucket is full again."""
    if bytes_per_second is None:
        return 0.0
    return Rate(bytes_per_second).burst / bytes_per_second
