"""What the commands that serve have in common: their options, and how they run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from muxcore import _units, address
from muxcore._demands import Where
from muxcore.abc import logger
from muxcore.address import Address
from muxcore.cli import _arguments, _user
from muxcore.cli._logging import Output
from muxcore.cli._watching import Watched
from muxcore.limits import Limits
from muxcore.load.descriptors import take_all
from muxcore.parts import first, passed
from muxcore.protocol import Service
from muxcore.server import Server
from muxcore.workers.engine import BALANCES, MOST, number_of

ADDRESS = (
    "a port (loopback), HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one; fd:NAME is "
    "what a supervisor has passed"
)

# The flag of each argument of Admin.
_ADMIN = {"socket": "--admin", "metrics": "--metrics", "agent": "--agent-listen"}
# The flag of each limit.
FLAGS = {field.name: f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Limits)}
# Of each attribute in the docstring of Limits: its name, and what is said of it up to a stop.
_MEANING = re.compile(r"^    (\w+): ([^,;:.]+)", re.MULTILINE)
_NUMBERS = "limits on numbers (20k is 20,000)"
_SIZES = "limits on bytes (16k is 16,384)"
_TIMES = "limits on time (seconds, or 500ms, 2m)"


Owner: TypeAlias = "tuple[int, int] | None"  # (uid, gid) of files; None: the process's own
Places: TypeAlias = Callable[[Owner], Mapping[Where, Service]]  # what is served where


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the addresses, and the options."""
    parser.add_argument("address", nargs="+", help=ADDRESS)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the choice of an engine, the verbosity and the limits."""
    parser.set_defaults(serves=True)
    parser.add_argument(
        "--engine", help="an engine, a model, or auto, pure, native (default: auto)"
    )
    parser.add_argument("--trigger", choices=("level", "edge"), default="level", help="of epoll")
    parser.add_argument("--reuse-port", action="store_true", help="share the port (SO_REUSEPORT)")
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N|auto",
        help="processes that serve, beside a parent that keeps the sockets; auto: one a core",
    )
    parser.add_argument(
        "--balance", choices=BALANCES, default=BALANCES[0], help="of clients over workers"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v",
        dest="verbose",
        action="count",
        default=0,
        help="a line when a client comes and goes; -vv: its messages too, through Python callbacks",
    )
    loudness.add_argument("-q", dest="quiet", action="store_true", help="errors only")
    parser.add_argument(
        "--pidfile", metavar="FILE", help="it gets the server's number, for `muxcore reload FILE`"
    )
    parser.add_argument("--log", metavar="FILE", help="messages go there; see docs/operating.md")
    _add_admin(parser)
    _add_rights(parser)
    _add_limits(parser)


def _add_admin(parser: argparse.ArgumentParser) -> None:
    """Add where it is seen and steered."""
    group = parser.add_argument_group("seeing and steering (see docs/admin.md)")
    group.add_argument(
        "--admin", metavar="unix:PATH", help="for `muxcore admin PATH`; only its owner may connect"
    )
    group.add_argument(
        "--metrics", metavar="ADDRESS", help="HTTP for all: /metrics (Prometheus), /livez, /readyz"
    )
    group.add_argument(
        "--agent-listen",
        metavar="ADDRESS",
        help="answer HAProxy's agent-check: the weight by the loop's lag; draining",
    )


def _add_rights(parser: argparse.ArgumentParser) -> None:
    """Add who it is, and who may connect."""
    group = parser.add_argument_group("rights (see docs/deploying.md)")
    group.add_argument(
        "--user", metavar="NAME|UID", help="what root becomes once it listens; workers run as that"
    )
    group.add_argument("--group", metavar="NAME|GID", help="its group (default: the user's own)")
    group.add_argument(
        "--socket-mode",
        type=_arguments.mode,
        metavar="MODE",
        help="of unix sockets, such as 0660: who may write may connect (default: by the umask)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of Limits, in groups by what they count."""
    groups = {title: parser.add_argument_group(title) for title in (_NUMBERS, _SIZES, _TIMES)}
    meanings = dict(_MEANING.findall(inspect.getdoc(Limits) or ""))
    for field in dataclasses.fields(Limits):
        title, metavar, read, show = _kind(field)
        nothing = "wait" if field.name == "drain_idle" else "none"
        default = nothing if field.default is None else show(field.default)
        meaning = " ".join(meanings.get(field.name, "").replace("`", "").split())
        meaning = meaning if meaning.count("(") == meaning.count(")") else meaning.split(" (")[0]
        groups[title].add_argument(
            FLAGS[field.name],
            type=read,
            metavar=metavar,
            help=f"{meaning}; default: {default}".removeprefix("; "),
        )


