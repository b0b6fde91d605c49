"""The command line's reference, made from its parsers: each command, its options, examples."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from muxcore import cli

_INDENT = " " * len("usage: ")


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        lines = [line for each in _parsers() for line in _command(*each)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _parsers() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for about in action._choices_actions:
                yield about.dest, str(about.help), action.choices[about.dest]


def _command(name: str, about: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## muxcore {name}\n\n{about}\n"
    usage = parser.format_usage().removeprefix("usage: ")
    yield f"```text\n{usage.replace(_INDENT, '')}```\n"
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
        if not actions:
            continue
        yield f"**{group.title}**" + (f": {group.description}" if group.description else "") + "\n"
        yield "| | |\n|---|---|"
        for action in actions:
            yield f"| {_spelled(action)} | {_help(parser, action)} |"
        yield ""
    if parser.epilog:
        yield f"```text\n{parser.epilog}\n```\n"


def _spelled(action: argparse.Action) -> str:
    value = action.metavar or action.dest
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return f"`{value}`"
    takes = (
        ""
        if action.nargs == 0
        else f" {value if action.choices or action.metavar else str(value).upper()}"
    )
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    shown = parser._get_formatter()._expand_help(action) if action.help else ""
    return shown.replace("|", "\\|").replace("\\n", "\\\\n")


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
