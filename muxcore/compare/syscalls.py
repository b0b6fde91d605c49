"""System calls per message, counted by strace(1) where it is at hand."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from muxcore.compare.accounting import descendants
from muxcore.compare.rounds import Cell
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, client_core
from muxcore.compare.warming import warm
from muxcore.load import LoadConfig, generator, numeric, window

_WINDOW = (
    0.2  # seconds: a traced server is some ten times slower, and still does thousands of messages
)
_ATTACH_TIMEOUT = 10.0


def per_message(subject: Subject, cell: Cell) -> float | None:
    """Return a server's system calls for one message, or None where they cannot be counted.

    The server is traced over one whole window, from before the first message to after the last, so
    calls and messages belong to each other exactly. Children that existed before are traced too.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    try:
        with client_core(), ServerProcess(subject) as server:
            if not warm(server.address, cell.load).ok:
                return None
            source = generator(LoadConfig(address=numeric(server.address), **cell.load))
            try:
                if not window(source, 0.0, 0.02).ok:  # connects
                    return None
                with traced(strace, server.pid) as counted:
                    result = window(source, 0.0, _WINDOW)
            finally:
                source.close()
    except (ServerFailed, OSError, subprocess.SubprocessError):
        return None
    return counted[0] / result.answered if counted[0] and result.answered else None


@contextlib.contextmanager
def traced(strace: str, pid: int, *calls: str) -> Iterator[list[int]]:
    """Count the system calls of a process and its children while it is entered.

    Args:
        strace: the program.
        pid: of the process.
        calls: names of those that count; none: all.

    Returns:
        A list that holds the count, from the end on.

    Raises:
        OSError: strace could not attach.
    """
    counted = [0]
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "counts")
        tracer = _attach(strace, pid, counts, calls)
        try:
            yield counted
        finally:
            tracer.send_signal(signal.SIGTERM)
            tracer.communicate()
        counted[0] = _total(counts.read_text())


def _attach(strace: str, pid: int, counts: Path, calls: Sequence[str]) -> subprocess.Popen[str]:
    pids = descendants(pid)
    targets = [part for each in pids for part in ("-p", str(each))]
    which = ["-e", f"trace={','.join(calls)}"] if calls else []
    tracer = subprocess.Popen(
        [strace, "-f", "-c", *which, "-o", str(counts), *targets],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert tracer.stderr is not None
    left = len(pids)
    for line in tracer.stderr:  # "strace: Process 123 attached"
        left -= "attached" in line
        if not left:
            return tracer
    raise OSError(f"strace did not attach: exit status {tracer.wait(_ATTACH_TIMEOUT)}")


def _total(summary: str) -> int:
    for line in summary.splitlines():
        fields = line.split()
        if fields and fields[-1] == "total":
            return int(fields[3] if len(fields) > 4 else fields[-2])
    return 0
