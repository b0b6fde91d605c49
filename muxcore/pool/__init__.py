"""Several upstreams that share the clients of a relay.

- ``upstream``: one of them: what it may take, how it fares;
- ``trials``: what clients' own connections show of one, and who is ejected;
- ``checks``: how a pool finds out by itself, and what an agent may say;
- ``pace``, ``speeds``: how many new clients, and bytes, a second one may have;
- ``turn``: whose turn it is, in all processes;
- ``policies``: which of those that are up gets a client;
- ``waiting``: the clients that wait for a place;
- ``refusals``: those that could have none, or no upstream;
- ``taking``: which one a client gets, by all of these;
- ``standing``: what follows from how they are: whether one is up, what it requires of an engine;
- ``changing``: a pool is told anew, while it is used;
- ``sharing``: what one of several workers has of it;
- ``pool``: all of them together.
"""

from muxcore.pool.checks import Check
from muxcore.pool.pool import POLICIES, Pool
from muxcore.pool.taking import key_of
from muxcore.pool.trials import Lease, Trial
from muxcore.pool.upstream import FIRST_PAUSE, HEADERS, LONGEST_PAUSE, Upstream, UpstreamStats

__all__ = [
    "FIRST_PAUSE",
    "HEADERS",
    "LONGEST_PAUSE",
    "POLICIES",
    "Check",
    "Lease",
    "Pool",
    "Trial",
    "Upstream",
    "UpstreamStats",
    "key_of",
]
