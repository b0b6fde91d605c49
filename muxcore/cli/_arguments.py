"""How every command reads its arguments: units, and errors that name the flag and show its help.

What is wrong takes three lines: what, the flag's own help, where the rest of the help is.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from muxcore import _units, address
from muxcore._near import near

T = TypeVar("T")

# argparse's own words: "argument --rate/-q: ...", and what is missing, by name
_ABOUT = re.compile(r"argument (\S+): (.*)", re.DOTALL)
_MISSING = re.compile(r"the following arguments are required: (.*)")
_FLAG = re.compile(r"--[a-z][a-z-]*")


class Parser(argparse.ArgumentParser):
    """A parser of one command; ``options.parser`` is the one whose command was asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.set_defaults(parser=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            options.parser._unknown(rest)
        return options

    def format_help(self) -> str:
        # With each flag in it the usage is a wall, and they all stand below.
        self.usage = self.usage or f"%(prog)s [OPTION ...] {self._positionals_usage()}".rstrip()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """End the program with 2: the message, and the help of the flag that it names first."""
        about = _ABOUT.fullmatch(message)
        missing = _MISSING.fullmatch(message)
        named = missing[1].split(", ") if missing else _FLAG.findall(message)
        shown = [a for name in ([about[1]] if about else named) if (a := self._action(name))]
        shown = shown if missing else shown[:1]
        if about and shown:
            # What our own types say goes on from the name: "--rate must be ..."
            colon = "" if about[2].startswith("must ") else ":"
            message = f"{_name(shown[0])}{colon} {about[2]}"
        print(f"{self.prog}: {message}", file=sys.stderr)
        formatter = self._get_formatter()
        formatter.add_arguments(shown)
        sys.stderr.write(textwrap.indent(formatter.format_help(), "  "))
        print(f"see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        if action.nargs == argparse.PARSER:
            meant = near(value, choices) or f": take one of {', '.join(choices)}"
            self.error(f"there is no command {value!r}{meant}")
        raise argparse.ArgumentError(
            action, f"must be {' or '.join(choices)}, not {value!r}{near(value, choices)}"
        )

    def _unknown(self, words: Iterable[str]) -> NoReturn:
        """Refuse what no argument takes."""
        words = list(words)
        flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if flag is None:
            self.error(f"nothing takes {words[0]!r}")
        self.error(f"there is no {flag}{near(flag, self._option_string_actions)}")

    def _positionals_usage(self) -> str:
        forms = {"+": "{0} [{0} ...]", "*": "[{0} ...]", argparse.PARSER: "{0} ..."}
        positionals = [action for action in self._actions if not action.option_strings]
        return " ".join(forms.get(str(a.nargs), "{0}").format(_name(a)) for a in positionals)

    def _action(self, name: str) -> argparse.Action | None:
        """Return what an error calls so: a flag, all of its spellings, or a positional's name."""
        for action in self._actions:
            if name in (*action.option_strings, "/".join(action.option_strings)):
                return action
            if not action.option_strings and name in (action.metavar, action.dest):
                return action
        return None


def duration(text: str) -> float:
    """Read seconds: the type of arguments such as ``--duration 30s``."""
    return _refusing(_units.seconds, text)


def duration_or_none(text: str) -> float:
    """Read seconds, or ``none``, which is infinity: None means that a flag was not given."""
    return math.inf if text.strip().lower() == "none" else duration(text)


def number(text: str) -> float:
    """Read any number: the type of arguments such as ``--rate 2.5k``."""
    return _refusing(_units.number, text)


def count(text: str) -> int:
    """Read a whole number: the type of arguments such as ``--connections 20k``."""
    return _refusing(_units.count, text)


def size(text: str) -> int:
    """Read bytes: the type of arguments such as ``--write-high 16k``."""
    return _refusing(_units.size, text)


def share(text: str) -> float:
    """Read a part of the whole: the type of arguments such as ``--max-ejected 50%``."""
    return _refusing(_units.share, text)


def idle(text: str) -> float | None:
    """Read seconds, ``close`` or ``wait``: the type of ``--drain-idle``."""
    return _refusing(_units.idle, text)


def mode(text: str) -> int:
    """Read the rights of a file: the type of ``--socket-mode 0660``."""
    return _refusing(address.mode_of, text)


def refuse(options: argparse.Namespace, why: str) -> NoReturn:
    """End the command with 2, for what its arguments say together; a flag in it is explained."""
    parser: Parser = options.parser
    parser.error(why)


def in_flags(error: ValueError, flags: Mapping[str, str]) -> str:
    """Return the text of an error about fields of a class, as one about flags.

    Args:
        error: it calls them ``Limits.connections``, or ``connections``.
        flags: the flag of each field.
    """
    text = re.sub(r"^[A-Z]\w*\([^)]*\): ", "", str(error))  # "Relay(max_connections=0): ..."
    fields = "|".join(sorted(flags, key=len, reverse=True))
    return re.sub(rf"\b(?:[A-Z]\w*\.)?({fields})\b", lambda m: flags[m[1]], text)


def _refusing(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _name(action: argparse.Action) -> str:
    """Return its long flag, or its name in the usage."""
    if action.option_strings:
        return max(action.option_strings, key=len)
    return str(action.metavar or action.dest)
