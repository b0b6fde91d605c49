"""``--user``, ``--group`` and ``--socket-mode``: who serves, and who may connect."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muxcore.cli import _user
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children

from .supervisor import ROOT, Supervisor, Unit

_NOBODY = pwd.getpwnam("nobody")
_ME = pwd.getpwuid(os.geteuid())

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

_APP = """
import os

class Who:
    def connection_made(self, transport):
        self.transport = transport
        told = *os.getresuid(), *os.getresgid(), *os.getgroups(), os.environ.get("HOME")
        transport.write(f"{told}\\n".encode())
    def data_received(self, data):
        try:
            os.setuid(0)
            self.transport.write(b"came back\\n")
        except PermissionError:
            self.transport.write(b"cannot\\n")
"""


def reads(path: str) -> bool:
    """Whether everybody may read a file, and go where it is."""
    found = Path(path).resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in [*found.parents])


# workers are started anew, as that user: he has to find Python, and us
everybody = pytest.mark.skipif(
    not (reads(sys.executable) and reads(str(ROOT / "muxcore" / "server.py"))),
    reason="Python, or this folder, is not for everybody",
)


def serve(supervisor: Supervisor, *command: str) -> tuple[Unit, str]:
    unit = supervisor.start("-m", "muxcore", *command)
    ready = supervisor.until_word("READY", "1")
    return unit, ready.words["STATUS"].split()[2].rstrip(",")


def end(unit: Unit) -> None:
    unit.signal(signal.SIGTERM)
    assert unit.status() == 0, unit.printed()


@needs_root
@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(["--workers", "1"], marks=[everybody, pytest.mark.deep]),
        pytest.param(["--engine", "pure-process"], marks=pytest.mark.deep),
    ],
    ids=["plain", "workers", "process"],
)
def test_root_becomes_the_user_for_good_before_it_serves(
    supervisor: Supervisor, folder: Path, more: list[str]
) -> None:
    (folder / "app.py").write_text(_APP)
    unit, where = serve(supervisor, "serve", "app:Who", "0", "--user", "nobody", *more)
    uid, gid = _NOBODY.pw_uid, _NOBODY.pw_gid
    groups = os.getgrouplist("nobody", gid)
    with Peer(where) as peer:
        told = peer.read_line().decode().strip()
        expected = (uid, uid, uid, gid, gid, gid, *groups, _NOBODY.pw_dir)
        assert told == str(expected)
        peer.send(b"x")
        assert peer.read_line() == b"cannot\n"
    for pid in [unit.pid, *children(unit.pid)]:
        assert os.stat(f"/proc/{pid}").st_uid in (uid, 0)  # what is not dumpable is root's there
        ids = re.findall(r"^[UG]id:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert [set(map(int, each.split())) for each in ids] == [{uid}, {gid}]
    end(unit)


@needs_root
@pytest.mark.deep
def test_numbers_and_another_group_are_taken_as_well(supervisor: Supervisor, folder: Path) -> None:
    (folder / "app.py").write_text(_APP)
    command = ["serve", "app:Who", "0", "--user", "54321", "--group", "54322"]
    unit, where = serve(supervisor, *command)
    with Peer(where) as peer:
        told = peer.read_line().decode().strip()
        assert told == str((*3 * [54321], *3 * [54322], 54322, "/"))
    end(unit)


@needs_root
def test_what_root_has_opened_is_the_users(supervisor: Supervisor, folder: Path) -> None:
    path, log = folder / "s", folder / "log"
    command = ["echo", f"unix:{path}", "--user", "nobody", "--socket-mode", "0620"]
    unit, where = serve(supervisor, *command, "--log", str(log))
    for each, mode in ((path, 0o620), (log, None)):
        found = each.stat()
        assert (found.st_uid, found.st_gid) == (_NOBODY.pw_uid, _NOBODY.pw_gid)
        assert mode in (None, stat.S_IMODE(found.st_mode))
    with Peer(where):
        pass
    log.rename(folder / "log.1")
    log.touch()  # as logrotate's "create 0640 nobody nogroup" does
    os.chown(log, _NOBODY.pw_uid, _NOBODY.pw_gid)
    unit.signal(signal.SIGUSR1)
    unit.signal(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2" in log.read_text(), "it is not opened again")
    end(unit)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--user", "nobdy"], "--user: there is no user 'nobdy': did you mean nobody?"),
        (["--user", "nobody", "--group", "no such"], "--group: there is no group 'no such'"),
        (["--user", "54321"], "--user 54321 is in no list of users: give its group, too"),
        (["--group", "nogroup"], "--group is the group of --user: give that, too"),
        (["--socket-mode", "0660"], "--socket-mode is for unix:PATH, of which there is none here"),
        (["--socket-mode", "rw"], "--socket-mode must be three digits from 0 to 7 after a 0, as"),
        (["--socket-mode", "0440"], "lets nobody write, so nobody could connect"),
        (["--socket-mode", "1777"], "mode 0o1777 is not from 0 to 0o777"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from muxcore.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["echo", "0", *flags])
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "see muxcore echo --help" in complaint


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getresuid", lambda: (1000, 1000, 1000))
    with pytest.raises(ValueError, match="only root can become another user, and this is uid 1000"):
        _user.find("nobody", None)


@pytest.mark.deep
def test_who_is_the_user_already_becomes_nothing(supervisor: Supervisor) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    command = ["echo", "127.0.0.1:0", "--user", _ME.pw_name, "--group", group]
    unit, _ = serve(supervisor, *command)
    end(unit)


def test_who_cannot_read_python_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the first import that comes later fails, with an error that tells of something else."""
    who = _user.User("nobody", _NOBODY.pw_uid, _NOBODY.pw_gid)
    who.read_modules()
    assert not caplog.records
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    who.read_modules()
    assert "nobody cannot read Python's modules in " in caplog.text


