"""docs/deploy keeps its word: who it is for understands what stands there, and so do we."""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from muxcore.cli import _parser, _serving

_ROOT = Path(__file__).parents[2]
_FILES = _ROOT / "docs" / "deploy"
_SERVICE = (_FILES / "muxcore.service").read_text(encoding="utf-8")
_SOCKET = (_FILES / "muxcore.socket").read_text(encoding="utf-8")
_CONTAINER = (_FILES / "Containerfile").read_text(encoding="utf-8")
_KUBERNETES = (_FILES / "kubernetes.yaml").read_text(encoding="utf-8")
_PAGE = (_ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")

_UNITS = {  # systemd seconds, of those that stand here
    "s": 1,
    "min": 60,
}


def unit(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the settings of each section; one may come several times."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            settings = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            settings.append((name, value))
    return sections


def setting(text: str, section: str, name: str) -> str:
    (value,) = [value for key, value in unit(text)[section] if key == name]
    return value


def options(words: list[str]) -> argparse.Namespace:
    """Return what our own parser makes of a command line, without its program."""
    parsed = _parser().parse_args(words)
    assert isinstance(parsed, argparse.Namespace)
    return parsed


def drains_for(parsed: argparse.Namespace) -> float:
    """Return the seconds between SIGTERM and the end, at the most."""
    limits = _serving.limits_of(parsed)
    assert limits.drain_timeout is not None
    rest = limits.drain_delay + limits.drain_spread + limits.stop_timeout
    return limits.drain_timeout + rest


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|min)", text)
    assert found, text
    return int(found[1]) * _UNITS[found[2]]


# -- systemd


def test_the_units_are_what_ini_files_are() -> None:
    for text in (_SERVICE, _SOCKET):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
        parser.read_string(text)
        assert set(parser) - {"DEFAULT"} == set(unit(text))


def test_the_service_listens_where_the_socket_says_and_can_drain_before_it_is_killed() -> None:
    program, *words = shlex.split(setting(_SERVICE, "Service", "ExecStart"))
    assert program.endswith("/muxcore")
    parsed = options(words)
    assert parsed.address == f"fd:{setting(_SOCKET, 'Socket', 'FileDescriptorName')}"
    assert setting(_SOCKET, "Socket", "Accept") == "no"
    assert seconds(setting(_SERVICE, "Service", "TimeoutStopSec")) > drains_for(parsed)
    assert setting(_SERVICE, "Service", "ExecReload").endswith("kill -HUP $MAINPID")
    assert setting(_SERVICE, "Service", "Type") == "notify"
    assert setting(_SERVICE, "Service", "Restart") == "on-failure"
    assert "notify-reload" in _SERVICE


@pytest.mark.real
def test_systemd_understands_every_line(folder: Path) -> None:
    from tests.real.programs import find

    analyze = find("systemd-analyze")
    for name, text in (("muxcore.socket", _SOCKET), ("muxcore.service", _SERVICE)):
        (folder / name).write_text(text.replace("/opt/muxcore/bin/muxcore", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(folder / "muxcore.service"),
         str(folder / "muxcore.socket")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.real
def test_systemd_finds_it_hard_to_attack(folder: Path) -> None:
    from tests.real.programs import find

    (folder / "muxcore.service").write_text(_SERVICE)
    done = subprocess.run(
        [find("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=20",
         str(folder / "muxcore.service")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr  # 20: an exposure of 2.0 of 10


# -- containers


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", _CONTAINER)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_the_image_runs_a_command_of_ours_that_is_not_roots() -> None:
    last = dict(instructions())  # of each kind, the one that counts
    (program,) = json.loads(last["ENTRYPOINT"])  # the exec form: no shell is the first process
    copied = [rest for name, rest in instructions() if name == "COPY"][-1].split()[-1]
    assert program.startswith(f"{copied}/")
    parsed = options(json.loads(last["CMD"]))
    assert last["EXPOSE"] == parsed.address.rpartition(":")[2]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert {name for name, _ in instructions()} <= {
        "FROM", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD",
    }  # fmt: skip


def value(name: str) -> str:
    """Return what a key of the manifest has, where it stands once."""
    (found,) = re.findall(rf"^\s*(?:- )?{name}: (.+)$", _KUBERNETES, re.MULTILINE)
    return str(found)


def test_the_manifest_gives_a_drain_its_time() -> None:
    parsed = options(json.loads(value("args")))
    limits = _serving.limits_of(parsed)
    assert int(value("terminationGracePeriodSeconds")) > drains_for(parsed)
    assert limits.drain_delay > 0  # what a preStop hook is for
    assert "lifecycle:" not in _KUBERNETES
    port = parsed.address.rpartition(":")[2]
    assert f"containerPort: {port}" in _KUBERNETES
    assert f"port: {port}, targetPort: relay" in _KUBERNETES
    user = dict(instructions())["USER"].partition(":")[0]
    assert value("runAsUser") == user
    assert value("runAsNonRoot") == value("readOnlyRootFilesystem") == "true"


def test_the_manifest_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    deployment, service = yaml.safe_load_all(_KUBERNETES)
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == json.loads(value("args"))
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        asked = container[probe]["httpGet"]
        assert asked == {"path": path, "port": container["ports"][1]["name"]}


# -- the page


def test_the_page_shows_commands_that_there_are() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(?:systemd-socket.*? )?(muxcore .*)$", "".join(blocks), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        options(shlex.split(line, comments=True)[1:])


def test_the_page_names_every_file() -> None:
    for path in _FILES.iterdir():
        assert f"deploy/{path.name}" in _PAGE
