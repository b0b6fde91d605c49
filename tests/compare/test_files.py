"""Files come back whole, or the run says which did not, and why."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from muxcore import Server
from muxcore.compare.files import real_files, transfer
from muxcore.compare.handlers import CallbackEcho
from muxcore.compare.servers import ServerProcess
from muxcore.testing.upstream import refusing


def test_every_file_comes_back_and_is_verified(tmp_path: Path) -> None:
    sizes = [0, 1, 65_536, 1_000_003]
    files = [tmp_path / str(size) for size in sizes]
    for path, size in zip(files, sizes, strict=True):
        path.write_bytes(b"\x00\xff\n" * (size // 3) + b"x" * (size % 3))
    with Server(CallbackEcho, "127.0.0.1:0", engine="pure-epoll") as server:
        run = transfer(server.addresses[0], files, clients=6)
    assert (run.files, run.verified, run.problems) == (6, 6, [])
    assert run.bytes == sum(sizes) + sum(sizes[:2])


def test_a_changed_byte_is_found(tmp_path: Path, subject: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a" * 1000)
    with ServerProcess(subject("spoiler", change=1)) as server:
        run = transfer(server.address, [path], clients=2)
    assert run.verified == 0
    assert "data: the 1000 bytes that came back are not what was sent" in run.problems


def test_a_server_that_is_not_there_is_a_problem_of_each_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a")
    with refusing() as address:
        run = transfer(address, [path], clients=2)
    assert run.verified == 0
    assert len(run.problems) == 2
    assert "refused" in run.problems[0]


def test_a_server_that_keeps_silent_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        run = transfer(address, [path], clients=1, timeout=0.2)
    assert run.problems == ["data: no EOF from the server in time"]


def test_the_files_of_the_demo_are_real_and_not_empty() -> None:
    files = real_files(20)
    assert len(set(files)) == 20
    assert all(path.stat().st_size > 10_000 for path in files)
