"""What is told of a comparison: facts where there are facts, and the same everywhere."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest

from muxcore.compare import peers
from muxcore.compare.questions import ALONE
from muxcore.compare.report import card, markdown, text, verdict
from muxcore.compare.report.page import page
from muxcore.compare.report.picture import Dot, Row, Scale, engines, percentiles

_COSTS = {
    "pure-epoll verb": 6.4,
    "pure-epoll callback": 7.0,
    "native-epoll verb": 5.0,
    "native-epoll callback": 6.0,
    "asyncio adapter": 9.0,
    peers.ASYNCIO: 8.0,
    peers.UVLOOP: 6.3,
    peers.FRESH: 25.0,
}


def interval(median: float, reach: float = 0.01) -> dict[str, Any]:
    return {"low": median * (1 - reach), "median": median, "high": median * (1 + reach)}


def cell(name: str, axis: str = "", **answers: str) -> dict[str, Any]:
    """Return a cell in which native-epoll got these verdicts against its peers."""
    times = {"p50": 100.0, "p90": 200.0, "p99": 900.0, "p99.9": 2000.0, "max": 3000.0}
    figures = {
        subject: {
            "windows": 30,
            "rate": 1e6 / cost,
            "cpu_us_per_message": cost,
            "cpu_us_interval": interval(cost),
            "busy": 0.97,
            "is_bottleneck": True,
            "latency_us": times,
            "lag_p99_us": 12.0,
        }
        for subject, cost in _COSTS.items()
    }
    findings = [
        {
            "subject": "native-epoll callback",
            "reference": peer,
            "asks": f"native-epoll against {peer}",
            "ratio": interval(_COSTS["native-epoll callback"] / _COSTS[peer]),
            "verdict": answers.get(peer.split()[-1], "less"),
        }
        for peer in (peers.UVLOOP, peers.ASYNCIO)
    ]
    return {
        "name": name,
        "axis": axis,
        "load": {"connections": 50},
        "figures": figures,
        "findings": findings,
        "twin": {"cpu": interval(1.0), "rate": interval(1.0)},
        "unstable": False,
        "stopped": {},
        **{f"windows_{kind}": 0 for kind in ("retaken", "robbed", "starved", "missed")},
    }


def comparison(*cells: dict[str, Any], **others: Any) -> dict[str, Any]:
    kinds = {name: name.rpartition(" ")[2] for name in _COSTS}
    return {
        "command": "muxcore compare",
        "started": "2026-01-02T03:04:05+0000",
        "interrupted": 0,
        "environment": {
            "cpu": "A CPU",
            "kernel": "6.1",
            "python": "3.13.0 (main)",
            "muxcore": "1.0",
            "libc": "glibc 2.36",
            "cores": 2,
            "load_generator": "native",
            "load_average": [0.1, 0.1, 0.1],
            "governor": "performance",
            "packages": {"uvloop": "0.22"},
            "mitigations": {"meltdown": "Not affected"},
        },
        "cautions": [],
        "blocks": 3,
        "comparisons": 12,
        "subjects": [
            {
                "name": name,
                "engine": name.split()[0] if "plain" not in name else "",
                "handler": kinds[name] if kinds[name] in ("verb", "callback", "adapter") else "",
                "fresh": name == peers.FRESH,
                "argv": ["server"],
            }
            for name in _COSTS
        ],
        "cells": list(cells or [cell("64 B, 50 connections")]),
        "latency": [],
        "costs": {},
        **others,
    }


def test_the_verdict_names_the_engine_its_price_and_what_others_cost() -> None:
    assert verdict.headline(comparison()) == (
        "At 64 B, 50 connections, **native-epoll** answers a message for **6.00 µs** of CPU: "
        "25 % less (24 % to 26 %) than plain asyncio and 5 % less (4 % to 6 %) than plain uvloop. "
        "By the verb, without Python, it is 5.00 µs."
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("no difference", "no difference to plain uvloop (x0.952 [0.943, 0.962])"),
        ("unclear", "unclear against plain uvloop (x0.952 [0.943, 0.962])"),
        ("too few rounds", "too few rounds to say against plain uvloop"),
    ],
)
def test_what_is_not_certain_is_not_said_as_a_fact(answer: str, said: str) -> None:
    told = verdict.headline(comparison(cell("few", uvloop=answer)))
    assert said in told
    assert "than plain uvloop" not in told
    assert "than plain asyncio" in told


def test_more_than_twice_is_said_in_times() -> None:
    found = comparison()
    found["cells"][0]["findings"][0] |= {"verdict": "more", "ratio": interval(3.5)}
    assert "3.5 times (3.5 to 3.5) the CPU of plain uvloop" in verdict.headline(found)
    found["cells"][0]["findings"][0] |= {"verdict": "more", "ratio": interval(1.2)}
    assert "20 % more (19 % to 21 %) than plain uvloop" in verdict.headline(found)


def test_without_figures_nothing_is_said() -> None:
    found = comparison()
    found["cells"][0]["figures"] = {}
    assert verdict.headline(found) == "Nothing was measured."


def test_the_badge_says_what_two_identical_servers_differed_by() -> None:
    trusted = verdict.trust(comparison())
    assert trusted.quotable
    assert trusted.why == (
        "Quotable: two identical servers differed by at most 1.0 %, with 99 % confidence."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"twin": {"cpu": interval(1.0, 0.08)}}, "differed by at most 8.7 %. Repeat it on a quiet"),
        ({"twin": {"cpu": {"low": None, "median": 1.0, "high": None}}}, "too few rounds"),
    ],
)
def test_a_restless_machine_is_not_quoted(change: dict[str, Any], why: str) -> None:
    trusted = verdict.trust(comparison(cell("few") | change))
    assert not trusted.quotable
    assert why in trusted.why


def test_a_comparison_that_was_interrupted_is_not_quoted() -> None:
    trusted = verdict.trust(comparison(interrupted=143))
    assert not trusted.quotable
    assert "interrupted" in trusted.why


def test_a_cell_that_was_restless_alone_is_named() -> None:
    found = comparison(cell("few"), cell("many", "connections") | {"unstable": True})
    trusted = verdict.trust(found)
    assert trusted.quotable
    assert trusted.but == "Not quotable by the same measure: many."


def test_idle_clients_have_a_sentence_of_their_own() -> None:
    crowd = cell("a crowd", "idle") | {"load": {"idle": 850}}
    crowd["findings"].append(
        {
            "subject": "pure-epoll callback",
            "reference": "pure-epoll callback" + ALONE,
            "asks": "what idle clients cost pure-epoll",
            "ratio": interval(1.0),
            "verdict": "no difference",
        }
    )
    assert verdict.remark(comparison(cell("few"), crowd), crowd) == (
        "What 850 idle clients do to a message: pure-epoll x1.000 [0.990, 1.010], no difference."
    )


# -- pictures


def test_an_engine_is_one_row_of_two_dots_and_the_cheapest_comes_first() -> None:
    rows = engines(comparison(), comparison()["cells"][0])
    assert [row.label for row in rows] == [
        "native-epoll",
        peers.UVLOOP,
        "pure-epoll",
        peers.ASYNCIO,
        "asyncio adapter",
        peers.FRESH,
    ]
    assert [dot.kind for dot in rows[0].dots] == ["verb", "callback"]
    assert rows[0].text == "5.00 · 6.00 µs"
    assert {dot.kind for row in rows for dot in row.dots} == {"verb", "callback", "reference"}


def test_equal_ratios_are_equal_distances() -> None:
    scale = Scale([Row("a", (Dot("verb", 4.0), Dot("verb", 40.0)))])
    assert 0 < scale.at(4) < scale.at(40) < 1
    assert math.isclose(scale.at(8) - scale.at(4), scale.at(32) - scale.at(16))
    assert scale.at(1e9) == 1
    assert scale.at(0) == 0


@pytest.mark.parametrize("ends", [(4.0, 6.0), (4.9, 5.1), (4.0, 40.0), (0.5, 9000.0), (7.0, 7.0)])
def test_ticks_are_round_and_few(ends: tuple[float, float]) -> None:
    ticks = Scale([Row("a", tuple(Dot("verb", end) for end in ends))]).ticks
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))


def test_percentiles_rise_on_one_row() -> None:
    row = percentiles({"one": {"latency_us": {"p50": 1, "p90": 2, "p99": 3, "p99.9": None}}})[0]
    assert [dot.value for dot in row.dots] == [1, 2, 3]


# -- the page, the card, and what is pasted


class _Links(HTMLParser):
    """Collects whatever a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action", "srcset"):
                self.loaded.append(value or "")


