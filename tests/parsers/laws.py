"""What holds for every parser, whatever comes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from muxcore import ParseError

Parser = Callable[[Any], Any]

LONGEST_TEXT = 250  # characters of an error: a stranger's bytes must not fill a log


class Refused:
    """An outcome: it equals every other error, whose text may tell more when more has come."""

    def __init__(self, error: ParseError) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused)

    def __repr__(self) -> str:
        return f"Refused({self.error})"


def outcome(parser: Parser, data: Any) -> Any:
    """Return the result, None, or what was refused."""
    try:
        return parser(data)
    except ParseError as exc:
        refused = Refused(exc)
    text = str(refused.error)
    assert 0 < len(text) <= LONGEST_TEXT
    assert text.isprintable()
    assert str(pickle.loads(pickle.dumps(refused.error))) == text
    return refused


def check(parser: Parser, data: bytes, at: Iterable[int] | None = None) -> Any:
    """Check that it waits, decides once and stays with it, over prefixes; return the outcome."""
    places = range(len(data) + 1) if at is None else [*sorted(at), len(data)]
    decided: Any = None
    for place in places:
        now = outcome(parser, data[:place])
        assert decided is None or now == decided, f"another outcome at byte {place}"
        decided = now
    assert outcome(parser, bytearray(data)) == decided
    assert outcome(parser, memoryview(data)) == decided
    return decided


def check_valid(
    parser: Parser, data: bytes, more: bytes = b"whatever follows \r\n\r\n\0\xff"
) -> Any:
    """Check that each prefix needs more, and what follows changes nothing; return the result."""
    for place in range(len(data)):
        assert parser(data[:place]) is None, f"decided at byte {place} of {len(data)}"
    result = parser(data)
    assert result is not None
    assert parser(data + more) == result
    assert parser(bytearray(data)) == parser(memoryview(data + more)[: len(data)]) == result
    assert pickle.loads(pickle.dumps(result)) == result
    return result


def refusal(parser: Parser, data: bytes) -> ParseError:
    """Return the error."""
    with pytest.raises(ParseError) as caught:
        parser(data)
    check(parser, data)
    return caught.value


def found(parser: Parser, data: bytes) -> Any:
    """Return the result, which there is."""
    result = parser(data)
    assert result is not None
    return result


def check_stranger(parser: Parser, protocol: str, sent: bytes) -> None:
    """Check that who speaks another protocol is told from the first bytes, and gets no answer."""
    exc = refusal(parser, sent)
    assert str(exc).startswith(f"not {protocol}: it begins with")
    assert exc.answer == b""


def check_byte_by_byte(parser: Parser, sent: bytes) -> None:
    """Check that to wait takes no time that matters: of the processor, others' do not count."""
    buffer = bytearray()
    began = time.process_time()
    for byte in sent:
        buffer.append(byte)
        assert parser(buffer) is None
    assert time.process_time() - began < 10  # s; it takes a third of one


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A valid message of which some bytes are others, are missing or are twice there."""
    sent = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(sent) - 1)) if sent else 0
        change = draw(st.sampled_from(["replace", "insert", "remove", "repeat"]))
        if change == "replace":
            sent[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif change == "insert":
            sent[at:at] = draw(st.binary(max_size=3) | st.sampled_from([b"\r", b"\n", b" ", b"\0"]))
        elif change == "remove":
            del sent[at : at + draw(st.integers(1, 5))]
        else:
            sent[at:at] = sent[at : at + draw(st.integers(1, 20))]
    return bytes(sent)


PLACES = st.lists(st.integers(0, 700), max_size=8)
