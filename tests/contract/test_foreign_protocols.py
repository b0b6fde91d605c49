"""asyncio.Protocol classes of other projects, as they are, on every engine.

They use nothing but the transport that they are given: no loop, no task, no future. That is the
limit of what can be expected of an engine which is not asyncio.

- pygls 1.x, ``LanguageServerProtocol``: JSON-RPC for editors (LSP 3.17), requests and answers;
- dsmr_parser, ``DSMRProtocol``: telegrams of smart meters, put together from pieces;
- CPython's own test suite, ``test_events.MyProto``: asserts the order of its callbacks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.testing import EngineSuite, Peer, each_engine

pytestmark = pytest.mark.deep  # they need packages of other projects: the extra "deep"

_ENGINES = list(each_engine(EngineSuite).values())


@pytest.fixture(params=_ENGINES, ids=lambda engine: engine.__name__.removeprefix("Test"))
def serving(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return request.param().serving  # type: ignore[no-any-return]


def test_a_language_server_of_pygls_answers(serving: Callable[[Any], Any]) -> None:
    server = pytest.importorskip("pygls.server", reason="needs pygls 1.x")
    lsp = pytest.importorskip("lsprotocol.types")

    protocols = pytest.importorskip("pygls.protocol")

    class Stays(protocols.LanguageServerProtocol):  # type: ignore[misc, name-defined]
        def connection_lost(self, exc: BaseException | None) -> None:
            """The original ends the program here: it serves one editor."""

    def service() -> Any:
        language = server.LanguageServer("ours", "1.0", protocol_cls=Stays)

        @language.feature(lsp.TEXT_DOCUMENT_HOVER)  # type: ignore[untyped-decorator]
        def hover(parameters: Any) -> Any:
            return lsp.Hover(f"line {parameters.position.line}")

        language.loop.close()  # it makes one, which synchronous features do not need
        return language.lsp

    with serving(service) as run:
        peer = run.connect()
        _ask(peer, 1, "initialize", {"capabilities": {}, "processId": None, "rootUri": None})
        assert _answer(peer)["result"]["capabilities"]["hoverProvider"]
        _ask(
            peer,
            2,
            "textDocument/hover",
            {"textDocument": {"uri": "file:///x"}, "position": {"line": 7, "character": 0}},
        )
        assert _answer(peer)["result"]["contents"] == "line 7"


def test_a_smart_meters_telegrams_are_put_together(serving: Callable[[Any], Any]) -> None:
    protocols = pytest.importorskip("dsmr_parser.clients.protocol", reason="needs dsmr-parser")
    parsers = pytest.importorskip("dsmr_parser.parsers")
    specifications = pytest.importorskip("dsmr_parser.telegram_specifications")

    def service() -> Any:
        def heard(telegram: Any) -> None:
            value = telegram.ELECTRICITY_USED_TARIFF_1.value
            protocol.transport.write(f"{value}\n".encode())

        parser = parsers.TelegramParser(specifications.V4)
        protocol = protocols.DSMRProtocol(None, parser, heard)
        return protocol

    with serving(service) as run:
        peer = run.connect()
        telegrams = _telegram("000123.456") + _telegram("000124.000")
        for at in range(0, len(telegrams), 7):
            peer.send(telegrams[at : at + 7])
        assert peer.read_line() == b"123.456\n"
        assert peer.read_line() == b"124.000\n"


def test_cpythons_own_protocol_finds_its_callbacks_in_order(
    serving: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    events = pytest.importorskip("test.test_asyncio.test_events", reason="needs CPython's tests")
    with serving(events.MyProto) as run:
        peer = run.connect()
        assert peer.read_line().startswith(b"GET / HTTP/1.0")
        peer.send(b"some data")
        peer.shutdown_write()
        peer.read_all()
        assert run.server.stats().errors == {}
    assert "AssertionError" not in caplog.text


def test_the_three_are_protocols_of_asyncio() -> None:
    import asyncio

    found = [
        pytest.importorskip("pygls.protocol").LanguageServerProtocol,
        pytest.importorskip("dsmr_parser.clients.protocol").DSMRProtocol,
        pytest.importorskip("test.test_asyncio.test_events").MyProto,
    ]
    assert all(issubclass(protocol, asyncio.Protocol) for protocol in found)
    assert not any(protocol.__module__.startswith(muxcore.__name__) for protocol in found)


def _ask(peer: Peer, number: int, method: str, parameters: dict[str, Any]) -> None:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
    body = json.dumps(message).encode()
    peer.send(b"Content-Length: %d\r\n\r\n" % len(body))
    peer.send(body)


def _answer(peer: Peer) -> dict[str, Any]:
    """Read messages until one is an answer; the server may say other things before."""
    while True:
        size = 0
        while (line := peer.read_line()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        message: dict[str, Any] = json.loads(peer.read(size))
        if "method" not in message:
            return message


def _telegram(used: str) -> bytes:
    """A telegram of one reading, with its CRC-16/ARC (DSMR 4.2, 5.2)."""
    text = f"/XXX5 ours\r\n\r\n1-3:0.2.8(42)\r\n1-0:1.8.1({used}*kWh)\r\n!".encode()
    crc = 0
    for byte in text:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return text + b"%04X\r\n" % crc
