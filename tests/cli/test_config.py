"""``muxcore relay --config``: the command's side of a file, and the file that a command says."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxcore.cli import main
from muxcore.cli.admin import ask
from muxcore.config import Served, read, written
from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream

Start = Callable[..., Any]

_FILE = """\
[listeners.web]
address = ["127.0.0.1:0", "[::1]:0"]
pool = "web"
[pools.web]
upstreams = ["{}"]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the status of a command, its output, and its errors."""
    try:
        status = main(["relay", *arguments])
    except SystemExit as exc:
        status = int(str(exc.code))
    return status, *capsys.readouterr()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "relay.toml"
    file.write_text(_FILE.format("db:5432"))
    return file


def test_a_check_tells_what_would_be_served_and_opens_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text().replace("127.0.0.1:0", "192.0.2.1:1")  # not of this machine
    file.write_text(text + '[server.limits]\nkeepalive = "60s"\n')
    assert run(capsys, "--config", str(file), "--check") == (
        0,
        (
            f"{file} is good:\n"
            "  192.0.2.1:1 (listeners.web): pool web of db:5432\n"
            "  [::1]:0 (listeners.web): pool web of db:5432\n"
        ),
        "",
    )


def test_a_check_tells_once_whose_pairs_nothing_ends(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(text: str) -> str:
        file.write_text(text)
        status, _, errors = run(capsys, "--config", str(file), "--check")
        assert status == 0
        return errors

    text = file.read_text() + '[server.limits]\n{}\n[listeners.b]\naddress = 1\npool = "web"\n{}\n'
    why = told(text.format('user_timeout = "30s"', ""))  # which is about bytes that were sent
    assert why.startswith(
        f"{file}:6: server.limits: no keepalive and no idle_timeout: a pair of listeners.web or "
        "listeners.b whose peer vanishes"
    )
    assert why.count("\n") == 1
    assert "a pair of listeners.web whose" in told(text.format("", 'idle_timeout = "1m"'))
    for limit in ("keepalive", "idle_timeout"):
        assert told(text.format(f'{limit} = "60s"', "")) == ""
    unix = text.replace('["127.0.0.1:0", "[::1]:0"]', '"unix:/run/a"').replace("db:5432", "unix:/b")
    assert told(unix.format("", "").replace("address = 1", 'address = "unix:/run/c"')) == ""


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_file_that_is_not_good_is_told_with_status_2(
    check: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text().replace("pool =", "pol =") + "queue = -1\n")
    status, output, errors = run(capsys, "--config", str(file), *check)
    assert (status, output) == (2, "")
    assert errors.splitlines() == [
        f"{file}:3: listeners.web.pol: there is no such key: did you mean pool?",
        f"{file}:6: pools.web.queue: must be a whole number from 0 to 1,000,000, not -1",
    ]


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ('[server]\nengine = "kqueue"', ":7: server.engine: no engine is named 'kqueue'"),
        (
            'queue = 1\n[server]\nworkers = 2\nengine = "pure-process"',
            ":9: server.engine: the service requires",
        ),
        (
            '[admin]\nmetrics = 1\n[server]\nengine = "process"',
            ":6: admin: engine 'pure-process' h",
        ),
        ('[server]\nuser = "nobodyy"', ":7: server.user: there is no user 'nobodyy': did you mean"),
        ('[server]\nuser = "0"\ngroup = "nix"', ":8: server.group: there is no group 'nix'"),
    ],
)
def test_what_an_engine_or_this_machine_cannot_do_is_found_by_a_check(
    rest: str, told: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text() + rest)
    status, _, errors = run(capsys, "--config", str(file), "--check")
    assert status == 2
    assert told in errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["9000"], "--config FILE says all, and LISTEN is given beside it: leave it out"),
        (["--policy", "source"], "--config FILE says all, and --policy is given beside it"),
        (["-v"], "and -v is given beside it"),
        (["--idle-timeout", "3"], "and --idle-timeout is given beside it"),
        (["--print-config"], "and --print-config is given beside it"),
    ],
)
def test_a_file_and_arguments_together_are_refused(
    arguments: list[str], told: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = run(capsys, *arguments, "--config", str(file))
    assert status == 2
    assert told in errors


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = run(capsys, "--config", "none.toml")
    assert (status, errors) == (2, "none.toml: cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments",
    [
        "5432 db:5432",
        "0.0.0.0:443 web1:443,weight=3 web2:443,backup,max-active=7,send-proxy=v1 [::1]:80",
        "fd:web unix:/run/x --policy source --max-active 9 --queue 5 --queue-timeout 90 -q",
        "unix:/run/db.sock a:1 --socket-mode 0660 --access-log json --access-log-file x --log y",
        "9 a:1 --check --fall 9 --agent 99 --check-timeout 1500ms --slow-start 1m --retry-for 3s",
        "9 a:1 --workers auto --balance exact --engine pure --reuse-port --pidfile p -v",
        "9 a:1 --max-connections 20k --close-timeout none --drain-idle close --write-buffer 1m",
        "9 a:1 --accept-proxy 10.0.0.0/8 --accept-proxy unix --proxy-timeout 9 --send-proxy v2",
        "9 a:1 --admin unix:/run/adm --metrics 9901 --agent-listen [::1]:9902",
        "9 a:1 --access-log-fields client,pool --access-log-start",
        "9 a:1 --eject-after 3 --first-byte-timeout 5s --max-ejected 12.5%",
    ],
)
def test_what_a_command_prints_says_the_same_as_it(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    meant: list[Served] = []
    monkeypatch.setattr(
        "muxcore.cli._relaying._serve", lambda options, served: meant.append(served) or 0
    )
    assert run(capsys, *arguments.split())[0] == 0
    status, text, errors = run(capsys, *arguments.split(), "--print-config")
    assert (status, errors) == (0, "")
    document = read("printed", text.encode())
    assert document.tables == meant[0].document.tables, text
    Served(document)


def test_bytes_of_a_check_and_odd_texts_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = ["9", "a:1", "--check", "--check-send", r'"\x00\xff\\\r', "--pidfile", 'a"b\\c\x7fé']
    text = run(capsys, *odd, "--print-config")[1]
    tables = read("printed", text.encode()).tables
    assert tables["pools"]["main"]["check"]["send"] == b'"\x00\xff\\\r'
    assert tables["server"]["pidfile"] == 'a"b\\c\x7fé'


def test_steps_of_a_check_are_written_as_they_are() -> None:
    steps = [["", '220 "é'], [r"EHLO a\r\n", "250"], [r"\x40\x00", ""]]
    text = f"""
