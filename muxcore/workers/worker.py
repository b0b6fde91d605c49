"""The program of a worker: first a spare, which has imported all; then a server on given sockets.

::

    prepare ──► "prepared" ── serve ──► "ready" ── drain, stop, abort ──► it ends

What its starter wants of it comes as orders through the channel, not as signals: systemd's SIGTERM
reaches every process of the service, and would come twice. Orders do not add up. A signal that
somebody sends to one worker does what it does to any server.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import signal
import socket
import traceback
from collections.abc import Sequence
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

from muxcore import registry
from muxcore.abc import logger
from muxcore.parts import dispatch, notify
from muxcore.parts.cells import Cells
from muxcore.parts.channel import Channel, Message, Orders
from muxcore.pure.forking import flush
from muxcore.restarting import program
from muxcore.workers.places import served
from muxcore.workers.task import Task, contents, unpacked

FAILED = 70  # EX_SOFTWARE of sysexits.h: it has said why it cannot serve, or logged it

_MARGIN = 2.0  # s beyond the end of a drain that no parent watches: then a callback hangs
_FOR_SERVERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(sock: socket.socket) -> int:
    """Be a worker; return its exit status."""
    channel = Channel(sock)
    program.why_not = "this is a worker, and its parent is who starts the program anew"
    os.environ.pop(notify.VARIABLE, None)  # the parent tells the supervisor, for all
    for number in _FOR_SERVERS:
        signal.signal(number, _not_yet)
    try:
        message = channel.receive(wait=True)
        if message is None:
            return 0
        cells = Cells(message.details["cells"], message.descriptors["cells"])
        while message is not None and message.word == "prepare":  # again where the task has changed
            task = unpacked(contents(message.descriptors["task"]))
            registry.engine(task.options["engine"])  # it is imported by that
            channel.send("prepared")
            message = channel.receive(wait=True)
        if message is None or message.word != "serve":
            return 0
        for number in _FOR_SERVERS[2:]:  # a server takes the first two in any case
            if signal.getsignal(number) is _not_yet:
                signal.signal(number, signal.SIG_DFL)
        return _serve(channel, task, cells, message)
    except Exception as exc:
        logger.debug("worker %d cannot serve", os.getpid(), exc_info=exc)
        text = "".join(traceback.format_exception_only(exc)).strip()
        where = traceback.extract_tb(exc.__traceback__)[-1]
        channel.send("failed", text=text, where=f"{where.filename}:{where.lineno}")
        return FAILED
    finally:
        flush()


def _not_yet(number: int, frame: FrameType | None) -> None:
    """Hear a signal that is for those who serve; a handler, so that no program inherits it."""


def _serve(channel: Channel, task: Task, cells: Cells, message: Message) -> int:
    """Serve on the sockets that came along, until the end; return the exit status."""
    services = [dispatch.share_of(each, *message.details["share"]) for each in task.services]
    where = {sock: services[n] for sock, n in served(message.descriptors).items()}
    options: dict[str, Any] = dict(task.options)
    options["limits"] = dataclasses.replace(options["limits"], **message.details["limits"])
    if task.first is not None:
        task.first()
    server = task.make(where, **options)
    mine = message.details["cell"]
    server._engine.count_in(cells[mine])
    if message.details["exact"]:
        server._engine.balance_with(cells, mine)
    orders = Orders(channel, lambda order: _obey(server, order, services))

    server.on_drain.append(lambda server: channel.send("leaves"))

    def ready(server: Any) -> None:
        channel.send("ready")
        gc.collect()
        gc.freeze()  # as the command does: see cli/_serving.py
        orders.begin()

    status = int(server.run(ready))
    # an interpreter that ends puts back what signals do by default, and would be killed by them
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO, *_FOR_SERVERS})
    channel.send("over", stopped=server._engine.stopped)
    return status


def _obey(server: Any, order: Message | None, services: Sequence[Any]) -> None:
    """Do what the parent wants; in the main thread, between two bytecodes of whatever runs there.

    Args:
        order: None: the parent is gone, and nobody would replace this worker.
        services: what it has begun with.
    """
    if order is None:
        server.request_drain()
        _end_by(server._phases.until)
    elif order.word == "drain":
        server._phases.quiet = True
        if not order.details["delay"]:
            server._engine.skip_delay()
        server.request_drain(order.details["timeout"])
    elif order.word == "stop":
        server.request_stop()
    elif order.word == "listen":
        for sock, which in served(order.descriptors).items():
            server._listen_also(sock, which)
    elif order.word == "begin":  # something beside the service, that is given a socket
        begin = getattr(importlib.import_module(order.details["module"]), order.details["name"])
        begin(server, *(socket.socket(fileno=fd) for fd in order.descriptors.values()))
    elif order.word == "reload":
        server.reload()
    elif order.word == "renew":
        news = contents(order.descriptors["news"])
        for each in services:
            if hasattr(each, "renewed"):
                server._engine.call_from_signal(partial(dispatch.run_call, each.renewed, (news,)))
    elif order.word == "reopen":
        server.reopen_logs()
    elif order.word == "abort":
        server._engine.abort()
        _end_by(monotonic())


def _end_by(until: float | None) -> None:
    """Be ended by the kernel then, and some time, though a callback should never return.

    Args:
        until: monotonic(); None: that is not known, since clients have as long as they like.
    """
    if until is None:
        return
    seconds = max(until - monotonic(), 0.0) + _MARGIN
    already, _ = signal.getitimer(signal.ITIMER_REAL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, min(already or seconds, seconds))
