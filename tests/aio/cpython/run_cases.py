"""Run cases of CPython's own ``test.test_asyncio`` that make a server, one in a process.

    python run_cases.py stock|ours MODULE [CASE…]

With ``ours`` every event loop of asyncio's that a case makes is muxcore's. Each case is a line of
JSON: what became of it, why, and whether a server of ours has served in it. Without names these are
all of the module that make a server.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import re
import signal
import sys
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

from muxcore.testing import DEADLINE

_SERVERS = re.compile(r"\b(create|start)_(unix_)?server\(")
_CALLS = re.compile(r"\bself\.(\w+)\(")

_begun: list[object] = []  # servers of ours, in this process


def put_ours_in_place() -> None:
    """Have whoever makes an event loop of asyncio's make one of ours."""
    from muxcore.aio.asyncio_server import AsyncioServer
    from muxcore.aio.event_loops import loop_class

    start_serving = AsyncioServer.start_serving

    async def noted(server: AsyncioServer) -> None:
        await start_serving(server)
        _begun.append(server)

    AsyncioServer.start_serving = noted  # type: ignore[method-assign]
    ours = loop_class(asyncio.SelectorEventLoop)
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, ours)
    get_policy = getattr(asyncio.events, "_get_event_loop_policy", None)
    type((get_policy or asyncio.events.get_event_loop_policy)())._loop_factory = ours


def makes_server(owner: type, name: str, seen: set[str] | None = None) -> bool:
    """Whether a method's text, or that of what it calls on itself, makes a server."""
    seen = set() if seen is None else seen
    seen.add(name)
    try:
        text = inspect.getsource(getattr(owner, name))
    except (AttributeError, TypeError, OSError):
        return False
    if _SERVERS.search(text):
        return True
    return any(makes_server(owner, each, seen) for each in set(_CALLS.findall(text)) - seen)


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


def name_of(case: unittest.TestCase) -> str:
    return f"{type(case).__name__}.{case._testMethodName}"


def outcome(case: unittest.TestCase) -> tuple[str, str]:
    """Run a case in this process.

    Returns:
        "passed", "skipped" or "failed"; and why.
    """
    result = unittest.TestResult()
    unittest.TestSuite([case])(result)  # with what its class and module set up
    for _, text in (*result.errors, *result.failures):
        return "failed", text.strip().splitlines()[-1]
    for _, reason in result.skipped:
        return "skipped", reason
    return "passed", ""


def in_a_fork(case: unittest.TestCase) -> tuple[str, str, bool]:
    """Run a case in a process of its own; also return whether a server of ours has served."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(round(DEADLINE * 6))  # one of them sleeps for seconds
        try:
            said = outcome(case)
        except BaseException:
            said = "failed", traceback.format_exc().strip().splitlines()[-1]
        os.write(writer, json.dumps((*said, bool(_begun))).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said_bytes = pipe.read()
    status = os.waitpid(child, 0)[1]
    if not said_bytes:
        return "failed", f"its process ended with {os.waitstatus_to_exitcode(status)}", False
    result, why, served = json.loads(said_bytes)
    return result, why, served


def main(kind: str, module: str, *names: str) -> None:
    if kind == "ours":
        put_ours_in_place()
    loaded: Any = importlib.import_module(f"test.test_asyncio.{module}")
    for case in cases(unittest.defaultTestLoader.loadTestsFromModule(loaded)):
        name = name_of(case)
        if name in names if names else makes_server(type(case), case._testMethodName):
            result, why, served = in_a_fork(case)
            line = {"case": f"{module}.{name}", "result": result, "why": why, "served": served}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
