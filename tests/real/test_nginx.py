"""nginx through the relay: wrk's load, files in either direction with curl, and TLS."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

_SMALL = random.Random(1).randbytes(600)
_LARGE = random.Random(2).randbytes(100_000)
_FILE = random.Random(3).randbytes(32_000_000)

_ROUTER = Path(__file__).parents[2] / "examples" / "tls_router.py"

# wrk's script: it holds each body against the file, and reports those that differ.
_SCRIPT = """\
local file = io.open("FILE", "rb")
local body = file:read("*a")
different = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function response(status, headers, got)
    if status ~= 200 or got ~= body then different = different + 1 end
end
function done(summary, latency, requests)
    local all = 0
    for _, thread in ipairs(threads) do all = all + thread:get("different") end
    local errors = summary.errors
    print(string.format("requests %d different %d connect %d read %d write %d status %d timeout %d",
        summary.requests, all, errors.connect, errors.read, errors.write, errors.status,
        errors.timeout))
end
"""


@pytest.fixture(scope="module")
def plain(nginx: Callable[..., Any]) -> tuple[str, Path]:
    _, address, files = nginx()
    return address, _filled(files)


@pytest.fixture(scope="module")
def certificate(certificate_for: Callable[[str], tuple[Path, Path]]) -> tuple[Path, Path]:
    return certificate_for("www.test")


@pytest.fixture(scope="module")
def secure(nginx: Callable[..., Any], certificate: tuple[Path, Path]) -> tuple[str, Path]:
    _, address, files = nginx(*certificate)
    return address, _filled(files)


@pytest.mark.parametrize(
    ("scheme", "name"), [("http", "small"), ("http", "large"), ("https", "large")]
)
def test_every_answer_to_wrk_is_whole(
    way: Any,
    request: pytest.FixtureRequest,
    run: Callable[..., str],
    tmp_path: Path,
    scheme: str,
    name: str,
) -> None:
    address, files = request.getfixturevalue({"http": "plain", "https": "secure"}[scheme])
    script = tmp_path / "script.lua"
    script.write_text(_SCRIPT.replace("FILE", str(files / name)))
    url = f"{scheme}://{way(address)}/{name}"
    report = run("wrk", "-t", "2", "-c", "50", "-d", "1s", "-s", script, url)
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    counts = {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", report.splitlines()[-1])}
    assert counts.pop("requests") > 50
    assert counts == dict.fromkeys("different connect read write status timeout".split(), 0)


def test_a_file_is_the_same_after_its_way_there_and_back(
    way: Any,
    plain: tuple[str, Path],
    run: Callable[..., str],
    sha256: Callable[[Path], bytes],
    tmp_path: Path,
) -> None:
    address, files = plain
    through = way(address)
    run("curl", "-sS", "--fail", "-T", files / "file", f"http://{through}/put/copy")
    assert sha256(files / "put" / "copy") == hashlib.sha256(_FILE).digest()
    run("curl", "-sS", "--fail", "-o", tmp_path / "back", f"http://{through}/put/copy")
    assert sha256(tmp_path / "back") == hashlib.sha256(_FILE).digest()
    (files / "put" / "copy").unlink()


def test_a_file_over_tls_is_the_same_and_the_certificate_is_the_servers(
    way: Any,
    secure: tuple[str, Path],
    certificate: tuple[Path, Path],
    run: Callable[..., str],
    sha256: Callable[[Path], bytes],
    tmp_path: Path,
) -> None:
    host, port = way(secure[0]).split(":")
    known = ["--cacert", certificate[0], "--resolve", f"www.test:{port}:{host}"]
    for name, content in [("file", _FILE), ("small", _SMALL)]:
        back = tmp_path / name
        run("curl", "-sS", "--fail", *known, "-o", back, f"https://www.test:{port}/{name}")
        assert sha256(back) == hashlib.sha256(content).digest()


def test_curl_gets_its_file_over_tls_through_the_router_by_name(
    engine: str,
    secure: tuple[str, Path],
    plain: tuple[str, Path],
    certificate: tuple[Path, Path],
    start: Callable[..., Any],
    run: Callable[..., str],
    sha256: Callable[[Path], bytes],
    tmp_path: Path,
) -> None:
    routes = [f"www.test={secure[0]}", f"plain.test={plain[0]}"]
    router = start(sys.executable, str(_ROUTER), "0", *routes, "--engine", engine)
    router.until(lambda: router.said().endswith("\n"))
    host, port = router.said().split()[2].split(":")
    options = ["-sS", "--fail", "--cacert", certificate[0]]
    for name in ("www.test", "plain.test", "nobody.test"):
        options += ["--resolve", f"{name}:{port}:{host}"]
    for name, content in [("file", _FILE), ("small", _SMALL)]:
        run("curl", *options, "-o", tmp_path / name, f"https://www.test:{port}/{name}")
        assert sha256(tmp_path / name) == hashlib.sha256(content).digest()
    for other in ("plain.test", "nobody.test"):  # one that speaks no TLS, one that is not there
        run("curl", *options, f"https://{other}:{port}/", expected=35)  # CURLE_SSL_CONNECT_ERROR
    assert router.complaints.read_text().count("nobody is called 'nobody.test' here") == 1
    assert router.end(signal.SIGTERM) == 0


def _filled(files: Path) -> Path:
    for name, content in [("small", _SMALL), ("large", _LARGE), ("file", _FILE)]:
        (files / name).write_bytes(content)
    return files
