"""The table of scenarios and engines, the rule for skips, and what tests of several rooms need.

A scenario of the suites may be skipped only for a capability that the engine does not have; the
reference engines of the readiness models have what every scenario needs, so there nothing is
skipped, but what select(2) itself cannot, or where this system has not the descriptors.
``pytest --engines-table`` prints who passed what; CI always does.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# the references, and what their system call cannot: there nothing else may be skipped
_REFERENCES = {"pure-select": "hears_resets", "pure-epoll": ""}
_TABLE = "muxcore-scenarios"  # the name of the plug-in that keeps the outcomes
_FEW = 2048  # descriptors: below, what passes select's 1,024 cannot be tried
_MARKS = {"passed": "+", "failed": "FAIL", "skipped": "-"}

_ENGINE = "engine"  # the property of a report that says whose it is
_STDERR = pytest.StashKey[int]()  # a copy of standard error that no test captures
# s beyond the time of a test: what is raised in it then may be caught by what hangs (an event loop,
# who handles everything), and nobody would ever be told which test it was
_HANGS = 30.0


class _Table:
    """Scenario, engine, outcome; of every report, whichever process made it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        engine = dict(report.user_properties).get(_ENGINE)
        if engine and (report.when == "call" or not report.passed):
            scenario = report.nodeid.rpartition("::")[2]
            self.rows.setdefault(scenario, {})[str(engine)] = report.outcome


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engines-table", action="store_true", help="print which engine passed which scenario"
    )


def pytest_configure(config: pytest.Config) -> None:
    # What an example takes is the machine's affair, which may stand still in any of them
    hypothesis.settings.register_profile(
        "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("patient")
    config.pluginmanager.register(_Table(), _TABLE)
    config.stash[_STDERR] = os.dup(2)
    # nohup(1), or "&" in a shell, lets these be ignored; programs inherit it: the tests send them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _end_if_it_hangs(item: pytest.Item) -> None:
    """Have this process print where each thread is, and end, when the test should long be over."""
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0] if marker else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(seconds + _HANGS, exit=True, file=item.config.stash[_STDERR])


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _end_if_it_hangs(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: object) -> None:
    """Go on watching: pytest stops it here, for debuggers, and a tear-down can hang as well."""
    if isinstance(node, pytest.Item):
        _end_if_it_hangs(node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    suite = getattr(item, "cls", None)
    if not getattr(suite, "engine", ""):
        return report
    if report.skipped:
        problem = _unexplained(suite.engine, call)
        if problem:
            report.outcome = "failed"
            report.longrepr = problem
    report.user_properties.append((_ENGINE, suite.__name__.removeprefix("Test")))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.pluginmanager.get_plugin(_TABLE).rows
    if not results or not (config.getoption("--engines-table") or os.environ.get("CI")):
        return
    columns = sorted({column for row in results.values() for column in row})
    terminalreporter.section("scenario x engine")
    terminalreporter.line(
        "+ passed, - the engine lacks a capability it needs, blank: not its model"
    )
    terminalreporter.line(" ".join(columns))
    for scenario, row in results.items():
        marks = " ".join(
            _MARKS.get(row.get(column, ""), "").center(len(column)) for column in columns
        )
        terminalreporter.line(f"{marks}  {scenario.removeprefix('test_').replace('_', ' ')}")


def _unexplained(engine: str, call: pytest.CallInfo[None]) -> str:
    """Return why a skip is not allowed, or "" where the engine's capabilities explain it."""
    import muxcore

    reason = str(call.excinfo.value) if call.excinfo else ""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < _FEW and reason.endswith(f"descriptors are needed, `ulimit -Hn` is {hard}"):
        return ""
    if not reason.startswith(f"the engine {engine} has no "):
        return f"skipped for no capability: {reason}"
    capability = reason.rpartition(" ")[2]
    if engine in _REFERENCES and capability != _REFERENCES[engine]:
        return f"{engine} is a reference: nothing may be skipped there ({reason})"
    if capability in muxcore.engine(engine).capabilities:
        return f"skipped for a capability that {engine} has: {capability}"
    return ""


@pytest.fixture(scope="session")
def certificate_for(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, Path]]:
    """Return a certificate for a server of some name and its key, both made for this run."""

    def make(name: str) -> tuple[Path, Path]:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed (Debian and Ubuntu: apt-get install openssl)")
        folder = tmp_path_factory.mktemp("certificate")
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
            f" -subj /CN={name} -addext subjectAltName=DNS:{name}"
            " -keyout key.pem -out certificate.pem"
        )
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=30)
        return folder / "certificate.pem", folder / "key.pem"

    return make
