"""A file as it is read: tables of what its keys mean, or all that is wrong with it."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from muxcore._near import near
from muxcore.config.kinds import Each, Name, Node, Table
from muxcore.config.lines import BARE, Path, lines_of
from muxcore.config.schema import FILE
from muxcore.errors import MuxcoreError

MOST_TOLD = 20  # errors of one file: more are one mistake's, mostly
LARGEST = 1 << 20  # bytes: ten thousand upstreams, one a line
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a section: it stands in logs and metrics
_AT = re.compile(r"(.*) \(at line (\d+), column (\d+)\)")

# "Pool(queue=-1): queue must be …": the class is ours, the key is the reader's
_OWNER = re.compile(r"[A-Z]\w*\((\w+)=.*?\): ", re.DOTALL)
_LIMIT = re.compile(r"Limits\.(\w+)")


class ConfigError(MuxcoreError, ValueError):
    """A file cannot be used; nothing was opened, or changed.

    Attributes:
        told: what is wrong, one text for each error.
    """

    def __init__(self, told: Iterable[str]) -> None:
        self.told = list(told)
        super().__init__("\n".join(self.told))


@dataclass
class Document:
    """A file.

    Attributes:
        tables: its sections, with the values that are meant.
        name: of the file, for errors; "": it is the command line's.
        text: what is in it.
        problems: what is wrong, so far: where, and what.
    """

    tables: dict[str, Any]
    name: str = ""
    text: str = ""
    problems: list[tuple[Path, str]] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {"tables": self.tables, "name": self.name, "text": self.text, "problems": []}

    @cached_property
    def lines(self) -> dict[Path, int]:
        """On which line each key stands; who finds nothing wrong needs none."""
        return lines_of(self.text)

    def section(self, name: str) -> dict[str, Any]:
        """Return the tables of a section, by their names, or its keys."""
        found: dict[str, Any] = self.tables.get(name, {})
        return found

    def wrong(self, path: Path, what: str) -> None:
        """Note what is wrong."""
        self.problems.append((path, what))

    def wrong_with(self, path: Path, error: Exception, names: Mapping[str, str]) -> str:
        """Note an error of a class that was made of a table; return whose argument's it is, or "".

        Args:
            path: the table's.
            error: it begins with the class and the argument.
            names: of arguments that are other keys.
        """
        text = str(error)
        found = _OWNER.match(text) or _LIMIT.match(text)
        if found is not None:
            path = (*path, names.get(found[1], found[1]))
            text = re.sub(rf"^(Limits\.)?{found[1]}\b:?\s*", "", _OWNER.sub("", text, 1))
        self.wrong(path, text)
        return found[1] if found is not None else ""

    def is_wrong(self, *path: str | int) -> bool:
        """Return whether something in a table is: what is made of it would be wrong once more."""
        return any(where[: len(path)] == path for where, _ in self.problems)

    def refuse(self) -> None:
        """Raise if something is wrong.

        Raises:
            ConfigError: all of it, in the file's order.
        """
        if not self.problems:
            return
        told = sorted({(self.line(path), self.told(path, what)) for path, what in self.problems})
        texts = [text for _, text in told[:MOST_TOLD]]
        if len(told) > MOST_TOLD:
            texts.append(f"{self.name}: {len(told) - MOST_TOLD} errors more")
        raise ConfigError(texts)

    def line(self, path: Path) -> int:
        """Return where a key stands; where it does not, the line of its table; 0: nowhere."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def told(self, path: Path, what: str) -> str:
        """Return a line about a key, with the file, the line there, and the key."""
        line = self.line(path)
        return f"{self.name}:{line}: {shown(path)}: {what}" if line else f"{self.name}: {what}"


def shown(path: Path) -> str:
    """Return a key as it is written: ``pools.web.upstreams[1].weight``."""
    text = ""
    for each in path:
        if isinstance(each, int):
            text += f"[{each}]"
        else:
            text += ("." if text else "") + (each if BARE.fullmatch(each) else repr(each))
    return text


