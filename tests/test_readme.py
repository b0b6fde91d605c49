"""The README keeps its word: its programs run, its commands exist, its links lead somewhere.

So do the programs and the links of the other documents, and what docs/reading.md says is where.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import muxcore
import muxcore.aio
from muxcore import cli
from muxcore.testing import DEADLINE, Peer

_ROOT = Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_READING = (_ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
_BLOCK = re.MULTILINE | re.DOTALL
_MAKEFILE = (_ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, _BLOCK)


def programs(page: str) -> list[str]:
    return [text for language, text in blocks(page) if language == "python"]


def outputs(page: str) -> dict[str, str]:
    """Return what programs print, by their text: the block of text that stands right below."""
    found = re.findall(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", page, _BLOCK)
    return {program: text for program, text in found if text}


_PROGRAMS = [program for program in programs(_README) if "\nmuxcore.serve(" not in program]
_SERVERS = [program for program in programs(_README) if "\nmuxcore.serve(" in program]
_LINES = [
    line
    for language, text in blocks(_README)
    if language in ("", "sh", "console")
    for line in text.replace("\\\n", " ").splitlines()
    if line.strip()
]
_PAGES = [_ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
_PAGES += sorted((_ROOT / "docs").rglob("*.md"))
_LINKS = [
    pytest.param(page, target, id=f"{page.relative_to(_ROOT)}:{target}")
    for page in _PAGES
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
]
_GUIDES = [page.read_text(encoding="utf-8") for page in sorted((_ROOT / "docs").glob("*.md"))]
_GUIDED = [program for page in _GUIDES for program in programs(page)]
_SAID = {program: said for page in _GUIDES for program, said in outputs(page).items()}
_PROSE = re.sub(r"^```.*?^```$", "", _README, flags=re.MULTILINE | re.DOTALL)
_MENTIONED = re.findall(r"`((?:muxcore|make|python3?) [^`]+)`", _PROSE)


def words(line: str) -> list[str]:
    """Split a command line as a shell does, without what explains it."""
    return shlex.split(re.split(r"   +", line)[0], comments=True)


def check_make(arguments: list[str]) -> None:
    for argument in arguments:
        name, assigned, _ = argument.partition("=")
        found = rf"^(export )?{name} \?=" if assigned else rf"^{name}:"
        assert re.search(found, _MAKEFILE, re.MULTILINE), f"the Makefile has no {argument}"


def check_python(arguments: list[str]) -> None:
    """Let the script or module parse the very arguments, as far as --help."""
    command = [sys.executable, *arguments, "--help"]
    subprocess.run(command, cwd=_ROOT, env=_environment(), check=True, capture_output=True)


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)):
        assert f"\n{extra} = [" in (_ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(_ROOT)}


def test_there_is_something_to_check() -> None:
    assert _PROGRAMS
    assert _SERVERS
    assert len(_SAID) > 5
    assert {words(line)[0] for line in _LINES} >= {"muxcore", "make"}


@pytest.mark.parametrize("program", _PROGRAMS + _GUIDED, ids=lambda text: text.splitlines()[0])
def test_each_program_runs(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == _SAID.get(program, done.stdout)


@pytest.mark.parametrize("program", _SERVERS)
def test_the_first_server_serves_until_ctrl_c(program: str) -> None:
    there = '"127.0.0.1:9000")'
    assert there in program
    tell = "on_ready=lambda server: print(server.addresses[0], flush=True)"
    text = program.replace(there, f'"127.0.0.1:0", {tell})')
    with subprocess.Popen(
        [sys.executable, "-c", text], env=_environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            with Peer(server.stdout.readline().strip()) as client:
                client.send(b"hello\n")
                assert client.read(6) == b"HELLO\n"
                server.send_signal(signal.SIGINT)
                client.read_eof()
            assert server.wait(DEADLINE) == 0  # serve() returns 130, for who wants to exit with it
        finally:
            server.kill()


class Named:
    """An upstream that says its name, then sends everything back."""

    name = b""

    def connection_made(self, transport: muxcore.Transport) -> None:
        transport.write(self.name)
        transport.echo()


@pytest.mark.parametrize(
    "engine", [i.name for i in muxcore.engines() if i.available and "relay" in i.capabilities]
)
def test_the_router_routes_and_loses_no_byte(engine: str) -> None:
    (program,) = (text for text in _PROGRAMS if "class Router" in text)
    router: dict[str, Any] = {}
    exec(program.partition("\nwith ")[0], router)
    upstreams: dict[bytes, str] = router["UPSTREAMS"]
    # other tests' threads may be there: trio keeps those of to_thread for ten seconds
    process: dict[str, Any] = {"engine": "pure-process", "allow_threads": True}
    with contextlib.ExitStack() as running:
        for first in upstreams:
            service = type("Named", (Named,), {"name": first * 3})
            upstream = running.enter_context(muxcore.Server(service, 0, **process))
            upstreams[first] = upstream.addresses[0]
        where = running.enter_context(
            muxcore.Server(router["Router"], 0, engine=engine, allow_threads=True)
        )
        for first in upstreams:
            hello = first + b" and what follows"
            with Peer(where.addresses[0]) as client:
                client.send(hello)
                assert client.read(3) == first * 3
                client.send(hello)
                assert client.read(2 * len(hello)) == 2 * hello
                client.shutdown_write()
                client.read_eof()


@pytest.mark.parametrize("line", _LINES)
def test_each_command_line_is_one_that_can_be_typed(line: str) -> None:
    program, *arguments = words(line)
    if program == "muxcore":
        cli._parser().parse_args(arguments)
    elif program == "make":
        check_make(arguments)
    elif program in ("python", "python3"):
        check_python(arguments)
    elif program == "pip":
        check_pip(arguments)
    elif program == "echo":  # for the first server, which is run by a test of its own
        assert arguments == ["hello", "|", "nc", "-N", "127.0.0.1", "9000"]
    else:
        pytest.fail(f"nobody checks that {program!r} is a command: say how, here")


@pytest.mark.parametrize("line", _MENTIONED)
def test_each_command_that_the_text_mentions_exists_with_its_options(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        check_make(arguments)
    elif program == "muxcore":  # perhaps without its operands
        with pytest.raises(SystemExit) as ended:
            cli.main([arguments[0], "--help"])
        assert ended.value.code == 0
        known = capsys.readouterr().out
        for option in arguments[1:]:
            assert not option.startswith("-") or option in known
    else:
        check_python(arguments)


@pytest.mark.parametrize(("page", "target"), _LINKS)
def test_each_link_leads_somewhere(page: Path, target: str) -> None:
    assert target.startswith("https://") or (page.parent / target).exists()


def names(text: str) -> list[str]:
    """Return what is set in code, within a line."""
    return re.findall(r"`([^`\n]+)`", text)


def is_path(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w./-]*", name) is not None


def test_each_path_that_a_guide_to_the_code_names_exists() -> None:
    paths = [name for name in names(_READING) if is_path(name)]
    assert len(paths) > 30
    assert [path for path in paths if not (_ROOT / path).exists()] == []


def test_what_a_guide_to_the_code_says_is_in_a_file_is_there() -> None:
    rows = [names(line) for line in _READING.splitlines() if line.startswith("|")]
    looked, missing = 0, []
    for row in rows:
        files = [name for name in row if is_path(name)]
        text = "".join((_ROOT / file).read_text(encoding="utf-8") for file in files)
        for name in row:
            if files and re.fullmatch(r"\w+", name):
                looked += 1
                if not re.search(rf"\b{name}\b", text):
                    missing.append((name, files))
    assert looked > 40
    assert missing == []


def test_the_picture_in_it_calls_functions_that_exist() -> None:
    called = set(re.findall(r">(\w+)\(\)<", (_ROOT / "docs" / "one-byte.svg").read_text("utf-8")))
    assert len(called) > 15
    sources = [*(_ROOT / "muxcore").rglob("*.py"), *(_ROOT / "csrc").rglob("*.c")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    defined = set(re.findall(r"(?:def |^[a-z].*\b)(\w+)\(", code, re.MULTILINE))
    assert called - defined == set()


def test_the_picture_of_a_guest_names_methods_that_exist() -> None:
    picture = (_ROOT / "docs" / "aio.svg").read_text("utf-8")
    called = re.findall(r"conn\.(\w+)\(", picture)
    assert called
    assert [name for name in called if not hasattr(muxcore.aio.Connection, name)] == []


def test_the_table_names_every_engine_and_the_commands_are_all_shown() -> None:
    rows = "\n".join(line for line in _README.splitlines() if line.startswith("|"))
    assert [info.name for info in muxcore.engines() if f"`{info.name}`" not in rows] == []
    shown = {words(line)[1] for line in _LINES if line.startswith("muxcore ")}
    assert set(cli.COMMANDS) - shown <= {"discard", "demo"}, "mentioned in the text, by make"
