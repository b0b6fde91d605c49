"""Errors and counters that leave the process: pickled, copied, written as JSON."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter

import pytest

from muxcore import errors
from muxcore.stats import Stats

_ERRORS = [
    errors.BufferLimitExceeded(11, 10),
    errors.IdleTimeout(1.5),
    errors.HalfCloseTimeout(60),
    errors.CloseTimeout(60),
    errors.ConnectTimeout("db:5432", 10),
    errors.ConnectTimeout("db:5432", 10, False),
    errors.EngineUnavailable("mine", "no luck", "take another"),
    errors.BindError(98, "cannot listen"),
    errors.AddressError("no port"),
    errors.ServiceError("no service"),
    errors.ParseError("not TLS", b"an alert"),
    errors.TooLong("no line within 10 bytes", 10),
    errors.EndOfStream("the peer has ended", 4),
    errors.ConnectionClosed("receive() of a connection: it was closed here"),
    errors.NoUpstream([("db:1", "cannot connect to db:1: Connection refused")], 2),
]


@pytest.mark.parametrize("exc", _ERRORS, ids=lambda exc: type(exc).__name__)
def test_an_error_comes_back_as_it_was_from_a_pickle_and_a_copy(exc: Exception) -> None:
    for again in (pickle.loads(pickle.dumps(exc)), copy.copy(exc), copy.deepcopy(exc)):
        assert type(again) is type(exc)
        assert str(again) == str(exc)
        assert again.args == exc.args
        for name in ("errno", "answer", "reasons", "limit", "received"):
            assert getattr(again, name, None) == getattr(exc, name, None)


def test_an_upstream_that_nobody_could_have_is_told_of_with_each_reason() -> None:
    refused = ("db:1", "cannot connect to db:1: Connection refused")
    both = errors.NoUpstream([refused, ("db:2", "it is this server itself")])
    assert both.reasons == (refused, ("db:2", "it is this server itself"))
    assert both.strerror == (
        "no upstream could be had: cannot connect to db:1: Connection refused; "
        "db:2: it is this server itself"
    )
    full = errors.NoUpstream((), 2)
    assert full.reasons == ()
    why = "2 already with max_active clients, or at their rate"
    assert full.strerror == f"no upstream could be had: {why}"
    assert isinstance(full, ConnectionError)


def test_counters_are_written_as_json() -> None:
    stats = Stats(open=1, total=2, bytes_in=3, errors=Counter({"accept": 4}))
    assert json.loads(json.dumps(stats.as_dict())) == {
        "open": 1,
        "total": 2,
        "outgoing": 0,
        "bytes_in": 3,
        "bytes_out": 0,
        "errors": {"accept": 4},
    }
