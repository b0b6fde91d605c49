"""What the processes of a command that serves print, and where: the command's own, and workers'."""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from muxcore.cli._log_files import opened
from muxcore.cli._output import never_waiting

_LINE = "%(asctime)s muxcore: %(message)s"  # in a file


class Dated(logging.Formatter):
    """A line with its time, UTC, as the access log writes it: the two are read side by side."""

    def __init__(self) -> None:
        super().__init__(_LINE)

    def formatTime(  # noqa: N802, logging's name
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def log_messages() -> None:
    """Print messages on standard error."""
    logging.basicConfig(format="muxcore: %(message)s", level=logging.INFO)


@dataclass(frozen=True)
class Output:
    """Called in a worker, it sets everything up there.

    Attributes:
        quiet: errors only.
        log: the file of messages; None: standard error.
        accesses: there is an access log.
        access_log: its file; None: standard output.
    """

    quiet: bool = False
    log: str | None = None
    accesses: bool = False
    access_log: str | None = None

    def begin(self) -> None:
        """Send the lines to where they belong.

        Raises:
            SystemExit: a file cannot be opened, which standard error says.
        """
        if self.log:
            handler = opened(self.log, "--log")
            handler.setFormatter(Dated())
            logging.basicConfig(handlers=[handler], force=True)
        logging.getLogger().setLevel(logging.WARNING if self.quiet else logging.INFO)
        if self.accesses:
            path = self.access_log
            to_file = opened(path, "--access-log-file") if path else None
            self._log_accesses(to_file or logging.StreamHandler(sys.stdout))

    def _log_accesses(self, handler: logging.Handler) -> None:
        """Write the access log as it is: a line of JSON is one for its reader, too."""
        logger = logging.getLogger("muxcore.access")
        logger.setLevel(logging.INFO)  # also with -q
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False

    def __call__(self) -> None:
        until_the_end = contextlib.ExitStack()
        until_the_end.enter_context(never_waiting())
        atexit.register(until_the_end.close)
        log_messages()
        self.begin()