def read(name: str, data: bytes) -> Document:
    """Read a file's contents.

    Args:
        name: the file's.
        data: what is in it.

    Returns:
        The file, whose ``problems`` are keys and values that there cannot be.

    Raises:
        ConfigError: it is no TOML.
    """
    if len(data) > LARGEST:
        raise ConfigError([f"{name}: is larger than {LARGEST:,} bytes, which no file needs"])
    if data.startswith(codecs.BOM_UTF8):
        what = "begins with a byte order mark, which TOML has not: save it as UTF-8 without one"
        raise ConfigError([f"{name}:1: {what}"])
    try:
        text = data.decode()
        raw = tomllib.loads(text)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError([f"{name}:{line}: this is no UTF-8, which TOML is written in"]) from None
    except tomllib.TOMLDecodeError as exc:
        found = _AT.fullmatch(str(exc))
        line, why = (int(found[2]), f"{found[1]} (column {found[3]})") if found else (0, str(exc))
        line = line or len(text.rstrip().splitlines())
        raise ConfigError([f"{name}:{line}: this is no TOML: {why}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: is nested too deeply"]) from None
    document = Document({}, name, text.replace("\r\n", "\n"))
    reader = _Reader(document, raw)
    document.tables = reader.read(FILE, raw, ())
    return document


class _Reader:
    def __init__(self, document: Document, raw: Mapping[str, Any]) -> None:
        self._document = document
        self._raw = raw

    def read(self, node: Node, value: Any, path: Path) -> Any:
        """Return what a value means; None where that is nothing, which is noted."""
        if isinstance(node, Table):
            return self._table(node, value, path)
        if isinstance(node, Each):
            return self._each(node, value, path)
        try:
            found = node.read(value)
        except (TypeError, ValueError) as exc:
            self._document.wrong(path, str(exc).removeprefix(f"{path[-1]} "))
            return None
        if isinstance(node, Name) and found not in node.others:
            known = self._raw.get(node.section)
            if not isinstance(known, dict) or found not in known:
                names = (*(known if isinstance(known, dict) else ()), *node.others)
                meant = near(found, names) or f": write a table [{node.section}.{found}]"
                self._document.wrong(path, f"there is no [{node.section}.{found}]{meant}")
        return found

    def _table(self, node: Table, value: Any, path: Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            if node.short:
                return {node.short: self.read(node.keys[node.short], value, path)}
            self._document.wrong(path, f"must be a table, not {value!r}")
            return {}
        found = {}
        for key, its in value.items():
            if key in node.keys:
                found[key] = self.read(node.keys[key], its, (*path, key))
            else:
                what = "section" if not path else "key"
                meant = near(key, node.keys) or f": there are {', '.join(node.keys)}"
                self._document.wrong((*path, key), f"there is no such {what}{meant}")
        for key in node.needed:
            if key not in value:
                self._document.wrong(path, f"{key} is missing")
        return found

    def _each(self, node: Each, value: Any, path: Path) -> Any:
        if node.named:
            return self._named(node, value, path)
        values = value if isinstance(value, list) else [value]
        if len(values) < node.least:
            self._document.wrong(path, "is empty: at least one is needed")
        at = path if values is not value else None
        return [
            self.read(node.of, each, at or (*path, number)) for number, each in enumerate(values)
        ]

    def _named(self, node: Each, value: Any, path: Path) -> dict[str, Any]:
        name = path[-1]
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            self._document.wrong(path, f"write tables with names, as in [{name}.main]")
            return {}
        if len(value) < node.least:
            self._document.wrong(path, f"is empty: at least one is needed, as in [{name}.main]")
        for each in value:
            if not _NAME.fullmatch(each):
                what = "a name has 1 to 64 letters, digits, '_', '-' and '.'"
                self._document.wrong((*path, each), what)
        return {each: self.read(node.of, its, (*path, each)) for each, its in value.items()}