[listeners.a]
address = 9
pool = "b"
[pools.b]
upstreams = "c:1"
check = {{steps = {json.dumps(steps)}, port = 8008, every_unsure = "500ms"}}
"""
    document = read("first", text.encode())
    (pool,) = Served(document).pools.values()
    assert pool.check is not None
    said = ((b"", '220 "é'.encode()), (b"EHLO a\r\n", b"250"), (b"@\x00", b""))
    assert pool.check.steps == said
    assert read("second", written(document.tables).encode()).tables == document.tables


@pytest.mark.parametrize(
    "server", ["", pytest.param('[server]\nengine = "pure-process"', marks=pytest.mark.deep)]
)
def test_a_hangup_applies_the_file_and_a_client_that_is_there_stays(
    server: str, command: Start, file: Path
) -> None:
    with Upstream() as old, Upstream() as new:
        file.write_text(_FILE.format(old.address) + server)
        relay = command("relay", "--config", "relay.toml", cwd=file.parent)
        with Peer(relay.address) as client, old.accept() as there:
            file.write_text(_FILE.format(new.address) + server)
            relay.signal(signal.SIGHUP)
            assert relay.process.stderr is not None
            said = relay.process.stderr.readline()
            assert said == "muxcore: relay.toml was read again, and is applied\n"
            with Peer(relay.address), new.accept():
                client.send(b"still here")
                assert there.read(10) == b"still here"
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0


def test_the_successor_of_a_restart_reads_the_file_anew(command: Start, file: Path) -> None:
    with Upstream() as old, Upstream() as new:
        file.write_text(_FILE.format(old.address) + '[server]\npidfile = "pid"\n')
        relay = command("relay", "--config", "relay.toml", cwd=file.parent)
        relay.address  # noqa: B018
        relay.line()
        file.write_text(_FILE.format(new.address) + '[server]\npidfile = "pid"\n')
        relay.signal(signal.SIGUSR2)
        lines = [relay.line() for _ in range(2)]  # the successor prints to the same pipe
        assert relay.process.wait(DEADLINE) == 0
        assert lines[0].split()[2] == relay.address
        with Peer(relay.address) as client, new.accept() as there:
            client.send(b"hello")
            assert there.read(5) == b"hello"
        os.kill(int((file.parent / "pid").read_text()), signal.SIGTERM)


def test_a_successor_whose_metrics_cannot_be_had_is_no_successor(
    command: Start, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was named by the pidfile before it failed, and `muxcore reload` said that it serves."""
    rest = '[server]\npidfile = "pid"\n'
    with Upstream() as upstream, socket.create_server(("127.0.0.1", 0)) as taken:
        file.write_text(_FILE.format(upstream.address) + rest)
        relay = command("relay", "--config", "relay.toml", cwd=file.parent)
        relay.address  # noqa: B018
        relay.line()
        text = f"[admin]\nmetrics = {taken.getsockname()[1]}\n"
        file.write_text(_FILE.format(upstream.address) + rest + text)
        assert main(["reload", str(file.parent / "pid")]) == 1
        assert "serves on: its successor has failed" in capsys.readouterr().err
        with Peer(relay.address) as client, upstream.accept() as there:
            client.send(b"hello")
            assert there.read(5) == b"hello"
        relay.signal(signal.SIGTERM)
        assert relay.status() in (0, 1)
        assert relay.said == relay.said[:2]  # the successor never said that it listens


def test_a_file_says_which_pools_it_needs_to_be_ready(command: Start, file: Path) -> None:
    path = f"{file.parent}/admin"
    text = _FILE.replace('"{}"', '{{address = "127.0.0.1:9", out = true}}').format()
    file.write_text(f'{text}[admin]\nsocket = "unix:{path}"\nready_needs = ["web"]\n')
    relay = command("relay", "--config", "relay.toml", cwd=file.parent)
    relay.address  # noqa: B018
    answer = (503, "pool web: no upstream may have clients\n")
    eventually(lambda: ask(path, "GET", "/readyz") == answer, "it is ready, or cannot be asked")
    assert ask(path, "GET", "/livez")[0] == 200
    relay.signal(signal.SIGTERM)
    assert relay.status() == 0


def test_a_decision_that_ends_the_program_is_told_of(command: Start, file: Path) -> None:
    """Every client is gone then, and a status alone does not say why."""
    (file.parent / "ends_it.py").write_text("import sys\ndef decide(first): sys.exit(7)\n")
    text = _FILE.format("db:5432").replace('pool = "web"', 'route = "asked"')
    file.write_text(text + '[routes.asked]\ndecide = "ends_it:decide"\n')
    relay = command("relay", "--config", "relay.toml", cwd=file.parent)
    with Peer(relay.address) as client:
        client.send(b"hello")
        assert relay.status() == 7
    assert "decide ends the program: sys.exit(7)" in relay.complaint()
    assert 'ends_it.py", line 2' in relay.complaint()
