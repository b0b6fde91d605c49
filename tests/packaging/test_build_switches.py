"""MUXCORE_BUILD says what is built; what cannot be built is said in one sentence."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_INSTRUCTION = "install gcc and the python3 headers, or set MUXCORE_BUILD=pure"


@pytest.fixture
def setup(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("muxcore_setup", root / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wheel(run: Run, source: Path, out: Path, **env: str) -> str:
    """Build a wheel; return its name, or, where it was to fail, what the build said."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out]
    fails = "CC" in env and env.get("MUXCORE_BUILD") != "pure"
    said = run(*command, cwd=source, env=env, fails=fails).stdout
    return said if fails else next(out.iterdir()).name


@pytest.mark.parametrize("switch", ["", "native"])
def test_linux_builds_the_core_unless_told_otherwise(
    switch: str, setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUXCORE_BUILD", switch)
    assert setup.options()["cffi_modules"] == ["csrc/builder.py:ffibuilder"]


@pytest.mark.parametrize(("platform", "switch"), [("linux", "pure"), ("darwin", "")])
def test_a_pure_build_knows_nothing_of_the_core(
    platform: str, switch: str, setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("MUXCORE_BUILD", switch)
    assert setup.options() == {}


@pytest.mark.parametrize(
    ("platform", "switch", "said"),
    [
        ("linux", "fast", "MUXCORE_BUILD is 'fast': set it to native or pure, or unset it"),
        ("darwin", "native", "MUXCORE_BUILD=native needs Linux, this is darwin"),
    ],
)
def test_a_switch_that_cannot_be_obeyed_is_refused_by_name(
    platform: str, switch: str, said: str, setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("MUXCORE_BUILD", switch)
    with pytest.raises(SystemExit, match=said):
        setup.options()


@pytest.mark.parametrize(
    ("version", "free_threaded", "tag"),
    [
        ((3, 11), None, "cp311"),
        ((3, 15), 0, "cp311"),
        ((3, 14), 1, None),
        ((3, 15), 1, "cp315"),
    ],
)
def test_a_wheel_promises_the_oldest_stable_abi_its_interpreter_can_keep_to(
    version: tuple[int, int],
    free_threaded: int | None,
    tag: str | None,
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    assert setup.stable_abi() == tag


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("no-such-cc", "there is no C compiler ('no-such-cc' is not installed)"),
        ("false", "the C compiler 'false' is there, but not one that works"),
    ],
)
def test_a_missing_or_broken_compiler_is_found_before_anything_is_compiled(
    compiler: str, said: str, setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MUXCORE_BUILD", raising=False)
    monkeypatch.setenv("CC", compiler)
    assert setup.problem() == said
    monkeypatch.setenv("MUXCORE_BUILD", "pure")
    assert setup.problem() is None


@pytest.mark.wheel
@pytest.mark.parametrize("switch", [{}, {"MUXCORE_BUILD": "native"}])
@pytest.mark.parametrize("compiler", ["no-such-cc", "false"])
def test_a_build_without_a_compiler_fails_with_one_instruction(
    compiler: str, switch: dict[str, str], run: Run, source: Path, tmp_path: Path
) -> None:
    said = _wheel(run, source, tmp_path / "out", CC=compiler, **switch)
    (line,) = [line for line in said.splitlines() if line.startswith("muxcore: ")]
    assert line.endswith(_INSTRUCTION)


@pytest.mark.wheel
def test_a_pure_build_needs_no_compiler_and_makes_a_wheel_for_any_platform(
    run: Run, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    name = _wheel(run, source, out, CC="no-such-cc", MUXCORE_BUILD="pure")
    assert name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(out / name) as archive:
        assert not [member for member in archive.namelist() if member.endswith(".so")]


@pytest.mark.wheel
@pytest.mark.timeout(240)
def test_a_pure_build_serves_and_says_why_the_core_is_not_there(
    run: Run, source: Path, environment: Callable[[Path], Path], tmp_path: Path
) -> None:
    _wheel(run, source, tmp_path / "out", MUXCORE_BUILD="pure")
    python = environment(Path(sys.executable))
    run(python, "-m", "pip", "install", "--quiet", next((tmp_path / "out").iterdir()))
    said = run(python, "-m", "muxcore", "engines", "--json", cwd=tmp_path).stdout
    engines = {info["name"]: info for info in json.loads(said)}
    assert engines["pure-epoll"]["available"]
    reason = "the C core is not built: this is a pure build (MUXCORE_BUILD=pure)"
    assert engines["native-epoll"]["reason"].startswith(reason)


@pytest.mark.wheel
def test_a_core_that_does_not_compile_fails_the_build_instead_of_going_missing(
    run: Run, source: Path, tmp_path: Path
) -> None:
    unit = next((source / "csrc").glob("*.c"))
    unit.write_text(unit.read_text() + "\n#error broken on purpose\n")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    said = run(*command, "--outdir", tmp_path / "out", cwd=source, fails=True).stdout
    assert "broken on purpose" in said
    assert "muxcore: the C core does not build, see the compiler's words above" in said
    assert _INSTRUCTION in said
