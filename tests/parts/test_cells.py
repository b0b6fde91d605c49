"""Cells: what one process counts, and others see."""

from __future__ import annotations

import os

import pytest

from muxcore.native import core
from muxcore.parts.cells import OPEN, WORD, WORDS, Cells, Kinds


def test_what_is_counted_in_a_cell_is_seen_by_whoever_has_the_file() -> None:
    cells = Cells(3)
    ours = cells[1]
    ours.open += 2
    ours.total += 5
    ours.outgoing += 1
    ours.bytes_in += 1 << 40
    ours.bytes_out += 7
    ours.errors["OSError"] += 3
    others = Cells(3, os.dup(cells.descriptor))
    seen = others[1].snapshot()
    assert (seen.open, seen.total, seen.outgoing) == (2, 5, 1)
    assert (seen.bytes_in, seen.bytes_out, seen.errors) == (1 << 40, 7, {"OSError": 3})
    assert others[0].snapshot().as_dict() == Cells(1)[0].snapshot().as_dict()
    cells.close()
    others.close()


def test_a_cell_that_is_cleared_begins_anew() -> None:
    cells = Cells(1)
    cells[0].total += 1
    cells[0].errors["OSError"] += 1
    cells[0].clear()
    assert cells[0].snapshot().total == 0
    assert not cells[0].snapshot().errors
    cells.close()


def test_more_kinds_of_errors_than_have_room_are_counted_together() -> None:
    kinds = Kinds(memoryview(bytearray(Kinds.SIZE)))
    for number in range(Kinds.COUNT + 5):
        kinds.count(f"Error{number}")
    found = dict(kinds.items())
    assert len(found) == Kinds.COUNT
    assert found["other"] == 6


@pytest.mark.skipif(core.missing is not None, reason="the C core is not built")
def test_the_core_counts_where_a_cell_is_read() -> None:
    assert core.ffi.sizeof("mux_stats") == WORDS * WORD
    assert core.ffi.offsetof("mux_stats", "open") == OPEN * WORD
    cells = Cells(1)
    counters = core.counters_in(core.memory_of(cells[0]), cells[0].at)
    for number, field in enumerate(("open", "total", "bytes_in", "bytes_out", "outgoing"), 1):
        setattr(counters, field, number)
    counters.idle, counters.half_closed, counters.not_taken = 6, 7, 8
    counters.serving = 1
    counters.refused, counters.accept_errors, counters.errors[104] = 9, 10, 11
    assert cells[0].serving
    seen = cells[0].snapshot()
    assert (seen.open, seen.total, seen.bytes_in, seen.bytes_out, seen.outgoing) == (1, 2, 3, 4, 5)
    assert seen.errors == {
        "IdleTimeout": 6,
        "HalfCloseTimeout": 7,
        "CloseTimeout": 8,
        "refused": 9,
        "accept": 10,
        "ConnectionResetError": 11,
    }
    cells.close()
