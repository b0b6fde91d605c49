"""First packets of PostgreSQL clients: every prefix of good ones, and what is none."""

from __future__ import annotations

import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxcore.parsers import PostgresStartup, postgres, postgres_error, postgres_startup

from . import laws


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">II", 8 + len(body), code) + body


def startup(*texts: str, code: int = 3 << 16) -> bytes:
    """Return a StartupMessage with such names and values."""
    return packet(code, b"".join(text.encode() + b"\0" for text in texts) + b"\0")


# As psql sends it.
REAL = startup("user", "ann", "database", "shop", "application_name", "psql")


def test_a_session_begins_with_its_user_its_database_and_more() -> None:
    found = laws.check_valid(postgres_startup, REAL)
    assert (found.kind, found.size, found.protocol) == ("startup", len(REAL), (3, 0))
    assert (found.user, found.database) == ("ann", "shop")
    assert found.parameters == {"user": "ann", "database": "shop", "application_name": "psql"}
    assert hash(found) == hash(postgres_startup(REAL))


@pytest.mark.parametrize("more", [(), ("database", "")])
def test_a_database_that_is_not_named_is_called_as_the_user(more: tuple[str, ...]) -> None:
    assert laws.check_valid(postgres_startup, startup("user", "ann", *more)).database == "ann"


def test_a_later_protocol_3_is_told_apart() -> None:
    found = laws.check_valid(postgres_startup, startup("user", "ann", code=3 << 16 | 2))
    assert found.protocol == (3, 2)


def test_a_name_that_is_not_utf_8_keeps_its_bytes() -> None:
    found = postgres_startup(packet(3 << 16, b"user\0\xe4\xff\0\0"))
    assert found is not None
    assert found.user is not None
    assert found.user.encode(errors="surrogateescape") == b"\xe4\xff"


@pytest.mark.parametrize(("code", "kind"), [(80_877_103, "ssl"), (80_877_104, "gss")])
def test_a_request_for_encryption_and_then_a_session_from_its_size_on(
    code: int, kind: Literal["ssl", "gss"]
) -> None:
    sent = packet(code) + REAL
    found = laws.check_valid(postgres_startup, sent[:8])
    assert found == PostgresStartup(kind, 8)
    assert postgres_startup(sent[found.size :]) == postgres_startup(REAL)


@pytest.mark.parametrize("secret", [b"1234", bytes(range(256))])
def test_a_cancel_names_a_session_and_its_secret_is_not_shown(secret: bytes) -> None:
    sent = packet(80_877_102, (4711).to_bytes(4) + secret)
    found = laws.check_valid(postgres_startup, sent)
    assert (found.kind, found.process_id, found.secret) == ("cancel", 4711, secret)
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "sent", [b"G", b"\x16\x03\x01", b"\0\1", b"\0\0\x28", b"\0\0\x27\x15", b"SSH-2.0-x"]
)
def test_what_is_not_postgresql_is_known_by_its_length_and_gets_no_answer(sent: bytes) -> None:
    laws.check_stranger(postgres_startup, "PostgreSQL", sent)


def test_a_packet_may_be_as_long_as_the_servers_and_no_longer() -> None:
    room = 4 + postgres.MAX_PACKET - len(startup("user", "ann", "x", ""))
    longest = startup("user", "ann", "x", "y" * room)
    assert len(longest) == 10_004
    assert postgres_startup(longest[:-1]) is None
    assert laws.found(postgres_startup, longest).user == "ann"
    laws.refusal(postgres_startup, startup("user", "ann", "x", "y" * (room + 1))[:4])


@pytest.mark.parametrize(
    ("sent", "reason", "sqlstate"),
    [
        (b"\0\0\0\7", "its length is 7", b""),
        (b"\0\0\0\0", "its length is 0", b""),
        (packet(80_877_103, b"x"), "a request of 9 bytes", b""),
        (packet(80_877_102, b"1234123"), "a request of 15 bytes", b""),
        (packet(80_877_102, bytes(261)), "a request of 269 bytes", b""),
        (packet(2 << 16), "PostgreSQL protocol 2.0, where 3.x is expected", b"0A000"),
        (packet(4 << 16), "PostgreSQL protocol 4.0", b"0A000"),
        (packet(80_877_105), "PostgreSQL protocol 1234.5681", b"0A000"),
        (startup(), "no PostgreSQL user name", b"28000"),
        (startup("user", "", "database", "x"), "no PostgreSQL user name", b"28000"),
        (packet(3 << 16), "no NUL where a name or a value ends, at byte 8 of it", b"08P01"),
        (REAL[:3] + bytes([REAL[3] - 1]) + REAL[4:-1], "no NUL where", b"08P01"),
        (packet(3 << 16, b"user\0ann"), "no NUL where a name or a value ends, at", b"08P01"),
        (startup("user", "ann", "", "x"), "3 bytes too many in it", b"08P01"),
        (startup("user", "ann", "user", "bob"), "b'user' a second time, at byte 22", b"08P01"),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason_and_answered_as_a_server_would(
    sent: bytes, reason: str, sqlstate: bytes
) -> None:
    exc = laws.refusal(postgres_startup, sent)
    assert reason in str(exc)
    if not sqlstate:
        assert exc.answer == b""
        return
    assert exc.answer[:1] == b"E"
    assert int.from_bytes(exc.answer[1:5]) == len(exc.answer) - 1
    assert exc.answer[5:].startswith(b"SFATAL\0VFATAL\0C" + sqlstate + b"\0M")
    assert exc.answer.endswith(b"\0\0")


_SAMPLES = [REAL, packet(80_877_103), packet(80_877_102, bytes(8)), startup("user", "", "x", "y")]


@given(
    sent=st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda body: packet(3 << 16, body))
    | st.lists(st.text(max_size=5), max_size=6).map(lambda texts: startup(*texts))
    | laws.damaged(_SAMPLES),
    places=laws.PLACES,
)
def test_whatever_comes_the_outcome_is_a_packet_or_one_clear_error(
    sent: bytes, places: list[int]
) -> None:
    found = laws.check(postgres_startup, sent, places)
    if not isinstance(found, PostgresStartup):
        return
    assert 8 <= found.size <= len(sent)
    if found.kind == "startup":
        assert found.user
        assert found.parameters["user"] == found.user
        again = b"".join(
            text.encode(errors="surrogateescape") + b"\0"
            for pair in found.parameters.items()
            for text in pair
        )
        assert sent[8 : found.size] == again + b"\0"


def test_an_answer_says_why_in_postgresqls_own_words() -> None:
    body = b'SFATAL\0VFATAL\0C3D000\0Mno database "\xff\xc3\xbc"\0\0'
    answer = postgres_error("3D000", 'no database "\udcffü"')  # a name, as a startup has it
    assert answer == b"E" + struct.pack(">I", 4 + len(body)) + body


@pytest.mark.parametrize(
    ("sqlstate", "message", "complaint"),
    [("3D00", "no", "five"), ("3d000", "no", "five"), ("3D000", "n\0o", "NUL")],
)
def test_an_answer_that_no_client_could_read_is_refused(
    sqlstate: str, message: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        postgres_error(sqlstate, message)
