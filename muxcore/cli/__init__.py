"""The command line: one file a command.

Exit codes, for scripts: 0 it worked (a server: SIGTERM and a complete drain); 1 it could not be
done (an address is taken, an engine cannot run here, replies were wrong); 2 it was asked wrongly;
130 after Ctrl-C, 128 + the signal's number after another one that ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterator, Sequence

from muxcore._version import __version__
from muxcore.cli._arguments import Parser
from muxcore.cli._logging import log_messages
from muxcore.cli._output import keep_standard_descriptors, never_waiting
from muxcore.errors import AddressError, MuxcoreError, ServiceError, UnknownEngine
from muxcore.parts import first

COMMANDS = (
    *("engines", "echo", "discard", "serve", "relay"),
    *("reload", "admin", "load", "compare", "demo"),
)

# Of write(2) on standard output; a file that a command itself opens is named in its error.
_OUTPUT_FAILED = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_WRONGLY_ASKED = (AddressError, ServiceError, UnknownEngine)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: without the program's name; None means ``sys.argv``.
    """
    keep_standard_descriptors()
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    with _serving_well() if getattr(options, "serves", False) else contextlib.nullcontext():
        log_messages()
        try:
            status = _run(options)
            sys.stdout.flush()
            return status
        except _WRONGLY_ASKED as exc:
            print(f"muxcore: {exc}", file=sys.stderr)
            return 2
        except MuxcoreError as exc:
            print(f"muxcore: {_message(exc)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        except OSError as exc:
            return _unwritten(exc)


@contextlib.contextmanager
def _serving_well() -> Iterator[None]:
    with never_waiting(), first.sigterm_ends():
        yield


def _unwritten(exc: OSError) -> int:
    """Tell that the output could not be written, if that is what failed; return the exit code.

    Raises:
        OSError: it was something else.
    """
    if exc.filename is not None or exc.errno not in _OUTPUT_FAILED:
        raise exc
    # What is still buffered has nowhere to go at the interpreter's end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    gone = exc.errno == errno.EPIPE  # the reader wants no more: `muxcore engines | head -1`
    if not gone:
        print(f"muxcore: the output cannot be written: {exc.strerror}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> int:
    if not getattr(options, "starts_others", False):
        return int(options.run(options))
    from muxcore.load.interrupts import status_of

    return status_of(lambda: int(options.run(options)))


def _parser() -> Parser:
    parser = Parser(
        prog="muxcore",
        description="TCP servers under three models: Python decides, C moves the bytes.",
        epilog="`muxcore COMMAND --help` shows a command's options, with examples to paste.",
    )
    parser.add_argument("--version", action="version", version=f"muxcore {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"muxcore.cli.{name}").add_parser(commands)
    return parser


def _message(exc: MuxcoreError) -> str:
    """Return an error's text without the ``[Errno 98]`` that OSError puts before it."""
    return str(exc.strerror if isinstance(exc, OSError) and exc.strerror else exc)
