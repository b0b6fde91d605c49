"""``muxcore serve``: any service, on any engine."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from muxcore._imported import imported
from muxcore.cli import _serving
from muxcore.errors import ServiceError
from muxcore.parts import first
from muxcore.protocol import CALLBACKS

_EXAMPLES = """\
examples:
  muxcore serve myapp:Upper 9000                class Upper in myapp.py of this folder
  muxcore serve myapp:make_service 0 --engine pure-process -vv
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve a protocol of your own",
        epilog=_EXAMPLES,
    )
    parser.add_argument("service", metavar="MODULE:SERVICE", help="a class, or another callable")
    _serving.add_arguments(parser)
    parser.set_defaults(run=run, foreign=True)


def run(options: argparse.Namespace) -> int:
    with first.children_are_ours():
        service = load_service(options.service)
    return _serving.run(options, service)


def load_service(name: str) -> Any:
    """Import a service by ``MODULE:NAME``; the current folder is looked at first.

    Raises:
        ServiceError: the form, the module or the name is wrong, or each client would be refused;
            the message says which.
    """
    found = imported("service", name)
    _check(name, found)
    return found


def _check(name: str, service: Any) -> None:
    """Refuse now what would refuse each client: the server does not look so closely.

    What cannot be called at all it refuses itself.
    """
    if not callable(service):
        return
    try:
        inspect.signature(service).bind()
    except ValueError:
        pass  # a builtin may not tell
    except TypeError as exc:
        raise ServiceError(
            f"service {name!r}: it is called without arguments, for each client: {exc}"
        ) from None
    if isinstance(service, type) and _has_nothing(service):
        raise ServiceError(
            f"service {name!r}: the class has none of a protocol's callbacks "
            f"({', '.join(CALLBACKS[:2])}, …)"
        )


def _has_nothing(kind: type) -> bool:
    """Whether the instances of a class surely have no callback: nothing could set one."""
    made: Any = kind
    plain = made.__new__ is object.__new__ and made.__init__ is object.__init__
    return plain and not any(hasattr(kind, n) for n in (*CALLBACKS, "connection_lost", "verb"))
