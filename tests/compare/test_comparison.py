"""A whole comparison: measured, judged, written down, and set beside an earlier one."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muxcore.cli import main
from muxcore.compare import baseline, record, rounds, session
from muxcore.compare.findings import TWIN, report
from muxcore.compare.plan import Plan
from muxcore.compare.report import text
from muxcore.compare.rounds import Cell, Series, measure
from muxcore.compare.servers import Subject, echo_subject
from muxcore.compare.session import compare, twin_of
from muxcore.load import Generator, LoadConfig, LoadResult, generator, window

# Windows long enough that on a busy machine the server runs in each of them.
CELL = Cell("few bytes", {"connections": 2, "reply_timeout": 2.0}, seconds=0.06, warmup=0.0)


def _measured(subjects: Sequence[Subject], rounds: int, blocks: int = 1) -> Series:
    cell = replace(CELL, rounds=rounds)
    return measure(subjects, [cell], blocks=blocks, rng=random.Random(1))[0]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small comparison of two real engines."""
    subjects = [echo_subject("pure-epoll", handler) for handler in ("verb", "callback")]
    cell = replace(CELL, rounds=15)
    chosen = Plan((cell,), 1, fractions=(0.2,), latency_rounds=2, latency_seconds=0.05)
    return compare(subjects, chosen, random.Random(1))


def test_every_subject_is_measured_in_every_round(subject: Any) -> None:
    subjects = [subject("one"), subject("two")]
    series = _measured(subjects, rounds=4, blocks=2)
    assert sorted((s.subject, s.round, s.block) for s in series.samples) == sorted(
        (name, number, number // 2) for name in ("one", "two") for number in range(4)
    )
    assert all(sample.cpu_us > 0 and sample.rate > 0 for sample in series.samples)


def test_a_cell_that_lacks_rounds_goes_on_by_a_block_and_the_others_do_not(subject: Any) -> None:
    cells = [replace(CELL, name=name, rounds=2) for name in ("quoted", "other")]
    asked: list[tuple[str, int]] = []

    def lacks(series: Series) -> bool:
        asked.append((series.cell.name, len(series.samples)))
        return series.cell.name == "quoted" and len(series.samples) < 4

    subjects, rng = [subject("one")], random.Random(1)
    quoted, other = measure(subjects, cells, blocks=1, rng=rng, lacks=lacks)
    assert [(each.round, each.block) for each in quoted.samples] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert [(each.round, each.block) for each in other.samples] == [(0, 0), (1, 0)]
    assert asked == [("quoted", 2), ("other", 2), ("quoted", 4), ("other", 2)]


def test_a_restless_machine_has_the_quoted_cell_go_on_as_long_as_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "is_precise", lambda series: False)
    cells = (replace(CELL, rounds=2), replace(CELL, name="another", rounds=2))
    chosen = Plan(cells, blocks=1, fractions=(), costs=False, patience=3)
    found = compare([echo_subject("pure-epoll", "verb")], chosen, random.Random(1))
    windows = [each["figures"]["pure-epoll verb"]["windows"] for each in found["cells"]]
    assert windows == [6, 2]
    assert found["blocks"] == 3


def test_work_that_is_planted_shows_in_the_cpu_per_message(subject: Any) -> None:
    # So much work that it stands out of what a virtual machine's stolen time adds to the other.
    subjects = [subject("plain"), subject("busy", work=0.005)]
    series = _measured(subjects, rounds=5)
    assert not series.stopped
    plain, busy = (
        [sample for sample in series.samples if sample.subject == each.name] for each in subjects
    )
    # Of all windows together: in one with few messages, what lies across its ends weighs much.
    messages = sum(sample.result.received for sample in busy)
    spent = sum(sample.cpu_us * sample.result.received for sample in busy) / messages
    assert spent >= 4000
    assert min(sample.cpu_us for sample in plain) <= spent / 2


def test_a_server_is_measured_as_it_is_once_its_first_clients_have_gone(subject: Any) -> None:
    series = _measured([subject("cold", cold=0.005)], rounds=3)
    assert min(sample.cpu_us for sample in series.samples) < 2500


