"""An nginx.conf as directives, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A comment, a word in quotes, an end, or a word: a brace in one stands in ${NAME} alone.
_TOKEN = re.compile(
    r"""\s*(?: (?P<comment>\#[^\n]*)
      | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<mark>[;{}])
      | (?P<word>(?:\$\{\w+\}|\\.|[^\s;{}\\])+) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"""\\(["'\\ trn])""")
_MEANT = {"t": "\t", "r": "\r", "n": "\n"}


@dataclass(frozen=True)
class Directive:
    """One of them.

    Attributes:
        words: its name and its arguments as they stand there, quotes included.
        line: where.
        block: what it has in braces; None: it ends with a semicolon.
    """

    words: tuple[str, ...]
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def name(self) -> str:
        return _plain(self.words[0])

    @property
    def args(self) -> tuple[str, ...]:
        return tuple(map(_plain, self.words[1:]))


class NoCounterpart(Exception):
    """muxcore has nothing for a directive; the text names it."""

    def __init__(self, directive: Directive, why: str = "") -> None:
        said = f"line {directive.line}: {' '.join(directive.words)}: muxcore has no counterpart"
        super().__init__(f"{said}: {why}" if why else said)


def parsed(text: str) -> tuple[Directive, ...]:
    """Return the directives of a file.

    Raises:
        ValueError: it is no configuration.
    """
    tokens = _tokens(text)
    directives = _block(tokens)
    if next(tokens, None) is not None:
        raise ValueError("there is a } too many")
    return directives


def shown(directives: Iterable[Directive]) -> str:
    """Return a file that has these."""
    return "".join(
        " ".join(each.words) + (";\n" if each.block is None else f" {{\n{shown(each.block)}}}\n")
        for each in directives
    )


def named(directives: Iterable[Directive], name: str) -> list[Directive]:
    """Return those of a name."""
    return [each for each in directives if each.name == name]


def _plain(word: str) -> str:
    text = word[1:-1] if word[0] in "\"'" else word
    return _ESCAPED.sub(lambda found: _MEANT.get(found[1], found[1]), text)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: this is no word")
        at = found.end()
        if found.lastgroup != "comment":
            assert found.lastgroup is not None
            yield found[found.lastgroup], text.count("\n", 0, at) + 1


def _block(tokens: Iterator[tuple[str, int]]) -> tuple[Directive, ...]:
    directives: list[Directive] = []
    words: list[str] = []
    for token, line in tokens:
        if token == "}":
            break
        if token == "{":
            directives.append(Directive(tuple(words), line, _block(tokens)))
        elif token == ";":
            directives.append(Directive(tuple(words), line))
        else:
            words.append(token)
            continue
        words = []
    return tuple(directives)
