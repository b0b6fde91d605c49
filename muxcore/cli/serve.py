"""``muxcore serve``: any service, on any engine."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from muxcore.cli import _serving
from muxcore.errors import ServiceError

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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return _serving.run(options, load_service(options.service))


def load_service(name: str) -> Any:
    """Import a service by ``MODULE:NAME``; the current folder is looked at first.

    Raises:
        ServiceError: the form, the module or the name is wrong; the message says which.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ServiceError(f"service {name!r}: write MODULE:SERVICE, as in 'myapp:Upper'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as exc:
        raise ServiceError(
            f"service {name!r}: cannot import {module!r} ({type(exc).__name__}: {exc})"
        ) from exc
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ServiceError(f"service {name!r}: {found!r} has no {part!r}") from None
    return found
