"""Planted faults of a restart, each of which a test here must see.

``python tests/restarting/faults.py`` plants them, one after another, each in a copy of the package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_HARD_LIMIT = 300.0  # s
_DEADLINE = "15"  # s for what must happen: a fault takes that long to be seen

# what is wrong; the file; what stands there; what is planted; the tests that are to see it
FAULTS = [
    (
        "it is ready before it listens",
        "_life.py",
        "        limits = self._engine.limits\n",
        "        limits = self._engine.limits\n        predecessor.ready()\n",
        "takes_over_and and native",
    ),
    (
        "the successor binds anew",
        "_life.py",
        "reuse_port=self._reuse_port, left=predecessor",
        "reuse_port=self._reuse_port",
        "takes_over_and and native",
    ),
    (
        "a socket is known by its name alone",
        "parts/opening.py",
        "found = None if left is None else left.at(family, sockaddr)",
        "found = None",
        "who_waits",
    ),
    (
        "a socket is known by its address alone",
        "parts/opening.py",
        "[] if left is None else left.named(str(where))",
        "[]",
        "takes_over_and and native",
    ),
    (
        "the old one removes the path",
        "restarting/successor.py",
        "        handed.disown()\n",
        "",
        "takes_over_and and native",
    ),
    (
        "the new one does not remove the path",
        "restarting/predecessor.py",
        "        for sock in self._taken:\n            opening.inherit(sock)\n",
        "",
        "takes_over_and and native",
    ),
    (
        "an address that is given up is kept open",
        "restarting/predecessor.py",
        "            opening.close_listener(sock)\n",
        "            _KEPT.append(sock)\n",
        "takes_over_and and native",
    ),
    (
        "the delay of a drain is kept",
        "_life.py",
        "        self._engine.skip_delay()\n",
        "",
        "takes_over_and and native",
    ),
    (
        "a socket of a worker too many is served by nobody",
        "workers/places.py",
        "            self._serve_also(other)\n",
        "            self._beside.append(other)\n",
        "fewer_workers",
    ),
    (
        "a socket beside is served by nobody where there are no workers",
        "_life.py",
        "            self._engine.listen(other, self._service)\n",
        "",
        "come_and_go",
    ),
    (
        "a worker restarts itself",
        "workers/worker.py",
        '    program.why_not = "this is a worker, and its parent is who starts the program anew"\n',
        "",
        "fewer_workers",
    ),
    (
        "one that says nothing is waited for",
        "restarting/successor.py",
        "            successor.given_up = why\n            process.terminate()\n",
        "            pass\n",
        "never_ready",
    ),
    (
        "two start at once",
        "restarting/successor.py",
        "        elif there is not None:\n",
        "        elif False:\n",
        "never_ready",
    ),
    (
        "nobody tells a successor of the end",
        "restarting/successor.py",
        "            there.process.send_signal(number)\n",
        "            pass\n",
        "takes_along",
    ),
    (
        "after a failure there is no second try",
        "restarting/successor.py",
        "        self._successor = None\n        if self._ends",
        "        if self._ends",
        "costs_nothing",
    ),
    (
        "why it failed is lost",
        "restarting/successor.py",
        '            successor.why = message.details["text"]\n',
        "            pass\n",
        "costs_nothing",
    ),
    (
        "the pidfile is not written again after a failure",
        "restarting/successor.py",
        'before it was ready%s: serving on", successor.pid, how, why)\n        self._failed()\n',
        'before it was ready%s: serving on", successor.pid, how, why)\n',
        "tells_of_a_failure",
    ),
    (
        "the old one removes the pidfile of the new one",
        "restarting/pidfile.py",
        "self._path is not None and pid_in(self._path) == os.getpid()",
        "self._path is not None",
        "tells_of_a_failure or only_if_it_names",
    ),
    (
        "reload sends to whoever has the number",
        "cli/reload.py",
        "        if not _hears(pid):\n",
        "        if False:\n",
        "says_what_is_wrong",
    ),
    (
        "init ends",
        "restarting/successor.py",
        "                    self._become(there)\n",
        "                    return\n",
        "init_becomes",
    ),
    (
        "init does not wait for the child that it followed",
        "restarting/successor.py",
        "            self._init.end()\n        self._reap()\n",
        "            self._init.end()\n",
        "init_becomes",
    ),
    (
        "a message has 253 descriptors at the most",
        "parts/channel.py",
        "            some = dict(given[at : at + _SOCKETS])\n",
        "            some = dict(given)\n",
        "as_many_descriptors",
    ),
    (
        "a grandchild believes what it is told",
        "restarting/program.py",
        'os.environ.pop(_VARIABLE, "")',
        'os.environ.get(_VARIABLE, "")',
        "taken_once",
    ),
    (
        "an event loop hands nothing over",
        "aio/signals.py",
        "        server._hand_over(heir)\n",
        "        pass\n",
        "handlers_finish and asyncio-None",
    ),
]


def survives(fault: tuple[str, str, str, str, str]) -> str:
    """Run the tests on a copy with the fault; return why it was not seen, or ""."""
    _, file, old, new, tests = fault
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        copy = Path(folder)
        shutil.copytree(_ROOT / "muxcore", copy / "muxcore")
        for each in ("parts", "restarting"):
            shutil.copytree(_ROOT / "tests" / each, copy / "tests" / each)
        source = (copy / "muxcore" / file).read_text()
        if source.count(old) != 1:
            return f"{file} has {source.count(old)} times: {old!r}"
        (copy / "muxcore" / file).write_text(source.replace(old, new))
        (copy / "pytest.ini").write_text("[pytest]\nmarkers = deep: x\npythonpath = .\n")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["tests/restarting", "tests/parts/test_channel.py", "-k", tests]
        environment = os.environ | {"PYTHONPATH": str(copy), "MUXCORE_TESTING_DEADLINE": _DEADLINE}
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_HARD_LIMIT
        )
        seen = re.search(r"\b[1-9]\d* failed", done.stdout)
        return "" if seen else done.stdout[-2000:]


def main() -> int:
    missed = 0
    for fault in (each for each in FAULTS if not sys.argv[1:] or each[0] in sys.argv[1:]):
        why = survives(fault)
        missed += bool(why)
        print(f"{'MISSED' if why else 'seen':6}  {fault[0]}{why and chr(10) + why}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
