"""Calling protocols: what is no protocol, what is missing, and what happens to an exception."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import muxcore
from muxcore.errors import ServiceError
from muxcore.parts import dispatch


class Side:
    """A transport, as far as dispatch is concerned."""

    def __init__(self) -> None:
        self.failures: list[BaseException | None] = []

    def _fail(self, exc: BaseException | None) -> None:
        self.failures.append(exc)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 40_000) if name == "peername" else default


class Upper:
    def data_received(self, data: bytes) -> bytes:
        return data.upper()

    def eof_received(self) -> None:
        self.no_such_attribute  # type: ignore[attr-defined]  # noqa: B018

    def connection_made(self, transport: Any) -> None:
        raise SystemExit(3)


# -- services


class OnlyTheEnd:
    def connection_lost(self, exc: BaseException | None) -> None: ...


@pytest.mark.parametrize("service", [Upper, OnlyTheEnd, muxcore.Echo, functools.partial(Upper)])
def test_whatever_has_one_callback_or_a_verb_is_a_protocol(service: Any) -> None:
    assert dispatch.make_protocol(service) is not None


@pytest.mark.parametrize("returned", [None, 0, "Upper", object()])
def test_a_service_that_returns_no_protocol_is_told_what_one_has(returned: Any) -> None:
    def get_protocol() -> Any:
        return returned

    with pytest.raises(ServiceError) as caught:
        dispatch.make_protocol(get_protocol)
    assert "get_protocol returned" in str(caught.value)
    assert "connection_made, data_received" in str(caught.value)


class Async:
    def connection_made(self, transport: Any) -> None: ...

    async def data_received(self, data: bytes) -> None: ...


class Generates:
    def eof_received(self) -> Iterator[None]:
        yield None


class GeneratesAsync:
    async def connection_lost(self, exc: BaseException | None) -> AsyncIterator[None]:
        yield None


class Makes:
    def __call__(self) -> Any:
        return Upper()


class AsyncInstance(Makes):
    async def data_received(self, data: bytes) -> None: ...


@pytest.mark.parametrize(
    ("service", "callback"),
    [
        (Async, "Async.data_received"),
        (Generates, "Generates.eof_received"),
        (GeneratesAsync, "GeneratesAsync.connection_lost"),
        (AsyncInstance(), r"AsyncInstance object at .*\.data_received"),
    ],
)
def test_a_callback_that_is_a_coroutine_or_a_generator_is_refused_by_name(
    service: Any, callback: str
) -> None:
    with pytest.raises(ServiceError, match=f"{callback} is a coroutine .*plain functions"):
        dispatch.check_service(service)


@pytest.mark.parametrize("kind", [Async, Generates, GeneratesAsync])
def test_what_a_factory_makes_may_have_no_such_callback_either(kind: type) -> None:
    for _ in range(2):  # the look at a class is remembered, a refusal too
        with pytest.raises(ServiceError, match=f"{kind.__name__}.*plain functions"):
            dispatch.make_protocol(lambda: kind())


async def _make() -> Any:
    return Upper()


class _MakesAsync:
    async def __call__(self) -> Any:
        return Upper()


@pytest.mark.parametrize("service", [_make, _MakesAsync()])
def test_a_service_that_is_a_coroutine_itself_is_refused(service: Any) -> None:
    with pytest.raises(ServiceError, match="write a plain function"):
        dispatch.check_service(service)


@pytest.mark.parametrize("service", [None, 0, "Upper", Upper()])
def test_what_cannot_be_called_is_no_service(service: Any) -> None:
    with pytest.raises(ServiceError, match="a service is a class or another callable"):
        dispatch.check_service(service)


def test_a_plain_function_around_a_coroutine_is_a_callback() -> None:
    class Schedules:
        async def later(self, data: bytes) -> None: ...

        @functools.wraps(later)
        def data_received(self, data: bytes) -> None: ...

    dispatch.check_service(Schedules)
    assert dispatch.make_protocol(Schedules) is not None


# -- callbacks


def test_a_callback_gets_its_arguments_and_gives_back_its_answer() -> None:
    side = Side()
    assert dispatch.call(side, Upper(), "data_received", b"a") == b"A"
    assert side.failures == []


def test_a_callback_that_is_not_there_is_a_no_op(caplog: pytest.LogCaptureFixture) -> None:
    side = Side()
    assert dispatch.call(side, Upper(), "pause_writing") is None
    assert (side.failures, caplog.messages) == ([], [])


def test_an_exception_is_logged_once_with_its_trace_and_ends_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side = Side()
    assert dispatch.call(side, Upper(), "data_received", None) is None
    (exc,) = side.failures
    assert isinstance(exc, AttributeError)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("muxcore", logging.ERROR)
    assert record.message == (
        "Upper.data_received failed; its connection with 192.0.2.1:40000 is closed"
    )
    assert record.exc_info is not None
    assert record.exc_info[1] is exc


def test_a_name_missing_inside_a_callback_is_not_a_callback_that_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side = Side()
    dispatch.call(side, Upper(), "eof_received")
    assert isinstance(side.failures[0], AttributeError)
    assert caplog.messages == [
        "Upper.eof_received failed; its connection with 192.0.2.1:40000 is closed"
    ]


def test_what_ends_the_program_is_not_taken_for_a_failure_of_the_connection() -> None:
    side = Side()
    with pytest.raises(SystemExit):
        dispatch.call(side, Upper(), "connection_made", side)
    assert side.failures == []


# -- queued calls


def test_a_queued_call_that_fails_is_named_in_the_log_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dispatch.run_call(Upper().data_received, (None,))
    (record,) = caplog.records
    assert record.message == "a call that was queued failed: Upper.data_received"
    assert record.exc_info is not None


def test_a_queued_call_may_end_the_program() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dispatch.run_call(interrupted, ())


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (Upper, "Upper"),
        (len, "len"),
        (functools.partial(max, 1), "functools.partial(<built-in function max>, 1)"),
        (muxcore.Relay("db:5432"), "Relay('db:5432')"),
    ],
)
def test_messages_call_a_service_by_a_short_name(what: Any, name: str) -> None:
    assert dispatch.describe(what) == name
