"""What may be said of a comparison, in sentences. ``**`` stands around what matters most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxcore.compare import peers
from muxcore.compare.questions import ALONE
from muxcore.compare.statistics import UNSTABLE

_TWICE = 2.0  # beyond it people think in times, not in per cent
_ACCURATE = 3  # significant digits: no window is better than 1 %


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the figures of the first cell may be quoted, why, and which others may not."""

    quotable: bool
    why: str
    but: str = ""


def headline(found: Mapping[str, Any]) -> str:
    """Return what was found, in a sentence or two: the engine one would take, and its price."""
    cell = found["cells"][0]
    best = _best(found, cell)
    if best is None:
        return "Nothing was measured."
    cost = cell["figures"][best["name"]]["cpu_us_per_message"]
    against = [_against(finding) for finding in _of(cell, best["name"])]
    name = best["engine"] or best["name"]
    said = f"At {cell['name']}, **{name}** answers a message for **{microseconds(cost)}** of CPU"
    if against:
        said += ": " + ", ".join(against[:-1]) + " and " * (len(against) > 1) + against[-1]
    verb = cell["figures"].get(f"{best['engine']} verb")
    if verb and best["handler"] == "callback":
        alone = microseconds(verb["cpu_us_per_message"])
        said += f". By the verb, without Python, it is {alone}"
    return f"{said}."


def trust(found: Mapping[str, Any]) -> Trust:
    """Return whether the figures can be believed: what two identical servers differed by."""
    twin = found["cells"][0]["twin"]["cpu"]
    if twin["low"] is None or twin["high"] is None:
        return Trust(False, "Not quotable: too few rounds to say what chance does.")
    reach = max(twin["high"], 1 / twin["low"]) - 1
    differed = f"two identical servers differed by at most {100 * reach:.1f} %"
    if found["interrupted"]:
        return Trust(False, f"Not quotable: it was interrupted; so far {differed}.")
    if reach > UNSTABLE:
        return Trust(False, f"Not quotable: {differed}. Repeat it on a quiet machine.")
    restless = [each["name"] for each in found["cells"] if each["unstable"]]
    but = f"Not quotable by the same measure: {'; '.join(restless)}." if restless else ""
    return Trust(True, f"Quotable: {differed}, with 99 % confidence.", but)


def remark(found: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """Return the one sentence that a cell adds to what the first one says."""
    if cell["axis"] == "idle":
        idle = [each for each in cell["findings"] if each["reference"].endswith(ALONE)]
        said = [f"{_engine(found, each)} {price(each)}" for each in idle]
        if said:
            return f"What {cell['load']['idle']:,} idle clients do to a message: {', '.join(said)}."
    best = _best(found, cell)
    said = [_against(each) for each in _of(cell, best["name"])] if best else []
    if not best or not said:
        return ""
    cost = microseconds(cell["figures"][best["name"]]["cpu_us_per_message"])
    return f"{best['engine'] or best['name']} takes {cost}: {', '.join(said)}."


def asked(found: Mapping[str, Any]) -> list[str]:
    """Return what was asked, in any cell."""
    return list(dict.fromkeys(f["asks"] for cell in found["cells"] for f in cell["findings"]))


def beside_others(found: Mapping[str, Any]) -> list[str]:
    """Return what was asked of the engine one would take, beside what others would write."""
    known = (peers.ASYNCIO, peers.UVLOOP, peers.FLOOR)
    best = _best(found, found["cells"][0])
    engine = best["engine"] if best else ""
    return list(
        dict.fromkeys(
            each["asks"]
            for cell in found["cells"]
            for each in cell["findings"]
            if each["reference"] in known and each["subject"].startswith(f"{engine} ")
        )
    )


def price(finding: Mapping[str, Any]) -> str:
    """Return a ratio of costs in words: what can be told, and no more."""
    figure = ratio(finding["ratio"])
    return {
        "less": f"{figure}, cheaper",
        "more": f"{figure}, dearer",
        "no difference": f"{figure}, no difference",
        "unclear": f"{figure}, unclear",
        "too few rounds": f"{figure}, too few rounds to say",
    }[finding["verdict"]]


def ratio(interval: Mapping[str, float | None]) -> str:
    """Return a ratio with its interval."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return f"x{interval['median']:.3f} [no interval]"
    return f"x{interval['median']:.3f} [{low:.3f}, {high:.3f}]"


def microseconds(value: float) -> str:
    """Return a time of some microseconds for people: three digits, and a unit."""
    if not math.isfinite(value) or value <= 0:
        return "-"
    unit, scaled = ("ms", value / 1000) if value >= 1000 else ("µs", value)
    digits = max(0, _ACCURATE - 1 - math.floor(math.log10(scaled)))
    return f"{scaled:.{digits}f} {unit}"


def again(cell: Mapping[str, Any]) -> list[str]:
    """Return in sentences which windows of a cell were taken again, and which are missing."""
    lines = []
    retaken, kept = cell["windows_retaken"], cell["windows_robbed"]
    starved, missed = cell["windows_starved"], cell["windows_missed"]
    if retaken:
        lines.append(
            f"Others had the core in {retaken + kept:,} windows (stolen time): "
            f"{retaken:,} were taken again, {kept:,} kept at the last try"
        )
    if starved:
        lines.append(
            f"No reply came in {starved + missed:,} windows, and nothing failed (a busy machine): "
            f"{starved:,} were taken again and longer, {missed:,} are missing"
        )
    return lines


def plain(text: str) -> str:
    """Return a sentence without its marks."""
    return text.replace("**", "")


def _against(finding: Mapping[str, Any]) -> str:
    """Return what an engine costs beside another: a fact only where it is one."""
    other, said = finding["reference"], finding["verdict"]
    if said in ("less", "more"):
        return f"{_times(finding['ratio'])} {other}"
    if said == "too few rounds":
        return f"too few rounds to say against {other}"
    words = {"no difference": "no difference to", "unclear": "unclear against"}[said]
    return f"{words} {other} ({ratio(finding['ratio'])})"


def _times(interval: Mapping[str, float]) -> str:
    """Return how much more or less, with its interval: in per cent where that is not too much."""
    low, median, high = interval["low"], interval["median"], interval["high"]
    if median > _TWICE:
        return f"{median:.2g} times ({low:.2g} to {high:.2g}) the CPU of"
    if median > 1:
        return f"{median - 1:.0%} more ({low - 1:.0%} to {high - 1:.0%}) than".replace("%", " %")
    return f"{1 - median:.0%} less ({1 - high:.0%} to {1 - low:.0%}) than".replace("%", " %")


def _of(cell: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield what was asked of a subject, the references that people know first."""
    known = (peers.ASYNCIO, peers.UVLOOP)
    found = [f for f in cell["findings"] if f["subject"] == name and ALONE not in f["reference"]]
    others = [each for each in found if each["reference"] in known] or found[:1]
    yield from sorted(others, key=lambda each: each["reference"])


def _best(found: Mapping[str, Any], cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the engine that one would take, of those that did this work: the last one named."""
    did = [each for each in found["subjects"] if each["name"] in cell["figures"]]
    engines = [each for each in did if each["engine"] and each["handler"] != "adapter"]
    decided: Sequence[Mapping[str, Any]] = [e for e in engines if e["handler"] != "verb"]
    return (decided or engines or did or [None])[-1]


def _engine(found: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    engines = {each["name"]: each["engine"] for each in found["subjects"]}
    return engines.get(finding["subject"]) or str(finding["subject"])
