"""A wrong argument is told by the flag's name, with the flag's own help, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from typing import cast

import pytest

from muxcore import Limits, cli
from muxcore.cli import COMMANDS, _serving, main

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def complaint_of(arguments: list[str], capsys: Output) -> str:
    """Return what is said of arguments that end the program with 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, complaint = capsys.readouterr()
    assert out == ""
    return cast(str, complaint)


def test_a_value_that_cannot_be_is_told_with_its_flag_and_the_flag_s_help(capsys: Output) -> None:
    assert complaint_of(["echo", "0", "--connections", "0"], capsys) == (
        "muxcore echo: --connections must be above 0, not 0\n"
        "  --connections N  open connections at once; default: 100k\n"
        "see muxcore echo --help\n"
    )


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["echo", "0", "--backlog", "x"], "--backlog must be a whole number such as 500 or 20k"),
        (["echo", "0", "--write-high", "x"], "--write-high must be a number of bytes such as 64"),
        (["relay", "0", "a:1", "--drain-timeout", "x"], "--drain-timeout must be a time such as"),
        (["relay", "0", "a:1", "--max-connections", "x"], "--max-connections must be a whole"),
        (["relay", "0", "a:1", "--linger-timeout", "none"], "--linger-timeout must be a time such"),
        (["relay", "0", "a:1", "--connect-timeout", "0"], "--connect-timeout must be above 0"),
        (["load", "9", "--rate", "x"], "--rate must be a number such as 500 or 20k, not 'x'"),
        (["load", "9", "--duration", "x"], "--duration must be a time such as 30s, 500ms or 2m"),
        (["load", "9", "-c", "1.5"], "--connections must be a whole number such as"),
        (["load", "9", "-c"], "--connections: expected one argument"),
        (["compare", "--fail-under", "x"], "--fail-under must be a number such as"),
        (["compare", "--seed", "x"], "--seed must be a whole number such as"),
        (["echo", "0", "-v", "-q"], "-q: not allowed with argument -v"),
    ],
)
def test_every_command_names_the_flag_and_shows_its_help_alone(
    arguments: list[str], first: str, capsys: Output
) -> None:
    lines = complaint_of(arguments, capsys).splitlines()
    assert lines[0].startswith(f"muxcore {arguments[0]}: {first}")
    flag = first.split()[0].rstrip(":")
    assert re.match(rf"  (-\w \w+, |-\w, )?{flag}", lines[1])
    assert not [line for line in lines[2:-1] if "--" in line]
    assert lines[-1] == f"see muxcore {arguments[0]} --help"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ecoh"], "there is no command 'ecoh': did you mean echo?"),
        (["echo", "0", "--conections", "5"], "no --conections: did you mean --connections?"),
        (["echo", "0", "--conections=5"], "no --conections: did you mean --connections?"),
        (["echo", "0", "--trigger", "lvel"], "not 'lvel': did you mean level?"),
        (["echo", "0", "--wings"], "there is no --wings\n"),
        (["load", "9", "10"], "nothing takes '10'"),
    ],
)
def test_what_is_misspelt_is_told_with_what_was_meant(
    arguments: list[str], words: str, capsys: Output
) -> None:
    assert words in complaint_of(arguments, capsys)


def test_every_argument_that_is_missing_is_shown_with_its_help(capsys: Output) -> None:
    complaint = complaint_of(["relay"], capsys)
    assert "are required: LISTEN, UPSTREAM\n  LISTEN    a port" in complaint
    assert "\n  UPSTREAM  HOST:PORT" in complaint


def test_without_a_command_the_help_is_printed_and_it_is_wrong(capsys: Output) -> None:
    assert main([]) == 2
    out, complaint = capsys.readouterr()
    assert out == ""
    assert [name for name in COMMANDS if f"\n    {name} " not in complaint] == []


def test_units_are_understood_wherever_a_limit_is_given() -> None:
    options = cli._parser().parse_args(
        "relay 0 db:1 --connections 20k --write-buffer 1m --idle-timeout 2m --linger-timeout 50ms"
        " --max-connections 1k --close-timeout none".split()
    )
    limits = _serving.limits_of(options)
    assert limits.connections == 20_000
    assert limits.write_buffer == 1 << 20
    assert (limits.idle_timeout, limits.linger_timeout) == (120.0, 0.05)
    assert limits.close_timeout is None
    assert options.max_connections == 1000


@pytest.mark.parametrize("command", ["echo", "discard", "serve", "relay"])
def test_the_help_of_each_limit_is_its_docstring_s_first_clause(
    command: str, capsys: Output
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for field in dataclasses.fields(Limits):
        flag = f"--{field.name.replace('_', '-')}"
        kind = r"(N|BYTES|TIME|TIME\|none|wait\|close\|TIME)"
        assert re.search(rf"{flag} {kind} \w[^;]{{10,}}; default: ", text), flag
    assert "--connections N open connections at once; default: 100k" in text
    assert "--write-high BYTES pause_writing is called when" in text
    assert "--idle-timeout TIME|none a connection in which no byte moves" in text
    assert "in a drain; default: wait" in text
    assert text.count("(") == text.count(")")
