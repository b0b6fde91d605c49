"""Log files that are opened again, so that they can be moved away while a server runs.

``logging.handlers.WatchedFileHandler`` looks at the path before each line, and opens it again where
that is another file by now: no line is lost. A server that has nothing to say keeps the old file
until it is asked to look.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from logging.handlers import WatchedFileHandler

from muxcore.parts import dispatch

_LOGGERS = ("", "muxcore", "muxcore.access")


def reopen() -> None:
    """Let every ``WatchedFileHandler`` of the root's and our loggers look at its path now."""
    for handler in files():
        _reopen(handler)


def files() -> Iterator[WatchedFileHandler]:
    """Yield each ``WatchedFileHandler`` of the root's and our loggers."""
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, WatchedFileHandler):
                yield handler


def _reopen(handler: WatchedFileHandler) -> None:
    handler.acquire()
    try:
        handler.reopenIfNeeded()
    except OSError as exc:  # it is tried again at the next line
        dispatch.logger.error("the log cannot be opened again: %s", exc)
    finally:
        handler.release()
