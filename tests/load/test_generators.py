"""Both generators tell the truth: they find what is wrong, late or missing, and invent nothing."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from muxcore.address import Address, parse
from muxcore.load import LoadConfig, LoadResult, Phase, generator, merge, parse_sizes, window
from muxcore.testing.upstream import refusing


def drive(
    kind: str, address: Address, seconds: float = 0.1, *, warmup: float = 0.02, **load: Any
) -> LoadResult:
    source = generator(LoadConfig(address=address, **load), kind)
    try:
        return window(source, warmup, seconds)
    finally:
        source.close()


def drive_until(kind: str, server: Any, messages: int, **load: Any) -> LoadResult:
    """Drive a server of ``conftest.py`` until it has received so many messages."""
    source = generator(LoadConfig(address=server.address, **load), kind)
    source.begin(0.0, 60.0)
    while server.received < messages:
        assert source.run(0.01) is not Phase.IDLE, source.result().first_error
    source.stop()
    while source.run(0.05) is not Phase.IDLE:
        pass
    result = source.result()
    source.close()
    return result


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"connections": 1},
        {"depth": 7},
        {"sizes": parse_sizes("1:5,300:3,70k:1"), "connections": 5, "depth": 3},
        {"sizes": ((300_000, 1.0),), "connections": 3},
        {"rate": 500.0, "connections": 5},
        {"rate": 500.0, "poisson": True},
        {"workload": "churn", "connections": 5},
        {"workload": "churn", "connections": 5, "rate": 100.0, "sources": 3},
        {"idle": 20, "connections": 2},
    ],
    ids=str,
)
def test_an_echo_server_is_found_right(
    kind: str, load: dict[str, Any], serve: Any, answers: Any
) -> None:
    result = drive(kind, serve(answers["echo"]()).address, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.sent == result.answered > 0
    assert result.latency.total == result.answered
    assert result.generator == kind


def test_a_single_wrong_byte_is_found_and_placed(kind: str, serve: Any, answers: Any) -> None:
    server = serve(answers["flip_at"](5))
    result = drive(kind, server.address, connections=1, sizes=((10, 1.0),))
    assert result.errors["corrupt"] == 1
    assert not result.ok
    assert "connection 0, offset 49: expected byte" in result.first_error


def test_a_byte_too_many_is_found(kind: str, serve: Any) -> None:
    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        sock.sendall(data + b"!" if number == 3 else data)

    result = drive(kind, serve(answer).address, connections=1)
    assert result.errors["corrupt"] == 1


def test_bytes_of_another_connection_are_found(kind: str, serve: Any) -> None:
    socks: list[socket.socket] = []

    def swap(sock: socket.socket, data: bytes, number: int) -> None:
        if sock not in socks:
            socks.append(sock)
        other = socks[-1] if sock is socks[0] else socks[0]
        other.sendall(data)

    result = drive(kind, serve(swap).address, connections=2, reply_timeout=0.2)
    assert result.errors["corrupt"]


def test_a_server_that_answers_otherwise_is_held_to_its_reply(kind: str, serve: Any) -> None:
    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        sock.sendall(b"<" + data.upper() + b">")

    load = {"request": b"hello", "connections": 3}
    assert drive(kind, serve(answer).address, reply=b"<HELLO>", **load).ok
    wrong = drive(kind, serve(answer).address, reply=b"<HELL0>", **load)
    assert wrong.errors["corrupt"] == 3
    assert "offset 5: expected byte 48, got byte 79" in wrong.first_error


def test_replies_that_never_come_are_lost_and_nothing_hangs(kind: str, serve: Any) -> None:
    server = serve(lambda sock, data, number: None)
    result = drive(kind, server.address, connections=3, reply_timeout=0.1)
    assert result.lost == 3
    assert result.errors["timeout"] == 3
    assert not result.ok


def test_a_server_that_closes_is_reported(kind: str, serve: Any) -> None:
    server = serve(lambda sock, data, number: sock.shutdown(socket.SHUT_RDWR))
    result = drive(kind, server.address, connections=2)
    assert result.errors["closed"] + result.errors["reset"] == 2
    assert result.lost == 2
    assert result.open == 0


def test_a_refused_connection_is_reported(kind: str) -> None:
    with refusing() as address:
        result = drive(kind, parse(address), connections=4)
    assert result.errors == {"refused": 4}
    assert result.first_error == "Connection refused"
    assert not result.ok


def test_churn_against_a_dead_server_ends_in_time_without_a_storm(kind: str) -> None:
    with refusing() as address:
        result = drive(kind, parse(address), connections=4, workload="churn")
    assert 0 < result.errors["refused"] < 100


def test_the_open_loop_shows_a_freeze_that_the_closed_loop_omits(
    kind: str, serve: Any, answers: Any
) -> None:
    def found(**load: Any) -> LoadResult:
        server = serve(answers["freeze_at"](100, 0.15))
        return drive_until(kind, server, 500, connections=1, **load)

    closed, opened = found(), found(rate=1000.0)
    assert opened.latency.percentile(95) > 75e6
    # The closed loop sent nothing while the server stood still: one message in hundreds saw it.
    assert closed.latency.percentile(90) < 75e6 < closed.latency.max


def slow(sock: socket.socket, data: bytes, number: int) -> None:
    time.sleep(0.01)  # the server's work: 100 messages a second
    sock.sendall(data)


def test_a_generator_that_stood_still_in_its_drain_loses_no_reply(kind: str, serve: Any) -> None:
    load: dict[str, Any] = {"connections": 2, "rate": 2000.0, "reply_timeout": 1.4}
    source = generator(LoadConfig(address=serve(slow).address, **load), kind)
    source.begin(0.0, 0.1)
    while source.run(0.05) is not Phase.DRAINING:
        pass
    source.run(0.05)  # enters the drain
    time.sleep(1.5)  # stands still for the whole of it
    while source.run(0.05) is not Phase.IDLE:
        pass
    result = source.result()
    source.close()
    assert not result.lost
    assert result.overdue > 0


def test_an_overload_is_not_hidden(kind: str, serve: Any) -> None:
    result = drive(kind, serve(slow).address, 0.3, connections=2, rate=2000.0, reply_timeout=1.5)
    assert result.overdue > 300
    assert result.latency.total >= result.overdue
    assert result.latency.percentile(99) > 100e6
    assert not result.lost, "a server that is behind has lost nothing"


def test_the_fixed_rate_is_kept(kind: str, serve: Any, answers: Any) -> None:
    result = drive(kind, serve(answers["echo"]()).address, 0.5, connections=10, rate=400.0)
    # A window is as long as it says: a busy machine may wake the generator late at its end.
    assert result.sent == pytest.approx(400 * result.seconds, abs=3)
    assert result.seconds >= 0.5


def test_poisson_arrivals_have_the_rate_and_are_not_regular(
    kind: str, serve: Any, answers: Any
) -> None:
    server = serve(answers["echo"]())
    load = {"connections": 4, "rate": 800.0, "poisson": True}
    results = [drive(kind, server.address, 0.25, seed=seed, **load) for seed in range(4)]
    assert len({result.sent for result in results}) > 1
    rate = sum(result.sent for result in results) / sum(result.seconds for result in results)
    assert rate == pytest.approx(800, rel=0.25)


def test_connections_stay_open_from_window_to_window(kind: str, serve: Any, answers: Any) -> None:
    server = serve(answers["echo"]())
    source = generator(LoadConfig(address=server.address, connections=8, depth=2), kind)
    results = [window(source, 0.0, 0.03) for _ in range(3)]
    source.close()
    assert all(result.ok for result in results)
    assert server.accepted == 8
    assert results[-1].opened == results[-1].open == 8


def test_a_window_can_be_stopped_early(kind: str, serve: Any, answers: Any) -> None:
    source = generator(LoadConfig(address=serve(answers["echo"]()).address), kind)
    source.begin(0.0, 60.0)
    while source.run(0.01) is not Phase.MEASURING:
        pass
    source.run(0.05)
    source.stop()
    while source.run(0.05) is not Phase.IDLE:
        pass
    result = source.result()
    source.close()
    assert result.ok
    assert 0 < result.seconds < 30


def test_a_result_does_not_change_with_what_follows(kind: str, serve: Any, answers: Any) -> None:
    server = serve(answers["echo"]())
    source = generator(LoadConfig(address=server.address, rate=2000.0), kind)
    source.begin(0.0, 60.0)
    while not (early := source.result()).answered:
        source.run(0.01)
    found = early.to_json(counts=True)
    while source.result().answered == early.answered:
        source.run(0.01)
    assert early.to_json(counts=True) == found
    source.close()


def test_phases_come_in_their_order(kind: str, serve: Any, answers: Any) -> None:
    source = generator(LoadConfig(address=serve(answers["echo"]()).address), kind)
    seen: list[Phase] = []
    window(source, 0.01, 0.02, at_phase=seen.append)
    window(source, 0.01, 0.02, at_phase=seen.append)
    source.close()
    again = [Phase.MEASURING, Phase.DRAINING, Phase.IDLE]
    assert seen[-3:] == again
    assert [phase for phase in seen if phase in again] == again * 2


def test_a_unix_socket_is_driven_too(kind: str, tmp_path: Path) -> None:
    from muxcore import Server
    from muxcore.services.echo import Echo

    path = tmp_path / "echo.sock"
    with Server(Echo, f"unix:{path}", engine="pure-epoll"):
        assert drive(kind, Address(path=str(path)), connections=3).ok


def test_a_result_survives_json(kind: str, serve: Any, answers: Any) -> None:
    result = drive(kind, serve(answers["echo"]()).address, rate=300.0)
    text = json.dumps(result.to_json(counts=True))
    rebuilt = LoadResult.from_json(json.loads(text))
    assert rebuilt.to_json(counts=True) == result.to_json(counts=True)


def test_merged_results_add_up(kind: str, serve: Any, answers: Any) -> None:
    server = serve(answers["echo"]())
    one, two = (drive(kind, server.address, seed=seed) for seed in (1, 2))
    total = one.answered + two.answered
    one.merge(two)
    assert one.answered == one.latency.total == total


def test_results_of_parts_are_merged_into_that_of_the_whole() -> None:
    rng = random.Random(5)
    whole, parts = LoadResult("pure"), [LoadResult("pure", seconds=2.0) for _ in range(3)]
    whole.seconds = 2.0
    for part in parts:
        for _ in range(200):
            value = rng.randrange(10**8)
            for each in (part, whole):
                each.latency.add(value)
                each.lag.add(value // 7)
                each.sent += 1
                each.received += 1
                each.answered += 1
                each.opened = each.open = 1
        part.errors["reset"] = whole.errors["reset"] = 0
    whole.opened = whole.open = 3
    files = [json.loads(json.dumps(part.to_json(counts=True))) for part in parts]
    assert merge(files).to_json(counts=True) == whole.to_json(counts=True)
    whole.seconds = 6.0
    assert merge(files, in_turn=True).to_json(counts=True) == whole.to_json(counts=True)


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(ValueError, match="no result to merge"):
        merge([])
    with pytest.raises(ValueError, match="a result of schema 7: 1 can be read"):
        merge([{"schema": 7}])
