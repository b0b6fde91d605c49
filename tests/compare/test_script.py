"""A user's own service is asked once, and its reply is then demanded of every engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muxcore.compare import script
from muxcore.compare.plan import quick, scripted
from muxcore.compare.servers import Subject, app_subject

_SERVICES = """
import itertools
class Upper:
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data.upper())
class Silent(Upper):
    def data_received(self, data): pass
class Counter(Upper):
    turns = itertools.count()
    def data_received(self, data): self.transport.write(b"%d" % next(self.turns))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of services that the server processes can import."""
    (tmp_path / "services_under_test.py").write_text(_SERVICES)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return "services_under_test"


def served(app: str, service: str) -> Subject:
    return app_subject("pure-epoll", f"{app}:{service}")


def test_the_reply_of_a_service_is_learned(app: str) -> None:
    assert script.learn(served(app, "Upper"), b"hello") == b"HELLO"


def test_a_service_that_is_silent_is_refused(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_FIRST", 0.2)
    with pytest.raises(script.ScriptError, match="no reply to b'hello'"):
        script.learn(served(app, "Silent"), b"hello")


def test_a_service_whose_replies_differ_is_refused(app: str) -> None:
    with pytest.raises(script.ScriptError, match="differ"):
        script.learn(served(app, "Counter"), b"hello")


def test_a_scripted_plan_sends_the_request_in_every_cell() -> None:
    plan = scripted(quick(), b"ask", b"answer")
    assert plan.cells
    assert all(cell.load["request"] == b"ask" for cell in plan.cells)
    assert not any("KiB" in cell.name for cell in plan.cells)
