"""The report of a comparison in a real browser: its console, charts, width and requests."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muxcore.compare.plan import quick
from muxcore.compare.report.page import page
from muxcore.compare.servers import echo_subject
from muxcore.compare.session import compare

pytestmark = pytest.mark.real

_NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian's, Ubuntu's, its makers'

# In a container there is no sandbox to be had, and a browser left to itself looks for updates.
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
    " --enable-logging=stderr --window-size=1400,1000 --virtual-time-budget=5000"
).split()

_BROWSER = "not an origin"  # of a request that no page made

# What the browser has made of the page; the report itself has no script.
_PROBE = """
<script>
const shapes = [...document.querySelectorAll("svg *")].filter(e => e.getBBox);
const sizes = shapes.map(e => e.getBBox()).map(box => box.width + box.height);
parent.postMessage(JSON.stringify({
  wide: document.documentElement.scrollWidth, window: window.innerWidth,
  charts: document.querySelectorAll("svg").length,
  drawn: sizes.filter(size => size > 0).length,
  paper: getComputedStyle(document.body).backgroundColor,
}), "*");
</script>
"""

# A window of a browser has a least width, which is above a phone's; a frame has none.
_FRAME = """\
<!doctype html><title>A frame</title><body style="margin:0">
<script>onmessage = event => document.body.dataset.found = event.data</script>
<iframe src="page.html" style="border:0" width="WIDTH" height="900"></iframe>
"""


class Shown(NamedTuple):
    """What a browser showed."""

    found: dict[str, Any]
    console: list[str]
    requests: set[str]


class _Body(HTMLParser):
    found = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self.found = dict(attrs).get("data-found") or ""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a small comparison that has every part a large one has."""
    subjects = [
        echo_subject(name, handler)
        for name in ("pure-select", "pure-epoll")
        for handler in ("verb", "callback")
    ]
    cells = tuple(replace(cell, rounds=15) for cell in quick().cells)
    plan = replace(quick(), cells=cells, blocks=1, fractions=(0.5,), latency_rounds=2, costs=True)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(compare(subjects, plan, random.Random(1))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browse(
    run: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, int, bool], Shown]:
    """Show a page in a frame so many pixels wide, with the probe at its end."""
    browser = next(filter(shutil.which, _NAMES), _NAMES[0])

    def browse(shown: Path, width: int, dark: bool) -> Shown:
        folder = tmp_path_factory.mktemp("browser")
        text = shown.read_text(encoding="utf-8")
        (folder / "page.html").write_text(text + _PROBE, encoding="utf-8")
        frame = folder / "frame.html"
        frame.write_text(_FRAME.replace("WIDTH", str(width)))
        log, console = folder / "requests.json", folder / "console"
        own = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
        scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
        with console.open("w") as complaints:
            dom = run(
                *[browser, *_OPTIONS, *own, scheme, "--dump-dom", frame.as_uri()],
                seconds=60,
                stderr=complaints,
            )
        body = _Body()
        body.feed(dom)
        return Shown(
            json.loads(body.found),
            [line for line in console.read_text().splitlines() if ":CONSOLE" in line],
            _requests(json.loads(log.read_text())),
        )

    return browse


def _requests(log: dict[str, Any]) -> set[str]:
    """Return what pages asked for over the network; the browser asks for things of its own."""
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    began = (event.get("params", {}) for event in log["events"] if event["type"] == start)
    return {each["url"] for each in began if each.get("initiator", _BROWSER) != _BROWSER}


@pytest.mark.timeout(300)  # it waits for the comparison
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360], ids=["desktop", "phone"])
def test_the_report_is_drawn_whole_without_a_complaint_or_a_request(
    report: Path, browse: Callable[..., Shown], width: int, dark: bool
) -> None:
    shown = browse(report, width, dark)
    assert shown.console == []
    assert shown.requests == set()
    assert shown.found["window"] == width
    assert shown.found["wide"] <= width, "the page has to be pushed sideways"
    assert shown.found["charts"] >= 5
    assert shown.found["drawn"] >= 10 * shown.found["charts"]
    assert shown.found["paper"] == ("rgb(20, 24, 30)" if dark else "rgb(255, 255, 255)")


def test_the_browser_would_have_told(browse: Callable[..., Shown], tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    elsewhere = "http://127.0.0.1:9/x.js"
    bad.write_text(
        f'<body><p style="width:900px">wide<script src="{elsewhere}"></script>'
        "<script>missing.name</script>"
    )
    shown = browse(bad, 360, False)
    assert any("missing is not defined" in line for line in shown.console)
    assert elsewhere in shown.requests
    assert shown.found["wide"] >= 900 > shown.found["window"] == 360
    assert shown.found["charts"] == shown.found["drawn"] == 0
