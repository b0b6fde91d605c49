"""What may stand in a file: its sections, their keys, and what kind each is.

Keys are the names of Python's arguments, and those of the flags. Where a class takes them, they are
its own: what it learns to take, the file has as well.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from muxcore.config.kinds import (
    ADDRESS,
    BYTES,
    COUNT,
    DURATION,
    FLAG,
    IDLE,
    LISTENING,
    MODE,
    NUMBER,
    SHARE,
    SIZE,
    STEP,
    TEXT,
    Each,
    Kind,
    Node,
    Table,
    choice,
    name_of,
    or_none,
)
from muxcore.limits import Limits
from muxcore.pool import HEADERS, POLICIES, Check, Pool, Upstream
from muxcore.services.guard import Guard
from muxcore.services.relay.access_log import FIELDS
from muxcore.workers.engine import BALANCES, number_of

_BY_TYPE: dict[str, Kind] = {
    "bool": FLAG,
    "bytes": BYTES,
    "float": DURATION,
    "float | None": DURATION,
    "int": COUNT,
    "int | None": COUNT,
    "str": TEXT,
}


def _keys_of(kind: Callable[..., Any], **others: Node | None) -> dict[str, Node]:
    """Return the keys of what a class takes by name: of the kinds that their types are.

    Args:
        kind: the class.
        others: those whose type does not say enough; None: it is no key.
    """
    named = inspect.signature(kind).parameters.values()
    types = {each.name: str(each.annotation) for each in named if each.kind == each.KEYWORD_ONLY}
    kinds = {name: others.get(name, _BY_TYPE.get(type_)) for name, type_ in types.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _of_limit(field: dataclasses.Field[Any]) -> Kind:
    if field.name == "drain_idle":
        return IDLE
    if "float" in str(field.type):
        return or_none(DURATION) if "None" in str(field.type) else DURATION
    return SIZE if field.name.startswith(("read_chunk", "write_")) else COUNT


def _read_workers(value: Any) -> Any:
    number_of(value)
    return value


_SEND = choice(*HEADERS)

_SERVER = Table(
    {
        "engine": TEXT,
        "trigger": choice("level", "edge"),
        "workers": Kind(_read_workers),
        "balance": choice(*BALANCES),
        "reuse_port": FLAG,
        "user": TEXT,
        "group": TEXT,
        "pidfile": TEXT,
        "limits": Table({field.name: _of_limit(field) for field in dataclasses.fields(Limits)}),
    }
)
_LISTENER = Table(
    {
        "address": Each(LISTENING, least=1),
        "socket_mode": MODE,
        "accept_proxy": Each(TEXT),
        "proxy_timeout": DURATION,
        "idle_timeout": DURATION,
        "pool": name_of("pools"),
        "route": name_of("routes"),
        "limits": name_of("limits"),
        "proxy_limits": name_of("limits"),
    },
    needed=("address",),
)
_RULE = Table(
    {
        "tls_name": Each(TEXT),
        "alpn": Each(TEXT),
        "starts_with": Each(BYTES),
        "protocol": Each(TEXT),
        "pool": name_of("pools"),
    },
    needed=("pool",),
)
_ROUTE = Table(
    {
        "rules": Each(_RULE),
        "default": name_of("pools", "refuse"),
        "decide": TEXT,
        "first_bytes": DURATION,
        "decide_timeout": DURATION,
        "max_bytes": SIZE,
    }
)
_LIMITS = Table(
    _keys_of(
        Guard,
        allow=Each(TEXT),
        deny=Each(TEXT),
        rate=NUMBER,
        source_rate=NUMBER,
        bytes_up=SIZE,
        bytes_down=SIZE,
        source_bytes_up=SIZE,
        source_bytes_down=SIZE,
        refuse=choice("close", "reset"),
    )
)
_UPSTREAM = Table(
    {
        "address": ADDRESS,
        **_keys_of(Upstream, rate=NUMBER, bytes_up=SIZE, bytes_down=SIZE, send_proxy=_SEND),
    },
    needed=("address",),
    short="address",
)
_POOL = Table(
    {
        "upstreams": Each(_UPSTREAM, least=1),
        **_keys_of(
            Pool,
            policy=choice(*POLICIES),
            name=None,  # the table has one
            rate=NUMBER,
            max_ejected=SHARE,
            send_proxy=_SEND,
            check=Table(_keys_of(Check, steps=Each(STEP)), short="every"),
        ),
    },
    needed=("upstreams",),
)
_LOG = Table(
    {
        "access": choice("text", "json"),
        "access_file": TEXT,
        "fields": Each(choice(*FIELDS)),
        "start": FLAG,
        "messages": TEXT,
    }
)
_ADMIN = Table(
    {
        "socket": LISTENING,
        "metrics": LISTENING,
        "agent": LISTENING,
        "ready_needs": Each(name_of("pools"), least=1),
    }
)

FILE = Table(
    {
        "server": _SERVER,
        "listeners": Each(_LISTENER, named=True, least=1),
        "pools": Each(_POOL, named=True),
        "routes": Each(_ROUTE, named=True),
        "limits": Each(_LIMITS, named=True),
        "log": _LOG,
        "admin": _ADMIN,
    },
    needed=("listeners",),
)
