"""What agents say means to a pool what it means to HAProxy: the same lines, and how both fare."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import muxcore
from muxcore.pool.checks import obey
from muxcore.testing import eventually

pytestmark = pytest.mark.real

_WEIGHT = 100
_SEQUENCES = [
    ["up"],
    ["down"],
    ["stopped # by hand"],
    ["fail"],
    ["down", "up"],
    ["down", "ready"],
    ["drain"],
    ["drain", "up"],
    ["drain", "ready"],
    ["drain", "75%"],
    ["drain 75%", "ready"],
    ["maint"],
    ["maint", "up"],
    ["maint", "ready"],
    ["maint", "drain"],
    ["75%"],
    ["75% # busy", "down", "up"],
    ["10% 20% 30%"],
    ["0%"],
    ["0%", "up ready"],
    ["0%", "100%"],
    ["250%"],
    ["9999%"],
    ["up down"],
    ["down up"],
    ["ready,drain"],
    ["drain\tready"],
    ["75%,maint,down"],
    ["down 50%", "up"],
    ["DOWN", "UP"],
    ["what is this 40%"],
    [""],
    ["down", "nonsense"],
]


class Fares(NamedTuple):
    """How an upstream fares.

    Attributes:
        is_up: its health is good.
        is_withdrawn: it drains, or is in maintenance.
        weight: by its agent.
    """

    is_up: bool
    is_withdrawn: bool
    weight: int


class Agent:
    """Says one line after another, and the last one again and again."""

    def __init__(self, lines: list[str]) -> None:
        self.lines, self.asked = lines, 0

    def __call__(self) -> Agent:
        return self

    def connection_made(self, transport: Any) -> None:
        line = self.lines[min(self.asked, len(self.lines) - 1)]
        self.asked += 1
        transport.write(f"{line}\n".encode())
        transport.close()


@pytest.fixture
def agents() -> Iterator[tuple[list[Agent], list[str]]]:
    """An agent for each sequence, and their addresses."""
    made = [Agent(lines) for lines in _SEQUENCES]
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(muxcore.Server(each, "127.0.0.1:0", engine="pure-select"))
            for each in made
        ]
        yield made, [server.addresses[0] for server in servers]


def _ours(lines: list[str]) -> Fares:
    upstream = muxcore.Upstream("a:1", weight=_WEIGHT)
    for line in lines:
        obey(upstream, line)
    weight = upstream._share(0.0, 0.0) // 10 if upstream.percent else 0
    return Fares(not upstream.said, bool(upstream.withdrawn), weight)


def _theirs(where: Path, count: int) -> list[Fares]:
    with socket.socket(socket.AF_UNIX) as cli:
        cli.connect(str(where))
        cli.sendall(b"show servers state behind\n")
        with cli.makefile() as answer:
            rows = [line.split() for line in answer if " behind " in line]
    assert len(rows) == count
    found = []
    for row in sorted(rows, key=lambda row: int(row[3].removeprefix("srv"))):
        state, admin, weight = int(row[5]), int(row[6]), int(row[7])
        in_maintenance = bool(admin & 1)  # SRV_ADMF_FMAINT; 8 is SRV_ADMF_FDRAIN
        found.append(Fares(state != 0 or in_maintenance, bool(admin & 9), weight))
    return found


def test_haproxy_and_a_pool_take_the_same_words_alike(
    serve: Callable[..., Any], agents: tuple[list[Agent], list[str]]
) -> None:
    made, where = agents
    servers = "\n".join(
        f"    server srv{number} {each} weight {_WEIGHT} agent-check "
        f"agent-port {each.rpartition(':')[2]} agent-inter 50ms"
        for number, each in enumerate(where)
    )
    haproxy, _ = serve(
        *("haproxy", "-db", "-f", "FOLDER/configuration"),
        configuration=f"""\
global
    stats socket FOLDER/stats
defaults
    mode tcp
    timeout connect 30s
    timeout client 300s
    timeout server 300s
listen it
    bind HOST:PORT
backend behind
{servers}
""",
    )
    eventually(
        lambda: all(each.asked > len(each.lines) for each in made),
        lambda: f"they were asked {[each.asked for each in made]} times",
    )
    found = _theirs(haproxy.output.parent / "stats", len(made))
    # Who is in maintenance has no health in HAProxy: it is not asked about that.
    ours = [_ours(lines) for lines in _SEQUENCES]
    ours = [
        mine._replace(is_up=True) if "maint" in str(lines) else mine
        for mine, lines in zip(ours, _SEQUENCES, strict=True)
    ]
    assert dict(zip(map(str, _SEQUENCES), ours, strict=True)) == dict(
        zip(map(str, _SEQUENCES), found, strict=True)
    )
