"""Numbers as people write them: ``30s`` and ``500ms``, ``20k``, ``16k`` and ``1m``, ``50%``.

A ``k`` of things is 1,000, a ``k`` of bytes is 1,024. Each error says what the number must be, so
that a name can stand before it.
"""

from __future__ import annotations

import re
from decimal import Decimal

# An exponent of three digits is beyond all that anybody can mean; one of nine takes minutes.
_NUMBER = re.compile(r"([-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:e[-+]?\d{1,3})?)\s*([a-z%]*)")
_TIMES = {
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "": Decimal(1),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
_CLOSE = 1.0  # s without a byte: one that is at work moves some by then
_COUNTS = {"": Decimal(1), "k": Decimal(10**3), "m": Decimal(10**6), "g": Decimal(10**9)}
_SHARES = {"%": Decimal("0.01")}
_SIZES = {"": Decimal(1), "k": Decimal(1 << 10), "m": Decimal(1 << 20), "g": Decimal(1 << 30)}


def seconds(text: str) -> float:
    """Return the seconds of ``30``, ``30s``, ``500ms``, ``50us``, ``2m``, ``1h`` or ``1d``.

    Raises:
        ValueError: it is none of these.
    """
    return float(_number(text, _TIMES, "a time such as 30s, 500ms or 2m"))


def idle(text: str) -> float | None:
    """Return after how many seconds without a byte somebody is idle; ``wait``: nobody is, None.

    Raises:
        ValueError: it is neither that, nor ``close``, nor a time.
    """
    if text in ("wait", "close"):
        return _CLOSE if text == "close" else None
    return float(_number(text, _TIMES, "wait, close, or a time such as 30s or 500ms"))


def number(text: str) -> float:
    """Return the number of ``0.5``, ``2.5k`` or ``1m``: a rate, say.

    Raises:
        ValueError: it is none of these.
    """
    return float(_number(text, _COUNTS, "a number such as 500 or 20k"))


def count(text: str) -> int:
    """Return the whole number of ``500``, ``20k`` or ``1m``.

    Raises:
        ValueError: it is none of these.
    """
    return _whole(text, _COUNTS, "a whole number such as 500 or 20k")


def size(text: str) -> int:
    """Return the bytes of ``64``, ``16k``, ``1m`` or ``1g``.

    Raises:
        ValueError: it is none of these.
    """
    return _whole(text, _SIZES, "a number of bytes such as 64, 16k or 1m")


def share(text: str) -> float:
    """Return the part of the whole that ``50%`` is: 0.5.

    Raises:
        ValueError: it is no percentage.
    """
    return float(_number(text, _SHARES, "a share such as 50%"))


def show_seconds(value: float) -> str:
    """Write a time as :func:`seconds` reads it."""
    return f"{value * 1000:.12g}ms" if 0 < value < 1 else f"{value:.12g}s"


def show_count(value: int) -> str:
    """Write a number of things as :func:`count` reads it."""
    return _shown(value, _COUNTS)


def show_size(value: int) -> str:
    """Write a number of bytes as :func:`size` reads it."""
    return _shown(value, _SIZES)


def show_share(value: float) -> str:
    """Write a part of the whole as :func:`share` reads it."""
    return f"{value * 100:g}%"


def _number(text: str, units: dict[str, Decimal], what: str) -> Decimal:
    found = _NUMBER.fullmatch(text.strip().lower())
    if not found or found[2] not in units:
        raise ValueError(f"must be {what}, not {text!r}")
    return Decimal(found[1]) * units[found[2]]


def _whole(text: str, units: dict[str, Decimal], what: str) -> int:
    value = _number(text, units, what)
    if value % 1:
        raise ValueError(f"must be {what}, not {text!r}")
    return int(value)


def _shown(value: int, units: dict[str, Decimal]) -> str:
    for unit, scale in reversed(units.items()):
        if value and not value % scale:
            return f"{value // int(scale)}{unit}"
    return str(value)
