"""What goes wrong: a sentence for people, and an exit status for scripts."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from muxcore import cli
from muxcore.cli import COMMANDS, main
from muxcore.pure.epoll_engine import EpollEngine

Output = pytest.CaptureFixture[str]


def status_of(*arguments: str) -> int:
    """Return the exit status, however main() ends."""
    try:
        return main(arguments)
    except SystemExit as exc:
        return cast(int, exc.code)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "drive a server"),
        (["fly"], "there is no command 'fly': take one of engines, echo"),
        (["echo"], "required: address"),
        (["echo", "0", "--wings"], "there is no --wings"),
        (["echo", "0", "-v", "-q"], "not allowed with argument"),
        (["echo", "0", "--trigger", "hair"], "must be level or edge, not 'hair'"),
        (["echo", "0", "--write-low", "100000"], "is above --write-high"),
        (["echo", ":9000"], "does not say where to listen: write '127.0.0.1:9000'"),
        (["echo", "localhost"], "write 'localhost:9000'"),
        (["echo", "0", "--engine", "kqueue"], "no engine is named 'kqueue': take one of auto"),
        (["serve", "Upper", "0"], "write MODULE:NAME, as in 'myapp:Upper'"),
        (["serve", "no_such_module:Upper", "0"], "no module 'no_such_module' is in "),
        (["serve", "json.no_such:Upper", "0"], "cannot import 'json.no_such' (ModuleNotFound"),
        (["serve", "json:Upper", "0"], "json/__init__.py has no 'Upper'"),
        (["serve", "json:JSONDecodr", "0"], "has no 'JSONDecodr': did you mean JSONDecoder?"),
        (["serve", "json:JSONDecoder.decod", "0"], "JSONDecoder has no 'decod': did you mean "),
        (["serve", "./my/app.py:Upper", "0"], "write the module's name, as in 'my.app:Upper'"),
        (["serve", "json:dumps", "0"], "without arguments, for each client: missing a required"),
        (["serve", "unittest:TestResult.stop", "0"], "for each client: missing a required"),
        (["serve", "numbers:Number", "0"], "the class has none of a protocol's callbacks"),
        (["serve", "sys:path", "0"], "a service is a class or another callable"),
    ],
)
def test_what_was_asked_wrongly_ends_with_2_and_the_reason(
    arguments: list[str], words: str, capsys: Output
) -> None:
    assert status_of(*arguments) == 2
    out, complaint = capsys.readouterr()
    assert words in complaint
    assert out == ""


def test_an_address_that_is_taken_ends_with_1_and_the_reason(capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert status_of("echo", where) == 1
    assert capsys.readouterr().err == (
        f"muxcore: cannot listen on {where}: another socket listens there; end it, or take port 0 "
        "for a free port\n"
    )


def test_an_engine_that_cannot_run_here_ends_with_1_and_the_reason(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = ("needs Linux 6.1, this is 5.10", "take pure-select")
    monkeypatch.setattr(EpollEngine, "unavailable", classmethod(lambda cls: why))
    assert status_of("echo", "0", "--engine", "pure-epoll") == 1
    assert capsys.readouterr().err == (
        "muxcore: engine 'pure-epoll' is not available: needs Linux 6.1, this is 5.10; "
        "take pure-select\n"
    )


def test_an_ability_that_the_engine_lacks_ends_with_1_and_the_reason(capsys: Output) -> None:
    assert status_of("echo", "0", "--engine", "select", "--trigger", "edge") == 1
    assert "'pure-select' has no edge_trigger" in capsys.readouterr().err


def test_a_module_that_fails_is_told_with_its_error(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert status_of("serve", "broken_app:Upper", "0") == 2
    assert "(ZeroDivisionError: division by zero)" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_can_be_pasted(command: str, capsys: Output) -> None:
    assert status_of(command, "--help") == 0
    text = capsys.readouterr().out
    _, _, examples = text.partition("\nexamples:\n")
    assert examples.startswith(f"  muxcore {command}")
    for line in re.findall(r"^  muxcore (.*)", examples, re.MULTILINE):
        pasted = re.split(r"  +|\|", line)[0]  # what follows is its explanation, or another program
        cli._parser().parse_args(shlex.split(pasted))


def test_help_and_version_end_with_0(capsys: Output) -> None:
    assert status_of("--help") == 0
    listed = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n    {name} " not in listed] == []
    assert status_of("--version") == 0
    assert capsys.readouterr().out.startswith("muxcore 0.")


def test_an_interrupt_ends_with_130_and_no_traceback(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("muxcore.registry.engines", interrupted)
    assert status_of("engines") == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])  # it is noticed when it is flushed, or at once
def test_a_reader_that_goes_away_is_no_traceback(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "muxcore", "engines"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
