"""The comparisons that are planned: few, of those that people ask about, each once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muxcore.compare import peers, questions, subjects
from muxcore.compare.plan import demo, full, quick, usual
from muxcore.compare.rounds import Cell
from muxcore.compare.servers import Subject, app_subject, echo_subject
from muxcore.compare.statistics import corrected, median_interval
from muxcore.errors import EngineUnavailable, UnknownEngine


def everybody() -> list[Subject]:
    """Return what a default comparison has, on any machine."""
    names = ("pure-process", "pure-select", "pure-epoll", "native-epoll")
    found = [echo_subject(name, handler) for name in names for handler in ("verb", "callback")]
    found += [Subject(f"{loop} adapter", (), loop, "adapter") for loop in ("asyncio", "uvloop")]
    found += [Subject(name, ()) for name in (*peers.NAMES.values(), peers.FRESH)]
    return [replace(each, fresh=each.name == peers.FRESH) for each in found]


def asked(compared: list[Subject]) -> set[tuple[str, str]]:
    return {(each.subject, each.reference) for each in questions.planned(compared)}


def test_a_default_comparison_asks_what_people_come_for_and_little_else() -> None:
    found = asked(everybody())
    assert found == {
        ("native-epoll verb", "pure-epoll verb"),
        ("native-epoll callback", "pure-epoll callback"),
        ("pure-process callback", "pure-epoll callback"),
        ("pure-select callback", "pure-epoll callback"),
        ("native-epoll callback", peers.ASYNCIO),
        ("native-epoll callback", peers.UVLOOP),
        ("native-epoll verb", "native-epoll callback"),
        ("native-epoll verb", peers.FLOOR),
        ("asyncio adapter", peers.ASYNCIO),
        ("uvloop adapter", peers.UVLOOP),
        (peers.FRESH, peers.ASYNCIO),
    }


def test_an_engine_of_others_stands_beside_the_first_of_its_model() -> None:
    theirs = [Subject("their-epoll callback", (), "their-epoll", "callback")]
    assert asked([echo_subject("pure-epoll", "callback"), *theirs]) == {
        ("their-epoll callback", "pure-epoll callback")
    }


def test_a_service_of_one_s_own_is_compared_on_its_engines() -> None:
    names = ("pure-select", "pure-epoll", "native-epoll")
    assert asked([app_subject(name, "m:Service") for name in names]) == {
        ("native-epoll", "pure-epoll"),
        ("pure-select", "pure-epoll"),
    }


def test_one_server_alone_asks_nothing() -> None:
    assert asked([echo_subject("pure-epoll", "callback")]) == set()


def test_the_cost_of_idle_clients_is_asked_of_each_model_and_of_the_best() -> None:
    idle = Cell("a crowd", {"connections": 2, "idle": 8})
    alone = questions.without_idle(everybody(), [Cell("few", {"connections": 2}), idle])
    assert [each.name.removesuffix(questions.ALONE) for each in alone] == [
        f"{name} callback" for name in ("pure-process", "pure-select", "pure-epoll", "native-epoll")
    ]
    assert all(each.only == "a crowd" and each.load["idle"] == 0 for each in alone)
    found = asked([*everybody(), *alone])
    assert ("pure-select callback", "pure-select callback" + questions.ALONE) in found
    assert len(found) == len(asked(everybody())) + 4
    assert questions.without_idle(everybody(), [Cell("few", {"connections": 2})]) == []


def test_a_question_of_one_cell_is_counted_once() -> None:
    compared = everybody()
    planned = questions.planned(compared)
    assert questions.count(planned, compared, 1) == len(planned)
    assert questions.count(planned, compared, 5) == 5 * (len(planned) - 1) + 1


@pytest.mark.parametrize("plan", [demo, quick, usual, full])
def test_every_plan_has_rounds_enough_for_its_correction(plan: Any) -> None:
    chosen, compared = plan(), everybody()
    compared += questions.without_idle(compared, chosen.cells)
    planned = questions.planned(compared)
    confidence = corrected(questions.count(planned, compared, len(chosen.cells)))
    for cell in chosen.cells:
        interval = median_interval([1.0] * cell.rounds, confidence)
        assert interval.low == interval.high == 1.0


@pytest.mark.parametrize("plan", [demo, quick, usual, full])
def test_cells_have_names_of_their_own_and_say_what_they_are_about(plan: Any) -> None:
    first, *others = plan().cells
    names = [first.name, *(each.name for each in others)]
    assert len(names) == len(set(names))
    assert not first.axis
    assert all(each.axis for each in others)


# -- who is compared


def test_no_name_means_all_that_can_run_and_what_others_would_write(tmp_path: Path) -> None:
    left_out: list[str] = []
    names = [each.name for each in subjects.chosen([], tmp_path, left_out.append)]
    assert names[:2] == ["pure-process verb", "pure-process callback"]
    for name in (*peers.NAMES.values(), "uvloop adapter"):
        assert (name in names) or any(name.split()[-1] in line for line in left_out)
    assert {peers.ASYNCIO, peers.FRESH, "asyncio adapter"} <= set(names)
    assert len(names) == len(set(names))


def test_a_loop_s_name_means_the_plain_program_and_the_adapter(tmp_path: Path) -> None:
    found = [each.name for each in subjects.chosen(["asyncio"], tmp_path)]
    assert found == ["asyncio adapter", peers.ASYNCIO, peers.FRESH]


def test_names_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match="no-such-engine"):
        subjects.chosen(["no-such-engine"], tmp_path)


def test_a_peer_that_was_named_and_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(EngineUnavailable, match="no C compiler"):
        subjects.chosen(["floor"], tmp_path)
    told: list[str] = []
    names = [each.name for each in subjects.chosen([], tmp_path, told.append)]
    assert peers.FLOOR not in names
    assert any(line.startswith("C floor is left out: there is no C compiler") for line in told)