@pytest.mark.parametrize(
    ("starved", "again", "missed"),
    [((), 0, 0), ((0, 2, 3), 3, 0), (range(100), 6, 2)],
    ids=["never", "at times", "always"],
)
def test_a_window_without_a_reply_is_taken_again_and_longer_and_stops_nobody(
    subject: Any, monkeypatch: pytest.MonkeyPatch, starved: Any, again: int, missed: int
) -> None:
    lengths: list[float] = []

    def starving(source: Generator, warmup: float, seconds: float, **hooks: Any) -> LoadResult:
        result = window(source, warmup, seconds, **hooks)
        if hooks:  # what is measured, not what only connects
            if len(lengths) in starved:
                result.received = 0
            lengths.append(seconds)
        return result

    monkeypatch.setattr(rounds, "window", starving)
    monkeypatch.setattr(rounds, "stolen_ns", lambda cores: 0)
    one = subject("one")
    series = _measured([one, twin_of(one)], rounds=1)
    assert (series.starved, series.missed, series.stopped) == (again, missed, {})
    assert len(series.samples) == 2 - missed
    assert max(lengths) == pytest.approx(CELL.seconds * {0: 1, 3: 9, 6: 27}[again])
    told = text.cell(record.cell(CELL, report(series, [], 1)))
    assert (f"{again} were taken again and longer, {missed} are missing" in told) == bool(again)


