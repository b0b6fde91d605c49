"""Where a client goes: its first bytes are looked at, and none of them is lost.

- ``router``: the service, and what it may be told;
- ``route``: one rule of it;
- ``plan``: all that it goes by, for whoever comes now;
- ``heard``: what the bytes say, as far as they have come;
- ``choosing``: the protocol of a client until it is a relay's;
- ``deciding``: the loop in which decisions are awaited that take time;
- ``first``: what a decision is given.
"""

from muxcore.services.router.first import First
from muxcore.services.router.route import Route
from muxcore.services.router.router import Router

__all__ = ["First", "Route", "Router"]
