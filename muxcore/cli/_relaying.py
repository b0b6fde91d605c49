"""How ``muxcore relay`` serves: what a file says, or what its arguments do, which is the same."""

from __future__ import annotations

import argparse
import math
import re
import sys
from typing import Any

from muxcore import address
from muxcore.cli import _serving
from muxcore.cli._arguments import refuse
from muxcore.cli._logging import Output
from muxcore.cli._user import unknown
from muxcore.config import ConfigError, Document, Reloading, Served, contents, written
from muxcore.load.asking import bytes_of

# What may stand behind an upstream's address.
_SUFFIX = re.compile(
    r"(.+),(?:weight=(?P<weight>\d+)|max-active=(?P<max_active>\d+)"
    r"|send-proxy=(?P<send_proxy>[\w-]+)|(?P<backup>backup))"
)
_NAME = "main"  # of the listener, and of the pool, that arguments say
_SERVER = ("engine", "trigger", "workers", "balance", "reuse_port", "user", "group", "pidfile")
_LISTENER = ("socket_mode", "accept_proxy", "proxy_timeout")
_CHECK = ("check_timeout", "fall", "rise", "check_send", "check_expect", "agent")
_POOL = (
    *("policy", "max_active", "queue", "queue_timeout", "slow_start", "retry_for"),
    *("eject_after", "first_byte_timeout", "max_ejected", "send_proxy"),
)
_LOG = {
    "access_log": "access",
    "access_log_file": "access_file",
    "access_log_fields": "fields",
    "access_log_start": "start",
    "log": "messages",
}
_ADMIN = {"admin": "socket", "metrics": "metrics", "agent_listen": "agent"}
_WITH_FILE = {"config", "check", "quiet"}  # options that a file does not have
# The flags of keys that are not called as they are.
_FLAGS = {
    "every": "--check",
    "timeout": "--check-timeout",
    "send": "--check-send",
    "expect": "--check-expect",
    "connections": "--max-connections",
    "fields": "--access-log-fields",
    "start": "--access-log-start",
    "socket": "--admin",
}


def run(options: argparse.Namespace) -> int:
    """Do what the arguments, or the file that they name, say; return the exit status."""
    if options.config is not None:
        return _run_file(options)
    missing = [
        name
        for name, its in (("LISTEN", options.address), ("UPSTREAM", options.upstreams))
        if not its
    ]
    if missing:
        options.parser.error(f"the following arguments are required: {', '.join(missing)}")
    document = Document(_tables(options))
    try:
        served = Served(document)
    except ConfigError:
        _refuse(options, document)
    if options.print_config:
        print(written(document.tables).rstrip())
        return 0
    return _serve(options, served)


def _run_file(options: argparse.Namespace) -> int:
    """Serve what the file says, or tell whether it is good."""
    for action in options.parser._actions:
        name = action.dest
        if name not in _WITH_FILE and getattr(options, name, action.default) not in (
            action.default,
            [],
        ):
            shown = max(action.option_strings, key=len, default=action.metavar)
            refuse(options, f"--config FILE says all, and {shown} is given beside it: leave it out")
    try:
        served = Served(contents(options.config))
        server = served.document.section("server")
        for key, why in unknown(server.get("user"), server.get("group")):
            served.document.wrong(("server", key), why)
        served.demand(server.get("engine"))
    except ConfigError as exc:
        for each in exc.told:
            print(each, file=sys.stderr)
        return 2
    for each in served.warnings:
        print(each, file=sys.stderr)
    if options.check is not None:
        print(f"{options.config} is good:")
        for each in served.told():
            print(f"  {each}")
        for each in served.advised():
            print(each, file=sys.stderr)
        return 0
    for name, value in server.items():
        setattr(options, name, value)
    for name, value in server.get("limits", {}).items():
        setattr(options, name, math.inf if value is None else value)
    options.foreign = any("decide" in its for its in served.document.section("routes").values())
    log = served.document.section("log")
    for name, key in _ADMIN.items():
        where = served.document.section("admin").get(key)
        setattr(options, name, None if where is None else str(where))
    options.ready_needs = served.document.section("admin").get("ready_needs", ())
    options.log, options.access_log_file = log.get("messages"), log.get("access_file")
    return _serve(options, served, Reloading(options.config, served))