@pytest.mark.parametrize(
    ("robbed", "retaken", "kept"),
    [((), 0, 0), ((0, 2, 3), 3, 0), (range(100), 6, 2)],
    ids=["never", "at times", "always"],
)
def test_a_window_that_time_was_stolen_from_is_taken_again_a_few_times(
    subject: Any, monkeypatch: pytest.MonkeyPatch, robbed: Any, retaken: int, kept: int
) -> None:
    reads = itertools.count()  # two for each window
    stolen = itertools.accumulate(read % 2 and read // 2 in robbed for read in reads)
    monkeypatch.setattr(rounds, "stolen_ns", lambda cores: next(stolen))

    def answered(*args: Any, **hooks: Any) -> LoadResult:
        result = window(*args, **hooks)
        result.received = result.received or 1  # on a busy machine: no reply is another matter
        return result

    monkeypatch.setattr(rounds, "window", answered)
    one = subject("one")
    series = _measured([one, twin_of(one)], rounds=1)
    assert (series.retaken, series.robbed) == (retaken, kept)
    assert len(series.samples) == 2
    told = text.cell(record.cell(CELL, report(series, [], 1)))
    assert (f"{retaken} were taken again, {kept} kept" in told) == bool(retaken)


def test_clients_that_do_not_fit_into_one_process_connect_for_each_window(
    subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def counted(load: LoadConfig, kind: str) -> Generator:
        opened.append(load.connections)
        return generator(load, kind)

    monkeypatch.setattr(rounds, "generator", counted)
    for fitting, clients in ((4, 2), (3, 2 * (1 + 3))):  # the first window of each is not used
        opened.clear()
        monkeypatch.setattr(rounds, "room", lambda fitting=fitting: fitting)
        monkeypatch.setattr(rounds, "stolen_ns", lambda cores: 0)
        subjects = [subject("one"), subject("two")]
        series = _measured(subjects, rounds=3)
        assert not series.stopped
        assert len(series.samples) == 6
        assert opened == [2] * clients


def test_wrong_bytes_stop_a_subject_and_are_told(subject: Any) -> None:
    subjects = [subject("right"), subject("wrong", change=1)]
    series = _measured(subjects, rounds=2)
    assert "corrupt" in series.stopped["wrong"]
    assert {sample.subject for sample in series.samples} == {"right"}


def test_where_an_engine_stops_is_shown_and_the_others_go_on(subject: Any) -> None:
    subjects = [subject("small", limit=1, says="ValueError: no more"), subject("large")]
    series = _measured(subjects, rounds=2)
    assert re.search("closed|reset", series.stopped["small"])
    assert "it printed:\nValueError: no more" in series.stopped["small"]
    assert len(series.samples) == 2


def test_who_failed_in_a_cell_is_there_again_in_the_next(subject: Any) -> None:
    subjects = [subject("small", limit=3), subject("large")]
    many = replace(CELL, name="many", load={**CELL.load, "connections": 4}, rounds=2)
    few = replace(CELL, rounds=2)
    first, second = measure(subjects, [many, few], blocks=2, rng=random.Random(1))
    assert set(first.stopped) == {"small"}
    assert second.stopped == {}
    assert {sample.subject for sample in first.samples} == {"large"}
    assert len(second.samples) == 4


def test_a_subject_may_take_part_in_one_cell_alone_and_do_other_work(subject: Any) -> None:
    other = replace(subject("other"), only="b", load={"connections": 1})
    cells = [replace(CELL, name=name, rounds=1) for name in ("a", "b")]
    found = measure([subject("all"), other], cells, blocks=1, rng=random.Random(1))
    assert [series.order for series in found] == [["all"], ["all", "other"]]
    assert [sample.result.opened for sample in found[1].samples if sample.subject == "other"] == [1]


def test_a_fresh_server_is_measured_before_its_first_client_has_gone(subject: Any) -> None:
    fresh = replace(subject("cold", cold=0.005), fresh=True)
    series = _measured([fresh], rounds=2)
    assert min(sample.cpu_us for sample in series.samples) > 2500


def test_a_server_that_cannot_start_stops_only_itself(subject: Any) -> None:
    broken = Subject("broken", ("no-such-program",))
    series = _measured([subject("good"), broken], rounds=1)
    assert "cannot run" in series.stopped["broken"]
    assert len(series.samples) == 1


def test_a_twin_is_the_same_command_under_another_name() -> None:
    one = echo_subject("pure-epoll", "verb")
    assert twin_of(one).argv == one.argv
    assert twin_of(one).name == one.name + TWIN


def test_the_record_is_json_and_holds_the_twin_and_the_environment(found: dict[str, Any]) -> None:
    rebuilt = json.loads(json.dumps(found, allow_nan=False))
    assert rebuilt["schema"] == record.SCHEMA
    assert rebuilt["cells"][0]["twin"]["cpu"]["median"] > 0
    assert rebuilt["environment"]["kernel"]
    assert set(rebuilt["cells"][0]["figures"]) == {"pure-epoll verb", "pure-epoll callback"}
    assert {each["name"] for each in rebuilt["latency"]} == {
        "20% of the slowest highest rate",
        "20% of its own highest rate",
    }


def test_the_table_names_every_subject_and_the_noise(found: dict[str, Any]) -> None:
    said = text.report(found)
    assert "pure-epoll verb" in said
    assert "pure-epoll callback" in said
    assert "A/A (a server against its twin)" in said


def test_a_baseline_shows_what_became_slower(found: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    before = json.loads(json.dumps(found))
    for figures in before["cells"][0]["figures"].values():
        figures["cpu_us_per_message"] /= 2
    path.write_text(json.dumps(before))
    lines, fell = baseline.against(found, baseline.read(path), 0.9)
    assert fell
    assert "x0.500" in "\n".join(lines)
    assert baseline.against(found, found, 0.9)[1] is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}'])
def test_a_baseline_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(baseline.BaselineError, match=r"b\.json"):
        baseline.read(path)


def test_compare_refuses_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "no-such-engine"]) == 2
    assert "no-such-engine" in capsys.readouterr().err
    for wrong in (["--fail-under", "0.9"], ["--request", "x"]):
        with pytest.raises(SystemExit, match="2"):
            main(["compare", *wrong])
    assert "--fail-under needs --baseline FILE" in (said := capsys.readouterr().err)
    assert "--request is what --app is sent" in said


def test_compare_of_an_app_that_is_not_there_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = str(tmp_path / "report.html")
    code = main(["compare", "pure-epoll", "--app", "no_such_module:App", "--html", report])
    assert code == 1
    said = capsys.readouterr()
    assert "no_such_module" in said.out + said.err
