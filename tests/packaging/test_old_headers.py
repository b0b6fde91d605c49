"""The core compiles against headers of glibc 2.17 and of musl, for processors that are not here.

The compiler is a cross compiler from a Python package (ziglang), which carries the headers of every
target; Python's own are those of this interpreter, with the sizes of types taken from the compiler.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

# The first use of a target compiles its libc's start-up files, which takes a while.
pytestmark = [pytest.mark.wheel, pytest.mark.timeout(240)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_TARGETS = {
    "x86_64-linux-gnu.2.17": ("EM_X86_64", 64),
    "aarch64-linux-gnu.2.17": ("EM_AARCH64", 64),
    "riscv64-linux-gnu.2.27": ("EM_RISCV", 64),  # the first glibc that has it
    "x86-linux-gnu.2.17": ("EM_386", 32),
    "arm-linux-gnueabihf.2.17": ("EM_ARM", 32),
    "s390x-linux-gnu.2.17": ("EM_S390", 64),
    "x86_64-linux-musl": ("EM_X86_64", 64),
    "aarch64-linux-musl": ("EM_AARCH64", 64),
}

# An old glibc, musl, another processor with 32 bits, and the one whose bytes lie the other way
_QUICK = (
    "x86_64-linux-gnu.2.17",
    "x86_64-linux-musl",
    "arm-linux-gnueabihf.2.17",
    "s390x-linux-gnu.2.17",
)

_ECHO = """
import platform, socket, muxcore
with muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="native-epoll") as server:
    host, _, port = str(server.addresses[0]).rpartition(":")
    with socket.create_connection((host, int(port)), 30) as client:
        client.sendall(bytes(25000))
        client.shutdown(socket.SHUT_WR)
        print(platform.machine(), len(client.makefile("rb").read()))
"""


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's headers with sizes and byte order as the compiler says, not as this machine has."""
    folder = tmp_path_factory.mktemp("headers") / "python"
    shutil.copytree(sysconfig.get_path("include"), folder)
    config = folder / "pyconfig.h"
    text = Path(sysconfig.get_config_h_filename()).read_text()
    for name, macro in {
        "LONG": "__SIZEOF_LONG__",
        "VOID_P": "__SIZEOF_POINTER__",
        "SIZE_T": "__SIZEOF_SIZE_T__",
        "UINTPTR_T": "__SIZEOF_POINTER__",
        "PTHREAD_T": "__SIZEOF_POINTER__",
        "TIME_T": "__SIZEOF_LONG__",
    }.items():
        text = re.sub(rf"(?m)^(#define SIZEOF_{name}) \d+", rf"\1 {macro}", text)
    text += (
        "\n#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__\n"
        "#undef WORDS_BIGENDIAN\n#define WORDS_BIGENDIAN 1\n#endif\n"
    )
    config.write_text(text)
    return folder


def _cross(target: str, headers: Path) -> dict[str, str]:
    zig = shlex.join([sys.executable, "-m", "ziglang", "cc", "-target", target])
    return {
        "CC": zig,
        "LDSHARED": f"{zig} -shared",
        "CFLAGS": f"-I{headers} -O2 -g0",
        "MUXCORE_BUILD": "native",
        "SOURCE_DATE_EPOCH": "1760000000",
    }


def _build_core(run: Run, source: Path, out: Path, env: dict[str, str]) -> Path:
    run(
        *(
            sys.executable,
            "setup.py",
            "build_ext",
            "--build-lib",
            out,
            "--build-temp",
            out / "temp",
        ),
        cwd=source,
        env=env,
    )
    (core,) = (out / "muxcore" / "native").glob("_core*.so")
    return core


@pytest.mark.parametrize(
    "target",
    [
        target if target in _QUICK else pytest.param(target, marks=pytest.mark.deep)
        for target in _TARGETS
    ],
)
def test_the_core_compiles_for(
    target: str, run: Run, source: Path, headers: Path, tmp_path: Path
) -> None:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    core = _build_core(run, source, tmp_path / "out", _cross(target, headers))
    with core.open("rb") as file:
        elf = ELFFile(file)
        assert (elf.header.e_machine, elf.elfclass) == _TARGETS[target]
        names = [
            version.name
            for section in elf.iter_sections()
            if isinstance(section, GNUVerNeedSection)
            for _, versions in section.iter_versions()
            for version in versions
        ]
    glibc = re.search(r"gnu\w*\.(\d+)\.(\d+)", target)
    needed = [tuple(map(int, name.split("_")[1].split(".")[:2])) for name in names]
    if glibc:
        assert max(needed) <= (int(glibc[1]), int(glibc[2]))
    else:
        assert not needed, "musl has no versioned symbols"


@pytest.fixture(scope="module")
def oldest(
    unpack: Callable[[Path], Path],
    headers: Path,
    run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with muxcore and a core for the oldest glibc."""
    folder = tmp_path_factory.mktemp("oldest")
    source = unpack(folder / "source")
    core = _build_core(run, source, folder / "out", _cross("x86_64-linux-gnu.2.17", headers))
    shutil.copy(core, source / "muxcore" / "native")
    return source


def test_the_core_for_glibc_2_17_runs_here(
    interpreter: Path, installed: Callable[[Path], Path], run: Run, oldest: Path, tmp_path: Path
) -> None:
    (tmp_path / "echo.py").write_text(_ECHO)
    python = installed(interpreter)  # for its cffi; the package itself is the one below
    env = {"PYTHONPATH": str(oldest)}
    where = "import muxcore.native._core as core; print(core.__file__)"
    assert str(oldest) in run(python, "-c", where, cwd=tmp_path, env=env).stdout
    said = run(python, tmp_path / "echo.py", cwd=tmp_path, env=env).stdout
    assert said.split()[1] == "25000"


def test_the_core_for_aarch64_runs_under_emulation(
    run: Run, source: Path, headers: Path, tmp_path: Path
) -> None:
    where = os.environ.get("MUXCORE_AARCH64_ROOT")
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not where or not emulator:
        pytest.skip("needs qemu-user-static, and tests/packaging/aarch64_root.sh to have been run")
    core = _build_core(run, source, tmp_path / "out", _cross("aarch64-linux-gnu.2.17", headers))
    site = tmp_path / "site"
    shutil.copytree(source / "muxcore", site / "muxcore")
    shutil.copy(core, site / "muxcore" / "native")
    (python,) = Path(where).glob("usr/bin/python3.[0-9][0-9]")
    (site / "echo.py").write_text(_ECHO)
    said = run(emulator, "-L", where, python, "-B", site / "echo.py", cwd=site).stdout
    assert said == "aarch64 25000\n"