def _serve(options: argparse.Namespace, served: Served, on_reload: Reloading | None = None) -> int:
    output = Output(options.quiet, options.log, True, options.access_log_file)
    return _serving.run(
        options,
        None,
        places=served.where,
        output=output,
        on_reload=on_reload,
        config=lambda: written(served.document.tables),
    )


def _refuse(options: argparse.Namespace, document: Document) -> None:
    """End the program with the first thing that is wrong, and the help of its flag."""
    path, what = document.problems[0]
    flag = _flag(options, path[-1]) if isinstance(path[-1], str) else ""
    refuse(options, f"{flag} {what}" if len(path) > 2 or flag.startswith("-") else what)


def _flag(options: argparse.Namespace, key: str) -> str:
    """Return the flag of a key, or what is said in its place."""
    flag = _FLAGS.get(key, f"--{key.replace('_', '-')}")
    return flag if flag in options.parser._option_string_actions else key


# -- what the arguments say


def _tables(options: argparse.Namespace) -> dict[str, Any]:
    """Return the tables of the file that would say the same."""
    clients, connections = options.max_connections, options.connections
    if None not in (clients, connections) and clients != connections:
        refuse(
            options,
            f"--max-connections {clients} and --connections {connections} are the same limit: "
            "give one of them",
        )
    options.connections = connections if clients is None else clients
    _serving.limits_of(options, {} if clients is None else _FLAGS)
    for name in _given(options, _CHECK):
        if options.check is None:
            refuse(options, f"--{name.replace('_', '-')} says how to check: give --check, too")
    try:
        listener = {"address": [address.parse(options.address, listen=True)]}
        upstreams = [_upstream(each) for each in options.upstreams]
        check = _check(options)
        admin = {
            key: address.parse(where, listen=True)
            for name, key in _ADMIN.items()
            if (where := getattr(options, name)) is not None
        }
    except ValueError as exc:  # an AddressError is one as well
        refuse(options, str(exc))
    limits = {
        name: None if value == math.inf else value
        for name in _serving.FLAGS
        if (value := getattr(options, name)) is not None
    }
    given = _given(options, (*_SERVER, *_LISTENER, *_POOL, *_LOG))
    if options.verbose or not given.keys().isdisjoint(_LOG.keys() - {"log"}):
        given.setdefault("access_log", "text")
    if "access_log_fields" in given:
        given["access_log_fields"] = [each.strip() for each in options.access_log_fields.split(",")]
    tables = {
        "server": {name: given[name] for name in _SERVER if name in given}
        | ({"limits": limits} if limits else {}),
        "listeners": {
            _NAME: listener
            | {name: given[name] for name in _LISTENER if name in given}
            | {"pool": _NAME}
        },
        "pools": {
            _NAME: {"upstreams": upstreams}
            | {name: given[name] for name in _POOL if name in given}
            | check
        },
        "log": {key: given[name] for name, key in _LOG.items() if name in given},
        "admin": admin,
    }
    return {section: table for section, table in tables.items() if table}


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what is no default."""
    default = options.parser.get_default
    return {name: its for name in names if (its := getattr(options, name)) != default(name)}


def _check(options: argparse.Namespace) -> dict[str, Any]:
    if options.check is None:
        return {}
    found: dict[str, Any] = {"every": options.check}
    for name, value in _given(options, _CHECK).items():
        key = name.removeprefix("check_")
        found[key] = _bytes_of(name, value) if key in ("send", "expect") else value
    return {"check": found}


def _bytes_of(name: str, text: str) -> bytes:
    try:
        return bytes_of(text)
    except ValueError as exc:
        raise ValueError(f"--{name.replace('_', '-')} {exc}") from None


def _upstream(text: str) -> dict[str, Any]:
    """Return the table of an argument such as ``db:5432,weight=2,backup``."""
    found: dict[str, Any] = {}
    while suffix := _SUFFIX.fullmatch(text):
        text = suffix[1]
        named = {name: value for name, value in suffix.groupdict().items() if value}
        found |= {
            name: name == value if name == "backup" else int(value) if value.isdigit() else value
            for name, value in named.items()
        }
    before, comma, unknown = text.rpartition(",")
    if comma and not text.startswith("unix:"):
        raise ValueError(
            f"upstream {text!r}: {unknown!r} is none of ,weight=N ,max-active=N ,send-proxy=V "
            f",backup, which may stand behind {before!r}"
        )
    return {"address": address.parse(text), **found}
