"""Several client processes act as one."""

from __future__ import annotations

import resource
import signal
import sys
from typing import Any

import pytest

from muxcore.address import Address, parse
from muxcore.load import LoadConfig, LoadError, LoadResult, interrupts, sharding
from muxcore.testing.upstream import refusing

HERE = Address("127.0.0.1", 9)


def test_two_processes_share_the_load_and_their_results_add_up(serve: Any, answers: Any) -> None:
    server = serve(answers["echo"]())
    config = LoadConfig(address=server.address, connections=7, idle=4, rate=200.0)
    result = sharding.run(config, 2, warmup=0.05, seconds=0.3)
    assert result.ok, result.first_error
    assert result.opened == server.accepted == 11
    # On a busy machine one of the windows may be longer; the result has the longest.
    assert 60 - 4 <= result.sent <= 200 * result.seconds + 4


def test_connections_beyond_the_descriptor_limit_take_more_processes() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard > 400_000:
        pytest.skip(f"the descriptor limit is {hard}: no load passes it")
    assert sharding.needed(LoadConfig(address=HERE, connections=hard + 1)) == 2
    assert sharding.needed(LoadConfig(address=HERE, connections=10)) == 1


def test_more_processes_than_connections_are_refused() -> None:
    with pytest.raises(ValueError, match=r"processes must be from 1 to 3 for 3 .*, not 4"):
        sharding.needed(LoadConfig(address=HERE, connections=3), 4)


def test_a_client_that_cannot_run_says_why() -> None:
    config = LoadConfig(address=HERE, connections=4)
    with pytest.raises(LoadError, match="no generator 'steam'"):
        sharding.run(config, 2, kind="steam", warmup=0.0, seconds=0.1)


def test_a_refused_load_of_several_processes_says_so() -> None:
    with refusing() as address:
        config = LoadConfig(address=parse(address), connections=4)
        result = sharding.run(config, 2, warmup=0.0, seconds=60.0)
    assert result.errors == {"refused": 4}
    assert result.opened == 0


@pytest.mark.parametrize("tells", [True, False])
def test_a_client_tells_how_it_goes_only_where_somebody_reads_it(
    serve: Any, answers: Any, tells: bool
) -> None:
    """Else its pipe fills up, and it stands still once that is full."""
    config = LoadConfig(address=serve(answers["echo"]()).address, connections=2)
    client = sharding.Client([sys.executable, "-m", "muxcore.load.sharding"])
    how = {"kind": "pure", "warmup": 0.0, "seconds": 0.5, "progress": tells}
    try:
        client.tell(sharding._as_json(config) | how)
        assert client.hear() == {"connected": True}
        client.heard()
        client.tell({})
        assert ("progress" in client.hear()) is tells
    finally:
        client.end()


def test_progress_is_told_as_if_all_processes_had_found_the_same(serve: Any, answers: Any) -> None:
    found: list[LoadResult] = []
    config = LoadConfig(address=serve(answers["echo"]()).address, connections=4)
    result = sharding.run(config, 2, warmup=0.0, seconds=0.5, progress=found.append)
    assert result.ok
    assert all(each.received == 2 * each.latency.total for each in found)
    assert [each.seconds for each in found] == sorted(each.seconds for each in found)


def test_fewer_messages_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 1 to 2 for 9 .*, not 3"):
        sharding.needed(LoadConfig(address=HERE, connections=9, messages=2), 3)


def test_an_interrupt_in_the_middle_of_a_line_loses_nothing_of_it() -> None:
    program = (
        "import os, signal, sys\n"
        "sys.stdin.readline()\n"
        "print('{\"seconds\":', end='', flush=True)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "sys.stdin.readline()\n"
        "print(' 3}\\n{\"seconds\": 4}', flush=True)\n"
    )
    client = sharding.Client([sys.executable, "-c", program])

    def interrupted() -> None:
        client.tell({})
        client.hear()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        client.tell({})
        for _ in range(2):
            assert client.hear() == {"seconds": 3}
        client.heard()
        assert client.hear() == {"seconds": 4}
    finally:
        signal.signal(signal.SIGINT, before)
        client.end()


def test_a_signal_that_is_held_back_raises_once_the_block_has_ended() -> None:
    seen: list[str] = []

    def held() -> None:
        with interrupts.held_back():
            signal.raise_signal(signal.SIGINT)
            seen.append("the block")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            held()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["the block"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_first_signal_is_noted_and_the_second_raises() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def noted_twice(seen: list[int]) -> None:
        with interrupts.interruptible(), interrupts.noted() as ends:
            signal.raise_signal(signal.SIGTERM)
            seen += ends
            signal.raise_signal(signal.SIGINT)

    seen: list[int] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            noted_twice(seen)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGTERM]
