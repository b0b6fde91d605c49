"""The file that names the process that serves, for those who send it signals.

It is replaced as a whole (rename(2)), once a process serves; who ends removes it, if it is still
named there. What stood in it does not matter, as long as it is a number: its process may have been
killed or belong to another boot, and a server that cannot listen writes nothing. Anything else is
no such file, and is left alone.
"""

from __future__ import annotations

import contextlib
import os

from muxcore.errors import PidfileError

_MOST = 64  # bytes of one that is read: a number and a line's end


def pid_in(path: str) -> int:
    """Return the number in a pidfile.

    Raises:
        OSError: it cannot be read.
        PidfileError: there is no number in it.
    """
    with open(path, "rb") as file:
        text = file.read(_MOST).strip()
    if not text.isdigit() or int(text) == 0:
        raise PidfileError(f"{path} is no pidfile: there is no process's number in it")
    return int(text)


class Pidfile:
    """One of this process.

    Args:
        path: its, from the current folder; None: there is none, and nothing is done.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else os.path.abspath(path)

    def check(self) -> None:
        """Refuse what must not be replaced, before anything else is done.

        Raises:
            PidfileError: it is another kind of file, or is in no folder that can be written to.
        """
        if self._path is None:
            return
        try:
            pid_in(self._path)
        except (PidfileError, FileNotFoundError) as exc:
            if isinstance(exc, PidfileError):
                raise
        except OSError as exc:
            raise PidfileError(f"{self._path} cannot be read: {exc.strerror}") from exc
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise PidfileError(f"{self._path} cannot be written: there is no folder {folder}")

    def write(self) -> None:
        """Name this process.

        Raises:
            PidfileError: it cannot be written.
        """
        if self._path is None:
            return
        new = f"{self._path}.{os.getpid()}"
        try:
            with contextlib.suppress(FileNotFoundError):  # of a process of our number, killed here
                os.unlink(new)
            with open(new, "x") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(new, self._path)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise PidfileError(f"{self._path} cannot be written: {exc.strerror}") from exc

    def remove(self) -> None:
        """Remove it, if it names this process."""
        with contextlib.suppress(OSError, PidfileError):
            if self._path is not None and pid_in(self._path) == os.getpid():
                os.unlink(self._path)
