"""The upper-case line server."""

from __future__ import annotations

from collections.abc import Callable

from muxcore.testing import Peer

EXAMPLE = "upper_lines"


def test_lines_come_back_in_upper_case(example: Callable[[], Peer]) -> None:
    peer = example()
    peer.send(b"one\ntwo\n")
    assert peer.read(8) == b"ONE\nTWO\n"


def test_a_character_that_arrives_in_two_pieces_is_one(example: Callable[[], Peer]) -> None:
    peer, text = example(), "für Élise\n".encode()
    for byte in text:
        peer.send(bytes([byte]))
    assert peer.read_line().decode() == "FÜR ÉLISE\n"


def test_the_last_line_needs_no_end(example: Callable[[], Peer]) -> None:
    peer = example()
    peer.send(b"one\ntwo")
    peer.shutdown_write()
    assert peer.read_all() == b"ONE\nTWO"


def test_a_line_without_an_end_is_refused_and_others_are_served(
    example: Callable[[], Peer],
) -> None:
    endless, other = example(), example()
    endless.send(b"x" * 65_537)
    assert endless.read_all() == b"error: a line may have 65536 bytes\n"
    other.send(b"still here\n")
    assert other.read_line() == b"STILL HERE\n"
