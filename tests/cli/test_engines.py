"""``muxcore engines``: for people, and for programs."""

from __future__ import annotations

import json

import pytest

import muxcore
from muxcore.abc import CAPABILITIES
from muxcore.cli import main
from muxcore.pure.epoll_engine import EpollEngine

Output = pytest.CaptureFixture[str]


def test_json_tells_programs_all_that_is_known_of_each_engine(capsys: Output) -> None:
    assert main(["engines", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == [
        {
            "name": info.name,
            "model": info.model,
            "available": info.available,
            "reason": info.reason,
            "capabilities": sorted(info.capabilities),
            "priority": info.priority,
        }
        for info in muxcore.engines()
    ]


def test_people_read_what_each_can_and_why_one_cannot(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = ("it needs Linux", "take pure-select")
    monkeypatch.setattr(EpollEngine, "unavailable", classmethod(lambda cls: why))
    assert main(["engines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("pure-epoll "))
    assert lines[at].split() == ["pure-epoll", "epoll", "not", "available"]
    assert lines[at + 1].split(None, 1) == ["why:", "it needs Linux; take pure-select"]
    at = next(n for n, line in enumerate(lines) if line.startswith("pure-process "))
    assert lines[at].split() == ["pure-process", "process", "available"]
    capabilities = muxcore.engine("pure-process").capabilities
    assert lines[at + 1].split(None, 1) == ["can:", ", ".join(sorted(capabilities))]


def test_every_word_that_is_used_is_explained(capsys: Output) -> None:
    main(["engines"])
    out = capsys.readouterr().out
    for name, meaning in CAPABILITIES.items():
        assert f"{meaning}\n" in out
        assert f"  {name} " in out