@needs_root
def test_one_that_could_come_back_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(_user, "_comes_back", lambda: True)
            _user.find("nobody", None).become()
        except _user.CannotBecome:
            os._exit(3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_a_mode_is_never_more_open_than_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from muxcore.address import Address
    from muxcore.limits import Limits
    from muxcore.parts import opening

    seen: list[int] = []
    path = folder / "s"

    lstat = os.lstat

    def watching(call: Callable[..., object]) -> Callable[..., object]:
        def watched(*args: object, **more: object) -> object:
            with contextlib.suppress(FileNotFoundError):
                seen.append(stat.S_IMODE(lstat(path).st_mode))
            return call(*args, **more)

        return watched

    for name in ("chmod", "chown", "open", "stat", "close"):
        monkeypatch.setattr(os, name, watching(getattr(os, name)))
    before = os.umask(0)
    try:
        (sock,) = opening.open_listeners(Address(path=str(path), mode=0o600), Limits())
    finally:
        os.umask(before)
    opening.close_listener(sock)
    assert seen
    assert set(seen) == {0o600}


def test_the_umask_takes_nothing_off_a_mode(folder: Path) -> None:
    from muxcore.address import Address
    from muxcore.limits import Limits
    from muxcore.parts import opening

    before = os.umask(0o077)
    try:
        where = Address(path=str(folder / "s"), mode=0o666)
        (sock,) = opening.open_listeners(where, Limits())
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o666
    opening.close_listener(sock)
    assert not (folder / "s").exists()


def test_a_link_that_somebody_puts_in_its_place_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from muxcore.address import Address
    from muxcore.errors import BindError
    from muxcore.limits import Limits
    from muxcore.parts import opening

    path, theirs = folder / "s", folder / "theirs"
    theirs.touch(0o600)
    remember = opening.UnixListener.remember

    def swapped(self: opening.UnixListener, name: str) -> None:
        remember(self, name)
        path.unlink()
        path.symlink_to(theirs)

    monkeypatch.setattr(opening.UnixListener, "remember", swapped)
    with pytest.raises(BindError, match="somebody has put another file in its place"):
        opening.open_listeners(Address(path=str(path), mode=0o666), Limits())
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o600
