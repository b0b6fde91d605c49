"""The answer to HAProxy's agent-check: how much of its weight this server can bear.

HAProxy's Configuration Manual, ``agent-check``: a connection is answered with a line of words,
"75%" of the weight, "drain" (no new clients, but for sticky ones), "up", "ready". It rounds down:
of its default weight, 1, less than "100%" is nothing (seen with HAProxy 2.6), so docs/admin.md asks
for 100.
"""

from __future__ import annotations

# s of the loop's lag. Up to the first nobody notices: what a turn costs at full throughput is some
# milliseconds. At the second a client waits longer than for a packet around the world.
FULL, NONE = 0.010, 0.250
_READY = 60.0  # s: a balancer that has drained the one before asks at least once in that time


def line(lag: float, age: float, drained_for: float | None, delay: float) -> str:
    """Return the line.

    100 % up to 10 ms of lag, then falling in a straight line to 1 % at 250 ms. In a drain the same,
    times what is left of ``Limits.drain_delay``, and "drain" when that is over. HAProxy keeps an
    agent's "drain" until it hears "ready", which would end what somebody has set there by hand,
    too: it is said in the first minute of a process only.

    Args:
        lag: seconds, of the loop that has most.
        age: seconds for which the process has served.
        drained_for: seconds since its drain began; None: it has not.
        delay: seconds for which it still accepts then.
    """
    share = 1 - (lag - FULL) / (NONE - FULL)
    if drained_for is not None:
        if drained_for >= delay:
            return "drain"
        share = min(share, 1.0) * (1 - drained_for / delay)
    percent = max(1, min(100, round(100 * share)))
    if drained_for is not None:
        return f"{percent}%"
    return f"{'ready ' if age < _READY else ''}up {percent}%"
