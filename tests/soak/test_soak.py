"""The soak finds what is wrong, and calls what is right right."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import muxcore
from muxcore import address
from muxcore.compare.servers import Subject

_HERE = Path(__file__).parent
_FAULTY = """
import os, socket, signal, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
kept = []
def serve(sock):
    seen = 0
    while data := sock.recv(65536):
        seen += len(data)
        if seen > 1000:
            data = data[:-1] + bytes([data[-1] ^ 1])
        sock.sendall(data)
    kept.append(os.dup(1))
    sock.close()
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lives() -> ModuleType:
    return load("lives")


@pytest.fixture
def soak(lives: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "argv", ["soak.py", "--minutes", "0.03", "--engines", "pure-epoll"])
    return load("soak")


class _Spoils:
    """An echo that does what it is told with each message."""

    spoil: Any

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.spoil(self._transport, data)


def _lived(lives: ModuleType, kind: str, spoil: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(lives, "KINDS", {kind: lives.KINDS[kind]})

    class Service(_Spoils):
        pass

    Service.spoil = staticmethod(spoil)
    with muxcore.Server(Service, "127.0.0.1:0", engine="pure-epoll") as server:
        where = address.parse(server.addresses[0])
        return lives.Life((where.host, where.port), 3, random.Random(5)).live()


_ALL = ["talks", "streams", "reads slowly", "resets", "never reads", "leaves at once"]


@pytest.mark.parametrize("kind", _ALL)
def test_every_life_on_a_right_server_is_right(
    lives: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = _lived(lives, kind, lambda transport, data: transport.write(data), monkeypatch)
    assert (end.kind, end.wrong, end.cut) == (kind, "", "")
    assert sorted(lives.KINDS) == [kind]


@pytest.mark.parametrize("kind", ["talks", "streams", "reads slowly"])
@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "other bytes"),
        (lambda data: data + b"x", "came back|other bytes|more came back"),
    ],
    ids=["a bit", "a byte more"],
)
def test_a_wrong_byte_is_found(
    lives: ModuleType, kind: str, spoil: Any, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = _lived(lives, kind, lambda transport, data: transport.write(spoil(data)), monkeypatch)
    assert any(word in end.wrong for word in wrong.split("|")), end


@pytest.mark.parametrize("kind", ["talks", "streams", "reads slowly"])
def test_an_early_end_is_found(
    lives: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = _lived(lives, kind, lambda transport, data: transport.abort(), monkeypatch)
    assert end.cut


@pytest.mark.deep
def test_right_engines_end_with_0_and_figures(soak: ModuleType, capsys: Any) -> None:
    assert soak.main() == 0
    said = capsys.readouterr().out
    for program in ("verb", "callbacks", "relay"):
        assert f"pure-epoll {program}" in said
    assert "WRONG" not in said


@pytest.mark.deep
def test_faulty_servers_end_with_1_and_what_is_wrong(
    soak: ModuleType, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty.py").write_text(_FAULTY)

    def faulty(name: str, *arguments: str) -> Subject:
        port = arguments[1] if arguments[0] == "echo" else "0"
        return Subject(name, (sys.executable, str(tmp_path / "faulty.py"), port))

    monkeypatch.setattr(soak, "_muxcore", faulty)
    monkeypatch.setattr(soak, "_SETTLED_WITHIN", 0.1)
    monkeypatch.setattr(soak, "_SHOWN", 10_000)
    assert soak.main() == 1
    said = capsys.readouterr().out
    assert "other bytes than were sent" in said
    assert "descriptors are left" in said
