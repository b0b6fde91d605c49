"""Stands in for nginx's program: ``python -m tests.real.nginx_suite.binary -p PREFIX -c CONF …``.

It is one process that has the signals and the pidfile of nginx' master, and two children:
``muxcore relay`` with the servers that relay, and the real nginx with whatever else a test's
configuration has, if it has any (see ``translating``). With ``--as nginx`` before all else it is
the real one alone, of which no more than the modules that are there are told.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muxcore.config.writing import written as file_of

from . import log_lines
from .conf import Directive, NoCounterpart, named, parsed, shown
from .translating import Log, Translation, translated

_ASKED = {signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_REFUSED = "MUXCORE_REFUSED"  # the variable that names a file: why this failed
_START = 4.0  # s: the tests wait for five
SLOW = "is slow to start"  # of an error that says nothing of muxcore
_ELSEWHERE = r"--with-(http_\w+|mail|stream_geoip_module)=dynamic|--with-mail_ssl_module"


class Files:
    """What the program has in its folder.

    Args:
        folder: the prefix.
    """

    def __init__(self, folder: Path) -> None:
        self.relay = folder / "muxcore.toml"
        self.relay_pid = folder / "muxcore.pid"
        self.records = folder / "muxcore.access"
        self.messages = folder / "muxcore.messages"
        self.rest = folder / "rest.conf"
        self.rest_pid = folder / "rest.pid"


class Master:
    """The process that the tests know.

    Args:
        nginx: the real one's path.
        folder: the prefix.
        conf: the path of the configuration.
        more: directives of ``-g``.
    """

    def __init__(self, nginx: str, folder: Path, conf: Path, more: str) -> None:
        self._nginx = nginx
        self._conf = conf
        self._more = more
        self._folder = folder
        self._files = Files(folder)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, list[Log]] = {}

    def read(self) -> Translation:
        """Read the configuration, and write what the children read.

        Raises:
            NoCounterpart: muxcore cannot do it.
            ValueError: it is no configuration.
        """
        directives = parsed(self._more) + parsed(self._conf.read_text())
        # the globals are there twice, in nginx's own tests
        self.pidfile = Path(named(directives, "pid")[-1].args[0])
        self.error_log = Path(named(directives, "error_log")[-1].args[0])
        stays = (e for e in directives if e.name not in ("pid", "worker_shutdown_timeout"))
        pid = Directive(("pid", str(self._files.rest_pid)), 0)
        found = translated((pid, *stays))
        if found.rest:
            self._files.rest.write_text(found.rest)
        if "listeners" in found.tables:
            found.tables["server"]["pidfile"] = str(self._files.relay_pid)
            found.tables["log"] = {
                "access": "json",
                "access_file": str(self._files.records),
                "messages": str(self._files.messages),
            }
            self._files.relay.write_text(file_of(found.tables))
        self._logs = found.logs
        return found

    def relay(self, *options: str) -> list[str]:
        command = [sys.executable, "-m", "muxcore", "relay", "--config", str(self._files.relay)]
        return [*command, *options]

    def serve(self) -> None:
        """Run until a signal asks for the end.

        Raises:
            ChildProcessError: a child did not start, or did not end well.
            NoCounterpart, ValueError: see ``read``.
        """
        found = self.read()
        self.error_log.touch()
        log_lines.opened(found.files)
        pids = []
        if "listeners" in found.tables:
            self._start("muxcore", self.relay())
            pids.append(self._files.relay_pid)
        if found.rest:
            options = ("-p", str(self._folder), "-c", str(self._files.rest), "-e", "error.log")
            self._start("nginx", [self._nginx, *options])
            pids.append(self._files.rest_pid)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)
        try:
            self._wait_for(pids)
            self.pidfile.write_text(f"{os.getpid()}\n")
            self._obey()
        finally:
            self._end(signal.SIGTERM)
        if self._files.records.exists():
            log_lines.written(self._logs, self._files.records.read_text().splitlines())
        self.pidfile.unlink(missing_ok=True)
        for name, child in self._children.items():
            if child.returncode:
                raise ChildProcessError(f"{name} ended with {child.returncode}: {self._told(name)}")
        if self._files.messages.exists() and "Traceback" in self._files.messages.read_text():
            raise ChildProcessError(self._files.messages.read_text())

    def _start(self, name: str, command: Sequence[str]) -> None:
        with (self._folder / f"{name}.stderr").open("wb") as file:
            self._children[name] = subprocess.Popen(command, cwd=self._folder, stderr=file)

    def _wait_for(self, pids: list[Path]) -> None:
        """Wait until the children serve.

        Raises:
            ChildProcessError: one does not, or not in time.
        """
        until = time.monotonic() + _START
        while not all(each.exists() and each.read_text().strip() for each in pids):
            if time.monotonic() > until:
                raise ChildProcessError(f"one of {', '.join(self._children)} {SLOW}")
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise ChildProcessError(f"{name} does not start: {self._told(name)}")
            time.sleep(0.01)

    def _told(self, name: str) -> str:
        return (self._folder / f"{name}.stderr").read_text().strip()

    def _obey(self) -> None:
        """Do what signals ask for, until that is the end; or until a child has ended."""
        while True:
            asked = signal.sigwait(_ASKED)
            if asked == signal.SIGHUP:
                try:
                    self.read()
                except (NoCounterpart, ValueError) as exc:
                    print(exc, file=sys.stderr)
                    continue
                for child in self._children.values():
                    child.send_signal(signal.SIGHUP)
            elif asked == signal.SIGCHLD:
                if any(each.poll() is not None for each in self._children.values()):
                    return
            else:
                self._end(signal.SIGQUIT if asked == signal.SIGQUIT else signal.SIGTERM)
                return

    def _end(self, how: signal.Signals) -> None:
        for name, child in self._children.items():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM if name == "muxcore" else how)
        while any(each.poll() is None for each in self._children.values()):
            asked = signal.sigwait(_ASKED)
            if asked != signal.SIGCHLD:  # no more waiting for clients
                for child in self._children.values():
                    if child.poll() is None:
                        child.send_signal(signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    nginx = os.environ["MUXCORE_REAL_NGINX"]
    parser = argparse.ArgumentParser()
    for flag in ("-V", "-v", "-T", "-t"):
        parser.add_argument(flag, action="store_true")
    for option, default in (("-p", "."), ("-c", "nginx.conf"), ("-e", ""), ("-g", "")):
        parser.add_argument(option, default=default)
    parser.add_argument("--as", dest="who", choices=("muxcore", "nginx"), default="muxcore")
    given: Any = parser.parse_args(arguments)
    if given.V or given.v:
        said = subprocess.run([nginx, "-V" if given.V else "-v"], capture_output=True, text=True)
        print(re.sub(_ELSEWHERE, "", said.stderr), file=sys.stderr, end="")
        return said.returncode
    if given.who == "nginx":
        os.execv(nginx, [nginx, *arguments[2:]])
    folder = Path(given.p).resolve()
    master = Master(nginx, folder, folder / given.c, given.g)
    try:
        if given.T or given.t:
            found = master.read()
            print(shown(parsed(master._conf.read_text())) if given.T else "", end="")
            checked = master.relay("--check")
            return subprocess.run(checked).returncode if "listeners" in found.tables else 0
        master.serve()
        return 0
    except (NoCounterpart, ValueError, ChildProcessError) as exc:
        print(f"nginx (muxcore): {exc}", file=sys.stderr)
        if path := os.environ.get(_REFUSED):
            with open(path, "a") as file:
                file.write(f"{exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
