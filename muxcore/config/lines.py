"""On which line of a TOML file each key stands, which ``tomllib`` does not tell.

The text has been parsed before, so it is right, and only as much of TOML is looked at here as says
where a key or a value ends. (TOML 1.0.0, toml.io/en/v1.0.0.)
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Of a key: the names of its tables, and its own; in a list the number of the element."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key that needs no quotes
_KEY = re.compile(BARE.pattern + r"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
_TEXT = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*"""+'
    r"|'''(?:[^']|'(?!''))*'''+"
    r'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
)
_OTHER = re.compile(r"[^,\]}\n#]+")  # a number, a truth, a date


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table, key and element of a list."""
    return _Scan(text).lines


class _Scan:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = self._counted = 0
        self._line = 1  # at what is counted
        self._elements: dict[Path, int] = {}  # of lists that are written as [[tables]]
        table: Path = ()
        while self._skip(_BLANK) < len(text):
            if text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        if found is None:  # it was parsed before: this is a mistake of ours
            raise ValueError(f"no {pattern.pattern} at {self._at}")
        self._at = found.end()
        return self._at

    def _note(self, path: Path) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self.lines.setdefault(path, self._line)

    def _header(self) -> Path:
        """Read ``[a.b]`` or ``[[a.b]]``."""
        count = 2 if self._text.startswith("[[", self._at) else 1
        self._at += count
        path = self._key(())
        if count == 2:
            self._elements[path] = self._elements.get(path, -1) + 1
            path = (*path, self._elements[path])
            self._note(path)
        self._at += count
        return path

    def _key(self, table: Path) -> Path:
        """Read a key, which may have dots, and what is blank around it."""
        path = table
        while True:
            self._skip(_SPACE)
            begin = self._at
            name = self._text[begin : self._skip(_KEY)]
            path = (*path, _plain(name))
            self._note(path)
            if path in self._elements:  # the last [[table]] of that name
                path = (*path, self._elements[path])
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return path[:-1] if path[:-1] in self._elements else path
            self._at += 1

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._at += 1  # =
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        begin = self._text[self._at]
        if begin in "[{":
            self._at += 1
            number = 0
            while self._text[self._skip(_BLANK)] not in "]}":
                if begin == "{":
                    self._pair(path)
                else:
                    self._note((*path, number))
                    self._value((*path, number))
                    number += 1
                if self._text[self._skip(_BLANK)] == ",":
                    self._at += 1
            self._at += 1
        else:
            self._skip(_TEXT if begin in "\"'" else _OTHER)


def _plain(name: str) -> str:
    """Return a key without its quotes."""
    return str(tomllib.loads(f"key = {name}")["key"]) if name[0] in "\"'" else name