def _kind(field: dataclasses.Field[Any]) -> tuple[str, str, Callable[[str], Any], Any]:
    """Return a limit's group, its metavar, what reads it, and what shows it."""
    if field.name == "drain_idle":
        return _TIMES, "wait|close|TIME", _arguments.idle, _units.show_seconds
    if "None" in str(field.type):
        return _TIMES, "TIME|none", _arguments.duration_or_none, _units.show_seconds
    if "float" in str(field.type):
        return _TIMES, "TIME", _arguments.duration, _units.show_seconds
    if field.name.startswith(("read_chunk", "write_")):
        return _SIZES, "BYTES", _arguments.size, _units.show_size
    return _NUMBERS, "N", _arguments.count, _units.show_count


def run(
    options: argparse.Namespace,
    service: Service | None,
    by_callbacks: Service | None = None,
    *,
    places: Places | None = None,
    output: Output | None = None,
    on_reload: Callable[[Server], object] | None = None,
    config: Callable[[], str] | None = None,
) -> int:
    """Serve until a signal ends it.

    Args:
        options: what ``add_arguments`` parsed.
        service: what to serve.
        by_callbacks: the same as callbacks, where the service is a verb: -vv needs to see messages.
        places: what to serve where, in place of a service and the options' addresses.
        output: what is printed, and where; None: messages alone.
        on_reload: one of ``Server.on_reload``.
        config: returns what is served as a file says it.
    """
    user = _user_of(options)
    try:
        where = [] if places is not None else _addresses(options, user)
    except ValueError as exc:
        print(f"muxcore: {exc}", file=sys.stderr)
        return 2
    descriptors = take_all()
    output = output or Output(options.quiet, options.log)
    output.begin()
    if service is not None and options.verbose and not options.quiet:
        if options.verbose > 1 and by_callbacks is not None:
            print(
                "messages are shown: they pass through Python callbacks, not the verb", flush=True
            )
            service = by_callbacks
        service = Watched(service, messages=options.verbose > 1)
    served = service if places is None else places(_owner(user))
    assert served is not None
    make = Server if user is None else functools.partial(_user.ServerOf, user)
    try:
        server = make(
            served,
            *where,
            engine=options.engine,
            limits=limits_of(options),
            trigger=options.trigger,
            reuse_port=options.reuse_port,
            workers=options.workers,
            worker_setup=None if options.workers is None else output,
            balance=options.balance,
        )
    except ValueError as exc:  # an AddressError is one as well
        print(f"muxcore: {exc}", file=sys.stderr)
        return 2
    if options.connections is not None:
        each = 1 if places is None else 2  # a relay's client has an upstream as well
        _warn_of_want(limits_of(options).connections, each, server.workers or 1, descriptors)
    if on_reload is not None:
        server.on_reload.append(on_reload)
    # what runs here is ours alone, unless the service is somebody's, and runs in no other process
    ours = "shared_state" not in server.capabilities or not getattr(options, "foreign", False)
    reaping: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if ours:
        reaping = first.orphans_are_reaped(server._engine.call_from_signal)
    elif first.is_first():
        logger.info(
            "this is PID 1, and processes that lose their parents are waited for by nobody: "
            "--workers 1 has a parent that does it, as `docker run --init` does"
        )
    admin = _admin_of(options, server, config)
    announce = _announcer(options)

    def ready(server: Server) -> None:
        announce(server)
        if admin is not None and not options.quiet:
            for name, where in admin.addresses.items():
                print(f"{_ADMIN[name][2:]} on {where}", flush=True)
        gc.collect()
        gc.freeze()  # what is here stays to the end: the collector need not look at it again

    with reaping, contextlib.ExitStack() as until_the_end:
        if admin is not None:  # who fails for that has not served, and no pidfile names him
            server._before_ready = functools.partial(until_the_end.enter_context, admin)
        return server.run(ready, pidfile=options.pidfile)


