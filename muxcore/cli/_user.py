"""Whom a command that serves runs as, once root has opened what only root may open.

The order is what matters: log files and listening sockets are opened first; then the process
becomes the user, for good; then workers are started, and the first client is taken. It is as in
initgroups(3), setgid(2), setuid(2): the groups go first, since the user may not change them.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from muxcore._near import near
from muxcore.abc import logger
from muxcore.errors import MuxcoreError
from muxcore.parts import logs
from muxcore.server import Server


class CannotBecome(MuxcoreError):
    """The process cannot become the user; the message says why, and what to do."""


@dataclass(frozen=True)
class User:
    """A user, and the group that the process has then.

    Attributes:
        name: "" for a number that is in no list of users.
        uid, gid: their numbers.
        home: the home folder, "" where none is known.
    """

    name: str
    uid: int
    gid: int
    home: str = ""

    def is_me(self) -> bool:
        """Whether the process is this user already, as after a restart in its place."""
        return set(os.getresuid()) == {self.uid} and set(os.getresgid()) == {self.gid}

    def become(self) -> None:
        """Be this user from now on.

        Raises:
            CannotBecome: the system does not let it, or lets it come back.
        """
        try:
            if self.name:
                os.initgroups(self.name, self.gid)
            else:
                os.setgroups([self.gid])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as exc:
            raise CannotBecome(
                f"--user: the process cannot become {self.name or self.uid}: {exc.strerror}; it "
                "needs CAP_SETUID and CAP_SETGID, and a user namespace has to map that number"
            ) from exc
        if not self.is_me() or _comes_back():
            raise CannotBecome("--user: the process could become root again: it does not go on")

    def live_at_home(self) -> None:
        """Have the environment that a login sets: root's home is nobody else's."""
        os.environ.update(USER=self.name, LOGNAME=self.name, HOME=self.home or "/")

    def read_modules(self) -> None:
        """Log that this user cannot read Python's own modules, if so; the process is him."""
        if not os.access(os.__file__, os.R_OK):
            logger.warning(
                "--user: %s cannot read Python's modules in %s: what is imported from now on will "
                "fail, and so will workers; install Python where everybody may read it",
                *(self.name or self.uid, os.path.dirname(os.__file__)),
            )

    def take_logs(self) -> None:
        """Own the log files: workers open them as this user, and so does whoever opens them again.

        Raises:
            OSError: they cannot be given away.
        """
        for handler in logs.files():
            if handler.stream is not None:
                descriptor = handler.stream.fileno()
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.fchown(descriptor, self.uid, self.gid)


def find(user: str, group: str | None) -> User:
    """Look a user up, by name or number.

    Args:
        user: it.
        group: None means the user's own.

    Raises:
        ValueError: there is none, or this process cannot become it; the message names the flag.
    """
    name, uid, gid, home = _user(user)
    if group is not None:
        gid = _group(group)
    if gid is None:
        raise ValueError(f"--user {user} is in no list of users: give its group, too, by --group")
    found = User(name, uid, gid, home)
    if os.geteuid() != 0 and not found.is_me():
        raise ValueError(
            f"--user {user}: only root can become another user, and this is uid {os.geteuid()}: "
            "start it as root, or leave the flag out and let the supervisor do it (User= of a "
            "systemd unit)"
        )
    return found


class ServerOf(Server):
    """A server that becomes a user as soon as it listens.

    Args:
        user: the user.
        args, options: of ``Server``.
    """

    def __init__(self, user: User, *args: Any, **options: Any) -> None:
        self._user = user
        super().__init__(*args, **options)

    def _open(self) -> None:
        super()._open()
        try:
            if not self._user.is_me():
                self._user.take_logs()
                self._user.become()
            self._user.live_at_home()
            self._user.read_modules()
        except BaseException:
            self._engine.close()
            self._ended()
            raise


def unknown(user: str | None, group: str | None) -> Iterator[tuple[str, str]]:
    """Yield which of the two this machine does not know: "user" or "group", and why."""
    looks: dict[str, Callable[[str], object]] = {"user": _user, "group": _group}
    for name, text in (("user", user), ("group", group)):
        try:
            if text is not None:
                looks[name](text)
        except ValueError as exc:
            yield name, str(exc).removeprefix(f"--{name}: ")


def _user(text: str) -> tuple[str, int, int | None, str]:
    """Return name, number, group and home."""
    try:
        found = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        if text.isdecimal() and int(text) < _NUMBERS:
            return "", int(text), None, ""
        meant = near(text, [each.pw_name for each in pwd.getpwall()])
        raise ValueError(f"--user: there is no user {text!r}{meant}") from None
    return found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir


def _group(text: str) -> int:
    if text.isdecimal() and int(text) < _NUMBERS:
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        meant = near(text, [each.gr_name for each in grp.getgrall()])
        raise ValueError(f"--group: there is no group {text!r}{meant}") from None


_NUMBERS = 2**32 - 1  # uid_t has 32 bits, and (uid_t)-1 means "leave it": setresuid(2)


def _comes_back() -> bool:
    """Whether the process can be root again."""
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return False
    return True
