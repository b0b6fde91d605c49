"""The registry: what a name means, when there is a fallback (almost never), and plug-ins."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import muxcore
from muxcore.abc import CAPABILITIES, Engine
from muxcore.errors import CapabilityMissing, EngineUnavailable, UnknownEngine
from muxcore.native.native_engine import NativeEpollEngine
from muxcore.pure.epoll_engine import EpollEngine
from muxcore.pure.process_engine import ProcessEngine
from muxcore.pure.select_engine import SelectEngine

_BUILT_IN = (NativeEpollEngine, EpollEngine, SelectEngine, ProcessEngine)

_WORKING = """
from muxcore.pure.select_engine import SelectEngine

class Mine(SelectEngine):
    name, model, priority = "mine", "select", {priority}
"""

Install = Callable[..., None]


def _claims(line: str) -> str:
    """Return a plug-in that would be the first choice, and says something wrong of itself."""
    return _WORKING.format(priority=99) + f"    {line}\n"


@pytest.fixture(autouse=True)
def all_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every engine of ours run here, whatever this system and this build are."""
    monkeypatch.delenv("MUXCORE_ENGINE", raising=False)
    for cls in _BUILT_IN:
        monkeypatch.setattr(cls, "unavailable", classmethod(lambda cls: None))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What makes engines unavailable."""

    def take_away(*engines: type[Engine]) -> None:
        why = ("it needs Linux 6.1, this is 5.10", "take another")
        for cls in engines:
            monkeypatch.setattr(cls, "unavailable", classmethod(lambda cls: why))

    return take_away


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """What installs a distribution with an engine in it: its metadata and its module."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(engine: str, module: str, source: str, attribute: str = "Mine") -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[muxcore.engines]\n{engine} = {module}:{attribute}\n"
        )

    return add


def info_of(name: str) -> muxcore.EngineInfo:
    return next(info for info in muxcore.engines() if info.name == name)


# -- what a name means


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        (None, "native-epoll"),
        ("auto", "native-epoll"),
        ("native", "native-epoll"),
        ("pure", "pure-epoll"),
        ("epoll", "native-epoll"),
        ("select", "pure-select"),
        ("process", "pure-process"),
        ("native-epoll", "native-epoll"),
        ("pure-epoll", "pure-epoll"),
        ("pure-select", "pure-select"),
        ("pure-process", "pure-process"),
        ("asyncio", "asyncio"),
    ],
)
def test_each_name_means_one_engine(name: str | None, chosen: str) -> None:
    assert muxcore.engine(name).name == chosen


def test_a_name_that_nobody_has_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownEngine, match="no engine is named 'kqueue': take one of") as caught:
        muxcore.engine("kqueue")
    for name in ("auto", "pure", "native", "epoll", "select", "process", "pure-select", "uvloop"):
        assert name in str(caught.value)


def test_the_variable_chooses_where_the_argument_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXCORE_ENGINE", "select")
    assert muxcore.engine().name == "pure-select"
    assert muxcore.engine("process").name == "pure-process"
    assert muxcore.engine("auto").name == "native-epoll"
    monkeypatch.setenv("MUXCORE_ENGINE", "")
    assert muxcore.engine().name == "native-epoll"


def test_a_wrong_variable_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXCORE_ENGINE", "epol")
    with pytest.raises(UnknownEngine, match=r"'epol' \(from MUXCORE_ENGINE\)"):
        muxcore.engine()


# -- when there is a fallback