def _warn_of_want(clients: int, each: int, processes: int, descriptors: int) -> None:
    """Log that a limit which somebody has set cannot be reached.

    Args:
        clients: at once, in all processes.
        each: descriptors that one takes.
        processes: that share them.
        descriptors: that a process may have.
    """
    if (needed := clients // processes * each) > descriptors:
        logger.warning(
            "%s clients take %s descriptors in a process, which may have %s (`ulimit -Hn`): "
            "those beyond will wait; raise that, or lower --max-connections",
            *(f"{each:,}" for each in (clients, needed, descriptors)),
        )


def _admin_of(options: argparse.Namespace, server: Server, config: Callable[[], str] | None) -> Any:
    """Return the admin service that the options say, or None."""
    where = {name: getattr(options, flag[2:].replace("-", "_")) for name, flag in _ADMIN.items()}
    if not any(where.values()):
        return None
    from muxcore.admin import Admin  # with asyncio: only who wants it pays for it

    try:
        needs = getattr(options, "ready_needs", ())  # of a file alone
        return Admin(server, **where, config=config, ready_needs=needs)
    except ValueError as exc:
        _arguments.refuse(options, _arguments.in_flags(exc, _ADMIN))


def _user_of(options: argparse.Namespace) -> _user.User | None:
    """Return whom it becomes; one that there is not ends the program with the flag's help."""
    if options.user is None:
        if options.group is not None:
            _arguments.refuse(options, "--group is the group of --user: give that, too")
        return None
    try:
        return _user.find(options.user, options.group)
    except ValueError as exc:
        _arguments.refuse(options, str(exc))


def _addresses(options: argparse.Namespace, user: _user.User | None) -> list[Address]:
    """Return where it listens, with the rights of unix sockets.

    Raises:
        AddressError: it is no address.
    """
    found = [address.parse(each, listen=True) for each in options.address]
    if options.socket_mode is not None and not any(map(address.is_file, found)):
        _arguments.refuse(
            options,
            "--socket-mode is for unix:PATH, of which there is none here (a .socket unit "
            "has SocketMode=)",
        )
    owner = _owner(user)
    return [address.with_rights(each, options.socket_mode, owner) for each in found]


def _owner(user: _user.User | None) -> Owner:
    return None if user is None or user.is_me() else (user.uid, user.gid)


def limits_of(options: argparse.Namespace, others: Mapping[str, str] | None = None) -> Limits:
    """Return the limits that the options name; a bad one ends the program with its flag's help.

    Args:
        options: they.
        others: flags of fields, where they are not the usual ones.
    """
    given: dict[str, Any] = {}
    for name in FLAGS:
        if (value := getattr(options, name)) is not None:
            given[name] = None if value == math.inf else value
    try:
        return Limits(**given)
    except ValueError as exc:
        _arguments.refuse(options, _arguments.in_flags(exc, {**FLAGS, **(others or {})}))


def _workers(text: str) -> int | str:
    """Parse ``--workers``."""
    try:
        return number_of(text if text == "auto" else int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number from 1 to {MOST}, not {text!r}"
        ) from None


def _announcer(options: argparse.Namespace) -> Callable[[Server], Any]:
    def announce(server: Server) -> None:
        for each in passed.unnamed():
            logger.warning("%s was passed, and no address names it: nobody answers there", each)
        if options.quiet:
            return
        mode = f", {options.trigger}-triggered" if "edge_trigger" in server.capabilities else ""
        if server.workers:
            mode += f", {server.workers} worker{'s' if server.workers > 1 else ''}"
        for where in server.addresses:
            print(f"listening on {where} (engine {server.engine}{mode}, pid {os.getpid()})")
        sys.stdout.flush()  # also into a pipe: a script waits for this line

    return announce
