"""Where a measurement was made: recorded with every result, for figures do not travel alone."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from muxcore._version import __version__
from muxcore.compare.servers import cores
from muxcore.load.generator import native_reason


def environment() -> dict[str, Any]:
    """Return what is known of this machine and its software, as JSON takes it."""
    return {
        "muxcore": __version__,
        "python": sys.version,
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": _cpu_model(),
        "cores": len(cores()),
        "virtual": "hypervisor" in _cpu_field("flags").split(),
        "mitigations": _mitigations(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "load_average": list(os.getloadavg()),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_generator": "native" if not native_reason() else f"pure ({native_reason()})",
        "strace": bool(shutil.which("strace")),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def cautions(found: dict[str, Any]) -> list[str]:
    """Return what in this environment weakens the figures, in sentences."""
    lines = []
    if found["cores"] < 2:
        lines.append("Client and server share one core: rates say little, compare CPU per message.")
    if found["load_average"][0] > 0.5:
        lines.append(
            f"Something else ran: the load average at the start was {found['load_average'][0]:.1f}."
        )
    if not found["load_generator"].startswith("native"):
        lines.append(
            "The pure-Python load generator is slower than most servers: rates are its own."
        )
    if found["virtual"]:
        lines.append("This is a virtual machine: not all that its neighbours take can be seen.")
    return lines


_PACKAGES = ("uvloop", "gevent", "trio", "aiofastnet", "cffi")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu_field(name: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _cpu_model() -> str:
    return _cpu_field("model name") or platform.processor() or "unknown"


def _mitigations() -> dict[str, str]:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    if not folder.is_dir():
        return {}
    return {path.name: _read(str(path)) for path in sorted(folder.iterdir())}
