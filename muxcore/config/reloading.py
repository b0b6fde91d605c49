"""A file is read again while it is served: all of it is applied, or nothing.

In a parent of workers the file is read and checked once, there; what it says goes to the workers,
so that all have the same, and those that come later begin with it.
"""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

from muxcore.config.document import LARGEST, ConfigError, Document, read
from muxcore.config.served import Served

logger = logging.getLogger("muxcore")

_ADVICE = (
    "cannot change while it is served: restart without loss, by `muxcore reload PIDFILE` or SIGUSR2"
)


class Reloading:
    """Called with a server when that reloads.

    Args:
        path: the file.
        served: what it has said until now.
    """

    def __init__(self, path: str, served: Served) -> None:
        self._path = path
        self._served = served

    def __call__(self, server: Any) -> None:
        """Read the file again, and serve what it says, or log why not."""
        try:
            document = contents(self._path, again=True)
            new = Served(document)
            self._refuse_fixed(document)
            new.demand(server.engine)
        except ConfigError as exc:
            for each in exc.told:
                logger.error("%s", each)
            logger.error("%s is not applied, and nothing has changed: see above", self._path)
            return
        if document.tables == self._served.document.tables:
            logger.info("%s was read again: it says what it said before", self._path)
            return
        self._served.change(new)
        server._renew(pickle.dumps(document))
        for each in new.warnings:
            logger.warning("%s", each)
        logger.info("%s was read again, and is applied", self._path)

    def _refuse_fixed(self, document: Document) -> None:
        """Refuse what only another process can do.

        Raises:
            ConfigError: that is asked for.
        """
        before, now = _fixed(self._served.document), _fixed(document)
        for path in {**before, **now}:
            if before.get(path) != now.get(path):
                document.wrong(path, _ADVICE)
        document.refuse()


def _fixed(document: Document) -> dict[tuple[str, ...], Any]:
    """Return what a process has once it serves: its listeners, its files, whom it runs as."""
    server, log = document.section("server"), document.section("log")
    found: dict[tuple[str, ...], Any] = {
        **{("server", key): value for key, value in server.items() if key != "limits"},
        **{("server", "limits", key): value for key, value in server.get("limits", {}).items()},
        **{("admin", key): where for key, where in document.section("admin").items()},
        **{("log", key): log[key] for key in ("access_file", "messages") if key in log},
    }
    for name, table in document.section("listeners").items():
        found["listeners", name, "address"] = table["address"]
        found["listeners", name, "socket_mode"] = table.get("socket_mode")
    return found


def contents(path: str, *, again: bool = False) -> Document:
    """Read a file.

    Args:
        path: it.
        again: it was read before, by a server that is not to wait: what is a pipe had one reading.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        if again and not Path(path).is_file():
            os.stat(path)
            raise ConfigError([f"{path}: is no regular file, which alone can be read again"])
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from None
    return read(path, data)
