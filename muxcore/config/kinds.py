"""What may stand behind a key: each kind is read from what TOML has, and written back to that.

Numbers may be texts with units, as the command line reads them: ``"30s"``, ``"64k"``. What a number
may be, the class that takes it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from muxcore import _units
from muxcore import address as addresses
from muxcore._near import near
from muxcore.address import Address


@dataclass(frozen=True)
class Kind:
    """A value.

    Attributes:
        read: returns what is meant by what TOML has; a ``ValueError`` says what it must be.
        show: returns what TOML has for it.
    """

    read: Callable[[Any], Any]
    show: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Name(Kind):
    """The name of a table.

    Attributes:
        section: it is ``[section.NAME]``.
        others: words that stand for something else.
    """

    section: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table, or a short form of it.

    Attributes:
        keys: what may stand in it.
        needed: what must.
        short: the key whose value alone may stand for the table; "": none.
    """

    keys: Mapping[str, Node]
    needed: tuple[str, ...] = ()
    short: str = ""


@dataclass(frozen=True)
class Each:
    """A list, or one element alone; or, with names, a table of tables.

    Attributes:
        of: what each element is.
        named: they are ``[section.NAME]``.
        least: so many there must be.
    """

    of: Node
    named: bool = False
    least: int = 0


Node: TypeAlias = "Kind | Table | Each"


def _refuse(what: str, value: Any) -> ValueError:
    return ValueError(f"must be {what}, not {value!r}")


def _measure(what: str, read: Callable[[str], Any], show: Callable[[Any], str]) -> Kind:
    def read_any(value: Any) -> Any:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refuse(what, value)
        return value

    return Kind(read_any, show)


COUNT = _measure("a whole number such as 500 or '20k'", _units.count, lambda value: value)
NUMBER = _measure("a number such as 500 or '20k'", _units.number, lambda value: value)
SIZE = _measure("a number of bytes such as 64 or '16k'", _units.size, _units.show_size)
DURATION = _measure("a time such as '30s' or '500ms'", _units.seconds, _units.show_seconds)
SHARE = _measure("a share such as 0.5 or '50%'", _units.share, _units.show_share)
IDLE = _measure(
    "'wait', 'close', or a time such as '30s' or '500ms'",
    _units.idle,
    lambda value: "wait" if value is None else _units.show_seconds(value),
)


def or_none(kind: Kind) -> Kind:
    """Return a kind that may be ``"none"`` as well, which is None."""

    def read(value: Any) -> Any:
        return None if value == "none" else kind.read(value)

    return Kind(read, lambda value: "none" if value is None else kind.show(value))


def choice(*words: str) -> Kind:
    """Return the kind of one of some words."""

    def read(value: Any) -> str:
        if value not in words:
            meant = near(value, words) if isinstance(value, str) else ""
            shown = ", ".join(map(repr, words))
            raise ValueError(f"must be one of {shown}, not {value!r}{meant}")
        return str(value)

    return Kind(read)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _refuse("a text", value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse("true or false", value)
    return value


def _bytes(value: Any) -> bytes:
    from muxcore.load.asking import bytes_of  # who needs none pays for none

    return bytes_of(_text(value))


def _show_bytes(value: bytes) -> str:
    shown = value.decode("latin-1").encode("unicode_escape").decode()
    return f"\\x40{shown[1:]}" if shown.startswith("@") else shown


def _step(value: Any) -> tuple[bytes, bytes]:
    if not isinstance(value, list) or len(value) != 2:
        raise _refuse("a pair of texts, what is sent and what is expected", value)
    send, expect = (_bytes(each) if each != "" else b"" for each in value)
    return send, expect


def _show_step(value: tuple[bytes, bytes]) -> list[str]:
    return [_show_bytes(each) for each in value]


def _mode(value: Any) -> int:
    if not isinstance(value, str):
        hint = f"; did you mean '0{value}'?" if re.fullmatch("[0-7]{3}", str(value)) else ""
        raise ValueError(f"must be a text such as '0660', not {value!r}{hint}")
    return addresses.mode_of(value)


def _address(value: Any) -> Address:
    alone, *more = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else [value]
    if more and re.search(r":\d+$", alone):
        raise ValueError(
            f"must be an address alone, not {value!r}: what else an upstream has stands in a "
            f'table, such as {{address = "{alone}", weight = 2}}'
        )
    return addresses.parse(value)


def _listening(value: Any) -> Address:
    return addresses.parse(value, listen=True)


TEXT = Kind(_text)
FLAG = Kind(_flag)
BYTES = Kind(_bytes, _show_bytes)
STEP = Kind(_step, _show_step)
MODE = Kind(_mode, lambda value: f"0{value:o}")
ADDRESS = Kind(_address, str)
LISTENING = Kind(_listening, str)


def name_of(section: str, *others: str) -> Name:
    """Return the kind of a name in a section."""
    return Name(_text, section=section, others=others)
