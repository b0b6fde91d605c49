"""Log files of commands that serve: they may be moved away, and a full disk ends nobody.

A line that cannot be written is dropped. Standard error says so at the first, and how many they
were once one can be written again.
"""

from __future__ import annotations

import logging
import sys
import time
from logging.handlers import WatchedFileHandler
from typing import cast

_LOOK_EVERY = 0.01  # s: nobody moves a file and reads the new one within that


class LogFile(WatchedFileHandler):
    """A log file.

    Args:
        path: it; it is appended to, and made where there is none.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._lost = 0
        self._looks_at = 0.0  # when a line looks at the path again

    def take_line(self, line: str) -> None:
        """Write a line as it is: see ``access_log.py``. Of thousands a second few do more."""
        self.acquire()
        try:
            now = time.monotonic()
            if self._lost or now >= self._looks_at or self.stream is None:
                self._looks_at = now + _LOOK_EVERY
                self.emit(cast(logging.LogRecord, line))
                return
            try:
                self.stream.write(line + self.terminator)
                self.stream.flush()
            except Exception:
                self.handleError(cast(logging.LogRecord, line))
        finally:
            self.release()

    def format(self, record: logging.LogRecord) -> str:
        return record if isinstance(record, str) else super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        before = self._lost
        try:
            super().emit(record)
        except OSError:  # it cannot be opened again
            self.handleError(record)
        if before and self._lost == before:
            self._lost = 0
            print(f"muxcore: {before} lines of {self.baseFilename} were lost", file=sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        """Count a line that could not be written."""
        self._lost += 1
        if self._lost == 1:
            why = sys.exc_info()[1]
            print(f"muxcore: {self.baseFilename} cannot be written: {why}", file=sys.stderr)


def opened(path: str, option: str) -> LogFile:
    """Return a log file, or end the program with the reason why it cannot be opened."""
    try:
        return LogFile(path)
    except OSError as exc:
        print(f"muxcore: {option} {path}: {exc.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
