"""Every gate that a wheel passes before anybody installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(240)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# argon2-cffi-bindings ships 26 KB of glue, uvloop 4 MB with libuv inside. Ours is Python, some
# 560 KB of it compressed, and a core of 64 KB; much more means that something slipped in.
_WHEEL_MAX = 800 << 10
_GLIBC_MAX = (2, 28)  # manylinux_2_28: what the oldest distributions in support have


def _members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _core(wheel: Path) -> bytes:
    (found,) = [data for name, data in _members(wheel).items() if name.endswith(".so")]
    return found


def test_the_wheel_is_for_every_cpython_from_the_oldest_on(wheel: Path) -> None:
    assert re.search(r"-cp311-abi3-(manylinux|musllinux)", wheel.name), wheel.name


def test_the_wheel_holds_every_module_of_the_source(wheel: Path, root: Path) -> None:
    modules = {name for name in _members(wheel) if name.endswith((".py", ".pyi", "py.typed"))}
    source = {str(path.relative_to(root)) for path in (root / "muxcore").rglob("*.py*")}
    expected = {name for name in source if not name.endswith(".pyc")} | {"muxcore/py.typed"}
    assert modules == expected


def test_auditwheel_finds_a_tag_that_every_distribution_in_support_accepts(
    run: Run, wheel: Path
) -> None:
    shown = " ".join(run(sys.executable, "-m", "auditwheel", "show", wheel).stdout.split())
    match = re.search(r'platform tag: "manylinux_(\d+)_(\d+)_', shown)
    assert match, shown
    assert (int(match[1]), int(match[2])) <= _GLIBC_MAX


def test_abi3audit_finds_nothing_beyond_the_stable_abi(run: Run, wheel: Path) -> None:
    run(sys.executable, "-m", "abi3audit", "--strict", wheel)


def test_twine_finds_the_metadata_complete(run: Run, sdist: Path, wheel: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)


def test_check_wheel_contents_finds_no_stray_file(run: Run, wheel: Path) -> None:
    run(sys.executable, "-m", "check_wheel_contents", wheel)


def test_the_core_needs_libc_only_and_names_no_folder_to_search(wheel: Path) -> None:
    from elftools.elf.elffile import ELFFile

    dynamic = ELFFile(BytesIO(_core(wheel))).get_section_by_name(".dynamic")
    tags = {tag.entry.d_tag: tag for tag in dynamic.iter_tags()}
    assert not {"DT_RPATH", "DT_RUNPATH"} & tags.keys()
    needed = {t.needed for t in dynamic.iter_tags() if t.entry.d_tag == "DT_NEEDED"}
    assert needed <= {"libc.so.6", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}


def test_the_core_exports_nothing_but_its_entry_point(wheel: Path) -> None:
    from elftools.elf.elffile import ELFFile

    symbols = ELFFile(BytesIO(_core(wheel))).get_section_by_name(".dynsym").iter_symbols()
    exported = {
        s.name
        for s in symbols
        if s.entry.st_shndx != "SHN_UNDEF" and s.entry.st_info.bind == "STB_GLOBAL"
    }
    # Two modules of one process must not see each other's functions by accident.
    assert exported - {"_init", "_fini"} == {"PyInit__core"}


def test_no_path_of_the_building_machine_is_in_the_wheel(wheel: Path, root: Path) -> None:
    traces = [str(root).encode(), str(Path.home()).encode() + b"/", b"/tmp/"]
    found = {
        (name, trace)
        for name, data in _members(wheel).items()
        for trace in traces
        if trace in data and not name.endswith((".py", "METADATA"))
    }
    assert not found


def test_the_wheel_keeps_to_its_size(wheel: Path) -> None:
    assert wheel.stat().st_size <= _WHEEL_MAX


def test_two_builds_in_different_folders_are_byte_identical(
    run: Run, unpack: Callable[[Path], Path], tmp_path: Path
) -> None:
    built = []
    for folder in ("one", "a-longer-name"):
        source = unpack(tmp_path / folder)
        out = tmp_path / f"dist-{folder}"
        run(
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out),
            cwd=source,
            env={"SOURCE_DATE_EPOCH": "1760000000", "MUXCORE_BUILD": "native"},
        )
        (made,) = out.iterdir()
        built.append(_members(made))
    first, second = built
    assert [name for name in first if first[name] != second.get(name)] == []
    assert list(first) == list(second)
