"""A user's own service is asked once, and its reply is then demanded of every engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muxcore.compare import script
from muxcore.compare.plan import quick, scripted
from muxcore.compare.servers import ServerFailed, Subject, app_subject

_SERVICES = """
import itertools, os
class Upper:
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data.upper())
class Silent(Upper):
    def data_received(self, data): pass
class Raises(Upper):
    def connection_made(self, transport): raise RuntimeError("my own mistake")
class RaisesLater(Upper):
    def data_received(self, data): self.lost
class Exits(Upper):
    def connection_made(self, transport): os._exit(3)
class Once(Upper):
    def data_received(self, data): self.transport.write(data); self.transport.close()
class Huge(Upper):
    def data_received(self, data): self.transport.write(bytes(70_000))
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
    monkeypatch.setattr("muxcore.load.asking.FIRST", 0.2)
    with pytest.raises(script.ScriptError, match="no reply to b'hello'"):
        script.learn(served(app, "Silent"), b"hello")


def test_a_service_whose_replies_differ_is_refused(app: str) -> None:
    with pytest.raises(script.ScriptError, match="differ"):
        script.learn(served(app, "Counter"), b"hello")


@pytest.mark.parametrize(
    ("service", "why"),
    [("Raises", "RuntimeError: my own mistake"), ("RaisesLater", "AttributeError: .*'lost'")],
)
def test_a_service_that_raises_is_refused_with_its_own_error(
    app: str, service: str, why: str
) -> None:
    with pytest.raises(script.ScriptError, match=f"(?s)no reply .*it printed: .*{why}"):
        script.learn(served(app, service), b"hello")


def test_a_service_that_ends_its_process_is_told_with_the_status(app: str) -> None:
    with pytest.raises(ServerFailed, match="ended by itself with status 3"):
        script.learn(served(app, "Exits"), b"hello")


def test_a_service_that_answers_once_is_refused(app: str) -> None:
    with pytest.raises(script.ScriptError, match="differ"):
        script.learn(served(app, "Once"), b"hello")


def test_a_reply_that_is_too_long_to_be_checked_is_refused(app: str) -> None:
    with pytest.raises(script.ScriptError, match="has 70000 bytes, and at most 65,536"):
        script.learn(served(app, "Huge"), b"hello")


@pytest.mark.parametrize(
    ("text", "request_bytes"),
    [
        ("GET /\\r\\n", b"GET /\r\n"),
        ("\\x00\\xff", b"\0\xff"),
        ("é", "é".encode()),
        ("\\\\", b"\\"),
    ],
)
def test_a_request_is_text_with_escapes(text: str, request_bytes: bytes) -> None:
    assert script.request_of(text) == request_bytes


@pytest.mark.parametrize("text", ["\\x", "\\u20ac", "\\", "\\N{BULLET}", "", "x" * 65_537])
def test_a_request_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(script.ScriptError, match=r"^--request "):
        script.request_of(text)


def test_a_scripted_plan_sends_the_request_in_every_cell() -> None:
    plan = scripted(quick(), b"ask", b"answer")
    assert plan.cells
    assert all(cell.load["request"] == b"ask" for cell in plan.cells)
    assert not any("KiB" in cell.name for cell in plan.cells)