def test_auto_falls_back_to_the_next_and_logs_one_line(
    without: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    without(NativeEpollEngine, EpollEngine)
    with caplog.at_level(logging.DEBUG, "muxcore"):
        assert muxcore.engine("auto").name == "pure-select"
    (line,) = caplog.messages
    assert "'native-epoll' is not available: it needs Linux 6.1" in line
    assert line.endswith("taking pure-select")


def test_auto_logs_nothing_where_the_best_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "muxcore"):
        muxcore.engine("auto")
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["native-epoll", "native"])
def test_an_explicit_choice_never_falls_back(without: Callable[..., None], name: str) -> None:
    without(NativeEpollEngine)
    with pytest.raises(EngineUnavailable) as caught:
        muxcore.engine(name)
    assert (caught.value.name, caught.value.advice) == ("native-epoll", "take another")
    assert str(caught.value) == (
        "engine 'native-epoll' is not available: it needs Linux 6.1, this is 5.10; take another"
    )


def test_a_choice_by_the_variable_never_falls_back_either(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(NativeEpollEngine)
    monkeypatch.setenv("MUXCORE_ENGINE", "native-epoll")
    with pytest.raises(EngineUnavailable, match=r"needs Linux 6\.1"):
        muxcore.engine()


def test_a_model_means_its_best_available_engine(
    without: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    without(NativeEpollEngine)
    assert muxcore.engine("epoll").name == "pure-epoll"
    assert muxcore.engine("pure").name == "pure-epoll"
    assert caplog.messages == []  # it is what was asked for, and no fallback
    without(EpollEngine)
    with pytest.raises(EngineUnavailable, match="'native-epoll'"):
        muxcore.engine("epoll")  # asyncio's model is epoll too: it is chosen by its name only
    assert muxcore.engine("pure").name == "pure-select"


def test_auto_never_takes_an_adapter(without: Callable[..., None]) -> None:
    without(*_BUILT_IN)
    with pytest.raises(EngineUnavailable):
        muxcore.engine("auto")


# -- what is listed


def test_engines_are_listed_the_preferred_first_with_what_they_can(
    without: Callable[..., None],
) -> None:
    without(EpollEngine)
    listed = muxcore.engines()
    assert [info.name for info in listed if info.priority] == [
        "native-epoll",
        "pure-epoll",
        "pure-select",
        "pure-process",
    ]
    assert {"asyncio", "uvloop"} == {info.name for info in listed if not info.priority}
    gone = info_of("pure-epoll")
    assert (gone.available, gone.model) == (False, "epoll")
    assert gone.reason == "it needs Linux 6.1, this is 5.10; take another"
    there = info_of("pure-select")
    assert (there.available, there.reason) == (True, "")
    assert there.capabilities == SelectEngine.capabilities


def test_every_capability_that_an_engine_claims_is_explained() -> None:
    for info in muxcore.engines():
        assert info.capabilities <= set(CAPABILITIES), info.name


def test_an_engine_whose_check_itself_fails_is_listed_with_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr(NativeEpollEngine, "unavailable", broken)
    assert info_of("native-epoll").reason == "OSError: no /proc here"
    assert muxcore.engine("auto").name == "pure-epoll"


# -- requirements


def test_what_a_service_requires_is_compared_and_engines_that_have_it_are_named() -> None:
    class Room:
        requires = frozenset({"shared_state", "timers"})

        def data_received(self, data: bytes) -> None: ...

    with pytest.raises(CapabilityMissing) as caught:
        muxcore.Server(Room, 0, engine="process")
    assert "requires shared_state, timers" in str(caught.value)
    assert "take native-epoll or pure-epoll or pure-select" in str(caught.value)
    muxcore.Server(Room, 0, engine="select").stop()
    Room.requires = frozenset({"telepathy"})
    with pytest.raises(CapabilityMissing, match="no engine here has it"):
        muxcore.Server(Room, 0, engine="select")


# -- plug-ins


def test_a_plug_in_is_found_listed_and_chosen_by_its_name(install: Install) -> None:
    install("mine", "a_plug_in", _WORKING.format(priority=0))
    info = info_of("mine")
    assert (info.available, info.model, info.priority) == (True, "select", 0)
    assert muxcore.engine("mine").__module__ == "a_plug_in"
    assert muxcore.engine("auto").name == "native-epoll"
    assert muxcore.engine("select").name == "pure-select"


def test_a_plug_in_with_a_priority_is_among_what_auto_takes(install: Install) -> None:
    install("mine", "b_plug_in", _WORKING.format(priority=25))
    names = [info.name for info in muxcore.engines()]
    assert names.index("pure-epoll") < names.index("mine") < names.index("pure-select")
    assert muxcore.engine("auto").name == "native-epoll"
    assert muxcore.engine("select").name == "mine"


def test_a_plug_in_without_a_priority_is_taken_by_its_name_only(
    install: Install, without: Callable[..., None]
) -> None:
    source = _WORKING.format(priority=0)
    install("mine", "c_plug_in", source + "    unavailable = classmethod(lambda cls: None)\n")
    without(*_BUILT_IN)
    for name in ("auto", "select"):
        with pytest.raises(EngineUnavailable, match="needs Linux"):
            muxcore.engine(name)
    assert muxcore.engine("mine").name == "mine"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
        ("Mine = 'a name'", "'a name' is no subclass of muxcore.abc.Engine"),
        ("Mine = dict", "is no subclass of muxcore.abc.Engine"),
        ("Yours = 1", "AttributeError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from muxcore.abc import Engine as Mine", "it is abstract: it does not define abort"),
        (_claims("name = 'yours'"), "its class is named 'yours', and its entry point 'mine'"),
        (_claims("name = None"), "its class is named None"),
        (_claims("model = None"), "its model must be the name of one, such as 'epoll', not None"),
        (_claims("model = 'auto'"), "its model must be .*, not 'auto'"),
        (_claims("priority = 'high'"), "its priority must be a whole number, not 'high'"),
        (_claims("capabilities = None"), "its capabilities must be a frozenset of names, not None"),
        (_claims("capabilities = 'relay'"), "its capabilities must be a frozenset"),
        (_claims("capabilities = frozenset({5})"), "its capabilities must be a frozenset"),
        (_claims("unavailable = classmethod(lambda cls: 'no')"), "TypeError: unavailable"),
        (_claims("unavailable = classmethod(lambda cls: exit(3))"), "SystemExit: 3"),
        (
            _WORKING.format(priority=99)
            + "    @classmethod\n    def unavailable(cls): raise OSError('no luck')\n",
            "OSError: no luck",
        ),
    ],
)
def test_a_broken_plug_in_is_listed_with_its_error_and_breaks_nothing(
    install: Install, source: str, reason: str
) -> None:
    install("mine", f"broken_{zlib.crc32(source.encode())}", source)
    info = info_of("mine")
    assert not info.available
    assert re.search(reason, info.reason)
    assert muxcore.engine("auto").name == "native-epoll"
    assert muxcore.engine("select").name == "pure-select"
    assert len(muxcore.engines()) == len(_BUILT_IN) + 3
    with pytest.raises(EngineUnavailable, match="engine 'mine' is not available"):
        muxcore.engine("mine")


def test_a_plug_in_cannot_take_a_name_of_ours(install: Install) -> None:
    install("pure-select", "thief", _WORKING.format(priority=99))
    assert muxcore.engine("pure-select") is SelectEngine
    assert [info.name for info in muxcore.engines()].count("pure-select") == 1


@pytest.mark.parametrize("name", ["auto", "pure", "native", "epoll", "select", "process"])
def test_a_plug_in_cannot_take_the_name_of_a_choice_and_is_listed_with_that(
    install: Install, name: str
) -> None:
    before = muxcore.engine(name)
    install(name, f"usurper_{name}", _WORKING.format(priority=99).replace("mine", name))
    assert muxcore.engine(name) is before
    info = info_of(name)
    assert not info.available
    assert "its name means a choice among engines; report it" in info.reason
    assert info.priority == 0


def test_an_interrupt_while_a_plug_in_is_imported_is_the_users(install: Install) -> None:
    install("mine", "slow_plug_in", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        muxcore.engines()
