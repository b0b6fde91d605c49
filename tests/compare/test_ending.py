"""However a comparison is ended, it leaves no server behind, not even a stubborn one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore.compare.accounting import descendants
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject
from muxcore.testing import DEADLINE, eventually

_ROOT = Path(__file__).parents[2]
_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]

# A program of others: it has a child, and neither heeds a signal that can be ignored.
_STUBBORN = """
import os, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
os.fork()
print("listening on 127.0.0.1:1", flush=True)
while True:
    signal.pause()
"""
_STARTER = """
import signal, sys
from muxcore.compare import servers
from muxcore.load.interrupts import status_of
servers._STOP_TIMEOUT = 0.1
def main():
    subject = servers.Subject("stubborn", (sys.executable, "-c", sys.argv[1]))
    with servers.ServerProcess(subject) as server:
        print(server.pid, flush=True)
        signal.pause()
sys.exit(status_of(main))
"""

# A comparison of an hour, which tells of each round.
_COMPARISON = """
import random, sys
from muxcore.compare import plan, session
from muxcore.compare.progress import Progress
from muxcore.compare.rounds import Cell
from muxcore.compare.servers import echo_subject
from muxcore.load.interrupts import status_of
class Telling(Progress):
    def round(self, cell, servers, number):
        print("round", number, flush=True)
def main():
    cell = Cell("few", {"connections": 2}, rounds=10_000)
    subjects = [echo_subject("pure-epoll", "callback")]
    chosen = plan.Plan((cell,), costs=False)
    found = session.compare(subjects, chosen, random.Random(1), progress=Telling(quiet=True))
    windows = found["cells"][0]["figures"]["pure-epoll callback"]["windows"]
    print(found["interrupted"], "2 or more windows" if windows >= 2 else windows)
    return 0
sys.exit(status_of(main))
"""


def living(group: int) -> list[str]:
    """Return a group's processes that still run: an ended one may wait for init as a zombie."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, _, member_of = fields.split()[:3]
        if int(member_of) == group and state != "Z":
            found.append(name)
    return found


@pytest.fixture
def start() -> Iterator[Any]:
    """What starts a Python program, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        environment = os.environ | {"PYTHONPATH": str(_ROOT)}
        started.append(subprocess.Popen([sys.executable, *arguments], env=environment, **options))
        return started[-1]

    yield program
    for each in started:
        if each.poll() is None:
            each.kill()
        each.communicate()


def test_children_that_stay_behind_when_a_server_ends_are_ended_too() -> None:
    text = (
        "import os, signal\nif not os.fork():\n    signal.pause()\n"
        "print('listening on 127.0.0.1:1', flush=True)\nsignal.pause()"
    )
    server = ServerProcess(Subject("parent", (sys.executable, "-c", text)))
    server.stop()
    eventually(lambda: not living(server.pid), "a child was left behind")


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_stubborn_server_and_its_children_end_with_who_started_them(
    start: Any, number: signal.Signals
) -> None:
    starter = start("-c", _STARTER, _STUBBORN)
    group = int(starter.stdout.readline())
    assert len(living(group)) == 3  # the server, its child, and who watches
    starter.send_signal(number)
    _, complaint = starter.communicate(timeout=DEADLINE)
    assert starter.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert complaint == ""
    eventually(lambda: not living(group), "a server was left behind")


@pytest.mark.parametrize("number", _SIGNALS)
@pytest.mark.parametrize("command", ["compare", pytest.param("demo", marks=pytest.mark.deep)])
def test_a_command_that_is_ended_leaves_nobody_behind(
    start: Any, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    program = start("-m", "muxcore", command, "pure-process", cwd=tmp_path)
    eventually(lambda: len(descendants(program.pid)) > 1, "no server was started")
    servers = descendants(program.pid)[1:]
    program.send_signal(number)
    _, complaint = program.communicate(timeout=DEADLINE)
    assert program.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in complaint
    for each in servers:
        eventually(lambda each=each: not living(each), "a server was left behind")


@pytest.mark.parametrize("number", _SIGNALS[:3])
def test_what_was_measured_before_a_signal_is_reported(
    start: Any, tmp_path: Path, number: signal.Signals
) -> None:
    program = start("-u", "-c", _COMPARISON, cwd=tmp_path)
    for line in program.stdout:
        if line.startswith("round 2"):
            break
    program.send_signal(number)
    said, complaint = program.communicate(timeout=DEADLINE)
    assert "Traceback" not in complaint
    assert said.splitlines()[-1] == f"{128 + number} 2 or more windows"


def test_a_comparison_that_ends_before_its_first_window_writes_nothing(
    start: Any, tmp_path: Path
) -> None:
    program = start("-m", "muxcore", "compare", "pure-process", cwd=tmp_path)
    eventually(lambda: len(descendants(program.pid)) > 1, "no server was started")
    program.send_signal(signal.SIGTERM)
    _, complaint = program.communicate(timeout=DEADLINE)
    if "nothing was measured" in complaint:
        assert list(tmp_path.iterdir()) == []
    else:  # so slow was the signal that there was a window
        assert (tmp_path / "report.html").is_file()


def test_a_signal_that_is_ignored_stays_ignored(start: Any) -> None:
    text = (
        "import os, signal, sys\nfrom muxcore.load.interrupts import status_of\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(status_of(lambda: os.kill(os.getpid(), signal.SIGHUP) or 7))"
    )
    program = start("-c", text)
    program.communicate(timeout=DEADLINE)
    assert program.returncode == 7


def test_who_watches_is_no_descendant_and_costs_the_server_nothing() -> None:
    program = "print('listening on 127.0.0.1:1', flush=True)\nimport signal\nsignal.pause()"
    with ServerProcess(Subject("one", (sys.executable, "-c", program))) as server:
        assert descendants(server.pid) == [server.pid]
        assert len(living(server.pid)) == 2
    assert server._process.returncode == -signal.SIGTERM


def test_a_program_that_may_not_be_executed_is_named(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("no program")
    where = str(tmp_path / "program")
    with pytest.raises(ServerFailed, match=f"cannot run '{where}': Permission denied"):
        ServerProcess(Subject("absent", (where,)))
