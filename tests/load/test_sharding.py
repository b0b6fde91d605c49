"""Several client processes act as one."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from muxcore.address import Address
from muxcore.load import LoadConfig, LoadError, sharding

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
    with pytest.raises(ValueError, match="1 to 3 processes, not 4"):
        sharding.needed(LoadConfig(address=HERE, connections=3), 4)


def test_a_client_that_cannot_run_says_why() -> None:
    config = LoadConfig(address=HERE, connections=4)
    with pytest.raises(LoadError, match="no generator 'steam'"):
        sharding.run(config, 2, kind="steam", warmup=0.0, seconds=0.1)