def test_the_page_is_one_small_file_that_loads_nothing() -> None:
    latency = {"name": "half", "offered": dict.fromkeys(_COSTS, 1e4), "stopped": {"x": "slow"}}
    whole = comparison(cell("few"), cell("many", "connections"), latency=[cell("half") | latency])
    made = page(whole)
    links = _Links()
    links.feed(made)
    assert [value for value in links.loaded if value != "data:,"] == []
    assert "script" not in links.tags
    assert "url(" not in made
    assert "@import" not in made
    assert links.tags.count("figure") == 3
    assert len(made.encode()) < 1_000_000
    assert "prefers-color-scheme:dark" in made
    assert "width=device-width" in made


def test_the_page_begins_with_verdict_picture_and_badge() -> None:
    made = page(comparison())
    places = [made.index(part) for part in ("<h1>", "<figure", 'class="badge yes"', "<table>")]
    assert places == sorted(places)


def test_what_has_no_interval_yet_is_told_too() -> None:
    unknown = {"low": None, "median": 0.9, "high": None}
    begun = comparison(cell("few"), cell("many", "connections"), interrupted=143)
    for each in begun["cells"]:
        each["twin"] = {"cpu": unknown, "rate": unknown}
        for figures in each["figures"].values():
            figures["cpu_us_interval"] = unknown
        for finding in each["findings"]:
            finding |= {"ratio": unknown, "verdict": "too few rounds"}
    for made in (page(begun), card.card(begun), markdown.markdown(begun), text.report(begun)):
        assert "too few rounds" in made


