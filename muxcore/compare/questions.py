"""The few comparisons that are planned before anything is measured.

Each comparison more widens the interval of all, since all of them together are to hold 99 %. So
only these are judged, by the CPU of a message; the rate says the same where the server was the
limit, and nothing of it where the client was. What else two rows seem to differ by is not claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muxcore.compare import peers
from muxcore.compare.rounds import Cell
from muxcore.compare.servers import Subject

ALONE = ", nobody idle"  # added to a subject's name: the same work without the idle clients


@dataclass(frozen=True, slots=True)
class Question:
    """What does ``subject`` cost, as a multiple of ``reference``? ``asks`` says it to people."""

    subject: str
    reference: str
    asks: str


def planned(subjects: Sequence[Subject]) -> list[Question]:
    """Return the comparisons worth planning among these subjects, each once."""
    return list(
        {
            (each.subject, each.reference): each
            for found in (_implementations, _models, _others, _verbs, _idle)
            for each in found(subjects)
        }.values()
    )


def without_idle(subjects: Sequence[Subject], cells: Sequence[Cell]) -> list[Subject]:
    """Return for each model's first engine the same server without the idle clients of a cell.

    Measured in the same rounds as the engine with them: so the cost of idle clients is a ratio of
    windows that lay side by side.
    """
    crowd = next((cell for cell in cells if cell.load.get("idle")), None)
    if crowd is None:
        return []
    firsts = [*_firsts(_decided(subjects)).values(), *_best(subjects)]
    return [
        replace(each, name=each.name + ALONE, only=crowd.name, load={**each.load, "idle": 0})
        for each in dict.fromkeys(firsts)
    ]


def count(questions: Sequence[Question], subjects: Sequence[Subject], cells: int) -> int:
    """Return how many comparisons these are, over all cells, for the correction."""
    only = {each.name: each.only or each.fresh for each in subjects}
    once = sum(1 for each in questions if only[each.subject] or only[each.reference])
    return once + (len(questions) - once) * cells


def _implementations(subjects: Sequence[Subject]) -> list[Question]:
    """Each further engine of a model against its first, the plainest: the native one, a plug-in."""
    found: list[Question] = []
    firsts: dict[tuple[str, str], Subject] = {}
    for each in _engines(subjects):
        first = firsts.setdefault((_model(each), each.handler), each)
        if first is not each:
            asks = f"{each.engine} against {first.engine}, {_by(each)}"
            found.append(Question(each.name, first.name, asks))
    return found


def _models(subjects: Sequence[Subject]) -> list[Question]:
    """Each model's first engine against the last model's: select against epoll."""
    firsts = list(_firsts(_decided(subjects)).values())
    return [
        Question(each.name, firsts[-1].name, f"{each.engine} against {firsts[-1].engine}")
        for each in firsts[:-1]
    ]


def _others(subjects: Sequence[Subject]) -> list[Question]:
    """The best engine against what others would write; an adapter against its bare loop."""
    names = {each.name for each in subjects}
    found = []
    for each in _best(subjects):
        for peer in (peers.ASYNCIO, peers.UVLOOP):
            if peer in names and each.handler == "callback":
                found.append(Question(each.name, peer, f"{each.engine} against {peer}"))
    for each in subjects:
        plain = peers.NAMES.get(each.engine)
        if each.handler == "adapter" and plain in names:
            found.append(Question(each.name, plain, f"what the {each.name} costs its loop"))
    if {peers.FRESH, peers.ASYNCIO} <= names:
        found.append(
            Question(peers.FRESH, peers.ASYNCIO, "asyncio before its first client has left")
        )
    return sorted(found, key=lambda each: each.subject)


def _verbs(subjects: Sequence[Subject]) -> list[Question]:
    """The best engine's verb against its callback, and against the least that C can do."""
    names = {each.name for each in subjects}
    found = []
    for each in _best(subjects):
        verb = next((s for s in subjects if s.engine == each.engine and s.handler == "verb"), None)
        if verb is None or each is verb:
            continue
        asks = f"{each.engine}: the verb against the callback"
        found.append(Question(verb.name, each.name, asks))
        if peers.FLOOR in names:
            found.append(Question(verb.name, peers.FLOOR, f"{each.engine}'s verb against bare C"))
    return found


def _idle(subjects: Sequence[Subject]) -> list[Question]:
    return [
        Question(name, each.name, f"what idle clients cost {each.engine}")
        for each in subjects
        if (name := each.name.removesuffix(ALONE)) != each.name
    ]


def _engines(subjects: Sequence[Subject]) -> list[Subject]:
    """Return muxcore's own engines: no adapters, no peers, nobody twice."""
    return [
        each for each in subjects if each.engine and not each.only and each.handler != "adapter"
    ]


def _decided(subjects: Sequence[Subject]) -> list[Subject]:
    """Return those whose messages pass through Python: the work that all can be compared on."""
    engines = _engines(subjects)
    return [each for each in engines if each.handler != "verb"] or engines


def _firsts(subjects: Sequence[Subject]) -> dict[str, Subject]:
    found: dict[str, Subject] = {}
    for each in subjects:
        found.setdefault(_model(each), each)
    return found


def _best(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the engine that a user would take, if there is one: subjects come plainest first."""
    return _decided(subjects)[-1:]


def _model(subject: Subject) -> str:
    return subject.engine.partition("-")[2] or subject.engine


def _by(subject: Subject) -> str:
    return {"verb": "by the verb", "callback": "by the callback"}.get(subject.handler, "")
