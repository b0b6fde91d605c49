"""Names that are looked up in threads, for every engine of this process.

getaddrinfo(3) blocks, for half a minute where a resolver is silent. What keeps that from holding up
anybody else:

- Who asks for a name that is being looked up already waits for that answer.
- One thread at a time looks up a name, whatever ports of it are asked for, so that a silent name
  holds one thread of all.
- Threads are there while there is something to look up, and no more than ``THREADS`` of them.
- An answer of just now is used again, and the last one where none can be had (``answers.py``).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TypeAlias

from muxcore import address as addresses
from muxcore._seldom import Seldom
from muxcore.address import Address
from muxcore.parts import dispatch
from muxcore.parts.answers import Answers, Found

THREADS = 16  # so many names may be silent at once before others wait for them

Told: TypeAlias = Callable[[Found | OSError], object]

_lock = threading.Lock()
_waiting: dict[Address, dict[Told, None]] = {}  # who is to be told; in the order of asking
_begun: dict[Address, None] = {}  # those that a thread is at
_threads = 0
_answers = Answers()
_seldom = Seldom(dispatch.logger.warning)


def look_up(where: Address, told: Told) -> Found | None:
    """Look a name up, unless its addresses are known.

    Args:
        where: the address with the name.
        told: called with the outcome in a thread of ours; it must not wait.

    Returns:
        The addresses, if they may be used at once; then ``told`` is not called.
    """
    global _threads
    with _lock:
        known, ask = _answers.now(where)
        if not ask:
            return known
        begun = where in _waiting
        asked = _waiting.setdefault(where, {})
        if known is None:
            asked[told] = None
        if begun or _threads == THREADS:
            return known
        _threads += 1
    try:
        threading.Thread(target=_work, name="muxcore-lookup", daemon=True).start()
    except (RuntimeError, MemoryError) as exc:
        with _lock:
            _threads -= 1
        _tell(where, OSError(errno.EAGAIN, f"no thread can be started to look it up ({exc})"))
    return known


def late(where: Address, told: Told) -> Found | None:
    """Return the last addresses of a name whose lookup is late; then ``told`` is not called.

    It goes on all the same. None: nothing is known, or ``told`` is already being called.
    """
    with _lock:
        asked = _waiting.get(where, {})
        known = _answers.late(where) if told in asked else None
        if known is not None:
            del asked[told]
    if known is not None:
        _seldom.tell("%s is not looked up yet: its last addresses are used meanwhile", where)
    return known


def forget(where: Address, told: Told) -> None:
    """Tell this one nothing; what nobody waits for and has not begun is not looked up."""
    with _lock:
        asked = _waiting.get(where, {})
        if asked.pop(told, told) is None and not asked and where not in _begun:
            del _waiting[where]


def _work() -> None:
    while (where := _next()) is not None:
        found: Found | OSError
        try:
            found = addresses.resolve(where)
        except OSError as exc:
            found = exc
        except BaseException as exc:  # whatever a resolver may raise: somebody waits for an answer
            found = OSError(errno.EIO, f"{type(exc).__name__}: {exc}")
        _tell(where, found)


def _next() -> Address | None:
    """Return the next address to look up, or None: then this thread ends."""
    global _threads
    with _lock:
        names = {where.host for where in _begun}
        for where in _waiting:
            if where.host not in names:
                _begun[where] = None
                return where
        _threads -= 1
        return None


def _tell(where: Address, found: Found | OSError) -> None:
    with _lock:
        _begun.pop(where, None)
        asked = _waiting.pop(where, {})
        holds = _answers.heard(where, found)
    if isinstance(found, OSError) and holds is not found:
        why = found.strerror or found
        _seldom.tell("%s cannot be looked up: %s; its last addresses are used", where, why)
    for told in asked:
        dispatch.run_call(told, (holds,))


def _forget_threads() -> None:
    """Only the thread that forked lives on in the child: drop what the others were at."""
    global _answers, _lock, _threads
    _answers, _lock, _threads = Answers(), threading.Lock(), 0
    _waiting.clear()
    _begun.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
