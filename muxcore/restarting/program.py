"""How this process was started: what it takes to start the same program once more.

All of it is kept when this is imported: the environment and the folder may be others later on.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import subprocess

_VARIABLE = "MUXCORE_PREDECESSOR"  # a descriptor, and the inode by which it is known

# They wait while init becomes another program: for it they have no default, pid_namespaces(7)
_KEPT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

# What a supervisor has said to one process alone: sd_listen_fds(3), sd_watchdog_enabled(3). Sockets
# that it has passed are handed over as all others are; a watchdog without a pid is anybody's.
_NOT_FOR_OTHERS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")

why_not = ""
"""Why this process is not to be started once more: it is not the first of its program."""


def _inherited() -> socket.socket | None:
    """Return the channel to who has started us to take over; no child of ours inherits it.

    A variable alone proves nothing: it may have come to a grandchild, which has no such descriptor.
    """
    number, _, inode = os.environ.pop(_VARIABLE, "").partition(":")
    try:
        found = os.fstat(int(number))
        if found.st_ino != int(inode) or not stat.S_ISSOCK(found.st_mode):
            return None
        sock = socket.socket(fileno=int(number))
    except (ValueError, OSError):
        return None
    sock.set_inheritable(False)
    return sock


def _current_folder() -> str | None:
    """Return the current folder by the name that it has for who started us.

    A path through a symbolic link, such as ``current``, means another folder once that is changed,
    and that is what a release in a folder of its own is changed by.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        return None
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here


inherited = _inherited()
_folder = _current_folder()
_environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_OTHERS}


def start(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start the program as a child, which has the channel.

    Raises:
        OSError: it cannot be.
    """
    import subprocess  # most programs are never started once more

    return subprocess.Popen(
        _command(), cwd=_folder, env=_told(channel), pass_fds=(channel.fileno(),)
    )


def become(channel: socket.socket) -> NoReturn:
    """Execute the program in this process, which keeps its number; it has the channel.

    Signals that come while it starts wait for it: see :func:`let_signals_come`.

    Raises:
        OSError: it cannot be.
    """
    command, environment = _command(), _told(channel)
    channel.set_inheritable(True)
    if _folder is not None:
        os.chdir(_folder)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)
    try:
        os.execve(command[0], command, environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_come() -> None:
    """Hear what has waited since :func:`become`: there are handlers by now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def _command() -> list[str]:
    if not sys.executable or not sys.orig_argv:
        raise FileNotFoundError("the interpreter does not know its own path")
    # not orig_argv[0]: "python3" is looked up in PATH, and might be another one
    return [sys.executable, *sys.orig_argv[1:]]


def _told(channel: socket.socket) -> dict[str, str]:
    inode = os.fstat(channel.fileno()).st_ino
    return {**_environment, _VARIABLE: f"{channel.fileno()}:{inode}"}
