"""The site holds what it should, and takes nothing from elsewhere; `make docs` builds it first."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

import muxcore
import muxcore.load
from muxcore import cli
from muxcore.abc import CAPABILITIES

pytestmark = pytest.mark.docs

_ROOT = Path(__file__).parents[2]
_SITE = _ROOT / "build" / "docs"
_LISTED = (_ROOT / "tests" / "packaging" / "public_api.txt").read_text(encoding="utf-8")

_ELSEWHERE = re.compile(r"<(?!a\b)[a-z]+ [^>]*(?:src|href)=\"(?:https?:)?//[^>]*>")  # but links


def page(name: str) -> str:
    return (_SITE / f"{name}.html").read_text(encoding="utf-8")


def inventory() -> set[str]:
    """Return the names that the reference has: objects.inv is four lines, then zlib."""
    packed = (_SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_the_reference_has_every_public_name() -> None:
    lines = [line for line in _LISTED.splitlines() if not line.startswith(" ")]
    names = {re.split(r"[( ]", line.removeprefix("class "))[0] for line in lines}
    names |= {f"muxcore.load.{name}" for name in muxcore.load.__all__}
    names -= {"muxcore.__version__"}
    assert len(names) > 100
    assert names - inventory() == set()


def test_the_reference_has_every_method_and_property() -> None:
    members = set(re.findall(r"^  ([\w.]+\.[a-z]\w*)(?:\(|: property)", _LISTED, re.MULTILINE))
    assert len(members) > 100
    # What a second module shows, too, is told of where the first one is.
    elsewhere = {name for name in members if name.startswith("muxcore.aio.")}
    elsewhere = {name for name in elsewhere if name.replace(".aio.", ".", 1) in members}
    assert members - inventory() - elsewhere == set()


def test_what_is_experimental_is_marked_and_listed() -> None:
    marked = re.findall(r"^(?:class )?([\w.]+).*  # experimental$", _LISTED, re.MULTILINE)
    assert marked
    listed = page("stability")
    assert [name for name in marked if f'#{name}"' not in listed] == []
    told = page("reference/aio").partition('id="muxcore.aio.splice"')[2]
    assert "Experimental" in told.partition("<dt")[0]


def test_every_command_and_every_engine_is_there() -> None:
    commands = page("reference/commands")
    assert [name for name in cli.COMMANDS if f"muxcore {name}<a" not in commands] == []
    engines = page("engines")
    words = [*CAPABILITIES, *(info.name for info in muxcore.engines())]
    assert [word for word in words if f">{word}</span>" not in engines] == []


def test_a_page_loads_nothing_from_elsewhere() -> None:
    pages = list(_SITE.rglob("*.html"))
    assert len(pages) > 20
    for each in pages:
        assert _ELSEWHERE.findall(each.read_text(encoding="utf-8")) == [], each
    for sheet in _SITE.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text()), sheet
