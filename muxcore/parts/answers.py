"""What names meant when they were last looked up, and when that may be used again.

getaddrinfo(3) hides for how long an answer is good (its TTL), so these times are ours:

- One that has come within ``FRESH`` is used again: a thousand connections a second ask once. Not
  one with several addresses of a family, though: resolvers turn those, to spread who connects.
- Where a lookup fails and says nothing about the name, or is late, the last answer stands, for up
  to ``KEPT``. "It has no address" is an answer too, and ends what was before.
- After such a lookup nobody waits for the next: the last answer is used at once while that is on
  its way, until one is good again, or ``DOUBT`` is over (compare RFC 8767, sections 4 and 5).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from muxcore.address import Address

FRESH = 1.0  # s; the shortest TTL that DNS has, so what changes there is seen as soon
DOUBT = 30.0  # s; RFC 8767, section 5: how long a failure may be remembered
KEPT = 3600.0  # s; a resolver is mended by then, while an address may become somebody else's
NAMES = 1024  # with a port each; as many as address.py keeps, at 1 to 4 KiB
MOST = 16  # addresses of one; who tries more, a quarter of a second each, has no time for them

# The resolver is silent, cannot say now (SERVFAIL), or does not want to (REFUSED, which glibc makes
# EAI_AGAIN, musl EAI_FAIL). EAI_NONAME and EAI_NODATA are answers: the name has no address.
_NO_ANSWER = (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_MEMORY)

Found: TypeAlias = Sequence[tuple[int, Any]]  # (family, sockaddr) of each address


class _Answer:
    __slots__ = ("again", "doubted", "found", "until")

    def __init__(self, found: Found, now: float) -> None:
        turned = len(found) > len({family for family, _ in found})
        self.found = found[:MOST]
        self.again = now if turned else now + FRESH  # until when nobody asks again
        self.doubted = now  # until when nobody waits
        self.until = now + KEPT


class Answers:
    """The last good answer of each name. Whoever shares it among threads has a lock.

    Args:
        clock: returns seconds that never go backward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[Address, _Answer] = {}  # in the order in which they were heard

    def __len__(self) -> int:
        return len(self._of)

    def now(self, where: Address) -> tuple[Found | None, bool]:
        """Return what may be used at once, if anything, and whether the name is to be looked up."""
        now = self._clock()
        answer = self._last(where, now)
        if answer is None or now >= max(answer.again, answer.doubted):
            return None, True
        return answer.found, now >= answer.again

    def late(self, where: Address) -> Found | None:
        """Hear that a lookup is late; return what stands in for it, if anything."""
        now = self._clock()
        answer = self._last(where, now)
        if answer is None:
            return None
        answer.doubted = now + DOUBT
        return answer.found

    def heard(self, where: Address, found: Found | OSError) -> Found | OSError:
        """Hear how a lookup ended; return what holds: that, or the answer that stands in for it."""
        now = self._clock()
        answer = self._last(where, now)
        if isinstance(found, OSError) and answer is not None and _says_nothing(found):
            answer.again, answer.doubted = now + FRESH, now + DOUBT
            return answer.found
        self._of.pop(where, None)
        if not isinstance(found, OSError):
            self._of[where] = _Answer(found, now)
            if len(self._of) > NAMES:
                del self._of[next(iter(self._of))]
        return found

    def _last(self, where: Address, now: float) -> _Answer | None:
        answer = self._of.get(where)
        if answer is not None and now >= answer.until:
            del self._of[where]
            return None
        return answer


def _says_nothing(exc: OSError) -> bool:
    """Return whether a failed lookup leaves open what addresses the name has."""
    # what is no gaierror is this machine's own: no descriptor (EAI_SYSTEM), no thread
    return not isinstance(exc, socket.gaierror) or exc.errno in _NO_ANSWER