def test_names_are_escaped_wherever_they_are_told() -> None:
    spoiled = json.loads(json.dumps(comparison()).replace("plain uvloop", "<b>&loop</b>"))
    for made in (page(spoiled), card.card(spoiled)):
        assert "<b>&loop" not in made
        assert "&lt;b&gt;&amp;loop" in made


def test_the_card_is_a_picture_of_its_own_with_verdict_and_trust() -> None:
    made = card.card(comparison())
    root = ElementTree.fromstring(made)
    said = " ".join("".join(each.itertext()) for each in root.iter() if each.tag.endswith("text"))
    words = verdict.plain(verdict.headline(comparison())).split()
    assert all(word in said for word in words)
    assert verdict.trust(comparison()).why in said
    assert root.get("viewBox") == "0 0 1200 630"


def test_what_is_pasted_has_verdict_table_trust_and_command() -> None:
    lines = markdown.markdown(comparison()).splitlines()
    assert lines[0] == verdict.headline(comparison())
    assert "| native-epoll | 5.00 µs | 6.00 µs |" in lines
    assert f"| {peers.ASYNCIO} |  | 8.00 µs |" in lines
    assert verdict.trust(comparison()).why in lines
    assert lines[-1].endswith("`muxcore compare`")


def test_the_terminal_ends_with_the_verdict_and_whether_it_may_be_quoted() -> None:
    said = text.report(comparison()).splitlines()
    assert said[-2] == verdict.plain(verdict.headline(comparison()))
    assert said[-1].startswith("Quotable")


@pytest.mark.parametrize(
    ("value", "said"),
    [(5.0, "5.00 µs"), (12.34, "12.3 µs"), (345.6, "346 µs"), (4321.0, "4.32 ms"), (0.0, "-")],
)
def test_times_have_three_digits_and_a_unit(value: float, said: str) -> None:
    assert verdict.microseconds(value) == said
